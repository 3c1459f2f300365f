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
use crate::driver::socket::{Body, Flags, GatherIndex, Operation};
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
        self.core.sockets[index].set(Flags::WRITE_CLOSED, true);
        Ok(self.link_send(index, Operation::new(token, Some(index), Body::ShutdownWrite)))
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
        if self.core.sockets[index].send_head.is_none() {
            return Ok(true);
        }
        self.owe_writable(index, token);
        self.core.sockets[index].set(Flags::EMPTY_AWAITED, true);
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
        if !self.has_room(index, length) {
            self.owe_writable(index, token);
            return Err(self.refused(ErrorKind::Busy, payload));
        }
        let mut operation = Operation::new(token, Some(index), Body::Send(payload));
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
        let entry = &self.core.sockets[index];
        if !entry.is(Flags::NOT_SENDING) {
            return Ok(index);
        }
        let kind = match () {
            () if entry.is(Flags::LISTENER) || entry.is(Flags::DATAGRAM) => ErrorKind::InvalidInput,
            () if entry.is(Flags::CONNECTING) => ErrorKind::NotConnected,
            () => ErrorKind::WriteClosed,
        };
        Err(Error::new(kind))
    }

    //= LIMIT-1
    pub(super) fn has_room(&self, index: SocketIndex, length: u32) -> bool {
        let entry = &self.core.sockets[index];
        // An empty queue takes one send of any size: otherwise a large message could never go.
        let fits =
            entry.send_bytes.checked_add(length).is_some_and(|bytes| bytes <= self.core.config.send_queue_bytes_max);
        let has_bytes = fits || entry.send_count == 0;
        has_bytes && entry.send_count < self.core.config.send_queue_count_max && self.core.check_operations().is_ok()
    }

    pub(super) fn owe_writable(&mut self, index: SocketIndex, token: u64) {
        let id = self.core.socket_id(index);
        let entry = &mut self.core.sockets[index];
        entry.writable_token = token;
        if !entry.is(Flags::WRITABLE_OWED) {
            entry.set(Flags::WRITABLE_OWED, true);
            if entry.send_count == 0 {
                self.crowded.push_back(id);
            }
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
        let entry = &mut self.core.sockets[index];
        let low = self.core.config.send_queue_bytes_max / 2;
        let is_low = entry.send_bytes <= low && entry.send_count <= self.core.config.send_queue_count_max / 2;
        let has_room = if entry.is(Flags::EMPTY_AWAITED) { entry.send_head.is_none() } else { is_low };
        if !entry.is(Flags::WRITABLE_OWED) || entry.is(Flags::CLOSING) || !has_room {
            return;
        }
        entry.set(Flags::WRITABLE_OWED, false);
        entry.set(Flags::EMPTY_AWAITED, false);
        let token = entry.writable_token;
        let socket = self.core.socket_id(index);
        let (operation, outcome) = (OperationId::NONE, Outcome::Writable);
        self.core.push(Completion { token, operation, socket, more: false, outcome });
    }

    fn link_send(&mut self, index: SocketIndex, operation: Operation) -> OperationId {
        let length = operation.length;
        let operation = self.core.insert(operation);
        let entry = &mut self.core.sockets[index];
        entry.send_bytes += length;
        match entry.send_tail.replace(operation) {
            None => entry.send_head = Some(operation),
            Some(tail) => self.core.operations[tail].next = Some(operation),
        }
        entry.send_count += 1;
        self.mark_dirty(index);
        self.core.operation_id(self.core.operations.key(operation))
    }

    pub(super) fn mark_dirty(&mut self, index: SocketIndex) {
        let entry = &mut self.core.sockets[index];
        if entry.batch_count == 0 && !entry.is(Flags::DIRTY) {
            entry.set(Flags::DIRTY, true);
            self.dirty.push(index);
        }
    }

    pub(super) fn pump_dirty(&mut self) {
        while let Some(index) = self.dirty.pop() {
            if self.core.sockets.get(index).is_some_and(|entry| entry.is(Flags::DIRTY)) {
                self.core.sockets[index].set(Flags::DIRTY, false);
                self.pump_sends(index);
            }
        }
    }

    fn pump_sends(&mut self, index: SocketIndex) {
        while self.core.sockets[index].batch_count == 0 {
            let Some(head) = self.core.sockets[index].send_head else { break };
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
            let notice = self.start_batch(index, 1, span.length, is_lazy);
            return self.core.hand_over(head, Action::Send(span, notice));
        }
        let gather = self.gathers.take();
        let (count, bytes, is_lazy) = self.gather(gather, head);
        let list = SpanList::of(&self.gathers.lists[gather.number() as usize], bytes);
        self.core.sockets[index].gather = Some(gather);
        let notice = self.start_batch(index, count, bytes, is_lazy);
        self.core.hand_over(head, Action::SendList(list, notice));
    }

    fn start_batch(&mut self, index: SocketIndex, count: u16, bytes: usize, is_lazy: bool) -> Notice {
        let entry = &mut self.core.sockets[index];
        entry.batch_count = count;
        entry.batch_bytes = bytes as u32;
        let waits = [Flags::PROMPT, Flags::WRITABLE_OWED, Flags::CLOSING].iter().any(|flag| entry.is(*flag));
        entry.set(Flags::PROMPT, false);
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
        let index = self.end_batch(head);
        self.core.counters.totals.sent_bytes += bytes as u64;
        let is_short = bytes < self.core.sockets[index].batch_bytes as usize;
        self.credit(index, bytes as u32);
        if self.core.sockets[index].is(Flags::ABORT) {
            self.fail_sends(index, Error::new(ErrorKind::Cancelled));
        } else if self.sweep_owed(index) {
            self.sweep_cancelled(index);
        }
        self.core.sockets[index].set(Flags::PROMPT, is_short);
        self.go_on_sending(index);
    }

    /// The common case at the price of the common case: a quiet send, all that its socket had to send, has gone out whole
    /// and nothing else waits for it. False if it is not that.
    fn end_plain(&mut self, head: OperationIndex, bytes: usize) -> bool {
        let operation = &self.core.operations[head];
        let entry = &mut self.core.sockets[operation.socket()];
        let is_alone = operation.is_quiet && entry.send_count == 1 && entry.gather.is_none();
        let is_whole = bytes == (operation.length - operation.done) as usize;
        if !is_alone || !is_whole || entry.is(Flags::SEND_END_WATCHED) {
            return false;
        }
        let waited_ns = self.core.now_ns.saturating_sub(operation.submitted_ns);
        entry.forget_last_send();
        self.core.operations.clear(head);
        self.core.user_operations -= 1;
        self.core.in_kernel -= 1;
        self.core.counters.totals.sent_bytes += bytes as u64;
        self.core.counters.latency(LatencyKind::Send, waited_ns);
        true
    }

    pub(super) fn on_send_failed(&mut self, head: OperationIndex, error: Error) {
        let index = self.end_batch(head);
        let is_abort = self.core.sockets[index].is(Flags::ABORT);
        self.note_reset(index, error);
        let was_cancelled = error.kind() == ErrorKind::Cancelled && !is_abort;
        // An abort resets the connection itself: that is what its sends would report.
        let error = if is_abort { Error::new(ErrorKind::Cancelled) } else { error };
        if was_cancelled && self.sweep_owed(index) {
            self.sweep_cancelled(index);
        } else {
            self.fail_sends(index, error);
        }
        self.go_on_sending(index);
    }

    fn go_on_sending(&mut self, index: SocketIndex) {
        if self.core.sockets[index].send_head.is_none() {
            self.after_sends(index);
        } else {
            self.tell_writable(index);
            self.mark_dirty(index);
        }
    }

    fn sweep_owed(&mut self, index: SocketIndex) -> bool {
        let entry = &mut self.core.sockets[index];
        let owed = entry.is(Flags::SEND_CANCELLING);
        entry.set(Flags::SEND_CANCELLING, false);
        owed
    }

    fn end_batch(&mut self, head: OperationIndex) -> SocketIndex {
        self.core.taken_back(head);
        let index = self.core.operations[head].socket();
        let entry = &mut self.core.sockets[index];
        entry.batch_count = 0;
        if let Some(gather) = entry.gather.take() {
            self.gathers.give_back(gather);
        }
        index
    }

    /// Spreads sent bytes over the queue; what is whole completes.
    fn credit(&mut self, index: SocketIndex, mut bytes: u32) {
        while let Some(head) = self.core.sockets[index].send_head.filter(|_| bytes > 0) {
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
        while let Some(head) = self.core.sockets[index].send_head {
            self.unlink_send(index, None, head);
            self.core.fail(head, error);
        }
    }

    fn unlink_send(&mut self, index: SocketIndex, previous: Option<OperationIndex>, operation: OperationIndex) {
        let Operation { next, length, .. } = self.core.operations[operation];
        let entry = &mut self.core.sockets[index];
        entry.send_bytes -= length;
        entry.send_count -= 1;
        if entry.send_tail == Some(operation) {
            entry.send_tail = previous;
        }
        match previous {
            None => entry.send_head = next,
            Some(previous) => self.core.operations[previous].next = next,
        }
    }

    /// A send that is only queued ends at once; one that is in the kernel ends with the kernel's answer.
    pub(super) fn cancel_send(&mut self, operation: OperationIndex) {
        let index = self.core.operations[operation].socket();
        let (mut previous, mut next, mut position) = (None, self.core.sockets[index].send_head, 0u32);
        while let Some(at) = next.filter(|at| *at != operation) {
            (previous, next, position) = (next, self.core.operations[at].next, position + 1);
        }
        if position >= u32::from(self.core.sockets[index].batch_count) {
            return self.drop_cancelled(index, previous, operation);
        }
        self.core.operations[operation].is_cancelled = true;
        let entry = &mut self.core.sockets[index];
        if !entry.is(Flags::SEND_CANCELLING) {
            entry.set(Flags::SEND_CANCELLING, true);
            let head = entry.send_head.expect("the operation is behind it, or it");
            self.core.request_cancel(head);
        }
    }

    fn drop_cancelled(&mut self, index: SocketIndex, previous: Option<OperationIndex>, operation: OperationIndex) {
        if matches!(self.core.operations[operation].body, Body::ShutdownWrite) {
            self.core.sockets[index].set(Flags::WRITE_CLOSED, false);
        }
        self.unlink_send(index, previous, operation);
        self.core.fail(operation, Error::new(ErrorKind::Cancelled));
    }

    fn sweep_cancelled(&mut self, index: SocketIndex) {
        let (mut previous, mut next) = (None, self.core.sockets[index].send_head);
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
        if self.core.sockets[index].is(Flags::CLOSING) {
            self.go_on_closing(index);
        }
    }
}
