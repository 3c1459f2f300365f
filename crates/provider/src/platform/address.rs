//! Addresses in the form of the operating system.

use std::path::Path;

use socket2::SockAddr;

use super::{abstract_path, local_name};
use crate::base::address::{Address, canonical};
use crate::base::error::{Error, ErrorKind};

impl Address {
    /// The form of the operating system. Errors: `InvalidInput` for a path that is too long (more than 107 bytes on
    /// Linux), empty or with a zero byte in it, or none at all. Whether the system has sockets for it is another question.
    pub(crate) fn to_system(&self) -> Result<SockAddr, Error> {
        match self {
            Address::Ip(address) => Ok((*address).into()),
            // The system would take what follows a zero byte, or an empty path, for something else.
            Address::Unix(path) if is_no_path(path) => Err(Error::new(ErrorKind::InvalidInput)),
            Address::Unix(path) => Ok(SockAddr::unix(path)?),
            Address::Abstract(name) => Ok(SockAddr::unix(abstract_path(name)?)?),
            Address::Unnamed => Err(Error::new(ErrorKind::InvalidInput)),
        }
    }

    /// From the form of the operating system, as users see it. Errors: `InvalidInput` for a family that is no socket's here.
    pub(crate) fn of_system(address: &SockAddr) -> Result<Self, Error> {
        if let Some(address) = address.as_socket() {
            return Ok(Address::Ip(canonical(address)));
        }
        local_name(address).ok_or(Error::new(ErrorKind::InvalidInput))
    }
}

fn is_no_path(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.is_empty() || bytes.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_form_and_back() {
        for text in
            ["127.0.0.1:80", "[::1]:9000", "[fe80::1%3]:9000", "[ff02::1%2]:9", "unix:/tmp/a.sock", "unix:@name"]
        {
            let address: Address = text.parse().unwrap();
            let back = Address::of_system(&address.to_system().unwrap());
            // Windows never answers with a name.
            let is_unknown = address.ip().is_none() && back == Err(Error::new(ErrorKind::InvalidInput));
            assert!(back == Ok(address) || is_unknown, "{text}: {back:?}");
        }
        for path in ["x".repeat(200), "a\0b".to_owned(), String::new()] {
            assert!(Address::Unix(path.into()).to_system().is_err());
        }
    }

    //= ADDR-1
    #[test]
    fn an_ipv4_address_in_ipv6_form_comes_back_as_one_of_ipv4() {
        let mapped: Address = "[::ffff:10.0.0.1]:5".parse().unwrap();
        assert_eq!(Address::of_system(&mapped.to_system().unwrap()), Ok("10.0.0.1:5".parse().unwrap()));
    }
}
