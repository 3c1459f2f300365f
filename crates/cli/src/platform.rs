//! What is particular to Linux: limits, affinity, and figures of other processes from `/proc`.

mod process;

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::{fs, io};

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use raon_provider::Address;
use serde::Serialize;

use crate::failure::Failure;

pub(crate) use process::ServerProcess;
/// A connection to a socket of this machine that has a name instead of a port.
pub(crate) use std::os::unix::net::UnixStream as LocalStream;

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
    /// Connections that wait to be accepted, per listener (net.core.somaxconn).
    pub(crate) somaxconn: Option<u64>,
    /// First and last port for outgoing connections (net.ipv4.ip_local_port_range).
    pub(crate) local_ports: Option<(u64, u64)>,
}

/// The limits as they are.
pub(crate) fn limits() -> Limits {
    Limits {
        descriptors: limit(Resource::RLIMIT_NOFILE),
        locked_memory_bytes: limit(Resource::RLIMIT_MEMLOCK),
        somaxconn: numbers("/proc/sys/net/core/somaxconn").first().copied(),
        local_ports: match numbers("/proc/sys/net/ipv4/ip_local_port_range")[..] {
            [first, last] => Some((first, last)),
            _ => None,
        },
    }
}

fn limit(resource: Resource) -> Limit {
    let finite = |value| (value != RLIM_INFINITY).then_some(value);
    // getrlimit(2) fails for unknown resources and bad pointers only.
    let (soft, hard) = getrlimit(resource).unwrap_or((RLIM_INFINITY, RLIM_INFINITY));
    Limit { soft: finite(soft), hard: finite(hard) }
}

fn numbers(path: &str) -> Vec<u64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|number| number.parse().ok()).collect()
}

/// Raises the soft limit of descriptors to the hard one. Returns what then counts.
pub(crate) fn raise_descriptor_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return u64::MAX };
    let is_raised = soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    if is_raised { hard } else { soft }
}

/// CPUs that this process may run on.
pub(crate) fn cpu_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What RAON_BACKEND says, if it says anything: it replaces `auto`.
pub(crate) fn backend_variable() -> Option<String> {
    std::env::var("RAON_BACKEND").ok().filter(|name| !name.is_empty())
}

/// Binds the calling thread to one CPU.
pub(crate) fn pin_thread(cpu: usize) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    let pinned = set.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
    pinned.map_err(|error| match error {
        Errno::EINVAL => {
            let text = "this process may not use it or it does not exist; see `nproc` and `taskset -pc $$`";
            Failure::new(format!("cannot pin a thread to CPU {cpu}: {text}"))
        }
        error => Failure::of(format!("cannot pin a thread to CPU {cpu}"), error.desc()),
    })
}

/// Lets the kernel end timed waits of the calling thread when their time has come, not up to 50 µs later so that several
/// end together.
pub(crate) fn wake_on_time() {
    // Without it waits are less exact: the lag that `raon load` reports tells by how much.
    let _ = nix::sys::prctl::set_timerslack(1);
}

/// Connects to a Unix socket, and waits until it has.
pub(crate) fn connect_local(address: &Address) -> io::Result<LocalStream> {
    match address {
        Address::Unix(path) => LocalStream::connect(path),
        Address::Abstract(name) => LocalStream::connect_addr(&SocketAddr::from_abstract_name(name)?),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_can_be_read_and_raised() {
        let raised = raise_descriptor_limit();
        let limits = limits();
        assert!(limits.descriptors.soft.is_none_or(|soft| soft == raised));
        assert!(limits.somaxconn.is_some() && limits.local_ports.is_some());
    }

    #[test]
    fn a_cpu_that_is_not_there_is_an_error() {
        assert!(pin_thread(1023).unwrap_err().to_string().starts_with("cannot pin a thread to CPU 1023: "));
    }
}
