//! The socket calls that are not exported but asked for: AcceptEx, ConnectEx, WSARecvMsg.
#![allow(unsafe_code)]

use socket2::{Domain, Protocol, Socket, Type};
use windows_sys::Win32::Networking::WinSock::{
    LPFN_ACCEPTEX, LPFN_CONNECTEX, LPFN_WSARECVMSG, SIO_GET_EXTENSION_FUNCTION_POINTER, SOCKET, WSAID_ACCEPTEX,
    WSAID_CONNECTEX, WSAID_WSARECVMSG, WSAIoctl,
};
use windows_sys::core::GUID;

use super::blocks::last_error;
use crate::base::error::{Error, ErrorKind};
use crate::platform::{self, RawHandle};

/// Those of the system's own provider, which all its sockets share.
#[derive(Clone, Copy)]
pub(in crate::backend) struct Extensions {
    pub(super) accept: LPFN_ACCEPTEX,
    pub(super) connect: LPFN_CONNECTEX,
    pub(super) receive_message: LPFN_WSARECVMSG,
}

impl Extensions {
    /// Errors: what the system says of a socket, or `BackendUnavailable` if it lacks one of them.
    pub(in crate::backend) fn load() -> Result<Self, Error> {
        let stream = platform::new_socket(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        let datagram = platform::new_socket(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        let extensions = Extensions {
            accept: ask(&stream, WSAID_ACCEPTEX)?,
            connect: ask(&stream, WSAID_CONNECTEX)?,
            receive_message: ask(&datagram, WSAID_WSARECVMSG)?,
        };
        let has_all =
            extensions.accept.is_some() && extensions.connect.is_some() && extensions.receive_message.is_some();
        if has_all { Ok(extensions) } else { Err(Error::new(ErrorKind::BackendUnavailable)) }
    }
}

/// Asks for the function of that name; `F` is the type that the manual gives it, as an option.
fn ask<F: Default>(socket: &Socket, name: GUID) -> Result<F, Error> {
    const { assert!(size_of::<F>() == size_of::<usize>(), "a pointer, or none") };
    let handle: RawHandle = platform::raw_handle(socket);
    let (mut function, mut bytes) = (F::default(), 0);
    // SAFETY: Win32: WSAIoctl — reads a name and writes a pointer to the function that has it, both on this stack.
    let result = unsafe {
        WSAIoctl(
            handle as SOCKET,
            SIO_GET_EXTENSION_FUNCTION_POINTER,
            (&raw const name).cast(),
            size_of::<GUID>() as u32,
            (&raw mut function).cast(),
            size_of::<F>() as u32,
            &raw mut bytes,
            std::ptr::null_mut(),
            None,
        )
    };
    if result == 0 { Ok(function) } else { Err(Error::from_os(last_error())) }
}
