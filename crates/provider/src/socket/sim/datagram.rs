//! Datagrams of a simulated network.
//!
//! 1. `send_datagram` looks up nothing: the datagram flies, or is lost, or flies twice.
//! 2. When it arrives, whoever has the address gets it, if his queue has room. A connected sender is told if nobody has it.
//! 3. `receive_datagram` takes the oldest one.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::names::with_port;
use super::node::{Body, Flight, Port};
use super::world::{Happening, World};
use crate::base::address::{Address, unmapped};
use crate::base::attempt::Attempt;
use crate::base::error::{Error, ErrorKind};
use crate::socket::BindOptions;

/// The longest payload that UDP carries over IPv4.
pub(crate) const DATAGRAM_BYTES_MAX: usize = 65_507;

impl World {
    pub(crate) fn bind(&mut self, address: &Address, options: &BindOptions) -> Result<u32, Error> {
        let wanted = address.ip().ok_or(Error::new(ErrorKind::InvalidInput))?;
        let is_shared = options.reuse_address || options.reuse_port;
        let taken: Vec<(u16, IpAddr, bool)> =
            self.ports().map(|(_, local, port)| (local.port(), local.ip(), port.is_shared)).collect();
        let clashes = |port: u16| {
            taken.iter().any(|(other, host, other_shares)| {
                let same_host = *host == wanted.ip() || host.is_unspecified() || wanted.ip().is_unspecified();
                *other == port && same_host && !(is_shared && *other_shares)
            })
        };
        let local = match wanted.port() {
            0 => self.names.free_port(wanted, |port| !clashes(port))?,
            port if clashes(port) => return Err(Error::new(ErrorKind::AddressInUse)),
            _ => self.names.own_host(wanted)?,
        };
        // Who talks to one peer does so from one address.
        let peer = options.peer.map(unmapped);
        let local = match peer {
            Some(peer) if local.ip().is_unspecified() => with_port(peer, local.port()),
            _ => local,
        };
        let port = Port {
            peer,
            is_shared,
            is_dual_stack: options.dual_stack,
            queue_bytes_max: options.receive_queue_bytes.unwrap_or(self.plan.receive_buffer_bytes) as usize,
            ..Port::default()
        };
        let number = self.insert(Address::Ip(local), Body::Datagram(Box::new(port)), true)?;
        self.note(number, format_args!("is bound to {local}"));
        Ok(number)
    }

    fn ports(&self) -> impl Iterator<Item = (u32, SocketAddr, &Port)> {
        self.nodes().filter_map(|(number, node)| match &node.body {
            Body::Datagram(port) => Some((number, node.local.ip()?, &**port)),
            _ => None,
        })
    }

    pub(crate) fn port_mut(&mut self, number: u32) -> Option<&mut Port> {
        match &mut self.node_mut(number)?.body {
            Body::Datagram(port) => Some(port),
            _ => None,
        }
    }

    pub(crate) fn set_membership(&mut self, number: u32, group: IpAddr, joins: bool) -> Result<(), Error> {
        let port = self.port_mut(number).ok_or(Error::new(ErrorKind::InvalidInput))?;
        let is_changed =
            group.is_multicast() && if joins { port.groups.insert(group) } else { port.groups.remove(&group) };
        if is_changed { Ok(()) } else { Err(Error::new(ErrorKind::InvalidInput)) }
    }

    /// Sends one datagram; `to` of `None`: to the socket's own peer.
    pub(crate) fn send_datagram(
        &mut self,
        number: u32,
        to: Option<SocketAddr>,
        bytes: Vec<u8>,
    ) -> Result<usize, Error> {
        let local = self.node(number).and_then(|node| node.local.ip());
        let Some((local, port)) = local.zip(self.port_mut(number)) else {
            return Err(Error::new(ErrorKind::InvalidInput));
        };
        if let Some(error) = port.error.take() {
            return Err(Error::new(error));
        }
        let to = to.map(unmapped).or(port.peer).ok_or(Error::new(ErrorKind::NotConnected))?;
        if bytes.len() > DATAGRAM_BYTES_MAX {
            return Err(Error::new(ErrorKind::MessageTooLong));
        }
        let length = bytes.len();
        self.note(number, format_args!("sends a datagram of {length} bytes to {to}"));
        let copies = if self.random.chance(self.plan.duplicated_datagrams) { 2 } else { 1 };
        for _ in 0..copies {
            if !self.random.chance(self.plan.lost_datagrams) {
                self.fly(number, sender_of(local, to), to, bytes.clone());
            }
        }
        Ok(length)
    }

    fn fly(&mut self, sender: u32, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        let flight_ns = self.random.between_ns(self.plan.latency_min, self.plan.latency_max);
        let jitter_ns = self.random.between_ns(Duration::ZERO, self.plan.jitter_max);
        let flight = self.add_flight(Flight { sender, from, to, bytes });
        self.schedule(self.now_ns.saturating_add(flight_ns).saturating_add(jitter_ns), Happening::Land(flight));
    }

    pub(crate) fn land(&mut self, flight: Flight) {
        let Flight { sender, from, to, bytes } = flight;
        if self.cut_until_ns(&from.into(), &to.into()).is_some() {
            return;
        }
        let receivers = self.receivers(from, to);
        if receivers.is_empty() && !to.ip().is_multicast() {
            return self.tell_undelivered(sender, to);
        }
        for number in receivers {
            let Some(port) = self.port_mut(number) else { continue };
            if port.queue_bytes + bytes.len() > port.queue_bytes_max {
                self.note(number, format_args!("has no room for a datagram from {from}"));
                continue;
            }
            port.queue_bytes += bytes.len().max(1);
            port.queue.push_back((from, bytes.clone()));
            self.touch(number);
        }
    }

    /// Only a socket with a peer hears that nobody is there.
    fn tell_undelivered(&mut self, sender: u32, to: SocketAddr) {
        if let Some(port) = self.port_mut(sender).filter(|port| port.peer == Some(to)) {
            port.error = Some(ErrorKind::ConnectionRefused);
            self.touch(sender);
        }
    }

    /// Who gets a datagram: all members of a group; else one socket, a connected one first.
    fn receivers(&mut self, from: SocketAddr, to: SocketAddr) -> Vec<u32> {
        let is_for = |local: SocketAddr, port: &Port| {
            let is_any = local.ip().is_unspecified() && (local.is_ipv4() == to.is_ipv4() || port.is_dual_stack);
            let has_host = with_port(local, to.port()) == to || is_any;
            local.port() == to.port() && has_host && port.peer.is_none_or(|peer| peer == from)
        };
        let is_multicast = to.ip().is_multicast();
        let mut found: Vec<(bool, u32)> = self
            .ports()
            .filter(|(_, local, port)| is_for(*local, port) && (!is_multicast || port.groups.contains(&to.ip())))
            .map(|(number, _, port)| (port.peer.is_some(), number))
            .collect();
        if is_multicast || found.len() <= 1 {
            return found.into_iter().map(|(_, number)| number).collect();
        }
        if found.iter().any(|(is_connected, _)| *is_connected) {
            found.retain(|(is_connected, _)| *is_connected);
        }
        // A sender always reaches the same one of several, as SO_REUSEPORT has it.
        let place = usize::from(from.port()) % found.len();
        vec![found[place].1]
    }

    /// The oldest datagram. Errors: what the network has said about an earlier one.
    pub(crate) fn receive_datagram(&mut self, number: u32) -> Attempt<(SocketAddr, Vec<u8>)> {
        let Some(port) = self.port_mut(number) else { return Attempt::Failed(Error::new(ErrorKind::InvalidInput)) };
        if let Some(error) = port.error.take() {
            return Attempt::Failed(Error::new(error));
        }
        let Some((from, bytes)) = port.queue.pop_front() else { return Attempt::Later };
        port.queue_bytes -= bytes.len().max(1);
        Attempt::Done((from, bytes))
    }
}

/// The address that a receiver sees: a socket without a host of its own sends from the host it sends to.
fn sender_of(local: SocketAddr, to: SocketAddr) -> SocketAddr {
    match (local, to) {
        _ if !local.ip().is_unspecified() => local,
        _ if !to.ip().is_multicast() => with_port(to, local.port()),
        (_, SocketAddr::V4(_)) => (Ipv4Addr::LOCALHOST, local.port()).into(),
        (_, SocketAddr::V6(_)) => (Ipv6Addr::LOCALHOST, local.port()).into(),
    }
}
