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
use crate::driver::socket::{Body, Flags, Operation};

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
        let entry = &mut self.core.sockets[index];
        entry.set(Flags::CLOSING, true);
        entry.close_token = token;
        let is_stream = !entry.is(Flags::LISTENER) && !entry.is(Flags::CONNECTING);
        match mode {
            CloseMode::Graceful { deadline } if entry.is(Flags::DATAGRAM) => self.close_datagrams(index, deadline),
            //= CLOSE-2
            CloseMode::Graceful { deadline } if is_stream => self.close_gracefully(index, deadline),
            _ => self.abort(index),
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

    fn close_gracefully(&mut self, index: SocketIndex, deadline: Duration) {
        let deadline_ns = time::after(self.core.profile.clock.now_ns(), deadline);
        self.core.sockets[index].timer = Some(self.core.timers.insert(deadline_ns, Due::Close(index)));
        self.core.sockets[index].set(Flags::PAUSED, false);
        self.discard_held(index);
        if let Some(head) = self.core.sockets[index].receive_head {
            match &self.core.operations[head].body {
                Body::Receive => self.stream_becomes_internal(index, head),
                _ => {
                    self.core.cancel_in_kernel(head);
                    self.fail_queued_receives(index, head);
                }
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
        self.core.sockets[index].receive_tail = Some(head);
    }

    fn abort(&mut self, index: SocketIndex) {
        self.core.stop_timer(index);
        let entry = &mut self.core.sockets[index];
        entry.set(Flags::ABORT, true);
        entry.set(Flags::PAUSED, false);
        let batch = entry.send_head.filter(|_| entry.batch_count > 0);
        if entry.is(Flags::DATAGRAM) {
            self.cancel_datagrams(index);
        } else if let Some(head) = batch {
            // Bytes that the network still reads without a copy are let go of by a reset only.
            entry.endpoint.reset();
            self.core.request_cancel(head);
        } else {
            self.fail_sends(index, Error::new(ErrorKind::Cancelled));
        }
        // Last: with nothing else left, the end of the receive side ends the socket.
        if let Some(head) = self.core.sockets[index].receive_head {
            self.abort_receive(index, head);
        }
        self.go_on_closing(index);
    }

    fn abort_receive(&mut self, index: SocketIndex, head: OperationIndex) {
        match self.core.operations[head].body {
            Body::Accept => self.cancel_accept(head),
            Body::Connect(_) => self.cancel_connect(head),
            Body::ReceiveInto(_) => {
                self.core.cancel_in_kernel(head);
                self.fail_queued_receives(index, head);
            }
            _ => self.cancel_receive(head),
        }
    }

    //= TIME-2
    pub(super) fn close_deadline_passed(&mut self, index: SocketIndex) {
        let entry = &mut self.core.sockets[index];
        entry.timer = None;
        if entry.put_off < PUT_OFF_TURNS_MAX && !entry.is(Flags::ENDED) && entry.endpoint.has_input() {
            entry.put_off += 1;
            entry.timer = Some(self.core.timers.insert(self.core.now_ns.saturating_add(1), Due::Close(index)));
            return;
        }
        self.abort(index);
    }

    /// The next step of a close, whenever something of it has ended.
    pub(super) fn go_on_closing(&mut self, index: SocketIndex) {
        let Some(entry) = self.core.sockets.get(index) else { return };
        if entry.is(Flags::ABORT) || entry.is(Flags::DATAGRAM) {
            if entry.is_quiet() {
                self.finish_close(index);
            }
            return;
        }
        // From the start, not only after the last send: a peer that waits for us to read may not read either.
        if entry.receive_head.is_none() && !entry.is(Flags::ENDED) {
            self.discard_input(index);
        }
        let entry = &self.core.sockets[index];
        if entry.send_head.is_some() {
            return;
        }
        if !entry.is(Flags::FIN_SENT) {
            self.core.sockets[index].set(Flags::FIN_SENT, true);
            // An error means that the connection is gone already: the receive side will say so.
            let _ = self.core.sockets[index].endpoint.shut_write();
        }
        let entry = &self.core.sockets[index];
        if entry.is(Flags::ENDED) && entry.is_quiet() {
            self.finish_close(index);
        }
    }

    /// Input that nobody reads would turn the close into a reset and destroy what was just sent.
    fn discard_input(&mut self, index: SocketIndex) {
        let mut operation = Operation::new(0, Some(index), Body::Receive);
        operation.is_internal = true;
        let operation = self.core.insert(operation);
        self.core.sockets[index].receive_head = Some(operation);
        self.arm_stream(index);
    }

    fn finish_close(&mut self, index: SocketIndex) {
        self.core.stop_timer(index);
        self.discard_held(index);
        let socket = self.core.socket_id(index);
        let (token, is_abort) = (self.core.sockets[index].close_token, self.core.sockets[index].is(Flags::ABORT));
        let is_stream = !self.core.sockets[index].is(Flags::LISTENER) && !self.core.sockets[index].is(Flags::DATAGRAM);
        if is_abort && is_stream {
            self.core.sockets[index].endpoint.reset_on_close();
        }
        let operation = OperationId::NONE;
        self.core.push(Completion { token, operation, socket, more: false, outcome: Outcome::Closed });
        self.release(index);
    }

    /// The socket leaves the back end, its handle is closed, its slot may be used again.
    pub(super) fn release(&mut self, index: SocketIndex) {
        let entry = &self.core.sockets[index];
        debug_assert!(entry.is_quiet() && entry.held_head.is_none() && entry.timer.is_none());
        let is_owed = entry.is(Flags::WRITABLE_OWED);
        self.core.provider.detach(index.number());
        if is_owed {
            let id = self.core.socket_id(index);
            self.crowded.retain(|crowded| *crowded != id);
        }
        self.set_bulk(index, false);
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
            if self.core.sockets.get(index).is_some() && !self.core.sockets[index].is(Flags::ABORT) {
                self.core.sockets[index].set(Flags::CLOSING, true);
                self.abort(index);
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
