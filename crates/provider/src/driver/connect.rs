//! Connects: one request each, asked for again as long as the listener has no room.

use std::time::Duration;

use super::Driver;
use crate::base::error::{Error, ErrorKind};
use crate::base::index::{OperationIndex, SocketIndex};
use crate::base::time;
use crate::base::timer::Due;
use crate::contract::Action;
use crate::contract::stats::LatencyKind;
use crate::driver::completion::Outcome;
use crate::driver::queued::Body;
use crate::driver::socket::{Attempt, Connecting, Role, Stream};
use crate::memory::Span;

/// First and longest pause before a listener without room is asked again, in milliseconds; it doubles in between.
const PAUSE_MS_MIN: u16 = 1;
const PAUSE_MS_MAX: u16 = 64;

impl Driver {
    pub(super) fn hand_over_connect(&mut self, index: SocketIndex, operation: OperationIndex) {
        if let Body::Connect(address) = &self.core.operations[operation].body {
            let span = Span { pointer: address.as_ptr().cast(), length: address.len() as usize };
            self.connecting(index).attempt = Attempt::InKernel(operation);
            self.core.hand_over(operation, Action::Connect(span));
        }
    }

    pub(super) fn on_connect_ended(&mut self, operation: OperationIndex, result: Result<(), Error>) {
        self.core.taken_back(operation);
        match result {
            Err(error) if error.kind() == ErrorKind::Busy && !self.core.operations[operation].is_cancelled => {
                self.connect_later(operation);
            }
            Err(error) if error.kind() == ErrorKind::Busy => {
                self.end_connect(operation, Err(Error::new(ErrorKind::Cancelled)));
            }
            result => self.end_connect(operation, result),
        }
    }

    /// Nothing tells when a Unix listener has room again, see connect(2) on EAGAIN.
    fn connect_later(&mut self, operation: OperationIndex) {
        let index = self.core.operations[operation].socket();
        let pause_ms = (self.connecting(index).pause_ms * 2).clamp(PAUSE_MS_MIN, PAUSE_MS_MAX);
        let due_ns = time::after(self.core.now_ns, Duration::from_millis(u64::from(pause_ms)));
        let timer = self.core.timers.insert(due_ns, Due::Connect(index));
        *self.connecting(index) = Connecting { attempt: Attempt::Pausing(operation, timer), pause_ms };
    }

    /// From here on in the mode of all others.
    fn restore_mode(&self, index: SocketIndex) -> Result<(), Error> {
        self.core.sockets[index].endpoint.set_nonblocking(self.core.profile.is_nonblocking)
    }

    pub(super) fn connect_again(&mut self, index: SocketIndex) {
        if let Attempt::Pausing(operation, _) = self.connecting(index).attempt {
            self.hand_over_connect(index, operation);
        }
    }

    pub(super) fn cancel_connect(&mut self, operation: OperationIndex) {
        let index = self.core.operations[operation].socket();
        if let Attempt::Pausing(_, timer) = self.connecting(index).attempt {
            self.core.timers.remove(timer);
            self.end_connect(operation, Err(Error::new(ErrorKind::Cancelled)));
        } else {
            self.core.cancel_in_kernel(operation);
        }
    }

    fn end_connect(&mut self, operation: OperationIndex, result: Result<(), Error>) {
        let index = self.core.operations[operation].socket();
        self.connecting(index).attempt = Attempt::None;
        let is_unix = matches!(&self.core.operations[operation].body, Body::Connect(address) if address.is_unix());
        let result = if is_unix { result.and_then(|()| self.restore_mode(index)) } else { result };
        let is_closing = self.core.sockets[index].is_closing();
        match result {
            Ok(()) => {
                self.core.sockets[index].role = Role::Stream(Stream::default());
                let waited_ns = self.core.now_ns.saturating_sub(self.core.operations[operation].submitted_ns);
                self.core.counters.latency(LatencyKind::Connect, waited_ns);
                self.core.complete(operation, Outcome::Connected);
            }
            Err(error) => {
                self.core.complete(operation, Outcome::Failed { error, payload: None, transferred: 0 });
                if !is_closing {
                    // The caller never had this socket: there is nothing to report about its end.
                    return self.release(index);
                }
            }
        }
        if is_closing {
            self.go_on_closing(index);
        }
    }

    fn connecting(&mut self, index: SocketIndex) -> &mut Connecting {
        let Role::Connecting(connecting) = &mut self.core.sockets[index].role else {
            unreachable!("only a socket that connects has a connect")
        };
        connecting
    }
}
