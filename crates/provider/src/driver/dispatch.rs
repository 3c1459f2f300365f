//! From events, deadlines and cancels to the parts that they are about, and from what has ended to what follows.

use crate::base::address::canonical;
use crate::base::error::Error;
use crate::base::index::OperationIndex;
use crate::base::timer::Due;
use crate::contract::{Event, EventResult, is_about_the_past};
use crate::driver::accept::{cancel_accept, on_accepted};
use crate::driver::backlog::tell_writable;
use crate::driver::completion::Outcome;
use crate::driver::connect::{cancel_connect, connect_again, on_connect_ended};
use crate::driver::core::{After, Core};
use crate::driver::datagram::{on_datagram, on_merged_datagrams};
use crate::driver::parts::Parts;
use crate::driver::queued::Body;
use crate::driver::receive::on_received_into;
use crate::driver::send::{cancel_send, end_plain};
use crate::driver::timer::{cancel_timer, expire};

impl Parts {
    /// An event always belongs to a live operation: a slot is freed by the request's final event, never before.
    //= OWN-1
    pub(super) fn dispatch(&mut self, core: &mut Core, event: Event) {
        let Some(operation) = core.operations.resolve(event.key) else {
            debug_assert!(false, "an event for an operation that has ended");
            return;
        };
        let more = event.more;
        let receives = &mut self.receives;
        let after = match event.result {
            EventResult::Accepted(socket) => on_accepted(core, operation, socket, more),
            EventResult::Connected => on_connect_ended(core, operation, Ok(())),
            EventResult::Received(buffer) => receives.on_received(core, operation, buffer, more),
            EventResult::Datagram(bytes, from) => on_datagram(core, receives, operation, bytes, canonical(from), more),
            EventResult::Datagrams(bytes, from, segment) => {
                on_merged_datagrams(core, receives, operation, bytes, canonical(from), segment, more)
            }
            EventResult::Truncated(from) => {
                let outcome = Outcome::Truncated { from: canonical(from) };
                receives.on_datagram_item(core, operation, outcome, more)
            }
            EventResult::ReceivedInto(length) => on_received_into(core, operation, Ok(length)),
            EventResult::Sent(bytes) => {
                if end_plain(core, operation, bytes) {
                    return;
                }
                if matches!(core.operations[operation].body, Body::SendDatagram(_)) {
                    self.datagrams.on_datagram_sent(core, operation, bytes)
                } else {
                    self.sends.on_sent(core, operation, bytes)
                }
            }
            EventResult::Failed(error) if more => {
                receives.on_datagram_item(core, operation, Outcome::Undelivered(error), true)
            }
            EventResult::Failed(error) => self.on_failed(core, operation, error),
        };
        self.follow(core, after);
    }

    /// Takes out all deadlines that have passed.
    pub(super) fn fire_timers(&mut self, core: &mut Core) {
        while let Some(due) = core.timers.pop_due(core.now_ns) {
            match due {
                Due::Operation(operation) => expire(core, operation),
                Due::Close(index) => self.close_deadline_passed(core, index),
                Due::Accept(index) => self.accepts.accept_again(core, index),
                Due::Connect(index) => connect_again(core, index),
            }
        }
    }

    /// Ends an operation early, for its caller.
    pub(super) fn cancel_operation(&mut self, core: &mut Core, operation: OperationIndex) {
        let after = match core.operations[operation].body {
            Body::Timer { .. } => {
                cancel_timer(core, operation);
                After::Nothing
            }
            Body::Send(_) | Body::ShutdownWrite => {
                cancel_send(core, operation);
                After::Nothing
            }
            Body::Accept => cancel_accept(core, operation),
            Body::Connect(_) => cancel_connect(core, operation),
            Body::SendDatagram(..) => {
                core.cancel_in_kernel(operation);
                After::Nothing
            }
            Body::Receive | Body::ReceiveInto(_) => self.receives.cancel_receive(core, operation),
        };
        self.follow(core, after);
    }

    /// Hands over all sends that were queued.
    pub(super) fn pump_sends(&mut self, core: &mut Core) {
        while let Some(emptied) = self.sends.pump_dirty(core) {
            self.follow(core, After::Sent(emptied));
        }
    }

    /// Does what follows from an end.
    #[inline]
    pub(super) fn follow(&mut self, core: &mut Core, after: After) {
        let index = match after {
            After::Nothing => return,
            After::Abandoned(index) => return self.release(core, index),
            After::Ended(index) => index,
            After::Sent(index) => {
                tell_writable(core, index);
                index
            }
        };
        if core.sockets[index].is_closing() {
            self.go_on_closing(core, index);
        }
    }

    fn on_failed(&mut self, core: &mut Core, operation: OperationIndex, error: Error) -> After {
        match core.operations[operation].body {
            Body::Accept => self.accepts.on_accept_failed(core, operation, error),
            Body::Connect(_) => on_connect_ended(core, operation, Err(error)),
            Body::Receive => {
                let is_datagram = core.sockets[core.operations[operation].socket()].is_datagram();
                if is_datagram && is_about_the_past(error) {
                    return self.receives.on_datagram_item(core, operation, Outcome::Undelivered(error), false);
                }
                self.receives.on_receive_failed(core, operation, error)
            }
            Body::ReceiveInto(_) => on_received_into(core, operation, Err(error)),
            Body::Send(_) => self.sends.on_send_failed(core, operation, error),
            Body::SendDatagram(..) => self.datagrams.on_datagram_failed(core, operation, error),
            Body::ShutdownWrite | Body::Timer { .. } => {
                debug_assert!(false, "never in the kernel");
                After::Nothing
            }
        }
    }
}
