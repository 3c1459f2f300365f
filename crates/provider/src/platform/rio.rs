//! Functions of registered I/O, which Windows hands out as a table.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ptr::from_ref;

use socket2::{Domain, Protocol, Type};
use windows_sys::Win32::Networking::WinSock::{
    RIO_EXTENSION_FUNCTION_TABLE, SIO_GET_MULTIPLE_EXTENSION_FUNCTION_POINTER, SOCKET, WSAID_MULTIPLE_RIO, WSAIoctl,
};
use windows_sys::core::GUID;

use crate::base::error::{Error, ErrorKind, Feature};

/// Functions of registered I/O, as the system or a test gives them.
#[derive(Clone, Copy)]
pub struct RioFunctions {
    pub(crate) table: RIO_EXTENSION_FUNCTION_TABLE,
    /// Hooks by which a double learns of sockets; the system knows that by itself.
    pub(crate) hooks: Option<RioHooks>,
}

/// Calls by which a double of the functions is told about sockets.
#[derive(Clone, Copy, Debug)]
pub struct RioHooks {
    /// A socket was made, with these flags of `WSASocketW`.
    pub socket_made: fn(usize, u32),
    /// A socket is about to be closed.
    pub socket_closing: fn(usize),
    /// True if a socket that others have made can have a request queue; the system says so when it is tried.
    pub is_registered: fn(usize) -> bool,
}

impl RioFunctions {
    /// Functions that take the place of the system's, for tests. From here on all sockets that drivers make are told to
    /// `hooks`.
    ///
    /// # Safety
    /// `table` is a `RIO_EXTENSION_FUNCTION_TABLE` as `mswsock.h` has it. Each function of it is there, and keeps what the
    /// manual says of the one whose place it takes.
    pub unsafe fn new(table: *const c_void, hooks: RioHooks) -> Self {
        super::watch_sockets(hooks.socket_made);
        // SAFETY: WSAIoctl(2) — the caller says that it is such a table, which is plain data.
        let table = unsafe { table.cast::<RIO_EXTENSION_FUNCTION_TABLE>().read() };
        RioFunctions { table, hooks: Some(hooks) }
    }

    /// Asks the system. Errors: `BackendUnavailable` with what is missing.
    //= FALL-1
    pub(crate) fn of_system() -> Result<Self, Error> {
        let unavailable = Error::new(ErrorKind::BackendUnavailable).with_feature(Feature::RegisteredIo);
        let socket = super::new_socket(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).map_err(|_| unavailable)?;
        let bytes = size_of::<RIO_EXTENSION_FUNCTION_TABLE>() as u32;
        let mut table = RIO_EXTENSION_FUNCTION_TABLE { cbSize: bytes, ..Default::default() };
        let (name, mut returned) = (WSAID_MULTIPLE_RIO, 0);
        // SAFETY: WSAIoctl(2) — reads a name and writes a table of functions, both on this stack, their lengths told.
        let result = unsafe {
            WSAIoctl(
                super::raw_handle(&socket) as SOCKET,
                SIO_GET_MULTIPLE_EXTENSION_FUNCTION_POINTER,
                from_ref(&name).cast(),
                size_of::<GUID>() as u32,
                (&raw mut table).cast(),
                bytes,
                &raw mut returned,
                std::ptr::null_mut(),
                None,
            )
        };
        let functions = RioFunctions { table, hooks: None };
        if result == 0 && functions.is_complete() { Ok(functions) } else { Err(unavailable) }
    }

    /// True if none is missing that is used here.
    pub(crate) fn is_complete(&self) -> bool {
        let table = &self.table;
        let transfers = table.RIOReceive.is_some() && table.RIOSend.is_some();
        let datagrams = table.RIOReceiveEx.is_some() && table.RIOSendEx.is_some();
        let completions = table.RIOCreateCompletionQueue.is_some()
            && table.RIOCloseCompletionQueue.is_some()
            && table.RIOResizeCompletionQueue.is_some()
            && table.RIODequeueCompletion.is_some()
            && table.RIONotify.is_some();
        let others = table.RIOCreateRequestQueue.is_some()
            && table.RIORegisterBuffer.is_some()
            && table.RIODeregisterBuffer.is_some();
        transfers && datagrams && completions && others
    }
}

impl std::fmt::Debug for RioFunctions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.hooks.is_some() { "RioFunctions(of a test)" } else { "RioFunctions(of the system)" })
    }
}
