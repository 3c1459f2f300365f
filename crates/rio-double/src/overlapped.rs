//! One overlapped operation, on memory of its own.
#![allow(unsafe_code)]

use std::ptr::{NonNull, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::{HANDLE, STATUS_PENDING};
use windows_sys::Win32::Networking::WinSock::{
    AF_INET6, SO_TYPE, SOCK_DGRAM, SOCKADDR, SOCKADDR_STORAGE, SOCKET, SOL_SOCKET, WSA_IO_PENDING,
    WSA_OPERATION_ABORTED, WSABUF, WSAGetLastError, WSAGetOverlappedResult, WSARecv, WSARecvFrom, WSASend, WSASendTo,
    getsockopt,
};
use windows_sys::Win32::System::IO::{CancelIoEx, OVERLAPPED};
use windows_sys::Win32::System::Threading::GetCurrentThreadId;

use super::bell::Event;

/// How long a cancelled operation may take. Nothing but the system decides that, and it is never long.
const CANCEL_WAIT: Duration = Duration::from_secs(20);
/// Length of a SOCKADDR_INET, in bytes.
pub(crate) const ADDRESS_BYTES: usize = 28;
const ADDRESS_V4_BYTES: usize = 16;

/// What an operation has come to.
pub(crate) struct Ended {
    /// 0, or a code of Winsock.
    pub(crate) code: i32,
    /// Bytes that were moved.
    pub(crate) count: u32,
    /// What was received, or what was to be sent.
    pub(crate) bytes: Vec<u8>,
    /// Where a datagram came from, as a SOCKADDR_INET.
    pub(crate) from: [u8; ADDRESS_BYTES],
}

/// What the system looks at while an operation is under way.
struct Block {
    overlapped: OVERLAPPED,
    address: SOCKADDR_STORAGE,
    address_length: i32,
    flags: u32,
    bytes: Vec<u8>,
}

/// An operation that was started; when dropped it is stopped, and its memory freed once the system has let go.
pub(crate) struct Operation {
    block: NonNull<Block>,
    socket: SOCKET,
    /// The code, if it did not even start.
    refusal: Option<i32>,
    is_cancelled: bool,
    /// Open as long as the system may set it.
    event: Arc<Event>,
}

// SAFETY: OWN-1 — the block belongs to this value alone, and the system does not care which thread looks at it.
unsafe impl Send for Operation {}

impl Operation {
    /// Receives at most `length` bytes, of a datagram with its sender.
    pub(crate) fn receive(socket: SOCKET, length: u32, is_datagram: bool, event: &Arc<Event>) -> Self {
        let mut operation = Operation::new(socket, vec![0; length as usize], event);
        let block = operation.block.as_ptr();
        // SAFETY: WSARecv(3), WSARecvFrom(3) — the block stays in place until the operation has ended: `drop` waits for it.
        let returned = unsafe {
            let buffer = WSABUF { len: length, buf: (*block).bytes.as_mut_ptr() };
            let (flags, overlapped) = (&raw mut (*block).flags, &raw mut (*block).overlapped);
            if is_datagram {
                let (from, length) = (&raw mut (*block).address, &raw mut (*block).address_length);
                WSARecvFrom(socket, &buffer, 1, null_mut(), flags, from.cast(), length, overlapped, None)
            } else {
                WSARecv(socket, &buffer, 1, null_mut(), flags, overlapped, None)
            }
        };
        operation.note(returned);
        operation
    }

    /// Sends the bytes, to the address if there is one.
    pub(crate) fn send(socket: SOCKET, bytes: Vec<u8>, to: Option<&[u8]>, event: &Arc<Event>) -> Self {
        let mut operation = Operation::new(socket, bytes, event);
        let block = operation.block.as_ptr();
        // SAFETY: WSASend(3), WSASendTo(3) — the block stays in place until the operation has ended: `drop` waits for it.
        // The address is copied, at most as long as the storage.
        let returned = unsafe {
            let bytes = &mut (*block).bytes;
            let buffer = WSABUF { len: bytes.len() as u32, buf: bytes.as_mut_ptr() };
            let overlapped = &raw mut (*block).overlapped;
            match to {
                None => WSASend(socket, &buffer, 1, null_mut(), 0, overlapped, None),
                Some(to) => {
                    let address = &raw mut (*block).address;
                    std::ptr::copy_nonoverlapping(to.as_ptr(), address.cast(), to.len().min(ADDRESS_BYTES));
                    let is_long = (*address).ss_family == AF_INET6;
                    let length = if is_long { ADDRESS_BYTES } else { ADDRESS_V4_BYTES } as i32;
                    WSASendTo(socket, &buffer, 1, null_mut(), 0, address.cast::<SOCKADDR>(), length, overlapped, None)
                }
            }
        };
        operation.note(returned);
        operation
    }

    fn new(socket: SOCKET, bytes: Vec<u8>, event: &Arc<Event>) -> Self {
        let overlapped = OVERLAPPED { hEvent: event.apart_from_ports(), ..OVERLAPPED::default() };
        let address_length = size_of::<SOCKADDR_STORAGE>() as i32;
        let address = SOCKADDR_STORAGE::default();
        let block = Box::new(Block { overlapped, address, address_length, flags: 0, bytes });
        let block = NonNull::from(Box::leak(block));
        Operation { block, socket, refusal: None, is_cancelled: false, event: event.clone() }
    }

    fn note(&mut self, returned: i32) {
        if returned != 0 {
            // SAFETY: WSAGetLastError(3) — asks for a number of this thread.
            let code = unsafe { WSAGetLastError() };
            self.refusal = (code != WSA_IO_PENDING).then_some(code);
        }
    }

    /// Asks the system to stop it.
    pub(crate) fn cancel(&mut self) {
        if !self.is_done() {
            self.is_cancelled = true;
            // SAFETY: CancelIoEx(3) — the block is in place. That nothing is found means that it has just ended.
            unsafe { CancelIoEx(self.socket as HANDLE, &raw const (*self.block.as_ptr()).overlapped) };
        }
    }

    /// What it sets when it has ended.
    pub(crate) fn event(&self) -> &Arc<Event> {
        &self.event
    }

    /// Waits until a cancelled operation has ended; false if the system does not let go.
    pub(crate) fn wait(&self) -> bool {
        let deadline = Instant::now() + CANCEL_WAIT;
        while !self.is_done() {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        true
    }

    /// True if the system has let go of it.
    pub(crate) fn is_done(&self) -> bool {
        // SAFETY: WSASend(3) — `Internal` is the status, which the system writes last; the block is in place.
        let status = unsafe { AtomicUsize::from_ptr(&raw mut (*self.block.as_ptr()).overlapped.Internal) };
        self.refusal.is_some() || status.load(Ordering::Acquire) as i32 != STATUS_PENDING
    }

    /// True if somebody else has cancelled it.
    pub(crate) fn is_cancelled_by_others(&self, ended: &Ended) -> bool {
        ended.code == WSA_OPERATION_ABORTED && !self.is_cancelled
    }

    /// What it has come to; it must be done, and its socket open.
    pub(crate) fn end(&mut self) -> Ended {
        assert!(self.is_done(), "an operation is harvested when it is done");
        let (mut count, mut flags) = (0, 0);
        let block = self.block.as_ptr();
        let code = self.refusal.unwrap_or_else(|| {
            // SAFETY: WSAGetOverlappedResult(3) — the block is in place and the operation has ended.
            let is_good = unsafe {
                WSAGetOverlappedResult(self.socket, &raw const (*block).overlapped, &mut count, 0, &mut flags)
            };
            // SAFETY: WSAGetLastError(3) — asks for a number of this thread.
            if is_good != 0 { 0 } else { unsafe { WSAGetLastError() } }
        });
        let mut from = [0; ADDRESS_BYTES];
        // SAFETY: WSARecvFrom(3) — the operation has ended: the block is ours alone. A storage is longer than an address.
        let bytes = unsafe {
            std::ptr::copy_nonoverlapping((&raw const (*block).address).cast(), from.as_mut_ptr(), ADDRESS_BYTES);
            std::mem::take(&mut (*block).bytes)
        };
        Ended { code, count, bytes, from }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        self.cancel();
        if self.wait() {
            // SAFETY: OWN-1 — leaked in `new`, freed once, and the system has let go.
            drop(unsafe { Box::from_raw(self.block.as_ptr()) });
        }
    }
}

/// True if it is a socket of datagrams.
pub(crate) fn is_datagram(socket: SOCKET) -> bool {
    let (mut kind, mut length) = (0i32, size_of::<i32>() as i32);
    // SAFETY: getsockopt(3) — the value is an integer of four bytes.
    let returned = unsafe { getsockopt(socket, SOL_SOCKET, SO_TYPE, (&raw mut kind).cast(), &mut length) };
    returned == 0 && kind == SOCK_DGRAM
}

/// The system's number of this thread, never 0.
pub(crate) fn thread_number() -> u32 {
    // SAFETY: GetCurrentThreadId(3) — has no arguments.
    unsafe { GetCurrentThreadId() }
}
