//! From events of the back end to what they mean.

use super::Driver;
use crate::base::address::canonical;
use crate::base::error::Error;
use crate::base::index::OperationIndex;
use crate::contract::{Event, EventResult};
use crate::driver::completion::Outcome;
use crate::driver::queued::Body;

impl Driver {
    /// An event always belongs to a live operation: a slot is freed by the request's final event, never before.
    //= OWN-1
    pub(super) fn dispatch(&mut self, event: Event) {
        let Some(operation) = self.core.operations.resolve(event.key) else {
            debug_assert!(false, "an event for an operation that has ended");
            return;
        };
        match event.result {
            EventResult::Accepted(socket) => self.on_accepted(operation, socket, event.more),
            EventResult::Connected => self.on_connect_ended(operation, Ok(())),
            EventResult::Received(buffer) => self.on_received(operation, buffer, event.more),
            EventResult::Datagram(bytes, from) => self.on_datagram(operation, bytes, canonical(from), event.more),
            EventResult::Datagrams(bytes, from, segment) => {
                self.on_merged_datagrams(operation, bytes, canonical(from), segment, event.more);
            }
            EventResult::Truncated(from) => {
                let outcome = Outcome::Truncated { from: canonical(from) };
                self.on_datagram_item(operation, outcome, event.more);
            }
            EventResult::ReceivedInto(length) => self.on_received_into(operation, Ok(length)),
            EventResult::Sent(bytes) => self.on_sent(operation, bytes),
            EventResult::Failed(error) if event.more => {
                self.on_datagram_item(operation, Outcome::Undelivered(error), true);
            }
            EventResult::Failed(error) => self.on_failed(operation, error),
        }
    }

    fn on_failed(&mut self, operation: OperationIndex, error: Error) {
        match self.core.operations[operation].body {
            Body::Accept => self.on_accept_failed(operation, error),
            Body::Connect(_) => self.on_connect_ended(operation, Err(error)),
            Body::Receive => self.on_receive_failed(operation, error),
            Body::ReceiveInto(_) => self.on_received_into(operation, Err(error)),
            Body::Send(_) => self.on_send_failed(operation, error),
            Body::SendDatagram(..) => self.on_datagram_failed(operation, error),
            Body::ShutdownWrite | Body::Timer { .. } => debug_assert!(false, "never in the kernel"),
        }
    }
}
