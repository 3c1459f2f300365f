//! System calls on sockets that do not wait, as every Unix has them.
#![allow(unsafe_code)]

use std::io::IoSlice;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendAncillaryBuffer, SocketAddrAny};
use socket2::SockRef;

use crate::base::attempt::Attempt;
use crate::base::error::{Error, ErrorKind};
use crate::memory::{Span, SpanList, SpanMut};
use crate::platform::{self, RawHandle};

/// Puts a listener into non-blocking mode again, if somebody who shares it has changed that.
pub(super) fn never_block(handle: RawHandle) {
    // Not fatal: the next accept tells what is wrong with the listener.
    let _ = SockRef::from(&borrow(&handle)).set_nonblocking(true);
}

/// Starts to connect; `Later`: under way, the socket becomes writable; `Busy`: the listener has no room, and no edge will
/// tell of it.
pub(super) fn connect(handle: RawHandle, address: Span) -> Attempt<()> {
    let storage = address.pointer.cast::<net::addr::SocketAddrStorage>();
    // SAFETY: OWN-1 — the driver keeps the address, in the system's form, in the operation's slot until the final event.
    let address = unsafe { SocketAddrAny::read(storage, address.length as u32) };
    match net::connect(borrow(&handle), &address) {
        Ok(()) => Attempt::Done(()),
        Err(Errno::INPROGRESS | Errno::INTR) => Attempt::Later,
        // A Unix listener's backlog is full, where the system says so: nothing will tell when it is not.
        Err(Errno::AGAIN) => Attempt::Failed(os(Errno::AGAIN).with_kind(ErrorKind::Busy)),
        Err(errno) => Attempt::Failed(os(errno)),
    }
}

/// Result of a connect that was under way.
pub(super) fn connect_result(handle: RawHandle) -> Attempt<()> {
    match net::sockopt::socket_error(borrow(&handle)) {
        Ok(Ok(())) => Attempt::Done(()),
        Ok(Err(errno)) | Err(errno) => Attempt::Failed(os(errno)),
    }
}

/// Receives into the span.
#[inline]
pub(super) fn receive(handle: RawHandle, span: SpanMut) -> Attempt<usize> {
    span.with(|bytes| tried(|| net::recv(borrow(&handle), &mut *bytes, RecvFlags::DONTWAIT).map(|(length, _)| length)))
}

/// Sends from the span.
pub(super) fn send(handle: RawHandle, span: Span) -> Attempt<usize> {
    span.with(|bytes| tried(|| net::send(borrow(&handle), bytes, platform::SEND_FLAGS)))
}

/// Sends from the spans, in order.
pub(super) fn send_list(handle: RawHandle, list: SpanList) -> Attempt<usize> {
    list.with(|spans| tried(|| net::sendmsg(borrow(&handle), slices(spans), &mut none(), platform::SEND_FLAGS)))
}

pub(in crate::backend) fn borrow(handle: &RawHandle) -> BorrowedFd<'_> {
    // SAFETY: CLOSE-1 — the driver closes a handle only after it was detached, and calls nothing with it after that.
    unsafe { BorrowedFd::borrow_raw(*handle) }
}

pub(in crate::backend) fn slices(spans: &[Span]) -> &[IoSlice<'_>] {
    // SAFETY: OWN-1 — the payloads are kept until the final event; readv(2) — a Span is laid out as an iovec, and so is an
    // IoSlice.
    unsafe { std::slice::from_raw_parts(spans.as_ptr().cast(), spans.len()) }
}

pub(in crate::backend) fn none() -> SendAncillaryBuffer<'static, 'static, 'static> {
    SendAncillaryBuffer::default()
}

pub(in crate::backend) fn os(errno: Errno) -> Error {
    Error::from_os(errno.raw_os_error())
}

/// Repeats a call that was interrupted.
pub(in crate::backend) fn tried<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Attempt<T> {
    loop {
        match call() {
            Ok(value) => return Attempt::Done(value),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Attempt::Later,
            Err(errno) => return Attempt::Failed(os(errno)),
        }
    }
}
