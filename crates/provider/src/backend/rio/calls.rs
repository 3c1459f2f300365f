//! The calls of registered I/O: the table of functions, the completion queue, request queues.
//!
//! 1. `open` makes the completion queue, whose notification is a packet at the driver's port.
//! 2. `reserve` takes room for a socket's quotas and lets the queue grow for it, before the socket is taken.
//! 3. `create` makes a socket's request queue; `post` puts deferred requests into it, `commit` starts them.
//! 4. `dequeue` takes out what has ended; only then has the system let go of a request's slices.
//! 5. `closing` is called right before a socket is closed, which ends its request queue. `release` gives the room back when
//!    the last of its completions has been dequeued.
//!
//! On drop: the completion queue is closed if nothing is outstanding; else it is given up for good.
#![allow(unsafe_code)]

use std::ptr::{from_ref, null};

use windows_sys::Win32::Networking::WinSock::{
    RIO_BUF, RIO_CORRUPT_CQ, RIO_CQ, RIO_IOCP_COMPLETION, RIO_MAX_CQ_SIZE, RIO_MSG_COMMIT_ONLY, RIO_MSG_DEFER,
    RIO_NOTIFICATION_COMPLETION, RIO_NOTIFICATION_COMPLETION_0, RIO_NOTIFICATION_COMPLETION_0_1, RIO_RQ, RIORESULT,
    SOCKET, WSAEALREADY,
};
use windows_sys::core::BOOL;

use crate::backend::iocp::blocks::last_error;
use crate::backend::iocp::port::{Port, key};
use crate::base::error::{Error, ErrorKind};
use crate::platform::RawHandle;
use crate::platform::rio::RioFunctions;

/// A direction of a request queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Receive = 0,
    Send = 1,
}

/// The completion queue of a driver, and the calls on request queues that end there.
pub(super) struct Queues {
    functions: RioFunctions,
    completions: RIO_CQ,
    size: u32,
    size_max: u32,
    /// The quotas of all request queues together.
    reserved: u32,
    /// Posted, and their completions not dequeued.
    outstanding: usize,
    is_armed: bool,
}

/// Completions taken out per call.
pub(super) const RESULTS_PER_CALL: usize = 256;

impl Queues {
    /// A completion queue of `size` entries, never to have more than `size_max`.
    pub(super) fn open(functions: RioFunctions, port: &Port, size: u32, size_max: u32) -> Result<Self, Error> {
        let size_max = size_max.clamp(1, RIO_MAX_CQ_SIZE);
        let size = size.clamp(1, size_max);
        let notification = RIO_NOTIFICATION_COMPLETION {
            Type: RIO_IOCP_COMPLETION,
            Anonymous: RIO_NOTIFICATION_COMPLETION_0 {
                Iocp: RIO_NOTIFICATION_COMPLETION_0_1 {
                    IocpHandle: port.raw(),
                    CompletionKey: key::RIO as *mut _,
                    Overlapped: std::ptr::null_mut(),
                },
            },
        };
        let create = functions.table.RIOCreateCompletionQueue.ok_or(Error::new(ErrorKind::BackendUnavailable))?;
        // SAFETY: RIOCreateCompletionQueue(3) — the structure is read during the call; the port outlives the queue.
        let completions = unsafe { create(size, &raw const notification) };
        if completions == 0 {
            return Err(Error::from_os(last_error()));
        }
        let (reserved, outstanding, is_armed) = (0, 0, false);
        Ok(Queues { functions, completions, size, size_max, reserved, outstanding, is_armed })
    }

    /// Takes room for so many requests at once. Errors: `Busy` if the queue cannot grow for it.
    //= LIMIT-1
    pub(super) fn reserve(&mut self, quotas: [u32; 2]) -> Result<(), Error> {
        let wanted = u64::from(self.reserved) + u64::from(quotas[0]) + u64::from(quotas[1]);
        if wanted > u64::from(self.size_max) {
            return Err(Error::new(ErrorKind::Busy));
        }
        let wanted = wanted as u32;
        if wanted > self.size {
            let grown = self.size.saturating_add(self.size / 2).max(wanted).min(self.size_max);
            let resize = self.functions.table.RIOResizeCompletionQueue;
            // SAFETY: RIOResizeCompletionQueue(3) — our own queue, on its owner's thread (THREAD-1).
            let is_resized = resize.is_some_and(|resize| unsafe { resize(self.completions, grown) } != 0);
            if !is_resized {
                return Err(Error::new(ErrorKind::Busy));
            }
            self.size = grown;
        }
        self.reserved = wanted;
        Ok(())
    }

    /// Gives back what was taken by [`reserve`](Self::reserve): nothing of that socket is outstanding.
    pub(super) fn release(&mut self, quotas: [u32; 2]) {
        self.reserved -= quotas[0] + quotas[1];
    }

    /// The request queue of a socket; what ends there carries `context`.
    pub(super) fn create(&self, handle: RawHandle, quotas: [u32; 2], context: u64) -> Result<RIO_RQ, Error> {
        let create = self.functions.table.RIOCreateRequestQueue.ok_or(Error::new(ErrorKind::BackendUnavailable))?;
        let (socket, completions, context) = (handle as SOCKET, self.completions, context as *const _);
        // SAFETY: RIOCreateRequestQueue(3) — an open socket and our own completion queue, in which the quotas are reserved.
        let queue = unsafe { create(socket, quotas[0], 1, quotas[1], 1, completions, completions, context) };
        if queue == 0 { Err(Error::from_os(last_error())) } else { Ok(queue) }
    }

    /// Puts a deferred request into a queue. The slices stay in place until its completion is dequeued: they are lent, see
    /// `memory.rs`.
    pub(super) fn post(
        &mut self,
        queue: RIO_RQ,
        side: Side,
        data: RIO_BUF,
        address: Option<RIO_BUF>,
        context: u64,
    ) -> Result<(), Error> {
        let table = &self.functions.table;
        let (data, context, none) = (&raw const data, context as *const _, null());
        let address = address.as_ref().map(from_ref);
        // SAFETY: RIOSend(3), RIOReceive(3), RIOSendEx(3), RIOReceiveEx(3) — the descriptions are read during the call; OWN-1
        // — what they describe is lent, so it stays in place and nobody looks there until the completion is dequeued.
        let posted: BOOL = unsafe {
            match (side, address) {
                (Side::Receive, None) => {
                    call(table.RIOReceive, |receive| receive(queue, data, 1, RIO_MSG_DEFER, context))
                }
                (Side::Send, None) => call(table.RIOSend, |send| send(queue, data, 1, RIO_MSG_DEFER, context)),
                (Side::Receive, Some(from)) => call(table.RIOReceiveEx, |receive| {
                    receive(queue, data, 1, none, from, none, none, RIO_MSG_DEFER, context)
                }),
                (Side::Send, Some(to)) => {
                    call(table.RIOSendEx, |send| send(queue, data, 1, none, to, none, none, RIO_MSG_DEFER, context))
                }
            }
        };
        if posted == 0 {
            return Err(Error::from_os(last_error()));
        }
        self.outstanding += 1;
        Ok(())
    }

    /// Starts what was deferred in this direction.
    pub(super) fn commit(&self, queue: RIO_RQ, side: Side) {
        let table = &self.functions.table;
        // SAFETY: RIOSend(3), RIOReceive(3) — a commit has neither buffers nor a context. An error means that the connection is
        // gone: then the requests end with that.
        let _: BOOL = unsafe {
            match side {
                Side::Receive => {
                    call(table.RIOReceive, |receive| receive(queue, null(), 0, RIO_MSG_COMMIT_ONLY, null()))
                }
                Side::Send => call(table.RIOSend, |send| send(queue, null(), 0, RIO_MSG_COMMIT_ONLY, null())),
            }
        };
    }

    /// Puts what has ended in place of what was in `results`, as many as its capacity. Errors: `QueueCorrupt`, which nothing
    /// mends.
    pub(super) fn dequeue(&mut self, results: &mut Vec<RIORESULT>) -> Result<(), Error> {
        results.clear();
        let room = results.capacity() as u32;
        let dequeue = self.functions.table.RIODequeueCompletion;
        // SAFETY: RIODequeueCompletion(3) — the array has `room` places; our own queue, on its owner's thread (THREAD-1).
        let count = dequeue.map_or(0, |dequeue| unsafe { dequeue(self.completions, results.as_mut_ptr(), room) });
        if count == RIO_CORRUPT_CQ || count > room {
            return Err(Error::new(ErrorKind::QueueCorrupt));
        }
        // SAFETY: RIODequeueCompletion(3) — it has filled `count` places, at most `room`.
        unsafe { results.set_len(count as usize) };
        self.outstanding -= count as usize;
        Ok(())
    }

    /// Asks for a packet at the port as soon as something has ended, unless one is on its way.
    pub(super) fn arm(&mut self) -> Result<(), Error> {
        if self.is_armed {
            return Ok(());
        }
        let notify = self.functions.table.RIONotify;
        // SAFETY: RIONotify(3) — our own queue, on its owner's thread (THREAD-1).
        let code = notify.map_or(0, |notify| unsafe { notify(self.completions) });
        // Not a truth value: 0 is success.
        self.is_armed = code == 0 || code == WSAEALREADY;
        if self.is_armed { Ok(()) } else { Err(Error::from_os(code)) }
    }

    /// The packet has come.
    pub(super) fn disarmed(&mut self) {
        self.is_armed = false;
    }

    /// A socket is about to be closed.
    pub(super) fn closing(&self, handle: RawHandle) {
        if let Some(hooks) = self.functions.hooks {
            (hooks.socket_closing)(handle as usize);
        }
    }

    /// False if it is known that a socket which others have made cannot have a request queue.
    pub(super) fn may_have_queue(&self, handle: RawHandle) -> bool {
        self.functions.hooks.is_none_or(|hooks| (hooks.is_registered)(handle as usize))
    }

    /// Requests whose completions have not been dequeued.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }
}

impl Drop for Queues {
    //= DROP-1
    fn drop(&mut self) {
        if let (0, Some(close)) = (self.outstanding, self.functions.table.RIOCloseCompletionQueue) {
            // SAFETY: RIOCloseCompletionQueue(3) — our own queue, closed once, and nothing is outstanding.
            unsafe { close(self.completions) };
        }
    }
}

/// Calls a function of the table; one that is missing refuses.
fn call<F>(function: Option<F>, call: impl FnOnce(F) -> BOOL) -> BOOL {
    function.map_or(0, call)
}

/// What the status of a completion says: a code of Winsock, or of the kernel.
pub(super) fn status(result: &RIORESULT) -> Result<u32, Error> {
    use windows_sys::Win32::Foundation::RtlNtStatusToDosError;
    match result.Status {
        0 => Ok(result.BytesTransferred),
        code @ 1.. => Err(Error::from_os(code)),
        // SAFETY: RtlNtStatusToDosError(3) — translates a number.
        status => Err(Error::from_os(unsafe { RtlNtStatusToDosError(status) } as i32)),
    }
}
