//! Choice of what is particular to the operating system: limits, threads on CPUs, Unix sockets, and figures of other processes.
//! Which file it comes from is chosen here; no other file of this crate asks for the platform.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(all(unix, not(target_os = "linux")))]
mod other;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use serde::Serialize;

#[cfg(windows)]
pub(crate) use self::windows::*;
#[cfg(target_os = "linux")]
pub(crate) use self::{linux::*, unix::*};
#[cfg(all(unix, not(target_os = "linux")))]
pub(crate) use self::{other::*, unix::*};

/// A soft and a hard limit; `None`: unlimited.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Limit {
    /// What counts now.
    pub(crate) soft: Option<u64>,
    /// How far the process may raise it.
    pub(crate) hard: Option<u64>,
}

/// The limits that a server or a load generator runs into.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Limits {
    /// Descriptors per process (RLIMIT_NOFILE).
    pub(crate) descriptors: Limit,
    /// Locked memory in bytes (RLIMIT_MEMLOCK).
    pub(crate) locked_memory_bytes: Limit,
    /// Connections that wait to be accepted, per listener (net.core.somaxconn), where the system tells.
    pub(crate) somaxconn: Option<u64>,
    /// First and last port for outgoing connections (net.ipv4.ip_local_port_range), where the system tells.
    pub(crate) local_ports: Option<(u64, u64)>,
}

/// CPUs that this process may run on.
pub(crate) fn cpu_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What RAON_BACKEND says, if it says anything: it replaces `auto`.
pub(crate) fn backend_variable() -> Option<String> {
    std::env::var("RAON_BACKEND").ok().filter(|name| !name.is_empty())
}

/// True if the address belongs to this machine: then a packet to it would come from it. None is sent.
#[cfg_attr(not(any(target_os = "linux", windows)), allow(dead_code, reason = "nobody looks for processes there"))]
fn is_local(ip: IpAddr) -> bool {
    let any: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let from = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((ip, 9))?;
        socket.local_addr()
    });
    ip.is_loopback() || ip.is_unspecified() || from.is_ok_and(|from| from.ip() == ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_that_is_not_there_is_an_error() {
        assert!(pin_thread(1023).unwrap_err().to_string().starts_with("cannot pin a thread to CPU 1023: "));
    }

    #[test]
    fn knows_what_is_local() {
        assert!(is_local("127.0.0.1".parse().unwrap()));
        assert!(!is_local("192.0.2.1".parse().unwrap()));
    }
}
