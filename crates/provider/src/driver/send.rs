//! The send side of a socket: a FIFO of which at most one batch, from the head on, is in the kernel.
//!
//! 1. `queue_send` links an operation in and marks the socket dirty.
//! 2. At the turn, `pump_sends` makes one request of as many queued sends as one `writev` takes.
//! 3. The request ends: bytes are credited to the operations in order, those that are whole complete, the rest is handed
//!    over again, this time waiting for room.

use super::Driver;
use crate::base::error::{Error, ErrorKind, Refused};
use crate::base::id::{OperationId, SocketId};
use crate::base::index::{Index, OperationIndex, SocketIndex};
use crate::contract::GATHER_PIECES_MAX;
use crate::contract::stats::LatencyKind;
use crate::contract::{Action, Notice};
use crate::driver::completion::{Completion, Outcome};
use crate::driver::operation::{Payload, REQUEST_BYTES_MAX};
use crate::driver::queued::{Body, Queued};
use crate::driver::socket::{Backlog, Batch, Entry, GatherIndex, Owed, Role, Stream, WriteSide};
use crate::memory::{Span, SpanList};

/// Most bytes in one request. Enough to fill a socket's buffer at once, and a batch ends in bounded time.
const BATCH_BYTES_MAX: usize = 256 * 1024;

impl Driver {
    /// Ends the write side once everything queued before has been sent; receiving goes on.
    ///
    /// Errors: `Stale`, `InvalidInput` (a listener), `NotConnected`, `WriteClosed`, `Busy` (`operations_max`).
    //= HALF-1
    pub fn shutdown_write(&mut self, socket: SocketId, token: u64) -> Result<OperationId, Error> {
        let index = self.check_send(socket)?;
        self.core.check_operations()?;
        self.core.sockets[index].sending_mut().write = WriteSide::Shut;
        Ok(self.link_send(index, Queued::new(token, Some(index), Body::ShutdownWrite)))
    }

    /// Whether nothing of this socket's sends is queued or in the kernel. If not, a `Writable` completion with this token
    /// comes once all of them have ended, unless the socket closes first. At most one `Writable` is owed to a socket: the
    /// last token counts, and what this asks for also holds for a refused send's.
    ///
    /// A quiet send that the kernel takes at once has ended with the turn that hands it over.
    ///
    /// Errors: `Stale`, `InvalidInput` (no stream), `NotConnected`, `WriteClosed`.
    //= LIMIT-1
    pub fn writable(&mut self, socket: SocketId, token: u64) -> Result<bool, Error> {
        let index = self.check_send(socket)?;
        if self.core.sockets[index].sending().head.is_none() {
            return Ok(true);
        }
        self.owe_writable(index, Owed::Emptiness, token);
        Ok(false)
    }

    pub(super) fn queue_send(
        &mut self,
        socket: SocketId,
        payload: Payload,
        is_quiet: bool,
        token: u64,
    ) -> Result<OperationId, Refused<Payload>> {
        let index = match self.check_send(socket) {
            Ok(index) => index,
            Err(_) if self.is_datagram(socket) => {
                return self.queue_datagram(socket, None, payload, is_quiet, token);
            }
            Err(error) => return Err(self.refused(error.kind(), payload)),
        };
        let Some(length) = payload.sendable_length() else {
            return Err(self.refused(ErrorKind::InvalidInput, payload));
        };
        if !self.has_room(&self.core.sockets[index].sending().backlog, length) {
            self.owe_writable(index, Owed::Room, token);
            return Err(self.refused(ErrorKind::Busy, payload));
        }
        let mut operation = Queued::new(token, Some(index), Body::Send(payload));
        operation.is_quiet = is_quiet;
        operation.length = length;
        Ok(self.link_send(index, operation))
    }

    pub(super) fn refused(&mut self, kind: ErrorKind, payload: Payload) -> Refused<Payload> {
        self.core.counters.totals.refused += 1;
        Refused::new(kind, payload)
    }

    fn check_send(&self, socket: SocketId) -> Result<SocketIndex, Error> {
        let index = self.core.resolve(socket)?;
        let kind = match &self.core.sockets[index].role {
            Role::Stream(stream) if stream.sending.write == WriteSide::Open => return Ok(index),
            Role::Stream(_) => ErrorKind::WriteClosed,
            Role::Connecting(_) => ErrorKind::NotConnected,
            Role::Listener(_) | Role::Datagram(_) => ErrorKind::InvalidInput,
        };
        Err(Error::new(kind))
    }

    //= LIMIT-1
    pub(super) fn has_room(&self, backlog: &Backlog, length: u32) -> bool {
        // An empty queue takes one send of any size: otherwise a large message could never go.
        let fits =
            backlog.bytes.checked_add(length).is_some_and(|bytes| bytes <= self.core.config.send_queue_bytes_max);
        let has_bytes = fits || backlog.count == 0;
        has_bytes && backlog.count < self.core.config.send_queue_count_max && self.core.check_operations().is_ok()
    }

    /// From now on a `Writable` with this token is owed, for the strictest of the reasons given so far.
    pub(super) fn owe_writable(&mut self, index: SocketIndex, owed: Owed, token: u64) {
        let id = self.core.socket_id(index);
        let Some(backlog) = self.core.sockets[index].backlog_mut() else { return };
        backlog.writable_token = token;
        if backlog.owed == Owed::Nothing && backlog.count == 0 {
            self.crowded.push_back(id);
        }
        if backlog.owed != Owed::Emptiness {
            backlog.owed = owed;
        }
    }

    /// Sockets that were refused for want of an operation slot, while slots are free.
    pub(super) fn tell_crowded(&mut self) {
        while !self.crowded.is_empty() && self.core.check_operations().is_ok() {
            let id = self.crowded.pop_front().unwrap_or(SocketId::NONE);
            if let Ok(index) = self.core.resolve(id) {
                self.tell_writable(index);
            }
        }
    }

    pub(super) fn tell_writable(&mut self, index: SocketIndex) {
        let (bytes_max, count_max) = (self.core.config.send_queue_bytes_max, self.core.config.send_queue_count_max);
        let entry = &mut self.core.sockets[index];
        let is_closing = entry.is_closing();
        let Some(backlog) = entry.backlog_mut() else { return };
        let has_room = match backlog.owed {
            Owed::Nothing => false,
            Owed::Room => backlog.bytes <= bytes_max / 2 && backlog.count <= count_max / 2,
            Owed::Emptiness => backlog.count == 0,
        };
        if is_closing || !has_room {
            return;
        }
        backlog.owed = Owed::Nothing;
        let token = backlog.writable_token;
        let socket = self.core.socket_id(index);
        let (operation, outcome) = (OperationId::NONE, Outcome::Writable);
        self.core.push(Completion { token, operation, socket, more: false, outcome });
    }

    fn link_send(&mut self, index: SocketIndex, operation: Queued) -> OperationId {
        let length = operation.length;
        let operation = self.core.insert(operation);
        let sending = self.core.sockets[index].sending_mut();
        sending.backlog.bytes += length;
        match sending.tail.replace(operation) {
            None => sending.head = Some(operation),
            Some(tail) => self.core.operations[tail].next = Some(operation),
        }
        sending.backlog.count += 1;
        self.mark_dirty(index);
        self.core.operation_id(self.core.operations.key(operation))
    }

    pub(super) fn mark_dirty(&mut self, index: SocketIndex) {
        let batch = &mut self.core.sockets[index].sending_mut().batch;
        if let Batch::None { is_dirty, .. } = batch
            && !std::mem::replace(is_dirty, true)
        {
            self.dirty.push(index);
        }
    }

    pub(super) fn pump_dirty(&mut self) {
        while let Some(index) = self.dirty.pop() {
            if self.core.sockets.get_mut(index).is_some_and(take_dirty) {
                self.pump_sends(index);
            }
        }
    }

    fn pump_sends(&mut self, index: SocketIndex) {
        while let Some(head) = self.core.sockets[index].sending().head {
            if matches!(self.core.operations[head].body, Body::ShutdownWrite) {
                self.shut(index, head);
            } else {
                return self.hand_over_batch(index, head);
            }
        }
        self.after_sends(index);
    }

    fn shut(&mut self, index: SocketIndex, head: OperationIndex) {
        let shut = self.core.sockets[index].endpoint.shut_write();
        self.unlink_send(index, None, head);
        match shut {
            Ok(()) => self.core.complete(head, Outcome::WriteShut),
            Err(error) => self.core.fail(head, error),
        }
    }

    /// One request for as many queued sends as it takes. Exactly one is in the kernel per socket: two could reorder.
    //= ORDER-1
    fn hand_over_batch(&mut self, index: SocketIndex, head: OperationIndex) {
        self.batches += 1;
        let operation = &self.core.operations[head];
        let (alone, done) = (operation.next.is_none(), operation.done as usize);
        let contiguous = if let Body::Send(payload) = &operation.body { payload.contiguous() } else { None };
        if let (true, Some(bytes)) = (alone, contiguous) {
            let left = &bytes[done..];
            let span = Span::of(&left[..left.len().min(REQUEST_BYTES_MAX)]);
            let is_lazy = operation.is_quiet && span.length == left.len();
            let notice = self.start_batch(index, 1, span.length, None, is_lazy);
            return self.core.hand_over(head, Action::Send(span, notice));
        }
        let gather = self.gathers.take();
        let (count, bytes, is_lazy) = self.gather(gather, head);
        let list = SpanList::of(&self.gathers.lists[gather.number() as usize], bytes);
        let notice = self.start_batch(index, count, bytes, Some(gather), is_lazy);
        self.core.hand_over(head, Action::SendList(list, notice));
    }

    fn start_batch(
        &mut self,
        index: SocketIndex,
        count: u16,
        bytes: usize,
        gather: Option<GatherIndex>,
        is_lazy: bool,
    ) -> Notice {
        let entry = &mut self.core.sockets[index];
        let is_closing = entry.is_closing();
        let sending = entry.sending_mut();
        let was_short = matches!(sending.batch, Batch::None { was_short: true, .. });
        let waits = was_short || is_closing || sending.backlog.owed != Owed::Nothing;
        sending.batch = Batch::InKernel { count, bytes: bytes as u32, gather, is_cancelling: false };
        if is_lazy && !waits { Notice::Lazy } else { Notice::Prompt }
    }

    /// Lists the pieces of the sends from `head` on; returns how many sends and bytes they are, and whether they are all
    /// that is queued, whole and quiet.
    fn gather(&mut self, gather: GatherIndex, head: OperationIndex) -> (u16, usize, bool) {
        let spans = &mut self.gathers.lists[gather.number() as usize];
        let (mut next, mut count, mut bytes, mut is_lazy) = (Some(head), 0, 0, true);
        while let Some(at) = next
            && spans.len() < GATHER_PIECES_MAX
            && bytes < BATCH_BYTES_MAX
        {
            let operation = &self.core.operations[at];
            let Body::Send(payload) = &operation.body else { break };
            let taken = payload.append_spans(operation.done as usize, spans, REQUEST_BYTES_MAX - bytes);
            bytes += taken;
            count += 1;
            is_lazy &= operation.is_quiet && taken == (operation.length - operation.done) as usize;
            next = operation.next;
        }
        (count, bytes, is_lazy && next.is_none())
    }

    /// The batch of this head has ended with so many bytes out.
    //= SEND-1
    pub(super) fn on_sent(&mut self, head: OperationIndex, bytes: usize) {
        if self.end_plain(head, bytes) {
            return;
        }
        if matches!(self.core.operations[head].body, Body::SendDatagram(..)) {
            return self.on_datagram_sent(head, bytes);
        }
        let (index, batch) = self.end_batch(head);
        let Batch::InKernel { bytes: batch_bytes, is_cancelling, .. } = batch else {
            unreachable!("it was in the kernel")
        };
        self.core.counters.totals.sent_bytes += bytes as u64;
        let was_short = bytes < batch_bytes as usize;
        self.credit(index, bytes as u32);
        if self.core.sockets[index].is_aborting() {
            self.fail_sends(index, Error::new(ErrorKind::Cancelled));
        } else if is_cancelling {
            self.sweep_cancelled(index);
        }
        self.core.sockets[index].sending_mut().batch = Batch::None { is_dirty: false, was_short };
        self.go_on_sending(index);
    }

    /// The common case at the price of the common case: a quiet send, all that its socket had to send, has gone out whole
    /// and nothing else waits for it. False if it is not that.
    fn end_plain(&mut self, head: OperationIndex, bytes: usize) -> bool {
        let operation = &self.core.operations[head];
        let entry = &mut self.core.sockets[operation.socket()];
        let is_open = !entry.is_closing();
        let Role::Stream(Stream { sending, .. }) = &mut entry.role else { return false };
        let is_alone = operation.is_quiet && is_open && sending.is_plain();
        let is_whole = bytes == (operation.length - operation.done) as usize;
        if !is_alone || !is_whole {
            return false;
        }
        (sending.head, sending.tail, sending.batch) = (None, None, Batch::default());
        (sending.backlog.bytes, sending.backlog.count) = (0, 0);
        let waited_ns = self.core.now_ns.saturating_sub(operation.submitted_ns);
        self.core.operations.clear(head);
        self.core.user_operations -= 1;
        self.core.in_kernel -= 1;
        self.core.counters.totals.sent_bytes += bytes as u64;
        self.core.counters.latency(LatencyKind::Send, waited_ns);
        true
    }

    pub(super) fn on_send_failed(&mut self, head: OperationIndex, error: Error) {
        let (index, batch) = self.end_batch(head);
        let is_abort = self.core.sockets[index].is_aborting();
        self.note_reset(index, error);
        let was_cancelled = error.kind() == ErrorKind::Cancelled && !is_abort;
        // An abort resets the connection itself: that is what its sends would report.
        let error = if is_abort { Error::new(ErrorKind::Cancelled) } else { error };
        if was_cancelled && matches!(batch, Batch::InKernel { is_cancelling: true, .. }) {
            self.sweep_cancelled(index);
        } else {
            self.fail_sends(index, error);
        }
        self.go_on_sending(index);
    }

    fn go_on_sending(&mut self, index: SocketIndex) {
        if self.core.sockets[index].sending().head.is_none() {
            self.after_sends(index);
        } else {
            self.tell_writable(index);
            self.mark_dirty(index);
        }
    }

    /// The kernel has let go of the batch that this head began: which it was.
    fn end_batch(&mut self, head: OperationIndex) -> (SocketIndex, Batch) {
        self.core.taken_back(head);
        let index = self.core.operations[head].socket();
        let batch = std::mem::take(&mut self.core.sockets[index].sending_mut().batch);
        if let Batch::InKernel { gather: Some(gather), .. } = batch {
            self.gathers.give_back(gather);
        }
        (index, batch)
    }

    /// Spreads sent bytes over the queue; what is whole completes.
    fn credit(&mut self, index: SocketIndex, mut bytes: u32) {
        while let Some(head) = self.core.sockets[index].sending().head.filter(|_| bytes > 0) {
            let operation = &mut self.core.operations[head];
            let left = operation.length - operation.done;
            let part = left.min(bytes);
            operation.done += part;
            bytes -= part;
            if part == left {
                let waited_ns = self.core.now_ns.saturating_sub(operation.submitted_ns);
                self.core.counters.latency(LatencyKind::Send, waited_ns);
                self.unlink_send(index, None, head);
                let payload = self.core.operations[head].take_payload().expect("a send carries a payload");
                self.core.complete(head, Outcome::Sent(payload));
            }
        }
    }

    /// Ends all queued sends in order with an error. None may be in the kernel.
    pub(super) fn fail_sends(&mut self, index: SocketIndex, error: Error) {
        while let Some(head) = self.core.sockets[index].sending().head {
            self.unlink_send(index, None, head);
            self.core.fail(head, error);
        }
    }

    fn unlink_send(&mut self, index: SocketIndex, previous: Option<OperationIndex>, operation: OperationIndex) {
        let Queued { next, length, .. } = self.core.operations[operation];
        let sending = self.core.sockets[index].sending_mut();
        sending.backlog.bytes -= length;
        sending.backlog.count -= 1;
        if sending.tail == Some(operation) {
            sending.tail = previous;
        }
        match previous {
            None => sending.head = next,
            Some(previous) => self.core.operations[previous].next = next,
        }
    }

    /// A send that is only queued ends at once; one that is in the kernel ends with the kernel's answer.
    pub(super) fn cancel_send(&mut self, operation: OperationIndex) {
        let index = self.core.operations[operation].socket();
        let (mut previous, mut next, mut position) = (None, self.core.sockets[index].sending().head, 0u32);
        while let Some(at) = next.filter(|at| *at != operation) {
            (previous, next, position) = (next, self.core.operations[at].next, position + 1);
        }
        if position >= self.core.sockets[index].sending().batch.count() {
            return self.drop_cancelled(index, previous, operation);
        }
        self.core.operations[operation].is_cancelled = true;
        let sending = self.core.sockets[index].sending_mut();
        if let (Some(head), Batch::InKernel { is_cancelling, .. }) = (sending.head, &mut sending.batch)
            && !std::mem::replace(is_cancelling, true)
        {
            self.core.request_cancel(head);
        }
    }

    fn drop_cancelled(&mut self, index: SocketIndex, previous: Option<OperationIndex>, operation: OperationIndex) {
        if matches!(self.core.operations[operation].body, Body::ShutdownWrite) {
            self.core.sockets[index].sending_mut().write = WriteSide::Open;
        }
        self.unlink_send(index, previous, operation);
        self.core.fail(operation, Error::new(ErrorKind::Cancelled));
    }

    fn sweep_cancelled(&mut self, index: SocketIndex) {
        let (mut previous, mut next) = (None, self.core.sockets[index].sending().head);
        while let Some(at) = next {
            next = self.core.operations[at].next;
            if self.core.operations[at].is_cancelled {
                self.drop_cancelled(index, previous, at);
            } else {
                previous = Some(at);
            }
        }
    }

    /// Nothing is queued for sending any more.
    fn after_sends(&mut self, index: SocketIndex) {
        self.tell_writable(index);
        if self.core.sockets[index].is_closing() {
            self.go_on_closing(index);
        }
    }
}

/// Whether the socket is in the list of those with sends to hand over, from which it has just been taken.
fn take_dirty(entry: &mut Entry) -> bool {
    let Role::Stream(stream) = &mut entry.role else { return false };
    match &mut stream.sending.batch {
        Batch::None { is_dirty, .. } => std::mem::take(is_dirty),
        Batch::InKernel { .. } => false,
    }
}
