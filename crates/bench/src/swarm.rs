//! Many connections from one driver: the start of every load.

use std::io;
use std::net::SocketAddr;

use raon_provider::{CloseMode, Completions, Config, Driver, Outcome, SocketId};

use crate::socket;

/// Open connections to one server, in the order in which they came about.
pub(crate) struct Swarm {
    pub(crate) driver: Driver,
    pub(crate) completions: Completions,
    pub(crate) sockets: Vec<SocketId>,
}

impl Swarm {
    /// No connections yet.
    pub(crate) fn new() -> io::Result<Self> {
        let driver = Driver::open(&Config::default()).map_err(io::Error::other)?;
        Ok(Swarm { driver, completions: Completions::with_capacity(1024), sockets: Vec::new() })
    }

    /// So many connections to a server.
    pub(crate) fn connected(address: SocketAddr, count: usize) -> io::Result<Self> {
        let mut swarm = Swarm::new()?;
        swarm.connect(address, count)?;
        Ok(swarm)
    }

    /// Opens so many more, one after the other: loopback has no round trip to wait for.
    pub(crate) fn connect(&mut self, address: SocketAddr, count: usize) -> io::Result<()> {
        self.sockets.reserve(count);
        for _ in 0..count {
            let socket = socket::connected(address)?;
            self.sockets.push(self.driver.adopt(socket).map_err(|refused| io::Error::other(refused.error))?);
        }
        Ok(())
    }

    /// Resets all of them and waits for their end.
    pub(crate) fn abort(&mut self) -> io::Result<()> {
        let mut open = self.sockets.len();
        for socket in self.sockets.drain(..) {
            self.driver.close(socket, CloseMode::Abort, 0).map_err(io::Error::other)?;
        }
        while open > 0 {
            self.driver.poll(None, &mut self.completions).map_err(io::Error::other)?;
            let ended = self.completions.drain().filter(|completion| matches!(completion.outcome, Outcome::Closed));
            open -= ended.count();
        }
        Ok(())
    }
}
