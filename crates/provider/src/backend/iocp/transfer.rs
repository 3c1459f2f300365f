//! The calls that carry the bytes of streams.
#![allow(unsafe_code)]

use windows_sys::Win32::Networking::WinSock::{SOCKET, WSABUF, WSAEWOULDBLOCK, WSARecv, WSASend, recv};
use windows_sys::Win32::System::IO::OVERLAPPED;

use super::blocks::{Started, last_error, started};
use crate::base::attempt::Attempt;
use crate::base::error::Error;
use crate::memory::{Span, SpanMut};
use crate::platform::RawHandle;

/// The pieces of one send as the system wants them. It takes a copy of the list, so it need not stay.
pub(super) struct Pieces(Vec<WSABUF>);

impl Pieces {
    pub(super) fn with_capacity(count: usize) -> Self {
        Pieces(Vec::with_capacity(count))
    }

    pub(super) fn fill(&mut self, spans: &[Span]) {
        self.0.clear();
        self.0.extend(spans.iter().map(piece));
        if spans.is_empty() {
            // An empty datagram: one piece of no length, for a list of none is refused.
            self.0.push(WSABUF { len: 0, buf: std::ptr::null_mut() });
        }
    }

    pub(super) fn count(&self) -> u32 {
        self.0.len() as u32
    }

    pub(super) fn pointer(&self) -> *const WSABUF {
        self.0.as_ptr()
    }
}

fn piece(span: &Span) -> WSABUF {
    WSABUF { len: u32::try_from(span.length).expect("a payload has less than 4 GiB"), buf: span.pointer.cast_mut() }
}

/// Starts to send the pieces.
pub(super) fn send(handle: RawHandle, pieces: &Pieces, overlapped: *mut OVERLAPPED, skips: bool) -> Started {
    let mut sent = 0;
    // SAFETY: Win32: WSASend — the list of pieces is copied during the call. OWN-1 — the driver keeps the bytes, and the
    // table the block, until the final event.
    let result = unsafe {
        let socket = handle as SOCKET;
        WSASend(socket, pieces.pointer(), pieces.count(), &raw mut sent, 0, overlapped, None)
    };
    started(result, sent, skips)
}

/// Starts to receive into the span; into one of no length: waits until there is something, and takes nothing.
pub(super) fn receive(handle: RawHandle, span: SpanMut, overlapped: *mut OVERLAPPED, skips: bool) -> Started {
    let piece = WSABUF { len: u32::try_from(span.length).unwrap_or(u32::MAX), buf: span.pointer };
    let (mut received, mut flags) = (0, 0);
    // SAFETY: Win32: WSARecv — the list of one piece is copied during the call. OWN-1 — nobody else looks at the room
    // until the final event.
    let result = unsafe {
        let socket = handle as SOCKET;
        WSARecv(socket, &raw const piece, 1, &raw mut received, &raw mut flags, overlapped, None)
    };
    started(result, received, skips)
}

/// Receives what is there.
pub(super) fn receive_now(handle: RawHandle, span: SpanMut) -> Attempt<usize> {
    let length = i32::try_from(span.length).unwrap_or(i32::MAX);
    // SAFETY: Win32: recv — the span is a pool buffer in our hands, `length` bytes long; the socket does not wait.
    match unsafe { recv(handle as SOCKET, span.pointer, length, 0) } {
        bytes @ 0.. => Attempt::Done(bytes as usize),
        _ => match last_error() {
            WSAEWOULDBLOCK => Attempt::Later,
            code => Attempt::Failed(Error::from_os(code)),
        },
    }
}
