//! Requests become system calls.

use super::accept::Surroundings;
use super::blocks::{BlockId, Job, Started, Use};
use super::{Awaited, Input, Iocp, connect, message, transfer};
use crate::base::error::{Error, ErrorKind};
use crate::contract::{Action, Event, EventResult, Notice, Request, RequestKey};
use crate::memory::{Span, SpanList, SpanMut, Target};

impl Iocp {
    pub(super) fn start(&mut self, request: Request, events: &mut Vec<Event>) {
        let Request { key, socket, handle, action } = request;
        let user = |job| Use { key, socket, handle, job };
        match action {
            Action::Accept => self.start_accept(key, socket),
            Action::Connect(address) => self.start_connect(user(Job::Connect), address, events),
            Action::Receive(section, shots) => {
                self.await_input(key, socket, Input::Stream(section, shots));
                self.arm(socket, events);
            }
            Action::ReceiveDatagrams(section, _) => {
                self.await_input(key, socket, Input::Datagrams(section));
                self.enqueue(socket);
            }
            Action::ReceiveInto(span) => self.start_receive_into(user(Job::ReceiveInto), span, events),
            Action::Send(span, notice) => {
                self.pieces.fill(&[span]);
                self.start_send(user(Job::Send(notice)), events);
            }
            Action::SendList(list, notice) => {
                list.with(|spans| self.pieces.fill(spans));
                self.start_send(user(Job::Send(notice)), events);
            }
            Action::SendDatagram(list, target, notice) => {
                self.start_datagram(user(Job::SendDatagram(notice)), list, target, events);
            }
            Action::Cancel => self.cancel(key, socket, events),
        }
    }

    fn await_input(&mut self, key: RequestKey, socket: u32, input: Input) {
        let awaited = Awaited { key, input, is_armed: false, is_cancelled: false };
        self.sockets[socket as usize].awaited = Some(awaited);
    }

    fn start_accept(&mut self, key: RequestKey, socket: u32) {
        let state = &self.sockets[socket as usize];
        self.accepts.start(key, socket, state.handle, state.facts);
        self.await_input(key, socket, Input::Accept);
        self.enqueue(socket);
    }

    fn start_connect(&mut self, user: Use, address: Span, events: &mut Vec<Event>) {
        self.counters.kernel_entries.add(2);
        let id = self.blocks.take(user);
        let skips = self.sockets[user.socket as usize].facts.skips;
        let started = connect::start(&self.extensions, &self.blocks, id, user.handle, address, skips);
        self.conclude_start(id, started, events);
    }

    fn start_receive_into(&mut self, user: Use, span: SpanMut, events: &mut Vec<Event>) {
        self.counters.kernel_entries.add(1);
        let id = self.blocks.take(user);
        let skips = self.sockets[user.socket as usize].facts.skips;
        let started = transfer::receive(user.handle, span, self.blocks.overlapped(id.index), skips);
        self.conclude_start(id, started, events);
    }

    fn start_send(&mut self, user: Use, events: &mut Vec<Event>) {
        self.counters.kernel_entries.add(1);
        let id = self.blocks.take(user);
        let skips = self.sockets[user.socket as usize].facts.skips;
        let started = transfer::send(user.handle, &self.pieces, self.blocks.overlapped(id.index), skips);
        self.conclude_start(id, started, events);
    }

    fn start_datagram(&mut self, user: Use, list: SpanList, target: Target, events: &mut Vec<Event>) {
        self.counters.kernel_entries.add(1);
        list.with(|spans| self.pieces.fill(spans));
        let id = self.blocks.take(user);
        let skips = self.sockets[user.socket as usize].facts.skips;
        let started = message::send(&self.blocks, id.index, user.handle, skips, &self.pieces, target);
        self.conclude_start(id, started, events);
    }

    /// What has ended at once is reported at once.
    fn conclude_start(&mut self, id: BlockId, started: Started, events: &mut Vec<Event>) {
        let (result, user) = match started {
            Started::Pending => return,
            Started::Done(bytes) => (Ok(bytes), self.blocks.release(id.index)),
            Started::Failed(error) => (Err(error), self.blocks.settle(id.index, &self.port)),
        };
        if let Some(user) = user {
            let is_lazy = matches!(user.job, Job::Send(Notice::Lazy) | Job::SendDatagram(Notice::Lazy));
            self.is_urgent |= !is_lazy || result.is_err();
            self.report(user, result, events);
        }
    }

    /// Asks for a request to end. Its final event follows when the system has let go of it.
    //= CANCEL-1
    fn cancel(&mut self, key: RequestKey, socket: u32, events: &mut Vec<Event>) {
        let awaited = &mut self.sockets[socket as usize].awaited;
        match awaited.filter(|awaited| awaited.key == key) {
            Some(Awaited { input: Input::Accept, .. }) => self.cancel_accept(key, socket, events),
            Some(Awaited { is_armed: false, .. }) => {
                *awaited = None;
                self.is_urgent = true;
                let result = EventResult::Failed(Error::new(ErrorKind::Cancelled));
                events.push(Event { key, more: false, result });
            }
            Some(armed) => {
                *awaited = Some(Awaited { is_cancelled: true, ..armed });
                self.cancel_block(key);
            }
            None => self.cancel_block(key),
        }
    }

    fn cancel_accept(&mut self, key: RequestKey, socket: u32, events: &mut Vec<Event>) {
        let has_ended = self.accepts_with(events, |accepts, around: &mut Surroundings<'_>| accepts.cancel(key, around));
        if has_ended {
            self.is_urgent = true;
            self.sockets[socket as usize].awaited = None;
        }
    }

    fn cancel_block(&mut self, key: RequestKey) {
        if let Some(id) = self.blocks.of_request(key) {
            self.counters.kernel_entries.add(1);
            self.blocks.cancel(id);
        }
    }
}
