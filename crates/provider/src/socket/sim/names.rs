//! Names of a network: who listens where, and which ports are taken.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::base::address::Address;
use crate::base::error::{Error, ErrorKind};
use crate::base::random::Random;
use crate::socket::ListenOptions;

/// Ports that are given to whoever asks for none.
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// The names of one network.
#[derive(Default)]
pub(crate) struct Names {
    listeners: BTreeMap<Address, Vec<Bound>>,
    ports: BTreeSet<(u16, IpAddr)>,
    last_port: u16,
}

struct Bound {
    number: u32,
    is_shared: bool,
    is_dual_stack: bool,
}

impl Names {
    /// Makes a socket the listener, or one of the listeners, of an address; returns it with its port.
    pub(crate) fn listen(&mut self, number: u32, address: &Address, options: &ListenOptions) -> Result<Address, Error> {
        let address = match address {
            Address::Ip(ip) => Address::Ip(self.local(*ip)?),
            Address::Unnamed => return Err(Error::new(ErrorKind::InvalidInput)),
            name => name.to_system().map(|_| name.clone())?,
        };
        let mut others = self.listeners.iter().filter(|(other, bound)| clash(other, bound, &address, options));
        // A name of the file system has one owner, whatever is asked for.
        let may_share = options.reuse_port && address.ip().is_some();
        if !others.all(|(_, bound)| may_share && bound.iter().all(|one| one.is_shared)) {
            return Err(Error::new(ErrorKind::AddressInUse));
        }
        let bound = Bound { number, is_shared: options.reuse_port, is_dual_stack: options.dual_stack };
        self.listeners.entry(address.clone()).or_default().push(bound);
        self.ports.extend(address.ip().map(|ip| (ip.port(), ip.ip())));
        Ok(address)
    }

    /// The local address of a socket that connects to `target`, from `bind` if that is given.
    pub(crate) fn connect_from(&mut self, target: &Address, bind: Option<SocketAddr>) -> Result<Address, Error> {
        let Some(target) = target.ip() else {
            let is_named = *target != Address::Unnamed;
            return if is_named { Ok(Address::Unnamed) } else { Err(Error::new(ErrorKind::InvalidInput)) };
        };
        let wanted = bind.unwrap_or(with_port(target, 0));
        if wanted.is_ipv4() != target.is_ipv4() {
            return Err(Error::new(ErrorKind::InvalidInput));
        }
        let asks_for_port = wanted.port() != 0;
        let local = self.local(wanted)?;
        if !self.ports.insert((local.port(), local.ip())) && asks_for_port {
            return Err(Error::new(ErrorKind::AddressInUse));
        }
        Ok(Address::Ip(local))
    }

    /// The listener that a connect to this address reaches, one of them if they share it.
    pub(crate) fn find(&self, target: &Address, random: &mut Random) -> Option<u32> {
        let exact = self.listeners.get(target);
        let bound = exact.or_else(|| {
            let target = target.ip()?;
            let any = |any: IpAddr| self.listeners.get(&Address::Ip(SocketAddr::new(any, target.port())));
            let any_v6 = any(Ipv6Addr::UNSPECIFIED.into());
            match target {
                SocketAddr::V4(_) => any(Ipv4Addr::UNSPECIFIED.into())
                    .or(any_v6.filter(|bound| bound.iter().all(|one| one.is_dual_stack))),
                SocketAddr::V6(_) => any_v6,
            }
        })?;
        let place = if bound.len() > 1 { random.below(bound.len()) } else { 0 };
        bound.get(place).map(|one| one.number)
    }

    /// The socket of this number and name is gone.
    pub(crate) fn release(&mut self, number: u32, address: &Address) {
        let Some(bound) = self.listeners.get_mut(address) else {
            return self.release_port(address);
        };
        bound.retain(|one| one.number != number);
        if bound.is_empty() {
            self.listeners.remove(address);
            self.release_port(address);
        }
    }

    fn release_port(&mut self, address: &Address) {
        if let Some(ip) = address.ip() {
            self.ports.remove(&(ip.port(), ip.ip()));
        }
    }

    /// With a port, if it has none. Any address but one of 203.0.113.0/24 belongs to some host of the network.
    fn local(&mut self, address: SocketAddr) -> Result<SocketAddr, Error> {
        let address = self.own_host(address)?;
        if address.port() != 0 {
            return Ok(address);
        }
        let ports = std::mem::take(&mut self.ports);
        let found = self.free_port(address, |port| {
            let lowest = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            let mut users = ports.range((port, lowest)..).take_while(|(other, _)| *other == port);
            let is_free = |other: IpAddr| other != address.ip() && !other.is_unspecified();
            users.all(|(_, other)| !address.ip().is_unspecified() && is_free(*other))
        });
        self.ports = ports;
        found
    }

    /// The address, if it is that of some host.
    pub(crate) fn own_host(&self, address: SocketAddr) -> Result<SocketAddr, Error> {
        let is_nobodys = is_nobodys(address.ip());
        if is_nobodys { Err(Error::new(ErrorKind::AddressNotAvailable)) } else { Ok(address) }
    }

    /// The next port that is free.
    pub(crate) fn free_port(
        &mut self,
        address: SocketAddr,
        is_free: impl Fn(u16) -> bool,
    ) -> Result<SocketAddr, Error> {
        let address = self.own_host(address)?;
        for _ in EPHEMERAL {
            let next = self.last_port.wrapping_add(1);
            self.last_port = if EPHEMERAL.contains(&next) { next } else { *EPHEMERAL.start() };
            if is_free(self.last_port) {
                return Ok(with_port(address, self.last_port));
            }
        }
        Err(Error::new(ErrorKind::AddressNotAvailable))
    }
}

/// The same host, its scope included, with another port.
pub(crate) fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

/// TEST-NET-3 of RFC 5737: an address for tests that belongs to no host.
pub(crate) fn is_nobodys(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.octets()[..3] == [203, 0, 113])
}

/// Whether a listener at `new` would take connections of those at `old`.
fn clash(old: &Address, bound: &[Bound], new: &Address, options: &ListenOptions) -> bool {
    let (Some(one), Some(other)) = (old.ip(), new.ip()) else { return old == new };
    let is_any = one.ip().is_unspecified() || other.ip().is_unspecified();
    let is_dual = |ip: SocketAddr, is_dual_stack: bool| ip.is_ipv6() && ip.ip().is_unspecified() && is_dual_stack;
    let spans_both = is_dual(one, bound.iter().any(|one| one.is_dual_stack)) || is_dual(other, options.dual_stack);
    let same_family = one.is_ipv4() == other.is_ipv4();
    one.port() == other.port() && (one == other || (is_any && same_family) || spans_both)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(names: &mut Names, number: u32, address: &str, reuse_port: bool) -> Result<Address, ErrorKind> {
        let options = ListenOptions { reuse_port, ..ListenOptions::default() };
        names.listen(number, &address.parse().unwrap(), &options).map_err(|error| error.kind())
    }

    fn find(names: &Names, target: &str) -> Option<u32> {
        names.find(&target.parse().unwrap(), &mut Random::new(1))
    }

    #[test]
    fn one_address_has_one_listener_unless_all_share_it() {
        let mut names = Names::default();
        assert!(listen(&mut names, 1, "10.0.0.1:80", false).is_ok());
        assert!(listen(&mut names, 2, "10.0.0.2:80", false).is_ok());
        assert_eq!(listen(&mut names, 3, "10.0.0.1:80", true), Err(ErrorKind::AddressInUse));
        assert_eq!(listen(&mut names, 3, "0.0.0.0:80", false), Err(ErrorKind::AddressInUse));
        assert_eq!(listen(&mut names, 3, "[::]:80", false), Err(ErrorKind::AddressInUse));
        assert_eq!(listen(&mut names, 3, "203.0.113.1:80", false), Err(ErrorKind::AddressNotAvailable));
        assert!(listen(&mut names, 3, "unix:/a", false).is_ok());
        assert!(listen(&mut names, 4, "[::1]:81", true).is_ok() && listen(&mut names, 5, "[::1]:81", true).is_ok());
        names.release(1, &"10.0.0.1:80".parse().unwrap());
        assert!(listen(&mut names, 6, "10.0.0.1:80", false).is_ok());
    }

    #[test]
    fn a_connect_reaches_the_nearest_name() {
        let mut names = Names::default();
        listen(&mut names, 1, "0.0.0.0:80", false).unwrap();
        listen(&mut names, 2, "[::]:81", false).unwrap();
        listen(&mut names, 3, "unix:@a", false).unwrap();
        let found = ["10.0.0.1:80", "[::1]:80", "[::1]:81", "10.0.0.1:81", "unix:@a", "unix:@b"];
        assert_eq!(found.map(|target| find(&names, target)), [Some(1), None, Some(2), Some(2), Some(3), None]);
    }

    #[test]
    fn ports_run_out_and_come_back() {
        let mut names = Names::default();
        let target = Address::from(([10, 0, 0, 1], 80));
        let all: BTreeSet<_> = EPHEMERAL.map(|_| names.connect_from(&target, None).unwrap()).collect();
        assert_eq!(all.len(), EPHEMERAL.len(), "each once");
        assert!(names.connect_from(&target, None).is_err());
        assert!(names.connect_from(&target, Some(([10, 0, 0, 2], 0).into())).is_ok(), "another host has its own");
        names.release(1, all.first().unwrap());
        assert!(names.connect_from(&target, None).is_ok());
    }
}
