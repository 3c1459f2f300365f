//! Sockets of either make: the one interface to a socket above the back ends.

use std::net::{IpAddr, Shutdown};
use std::time::Duration;

use socket2::Socket;

use super::sim::network::SimNetwork;
use super::sim::socket::SimSocket;
use super::{BindOptions, Class, ConnectOptions, ListenOptions, system};
use crate::base::address::Address;
use crate::base::error::{Error, ErrorKind};
use crate::platform::{self, RawHandle};

/// A socket of any make.
pub(crate) enum AnySocket {
    /// Of the operating system.
    Os(Socket),
    /// Of a simulated network.
    Sim(SimSocket),
}

/// Place in which sockets of any make are made.
#[derive(Clone)]
pub(crate) enum AnyNetwork {
    /// In the operating system.
    Os,
    /// In a simulated network.
    Sim(SimNetwork),
}

impl AnyNetwork {
    /// A bound, listening socket.
    pub(crate) fn listener(&self, address: &Address, options: &ListenOptions) -> Result<AnySocket, Error> {
        match self {
            AnyNetwork::Os => system::listener(address, options).map(AnySocket::Os),
            AnyNetwork::Sim(network) => SimSocket::listen(network, address, options, true).map(AnySocket::Sim),
        }
    }

    /// A socket ready to connect to the address.
    pub(crate) fn connector(&self, address: &Address, options: &ConnectOptions) -> Result<AnySocket, Error> {
        match self {
            AnyNetwork::Os => system::connector(address, options).map(AnySocket::Os),
            AnyNetwork::Sim(network) => SimSocket::connector_of(network, address, options, true).map(AnySocket::Sim),
        }
    }

    /// A bound datagram socket, connected if the options name a peer.
    pub(crate) fn datagram(&self, address: &Address, options: &BindOptions) -> Result<AnySocket, Error> {
        match self {
            AnyNetwork::Os => system::datagram(address, options).map(AnySocket::Os),
            AnyNetwork::Sim(network) => SimSocket::datagram(network, address, options).map(AnySocket::Sim),
        }
    }

    /// Something that takes one place in the table of descriptors, or `None` if there is none.
    pub(crate) fn reserve(&self) -> Option<AnySocket> {
        match self {
            AnyNetwork::Os => platform::reserve().map(AnySocket::Os),
            AnyNetwork::Sim(network) => SimSocket::reserve(network).map(AnySocket::Sim),
        }
    }

    /// True if the socket was made here.
    pub(crate) fn has(&self, socket: &AnySocket) -> bool {
        match (self, socket) {
            (AnyNetwork::Os, AnySocket::Os(_)) => true,
            (AnyNetwork::Sim(network), AnySocket::Sim(socket)) => socket.network().is(network),
            _ => false,
        }
    }
}

impl AnySocket {
    /// Socket of the operating system. Errors: `ForeignSocket` for a simulated one.
    pub(crate) fn system(&self) -> Result<&Socket, Error> {
        if let AnySocket::Os(socket) = self { Ok(socket) } else { Err(Error::new(ErrorKind::ForeignSocket)) }
    }

    /// Socket of a simulated network. Errors: `ForeignSocket` for one of the operating system.
    pub(crate) fn simulated(&self) -> Result<&SimSocket, Error> {
        if let AnySocket::Sim(socket) = self { Ok(socket) } else { Err(Error::new(ErrorKind::ForeignSocket)) }
    }

    /// Purpose of the socket. Errors: `InvalidInput` for what no driver can use.
    pub(crate) fn class(&self) -> Result<Class, Error> {
        match self {
            AnySocket::Os(socket) => system::class(socket),
            AnySocket::Sim(socket) => socket.class(),
        }
    }

    /// True if its addresses are those of IPv6.
    pub(crate) fn is_v6(&self) -> bool {
        match self {
            AnySocket::Os(socket) => platform::is_v6(socket),
            AnySocket::Sim(_) => self.local_address().is_ok_and(|address| address.ip().is_some_and(|ip| ip.is_ipv6())),
        }
    }

    /// Number of the socket in requests.
    pub(crate) fn handle(&self) -> RawHandle {
        match self {
            AnySocket::Os(socket) => platform::raw_handle(socket),
            AnySocket::Sim(socket) => socket.number() as RawHandle,
        }
    }

    /// Says whether system calls on the socket wait. Errors: the system's.
    pub(crate) fn set_nonblocking(&self, nonblocking: bool) -> Result<(), Error> {
        match self {
            AnySocket::Os(socket) => Ok(socket.set_nonblocking(nonblocking)?),
            AnySocket::Sim(_) => Ok(()),
        }
    }

    /// Address of this end. Errors: the system's.
    pub(crate) fn local_address(&self) -> Result<Address, Error> {
        match self {
            AnySocket::Os(socket) => Address::of_system(&socket.local_addr()?),
            AnySocket::Sim(socket) => socket.local_address(),
        }
    }

    /// Address of the other end. Errors: `NotConnected`, or the system's.
    pub(crate) fn peer_address(&self) -> Result<Address, Error> {
        match self {
            AnySocket::Os(socket) => Address::of_system(&socket.peer_addr()?),
            AnySocket::Sim(socket) => socket.peer_address(),
        }
    }

    /// False if there is no peer, or none any more.
    pub(crate) fn has_peer(&self) -> bool {
        match self {
            AnySocket::Os(socket) => socket.peer_addr().is_ok(),
            AnySocket::Sim(socket) => socket.peer_address().is_ok(),
        }
    }

    /// True if something can be received: bytes, or, where the system tells, the peer's end or an error.
    pub(crate) fn has_input(&self) -> bool {
        match self {
            AnySocket::Os(socket) => platform::has_input(socket),
            AnySocket::Sim(socket) => socket.has_input(),
        }
    }

    /// Ends the write side. Errors: the system's.
    pub(crate) fn shut_write(&self) -> Result<(), Error> {
        match self {
            AnySocket::Os(socket) => Ok(socket.shutdown(Shutdown::Write)?),
            AnySocket::Sim(socket) => socket.shut_write(),
        }
    }

    /// Resets a connection now, with all that is queued in it.
    pub(crate) fn reset(&self) {
        match self {
            AnySocket::Os(socket) => platform::disconnect(socket),
            AnySocket::Sim(socket) => socket.reset(),
        }
    }

    /// Makes the close to come a reset.
    pub(crate) fn reset_on_close(&self) {
        match self {
            AnySocket::Os(socket) => {
                // Not fatal: the connection then ends in the ordinary way.
                let _ = socket.set_linger(Some(Duration::ZERO));
            }
            AnySocket::Sim(socket) => socket.reset_on_close(),
        }
    }

    /// Joins or leaves a multicast group on the interface of that index, 0 for the system's choice. Errors: the system's.
    pub(crate) fn set_membership(&self, group: IpAddr, interface: u32, joins: bool) -> Result<(), Error> {
        match self {
            AnySocket::Os(socket) => system::set_membership(socket, group, interface, joins),
            AnySocket::Sim(socket) => socket.set_membership(group, joins),
        }
    }

    /// Another handle of the same socket. Errors: the system's; `InvalidInput` for a simulated one, which has only one.
    pub(crate) fn try_clone(&self) -> Result<Self, Error> {
        match self {
            AnySocket::Os(socket) => Ok(AnySocket::Os(socket.try_clone()?)),
            AnySocket::Sim(_) => Err(Error::new(ErrorKind::InvalidInput)),
        }
    }

    /// Takes a connection that waits in this listener, if one does.
    pub(crate) fn accept_waiting(&self) -> Option<Self> {
        match self {
            AnySocket::Os(socket) => system::accept_waiting(socket).map(AnySocket::Os),
            AnySocket::Sim(socket) => socket.accept_waiting().map(AnySocket::Sim),
        }
    }
}
