//! The way from the producer into the lean framed servers: a queue behind a mutex, and an eventfd that is written only
//! while the serving thread sleeps.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::check;
use crate::framed::Push;

/// Session numbers and frames, in order.
pub type Pushes = Vec<(u32, Push)>;

#[derive(Debug)]
pub struct Inbox {
    queue: Mutex<Pushes>,
    sleeps: AtomicBool,
    event: OwnedFd,
}

impl Inbox {
    pub fn new() -> io::Result<Arc<Self>> {
        // SAFETY: eventfd(2) — two numbers, no pointers.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: the descriptor is new and owned by nothing else.
        let event = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Arc::new(Self { queue: Mutex::default(), sleeps: AtomicBool::new(false), event }))
    }

    /// On the producer's thread.
    pub fn send(&self, number: u32, push: Push) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push((number, push));
        if self.sleeps.load(Ordering::SeqCst) && self.sleeps.swap(false, Ordering::SeqCst) {
            let one = 1u64;
            // SAFETY: eventfd(2) — eight bytes, on this stack. It never fails but for an overflow, which wakes as well.
            unsafe { libc::write(self.event.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
        }
    }

    /// On the serving thread, before it waits: takes what is there. If there is nothing, whatever comes from now on writes
    /// the event; if there is something, it must not wait.
    pub fn take(&self, pushes: &mut Pushes) {
        pushes.clear();
        self.sleeps.store(true, Ordering::SeqCst);
        std::mem::swap(pushes, &mut self.queue.lock().unwrap_or_else(PoisonError::into_inner));
        if !pushes.is_empty() {
            self.sleeps.store(false, Ordering::SeqCst);
        }
    }

    /// On the serving thread, after it has waited.
    pub fn awake(&self) {
        self.sleeps.store(false, Ordering::SeqCst);
    }

    /// What is readable once something has come.
    pub fn event(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    /// Makes the event unreadable again.
    pub fn reset(&self) {
        let mut count = 0u64;
        // SAFETY: eventfd(2) — eight bytes, on this stack.
        unsafe { libc::read(self.event.as_raw_fd(), (&raw mut count).cast(), size_of::<u64>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framed::push;

    #[test]
    fn only_a_sleeper_is_woken() {
        let inbox = Inbox::new().unwrap();
        let is_told = || {
            let mut entry = libc::pollfd { fd: inbox.event(), events: libc::POLLIN, revents: 0 };
            // SAFETY: poll(2) — one entry, on this stack.
            unsafe { libc::poll(&mut entry, 1, 0) == 1 }
        };
        let mut pushes = Pushes::new();
        inbox.send(1, push(1, 0));
        assert!(!is_told(), "nobody sleeps");
        inbox.take(&mut pushes);
        assert_eq!(pushes, [(1, push(1, 0))]);
        inbox.send(2, push(2, 0));
        assert!(!is_told(), "it has work to do");
        inbox.take(&mut pushes);
        assert_eq!(pushes.len(), 1);
        inbox.take(&mut pushes);
        assert!(pushes.is_empty());
        inbox.send(3, push(3, 0));
        inbox.send(3, push(3, 1));
        assert!(is_told());
        inbox.awake();
        inbox.reset();
        inbox.take(&mut pushes);
        assert!(!is_told() && pushes.len() == 2);
    }
}
