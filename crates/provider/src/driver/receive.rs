//! The receive side of a socket: one stream, or a FIFO of single receives of which the head is in the kernel.

use super::Driver;
use crate::base::error::{Error, ErrorKind, Refused};
use crate::base::id::{OperationId, SocketId};
use crate::base::index::{OperationIndex, SocketIndex};
use crate::contract::Action;
use crate::contract::is_about_the_past;
use crate::contract::stats::LatencyKind;
use crate::driver::completion::Outcome;
use crate::driver::operation::{REQUEST_BYTES_MAX, Room};
use crate::driver::socket::{Body, Flags, Operation};
use crate::memory::buffer::Buffer;

/// Full receives in a row before a socket gets larger buffers, and small ones in a row before it loses them.
const BULK_AFTER: u8 = 2;
const SMALL_AFTER: u8 = 8;

impl Driver {
    /// Starts a stream of received bytes in pool buffers. It goes on until the peer's end, an error, or a cancel; an idle
    /// connection holds no buffer. On a datagram socket each report is one datagram, and only a cancel or a close ends it.
    ///
    /// Errors: `Stale`, `InvalidInput` (a listener), `NotConnected`, `ReceiveActive`, `Busy` (`operations_max`).
    pub fn receive(&mut self, socket: SocketId, token: u64) -> Result<OperationId, Error> {
        let index = self.check_receive(socket)?;
        self.core.check_operations()?;
        if self.core.sockets[index].receive_head.is_some() {
            return Err(Error::new(ErrorKind::ReceiveActive));
        }
        let operation = self.core.insert(Operation::new(token, Some(index), Body::Receive));
        let id = self.core.operation_id(self.core.operations.key(operation));
        (self.core.sockets[index].receive_head, self.core.sockets[index].stream) = (Some(operation), id);
        self.arm_stream(index);
        Ok(id)
    }

    /// Stops delivery on the socket's receive stream, also of what has not been polled yet. What the kernel has already
    /// handed out is kept in order and delivered first after [`resume`](Self::resume). It keeps its buffers of the pool: whoever
    /// pauses many sockets calls [`pause_intake`](Self::pause_intake). Errors: `Stale`.
    //= PAUSE-1
    pub fn pause(&mut self, socket: SocketId) -> Result<(), Error> {
        let index = self.core.resolve(socket)?;
        if !self.core.sockets[index].is_holding() {
            self.core.sockets[index].set(Flags::PASSING, false);
            self.core.sockets[index].set(Flags::PAUSED, true);
            self.hold_undelivered(index);
            self.disarm(index);
        }
        Ok(())
    }

    /// Stops taking bytes from the kernel for the socket's receive stream. What the kernel has already handed out is still
    /// delivered, its end included, so that no buffer of the pool waits for [`resume`](Self::resume). Errors: `Stale`.
    //= PAUSE-2
    pub fn pause_intake(&mut self, socket: SocketId) -> Result<(), Error> {
        let index = self.core.resolve(socket)?;
        self.core.sockets[index].set(Flags::PASSING, true);
        if self.core.sockets[index].is(Flags::PAUSED) {
            self.release_held(index);
        } else {
            // It brings more than the caller can use: after this one buffer at a time, until it has nothing more to say.
            let is_stream = !self.core.sockets[index].is(Flags::DATAGRAM);
            self.core.sockets[index].set(Flags::RATIONED, is_stream);
            self.core.sockets[index].set(Flags::PAUSED, true);
            self.disarm(index);
        }
        Ok(())
    }

    /// Undoes [`pause`](Self::pause) and [`pause_intake`](Self::pause_intake). Errors: `Stale`.
    pub fn resume(&mut self, socket: SocketId) -> Result<(), Error> {
        let index = self.core.resolve(socket)?;
        if self.core.sockets[index].is(Flags::PAUSED) {
            self.core.sockets[index].set(Flags::PAUSED, false);
            self.release_held(index);
            if self.is_streaming(index) {
                self.arm_stream(index);
            }
        }
        Ok(())
    }

    pub(super) fn queue_receive_into(
        &mut self,
        socket: SocketId,
        room: Room,
        token: u64,
    ) -> Result<OperationId, Refused<Room>> {
        let checked = self.check_receive(socket).and_then(|index| self.core.check_operations().map(|()| index));
        let index = match checked {
            Ok(_) if room.is_empty() => return Err(Refused::new(ErrorKind::InvalidInput, room)),
            Ok(index) => index,
            Err(error) => return Err(Refused { error, value: room }),
        };
        if self.core.sockets[index].is(Flags::DATAGRAM) {
            return Err(Refused::new(ErrorKind::InvalidInput, room));
        }
        //= ORDER-1
        if self.is_streaming(index) {
            return Err(Refused::new(ErrorKind::ReceiveActive, room));
        }
        let operation = self.core.insert(Operation::new(token, Some(index), Body::ReceiveInto(room)));
        if let Some(tail) = self.core.sockets[index].receive_tail.replace(operation) {
            self.core.operations[tail].next = Some(operation);
        } else {
            self.core.sockets[index].receive_head = Some(operation);
            self.hand_over_receive_into(operation);
        }
        Ok(self.core.operation_id(self.core.operations.key(operation)))
    }

    fn check_receive(&self, socket: SocketId) -> Result<SocketIndex, Error> {
        let index = self.core.resolve(socket)?;
        let entry = &self.core.sockets[index];
        match () {
            () if entry.is(Flags::LISTENER) => Err(Error::new(ErrorKind::InvalidInput)),
            () if entry.is(Flags::CONNECTING) => Err(Error::new(ErrorKind::NotConnected)),
            //= ORDER-1
            // A stream is active until its last completion has been delivered: what came after it could overtake it.
            () if entry.held_head.is_some() || (entry.receive_head.is_none() && self.has_undelivered(entry.stream)) => {
                Err(Error::new(ErrorKind::ReceiveActive))
            }
            () => Ok(index),
        }
    }

    fn hand_over_receive_into(&mut self, operation: OperationIndex) {
        if let Body::ReceiveInto(room) = &mut self.core.operations[operation].body {
            let mut span = room.span();
            span.length = span.length.min(REQUEST_BYTES_MAX);
            self.core.hand_over(operation, Action::ReceiveInto(span));
        }
    }

    /// Takes the request back from the kernel, to arm it again later.
    fn disarm(&mut self, index: SocketIndex) {
        let Some(head) = self.stream_of(index) else { return };
        let operation = &self.core.operations[head];
        if !self.core.sockets[index].is(Flags::DISARMING) && operation.is_armed && !operation.is_cancelled {
            self.core.sockets[index].set(Flags::DISARMING, true);
            self.core.request_cancel(head);
        }
    }

    pub(super) fn on_received(&mut self, operation: OperationIndex, buffer: Buffer, more: bool) {
        let index = self.core.operations[operation].socket();
        if !more {
            self.core.taken_back(operation);
            self.core.sockets[index].set(Flags::DISARMING, false);
        }
        if buffer.is_empty() {
            let end = self.end_of_input(index);
            return self.end_stream(operation, end);
        }
        self.core.counters.totals.received_bytes += buffer.len() as u64;
        let is_over = self.use_share(index, buffer.len());
        self.watch_size(index, &buffer, more);
        self.ration(index, is_over, buffer.len() == buffer.capacity(), more);
        if !self.core.operations[operation].is_internal {
            let item = self.core.item(operation, Outcome::Received(buffer));
            if self.core.sockets[index].is_holding() { self.hold(index, item) } else { self.core.push(item) }
        }
        if !more {
            self.stream_disarmed(operation);
        }
    }

    /// What a receive of 0 bytes means: the peer's orderly end, or a reset of which a send was told before (the system
    /// tells it once, and a send that had made progress keeps it to itself). A reset connection has no peer any more.
    fn end_of_input(&mut self, index: SocketIndex) -> Result<(), Error> {
        let entry = &mut self.core.sockets[index];
        if entry.is(Flags::ABORT) {
            return Err(Error::new(ErrorKind::Cancelled));
        }
        let had_ended = entry.is(Flags::ENDED) || entry.is(Flags::WRITE_CLOSED) || entry.is(Flags::FIN_SENT);
        entry.set(Flags::ENDED, true);
        let is_broken = entry.is(Flags::BROKEN) || !(had_ended || entry.endpoint.has_peer());
        entry.set(Flags::BROKEN, is_broken);
        if is_broken { Err(Error::new(ErrorKind::ConnectionReset)) } else { Ok(()) }
    }

    /// The system tells of a reset once, to whichever operation asks first, or to a send that had made progress and keeps
    /// it to itself: then the next one hears of a broken pipe. The driver remembers.
    pub(super) fn note_reset(&mut self, index: SocketIndex, error: Error) {
        let entry = &mut self.core.sockets[index];
        let is_broken = match error.kind() {
            ErrorKind::ConnectionReset => true,
            ErrorKind::BrokenPipe => !entry.endpoint.has_peer(),
            _ => false,
        };
        if is_broken {
            entry.set(Flags::BROKEN, true);
        }
    }

    pub(super) fn on_receive_failed(&mut self, operation: OperationIndex, error: Error) {
        let index = self.core.operations[operation].socket();
        let is_datagram = self.core.sockets[index].is(Flags::DATAGRAM);
        if is_datagram && is_about_the_past(error) {
            return self.on_datagram_item(operation, Outcome::Undelivered(error), false);
        }
        self.core.taken_back(operation);
        self.core.sockets[index].set(Flags::DISARMING, false);
        match error.kind() {
            ErrorKind::NoBuffers => {
                if self.core.sockets[index].is(Flags::BULK) && !is_datagram {
                    self.set_bulk(index, false);
                    self.core.sockets[index].streak = 0;
                } else {
                    self.starve(index);
                }
                self.note_shortage();
                self.stream_disarmed(operation);
            }
            ErrorKind::Cancelled => self.stream_disarmed(operation),
            // An abort resets the connection itself: that is what its receive would report.
            _ if self.core.sockets[index].is(Flags::ABORT) => self.stream_disarmed(operation),
            _ => {
                self.core.sockets[index].set(Flags::ENDED, true);
                self.note_reset(index, error);
                self.end_stream(operation, Err(error));
            }
        }
    }

    /// The kernel has ended the request though the stream has not ended: ends it if the caller wants that, else goes on.
    pub(super) fn stream_disarmed(&mut self, operation: OperationIndex) {
        let index = self.core.operations[operation].socket();
        if self.core.operations[operation].is_cancelled {
            self.end_stream(operation, Err(Error::new(ErrorKind::Cancelled)));
        } else {
            self.arm_stream(index);
        }
    }

    /// The stream's last report, held like its bytes if it is paused; a cancel delivers what is held.
    fn end_stream(&mut self, operation: OperationIndex, end: Result<(), Error>) {
        let (index, is_cancelled) =
            (self.core.operations[operation].socket(), self.core.operations[operation].is_cancelled);
        if is_cancelled {
            self.release_held(index);
        }
        self.core.sockets[index].receive_head = None;
        let outcome = match end {
            Ok(()) => Outcome::Received(Buffer::empty()),
            Err(error) => Outcome::Failed { error, payload: None, transferred: 0 },
        };
        if let Some(last) = self.core.end(operation, outcome) {
            let is_held = self.core.sockets[index].is_holding() && !is_cancelled;
            if is_held { self.hold(index, last) } else { self.core.push(last) }
        }
        if self.core.sockets[index].is(Flags::CLOSING) {
            self.go_on_closing(index);
        }
    }

    /// Sockets whose receives fill their buffer get larger ones; those that no longer need them lose them.
    fn watch_size(&mut self, index: SocketIndex, buffer: &Buffer, more: bool) {
        let small = self.core.config.pool.buffer_bytes as usize;
        let entry = &mut self.core.sockets[index];
        if entry.is(Flags::BULK) {
            entry.streak = if buffer.len() > small { 0 } else { entry.streak.saturating_add(1) };
        } else {
            entry.streak = if buffer.len() < small { 0 } else { entry.streak.saturating_add(1) };
        }
        let is_bulk = entry.is(Flags::BULK);
        if entry.streak >= if is_bulk { SMALL_AFTER } else { BULK_AFTER } {
            entry.streak = 0;
            self.set_bulk(index, !is_bulk);
            if more {
                self.disarm(index);
            }
        }
    }

    /// A stream that uses more than a share receives one buffer at a time, until it leaves room in one.
    //= STARVE-1
    #[inline]
    fn ration(&mut self, index: SocketIndex, is_over: bool, is_full: bool, more: bool) {
        let is_rationed = self.core.sockets[index].is(Flags::RATIONED);
        if is_over && !is_rationed {
            self.core.sockets[index].set(Flags::RATIONED, true);
            if more {
                self.disarm(index);
            }
        } else if is_rationed && !is_full && !more {
            self.core.sockets[index].set(Flags::RATIONED, false);
        }
    }

    pub(super) fn on_received_into(&mut self, operation: OperationIndex, result: Result<usize, Error>) {
        self.core.taken_back(operation);
        let index = self.core.operations[operation].socket();
        self.unlink_receive_head(index);
        let result = match result {
            Ok(0) => self.end_of_input(index).map(|()| 0),
            Err(_) if self.core.sockets[index].is(Flags::ABORT) => Err(Error::new(ErrorKind::Cancelled)),
            result => result,
        };
        match result {
            Ok(length) => {
                self.core.counters.totals.received_bytes += length as u64;
                let waited_ns = self.core.now_ns.saturating_sub(self.core.operations[operation].submitted_ns);
                self.core.counters.latency(LatencyKind::ReceiveInto, waited_ns);
                let body = std::mem::replace(&mut self.core.operations[operation].body, Body::Accept);
                let Body::ReceiveInto(mut room) = body else { unreachable!("the event is for a ReceiveInto") };
                room.truncate(length);
                self.core.complete(operation, Outcome::ReceivedInto(room));
            }
            Err(error) => {
                self.note_reset(index, error);
                self.core.fail(operation, error);
            }
        }
        if self.core.sockets[index].is(Flags::CLOSING) {
            self.fail_receives(index);
            return self.go_on_closing(index);
        }
        if let Some(head) = self.core.sockets[index].receive_head {
            self.hand_over_receive_into(head);
        }
    }

    fn unlink_receive_head(&mut self, index: SocketIndex) -> Option<OperationIndex> {
        let entry = &mut self.core.sockets[index];
        let head = entry.receive_head?;
        entry.receive_head = self.core.operations[head].next;
        if entry.receive_head.is_none() {
            entry.receive_tail = None;
        }
        Some(head)
    }

    /// Ends the receives that only wait in the queue.
    pub(super) fn fail_receives(&mut self, index: SocketIndex) {
        while let Some(head) = self.unlink_receive_head(index) {
            self.core.fail(head, Error::new(ErrorKind::Cancelled));
        }
    }

    pub(super) fn cancel_receive(&mut self, operation: OperationIndex) {
        if self.core.operations[operation].is_armed {
            return self.core.cancel_in_kernel(operation);
        }
        if matches!(self.core.operations[operation].body, Body::Receive) {
            self.core.operations[operation].is_cancelled = true;
            return self.end_stream(operation, Err(Error::new(ErrorKind::Cancelled)));
        }
        let index = self.core.operations[operation].socket();
        let mut previous = self.core.sockets[index].receive_head.expect("the operation is behind it");
        while let Some(next) = self.core.operations[previous].next.filter(|next| *next != operation) {
            previous = next;
        }
        self.core.operations[previous].next = self.core.operations[operation].next;
        if self.core.sockets[index].receive_tail == Some(operation) {
            self.core.sockets[index].receive_tail = Some(previous);
        }
        self.core.fail(operation, Error::new(ErrorKind::Cancelled));
    }

    fn is_streaming(&self, index: SocketIndex) -> bool {
        self.stream_of(index).is_some()
    }

    fn stream_of(&self, index: SocketIndex) -> Option<OperationIndex> {
        self.core.sockets[index].receive_head.filter(|head| matches!(self.core.operations[*head].body, Body::Receive))
    }
}
