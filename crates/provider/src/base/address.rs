//! Addresses of sockets: an IP address and port, or a name in the file system or in the abstract space of Unix sockets.

use std::ffi::OsStr;
use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::base::error::{Error, ErrorKind};

/// The address of one end of a socket.
///
/// ```
/// use raon_provider::Address;
/// let address: Address = "127.0.0.1:9000".parse()?;
/// assert_eq!(address.ip().map(|ip| ip.port()), Some(9000));
/// let local: Address = "unix:/run/game.sock".parse()?;
/// assert_eq!(local.to_string(), "unix:/run/game.sock");
/// # Ok::<(), raon_provider::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Address {
    /// IPv4 or IPv6, with a port.
    Ip(SocketAddr),
    /// A Unix socket by its path.
    Unix(PathBuf),
    /// A Unix socket by a name that is in no file system (Linux), see unix(7).
    Abstract(Vec<u8>),
    /// The end of a Unix connection that has no name.
    Unnamed,
}

impl Address {
    /// The IP address and port, if it is one.
    pub fn ip(&self) -> Option<SocketAddr> {
        if let Address::Ip(address) = self { Some(*address) } else { None }
    }

    /// The same address; an IPv4 address in IPv6 form becomes one of IPv4.
    pub(crate) fn unmapped(self) -> Self {
        if let Address::Ip(address) = self { Address::Ip(unmapped(address)) } else { self }
    }
}

/// The form in which users see an address of the system. An IPv4 peer of an IPv6 socket has an IPv4 address, so that limits
/// and bans meet the same one on every socket. A scope stays where it is part of the address: without it an answer to a
/// link-local sender goes nowhere. The flow label belongs to one packet and not to the address.
//= ADDR-1
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match unmapped(address) {
        SocketAddr::V6(v6) => {
            let has_scope = v6.ip().is_unicast_link_local() || v6.ip().is_multicast();
            SocketAddrV6::new(*v6.ip(), v6.port(), 0, if has_scope { v6.scope_id() } else { 0 }).into()
        }
        v4 => v4,
    }
}

/// The same address; an IPv4 address in IPv6 form (`::ffff:a.b.c.d`) becomes one of IPv4.
pub(crate) fn unmapped(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::new(v4.into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

/// The address in the form of a socket's family: IPv6 sockets reach IPv4 addresses in IPv6 form, and not every system takes
/// any other. Errors: `InvalidInput` for port 0, which nobody has, and for an IPv6 address on an IPv4 socket.
//= ADDR-1
pub(crate) fn destination(address: SocketAddr, is_v6: bool) -> Result<SocketAddr, Error> {
    match (unmapped(address), is_v6) {
        (SocketAddr::V6(_), false) => Err(Error::new(ErrorKind::InvalidInput)),
        (address, _) if address.port() == 0 => Err(Error::new(ErrorKind::InvalidInput)),
        (SocketAddr::V4(v4), true) => Ok(SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())),
        (address, _) => Ok(address),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Abstract(name) => write!(f, "unix:@{}", String::from_utf8_lossy(name)),
            Address::Unnamed => f.pad("unix:(unnamed)"),
        }
    }
}

/// `ADDRESS:PORT`, `unix:PATH` or `unix:@NAME`. The scope of a link-local address is its interface's index:
/// `[fe80::1%3]:9000`.
impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.strip_prefix("unix:") {
            Some("") => Err(Error::new(ErrorKind::InvalidInput)),
            Some(name) => Ok(match name.strip_prefix('@') {
                Some(name) => Address::Abstract(name.as_bytes().to_owned()),
                None => Address::Unix(PathBuf::from(name)),
            }),
            None => text.parse().map(Address::Ip).map_err(|_| Error::new(ErrorKind::InvalidInput)),
        }
    }
}

macro_rules! from {
    ($($source:ty),*) => {
        $(impl From<$source> for Address {
            fn from(address: $source) -> Self {
                Address::Ip(SocketAddr::from(address))
            }
        })*
    };
}
from!(SocketAddr, (IpAddr, u16), ([u8; 4], u16), ([u16; 8], u16));

impl From<&Address> for Address {
    fn from(address: &Address) -> Self {
        address.clone()
    }
}

impl From<&Path> for Address {
    fn from(path: &Path) -> Self {
        Address::Unix(path.to_owned())
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Self {
        Address::Unix(path)
    }
}

impl From<&OsStr> for Address {
    fn from(path: &OsStr) -> Self {
        Address::Unix(path.into())
    }
}

/// Comparisons with plain addresses, which are most.
impl PartialEq<SocketAddr> for Address {
    fn eq(&self, other: &SocketAddr) -> bool {
        self.ip() == Some(*other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for text in ["127.0.0.1:80", "[::1]:9000", "[fe80::1%3]:9000", "unix:/tmp/a b.sock", "unix:@name"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["", "unix:", "127.0.0.1", "localhost:80"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    //= ADDR-1
    #[test]
    fn users_see_one_form() {
        let seen = |text: &str| canonical(text.parse().unwrap()).to_string();
        assert_eq!(seen("[::ffff:10.0.0.1]:5"), "10.0.0.1:5");
        assert_eq!(seen("10.0.0.1:5"), "10.0.0.1:5");
        assert_eq!(seen("[fe80::1%7]:5"), "[fe80::1%7]:5");
        assert_eq!(seen("[2001:db8::1%7]:5"), "[2001:db8::1]:5", "the scope of a global address means nothing");
        let flow = SocketAddrV6::new("2001:db8::1".parse().unwrap(), 5, 9, 0);
        assert_eq!(canonical(flow.into()), "[2001:db8::1]:5".parse().unwrap());
    }

    //= ADDR-1
    #[test]
    fn a_destination_is_in_the_form_of_its_socket() {
        let to = |text: &str, is_v6| destination(text.parse().unwrap(), is_v6).map(|to| to.to_string());
        let refused = Err(Error::new(ErrorKind::InvalidInput));
        assert_eq!(to("10.0.0.1:5", true), Ok("[::ffff:10.0.0.1]:5".to_owned()));
        assert_eq!(to("10.0.0.1:5", false), Ok("10.0.0.1:5".to_owned()));
        assert_eq!(to("[::ffff:10.0.0.1]:5", false), Ok("10.0.0.1:5".to_owned()));
        assert_eq!(to("[fe80::1%7]:5", true), Ok("[fe80::1%7]:5".to_owned()));
        assert_eq!(
            [to("[::1]:5", false), to("10.0.0.1:0", false), to("[::1]:0", true)],
            [refused.clone(), refused.clone(), refused]
        );
    }
}
