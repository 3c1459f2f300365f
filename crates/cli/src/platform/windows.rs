//! Calls that are particular to Windows (10 and newer).
#![allow(unsafe_code)]

mod process;

use std::io;

use raon_provider::Address;
use windows_sys::Win32::Media::timeBeginPeriod;
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetCurrentThread, GetProcessAffinityMask, SetThreadAffinityMask,
};

use super::{Limit, Limits, is_local};
use crate::failure::Failure;

pub(crate) use process::ServerProcess;
/// Stands for a Unix stream, of which [`connect_local`] makes none here.
pub(crate) use std::net::TcpStream as LocalStream;

/// Sockets are limited by memory alone, and the system has no figures for the others.
pub(crate) fn limits() -> Limits {
    let unlimited = Limit { soft: None, hard: None };
    Limits { descriptors: unlimited, locked_memory_bytes: unlimited, somaxconn: None, local_ports: None }
}

/// There is none.
pub(crate) fn raise_descriptor_limit() -> u64 {
    u64::MAX
}

/// The CPUs that threads of this process may be bound to, of the first 64; none, if the system does not tell.
pub(crate) fn usable_cpus() -> Vec<usize> {
    let (mut own, mut system) = (0, 0);
    // SAFETY: Win32: GetProcessAffinityMask writes the two masks, which live until it returns, about the process of the
    // handle, which is the caller's and need not be closed (Win32: GetCurrentProcess).
    let is_told = unsafe { GetProcessAffinityMask(GetCurrentProcess(), &mut own, &mut system) };
    (0..usize::BITS as usize).filter(|cpu| is_told != 0 && own & (1 << cpu) != 0).collect()
}

/// Binds the calling thread to one CPU, of the first 64.
pub(crate) fn pin_thread(cpu: usize) -> Result<(), Failure> {
    let mask = u32::try_from(cpu).ok().and_then(|cpu| 1_usize.checked_shl(cpu));
    // SAFETY: Win32: SetThreadAffinityMask changes the thread of the handle, which is that of the caller and need not be
    // closed (Win32: GetCurrentThread).
    let before = mask.map(|mask| unsafe { SetThreadAffinityMask(GetCurrentThread(), mask) });
    match before {
        Some(1..) => Ok(()),
        Some(0) => Err(Failure::of(format!("cannot pin a thread to CPU {cpu}"), io::Error::last_os_error())),
        None => Err(Failure::new(format!("cannot pin a thread to CPU {cpu}: only the first 64 can be named"))),
    }
}

/// Lets timed waits of this process end within a millisecond, not a clock tick of 15.6 ms, after their time has come.
pub(crate) fn wake_on_time() {
    // SAFETY: Win32: timeBeginPeriod takes a number; the system forgets it when the process ends.
    // Where it is refused waits are less exact: the lag that `raon load` reports tells by how much.
    let _ = unsafe { timeBeginPeriod(1) };
}

/// Whether there are sockets of that address's family. Errors: what to write instead.
pub(crate) fn check_address(address: &Address) -> Result<(), &'static str> {
    address
        .ip()
        .map(drop)
        .ok_or("Unix sockets are not available on Windows: write ADDRESS:PORT, such as 127.0.0.1:9000")
}

/// There are no Unix sockets: [`check_address`] has said so.
pub(crate) fn connect_local(_address: &Address) -> io::Result<LocalStream> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::address;

    #[test]
    fn unix_sockets_are_refused() {
        for name in ["unix:/run/echo.sock", "unix:@echo"] {
            assert!(address(name).unwrap_err().contains("not available on Windows"), "{name}");
        }
    }

    #[test]
    fn each_usable_cpu_can_be_had() {
        assert!(!usable_cpus().is_empty());
        // On a thread of its own, which nobody minds to be moved about.
        std::thread::spawn(|| usable_cpus().into_iter().for_each(|cpu| pin_thread(cpu).unwrap())).join().unwrap();
    }
}
