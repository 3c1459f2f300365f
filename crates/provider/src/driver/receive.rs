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
use crate::driver::queued::{Body, Queued};
use crate::driver::socket::{Flow, Input, Role, WriteSide};
use crate::memory::buffer::{Buffer, Section};

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
        if self.core.sockets[index].receiving().input.head().is_some() {
            return Err(Error::new(ErrorKind::ReceiveActive));
        }
        let operation = self.core.insert(Queued::new(token, Some(index), Body::Receive));
        let stream = self.core.stream_name(operation);
        self.core.sockets[index].receiving_mut().input = Input::Stream(stream);
        self.arm_stream(index);
        Ok(self.core.stream_id(stream))
    }

    /// Stops delivery on the socket's receive stream, also of what has not been polled yet. What the kernel has already
    /// handed out is kept in order and delivered first after [`resume`](Self::resume). It keeps its buffers of the pool: whoever
    /// pauses many sockets calls [`pause_intake`](Self::pause_intake). Errors: `Stale`.
    //= PAUSE-1
    pub fn pause(&mut self, socket: SocketId) -> Result<(), Error> {
        let index = self.core.resolve(socket)?;
        let Some(receiving) = self.core.sockets[index].find_receiving_mut() else { return Ok(()) };
        if !receiving.is_holding() {
            receiving.flow = Flow::Holding;
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
        let is_datagram = self.core.sockets[index].is_datagram();
        let Some(receiving) = self.core.sockets[index].find_receiving_mut() else { return Ok(()) };
        if std::mem::replace(&mut receiving.flow, Flow::Passing) == Flow::Open {
            // It brings more than the caller can use: after this one buffer at a time, until it has nothing more to say.
            receiving.is_rationed = !is_datagram;
            self.disarm(index);
        } else {
            self.release_held(index);
        }
        Ok(())
    }

    /// Undoes [`pause`](Self::pause) and [`pause_intake`](Self::pause_intake). Errors: `Stale`.
    pub fn resume(&mut self, socket: SocketId) -> Result<(), Error> {
        let index = self.core.resolve(socket)?;
        let Some(receiving) = self.core.sockets[index].find_receiving_mut() else { return Ok(()) };
        if std::mem::replace(&mut receiving.flow, Flow::Open) != Flow::Open {
            let is_streaming = receiving.input.stream().is_some();
            self.release_held(index);
            if is_streaming {
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
        if self.core.sockets[index].is_datagram() {
            return Err(Refused::new(ErrorKind::InvalidInput, room));
        }
        let queue = match self.core.sockets[index].receiving().input {
            Input::None(_) => None,
            Input::Queue { head, tail } => Some((head, tail)),
            //= ORDER-1
            Input::Stream(_) => return Err(Refused::new(ErrorKind::ReceiveActive, room)),
        };
        let operation = self.core.insert(Queued::new(token, Some(index), Body::ReceiveInto(room)));
        let head = queue.map_or(operation, |(head, _)| head);
        self.core.sockets[index].receiving_mut().input = Input::Queue { head, tail: operation };
        match queue {
            Some((_, tail)) => self.core.operations[tail].next = Some(operation),
            None => self.hand_over_receive_into(operation),
        }
        Ok(self.core.operation_id(self.core.operations.key(operation)))
    }

    fn check_receive(&self, socket: SocketId) -> Result<SocketIndex, Error> {
        let index = self.core.resolve(socket)?;
        let receiving = match &self.core.sockets[index].role {
            Role::Listener(_) => return Err(Error::new(ErrorKind::InvalidInput)),
            Role::Connecting(_) => return Err(Error::new(ErrorKind::NotConnected)),
            Role::Stream(stream) => &stream.receiving,
            Role::Datagram(datagram) => &datagram.receiving,
        };
        //= ORDER-1
        // A stream is active until its last completion has been delivered: what came after it could overtake it.
        let is_ending = matches!(receiving.input, Input::None(Some(stream)) if self.core.has_undelivered(stream));
        if is_ending || receiving.held.is_some() { Err(Error::new(ErrorKind::ReceiveActive)) } else { Ok(index) }
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
        let receiving = self.core.sockets[index].receiving_mut();
        let Some(stream) = receiving.input.stream() else { return };
        let operation = &self.core.operations[stream];
        if !receiving.is_disarming && operation.is_armed && !operation.is_cancelled {
            receiving.is_disarming = true;
            self.core.request_cancel(stream);
        }
    }

    pub(super) fn on_received(&mut self, operation: OperationIndex, buffer: Buffer, more: bool) {
        let index = self.core.operations[operation].socket();
        if !more {
            self.core.taken_back(operation);
            self.core.sockets[index].receiving_mut().is_disarming = false;
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
            let is_holding = self.core.sockets[index].receiving().is_holding();
            if is_holding { self.hold(index, item) } else { self.core.push(item) }
        }
        if !more {
            self.stream_disarmed(operation);
        }
    }

    /// What a receive of 0 bytes means: the peer's orderly end, or a reset of which a send was told before (the system
    /// tells it once, and a send that had made progress keeps it to itself). A reset connection has no peer any more.
    fn end_of_input(&mut self, index: SocketIndex) -> Result<(), Error> {
        let entry = &mut self.core.sockets[index];
        if entry.is_aborting() {
            return Err(Error::new(ErrorKind::Cancelled));
        }
        let is_shut = matches!(&entry.role, Role::Stream(stream) if stream.sending.write != WriteSide::Open);
        let had_ended = entry.receiving().has_ended || is_shut;
        let is_broken = entry.receiving().is_broken || !(had_ended || entry.endpoint.has_peer());
        let receiving = entry.receiving_mut();
        (receiving.has_ended, receiving.is_broken) = (true, is_broken);
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
        entry.receiving_mut().is_broken |= is_broken;
    }

    pub(super) fn on_receive_failed(&mut self, operation: OperationIndex, error: Error) {
        let index = self.core.operations[operation].socket();
        let entry = &self.core.sockets[index];
        let (is_datagram, is_abort) = (entry.is_datagram(), entry.is_aborting());
        if is_datagram && is_about_the_past(error) {
            return self.on_datagram_item(operation, Outcome::Undelivered(error), false);
        }
        self.core.taken_back(operation);
        let receiving = self.core.sockets[index].receiving_mut();
        receiving.is_disarming = false;
        match error.kind() {
            ErrorKind::NoBuffers => {
                if receiving.section == Section::Bulk && !is_datagram {
                    receiving.streak = 0;
                    self.set_section(index, Section::Receive);
                } else {
                    self.starve(index);
                }
                self.note_shortage();
                self.stream_disarmed(operation);
            }
            ErrorKind::Cancelled => self.stream_disarmed(operation),
            // An abort resets the connection itself: that is what its receive would report.
            _ if is_abort => self.stream_disarmed(operation),
            _ => {
                receiving.has_ended = true;
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
        let receiving = self.core.sockets[index].receiving_mut();
        receiving.input = Input::None(receiving.input.last_stream());
        let outcome = match end {
            Ok(()) => Outcome::Received(Buffer::empty()),
            Err(error) => Outcome::Failed { error, payload: None, transferred: 0 },
        };
        if let Some(last) = self.core.end(operation, outcome) {
            let is_held = self.core.sockets[index].receiving().is_holding() && !is_cancelled;
            if is_held { self.hold(index, last) } else { self.core.push(last) }
        }
        if self.core.sockets[index].is_closing() {
            self.go_on_closing(index);
        }
    }

    /// Sockets whose receives fill their buffer get larger ones; those that no longer need them lose them.
    fn watch_size(&mut self, index: SocketIndex, buffer: &Buffer, more: bool) {
        let small = self.core.config.pool.buffer_bytes as usize;
        let receiving = self.core.sockets[index].receiving_mut();
        let is_bulk = receiving.section == Section::Bulk;
        let is_unlike = if is_bulk { buffer.len() > small } else { buffer.len() < small };
        receiving.streak = if is_unlike { 0 } else { receiving.streak.saturating_add(1) };
        if receiving.streak >= if is_bulk { SMALL_AFTER } else { BULK_AFTER } {
            receiving.streak = 0;
            self.set_section(index, if is_bulk { Section::Receive } else { Section::Bulk });
            if more {
                self.disarm(index);
            }
        }
    }

    /// A stream that uses more than a share receives one buffer at a time, until it leaves room in one.
    //= STARVE-1
    #[inline]
    fn ration(&mut self, index: SocketIndex, is_over: bool, is_full: bool, more: bool) {
        let receiving = self.core.sockets[index].receiving_mut();
        if is_over && !receiving.is_rationed {
            receiving.is_rationed = true;
            if more {
                self.disarm(index);
            }
        } else if !is_full && !more {
            receiving.is_rationed = false;
        }
    }

    pub(super) fn on_received_into(&mut self, operation: OperationIndex, result: Result<usize, Error>) {
        self.core.taken_back(operation);
        let index = self.core.operations[operation].socket();
        self.unlink_receive_head(index);
        let result = match result {
            Ok(0) => self.end_of_input(index).map(|()| 0),
            Err(_) if self.core.sockets[index].is_aborting() => Err(Error::new(ErrorKind::Cancelled)),
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
        if self.core.sockets[index].is_closing() {
            self.fail_receives(index);
            return self.go_on_closing(index);
        }
        if let Some(head) = self.core.sockets[index].receiving().input.head() {
            self.hand_over_receive_into(head);
        }
    }

    fn unlink_receive_head(&mut self, index: SocketIndex) -> Option<OperationIndex> {
        let input = &mut self.core.sockets[index].receiving_mut().input;
        let Input::Queue { head, tail } = *input else { return None };
        *input = match self.core.operations[head].next {
            Some(head) => Input::Queue { head, tail },
            None => Input::None(None),
        };
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
        let input = &mut self.core.sockets[index].receiving_mut().input;
        let Input::Queue { head, tail } = *input else { unreachable!("the operation is in the queue") };
        let mut previous = head;
        while let Some(next) = self.core.operations[previous].next.filter(|next| *next != operation) {
            previous = next;
        }
        self.core.operations[previous].next = self.core.operations[operation].next;
        if tail == operation {
            *input = Input::Queue { head, tail: previous };
        }
        self.core.fail(operation, Error::new(ErrorKind::Cancelled));
    }
}
