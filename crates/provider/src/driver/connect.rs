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
use crate::driver::socket::{Body, Flags};
use crate::memory::Span;

/// First and longest pause before a listener without room is asked again, in milliseconds; it doubles in between.
const AGAIN_MS_MIN: u16 = 1;
const AGAIN_MS_MAX: u16 = 64;

impl Driver {
    pub(super) fn hand_over_connect(&mut self, operation: OperationIndex) {
        if let Body::Connect(address) = &self.core.operations[operation].body {
            let span = Span { pointer: address.as_ptr().cast(), length: address.len() as usize };
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
        let entry = &mut self.core.sockets[index];
        entry.backoff_ms = (entry.backoff_ms * 2).clamp(AGAIN_MS_MIN, AGAIN_MS_MAX);
        let after = Duration::from_millis(u64::from(entry.backoff_ms));
        entry.timer = Some(self.core.timers.insert(time::after(self.core.now_ns, after), Due::Connect(index)));
    }

    /// From here on in the mode of all others.
    fn restore_mode(&self, index: SocketIndex) -> Result<(), Error> {
        self.core.sockets[index].endpoint.set_nonblocking(self.core.profile.is_nonblocking)
    }

    pub(super) fn connect_again(&mut self, index: SocketIndex) {
        self.core.sockets[index].timer = None;
        if let Some(operation) = self.core.sockets[index].receive_head {
            self.hand_over_connect(operation);
        }
    }

    pub(super) fn cancel_connect(&mut self, operation: OperationIndex) {
        if self.core.operations[operation].is_armed {
            return self.core.cancel_in_kernel(operation);
        }
        self.core.stop_timer(self.core.operations[operation].socket());
        self.end_connect(operation, Err(Error::new(ErrorKind::Cancelled)));
    }

    fn end_connect(&mut self, operation: OperationIndex, result: Result<(), Error>) {
        let index = self.core.operations[operation].socket();
        self.core.sockets[index].receive_head = None;
        let is_unix = matches!(&self.core.operations[operation].body, Body::Connect(address) if address.is_unix());
        let result = if is_unix { result.and_then(|()| self.restore_mode(index)) } else { result };
        let is_closing = self.core.sockets[index].is(Flags::CLOSING);
        match result {
            Ok(()) => {
                self.core.sockets[index].set(Flags::CONNECTING, false);
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
}
