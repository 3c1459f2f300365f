//! Requests of a readiness back end: each is tried at once if its socket may be ready, else it waits in the socket's state.

use super::outbox::OUTBOX_MAX;
use super::{Output, Readiness, Selector, calls};
use crate::base::attempt::Attempt;
use crate::base::error::{Error, ErrorKind};
use crate::contract::input::Input;
use crate::contract::{Action, Event, EventResult, Request, RequestKey};
use crate::memory::Span;

impl<S: Selector> Readiness<S> {
    pub(super) fn start(&mut self, request: Request, events: &mut Vec<Event>) {
        let Request { key, socket, action, .. } = request;
        if let Some(input) = Input::of(action) {
            self.inputs.start(socket, key, input);
            return;
        }
        match action {
            Action::Connect(address) => self.start_connect(socket, key, address, events),
            Action::Send(span, _) => self.start_output(socket, key, Output::Send(span), events),
            Action::SendList(list, _) => self.start_output(socket, key, Output::SendList(list), events),
            Action::SendDatagram(list, target, _) => {
                if self.outbox.socket != socket || self.outbox.len() == OUTBOX_MAX {
                    self.send_outbox(events);
                }
                self.outbox.put(socket, key, list, target);
            }
            Action::Cancel => {
                // What is asked to end must have been tried.
                self.send_outbox(events);
                self.cancel(socket, key, events);
            }
            Action::Accept | Action::Receive(..) | Action::ReceiveInto(_) | Action::ReceiveDatagrams(..) => {}
        }
    }

    fn start_connect(&mut self, socket: u32, key: RequestKey, address: Span, events: &mut Vec<Event>) {
        self.counters.kernel_entries.add(1);
        let state = &mut self.sockets.states[socket as usize];
        match calls::connect(state.handle, address) {
            Attempt::Done(()) => events.push(Event::last(key, EventResult::Connected)),
            Attempt::Later => {
                state.writable = false;
                state.output = Some((key, Output::Connect));
            }
            Attempt::Failed(error) => events.push(Event::last(key, EventResult::Failed(error))),
        }
    }

    fn start_output(&mut self, socket: u32, key: RequestKey, output: Output, events: &mut Vec<Event>) {
        let state = &mut self.sockets.states[socket as usize];
        state.output = Some((key, output));
        if state.writable {
            self.try_output(socket, events);
        }
    }

    /// Tries what the socket has to send, or how its connect has ended.
    pub(super) fn try_output(&mut self, socket: u32, events: &mut Vec<Event>) {
        let state = &mut self.sockets.states[socket as usize];
        let Some((key, output)) = state.output else { return };
        self.counters.kernel_entries.add(1);
        let tried = match output {
            Output::Connect => calls::connect_result(state.handle).map(|()| EventResult::Connected),
            Output::Send(span) => calls::send(state.handle, span).map(EventResult::Sent),
            Output::SendList(list) => calls::send_list(state.handle, list).map(EventResult::Sent),
        };
        let result = match tried {
            Attempt::Done(result) => result,
            Attempt::Failed(error) => EventResult::Failed(error),
            Attempt::Later => {
                state.writable = false;
                return;
            }
        };
        state.output = None;
        events.push(Event::last(key, result));
    }

    //= CANCEL-1
    fn cancel(&mut self, socket: u32, key: RequestKey, events: &mut Vec<Event>) {
        if let Some(event) = self.inputs.cancel(socket, key) {
            return events.push(event);
        }
        let state = &mut self.sockets.states[socket as usize];
        let is_output = state.output.take_if(|(pending, _)| *pending == key).is_some();
        let is_parked = state.parked > 0 && self.outbox.unpark(key);
        if is_parked {
            state.parked -= 1;
        }
        if is_output || is_parked {
            events.push(Event::last(key, EventResult::Failed(Error::new(ErrorKind::Cancelled))));
        }
    }
}
