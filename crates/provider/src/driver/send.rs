//! The send side of a stream: a FIFO of which at most one batch, from the head on, is in the kernel.
//!
//! 1. `queue` links an operation in and marks the socket dirty.
//! 2. At the turn, `pump_next` makes one request of as many queued sends as one `writev` takes.
//! 3. The request ends: bytes are credited to the operations in order, those that are whole complete, the rest is handed
//!    over again, this time waiting for room.

use crate::base::capacity;
use crate::base::error::{Error, ErrorKind, Refused};
use crate::base::id::{OperationId, SocketId};
use crate::base::index::{OperationIndex, SocketIndex};
use crate::base::setting::Setting;
use crate::contract::stats::LatencyKind;
use crate::contract::{Action, GATHER_PIECES_MAX};
use crate::driver::backlog::{Backlogs, has_room, refused};
use crate::driver::completion::Outcome;
use crate::driver::core::{After, Core};
use crate::driver::gather::GatherLists;
use crate::driver::operation::{Payload, REQUEST_BYTES_MAX};
use crate::driver::queued::{Body, Queued};
use crate::driver::socket::{Batch, Entry, GatherIndex, Owed, Role, Stream, WriteSide};
use crate::memory::{Span, SpanList};

/// Most bytes in one request. Enough to fill a socket's buffer at once, and a batch ends in bounded time.
const BATCH_BYTES_MAX: usize = 256 * 1024;

/// The send sides of all streams.
pub(super) struct Sends {
    /// Sockets with sends to hand over.
    dirty: Vec<SocketIndex>,
    gathers: GatherLists,
}

impl Sends {
    /// Send sides with places for so many dirty sockets at first. Errors: `OutOfMemory`.
    pub(super) fn new(dirty_first: usize) -> Result<Self, Error> {
        let dirty = capacity::vector(dirty_first, Setting::SocketsMax)?;
        Ok(Sends { dirty, gathers: GatherLists::default() })
    }

    /// Queues a send on a socket that is no datagram socket.
    pub(super) fn queue_send(
        &mut self,
        core: &mut Core,
        backlogs: &mut Backlogs,
        index: SocketIndex,
        payload: Payload,
        is_quiet: bool,
        token: u64,
    ) -> Result<OperationId, Refused<Payload>> {
        let backlog = match &core.sockets[index].role {
            Role::Stream(Stream { sending, .. }) if sending.write == WriteSide::Open => &sending.backlog,
            role => {
                let kind = refusal(role);
                return Err(refused(core, kind, payload));
            }
        };
        let Some(length) = payload.sendable_length() else {
            return Err(refused(core, ErrorKind::InvalidInput, payload));
        };
        if !has_room(core, backlog, length) {
            backlogs.owe_writable(core, index, Owed::Room, token);
            return Err(refused(core, ErrorKind::Busy, payload));
        }
        let mut operation = Queued::new(token, Some(index), Body::Send(payload));
        operation.is_quiet = is_quiet;
        operation.length = length;
        Ok(self.link_send(core, index, operation))
    }

    /// Queues the end of the write side, after `check_operations`.
    //= HALF-1
    pub(super) fn queue_shutdown(&mut self, core: &mut Core, index: SocketIndex, token: u64) -> OperationId {
        core.sockets[index].sending_mut().write = WriteSide::Shut;
        self.link_send(core, index, Queued::new(token, Some(index), Body::ShutdownWrite))
    }

    /// Hands over the sends of all sockets that have any, up to the next one of which none is left to be waited for, which is
    /// returned: something may follow from that.
    pub(super) fn pump_dirty(&mut self, core: &mut Core) -> Option<SocketIndex> {
        while let Some(index) = self.dirty.pop() {
            if core.sockets.get_mut(index).is_some_and(take_dirty) && self.pump_socket(core, index) {
                return Some(index);
            }
        }
        None
    }

    /// The batch of this head has ended with so many bytes out, and it is not that `end_plain` has done all.
    //= SEND-1
    pub(super) fn on_sent(&mut self, core: &mut Core, head: OperationIndex, bytes: usize) -> After {
        let (index, batch) = self.end_batch(core, head);
        let Batch::InKernel { bytes: batch_bytes, is_cancelling, .. } = batch else {
            unreachable!("it was in the kernel")
        };
        core.counters.totals.sent_bytes += bytes as u64;
        let was_short = bytes < batch_bytes as usize;
        credit(core, index, bytes as u32);
        if core.sockets[index].is_aborting() {
            fail_sends(core, index, Error::new(ErrorKind::Cancelled));
        } else if is_cancelling {
            sweep_cancelled(core, index);
        }
        core.sockets[index].sending_mut().batch = Batch::None { is_dirty: false, was_short };
        self.go_on_sending(core, index)
    }

    pub(super) fn on_send_failed(&mut self, core: &mut Core, head: OperationIndex, error: Error) -> After {
        let (index, batch) = self.end_batch(core, head);
        let entry = &mut core.sockets[index];
        let is_abort = entry.is_aborting();
        entry.note_reset(error);
        let was_cancelled = error.kind() == ErrorKind::Cancelled && !is_abort;
        // An abort resets the connection itself: that is what its sends would report.
        let error = if is_abort { Error::new(ErrorKind::Cancelled) } else { error };
        if was_cancelled && matches!(batch, Batch::InKernel { is_cancelling: true, .. }) {
            sweep_cancelled(core, index);
        } else {
            fail_sends(core, index, error);
        }
        self.go_on_sending(core, index)
    }

    /// Gives up the lists that the kernel may still look at, never to be freed.
    pub(super) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.gathers));
    }

    #[inline(always)]
    fn link_send(&mut self, core: &mut Core, index: SocketIndex, operation: Queued) -> OperationId {
        let length = operation.length;
        let operation = core.insert(operation);
        let sending = core.sockets[index].sending_mut();
        sending.backlog.bytes += length;
        sending.backlog.count += 1;
        match sending.tail.replace(operation) {
            None => sending.head = Some(operation),
            Some(tail) => core.operations[tail].next = Some(operation),
        }
        self.mark_dirty(&mut sending.batch, index);
        core.id_of(operation)
    }

    fn mark_dirty(&mut self, batch: &mut Batch, index: SocketIndex) {
        if let Batch::None { is_dirty, .. } = batch
            && !std::mem::replace(is_dirty, true)
        {
            self.dirty.push(index);
        }
    }

    /// True if nothing is queued any more.
    fn pump_socket(&mut self, core: &mut Core, index: SocketIndex) -> bool {
        while let Some(head) = core.sockets[index].sending().head {
            if matches!(core.operations[head].body, Body::ShutdownWrite) {
                shut(core, index, head);
            } else {
                self.hand_over_batch(core, index, head);
                return false;
            }
        }
        true
    }

    /// One request for as many queued sends as it takes. Exactly one is in the kernel per socket: two could reorder.
    //= ORDER-1
    fn hand_over_batch(&mut self, core: &mut Core, index: SocketIndex, head: OperationIndex) {
        let operation = &core.operations[head];
        let (alone, done) = (operation.next.is_none(), operation.done as usize);
        let contiguous = if let Body::Send(payload) = &operation.body { payload.contiguous() } else { None };
        if let (true, Some(bytes)) = (alone, contiguous) {
            let left = &bytes[done..];
            let span = Span::of(&left[..left.len().min(REQUEST_BYTES_MAX)]);
            let is_lazy = operation.is_quiet && span.length == left.len();
            let batch = Batch::InKernel { count: 1, bytes: span.length as u32, gather: None, is_cancelling: false };
            let mode = core.sockets[index].start_batch(batch, is_lazy);
            return core.hand_over(head, Action::Send(span, mode));
        }
        let gather = self.gathers.take();
        let (batch, is_lazy) = self.gather(core, gather, head);
        let Batch::InKernel { bytes, .. } = batch else { unreachable!("it is about to be") };
        let list = SpanList::of(self.gathers.list(gather), bytes as usize);
        let mode = core.sockets[index].start_batch(batch, is_lazy);
        core.hand_over(head, Action::SendList(list, mode));
    }

    /// Lists the pieces of the sends from `head` on; returns which batch they are, and whether they are all that is queued,
    /// whole and quiet.
    fn gather(&mut self, core: &Core, gather: GatherIndex, head: OperationIndex) -> (Batch, bool) {
        let spans = self.gathers.list(gather);
        let (mut next, mut count, mut bytes, mut is_lazy) = (Some(head), 0, 0, true);
        while let Some(at) = next
            && spans.len() < GATHER_PIECES_MAX
            && bytes < BATCH_BYTES_MAX
        {
            let operation = &core.operations[at];
            let Body::Send(payload) = &operation.body else { break };
            let taken = payload.append_spans(operation.done as usize, spans, REQUEST_BYTES_MAX - bytes);
            bytes += taken;
            count += 1;
            is_lazy &= operation.is_quiet && taken == (operation.length - operation.done) as usize;
            next = operation.next;
        }
        let batch = Batch::InKernel { count, bytes: bytes as u32, gather: Some(gather), is_cancelling: false };
        (batch, is_lazy && next.is_none())
    }

    fn go_on_sending(&mut self, core: &mut Core, index: SocketIndex) -> After {
        let sending = core.sockets[index].sending_mut();
        if sending.head.is_some() {
            self.mark_dirty(&mut sending.batch, index);
        }
        After::Sent(index)
    }

    /// The kernel has let go of the batch that this head began: which it was.
    fn end_batch(&mut self, core: &mut Core, head: OperationIndex) -> (SocketIndex, Batch) {
        core.taken_back(head);
        let index = core.operations[head].socket();
        let batch = std::mem::take(&mut core.sockets[index].sending_mut().batch);
        if let Batch::InKernel { gather: Some(gather), .. } = batch {
            self.gathers.give_back(gather);
        }
        (index, batch)
    }
}

/// The socket of which the write side is open. Errors: why nothing can be sent on it.
pub(super) fn check_send(core: &Core, socket: SocketId) -> Result<SocketIndex, Error> {
    let index = core.resolve(socket)?;
    match &core.sockets[index].role {
        Role::Stream(stream) if stream.sending.write == WriteSide::Open => Ok(index),
        role => Err(Error::new(refusal(role))),
    }
}

/// Error of a send on a socket that is no stream with an open write side.
fn refusal(role: &Role) -> ErrorKind {
    match role {
        Role::Stream(_) => ErrorKind::WriteClosed,
        Role::Connecting(_) => ErrorKind::NotConnected,
        Role::Listener(_) | Role::Datagram(_) => ErrorKind::InvalidInput,
    }
}

/// A send that is only queued ends at once; one that is in the kernel ends with the kernel's answer.
pub(super) fn cancel_send(core: &mut Core, operation: OperationIndex) {
    let index = core.operations[operation].socket();
    let (mut previous, mut next, mut position) = (None, core.sockets[index].sending().head, 0u32);
    while let Some(at) = next.filter(|at| *at != operation) {
        (previous, next, position) = (next, core.operations[at].next, position + 1);
    }
    if position >= core.sockets[index].sending().batch.count() {
        return drop_cancelled(core, index, previous, operation);
    }
    core.operations[operation].is_cancelled = true;
    let sending = core.sockets[index].sending_mut();
    if let (Some(head), Batch::InKernel { is_cancelling, .. }) = (sending.head, &mut sending.batch)
        && !std::mem::replace(is_cancelling, true)
    {
        core.request_cancel(head);
    }
}

/// Ends all queued sends in order with an error. None may be in the kernel.
pub(super) fn fail_sends(core: &mut Core, index: SocketIndex, error: Error) {
    while let Some(head) = core.sockets[index].sending().head {
        unlink_send(core, index, None, head);
        core.fail(head, error);
    }
}

/// Cancels what is queued, and asks the kernel for what it has.
pub(super) fn abort_sends(core: &mut Core, index: SocketIndex) {
    let entry = &mut core.sockets[index];
    match (entry.sending().batch, entry.sending().head) {
        (Batch::InKernel { .. }, Some(head)) => {
            // Bytes that the network still reads without a copy are let go of by a reset only.
            entry.endpoint.reset();
            core.request_cancel(head);
        }
        _ => fail_sends(core, index, Error::new(ErrorKind::Cancelled)),
    }
}

/// The common case at the price of the common case: a quiet send, all that its socket had to send, has gone out whole
/// and nothing else waits for it. False if it is not that.
#[inline]
pub(super) fn end_plain(core: &mut Core, head: OperationIndex, bytes: usize) -> bool {
    let operation = &core.operations[head];
    let entry = &mut core.sockets[operation.socket()];
    let is_open = !entry.is_closing();
    let Role::Stream(Stream { sending, .. }) = &mut entry.role else { return false };
    let is_alone = operation.is_quiet && is_open && sending.is_plain();
    let is_whole = bytes == (operation.length - operation.done) as usize;
    if !is_alone || !is_whole {
        return false;
    }
    sending.forget_last();
    let waited_ns = core.now_ns.saturating_sub(operation.submitted_ns);
    core.clear_armed(head);
    core.counters.totals.sent_bytes += bytes as u64;
    core.counters.latency(LatencyKind::Send, waited_ns);
    true
}

fn shut(core: &mut Core, index: SocketIndex, head: OperationIndex) {
    let shut = core.sockets[index].endpoint.shut_write();
    unlink_send(core, index, None, head);
    match shut {
        Ok(()) => core.complete(head, Outcome::WriteShut),
        Err(error) => core.fail(head, error),
    }
}

/// Spreads sent bytes over the queue; what is whole completes.
fn credit(core: &mut Core, index: SocketIndex, mut bytes: u32) {
    while let Some(head) = core.sockets[index].sending().head.filter(|_| bytes > 0) {
        let operation = &mut core.operations[head];
        let left = operation.length - operation.done;
        let part = left.min(bytes);
        operation.done += part;
        bytes -= part;
        if part == left {
            let payload = operation.take_payload().expect("a send carries a payload");
            let waited_ns = core.now_ns.saturating_sub(operation.submitted_ns);
            core.counters.latency(LatencyKind::Send, waited_ns);
            unlink_send(core, index, None, head);
            core.complete(head, Outcome::Sent(payload));
        }
    }
}

fn unlink_send(core: &mut Core, index: SocketIndex, previous: Option<OperationIndex>, operation: OperationIndex) {
    let Queued { next, length, .. } = core.operations[operation];
    let sending = core.sockets[index].sending_mut();
    sending.backlog.bytes -= length;
    sending.backlog.count -= 1;
    if sending.tail == Some(operation) {
        sending.tail = previous;
    }
    match previous {
        None => sending.head = next,
        Some(previous) => core.operations[previous].next = next,
    }
}

fn drop_cancelled(core: &mut Core, index: SocketIndex, previous: Option<OperationIndex>, operation: OperationIndex) {
    if matches!(core.operations[operation].body, Body::ShutdownWrite) {
        core.sockets[index].sending_mut().write = WriteSide::Open;
    }
    unlink_send(core, index, previous, operation);
    core.fail(operation, Error::new(ErrorKind::Cancelled));
}

fn sweep_cancelled(core: &mut Core, index: SocketIndex) {
    let (mut previous, mut next) = (None, core.sockets[index].sending().head);
    while let Some(at) = next {
        next = core.operations[at].next;
        if core.operations[at].is_cancelled {
            drop_cancelled(core, index, previous, at);
        } else {
            previous = Some(at);
        }
    }
}

/// True if the socket is in the list of those with sends to hand over, from which it has just been taken.
fn take_dirty(entry: &mut Entry) -> bool {
    let Role::Stream(stream) = &mut entry.role else { return false };
    match &mut stream.sending.batch {
        Batch::None { is_dirty, .. } => std::mem::take(is_dirty),
        Batch::InKernel { .. } => false,
    }
}
