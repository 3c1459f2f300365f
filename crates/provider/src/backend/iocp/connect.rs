//! Connects, by ConnectEx: the socket is bound first, and has all its properties only when its context has been updated.
#![allow(unsafe_code)]

use socket2::SockAddr;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use windows_sys::Win32::Networking::WinSock::{
    SO_UPDATE_CONNECT_CONTEXT, SOCKET, SOL_SOCKET, WSA_IO_PENDING, WSAEINVAL, bind, setsockopt,
};

use super::blocks::{BlockId, Blocks, Started, last_error};
use super::extension::Extensions;
use crate::base::error::{Error, ErrorKind};
use crate::memory::Span;
use crate::platform::RawHandle;

/// Starts to connect to the address that the span holds in the system's form.
pub(in crate::backend) fn start(
    extensions: &Extensions,
    blocks: &Blocks,
    id: BlockId,
    handle: RawHandle,
    address: Span,
    skips: bool,
) -> Started {
    let Some(connect) = extensions.connect else { return Started::Failed(Error::new(ErrorKind::BackendUnavailable)) };
    if let Err(error) = bind_any(handle, address) {
        return Started::Failed(error);
    }
    let mut sent = 0;
    // SAFETY: Win32: ConnectEx — nothing is sent along. OWN-1 — the driver keeps the address, and the table the block,
    // until the final event.
    let connected = unsafe {
        let name = address.pointer.cast();
        let overlapped = blocks.overlapped(id.index);
        connect(handle as SOCKET, name, address.length as i32, std::ptr::null(), 0, &raw mut sent, overlapped)
    };
    match (connected != 0, skips) {
        (true, true) => Started::Done(0),
        (true, false) => Started::Pending,
        (false, _) => match last_error() {
            WSA_IO_PENDING => Started::Pending,
            code => Started::Failed(Error::from_os(code)),
        },
    }
}

/// The socket is connected: from now on it has its addresses and can be shut down.
pub(in crate::backend) fn finish(handle: RawHandle) -> Result<(), Error> {
    // SAFETY: Win32: ConnectEx, SO_UPDATE_CONNECT_CONTEXT — takes no value.
    let updated = unsafe { setsockopt(handle as SOCKET, SOL_SOCKET, SO_UPDATE_CONNECT_CONTEXT, std::ptr::null(), 0) };
    if updated == 0 { Ok(()) } else { Err(Error::from_os(last_error())) }
}

/// ConnectEx takes bound sockets only. One that is bound already stays as it is.
fn bind_any(handle: RawHandle, peer: Span) -> Result<(), Error> {
    let is_v4 = peer.length == SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).len() as usize;
    let any: SocketAddr = if is_v4 { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let any = SockAddr::from(any);
    // SAFETY: Win32: bind — the address is read during the call, and as long as it says.
    let bound = unsafe { bind(handle as SOCKET, any.as_ptr().cast(), any.len()) };
    match if bound == 0 { 0 } else { last_error() } {
        0 | WSAEINVAL => Ok(()),
        code => Err(Error::from_os(code)),
    }
}
