//! The calls that carry datagrams.
#![allow(unsafe_code)]

use socket2::{SockAddr, SockAddrStorage};
use windows_sys::Win32::Networking::WinSock::{
    MSG_TRUNC, SOCKADDR, SOCKADDR_INET, SOCKET, WSA_IO_PENDING, WSABUF, WSAEMSGSIZE, WSAEWOULDBLOCK, WSAMSG, WSASendTo,
};

use super::blocks::{Blocks, ROOM_BYTES, Started, last_error, started};
use super::extension::Extensions;
use super::transfer::Pieces;
use crate::base::attempt::Attempt;
use crate::base::error::{Error, ErrorKind};
use crate::contract::input::{Label, UNSPECIFIED};
use crate::memory::{SpanMut, Target};
use crate::platform::RawHandle;

/// What has come of a receive that was posted.
pub(super) enum Posted {
    Ordinary(Started),
    /// The call has failed, but with a datagram that does not fit.
    Truncated(Label),
}

/// What the system fills while it receives a datagram; lies in the room of a block.
#[derive(Clone, Copy)]
#[repr(C)]
struct Envelope {
    message: WSAMSG,
    piece: WSABUF,
    name: SOCKADDR_INET,
}

const _: () = assert!(size_of::<Envelope>() <= ROOM_BYTES && align_of::<Envelope>() <= 8);

/// Writes an envelope for a receive into the span.
///
/// # Safety
/// `place` is valid for an envelope, and stays so, as does the span, until the receive has ended.
unsafe fn address(place: *mut Envelope, span: SpanMut) {
    // SAFETY: OWN-1 — the caller keeps place and span until the receive has ended.
    unsafe {
        place.write(std::mem::zeroed());
        (*place).piece = WSABUF { len: u32::try_from(span.length).unwrap_or(u32::MAX), buf: span.pointer };
        (*place).message.name = (&raw mut (*place).name).cast();
        (*place).message.namelen = size_of::<SOCKADDR_INET>() as i32;
        (*place).message.lpBuffers = &raw mut (*place).piece;
        (*place).message.dwBufferCount = 1;
    }
}

fn label(envelope: &Envelope, bytes: u32, is_too_long: bool) -> Label {
    let is_truncated = is_too_long || envelope.message.dwFlags & MSG_TRUNC != 0;
    let length = (bytes as usize).min(envelope.piece.len as usize);
    let mut storage = SockAddrStorage::zeroed();
    let name_bytes = (envelope.message.namelen.max(0) as usize).min(size_of::<SOCKADDR_INET>());
    // SAFETY: Win32: WSARecvMsg — the name is as long as the envelope says, at most a storage.
    let from = unsafe {
        let (from, to) = ((&raw const envelope.name).cast::<u8>(), (&raw mut storage).cast::<u8>());
        std::ptr::copy_nonoverlapping(from, to, name_bytes);
        SockAddr::new(storage, name_bytes as _)
    };
    Label { length, from: from.as_socket().unwrap_or(UNSPECIFIED), is_truncated, segment_bytes: 0 }
}

/// Starts to receive one datagram.
pub(super) fn receive(
    extensions: &Extensions,
    blocks: &Blocks,
    index: u32,
    handle: RawHandle,
    span: SpanMut,
    skips: bool,
) -> Posted {
    let Some(receive) = extensions.receive_message else { return Posted::Ordinary(unavailable()) };
    let envelope = blocks.room(index).cast::<Envelope>();
    let mut received = 0;
    // SAFETY: Win32: WSARecvMsg — OWN-1: envelope and overlapped structure stay in the block, and the span in its
    // socket's own memory, until the completion has come.
    let result = unsafe {
        address(envelope, span);
        receive(
            handle as SOCKET,
            (&raw mut (*envelope).message).cast(),
            &raw mut received,
            blocks.overlapped(index),
            None,
        )
    };
    if result != 0 && last_error() == WSAEMSGSIZE {
        // SAFETY: OWN-1 — the receive has ended, nobody else looks at the envelope.
        return Posted::Truncated(unsafe { label(&*envelope, span.length as u32, true) });
    }
    Posted::Ordinary(started(result, received, skips))
}

/// What a receive that was posted has brought, once its completion has come.
pub(super) fn received(blocks: &Blocks, index: u32, result: Result<u32, Error>) -> Result<Label, Error> {
    let envelope = blocks.room(index).cast::<Envelope>();
    let is_too_long = result.is_err_and(|error| error.kind() == ErrorKind::MessageTooLong);
    // SAFETY: OWN-1 — the receive has ended, nobody else looks at the envelope.
    let envelope = unsafe { &*envelope };
    match result {
        Ok(bytes) => Ok(label(envelope, bytes, false)),
        Err(_) if is_too_long => Ok(label(envelope, envelope.piece.len, true)),
        Err(error) => Err(error),
    }
}

/// Receives a datagram that is there.
pub(super) fn receive_now(extensions: &Extensions, handle: RawHandle, span: SpanMut) -> Attempt<Label> {
    let Some(receive) = extensions.receive_message else {
        return Attempt::Failed(Error::new(ErrorKind::BackendUnavailable));
    };
    let mut envelope = std::mem::MaybeUninit::<Envelope>::uninit();
    let mut received = 0;
    // SAFETY: Win32: WSARecvMsg — without an overlapped structure the call ends before it returns: the envelope is on
    // this stack, the span a pool buffer in our hands.
    let (result, envelope) = unsafe {
        address(envelope.as_mut_ptr(), span);
        let message = &raw mut (*envelope.as_mut_ptr()).message;
        let result = receive(handle as SOCKET, message.cast(), &raw mut received, std::ptr::null_mut(), None);
        (result, envelope.assume_init())
    };
    match if result == 0 { 0 } else { last_error() } {
        0 => Attempt::Done(label(&envelope, received, false)),
        WSAEMSGSIZE => Attempt::Done(label(&envelope, envelope.piece.len, true)),
        WSAEWOULDBLOCK | WSA_IO_PENDING => Attempt::Later,
        code => Attempt::Failed(Error::from_os(code)),
    }
}

/// Starts to send the pieces as one datagram.
pub(super) fn send(
    blocks: &Blocks,
    index: u32,
    handle: RawHandle,
    skips: bool,
    pieces: &Pieces,
    target: Target,
) -> Started {
    let (name, name_bytes) = (target.pointer.cast::<SOCKADDR>(), target.length as i32);
    let (socket, overlapped, mut sent) = (handle as SOCKET, blocks.overlapped(index), 0);
    // SAFETY: Win32: WSASendTo — the list of pieces is copied during the call. OWN-1 — the driver keeps bytes and
    // address, and the table the block, until the final event.
    let result = unsafe {
        WSASendTo(socket, pieces.pointer(), pieces.count(), &raw mut sent, 0, name, name_bytes, overlapped, None)
    };
    started(result, sent, skips)
}

fn unavailable() -> Started {
    Started::Failed(Error::new(ErrorKind::BackendUnavailable))
}
