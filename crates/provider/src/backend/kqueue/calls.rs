//! kqueue(2) and kevent(2) of macOS and FreeBSD.
#![allow(unsafe_code)]

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::kqueue::{Event, EventFilter, EventFlags, UserDefinedFlags, UserFlags, kevent, kqueue};
use rustix::io::{Errno, FdFlags, fcntl_setfd};

use super::{Filter, Kernel, Note};
use crate::base::error::Error;
use crate::platform::RawHandle;

/// A kernel queue.
pub struct Queue(OwnedFd);

/// The user event's name.
const WAKE: isize = 0;

#[allow(private_interfaces, reason = "as the trait")]
impl Kernel for Queue {
    fn open() -> Result<Self, Error> {
        let queue = Queue(kqueue().map_err(os)?);
        // A child does not inherit a queue on fork, but it keeps one over exec on some systems.
        fcntl_setfd(&queue.0, FdFlags::CLOEXEC).map_err(os)?;
        queue.change(&[user(EventFlags::ADD | EventFlags::CLEAR, UserFlags::empty())]).map_err(os)?;
        Ok(queue)
    }

    fn add(&self, socket: u32, handle: RawHandle) -> Result<(), Error> {
        self.change(&both(handle, socket, EventFlags::ADD | EventFlags::CLEAR)).map_err(os)
    }

    fn delete(&self, handle: RawHandle) {
        for change in both(handle, 0, EventFlags::DELETE) {
            // A failure means that it was not registered: then there is nothing to end.
            let _ = self.change(&[change]);
        }
    }

    fn trigger(&self) {
        // It cannot fail for an event that is registered.
        let _ = self.change(&[user(EventFlags::empty(), UserFlags::TRIGGER)]);
    }

    fn wait(&self, wait: Option<Duration>, most: usize, notes: &mut Vec<Note>) -> Result<(), Error> {
        let mut events: [std::mem::MaybeUninit<Event>; BATCH] = [const { std::mem::MaybeUninit::uninit() }; BATCH];
        let (mut wait, mut left) = (wait.map(|wait| wait.min(WAIT_MAX)), most);
        while left > 0 {
            let room = left.min(BATCH);
            // SAFETY: CLOSE-1 — whatever is registered is open: the driver detaches a socket before it closes it.
            let waited = unsafe { kevent(&self.0, &[], &mut events[..room], wait) };
            let came = match waited {
                Ok((came, _)) => came,
                Err(Errno::INTR) => return Ok(()),
                Err(errno) => return Err(os(errno)),
            };
            notes.extend(came.iter().map(note));
            if came.len() < room {
                return Ok(());
            }
            // There may be more, for which nobody waits.
            (wait, left) = (Some(Duration::ZERO), left - room);
        }
        Ok(())
    }
}

/// Longest wait: what every kernel takes. A longer one ends early, and the driver waits again.
const WAIT_MAX: Duration = Duration::from_secs(86_400);

/// Events per system call: what the stack holds with ease.
const BATCH: usize = 128;

impl Queue {
    fn change(&self, changes: &[Event]) -> Result<(), Errno> {
        let mut none: [Event; 0] = [];
        // SAFETY: CLOSE-1 — the driver registers sockets that are open, and detaches each before it closes it.
        unsafe { kevent(&self.0, changes, &mut none[..], None) }.map(drop)
    }
}

fn both(handle: RawHandle, socket: u32, flags: EventFlags) -> [Event; 2] {
    let data = std::ptr::without_provenance_mut(socket as usize);
    [EventFilter::Read(handle), EventFilter::Write(handle)].map(|filter| Event::new(filter, flags, data))
}

fn user(flags: EventFlags, user_flags: UserFlags) -> Event {
    let filter = EventFilter::User { ident: WAKE, flags: user_flags, user_flags: UserDefinedFlags::new(0) };
    Event::new(filter, flags, std::ptr::null_mut())
}

fn note(event: &Event) -> Note {
    let filter = match event.filter() {
        EventFilter::Read(_) => Filter::Read,
        EventFilter::Write(_) => Filter::Write,
        _ => Filter::User,
    };
    Note { filter, socket: event.udata().addr() as u32, is_ended: event.flags().contains(EventFlags::EOF) }
}

fn os(errno: Errno) -> Error {
    Error::from_os(errno.raw_os_error())
}
