//! The other end of a connection, scripted by a test: it needs no driver.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

use super::network::SimNetwork;
use super::socket::SimSocket;
use crate::base::address::Address;
use crate::base::attempt::Attempt;
use crate::base::error::{Error, ErrorKind};
use crate::socket::{AcceptedSocket, AnySocket, ConnectOptions, ListenOptions};

/// Scripted peers.
impl SimNetwork {
    /// A scripted peer that connects to this address. It is there at once, connected one round trip later.
    pub fn connect(&self, address: impl Into<Address>) -> SimPeer {
        self.connect_from(None, address)
    }

    /// The same from a given host.
    pub fn connect_from(&self, host: Option<IpAddr>, address: impl Into<Address>) -> SimPeer {
        SimPeer::connect(self, host, &address.into())
    }

    /// A scripted listener. Errors: `AddressInUse`, `AddressNotAvailable`, `InvalidInput`.
    pub fn listen(&self, address: impl Into<Address>) -> Result<SimListener, Error> {
        self.listen_with(address, &ListenOptions::default())
    }

    /// The same with options.
    pub fn listen_with(&self, address: impl Into<Address>, options: &ListenOptions) -> Result<SimListener, Error> {
        SimListener::listen(self, &address.into(), options)
    }

    /// A socket to be adopted by a driver of this network, connected to a scripted peer.
    pub fn pair(&self) -> (AcceptedSocket, SimPeer) {
        let (near, far) = {
            let mut world = self.world();
            let address = Address::from(([127, 0, 0, 1], 0));
            let near = world.names.connect_from(&address, None).unwrap_or(Address::Unnamed);
            let far = world.names.connect_from(&address, None).unwrap_or(Address::Unnamed);
            world.pair(near, far)
        };
        (self.unattached(near), SimPeer::of(SimSocket::new(self, far)))
    }
}

/// One end of a simulated connection, played by a test. Nothing here waits; dropping it closes the connection as `close(2)`
/// would: in order, or with a reset if bytes that had arrived were not read.
///
/// ```
/// use raon_provider::SimNetwork;
/// let network = SimNetwork::new(1);
/// let mut listener = network.listen(([10, 0, 0, 1], 9000))?;
/// let mut client = network.connect(([10, 0, 0, 1], 9000));
/// let mut server = listener.accept().expect("a perfect network is fast");
/// assert_eq!(client.write(b"hello")?, 5);
/// let mut bytes = [0; 16];
/// assert_eq!(server.read(&mut bytes)?, Some(5));
/// # Ok::<(), raon_provider::Error>(())
/// ```
#[derive(Debug)]
pub struct SimPeer {
    socket: Result<SimSocket, Error>,
}

impl SimPeer {
    pub(crate) fn of(socket: SimSocket) -> Self {
        SimPeer { socket: Ok(socket) }
    }

    pub(crate) fn connect(network: &SimNetwork, host: Option<IpAddr>, address: &Address) -> Self {
        let bind = host.map(|host| SocketAddr::new(host, 0));
        let options = ConnectOptions { bind, ..ConnectOptions::default() };
        let socket = SimSocket::connector_of(network, address, &options, false);
        if let Ok(socket) = &socket {
            network.world().connect(socket.number());
        }
        SimPeer { socket }
    }

    /// Writes what there is room for and says how much that was; 0: not now. Errors: what has ended the connection, or
    /// the connect.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        let socket = self.socket()?;
        now(socket.network().world().write(socket.number(), bytes)).map(Option::unwrap_or_default)
    }

    /// Reads what has arrived: so many bytes, `Some(0)` at the end, `None` if there is nothing now. Errors: what has ended
    /// the connection, or the connect.
    pub fn read(&mut self, bytes: &mut [u8]) -> Result<Option<usize>, Error> {
        let socket = self.socket()?;
        now(socket.network().world().read(socket.number(), bytes))
    }

    /// Ends its write side. Errors: `NotConnected`.
    pub fn shut_write(&mut self) -> Result<(), Error> {
        self.socket()?.shut_write()
    }

    /// Ends with a reset: what is still queued is lost.
    pub fn reset(self) {
        if let Ok(socket) = &self.socket {
            socket.reset_on_close();
        }
    }

    /// Ends in order, as a drop does.
    pub fn close(self) {}

    /// True from the end of the connect to a reset.
    pub fn is_connected(&self) -> bool {
        self.socket.as_ref().is_ok_and(|socket| socket.peer_address().is_ok())
    }

    /// What has ended the connection or the connect, if it was not told by a read or a write yet.
    pub fn error(&self) -> Option<ErrorKind> {
        match &self.socket {
            Ok(socket) => socket.network().world().stream(socket.number())?.error(),
            Err(error) => Some(error.kind()),
        }
    }

    /// The address of this end.
    pub fn local_address(&self) -> Result<Address, Error> {
        self.socket()?.local_address()
    }

    /// The address of the other end. Errors: `NotConnected`.
    pub fn peer_address(&self) -> Result<Address, Error> {
        self.socket()?.peer_address()
    }

    /// From now on this end holds at most so many bytes that it has not read; what was there stays.
    pub fn set_receive_buffer(&mut self, bytes: usize) -> Result<(), Error> {
        let socket = self.socket()?;
        if let Some(stream) = socket.network().world().stream_mut(socket.number()) {
            stream.inbound.receive_bytes_max = bytes.max(1);
        }
        Ok(())
    }

    /// From now on the other end holds at most so many bytes that have not arrived here.
    pub fn set_peer_send_buffer(&mut self, bytes: usize) -> Result<(), Error> {
        let socket = self.socket()?;
        if let Some(stream) = socket.network().world().stream_mut(socket.number()) {
            stream.inbound.send_bytes_max = bytes.max(1);
        }
        Ok(())
    }

    /// Gives this end to whoever adopts it: a driver of the same network. Errors: that of a connect that never began.
    pub fn into_socket(self) -> Result<AcceptedSocket, Error> {
        Ok(AcceptedSocket::fresh(AnySocket::Sim(self.socket?), true))
    }

    fn socket(&self) -> Result<&SimSocket, Error> {
        self.socket.as_ref().map_err(|error| *error)
    }
}

/// A listener of a simulated network, played by a test. Closes on drop.
#[derive(Debug)]
pub struct SimListener {
    socket: SimSocket,
}

impl SimListener {
    pub(crate) fn listen(network: &SimNetwork, address: &Address, options: &ListenOptions) -> Result<Self, Error> {
        Ok(SimListener { socket: SimSocket::listen(network, address, options, false)? })
    }

    /// Takes a connection, if one waits.
    pub fn accept(&mut self) -> Option<SimPeer> {
        let accepted = self.socket.network().world().accept(self.socket.number(), false);
        let Attempt::Done(number) = accepted else { return None };
        Some(SimPeer::of(SimSocket::new(self.socket.network(), number)))
    }

    /// Where it listens.
    pub fn address(&self) -> Result<Address, Error> {
        self.socket.local_address()
    }
}

fn now<T>(tried: Attempt<T>) -> Result<Option<T>, Error> {
    match tried {
        Attempt::Done(value) => Ok(Some(value)),
        Attempt::Later => Ok(None),
        Attempt::Failed(error) => Err(error),
    }
}
