//! Deadlines of sessions: one timer each, forgiven when the shard was late.

use std::time::Duration;

use raon_provider::OperationId;
use raon_session::{Framing, TimerAction};

use super::ShardCore;
use crate::base::id::Token;

impl<F: Framing> ShardCore<F> {
    /// Sets the session's timer if it is needed earlier than it is set.
    pub(super) fn arm(&mut self, index: u32) {
        let Some(entry) = self.table.get_mut(index) else { return };
        if let Some(at_ns) = entry.session.arm(&self.settings.session) {
            self.set_deadline(index, at_ns);
        }
    }

    /// Sets the session's timer in place of the one that is set.
    pub(crate) fn set_deadline(&mut self, index: u32, at_ns: u64) {
        let token = Token::Liveness(self.table.id(index)).bits();
        let Some(entry) = self.table.get_mut(index) else { return };
        if entry.timer != OperationId::NONE {
            // It may have fired in this turn: then it is stale, and what it brings is early and does nothing.
            let _ = self.driver.cancel(entry.timer);
        }
        let after = Duration::from_nanos(at_ns.saturating_sub(self.driver.now_ns()));
        // Refused only for want of operations, of which there is one per session for this.
        entry.timer = self.driver.timer(after, token).unwrap_or(OperationId::NONE);
    }

    /// The session's timer has fired: what follows.
    pub(crate) fn deadline_passed(&mut self, index: u32, operation: OperationId) -> TimerAction {
        let now_ns = self.driver.now_ns();
        let Some(entry) = self.table.get_mut(index) else { return TimerAction::Nothing };
        if entry.timer == operation {
            entry.timer = OperationId::NONE;
        }
        if entry.held.is_some() {
            entry.session.excuse_silence(&self.settings.session, now_ns);
        }
        entry.session.timer_fired(&self.settings.session, now_ns)
    }

    /// Finds out what is due now, whatever the timer was set for.
    pub(crate) fn check_deadlines(&mut self, index: u32) -> TimerAction {
        let now_ns = self.driver.now_ns();
        let Some(entry) = self.table.get_mut(index) else { return TimerAction::Nothing };
        // A session whose input is held back is not silent.
        if entry.held.is_some() {
            entry.session.excuse_silence(&self.settings.session, now_ns);
        }
        entry.session.check_deadlines(&self.settings.session, now_ns)
    }

    /// True if the system has input of the session that the driver has not read.
    pub(crate) fn has_unread(&self, index: u32) -> bool {
        let socket = self.table.get(index).map(|entry| entry.socket);
        socket.is_some_and(|socket| self.driver.has_unread(socket).unwrap_or(false))
    }

    /// True if sessions have deadlines or rates that suffer from a shard that stands still. What a peer's input meets is
    /// looked after by itself.
    pub(crate) fn has_deadlines(&self) -> bool {
        let are_closing = self.table.len() as u64 > self.stats.sessions;
        are_closing || (self.stats.sessions > 0 && self.settings.is_watched)
    }

    /// The shard has stood still for so long: nobody is to blame for it.
    pub(crate) fn forgive(&mut self, stall_ns: u64) {
        let now_ns = self.driver.clock_ns();
        for index in self.table.indices() {
            if let Some(entry) = self.table.get_mut(index) {
                entry.session.forgive(&self.settings.session, now_ns, stall_ns);
            }
        }
    }
}
