//! A socket of a simulated network.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::IpAddr;

use super::network::{SimNetwork, gone};
use super::node::{Body, Listener, Stream};
use super::pipe::Pipe;
use crate::base::address::{Address, unmapped};
use crate::base::attempt::Attempt;
use crate::base::error::{Error, ErrorKind};
use crate::base::time::nanoseconds;
use crate::socket::{AcceptedSocket, AnySocket, BindOptions, Class, ConnectOptions, ListenOptions};

/// A handle to one socket of a simulated network. Closes on drop.
pub struct SimSocket {
    network: SimNetwork,
    number: u32,
}

impl SimSocket {
    pub(crate) fn new(network: &SimNetwork, number: u32) -> Self {
        SimSocket { network: network.clone(), number }
    }

    pub(crate) fn network(&self) -> &SimNetwork {
        &self.network
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// A socket that listens there; one of a driver's is counted.
    pub(crate) fn listen(
        network: &SimNetwork,
        address: &Address,
        options: &ListenOptions,
        is_counted: bool,
    ) -> Result<Self, Error> {
        let mut guard = network.world();
        let world = &mut *guard;
        let listener = Listener { backlog: options.backlog.max(1) as usize, waiting: Default::default() };
        let number = world.insert(Address::Unnamed, Body::Listener(listener), is_counted)?;
        let named = world.names.listen(number, &address.clone().unmapped(), options);
        match (named, world.node_mut(number)) {
            (Ok(address), Some(node)) => node.local = address,
            (named, _) => {
                world.remove(number);
                return Err(named.err().unwrap_or(gone()));
            }
        }
        world.note(number, format_args!("listens at {address}"));
        Ok(SimSocket::new(network, number))
    }

    /// A socket that is to connect there.
    pub(crate) fn connector_of(
        network: &SimNetwork,
        address: &Address,
        options: &ConnectOptions,
        is_counted: bool,
    ) -> Result<Self, Error> {
        let mut guard = network.world();
        let world = &mut *guard;
        let target = loopback_of(&address.clone().unmapped());
        let local = world.names.connect_from(&target, options.bind.map(unmapped))?;
        let latency_ns = world.random.between_ns(world.plan.latency_min, world.plan.latency_max);
        let inbound = Pipe::new(&world.plan, &mut world.random, latency_ns);
        let stream = Stream::new(target, inbound, options.user_timeout.map_or(0, nanoseconds));
        let inserted = world.insert(local.clone(), Body::Stream(Box::new(stream)), is_counted);
        if inserted.is_err() {
            world.names.release(0, &local);
        }
        Ok(SimSocket::new(network, inserted?))
    }

    fn stream<T>(&self, look: impl FnOnce(&mut Stream) -> T) -> Option<T> {
        self.network.world().stream_mut(self.number).map(look)
    }
}

/// Whoever connects to the unspecified address reaches his own host.
fn loopback_of(address: &Address) -> Address {
    match address.ip() {
        Some(ip) if ip.ip().is_unspecified() => {
            let host: std::net::IpAddr = if ip.is_ipv4() { [127, 0, 0, 1].into() } else { 1u128.to_be_bytes().into() };
            Address::from((host, ip.port()))
        }
        _ => address.clone(),
    }
}

impl SimSocket {
    /// A bound datagram socket, connected if the options name a peer.
    pub(crate) fn datagram(network: &SimNetwork, address: &Address, options: &BindOptions) -> Result<Self, Error> {
        let number = network.world().bind(address, options)?;
        Ok(SimSocket::new(network, number))
    }

    /// A place in the table of descriptors, or `None` if there is none.
    pub(crate) fn reserve(network: &SimNetwork) -> Option<Self> {
        let number = network.world().insert(Address::Unnamed, Body::Reserve, true).ok()?;
        Some(SimSocket::new(network, number))
    }

    /// Purpose of the socket. Errors: the socket is gone.
    pub(crate) fn class(&self) -> Result<Class, Error> {
        match self.network.world().node(self.number).map(|node| &node.body) {
            Some(Body::Listener(_)) => Ok(Class::Listener),
            Some(Body::Stream(_)) => Ok(Class::Stream),
            Some(Body::Datagram(_)) => Ok(Class::Datagram),
            _ => Err(gone()),
        }
    }

    /// Address of this end.
    pub(crate) fn local_address(&self) -> Result<Address, Error> {
        self.network.world().node(self.number).map(|node| node.local.clone()).ok_or(gone())
    }

    /// Address of the other end. Errors: `NotConnected`.
    pub(crate) fn peer_address(&self) -> Result<Address, Error> {
        if let Some(port) = self.network.world().port_mut(self.number) {
            return port.peer.map(Address::Ip).ok_or(Error::new(ErrorKind::NotConnected));
        }
        let peer = self.stream(|stream| stream.is_connected().then(|| stream.peer.clone()));
        peer.flatten().ok_or(Error::new(ErrorKind::NotConnected))
    }

    /// True if something can be received.
    pub(crate) fn has_input(&self) -> bool {
        self.network.world().is_readable(self.number)
    }

    /// Ends the write side.
    pub(crate) fn shut_write(&self) -> Result<(), Error> {
        self.network.world().shut_write(self.number)
    }

    /// Resets the connection now, with all that is queued in it.
    pub(crate) fn reset(&self) {
        self.network.world().reset(self.number);
    }

    /// Makes the close to come a reset.
    pub(crate) fn reset_on_close(&self) {
        self.stream(|stream| stream.is_linger_zero = true);
    }

    /// Joins or leaves a multicast group.
    pub(crate) fn set_membership(&self, group: IpAddr, joins: bool) -> Result<(), Error> {
        self.network.world().set_membership(self.number, group, joins)
    }

    /// Takes a connection that waits in this listener, if one does.
    pub(crate) fn accept_waiting(&self) -> Option<Self> {
        match self.network.world().accept(self.number, true) {
            Attempt::Done(accepted) => Some(SimSocket::new(&self.network, accepted)),
            _ => None,
        }
    }
}

impl SimNetwork {
    /// The socket of this number, attached to no driver.
    pub(crate) fn unattached(&self, number: u32) -> AcceptedSocket {
        AcceptedSocket::fresh(AnySocket::Sim(SimSocket::new(self, number)), true)
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        self.network.world().close(self.number);
    }
}

impl fmt::Debug for SimSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimSocket(#{})", self.number)
    }
}
