//! Many connections from one driver: the start of every load.

use std::net::SocketAddr;

use raon_provider::{AnyProvider, CloseMode, Completions, Config, Driver, Error, Outcome, SocketId};

/// Connects under way at once: below any backlog.
const CONNECTS_AT_ONCE: usize = 256;

/// Open connections to one server, in the order in which they came about.
pub(crate) struct Swarm {
    pub(crate) driver: Driver,
    pub(crate) completions: Completions,
    pub(crate) sockets: Vec<SocketId>,
}

impl Swarm {
    /// No connections yet.
    pub(crate) fn new() -> Result<Self, Error> {
        let driver = Driver::<AnyProvider>::open(&Config::default())?;
        Ok(Swarm { driver, completions: Completions::with_capacity(1024), sockets: Vec::new() })
    }

    /// Opens so many more.
    pub(crate) fn connect(&mut self, address: SocketAddr, count: usize) -> Result<(), Error> {
        let goal = self.sockets.len() + count;
        let mut asked = self.sockets.len();
        while self.sockets.len() < goal {
            while asked < goal && asked < self.sockets.len() + CONNECTS_AT_ONCE {
                self.driver.connect(address, &Default::default(), 0)?;
                asked += 1;
            }
            self.driver.poll(None, &mut self.completions)?;
            while let Some(completion) = self.completions.pop() {
                match completion.outcome {
                    Outcome::Connected => self.sockets.push(completion.socket),
                    other => return Err(other.error().unwrap_or_else(|| panic!("while connecting: {other:?}"))),
                }
            }
        }
        Ok(())
    }

    /// Resets all of them and waits for their end.
    pub(crate) fn abort(&mut self) -> Result<(), Error> {
        let mut open = self.sockets.len();
        for socket in self.sockets.drain(..) {
            self.driver.close(socket, CloseMode::Abort, 0)?;
        }
        while open > 0 {
            self.driver.poll(None, &mut self.completions)?;
            let ended = self.completions.drain().filter(|completion| matches!(completion.outcome, Outcome::Closed));
            open -= ended.count();
        }
        Ok(())
    }
}
