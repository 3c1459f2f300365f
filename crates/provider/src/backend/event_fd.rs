//! Waking a thread that waits in the kernel: an eventfd(2) that its wait watches.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

use crate::base::error::Error;
use crate::base::wake::Wake;

/// The eventfd, shared by all who may wake.
#[derive(Debug)]
pub(super) struct EventFd(OwnedFd);

impl EventFd {
    pub(super) fn new() -> Result<Arc<Self>, Error> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let descriptor = eventfd(0, flags).map_err(|errno| Error::from_os(errno.raw_os_error()))?;
        Ok(Arc::new(EventFd(descriptor)))
    }

    /// Sets the counter back to 0, after a wake.
    pub(super) fn clear(&self) {
        let mut count = [0; 8];
        // EAGAIN: somebody woke and it is cleared already.
        let _ = rustix::io::read(&self.0, &mut count);
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Wake for EventFd {
    fn wake(&self) {
        // EAGAIN: the counter is at its limit, so the owner is being woken anyway.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}
