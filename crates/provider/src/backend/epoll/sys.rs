//! The system calls of the epoll back end.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::io::{Errno, IoSlice};
use rustix::net::{self, RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags};
use socket2::{SockRef, Socket};

use crate::backend::absence::{Trial, trial, uninterrupted};
use crate::backend::datagram;
use crate::backend::event_fd::EventFd;
use crate::backend::readiness::{BATCH_MAX, EDGES_PER_TURN, Edge, Label, Message, Selector};
use crate::base::attempt::Attempt;
use crate::base::error::{Error, ErrorKind, Feature};
use crate::base::kind::Kind;
use crate::base::wake::Waker;
use crate::contract::FeatureState;
use crate::contract::merge::MergingProbe;
use crate::memory::{Span, SpanList, SpanMut};
use crate::platform::RawHandle;

/// Data of the waker's registration; sockets have their index.
const WAKE: u64 = u64::MAX;

/// An epoll instance and what wakes it.
pub(super) struct EpollSelector {
    epoll: OwnedFd,
    waker: Arc<EventFd>,
    buffer: Vec<epoll::Event>,
    /// Whether waits are as short as they are asked for; if not, why.
    precise: Trial,
}

impl Selector for EpollSelector {
    const KIND: Kind = Kind::Epoll;

    fn open() -> Result<Self, Error> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(os)?;
        let waker = EventFd::new()?;
        let data = epoll::EventData::new_u64(WAKE);
        epoll::add(&epoll, &*waker, data, epoll::EventFlags::IN | epoll::EventFlags::ET).map_err(os)?;
        // A wait that takes no time is never interrupted, but what is asked costs nothing.
        let mut none = Vec::with_capacity(1);
        let precise = trial(
            uninterrupted(|| {
                let waited = wait_precisely(&epoll, &mut none, Some(Duration::ZERO));
                waited.map_err(io::Error::from)
            })
            .map(|()| true),
        );
        Ok(EpollSelector { epoll, waker, buffer: Vec::with_capacity(EDGES_PER_TURN), precise })
    }

    fn add(&mut self, socket: u32, handle: RawHandle) -> Result<(), Error> {
        use epoll::EventFlags as On;
        let data = epoll::EventData::new_u64(u64::from(socket));
        epoll::add(&self.epoll, borrow(&handle), data, On::IN | On::OUT | On::RDHUP | On::PRI | On::ET).map_err(os)
    }

    fn remove(&mut self, handle: RawHandle) {
        // A failure means that it was not registered: then there is nothing to end.
        let _ = epoll::delete(&self.epoll, borrow(&handle));
    }

    fn wait(&mut self, wait: Option<Duration>, edges: &mut Vec<Edge>) -> Result<(), Error> {
        use epoll::EventFlags as On;
        self.buffer.clear();
        let waited = match self.precise {
            Ok(()) => wait_precisely(&self.epoll, &mut self.buffer, wait),
            Err(_) => wait_coarsely(&self.epoll, &mut self.buffer, wait),
        };
        match waited {
            // Rings that are set up or closed in this thread interrupt the wait without any signal: the driver calls again.
            Ok(()) | Err(Errno::INTR) => {}
            Err(errno) => return Err(os(errno)),
        }
        for entry in &self.buffer {
            let flags = entry.flags;
            if entry.data.u64() == WAKE {
                self.waker.clear();
                continue;
            }
            edges.push(Edge {
                socket: entry.data.u64() as u32,
                readable: flags.intersects(On::IN | On::RDHUP | On::HUP | On::ERR),
                writable: flags.intersects(On::OUT | On::HUP | On::ERR),
                is_broken_up: flags.intersects(On::RDHUP | On::HUP | On::ERR | On::PRI),
            });
        }
        Ok(())
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn features(&self) -> Vec<FeatureState> {
        let reason = self.precise.err().unwrap_or_default();
        vec![FeatureState { feature: Feature::PreciseWait, in_use: self.precise.is_ok(), reason }]
    }

    fn never_block(handle: RawHandle) {
        // Not fatal: the next accept tells what is wrong with the listener.
        let _ = SockRef::from(&borrow(&handle)).set_nonblocking(true);
    }

    fn accept(handle: RawHandle) -> Attempt<Socket> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        tried(|| net::accept_with(borrow(&handle), flags).map(Socket::from))
    }

    fn connect(handle: RawHandle, address: Span) -> Attempt<()> {
        let storage = address.pointer.cast::<net::addr::SocketAddrStorage>();
        // SAFETY: OWN-1 — the driver keeps the address, in the system's form, in the operation's slot until the final event.
        let address = unsafe { net::SocketAddrAny::read(storage, address.length as u32) };
        match net::connect(borrow(&handle), &address) {
            Ok(()) => Attempt::Done(()),
            Err(Errno::INPROGRESS | Errno::INTR) => Attempt::Later,
            // A Unix listener's backlog is full: the socket is not connecting, and its readiness means nothing.
            Err(Errno::AGAIN) => Attempt::Failed(os(Errno::AGAIN).with_kind(ErrorKind::Busy)),
            Err(errno) => Attempt::Failed(os(errno)),
        }
    }

    fn connect_result(handle: RawHandle) -> Attempt<()> {
        match net::sockopt::socket_error(borrow(&handle)) {
            Ok(Ok(())) => Attempt::Done(()),
            Ok(Err(errno)) | Err(errno) => Attempt::Failed(os(errno)),
        }
    }

    fn receive(handle: RawHandle, span: SpanMut) -> Attempt<usize> {
        // SAFETY: OWN-1 — the room is the operation's or a pool buffer in our hands; nobody else sees it now.
        let bytes = unsafe { std::slice::from_raw_parts_mut(span.pointer, span.length) };
        tried(|| net::recv(borrow(&handle), &mut *bytes, RecvFlags::DONTWAIT).map(|(length, _)| length))
    }

    fn send(handle: RawHandle, span: Span) -> Attempt<usize> {
        // SAFETY: OWN-1 — the driver keeps the payload in the operation's slot until the final event.
        let bytes = unsafe { std::slice::from_raw_parts(span.pointer, span.length) };
        tried(|| net::send(borrow(&handle), bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL))
    }

    fn send_list(handle: RawHandle, list: SpanList) -> Attempt<usize> {
        // SAFETY: OWN-1 — list and payloads are kept until the final event; readv(2) — a Span is laid out as an iovec,
        // and so is an IoSlice.
        let slices = unsafe { std::slice::from_raw_parts(list.pointer.cast::<IoSlice<'_>>(), list.count) };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        tried(|| net::sendmsg(borrow(&handle), slices, &mut SendAncillaryBuffer::default(), flags))
    }

    fn receive_datagrams(handle: RawHandle, spans: &[SpanMut], labels: &mut [Label; BATCH_MAX]) -> Attempt<usize> {
        datagram::receive(handle, spans, labels)
    }

    fn send_messages(handle: RawHandle, messages: &[Message], spans: &[Span]) -> Attempt<usize> {
        datagram::send(handle, messages, spans)
    }

    fn probe_merging() -> MergingProbe {
        datagram::probe()
    }
}

/// Time as epoll_pwait2(2) has it: 64 bits each, on every architecture.
#[repr(C)]
struct KernelTime {
    seconds: i64,
    nanoseconds: i64,
}

/// Waits to the nanosecond. Linux before 5.11 has no such call, and `rustix` makes it for long waits only.
fn wait_precisely(epoll: &OwnedFd, events: &mut Vec<epoll::Event>, wait: Option<Duration>) -> Result<(), Errno> {
    let time = wait.map(|wait| KernelTime {
        seconds: wait.as_secs().min(WAIT_SECONDS_MAX) as i64,
        nanoseconds: wait.subsec_nanos().into(),
    });
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let room = events.spare_capacity_mut();
    // SAFETY: epoll_pwait2(2) — room for so many events, of the kernel's layout; the time lives through the call; no
    // signal mask.
    let came = unsafe {
        let (first, count) = (room.as_mut_ptr(), room.len() as libc::c_int);
        libc::syscall(libc::SYS_epoll_pwait2, epoll.as_raw_fd(), first, count, time, std::ptr::null::<u8>(), 0usize)
    };
    let came = usize::try_from(came).map_err(|_| last_errno())?;
    // SAFETY: epoll_pwait2(2) — the kernel has written so many events, and the vector was empty.
    unsafe { events.set_len(came) };
    Ok(())
}

/// Waits in whole milliseconds, rounded up, so that it is never too short; at most [`COARSE_MAX`].
fn wait_coarsely(epoll: &OwnedFd, events: &mut Vec<epoll::Event>, wait: Option<Duration>) -> Result<(), Errno> {
    let time = wait.map(|wait| {
        let milliseconds = wait.min(COARSE_MAX).as_nanos().div_ceil(1_000_000);
        let wait = Duration::from_millis(milliseconds as u64).min(COARSE_MAX);
        Timespec { tv_sec: wait.as_secs() as _, tv_nsec: wait.subsec_nanos().into() }
    });
    epoll::wait(epoll, rustix::buffer::spare_capacity(events), time.as_ref()).map(drop)
}

/// What the milliseconds of epoll_wait(2) hold: 24 days. A longer wait ends early, and the driver waits again.
const COARSE_MAX: Duration = Duration::from_millis(i32::MAX as u64);
/// Longer than any machine runs, and far below where the kernel's sum of times ends.
const WAIT_SECONDS_MAX: u64 = i32::MAX as u64;

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

fn borrow(handle: &RawHandle) -> BorrowedFd<'_> {
    // SAFETY: CLOSE-1 — the driver closes a handle only after it was detached, and calls nothing with it after that.
    unsafe { BorrowedFd::borrow_raw(*handle) }
}

fn os(errno: Errno) -> Error {
    Error::from_os(errno.raw_os_error())
}

fn tried<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Attempt<T> {
    loop {
        match call() {
            Ok(value) => return Attempt::Done(value),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Attempt::Later,
            Err(errno) => return Attempt::Failed(os(errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// As without `epoll_pwait2`, or with it if the kernel has it.
    fn both() -> [EpollSelector; 2] {
        let coarse = EpollSelector { precise: Err("for a test"), ..EpollSelector::open().unwrap() };
        [EpollSelector::open().unwrap(), coarse]
    }

    #[test]
    fn the_longest_wait_is_no_error() {
        for mut selector in both() {
            for wait in [Duration::from_secs(40 * 86_400), Duration::from_secs(1 << 40), Duration::MAX] {
                selector.waker().wake();
                selector.wait(Some(wait), &mut Vec::new()).unwrap();
            }
        }
    }

    #[test]
    fn no_wait_is_too_short() {
        for mut selector in both() {
            for wait in [1, 999, 1_000, 1_500_000].map(Duration::from_nanos) {
                let start = Instant::now();
                selector.wait(Some(wait), &mut Vec::new()).unwrap();
                // Setting up rings in another test does not interrupt this thread.
                assert!(start.elapsed() >= wait, "{wait:?}");
            }
        }
    }

    #[test]
    fn short_waits_are_short() {
        let mut selector = EpollSelector::open().unwrap();
        if let Err(reason) = selector.precise {
            return println!("not tested: epoll_pwait2: {reason}");
        }
        let mut is_short = || {
            let start = Instant::now();
            selector.wait(Some(Duration::from_micros(50)), &mut Vec::new()).unwrap();
            start.elapsed() < Duration::from_micros(900)
        };
        assert!((0..1000).any(|_| is_short()), "rounded up to a millisecond");
    }
}
