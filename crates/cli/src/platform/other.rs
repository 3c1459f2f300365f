//! Calls of macOS and FreeBSD: what they have, and what is refused for what they lack.

use std::io;

use nix::sys::resource::Resource;
use raon_provider::Address;

use super::unix::{LocalStream, limit};
use super::{Limit, Limits};
use crate::failure::Failure;

/// The limits as they are; nothing that is used here counts against that of locked memory.
pub(crate) fn limits() -> Limits {
    Limits {
        descriptors: limit(Resource::RLIMIT_NOFILE),
        locked_memory_bytes: Limit { soft: None, hard: None },
        somaxconn: None,
        local_ports: None,
    }
}

/// None.
pub(crate) fn usable_cpus() -> Vec<usize> {
    Vec::new()
}

/// macOS has no CPU for a thread, only hints; FreeBSD's cpuset(2) is not used.
pub(crate) fn pin_thread(cpu: usize) -> Result<(), Failure> {
    let text = "threads cannot be pinned on this system; drop --pin";
    Err(Failure::new(format!("cannot pin a thread to CPU {cpu}: {text}")))
}

/// Timed waits end on time without being asked to.
pub(crate) fn wake_on_time() {}

/// Whether there are sockets of that address's family. Errors: what to write instead.
pub(crate) fn check_address(address: &Address) -> Result<(), &'static str> {
    match address {
        Address::Abstract(_) => {
            Err("only Linux has names that are in no file system: write unix:/PATH or ADDRESS:PORT")
        }
        _ => Ok(()),
    }
}

/// Connects to a Unix socket, and waits until it has.
pub(crate) fn connect_local(address: &Address) -> io::Result<LocalStream> {
    match address {
        Address::Unix(path) => LocalStream::connect(path),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Another process of this machine. None is found here: these systems have no list of sockets that is open to everyone.
pub(crate) enum ServerProcess {}

impl ServerProcess {
    /// None.
    pub(crate) fn listening_at(_address: &Address, _is_udp: bool) -> Option<Self> {
        None
    }

    /// CPU time of all its threads so far, in nanoseconds.
    pub(crate) fn cpu_ns(&self) -> Option<u64> {
        match *self {}
    }

    /// Memory that it holds, in bytes.
    pub(crate) fn rss_bytes(&self) -> Option<u64> {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use crate::arguments::address;

    #[test]
    fn unix_sockets_have_paths() {
        assert_eq!(address("unix:/run/echo.sock").unwrap().to_string(), "unix:/run/echo.sock");
        assert!(address("unix:@echo").unwrap_err().contains("only Linux"));
    }
}
