//! Sockets of either make; which one, their network says.

use std::net::IpAddr;

use socket2::Socket;

use super::sim::network::SimNetwork;
use super::sim::socket::SimSocket;
use super::{AnyNetwork, AnySocket, BindOptions, Class, ConnectOptions, Endpoint, ListenOptions};
use crate::base::address::Address;
use crate::base::error::Error;
use crate::platform::RawHandle;

impl From<&()> for AnyNetwork {
    fn from((): &()) -> Self {
        AnyNetwork::Os
    }
}

impl From<&SimNetwork> for AnyNetwork {
    fn from(network: &SimNetwork) -> Self {
        AnyNetwork::Sim(network.clone())
    }
}

macro_rules! either {
    ($any:expr, $socket:ident => $body:expr) => {
        match $any {
            AnySocket::Os($socket) => $body,
            AnySocket::Sim($socket) => $body,
        }
    };
}

#[allow(private_interfaces, reason = "as the trait")]
impl Endpoint for AnySocket {
    type Network = AnyNetwork;

    fn listener(network: &AnyNetwork, address: &Address, options: &ListenOptions) -> Result<Self, Error> {
        match network {
            AnyNetwork::Os => Socket::listener(&(), address, options).map(AnySocket::Os),
            AnyNetwork::Sim(network) => SimSocket::listener(network, address, options).map(AnySocket::Sim),
        }
    }

    fn connector(network: &AnyNetwork, address: &Address, options: &ConnectOptions) -> Result<Self, Error> {
        match network {
            AnyNetwork::Os => Socket::connector(&(), address, options).map(AnySocket::Os),
            AnyNetwork::Sim(network) => SimSocket::connector(network, address, options).map(AnySocket::Sim),
        }
    }

    fn datagram(network: &AnyNetwork, address: &Address, options: &BindOptions) -> Result<Self, Error> {
        match network {
            AnyNetwork::Os => Socket::datagram(&(), address, options).map(AnySocket::Os),
            AnyNetwork::Sim(network) => SimSocket::datagram(network, address, options).map(AnySocket::Sim),
        }
    }

    fn reserve(network: &AnyNetwork) -> Option<Self> {
        match network {
            AnyNetwork::Os => Socket::reserve(&()).map(AnySocket::Os),
            AnyNetwork::Sim(network) => SimSocket::reserve(network).map(AnySocket::Sim),
        }
    }

    fn of_any(network: &AnyNetwork, socket: AnySocket) -> Result<Self, AnySocket> {
        match network {
            AnyNetwork::Os => Socket::of_any(&(), socket).map(AnySocket::Os),
            AnyNetwork::Sim(network) => SimSocket::of_any(network, socket).map(AnySocket::Sim),
        }
    }

    fn of_any_ref(socket: &AnySocket) -> Option<&Self> {
        Some(socket)
    }

    fn into_any(self) -> AnySocket {
        self
    }

    fn class(&self) -> Result<Class, Error> {
        either!(self, socket => socket.class())
    }

    fn is_v6(&self) -> bool {
        either!(self, socket => socket.is_v6())
    }

    fn handle(&self) -> RawHandle {
        either!(self, socket => socket.handle())
    }

    fn set_nonblocking(&self, nonblocking: bool) -> Result<(), Error> {
        either!(self, socket => Endpoint::set_nonblocking(socket, nonblocking))
    }

    fn local_address(&self) -> Result<Address, Error> {
        either!(self, socket => socket.local_address())
    }

    fn peer_address(&self) -> Result<Address, Error> {
        either!(self, socket => socket.peer_address())
    }

    fn has_peer(&self) -> bool {
        either!(self, socket => socket.has_peer())
    }

    fn has_input(&self) -> bool {
        either!(self, socket => socket.has_input())
    }

    fn shut_write(&self) -> Result<(), Error> {
        either!(self, socket => socket.shut_write())
    }

    fn reset(&self) {
        either!(self, socket => socket.reset());
    }

    fn reset_on_close(&self) {
        either!(self, socket => socket.reset_on_close());
    }

    fn set_membership(&self, group: IpAddr, interface: u32, joins: bool) -> Result<(), Error> {
        either!(self, socket => socket.set_membership(group, interface, joins))
    }

    fn try_clone(&self) -> Result<Self, Error> {
        match self {
            AnySocket::Os(socket) => Endpoint::try_clone(socket).map(AnySocket::Os),
            AnySocket::Sim(socket) => socket.try_clone().map(AnySocket::Sim),
        }
    }

    fn accept_waiting(&self) -> Option<Self> {
        match self {
            AnySocket::Os(socket) => socket.accept_waiting().map(AnySocket::Os),
            AnySocket::Sim(socket) => socket.accept_waiting().map(AnySocket::Sim),
        }
    }
}
