//! The system calls of the epoll back end.
#![allow(unsafe_code)]

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::io::{Errno, IoSlice};
use rustix::net::{self, RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags};
use socket2::Socket;

use crate::backend::Kind;
use crate::backend::datagram;
use crate::backend::event_fd::EventFd;
use crate::error::{Error, ErrorKind, Feature};
use crate::memory::{Span, SpanList, SpanMut};
use crate::merge::MergingProbe;
use crate::platform::RawHandle;
use crate::provider::{FeatureState, Waker};
use crate::readiness::{BATCH_MAX, EDGES_PER_TURN, Edge, Label, Message, Selector, Tried};

/// Data of the waker's registration; sockets have their index.
const WAKE: u64 = u64::MAX;

/// An epoll instance and what wakes it.
pub struct EpollSelector {
    epoll: OwnedFd,
    waker: Arc<EventFd>,
    buffer: Vec<epoll::Event>,
    is_precise: bool,
}

impl Selector for EpollSelector {
    const KIND: Kind = Kind::Epoll;

    fn open() -> Result<Self, Error> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(os)?;
        let waker = EventFd::new()?;
        let data = epoll::EventData::new_u64(WAKE);
        epoll::add(&epoll, &*waker, data, epoll::EventFlags::IN | epoll::EventFlags::ET).map_err(os)?;
        let mut selector =
            EpollSelector { epoll, waker, buffer: Vec::with_capacity(EDGES_PER_TURN), is_precise: false };
        selector.is_precise = selector.probe_precise_wait();
        Ok(selector)
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
        let timeout = wait.map(|wait| self.timespec(wait));
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.buffer), timeout.as_ref()) {
            // Rings that are set up or closed in this thread interrupt the wait without any signal: the driver calls again.
            Ok(_) | Err(Errno::INTR) => {}
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
        let reason = if self.is_precise { "" } else { "the kernel has no epoll_pwait2: waits are rounded up to 1 ms" };
        vec![FeatureState { feature: Feature::PreciseWait, in_use: self.is_precise, reason }]
    }

    fn accept(handle: RawHandle) -> Tried<Socket> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        tried(|| net::accept_with(borrow(&handle), flags).map(Socket::from))
    }

    fn connect(handle: RawHandle, address: Span) -> Tried<()> {
        let storage = address.pointer.cast::<net::addr::SocketAddrStorage>();
        // SAFETY: OWN-1 — the driver keeps the address, in the system's form, in the operation's slot until the final event.
        let address = unsafe { net::SocketAddrAny::read(storage, address.length as u32) };
        match net::connect(borrow(&handle), &address) {
            Ok(()) => Tried::Done(()),
            Err(Errno::INPROGRESS | Errno::INTR) => Tried::Later,
            // A Unix listener's backlog is full: the socket is not connecting, and its readiness means nothing.
            Err(Errno::AGAIN) => Tried::Failed(os(Errno::AGAIN).with_kind(ErrorKind::Busy)),
            Err(errno) => Tried::Failed(os(errno)),
        }
    }

    fn connect_result(handle: RawHandle) -> Tried<()> {
        match net::sockopt::socket_error(borrow(&handle)) {
            Ok(Ok(())) => Tried::Done(()),
            Ok(Err(errno)) | Err(errno) => Tried::Failed(os(errno)),
        }
    }

    fn receive(handle: RawHandle, span: SpanMut) -> Tried<usize> {
        // SAFETY: OWN-1 — the room is the operation's or a pool buffer in our hands; nobody else sees it now.
        let bytes = unsafe { std::slice::from_raw_parts_mut(span.pointer, span.length) };
        tried(|| net::recv(borrow(&handle), &mut *bytes, RecvFlags::DONTWAIT).map(|(length, _)| length))
    }

    fn send(handle: RawHandle, span: Span) -> Tried<usize> {
        // SAFETY: OWN-1 — the driver keeps the payload in the operation's slot until the final event.
        let bytes = unsafe { std::slice::from_raw_parts(span.pointer, span.length) };
        tried(|| net::send(borrow(&handle), bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL))
    }

    fn send_list(handle: RawHandle, list: SpanList) -> Tried<usize> {
        // SAFETY: OWN-1 — list and payloads are kept until the final event; readv(2) — a Span is laid out as an iovec,
        // and so is an IoSlice.
        let slices = unsafe { std::slice::from_raw_parts(list.pointer.cast::<IoSlice<'_>>(), list.count) };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        tried(|| net::sendmsg(borrow(&handle), slices, &mut SendAncillaryBuffer::default(), flags))
    }

    fn receive_datagrams(handle: RawHandle, spans: &[SpanMut], labels: &mut [Label; BATCH_MAX]) -> Tried<usize> {
        datagram::receive(handle, spans, labels)
    }

    fn send_messages(handle: RawHandle, messages: &[Message], spans: &[Span]) -> Tried<usize> {
        datagram::send(handle, messages, spans)
    }

    fn probe_merging() -> MergingProbe {
        datagram::probe()
    }
}

impl EpollSelector {
    fn probe_precise_wait(&mut self) -> bool {
        let mut none = Vec::<epoll::Event>::with_capacity(1);
        let timeout = Timespec { tv_sec: 0, tv_nsec: 1 };
        epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut none), Some(&timeout)).is_ok()
    }

    /// Without `epoll_pwait2` the wait is in milliseconds: rounded up, so that it is never too short.
    fn timespec(&self, wait: Duration) -> Timespec {
        let wait = if self.is_precise { wait } else { Duration::from_millis(wait.as_micros().div_ceil(1000) as u64) };
        Timespec { tv_sec: wait.as_secs().min(i32::MAX as u64) as i64, tv_nsec: wait.subsec_nanos().into() }
    }
}

fn borrow(handle: &RawHandle) -> BorrowedFd<'_> {
    // SAFETY: CLOSE-1 — the driver closes a handle only after it was detached, and calls nothing with it after that.
    unsafe { BorrowedFd::borrow_raw(*handle) }
}

fn os(errno: Errno) -> Error {
    Error::from_os(errno.raw_os_error())
}

fn tried<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Tried<T> {
    loop {
        match call() {
            Ok(value) => return Tried::Done(value),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Tried::Later,
            Err(errno) => return Tried::Failed(os(errno)),
        }
    }
}
