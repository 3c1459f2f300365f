//! The few calls of the raw epoll servers.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::check;

/// Edge-triggered readiness to receive, and the end of the peer's side.
pub const READ: u32 = (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET) as u32;
/// Readiness to send.
pub const WRITE: u32 = libc::EPOLLOUT as u32;
/// After these a short receive does not mean that there is nothing more to read.
pub const ENDED: u32 = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;

pub struct Epoll(OwnedFd);

impl Epoll {
    pub fn new() -> io::Result<Self> {
        let fd = check(
            // SAFETY: takes no pointers.
            unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) },
        )?;
        // SAFETY: the descriptor is new and owned by nothing else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub fn control(&self, op: i32, fd: RawFd, events: u32, key: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events, u64: key };
        // SAFETY: `event` is valid for the call; the kernel checks the descriptors.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), op, fd, &mut event) }).map(drop)
    }

    pub fn wait(&self, events: &mut [libc::epoll_event]) -> io::Result<usize> {
        self.wait_for(events, -1)
    }

    /// Waits so long at most; -1: without a limit.
    pub fn wait_for(&self, events: &mut [libc::epoll_event], timeout_ms: i32) -> io::Result<usize> {
        let (first, count) = (events.as_mut_ptr(), events.len() as i32);
        // SAFETY: the kernel writes at most `count` events to the slice.
        let result = unsafe { libc::epoll_wait(self.0.as_raw_fd(), first, count, timeout_ms) };
        match check(result) {
            Ok(count) => Ok(count as usize),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(e) => Err(e),
        }
    }
}

/// Receives what there is.
#[inline]
pub fn receive(fd: &OwnedFd, buf: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `buf.len()` bytes to the slice.
    let count = unsafe { libc::recv(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), 0) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Sends until all is sent or the socket takes no more.
#[inline]
pub fn send(fd: &OwnedFd, data: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < data.len() {
        let rest = &data[sent..];
        // SAFETY: the kernel reads at most `rest.len()` bytes of the slice.
        let count = unsafe { libc::send(fd.as_raw_fd(), rest.as_ptr().cast(), rest.len(), libc::MSG_NOSIGNAL) };
        match usize::try_from(count).map_err(|_| io::Error::last_os_error()) {
            Ok(count) => sent += count,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) => return Err(e),
        }
    }
    Ok(sent)
}

/// Room for `count` events.
pub fn events(count: usize) -> Vec<libc::epoll_event> {
    vec![libc::epoll_event { events: 0, u64: 0 }; count]
}

/// Accepts a connection, non-blocking.
pub fn accept(listener: &TcpListener) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: null pointers ask for no address.
    let fd = unsafe { libc::accept4(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), flags) };
    // SAFETY: the descriptor is new and owned by nothing else.
    Ok(unsafe { OwnedFd::from_raw_fd(check(fd)?) })
}
