//! Sockets as a driver needs them, and those that belong to no driver yet.

mod any;
mod options;
pub(crate) mod sim;
mod system;

use std::fmt;

use crate::base::address::Address;
use crate::base::error::Error;
use crate::platform::OwnedSocket;

pub(crate) use any::{AnyNetwork, AnySocket};
pub use options::{BindOptions, ConnectOptions, ListenOptions};

/// Purpose of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    /// A connection.
    Stream,
    /// It waits for connections.
    Listener,
    /// Datagrams.
    Datagram,
}

/// A socket that is attached to no driver: goes to any thread, can be adopted by any driver, closes on drop.
///
/// An accept stream yields them. `From` makes one of whatever owns a socket of the system: a `TcpStream`, a listener, a
/// `UdpSocket`, on Unix a `UnixStream` or an `OwnedFd`, on Windows an `OwnedSocket`.
//= THREAD-1
pub struct AcceptedSocket {
    pub(crate) socket: AnySocket,
    /// Blocking mode of the socket; `None` if it is not known.
    pub(crate) nonblocking: Option<bool>,
    /// True if it came out of an accept, so that nothing about its kind needs to be asked.
    pub(crate) is_fresh: bool,
}

impl AcceptedSocket {
    pub(crate) fn fresh(socket: AnySocket, nonblocking: bool) -> Self {
        AcceptedSocket { socket, nonblocking: Some(nonblocking), is_fresh: true }
    }

    /// The peer's address; asked from the system when it is called, not before.
    pub fn peer_address(&self) -> Result<Address, Error> {
        self.socket.peer_address()
    }

    /// This end's address.
    pub fn local_address(&self) -> Result<Address, Error> {
        self.socket.local_address()
    }

    /// The operating system's socket itself, for options that Raon does not know. A simulated one comes back.
    pub fn into_inner(self) -> Result<OwnedSocket, Self> {
        match self.socket {
            AnySocket::Os(socket) => Ok(socket.into()),
            socket => Err(AcceptedSocket { socket, ..self }),
        }
    }
}

impl<S: Into<OwnedSocket>> From<S> for AcceptedSocket {
    fn from(socket: S) -> Self {
        let owned: OwnedSocket = socket.into();
        AcceptedSocket { socket: AnySocket::Os(owned.into()), nonblocking: None, is_fresh: false }
    }
}

impl fmt::Debug for AcceptedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AcceptedSocket({:?})", self.local_address().ok())
    }
}
