//! Requests become system calls.

use super::blocks::{BlockId, Job, Started, Use};
use super::{Arming, Iocp, State, connect, message, transfer};
use crate::contract::input::Input;
use crate::contract::{Action, CompletionMode, Event, EventResult, Request, RequestKey};
use crate::memory::{Span, SpanList, SpanMut, Target};

impl Iocp {
    pub(super) fn start(&mut self, request: Request, events: &mut Vec<Event>) {
        let Request { key, socket, handle, action } = request;
        let user = |job| Use { key, socket, handle, job };
        match action {
            Action::Accept => {
                let State { handle, facts, .. } = self.io.sockets[socket as usize];
                self.accepts.start(key, socket, handle, facts);
            }
            Action::Connect(address) => self.start_connect(user(Job::Connect), address, events),
            Action::Receive(section, shots) => {
                if !self.inputs.start(socket, key, Input::Stream(section, shots)) {
                    self.arm(socket, key, events);
                }
            }
            Action::ReceiveDatagrams(section, _) => {
                self.inputs.start(socket, key, Input::Datagrams(section));
                // One may have arrived in the socket's own memory.
                self.inputs.readable(socket);
            }
            Action::ReceiveInto(span) => self.start_receive_into(user(Job::ReceiveInto), span, events),
            Action::Send(span, mode) => {
                self.pieces.fill(&[span]);
                self.start_send(user(Job::Send(mode)), events);
            }
            Action::SendList(list, mode) => {
                list.with(|spans| self.pieces.fill(spans));
                self.start_send(user(Job::Send(mode)), events);
            }
            Action::SendDatagram(list, target, mode) => {
                self.start_datagram(user(Job::SendDatagram(mode)), list, target, events);
            }
            Action::Cancel => self.cancel(key, socket, events),
        }
    }

    /// Waits until the socket has something.
    fn arm(&mut self, socket: u32, key: RequestKey, events: &mut Vec<Event>) {
        match self.io.arm(socket, key) {
            Ok(false) => {}
            Ok(true) => self.inputs.readable(socket),
            Err(error) => {
                self.is_urgent = true;
                events.extend(self.inputs.end(socket, key, EventResult::Failed(error)));
            }
        }
    }

    fn start_connect(&mut self, user: Use, address: Span, events: &mut Vec<Event>) {
        self.counters.kernel_entries.add(2);
        let id = self.io.blocks.take(user);
        let skips = self.io.sockets[user.socket as usize].facts.skips;
        let started = connect::start(&self.io.extensions, &self.io.blocks, id, user.handle, address, skips);
        self.conclude_start(id, started, events);
    }

    fn start_receive_into(&mut self, user: Use, span: SpanMut, events: &mut Vec<Event>) {
        self.counters.kernel_entries.add(1);
        let id = self.io.blocks.take(user);
        let skips = self.io.sockets[user.socket as usize].facts.skips;
        let started = transfer::receive(user.handle, span, self.io.blocks.overlapped(id.index), skips);
        self.conclude_start(id, started, events);
    }

    fn start_send(&mut self, user: Use, events: &mut Vec<Event>) {
        self.counters.kernel_entries.add(1);
        let id = self.io.blocks.take(user);
        let skips = self.io.sockets[user.socket as usize].facts.skips;
        let started = transfer::send(user.handle, &self.pieces, self.io.blocks.overlapped(id.index), skips);
        self.conclude_start(id, started, events);
    }

    fn start_datagram(&mut self, user: Use, list: SpanList, target: Target, events: &mut Vec<Event>) {
        self.counters.kernel_entries.add(1);
        list.with(|spans| self.pieces.fill(spans));
        let id = self.io.blocks.take(user);
        let skips = self.io.sockets[user.socket as usize].facts.skips;
        let started = message::send(&self.io.blocks, id.index, user.handle, skips, &self.pieces, target);
        self.conclude_start(id, started, events);
    }

    /// What has ended at once is reported at once.
    fn conclude_start(&mut self, id: BlockId, started: Started, events: &mut Vec<Event>) {
        let (result, user) = match started {
            Started::Pending => return,
            Started::Done(bytes) => (Ok(bytes), self.io.blocks.release(id.index)),
            Started::Failed(error) => (Err(error), self.io.blocks.settle(id.index, &self.io.port)),
        };
        if let Some(user) = user {
            let is_lazy =
                matches!(user.job, Job::Send(CompletionMode::OnError) | Job::SendDatagram(CompletionMode::OnError));
            self.is_urgent |= !is_lazy || result.is_err();
            self.report(user, result, events);
        }
    }

    /// Asks for a request to end. Its final event follows when the system has let go of it.
    //= CANCEL-1
    fn cancel(&mut self, key: RequestKey, socket: u32, events: &mut Vec<Event>) {
        let arming = &mut self.io.sockets[socket as usize].arming;
        let before = events.len();
        let is_input = self.inputs.request(socket).is_some_and(|(pending, _)| pending == key);
        if is_input && *arming == Arming::Idle {
            events.extend(self.inputs.cancel(socket, key));
        } else if is_input || !self.accepts_with(events, |accepts, around| accepts.cancel(key, around)) {
            if is_input {
                self.io.sockets[socket as usize].arming = Arming::Cancelled;
            }
            self.cancel_block(key);
        }
        self.is_urgent |= events.len() > before;
    }

    fn cancel_block(&mut self, key: RequestKey) {
        if let Some(id) = self.io.blocks.of_request(key) {
            self.counters.kernel_entries.add(1);
            self.io.blocks.cancel(id);
        }
    }
}
