//! Substitutes, for the other systems, of what only Linux shows or has.

use std::net::SocketAddrV6;
use std::time::Duration;

use raon_provider::{AcceptedSocket, Address};
use socket2::Socket;

/// Drivers that disturb others by being set up and closed: there are none, so any takes the part.
pub const RIVAL: Option<&str> = None;

/// What the socket has been told about keepalive probes and about silent peers: it does not say.
pub fn patience(_socket: &Socket) -> Option<(Duration, Option<Duration>)> {
    None
}

/// A link-local address of this host: nobody is asked for one.
pub fn link_local() -> Option<SocketAddrV6> {
    None
}

/// Gives a Unix socket a name of its own: what needs it is left out.
pub fn name(_socket: &Socket) -> std::io::Result<()> {
    Ok(())
}

/// A socket that no driver can use, and its address.
pub fn useless_socket(_name: &str) -> Option<(AcceptedSocket, Address)> {
    None
}

/// A thread, which cannot be watched.
#[derive(Clone, Copy)]
pub struct Thread;

impl Thread {
    /// The one that calls.
    pub fn current() -> Self {
        Thread
    }

    /// Waits until it sleeps, most likely.
    pub fn await_sleep(self) {
        // Too short a sleep makes a test miss the case that it is about, and never fail.
        // tidy: sleep — no other means tells whether a thread waits in the kernel
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Filters the precise waits of epoll away, where there is one.
pub fn forbid_precise_waits(_error: &str) {
    unreachable!("the test that asks for it is left out")
}

/// Filters io_uring away, where there is one.
pub fn forbid(_argument: &str) -> i32 {
    unreachable!("the tests that ask for it are left out")
}

/// A limit on the memory of this process, where there is one.
pub struct MemoryLimit;

impl MemoryLimit {
    /// From now on so many bytes.
    pub fn set(_bytes: u64) -> Self {
        unreachable!("the tests that ask for it are left out")
    }

    /// What it has mapped now.
    pub fn used_bytes() -> u64 {
        unreachable!("the tests that ask for it are left out")
    }
}
