//! kqueue played by epoll, for tests on Linux: the events of both filters from one registration, and an eventfd as the user
//! event. It is compiled with `--cfg raon_kqueue_shim` alone.
#![forbid(unsafe_code)]

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventFlags as On};
use rustix::io::Errno;

use super::{Filter, Kernel, Note};
use crate::backend::event_fd::EventFd;
use crate::backend::readiness;
use crate::base::error::Error;
use crate::base::wake::Wake;
use crate::platform::RawHandle;

/// Data of the user event; sockets have their number.
const WAKE: u64 = u64::MAX;
/// Events per wait: what the stack holds with ease.
const BATCH: usize = 128;

/// An epoll instance that answers as a kernel queue would.
pub struct Queue {
    epoll: OwnedFd,
    user: Arc<EventFd>,
}

#[allow(private_interfaces, reason = "as the trait")]
impl Kernel for Queue {
    fn open() -> Result<Self, Error> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(os)?;
        let user = EventFd::new()?;
        epoll::add(&epoll, &*user, epoll::EventData::new_u64(WAKE), On::IN | On::ET).map_err(os)?;
        Ok(Queue { epoll, user })
    }

    fn add(&self, socket: u32, handle: RawHandle) -> Result<(), Error> {
        let data = epoll::EventData::new_u64(u64::from(socket));
        epoll::add(&self.epoll, readiness::calls::borrow(&handle), data, On::IN | On::OUT | On::RDHUP | On::ET)
            .map_err(os)
    }

    fn delete(&self, handle: RawHandle) {
        let _ = epoll::delete(&self.epoll, readiness::calls::borrow(&handle));
    }

    fn trigger(&self) {
        self.user.wake();
    }

    fn wait(&self, wait: Option<Duration>, most: usize, notes: &mut Vec<Note>) -> Result<(), Error> {
        // Each of these is two of kqueue's, at most.
        let mut events = [const { MaybeUninit::<epoll::Event>::uninit() }; BATCH];
        let room = BATCH.min(most / 2);
        // In milliseconds, as epoll_wait(2) takes them: a longer wait ends early, and the driver waits again.
        let timeout = wait.map(|wait| wait.min(Duration::from_millis(i32::MAX as u64)));
        let timeout = timeout.map(|wait| Timespec { tv_sec: wait.as_secs() as _, tv_nsec: wait.subsec_nanos().into() });
        match epoll::wait(&self.epoll, &mut events[..room], timeout.as_ref()) {
            Ok((came, _)) => came.iter().for_each(|event| self.note(*event, notes)),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(os(errno)),
        }
        Ok(())
    }
}

impl Queue {
    fn note(&self, event: epoll::Event, notes: &mut Vec<Note>) {
        let (flags, data) = (event.flags, event.data.u64());
        if data == WAKE {
            self.user.clear();
            return notes.push(Note { filter: Filter::User, socket: 0, is_ended: false });
        }
        let socket = data as u32;
        let is_broken = flags.intersects(On::HUP | On::ERR);
        if is_broken || flags.intersects(On::IN | On::RDHUP) {
            notes.push(Note { filter: Filter::Read, socket, is_ended: is_broken || flags.contains(On::RDHUP) });
        }
        if is_broken || flags.contains(On::OUT) {
            notes.push(Note { filter: Filter::Write, socket, is_ended: is_broken });
        }
    }
}

fn os(errno: Errno) -> Error {
    Error::from_os(errno.raw_os_error())
}
