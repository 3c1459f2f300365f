//! The completion port: where everything that ends on this driver's sockets arrives, and what wakes its wait.
//!
//! One thread takes completions out, so they come in the order in which they were put in.
//!
//! On drop: the port is closed when the last waker is gone. Sockets that are still associated with it keep the system's
//! own reference.
#![allow(unsafe_code)]

use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use windows_sys::Win32::Foundation::{HANDLE, INVALID_HANDLE_VALUE, WAIT_TIMEOUT};
use windows_sys::Win32::System::IO::{
    CreateIoCompletionPort, GetQueuedCompletionStatusEx, OVERLAPPED, OVERLAPPED_ENTRY, PostQueuedCompletionStatus,
};
use windows_sys::Win32::System::Threading::INFINITE;

use crate::base::error::Error;
use crate::base::wake::Wake;
use crate::platform::RawHandle;

/// What the key of a completion says.
pub(in crate::backend) mod key {
    /// An overlapped operation on a socket has ended: the pointer names its block.
    pub(in crate::backend) const SOCKET: usize = 1;
    /// Somebody woke the owner.
    pub(in crate::backend) const WAKE: usize = 2;
    /// The precise timer has fired.
    pub(in crate::backend) const TIMER: usize = 3;
    /// Whatever the system put in for this block has been taken out before this.
    pub(in crate::backend) const SETTLED: usize = 4;
    /// The completion queue of registered I/O has something.
    pub(in crate::backend) const RIO: usize = 5;
}

/// Completions taken out per wait; the rest comes with the next turn.
pub(in crate::backend) const ENTRIES_PER_WAIT: usize = 1024;

/// A completion port and its wake, shared by all who may wake.
pub(in crate::backend) struct Port {
    handle: OwnedHandle,
    /// A wake is in the port: another one would say the same.
    is_woken: AtomicBool,
}

impl Port {
    /// A new one, for one thread at a time.
    pub(in crate::backend) fn new() -> Result<Arc<Self>, Error> {
        // SAFETY: Win32: CreateIoCompletionPort — an invalid handle and no port make a new port that belongs to nobody.
        let handle = unsafe { CreateIoCompletionPort(INVALID_HANDLE_VALUE, std::ptr::null_mut(), 0, 1) };
        if handle.is_null() {
            return Err(std::io::Error::last_os_error().into());
        }
        // SAFETY: Win32: CreateIoCompletionPort — a new handle that nobody else knows.
        let handle = unsafe { OwnedHandle::from_raw_handle(handle) };
        Ok(Arc::new(Port { handle, is_woken: AtomicBool::new(false) }))
    }

    /// Lets what ends on a socket arrive here. A socket belongs to one port, for good.
    pub(in crate::backend) fn associate(&self, socket: RawHandle) -> Result<(), Error> {
        // SAFETY: Win32: CreateIoCompletionPort — both handles are open; no memory is passed.
        let port = unsafe { CreateIoCompletionPort(socket as HANDLE, self.raw(), key::SOCKET, 0) };
        if port.is_null() { Err(std::io::Error::last_os_error().into()) } else { Ok(()) }
    }

    /// Puts a completion in. False if the system has no memory for it.
    pub(in crate::backend) fn post(&self, key: usize, overlapped: *const OVERLAPPED) -> bool {
        // SAFETY: Win32: PostQueuedCompletionStatus — the pointer is handed through and not looked at.
        unsafe { PostQueuedCompletionStatus(self.raw(), 0, key, overlapped) != 0 }
    }

    /// Waits for completions, at most `wait` in whole milliseconds, rounded up, and puts them in place of what was in
    /// `entries`, as many as its capacity.
    pub(in crate::backend) fn wait(
        &self,
        entries: &mut Vec<OVERLAPPED_ENTRY>,
        wait: Option<Duration>,
    ) -> Result<(), Error> {
        entries.clear();
        let mut count = 0;
        let room = u32::try_from(entries.capacity()).unwrap_or(u32::MAX);
        // SAFETY: Win32: GetQueuedCompletionStatusEx — the vector has room for `room` entries.
        let taken = unsafe {
            GetQueuedCompletionStatusEx(self.raw(), entries.as_mut_ptr(), room, &raw mut count, milliseconds(wait), 0)
        };
        if taken == 0 {
            let error = std::io::Error::last_os_error();
            let is_over = error.raw_os_error() == Some(WAIT_TIMEOUT as i32);
            return if is_over { Ok(()) } else { Err(error.into()) };
        }
        // SAFETY: Win32: GetQueuedCompletionStatusEx — it has filled `count` entries, at most `room`.
        unsafe { entries.set_len(count as usize) };
        Ok(())
    }

    /// The wake was taken out: the next one goes in again. What was done before any of them is seen from here on.
    pub(in crate::backend) fn clear_wake(&self) {
        self.is_woken.swap(false, Ordering::AcqRel);
    }

    pub(in crate::backend) fn raw(&self) -> HANDLE {
        self.handle.as_raw_handle()
    }
}

impl Wake for Port {
    fn wake(&self) {
        if !self.is_woken.swap(true, Ordering::AcqRel) && !self.post(key::WAKE, std::ptr::null()) {
            // Without memory for it: whoever wakes next tries again.
            self.is_woken.store(false, Ordering::Release);
        }
    }
}

fn milliseconds(wait: Option<Duration>) -> u32 {
    let Some(wait) = wait else { return INFINITE };
    let rounded_up = wait.as_nanos().div_ceil(1_000_000);
    u32::try_from(rounded_up).unwrap_or(INFINITE).min(INFINITE - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(port: &Port, wait: Option<Duration>) -> Vec<usize> {
        let mut entries = Vec::with_capacity(8);
        port.wait(&mut entries, wait).unwrap();
        entries.iter().map(|entry| entry.lpCompletionKey).collect()
    }

    #[test]
    fn wakes_that_nobody_has_heard_are_one() {
        let port = Port::new().unwrap();
        (0..10).for_each(|_| port.wake());
        assert_eq!(keys(&port, None), [key::WAKE]);
        assert_eq!(keys(&port, Some(Duration::ZERO)), []);
        port.clear_wake();
        port.wake();
        assert_eq!(keys(&port, None), [key::WAKE]);
    }

    #[test]
    fn a_sleeper_is_woken_from_another_thread() {
        let port = Port::new().unwrap();
        let other = port.clone();
        let waker = std::thread::spawn(move || other.wake());
        assert_eq!(keys(&port, None), [key::WAKE]);
        waker.join().unwrap();
    }

    #[test]
    fn completions_come_in_the_order_in_which_they_were_put_in() {
        let port = Port::new().unwrap();
        assert!((10..18).all(|key| port.post(key, std::ptr::null())));
        assert_eq!(keys(&port, None), Vec::from_iter(10..18));
    }

    #[test]
    fn waits_are_rounded_up() {
        assert_eq!(milliseconds(None), INFINITE);
        assert_eq!(milliseconds(Some(Duration::ZERO)), 0);
        assert_eq!(milliseconds(Some(Duration::from_nanos(1))), 1);
        assert_eq!(milliseconds(Some(Duration::from_micros(2_001))), 3);
        assert_eq!(milliseconds(Some(Duration::MAX)), INFINITE - 1);
    }
}
