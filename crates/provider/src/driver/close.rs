//! How sockets and drivers end.
//!
//! A graceful close: 1. the id is stale, the caller's receives end; 2. queued sends finish; 3. the write side is shut;
//! 4. input is discarded, from 1 on, until the peer's end; 5. `Closed`, detach, close the handle. Its deadline, and every abort, cancel
//! what is left at 2 to 4 and set linger 0, so that the peer sees a reset.

use std::time::{Duration, Instant};

use super::Driver;
use crate::base::error::{Error, ErrorKind};
use crate::base::id::{OperationId, SocketId};
use crate::base::index::{Index, OperationIndex, SocketIndex, Table};
use crate::base::slots::Slots;
use crate::base::time;
use crate::base::timer::Due;
use crate::contract::stats;
use crate::driver::completion::{Completion, Completions, Outcome};
use crate::driver::mailbox::Message;
use crate::driver::operation::CloseMode;
use crate::driver::queued::{Body, Queued};
use crate::driver::socket::{Batch, Closing, Connecting, Flow, Input, Listener, Owed, Role, WriteSide};
use crate::memory::buffer::Section;

/// Turns that a graceful close waits after its deadline for the peer's end to come out of what had arrived. A thousand
/// flooding sockets leave a quiet one waiting for no more (STARVE-1).
const PUT_OFF_TURNS_MAX: u8 = 128;
/// Pause of a drain whose turns fail.
const DRAIN_RETRY: Duration = Duration::from_millis(1);

impl Driver {
    /// Closes a socket or listener. The id is stale at once; pending operations end first; then `Closed` comes with this
    /// token, the socket's last completion.
    ///
    /// Errors: `Stale` if it is closing or closed already.
    //= CLOSE-1
    pub fn close(&mut self, socket: SocketId, mode: CloseMode, token: u64) -> Result<(), Error> {
        let index = self.core.resolve(socket)?;
        match (mode, &self.core.sockets[index].role) {
            //= CLOSE-2
            (CloseMode::Graceful { deadline }, Role::Stream(_) | Role::Datagram(_)) => {
                self.close_gracefully(index, deadline, token);
            }
            _ => self.abort(index, token),
        }
        Ok(())
    }

    /// Ends everything: refuses what comes, cancels what is there, waits (at most `Config::drain_deadline`) until the
    /// kernel has let go, and adds all that ended to `completions`, whose capacity does not bound it here. Whatever was
    /// accepted, also by submitters, is then reported there. A peer is never waited for.
    //= DROP-1
    pub fn shutdown(&mut self, completions: &mut Completions) {
        self.shut_down();
        completions.queue.append(&mut self.core.ready);
    }

    fn close_gracefully(&mut self, index: SocketIndex, deadline: Duration, token: u64) {
        let deadline_ns = time::after(self.core.profile.clock.now_ns(), deadline);
        let deadline = self.core.timers.insert(deadline_ns, Due::Close(index));
        let entry = &mut self.core.sockets[index];
        entry.closing = Closing::Graceful { token, deadline, put_off: 0 };
        if entry.is_datagram() {
            return self.close_datagrams(index);
        }
        entry.receiving_mut().flow = Flow::Open;
        self.discard_held(index);
        match self.core.sockets[index].receiving().input {
            Input::None(_) => {}
            Input::Stream(stream) => self.stream_becomes_internal(index, stream.operation),
            Input::Queue { head, .. } => {
                self.core.cancel_in_kernel(head);
                self.fail_queued_receives(index, head);
            }
        }
        self.go_on_closing(index);
    }

    /// The caller's stream ends; its request in the kernel, if any, goes on to discard input.
    fn stream_becomes_internal(&mut self, index: SocketIndex, head: OperationIndex) {
        let id = self.core.operation_id(self.core.operations.key(head));
        let operation = &mut self.core.operations[head];
        let (token, socket) = (operation.token, SocketId::new(self.core.number.number, self.core.sockets.key(index)));
        operation.is_internal = true;
        operation.is_cancelled = false;
        self.core.user_operations -= 1;
        let outcome = Outcome::Failed { error: Error::new(ErrorKind::Cancelled), payload: None, transferred: 0 };
        self.core.push(Completion { token, operation: id, socket, more: false, outcome });
        self.arm_stream(index);
    }

    fn fail_queued_receives(&mut self, index: SocketIndex, head: OperationIndex) {
        while let Some(next) = self.core.operations[head].next {
            self.core.operations[head].next = self.core.operations[next].next;
            self.core.fail(next, Error::new(ErrorKind::Cancelled));
        }
        self.core.sockets[index].receiving_mut().input = Input::Queue { head, tail: head };
    }

    fn abort(&mut self, index: SocketIndex, token: u64) {
        let entry = &mut self.core.sockets[index];
        if let Closing::Graceful { deadline, .. } = entry.closing {
            self.core.timers.remove(deadline);
        }
        self.begin_abort(index, token);
    }

    /// The same for a socket whose deadline, if it had one, has come.
    fn begin_abort(&mut self, index: SocketIndex, token: u64) {
        let entry = &mut self.core.sockets[index];
        entry.closing = Closing::Aborting { token };
        match &mut entry.role {
            Role::Listener(Listener { accepting, .. }) => {
                if let Some(operation) = accepting.operation() {
                    self.cancel_accept(operation);
                }
            }
            Role::Connecting(Connecting { attempt, .. }) => {
                if let Some(operation) = attempt.operation() {
                    self.cancel_connect(operation);
                }
            }
            Role::Stream(stream) => {
                stream.receiving.flow = Flow::Open;
                match (stream.sending.batch, stream.sending.head) {
                    (Batch::InKernel { .. }, Some(head)) => {
                        // Bytes that the network still reads without a copy are let go of by a reset only.
                        entry.endpoint.reset();
                        self.core.request_cancel(head);
                    }
                    _ => self.fail_sends(index, Error::new(ErrorKind::Cancelled)),
                }
                self.abort_receive(index);
            }
            Role::Datagram(datagram) => {
                datagram.receiving.flow = Flow::Open;
                self.cancel_datagrams(index);
                self.abort_receive(index);
            }
        }
        self.go_on_closing(index);
    }

    fn abort_receive(&mut self, index: SocketIndex) {
        match self.core.sockets[index].receiving().input {
            Input::None(_) => {}
            Input::Stream(stream) => self.cancel_receive(stream.operation),
            Input::Queue { head, .. } => {
                self.core.cancel_in_kernel(head);
                self.fail_queued_receives(index, head);
            }
        }
    }

    //= TIME-2
    pub(super) fn close_deadline_passed(&mut self, index: SocketIndex) {
        let entry = &mut self.core.sockets[index];
        let has_ended = entry.receiving().has_ended;
        let Closing::Graceful { token, deadline, put_off } = &mut entry.closing else {
            unreachable!("only a graceful close has a deadline")
        };
        if *put_off < PUT_OFF_TURNS_MAX && !has_ended && entry.endpoint.has_input() {
            *put_off += 1;
            *deadline = self.core.timers.insert(self.core.now_ns.saturating_add(1), Due::Close(index));
            return;
        }
        let token = *token;
        self.begin_abort(index, token);
    }

    /// The next step of a close, whenever something of it has ended.
    pub(super) fn go_on_closing(&mut self, index: SocketIndex) {
        let Some(entry) = self.core.sockets.get(index) else { return };
        let stream = match &entry.role {
            Role::Stream(stream) if !entry.is_aborting() => stream,
            _ => {
                if entry.is_quiet() {
                    self.finish_close(index);
                }
                return;
            }
        };
        // From the start, not only after the last send: a peer that waits for us to read may not read either.
        if stream.receiving.input.head().is_none() && !stream.receiving.has_ended {
            self.discard_input(index);
        }
        let entry = &mut self.core.sockets[index];
        let sending = entry.sending_mut();
        if sending.head.is_some() {
            return;
        }
        if sending.write != WriteSide::FinSent {
            sending.write = WriteSide::FinSent;
            // An error means that the connection is gone already: the receive side will say so.
            let _ = entry.endpoint.shut_write();
        }
        if entry.receiving().has_ended && entry.is_quiet() {
            self.finish_close(index);
        }
    }

    /// Input that nobody reads would turn the close into a reset and destroy what was just sent.
    fn discard_input(&mut self, index: SocketIndex) {
        let mut operation = Queued::new(0, Some(index), Body::Receive);
        operation.is_internal = true;
        let operation = self.core.insert(operation);
        self.core.sockets[index].receiving_mut().input = Input::Stream(self.core.stream_name(operation));
        self.arm_stream(index);
    }

    fn finish_close(&mut self, index: SocketIndex) {
        self.discard_held(index);
        let socket = self.core.socket_id(index);
        let entry = &mut self.core.sockets[index];
        let token = match entry.closing {
            Closing::No => unreachable!("it is closing"),
            Closing::Graceful { token, deadline, .. } => {
                self.core.timers.remove(deadline);
                token
            }
            Closing::Aborting { token } => {
                if matches!(entry.role, Role::Stream(_) | Role::Connecting(_)) {
                    entry.endpoint.reset_on_close();
                }
                token
            }
        };
        let operation = OperationId::NONE;
        self.core.push(Completion { token, operation, socket, more: false, outcome: Outcome::Closed });
        self.release(index);
    }

    /// The socket leaves the back end, its handle is closed, its slot may be used again.
    pub(super) fn release(&mut self, index: SocketIndex) {
        let entry = &mut self.core.sockets[index];
        debug_assert!(entry.is_quiet() && entry.find_receiving().is_none_or(|receiving| receiving.held.is_none()));
        let is_owed = entry.backlog_mut().is_some_and(|backlog| backlog.owed != Owed::Nothing);
        self.core.provider.detach(index.number());
        if is_owed {
            let id = self.core.socket_id(index);
            self.crowded.retain(|crowded| *crowded != id);
        }
        self.set_section(index, Section::Receive);
        self.core.sockets.remove(index);
    }

    fn shut_down(&mut self) {
        if std::mem::replace(&mut self.core.is_shut, true) {
            return;
        }
        self.mailbox.close();
        while let Some(message) = self.mailbox.pop() {
            if let Message::Submit(operation, token) = message {
                self.submit_mailed(operation, token);
            }
        }
        let timers: Vec<OperationIndex> = self
            .core
            .operations
            .indices()
            .filter(|index| matches!(self.core.operations[*index].body, Body::Timer { .. }))
            .collect();
        timers.into_iter().for_each(|index| self.cancel_index(index));
        let sockets: Vec<SocketIndex> = self.core.sockets.indices().collect();
        for index in sockets {
            if let Some(entry) = self.core.sockets.get(index).filter(|entry| !entry.is_aborting()) {
                let token = if let Closing::Graceful { token, .. } = entry.closing { token } else { 0 };
                self.abort(index, token);
            }
        }
        self.drain();
    }

    /// Turns the back end until it holds nothing of ours, or the deadline has passed.
    fn drain(&mut self) {
        let deadline = self.core.config.drain_deadline.min(time::DRAIN_MAX);
        let start = Instant::now();
        while self.core.in_kernel > 0 && start.elapsed() < deadline {
            let wait = Some(Duration::from_millis(10).min(deadline));
            // An error here is no reason to free what the kernel may still hold: try again until the deadline.
            if self.core.provider.turn(&mut self.core.requests, wait, &mut self.core.pool, &mut self.events).is_err() {
                std::thread::sleep(DRAIN_RETRY);
            }
            self.core.now_ns = self.core.profile.clock.now_ns();
            let mut events = std::mem::take(&mut self.events);
            events.drain(..).for_each(|event| self.dispatch(event));
            self.events = events;
        }
    }
}

impl Drop for Driver {
    //= DROP-1
    fn drop(&mut self) {
        self.shut_down();
        if self.core.in_kernel > 0 {
            stats::count_leaked(self.core.in_kernel as u64);
            let empty = Table::of(Slots::new(0, 1));
            std::mem::forget(std::mem::replace(&mut self.core.operations, empty));
            std::mem::forget(std::mem::take(&mut self.gathers));
            self.core.pool.leak();
        }
    }
}
