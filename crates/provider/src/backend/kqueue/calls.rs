//! Calls on sockets that do not wait, as every Unix has them: one datagram each, nothing merged.
#![allow(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::{self, RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendAncillaryBuffer, SocketAddrAny};
use socket2::{SockRef, Socket};

use crate::backend::readiness::{BATCH_MAX, Label, Message, UNSPECIFIED};
use crate::base::attempt::Attempt;
use crate::base::error::{Error, ErrorKind};
use crate::memory::{Span, SpanList, SpanMut};
use crate::platform::{self, RawHandle};

/// Takes one waiting connection. Its flags are set one by one, for not every kernel has accept4(2); one that has ended
/// already takes them all the same.
pub(super) fn never_block(handle: RawHandle) {
    // Not fatal: the next accept tells what is wrong with the listener.
    let _ = SockRef::from(&borrow(&handle)).set_nonblocking(true);
}

pub(super) fn accept(handle: RawHandle) -> Attempt<Socket> {
    let listener = borrow(&handle);
    tried(|| {
        let (socket, _) = SockRef::from(&listener).accept_raw().map_err(|error| errno(&error))?;
        let flags = socket.set_cloexec(true).and_then(|()| socket.set_nonblocking(true));
        flags.map(|()| socket).map_err(|error| errno(&error))
    })
}

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

pub(super) fn connect_result(handle: RawHandle) -> Attempt<()> {
    match net::sockopt::socket_error(borrow(&handle)) {
        Ok(Ok(())) => Attempt::Done(()),
        Ok(Err(errno)) | Err(errno) => Attempt::Failed(os(errno)),
    }
}

pub(super) fn receive(handle: RawHandle, span: SpanMut) -> Attempt<usize> {
    span.with(|bytes| tried(|| net::recv(borrow(&handle), &mut *bytes, RecvFlags::DONTWAIT).map(|(length, _)| length)))
}

pub(super) fn send(handle: RawHandle, span: Span) -> Attempt<usize> {
    span.with(|bytes| tried(|| net::send(borrow(&handle), bytes, platform::SEND_FLAGS)))
}

pub(super) fn send_list(handle: RawHandle, list: SpanList) -> Attempt<usize> {
    list.with(|spans| tried(|| net::sendmsg(borrow(&handle), slices(spans), &mut none(), platform::SEND_FLAGS)))
}

/// One datagram: an error that followed another one here, about what was sent before, would be lost.
pub(super) fn receive_datagrams(
    handle: RawHandle,
    spans: &[SpanMut],
    labels: &mut [Label; BATCH_MAX],
) -> Attempt<usize> {
    match spans[0].with(|bytes| receive_datagram(handle, bytes)) {
        Attempt::Done(label) => {
            labels[0] = label;
            Attempt::Done(1)
        }
        Attempt::Later => Attempt::Later,
        Attempt::Failed(error) => Attempt::Failed(error),
    }
}

fn receive_datagram(handle: RawHandle, bytes: &mut [u8]) -> Attempt<Label> {
    tried(|| {
        let mut slices = [IoSliceMut::new(&mut *bytes)];
        let mut control = RecvAncillaryBuffer::default();
        let received = net::recvmsg(borrow(&handle), &mut slices, &mut control, RecvFlags::DONTWAIT)?;
        let from = received.address.and_then(|address| SocketAddr::try_from(address).ok());
        Ok(Label {
            length: received.bytes,
            from: from.unwrap_or(UNSPECIFIED),
            is_truncated: received.flags.contains(ReturnFlags::TRUNC),
            segment_bytes: 0,
        })
    })
}

/// One message per call of the system, until one does not go. Each is one datagram: nothing is merged here.
pub(super) fn send_messages(handle: RawHandle, messages: &[Message], spans: &[Span]) -> Attempt<usize> {
    let (mut went, mut spans) = (0, spans);
    for message in messages.iter().take(BATCH_MAX) {
        let (own, rest) = spans.split_at(message.spans);
        spans = rest;
        let sent = tried(|| match message.target.address() {
            Some(to) => net::sendmsg_addr(borrow(&handle), &to, slices(own), &mut none(), platform::SEND_FLAGS),
            None => net::sendmsg(borrow(&handle), slices(own), &mut none(), platform::SEND_FLAGS),
        });
        match sent {
            Attempt::Done(_) => went += 1,
            // It is asked for again; an error about the past is told once or not at all, as by sendmmsg(2).
            _ if went > 0 => break,
            Attempt::Later => return Attempt::Later,
            Attempt::Failed(error) => return Attempt::Failed(error),
        }
    }
    Attempt::Done(went)
}

/// A peer that is gone is an error of the send, not a signal, whoever has made the socket.
pub(super) fn raise_no_signal(handle: RawHandle) {
    platform::raise_no_signal(&SockRef::from(&borrow(&handle)));
}

pub(super) fn borrow(handle: &RawHandle) -> BorrowedFd<'_> {
    // SAFETY: CLOSE-1 — the driver closes a handle only after it was detached, and calls nothing with it after that.
    unsafe { BorrowedFd::borrow_raw(*handle) }
}

fn slices(spans: &[Span]) -> &[IoSlice<'_>] {
    // SAFETY: OWN-1 — the payloads are kept until the final event; readv(2) — a Span is laid out as an iovec, and so is an
    // IoSlice.
    unsafe { std::slice::from_raw_parts(spans.as_ptr().cast(), spans.len()) }
}

fn none() -> SendAncillaryBuffer<'static, 'static, 'static> {
    SendAncillaryBuffer::default()
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::INVAL)
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
