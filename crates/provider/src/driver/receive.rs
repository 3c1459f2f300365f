//! The receive side of a socket: one stream, or a FIFO of single receives of which the head is in the kernel.

use crate::base::error::{Error, ErrorKind, Refused};
use crate::base::id::{OperationId, SocketId};
use crate::base::index::{OperationIndex, SocketIndex};
use crate::config::Config;
use crate::contract::Action;
use crate::contract::stats::LatencyKind;
use crate::driver::completion::{Completion, Outcome};
use crate::driver::core::{After, Core};
use crate::driver::held::HeldCompletions;
use crate::driver::operation::{REQUEST_BYTES_MAX, ReceiveBuffer};
use crate::driver::queued::{Body, Queued};
use crate::driver::share::Shares;
use crate::driver::socket::{Flow, Input, Receiving, Role};
use crate::memory::buffer::{Buffer, Section};

/// Full receives in a row before a socket gets larger buffers, and small ones in a row before it loses them.
const BULK_AFTER: u8 = 2;
const SMALL_AFTER: u8 = 8;

/// The receive sides of all sockets.
pub(super) struct Receives {
    held: HeldCompletions,
    shares: Shares,
}

impl Receives {
    pub(super) fn new(config: &Config) -> Self {
        Receives { held: HeldCompletions::default(), shares: Shares::new(config) }
    }

    /// Starts a stream, after `check_receive` and `check_operations`. Errors: `ReceiveActive`.
    pub(super) fn start_stream(
        &mut self,
        core: &mut Core,
        index: SocketIndex,
        token: u64,
    ) -> Result<OperationId, Error> {
        if core.sockets[index].receiving().input.head().is_some() {
            return Err(Error::new(ErrorKind::ReceiveActive));
        }
        let operation = self.link_stream(core, index, Queued::new(token, Some(index), Body::Receive));
        Ok(core.id_of(operation))
    }

    /// Queues a single receive, after `check_receive` and `check_operations`. Errors, with the buffer: `InvalidInput`,
    /// `ReceiveActive`.
    pub(super) fn queue_receive_into(
        &mut self,
        core: &mut Core,
        index: SocketIndex,
        buffer: ReceiveBuffer,
        token: u64,
    ) -> Result<OperationId, Refused<ReceiveBuffer>> {
        if buffer.is_empty() || core.sockets[index].is_datagram() {
            return Err(Refused::new(ErrorKind::InvalidInput, buffer));
        }
        let queue = match core.sockets[index].receiving().input {
            Input::None(_) => None,
            Input::Queue { head, tail } => Some((head, tail)),
            //= ORDER-1
            Input::Stream(_) => return Err(Refused::new(ErrorKind::ReceiveActive, buffer)),
        };
        let operation = core.insert(Queued::new(token, Some(index), Body::ReceiveInto(buffer)));
        let head = queue.map_or(operation, |(head, _)| head);
        core.sockets[index].receiving_mut().input = Input::Queue { head, tail: operation };
        match queue {
            Some((_, tail)) => core.operations[tail].next = Some(operation),
            None => hand_over_receive_into(core, operation),
        }
        Ok(core.id_of(operation))
    }

    pub(super) fn pause(&mut self, core: &mut Core, index: SocketIndex) {
        let Some(receiving) = core.sockets[index].find_receiving_mut() else { return };
        if !receiving.is_holding() {
            receiving.flow = Flow::Holding;
            self.held.hold_undelivered(core, index);
            disarm(core, index);
        }
    }

    pub(super) fn pause_intake(&mut self, core: &mut Core, index: SocketIndex) {
        let is_datagram = core.sockets[index].is_datagram();
        let Some(receiving) = core.sockets[index].find_receiving_mut() else { return };
        if std::mem::replace(&mut receiving.flow, Flow::Passing) == Flow::Open {
            // It brings more than the caller can use: after this one buffer at a time, until it has nothing more to say.
            receiving.is_rationed = !is_datagram;
            disarm(core, index);
        } else {
            self.held.release_held(core, index);
        }
    }

    pub(super) fn resume(&mut self, core: &mut Core, index: SocketIndex) {
        let Some(receiving) = core.sockets[index].find_receiving_mut() else { return };
        if std::mem::replace(&mut receiving.flow, Flow::Open) != Flow::Open {
            let is_streaming = receiving.input.stream().is_some();
            self.held.release_held(core, index);
            if is_streaming {
                self.shares.arm_stream(core, index);
            }
        }
    }

    pub(super) fn on_received(
        &mut self,
        core: &mut Core,
        operation: OperationIndex,
        buffer: Buffer,
        more: bool,
    ) -> After {
        let index = core.operations[operation].socket();
        if !more {
            core.taken_back(operation);
        }
        let turn = core.turn_number();
        let entry = &mut core.sockets[index];
        let receiving = entry.receiving_mut();
        receiving.is_disarming &= more;
        if buffer.is_empty() {
            let end = entry.end_of_input();
            return self.end_stream(core, operation, end);
        }
        core.counters.totals.received_bytes += buffer.len() as u64;
        let is_over = self.shares.use_share(receiving, turn, buffer.len());
        let section = watch_size(receiving, &buffer, core.config.pool.buffer_bytes as usize);
        let is_slowed = ration(receiving, is_over, buffer.len() == buffer.capacity(), more);
        let (is_holding, is_changed) = (receiving.is_holding(), section != receiving.section);
        if is_changed {
            self.shares.set_section(core, index, section);
        }
        if more && (is_changed || is_slowed) {
            disarm(core, index);
        }
        if !core.operations[operation].is_internal {
            let item = core.item(operation, Outcome::Received(buffer));
            if is_holding { self.held.hold(core, index, item) } else { core.push(item) }
        }
        if more { After::Nothing } else { self.stream_disarmed(core, operation) }
    }

    /// One report of a stream of datagrams.
    pub(super) fn on_datagram_item(
        &mut self,
        core: &mut Core,
        operation: OperationIndex,
        outcome: Outcome,
        more: bool,
    ) -> After {
        let index = core.operations[operation].socket();
        if !more {
            core.taken_back(operation);
            core.sockets[index].receiving_mut().is_disarming = false;
        }
        let entry = &core.sockets[index];
        if !entry.is_closing() {
            let (is_holding, item) = (entry.receiving().is_holding(), core.item(operation, outcome));
            if is_holding { self.held.hold(core, index, item) } else { core.push(item) }
        }
        if more { After::Nothing } else { self.stream_disarmed(core, operation) }
    }

    /// Counts what a datagram socket has delivered in this turn. It is not rationed, one datagram at a time would lose the
    /// others: it only takes its place in the queue.
    pub(super) fn note_delivery(&mut self, core: &mut Core, index: SocketIndex, bytes: usize) {
        let turn = core.turn_number();
        self.shares.use_share(core.sockets[index].receiving_mut(), turn, bytes);
    }

    pub(super) fn on_receive_failed(&mut self, core: &mut Core, operation: OperationIndex, error: Error) -> After {
        core.taken_back(operation);
        let index = core.operations[operation].socket();
        let entry = &mut core.sockets[index];
        let (is_datagram, is_abort) = (entry.is_datagram(), entry.is_aborting());
        let receiving = entry.receiving_mut();
        receiving.is_disarming = false;
        match error.kind() {
            ErrorKind::NoBuffers => {
                if receiving.section == Section::Bulk && !is_datagram {
                    receiving.streak = 0;
                    self.shares.set_section(core, index, Section::Receive);
                } else {
                    self.shares.starve(core, index);
                }
                self.shares.note_shortage();
                self.stream_disarmed(core, operation)
            }
            ErrorKind::Cancelled => self.stream_disarmed(core, operation),
            // An abort resets the connection itself: that is what its receive would report.
            _ if is_abort => self.stream_disarmed(core, operation),
            _ => {
                receiving.has_ended = true;
                entry.note_reset(error);
                self.end_stream(core, operation, Err(error))
            }
        }
    }

    pub(super) fn cancel_receive(&mut self, core: &mut Core, operation: OperationIndex) -> After {
        if core.operations[operation].is_armed {
            core.cancel_in_kernel(operation);
            return After::Nothing;
        }
        if matches!(core.operations[operation].body, Body::Receive) {
            core.operations[operation].is_cancelled = true;
            return self.end_stream(core, operation, Err(Error::new(ErrorKind::Cancelled)));
        }
        unlink_queued(core, operation);
        core.fail(operation, Error::new(ErrorKind::Cancelled));
        After::Nothing
    }

    /// A graceful close begins: the caller's receives end, and a stream goes on for the driver, to discard input.
    pub(super) fn close_receives(&mut self, core: &mut Core, index: SocketIndex) {
        core.sockets[index].receiving_mut().flow = Flow::Open;
        self.held.discard_held(core, index);
        match core.sockets[index].receiving().input {
            Input::None(_) => {}
            Input::Stream(stream) => self.stream_becomes_internal(core, index, stream.operation),
            Input::Queue { head, .. } => cancel_queue(core, index, head),
        }
    }

    /// All receives end. What follows is for the caller to do in any case: the socket is closing.
    pub(super) fn abort_receives(&mut self, core: &mut Core, index: SocketIndex) {
        let receiving = core.sockets[index].receiving_mut();
        receiving.flow = Flow::Open;
        match receiving.input {
            Input::None(_) => {}
            Input::Stream(stream) => {
                let _ = self.cancel_receive(core, stream.operation);
            }
            Input::Queue { head, .. } => cancel_queue(core, index, head),
        }
    }

    /// Input that nobody reads would turn the close into a reset and destroy what was just sent.
    pub(super) fn discard_input(&mut self, core: &mut Core, index: SocketIndex) {
        let mut operation = Queued::new(0, Some(index), Body::Receive);
        operation.is_internal = true;
        self.link_stream(core, index, operation);
    }

    pub(super) fn discard_held(&mut self, core: &mut Core, index: SocketIndex) {
        self.held.discard_held(core, index);
    }

    /// The socket is about to leave.
    pub(super) fn forget_stream(&mut self, core: &mut Core, index: SocketIndex) {
        self.shares.set_section(core, index, Section::Receive);
    }

    /// Arms the streams for which there are buffers.
    pub(super) fn begin_turn(&mut self, core: &mut Core) {
        self.shares.serve_queues(core);
    }

    pub(super) fn end_turn(&mut self, core: &Core) {
        self.shares.settle_shares(core);
    }

    /// True if the next turn has streams to arm, without anything happening before.
    pub(super) fn is_behind(&self) -> bool {
        self.shares.is_behind()
    }

    /// True if streams wait for a buffer to come back.
    pub(super) fn is_short_of_buffers(&self) -> bool {
        self.shares.is_short_of_buffers()
    }

    fn link_stream(&mut self, core: &mut Core, index: SocketIndex, operation: Queued) -> OperationIndex {
        let operation = core.insert(operation);
        core.sockets[index].receiving_mut().input = Input::Stream(core.stream_name(operation));
        self.shares.arm_stream(core, index);
        operation
    }

    /// The kernel has ended the request though the stream has not ended: ends it if the caller wants that, else goes on.
    fn stream_disarmed(&mut self, core: &mut Core, operation: OperationIndex) -> After {
        let index = core.operations[operation].socket();
        if core.operations[operation].is_cancelled {
            return self.end_stream(core, operation, Err(Error::new(ErrorKind::Cancelled)));
        }
        self.shares.arm_stream(core, index);
        After::Nothing
    }

    /// The stream's last report, held like its bytes if it is paused; a cancel delivers what is held.
    fn end_stream(&mut self, core: &mut Core, operation: OperationIndex, end: Result<(), Error>) -> After {
        let (index, is_cancelled) = (core.operations[operation].socket(), core.operations[operation].is_cancelled);
        if is_cancelled {
            self.held.release_held(core, index);
        }
        let receiving = core.sockets[index].receiving_mut();
        receiving.input = Input::None(receiving.input.last_stream());
        let is_held = receiving.is_holding() && !is_cancelled;
        let outcome = match end {
            Ok(()) => Outcome::Received(Buffer::empty()),
            Err(error) => Outcome::Failed { error, payload: None, transferred: 0 },
        };
        if let Some(last) = core.end(operation, outcome) {
            if is_held { self.held.hold(core, index, last) } else { core.push(last) }
        }
        After::Ended(index)
    }

    /// The caller's stream ends; its request in the kernel, if any, goes on to discard input.
    fn stream_becomes_internal(&mut self, core: &mut Core, index: SocketIndex, stream: OperationIndex) {
        let (operation, socket) = (core.id_of(stream), core.socket_id(index));
        let token = core.disown(stream);
        let outcome = Outcome::Failed { error: Error::new(ErrorKind::Cancelled), payload: None, transferred: 0 };
        core.push(Completion { token, operation, socket, more: false, outcome });
        self.shares.arm_stream(core, index);
    }
}

/// The socket of which a receive side is there and idle, as far as streams are concerned.
pub(super) fn check_receive(core: &Core, socket: SocketId) -> Result<SocketIndex, Error> {
    let index = core.resolve(socket)?;
    let receiving = match &core.sockets[index].role {
        Role::Listener(_) => return Err(Error::new(ErrorKind::InvalidInput)),
        Role::Connecting(_) => return Err(Error::new(ErrorKind::NotConnected)),
        Role::Stream(stream) => &stream.receiving,
        Role::Datagram(datagram) => &datagram.receiving,
    };
    //= ORDER-1
    // A stream is active until its last completion has been delivered: what came after it could overtake it.
    let is_ending = matches!(receiving.input, Input::None(Some(stream)) if core.has_undelivered(stream));
    if is_ending || receiving.held.is_some() { Err(Error::new(ErrorKind::ReceiveActive)) } else { Ok(index) }
}

/// The end of a single receive; the next one is handed over.
pub(super) fn on_received_into(core: &mut Core, operation: OperationIndex, result: Result<usize, Error>) -> After {
    core.taken_back(operation);
    let index = core.operations[operation].socket();
    unlink_head(core, index);
    let entry = &mut core.sockets[index];
    let result = match result {
        Ok(0) => entry.end_of_input().map(|()| 0),
        Err(_) if entry.is_aborting() => Err(Error::new(ErrorKind::Cancelled)),
        result => result,
    };
    match result {
        Ok(length) => {
            core.counters.totals.received_bytes += length as u64;
            let operation_ended = &mut core.operations[operation];
            let waited_ns = core.now_ns.saturating_sub(operation_ended.submitted_ns);
            core.counters.latency(LatencyKind::ReceiveInto, waited_ns);
            let body = std::mem::replace(&mut operation_ended.body, Body::Accept);
            let Body::ReceiveInto(mut buffer) = body else { unreachable!("the event is for a ReceiveInto") };
            buffer.truncate(length);
            core.complete(operation, Outcome::ReceivedInto(buffer));
        }
        Err(error) => {
            entry.note_reset(error);
            core.fail(operation, error);
        }
    }
    if core.sockets[index].is_closing() {
        while let Some(head) = unlink_head(core, index) {
            core.fail(head, Error::new(ErrorKind::Cancelled));
        }
    } else if let Some(head) = core.sockets[index].receiving().input.head() {
        hand_over_receive_into(core, head);
    }
    After::Ended(index)
}

fn hand_over_receive_into(core: &mut Core, operation: OperationIndex) {
    if let Body::ReceiveInto(buffer) = &mut core.operations[operation].body {
        let mut span = buffer.span();
        span.length = span.length.min(REQUEST_BYTES_MAX);
        core.hand_over(operation, Action::ReceiveInto(span));
    }
}

/// Takes the request back from the kernel, to arm it again later.
fn disarm(core: &mut Core, index: SocketIndex) {
    let receiving = core.sockets[index].receiving_mut();
    let Some(stream) = receiving.input.stream() else { return };
    let operation = &core.operations[stream];
    if !receiving.is_disarming && operation.is_armed && !operation.is_cancelled {
        receiving.is_disarming = true;
        core.request_cancel(stream);
    }
}

/// The section that a stream is to receive into from now on: if its receives fill their buffers it gets larger ones, and if
/// it no longer needs them it loses them.
#[inline]
fn watch_size(receiving: &mut Receiving, buffer: &Buffer, small: usize) -> Section {
    let is_bulk = receiving.section == Section::Bulk;
    let is_unlike = if is_bulk { buffer.len() > small } else { buffer.len() < small };
    receiving.streak = if is_unlike { 0 } else { receiving.streak.saturating_add(1) };
    if receiving.streak < if is_bulk { SMALL_AFTER } else { BULK_AFTER } {
        return receiving.section;
    }
    receiving.streak = 0;
    if is_bulk { Section::Receive } else { Section::Bulk }
}

/// A stream that uses more than a share receives one buffer at a time, until it leaves room in one. True if that begins.
//= STARVE-1
#[inline]
fn ration(receiving: &mut Receiving, is_over: bool, is_full: bool, more: bool) -> bool {
    if is_over && !receiving.is_rationed {
        receiving.is_rationed = true;
        return true;
    }
    receiving.is_rationed &= is_full || more;
    false
}

fn unlink_head(core: &mut Core, index: SocketIndex) -> Option<OperationIndex> {
    let input = &mut core.sockets[index].receiving_mut().input;
    let Input::Queue { head, tail } = *input else { return None };
    *input = match core.operations[head].next {
        Some(head) => Input::Queue { head, tail },
        None => Input::None(None),
    };
    Some(head)
}

/// Takes a receive out of the queue that is not its head.
fn unlink_queued(core: &mut Core, operation: OperationIndex) {
    let index = core.operations[operation].socket();
    let input = &mut core.sockets[index].receiving_mut().input;
    let Input::Queue { head, tail } = *input else { unreachable!("the operation is in the queue") };
    let mut previous = head;
    while let Some(next) = core.operations[previous].next.filter(|next| *next != operation) {
        previous = next;
    }
    core.operations[previous].next = core.operations[operation].next;
    if tail == operation {
        *input = Input::Queue { head, tail: previous };
    }
}

/// Asks the kernel for the head, and ends those behind it.
fn cancel_queue(core: &mut Core, index: SocketIndex, head: OperationIndex) {
    core.cancel_in_kernel(head);
    while let Some(next) = core.operations[head].next {
        core.operations[head].next = core.operations[next].next;
        core.fail(next, Error::new(ErrorKind::Cancelled));
    }
    core.sockets[index].receiving_mut().input = Input::Queue { head, tail: head };
}
