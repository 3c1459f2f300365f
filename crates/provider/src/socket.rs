//! Sockets as a driver needs them, and those that belong to no driver yet.

mod any;
mod options;
pub(crate) mod sim;
mod system;

use std::fmt;
use std::net::IpAddr;

use socket2::Socket;

use crate::base::address::Address;
use crate::base::error::Error;
use crate::platform::RawHandle;
use crate::socket::sim::network::SimNetwork;
use crate::socket::sim::socket::SimSocket;

pub use options::{BindOptions, ConnectOptions, ListenOptions};

/// Purpose of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// A connection.
    Stream,
    /// It waits for connections.
    Listener,
    /// Datagrams.
    Datagram,
}

/// A socket of any make.
pub enum AnySocket {
    /// Of the operating system.
    Os(Socket),
    /// Of a simulated network.
    Sim(SimSocket),
}

/// Place in which sockets of any make are made.
#[derive(Clone)]
pub enum AnyNetwork {
    /// In the operating system.
    Os,
    /// In a simulated network.
    Sim(SimNetwork),
}

/// A socket as the common part needs it, whatever it is made of.
#[allow(private_interfaces, reason = "written by the back ends of this crate only")]
pub trait Endpoint: Sized {
    /// Place in which such sockets are made; nothing for the operating system, which is everywhere.
    type Network;

    /// A bound, listening socket.
    fn listener(network: &Self::Network, address: &Address, options: &ListenOptions) -> Result<Self, Error>;
    /// A socket ready to connect to that address.
    fn connector(network: &Self::Network, address: &Address, options: &ConnectOptions) -> Result<Self, Error>;
    /// A bound datagram socket, connected if the options name a peer.
    fn datagram(network: &Self::Network, address: &Address, options: &BindOptions) -> Result<Self, Error>;
    /// Something that takes one place in the table of descriptors, or `None` if there is none.
    fn reserve(network: &Self::Network) -> Option<Self>;

    /// Of an unattached socket, if it is of this kind and network.
    fn of_any(network: &Self::Network, socket: AnySocket) -> Result<Self, AnySocket>;
    /// Of a socket of any make, if it is of this kind.
    fn of_any_ref(socket: &AnySocket) -> Option<&Self>;
    /// Unattached again.
    fn into_any(self) -> AnySocket;
    /// Purpose of the socket. Errors: `InvalidInput` for what no driver can use.
    fn class(&self) -> Result<Class, Error>;
    /// True if its addresses are those of IPv6.
    fn is_v6(&self) -> bool;
    /// Its number in requests.
    fn handle(&self) -> RawHandle;
    /// Whether its system calls wait.
    fn set_nonblocking(&self, nonblocking: bool) -> Result<(), Error>;
    /// The address of this end.
    fn local_address(&self) -> Result<Address, Error>;
    /// The address of the other end.
    fn peer_address(&self) -> Result<Address, Error>;
    /// False if there is no peer, or none any more.
    fn has_peer(&self) -> bool;
    /// True if something can be received: bytes, or, where the system tells, the peer's end or an error.
    fn has_input(&self) -> bool;
    /// Ends the write side.
    fn shut_write(&self) -> Result<(), Error>;
    /// Resets a connection now, with all that is queued in it.
    fn reset(&self);
    /// Makes the close to come a reset.
    fn reset_on_close(&self);
    /// Joins or leaves a multicast group on the interface of that index, 0 for the system's choice.
    fn set_membership(&self, group: IpAddr, interface: u32, joins: bool) -> Result<(), Error>;
    /// Another handle of the same socket. Errors: what the system says; `InvalidInput` where there cannot be one.
    fn try_clone(&self) -> Result<Self, Error>;
    /// Takes a connection that waits in this listener, if one does.
    fn accept_waiting(&self) -> Option<Self>;
}

/// A socket that is attached to no driver: goes to any thread, can be adopted by any driver, closes on drop.
///
/// An accept stream yields them; `From` makes one of any `socket2::Socket`, `TcpStream`, listener, and on
/// Unix `UnixStream` or `OwnedFd`.
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
    pub fn into_inner(self) -> Result<Socket, Self> {
        match self.socket {
            AnySocket::Os(socket) => Ok(socket),
            socket => Err(AcceptedSocket { socket, ..self }),
        }
    }
}

impl<S: Into<Socket>> From<S> for AcceptedSocket {
    fn from(socket: S) -> Self {
        AcceptedSocket { socket: AnySocket::Os(socket.into()), nonblocking: None, is_fresh: false }
    }
}

impl fmt::Debug for AcceptedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AcceptedSocket({:?})", self.local_address().ok())
    }
}
