//! Receive: what comes from a session's connection and from its timer, and input that was held.

use raon_provider::{OperationId, Outcome};

use super::Shard;
use crate::application::Application;

/// Messages of held input after which a step gives no more of it: a few milliseconds. The rest comes first in the next step,
/// after whatever has come for the others.
const HELD_MESSAGES_PER_STEP: u64 = 4096;

impl<A: Application> Shard<A> {
    /// Something of a session's connection has ended or come.
    #[inline]
    pub(super) fn on_session(&mut self, index: u32, more: bool, outcome: Outcome) {
        match outcome {
            Outcome::Received(buffer) if buffer.is_empty() && !more => self.on_peer_end(index),
            Outcome::Received(buffer) => self.on_received(index, &buffer),
            Outcome::Writable => self.delivery.with_core(|core| core.writable(index)),
            Outcome::Closed => {
                self.delivery.with_core(|core| core.socket_closed(index));
                self.release(index);
            }
            Outcome::Failed { error, .. } => {
                self.delivery.with_core(|core| core.connection_failed(index, error.kind()));
            }
            // A session's socket is asked for nothing else.
            _ => {}
        }
    }

    /// The session's timer has fired.
    pub(super) fn on_liveness(&mut self, index: u32, operation: OperationId) {
        let action = self.delivery.with_core(|core| core.deadline_passed(index, operation));
        self.act_on(index, action);
    }

    /// The end comes after the input that waits.
    //= FLOW-1
    fn on_peer_end(&mut self, index: u32) {
        if !self.delivery.with_core(|core| core.hold_end(index)) {
            self.delivery.peer_ended(index);
        }
    }

    /// Gives what is in a receive buffer to the application, unless input from before it waits or reading stops on the way.
    fn on_received(&mut self, index: u32, bytes: &[u8]) {
        self.delivery.stats_mut().bytes_received += bytes.len() as u64;
        let is_held = self.delivery.core().has_held_input(index);
        let left = if is_held { bytes.len() } else { self.delivery.input(index, bytes) };
        if left > 0 {
            self.delivery.with_core(|core| core.hold(index, &bytes[bytes.len() - left..]));
        }
    }

    /// Works off the held input of all sessions that can go on, a portion of each. True if there was any.
    //= FLOW-1
    pub(super) fn work_off_held(&mut self) -> bool {
        let count = self.delivery.core().ready();
        let received = |shard: &Self| shard.delivery.core().stats().messages_received;
        let before = received(self);
        for _ in 0..count {
            if received(self) - before >= HELD_MESSAGES_PER_STEP {
                break;
            }
            self.work_off();
        }
        count > 0
    }

    fn work_off(&mut self) {
        let Some((index, held)) = self.delivery.with_core(|core| core.next_ready()) else { return };
        let left = self.delivery.input(index, held.portion());
        if self.delivery.with_core(|core| core.put_back(index, held, left)) {
            self.on_peer_end(index);
        }
    }
}
