//! Calls that are particular to Linux.

mod process;

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::{fs, io};

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::Resource;
use nix::unistd::Pid;
use raon_provider::Address;

use super::unix::{LocalStream, limit};
use super::{Limits, is_local};
use crate::failure::Failure;

pub(crate) use process::ServerProcess;

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

fn numbers(path: &str) -> Vec<u64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|number| number.parse().ok()).collect()
}

/// The CPUs that threads of this process may be bound to; none, if the system does not tell.
pub(crate) fn usable_cpus() -> Vec<usize> {
    let Ok(allowed) = sched_getaffinity(Pid::from_raw(0)) else { return Vec::new() };
    (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).is_ok_and(|is_set| is_set)).collect()
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

/// Whether there are sockets of that address's family. Errors: what to write instead.
pub(crate) fn check_address(_address: &Address) -> Result<(), &'static str> {
    Ok(())
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
    use super::super::raise_descriptor_limit;
    use super::*;
    use crate::arguments::address;

    #[test]
    fn limits_can_be_read_and_raised() {
        let raised = raise_descriptor_limit();
        let limits = limits();
        assert!(limits.descriptors.soft.is_none_or(|soft| soft == raised));
        assert!(limits.somaxconn.is_some() && limits.local_ports.is_some());
    }

    #[test]
    fn each_usable_cpu_can_be_had() {
        let cpus = usable_cpus();
        assert!(!cpus.is_empty());
        // On a thread of its own, which nobody minds to be moved about.
        let pin = move || {
            for cpu in cpus {
                pin_thread(cpu).unwrap();
                assert_eq!(usable_cpus(), [cpu]);
            }
        };
        std::thread::spawn(pin).join().unwrap();
    }

    #[test]
    fn unix_sockets_have_addresses() {
        for right in ["unix:/run/echo.sock", "unix:echo.sock", "unix:@echo"] {
            assert_eq!(address(right).unwrap().to_string(), right);
        }
    }
}
