//! Safe calls of the double for its tests, as close to the functions as can be.
#![allow(unsafe_code)]
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::windows::io::{AsRawSocket, RawSocket};
use std::ptr::{null, null_mut};
use std::time::Duration;

use windows_sys::Win32::Foundation::{CloseHandle, HANDLE, INVALID_HANDLE_VALUE};
use windows_sys::Win32::Networking::WinSock::{
    RIO_BUF, RIO_EXTENSION_FUNCTION_TABLE, RIO_IOCP_COMPLETION, RIO_MSG_COMMIT_ONLY, RIO_NOTIFICATION_COMPLETION,
    RIO_NOTIFICATION_COMPLETION_0, RIO_NOTIFICATION_COMPLETION_0_1, RIORESULT, WSA_FLAG_OVERLAPPED,
    WSA_FLAG_REGISTERED_IO, WSAGetLastError,
};
use windows_sys::Win32::System::IO::{CancelIoEx, CreateIoCompletionPort, GetQueuedCompletionStatus};

pub(crate) const PAGE_BYTES: usize = 4096;
/// Long enough for any machine; a test that waits longer has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

#[repr(align(4096))]
#[derive(Clone, Copy)]
struct Page([u8; PAGE_BYTES]);

/// Page-aligned memory that stays in place.
pub(crate) struct Pages(Box<[Page]>);

impl Pages {
    pub(crate) fn new(count: usize) -> Self {
        Pages(vec![Page([0; PAGE_BYTES]); count].into())
    }

    pub(crate) fn page(&self, number: usize) -> &[u8] {
        &self.0[number].0
    }

    pub(crate) fn page_mut(&mut self, number: usize) -> &mut [u8] {
        &mut self.0[number].0
    }
}

/// A completion port.
pub(crate) struct Port(usize);

impl Port {
    pub(crate) fn new() -> Self {
        // SAFETY: CreateIoCompletionPort(3) — no file: a new port.
        let handle = unsafe { CreateIoCompletionPort(INVALID_HANDLE_VALUE, null_mut(), 0, 1) };
        assert!(!handle.is_null(), "a port");
        Port(handle as usize)
    }

    /// Packets for the socket's overlapped operations come here.
    pub(crate) fn associate(&self, socket: RawSocket) {
        // SAFETY: CreateIoCompletionPort(3) — both handles are open.
        let handle = unsafe { CreateIoCompletionPort(socket as HANDLE, self.0 as HANDLE, 1, 0) };
        assert!(!handle.is_null(), "associated");
    }

    /// The key of the next packet; `None` if none comes in time.
    pub(crate) fn wait(&self, timeout: Duration) -> Option<usize> {
        let (mut count, mut key, mut overlapped) = (0, 0, null_mut());
        let milliseconds = timeout.as_millis() as u32;
        // SAFETY: GetQueuedCompletionStatus(3) — the port is open and the places are ours.
        let found =
            unsafe { GetQueuedCompletionStatus(self.0 as HANDLE, &mut count, &mut key, &mut overlapped, milliseconds) };
        (found != 0).then_some(key)
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // SAFETY: CloseHandle(3) — opened by `new`, closed once.
        unsafe { CloseHandle(self.0 as HANDLE) };
    }
}

/// The functions of the table, with results in place of last errors.
pub(crate) struct Rio(RIO_EXTENSION_FUNCTION_TABLE);

pub(crate) const RECEIVE: usize = 0;
pub(crate) const SEND: usize = 1;

impl Rio {
    pub(crate) fn new() -> Self {
        Rio(rio_double::functions())
    }

    pub(crate) fn register(&self, pages: &Pages) -> isize {
        self.register_part(pages, 0, pages.0.len() * PAGE_BYTES)
    }

    pub(crate) fn register_part(&self, pages: &Pages, offset: usize, length: usize) -> isize {
        // SAFETY: RIORegisterBuffer(3) — the double only looks at numbers; the pages outlive the requests of the test.
        unsafe { self.0.RIORegisterBuffer.unwrap()(pages.0.as_ptr().cast::<u8>().wrapping_add(offset), length as u32) }
    }

    pub(crate) fn deregister(&self, buffer: isize) {
        // SAFETY: RIODeregisterBuffer(3) — any number is taken.
        unsafe { self.0.RIODeregisterBuffer.unwrap()(buffer) }
    }

    pub(crate) fn completions(&self, size: u32, port: Option<(&Port, usize)>) -> isize {
        let notification = port.map(|(port, key)| RIO_NOTIFICATION_COMPLETION {
            Type: RIO_IOCP_COMPLETION,
            Anonymous: RIO_NOTIFICATION_COMPLETION_0 {
                Iocp: RIO_NOTIFICATION_COMPLETION_0_1 {
                    IocpHandle: port.0 as HANDLE,
                    CompletionKey: key as *mut _,
                    Overlapped: null_mut(),
                },
            },
        });
        let notification = notification.as_ref().map_or(null(), std::ptr::from_ref);
        // SAFETY: RIOCreateCompletionQueue(3) — null or a structure.
        unsafe { self.0.RIOCreateCompletionQueue.unwrap()(size, notification) }
    }

    pub(crate) fn resize_completions(&self, queue: isize, size: u32) -> Result<(), i32> {
        // SAFETY: RIOResizeCompletionQueue(3) — any numbers are taken.
        result(unsafe { self.0.RIOResizeCompletionQueue.unwrap()(queue, size) })
    }

    pub(crate) fn close_completions(&self, queue: isize) {
        // SAFETY: RIOCloseCompletionQueue(3) — any number is taken.
        unsafe { self.0.RIOCloseCompletionQueue.unwrap()(queue) }
    }

    pub(crate) fn requests(&self, socket: &impl AsRawSocket, quotas: [u32; 2], queue: isize) -> Result<isize, i32> {
        let (socket, context) = (socket.as_raw_socket() as usize, 77 as *const _);
        // SAFETY: RIOCreateRequestQueue(3) — any numbers are taken.
        let requests =
            unsafe { self.0.RIOCreateRequestQueue.unwrap()(socket, quotas[0], 1, quotas[1], 1, queue, queue, context) };
        if requests == 0 { Err(last_error()) } else { Ok(requests) }
    }

    pub(crate) fn post(
        &self,
        side: usize,
        queue: isize,
        buffer: RIO_BUF,
        flags: u32,
        context: usize,
    ) -> Result<(), i32> {
        let function = if side == RECEIVE { self.0.RIOReceive } else { self.0.RIOSend };
        // SAFETY: RIOSend(3), RIOReceive(3) — the buffer is there during the call; its slice is checked by the double.
        result(unsafe { function.unwrap()(queue, &buffer, 1, flags, context as *const _) })
    }

    /// A request of two data buffers.
    pub(crate) fn post_pieces(&self, side: usize, queue: isize, pieces: &[RIO_BUF; 2]) -> Result<(), i32> {
        let function = if side == RECEIVE { self.0.RIOReceive } else { self.0.RIOSend };
        // SAFETY: RIOSend(3), RIOReceive(3) — as in `post`.
        result(unsafe { function.unwrap()(queue, pieces.as_ptr(), 2, 0, null()) })
    }

    pub(crate) fn post_datagram(&self, side: usize, queue: isize, data: RIO_BUF, address: RIO_BUF) -> Result<(), i32> {
        // SAFETY: RIOSendEx(3), RIOReceiveEx(3) — as in `post`.
        let posted = unsafe {
            if side == RECEIVE {
                let function = self.0.RIOReceiveEx.unwrap();
                function(queue, &data, 1, null(), &address, null(), null(), 0, null())
            } else {
                self.0.RIOSendEx.unwrap()(queue, &data, 1, null(), &address, null(), null(), 0, null())
            }
        };
        result(posted)
    }

    pub(crate) fn commit(&self, side: usize, queue: isize) -> Result<(), i32> {
        let function = if side == RECEIVE { self.0.RIOReceive } else { self.0.RIOSend };
        // SAFETY: RIOSend(3), RIOReceive(3) — a commit has no buffers.
        result(unsafe { function.unwrap()(queue, null(), 0, RIO_MSG_COMMIT_ONLY, null()) })
    }

    pub(crate) fn notify(&self, queue: isize) -> i32 {
        // SAFETY: RIONotify(3) — any number is taken.
        unsafe { self.0.RIONotify.unwrap()(queue) }
    }

    /// What has ended, at most 16; `Err` if the queue is corrupt.
    pub(crate) fn dequeue(&self, queue: isize) -> Result<Vec<RIORESULT>, u32> {
        let mut results = vec![RIORESULT::default(); 16];
        // SAFETY: RIODequeueCompletion(3) — the array has so many places.
        let count = unsafe { self.0.RIODequeueCompletion.unwrap()(queue, results.as_mut_ptr(), 16) };
        if count > 16 {
            return Err(count);
        }
        results.truncate(count as usize);
        Ok(results)
    }

    /// Asks to be told, waits for it, and takes all there is.
    pub(crate) fn wait(&self, queue: isize, port: &Port) -> Vec<RIORESULT> {
        assert_eq!(self.notify(queue), 0);
        port.wait(DEADLINE).expect("a notification");
        self.dequeue(queue).expect("a sound queue")
    }
}

fn result(truth: i32) -> Result<(), i32> {
    if truth == 0 { Err(last_error()) } else { Ok(()) }
}

fn last_error() -> i32 {
    // SAFETY: WSAGetLastError(3) — asks for a number of this thread.
    unsafe { WSAGetLastError() }
}

pub(crate) fn slice(buffer: isize, offset: usize, length: usize) -> RIO_BUF {
    RIO_BUF { BufferId: buffer, Offset: offset as u32, Length: length as u32 }
}

pub(crate) const FLAGS: u32 = WSA_FLAG_OVERLAPPED | WSA_FLAG_REGISTERED_IO;

/// A connection: the near end as the double wants it, made with these flags, and a plain far end.
pub(crate) fn pair(flags: u32) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    far.set_read_timeout(Some(DEADLINE)).unwrap();
    rio_double::socket_made(near.as_raw_socket() as usize, flags);
    (near, far)
}

pub(crate) fn datagrams() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    rio_double::socket_made(socket.as_raw_socket() as usize, FLAGS);
    socket
}

/// The one way to close.
pub(crate) fn close(socket: impl AsRawSocket) {
    rio_double::socket_closing(socket.as_raw_socket() as usize);
    drop(socket);
}

/// What nobody may do to a socket with a request queue.
pub(crate) fn cancel_all(socket: &impl AsRawSocket) {
    // SAFETY: CancelIoEx(3) — the handle is open.
    unsafe { CancelIoEx(socket.as_raw_socket() as HANDLE, null()) };
}
