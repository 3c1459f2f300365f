//! System calls on sockets that kqueue needs beside those of every readiness back end: accepts whose flags are set one by one,
//! and datagrams one by one.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;

use rustix::io::Errno;
use rustix::net::{self, RecvAncillaryBuffer, RecvFlags, ReturnFlags};
use socket2::{SockRef, Socket};

use crate::backend::readiness::Message;
use crate::backend::readiness::calls::{borrow, none, slices, tried};
use crate::base::attempt::Attempt;
use crate::contract::input::{BATCH_MAX, Label, UNSPECIFIED};
use crate::memory::{Span, SpanMut};
use crate::platform::{self, RawHandle};

/// Takes one waiting connection. Its flags are set one by one, for not every kernel has accept4(2); one that has ended
/// already takes them all the same.
pub(super) fn accept(handle: RawHandle) -> Attempt<Socket> {
    let listener = borrow(&handle);
    tried(|| {
        let (socket, _) = SockRef::from(&listener).accept_raw().map_err(|error| errno(&error))?;
        let flags = socket.set_cloexec(true).and_then(|()| socket.set_nonblocking(true));
        flags.map(|()| socket).map_err(|error| errno(&error))
    })
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

/// Makes a peer that is gone an error of the send, not a signal, whoever has made the socket.
pub(super) fn raise_no_signal(handle: RawHandle) {
    platform::raise_no_signal(&SockRef::from(&borrow(&handle)));
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::INVAL)
}
