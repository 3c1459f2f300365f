//! Parts that the tests of the engine share.

#![allow(dead_code, reason = "each test uses some of it")]

pub(crate) mod frames;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use raon::{Application, ServerHandle};

/// The back ends of the operating system that are always there.
#[cfg(target_os = "linux")]
pub(crate) const BACKENDS: [&str; 2] = ["io_uring", "epoll"];
#[cfg(windows)]
pub(crate) const BACKENDS: [&str; 1] = ["iocp"];
#[cfg(not(any(target_os = "linux", windows)))]
pub(crate) const BACKENDS: [&str; 1] = ["kqueue"];
/// Longer than anything takes that works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Where a server listens.
pub(crate) fn address_of<A: Application>(handle: &ServerHandle<A>) -> SocketAddr {
    handle.address().and_then(|address| address.ip()).expect("it listens on TCP")
}

/// Waits until the condition holds.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::yield_now();
    }
}
