//! Lateness of a shard, which is not its sessions' fault.
//!
//! 1. A shard that stood still (the process was stopped, a callback took seconds) moves all deadlines of its sessions by
//!    that time, and credits their rates. A stop during a wait is seen by how long the wait took; so a shard whose
//!    sessions have deadlines that depend on it waits for at most [`WATCH`] at a time.
//! 2. A close for silence is not carried out before the session's input that had arrived has been read: the session is
//!    *overdue*, and judged again in each of the next steps, until nothing is left unread or [`TURNS_MAX`] steps are over.
//!    A session whose input the shard itself holds back is not called silent (FLOW-1).
//!
//! In a simulation nobody can be late by accident: [`Simulation::stand_still`](crate::Simulation::stand_still) says when.

use std::time::Duration;

use raon_session::{CloseReason, TimerAction};

use super::Shard;
use crate::application::Application;
use crate::base::id::SessionId;

/// Time without a look at the sockets that counts as standing still. A turn at full load takes a tenth of it.
const STALL_MIN_NS: u64 = 50_000_000;
/// Longest wait of a shard that has to notice when it stands still.
const WATCH: Duration = Duration::from_millis(250);
/// Steps for which a close for silence waits at most. Within as many a quiet session is served among a thousand that flood
/// (STARVE-1).
const TURNS_MAX: u8 = 128;

/// Overdue sessions of a shard, and the wait that it watches.
#[derive(Default)]
pub(crate) struct Attention {
    /// Sessions whose timer has fired, and for how many steps their close may still wait.
    overdue: Vec<(SessionId, u8)>,
    /// The clock before the wait, and when the wait was to end; 0: nobody watches.
    waited_from_ns: u64,
    wait_end_ns: u64,
}

impl Attention {
    /// True if a step is due whatever happens.
    pub(crate) fn is_pressing(&self) -> bool {
        !self.overdue.is_empty()
    }
}

impl<A: Application> Shard<A> {
    /// Bounds a wait so that the shard notices when it stands still. Called right before the wait.
    pub(super) fn watch(&mut self, wait: Option<Duration>) -> Option<Duration> {
        if self.is_simulated || !self.delivery.core().has_deadlines() {
            self.attention.waited_from_ns = 0;
            return wait;
        }
        let wait = wait.map_or(WATCH, |wait| wait.min(WATCH));
        let now_ns = self.delivery.core().driver().clock_ns();
        let end_ns = now_ns.saturating_add(wait.as_nanos() as u64);
        self.attention.waited_from_ns = now_ns;
        self.attention.wait_end_ns =
            self.delivery.core().driver().next_deadline_ns().map_or(end_ns, |due_ns| due_ns.min(end_ns));
        Some(wait)
    }

    /// The wait is over: whether the shard has stood still. `looked_ns` is the end of the wait before.
    //= LIVE-3
    pub(super) fn notice_stall(&mut self, looked_ns: u64) {
        let Attention { waited_from_ns, wait_end_ns, .. } = self.attention;
        if waited_from_ns == 0 {
            return;
        }
        let now_ns = self.now_ns();
        let worked_ns = waited_from_ns.saturating_sub(looked_ns);
        let overslept_ns = now_ns.saturating_sub(wait_end_ns.max(waited_from_ns));
        let stall_ns: u64 = [worked_ns, overslept_ns].into_iter().filter(|ns| *ns >= STALL_MIN_NS).sum();
        if stall_ns > 0 {
            self.delivery.with_core(|core| core.forgive(stall_ns));
        }
    }

    /// The shard has stood still for this long, as a simulation says.
    pub(crate) fn stand_still(&mut self, stall_ns: u64) {
        self.delivery.with_core(|core| core.forgive(stall_ns));
    }

    /// Does what a session's timer has brought; a close for silence waits until its input has been read.
    //= LIVE-3
    pub(super) fn act_on(&mut self, index: u32, action: TimerAction) {
        match action {
            TimerAction::Close(reason) if is_silence(reason) => {
                let id = self.delivery.core().table().id(index);
                self.attention.overdue.push((id, TURNS_MAX));
            }
            action => self.execute(index, action),
        }
    }

    /// Judges the overdue sessions again. Called when the step's input has been given to the application.
    pub(super) fn judge_overdue(&mut self) {
        if self.attention.overdue.is_empty() {
            return;
        }
        let mut overdue = std::mem::take(&mut self.attention.overdue);
        overdue.retain_mut(|(id, turns)| self.is_still_overdue(*id, turns));
        // What was judged has said nothing new: nobody is overdue twice.
        self.attention.overdue.append(&mut overdue);
    }

    fn is_still_overdue(&mut self, id: SessionId, turns: &mut u8) -> bool {
        let Some(index) = self.delivery.core().table().resolve(id) else { return false };
        let action = self.delivery.with_core(|core| core.check_deadlines(index));
        let waits = matches!(action, TimerAction::Close(reason) if is_silence(reason))
            && (*turns == TURNS_MAX || (*turns > 0 && self.delivery.core().has_unread(index)));
        if waits {
            *turns -= 1;
            return true;
        }
        self.execute(index, action);
        false
    }

    fn execute(&mut self, index: u32, action: TimerAction) {
        let delivery = &mut self.delivery;
        match action {
            TimerAction::Nothing => {}
            TimerAction::Rearm { at_ns } => delivery.with_core(|core| core.set_deadline(index, at_ns)),
            TimerAction::Heartbeat { at_ns } => {
                delivery.with_core(|core| core.set_deadline(index, at_ns));
                delivery.heartbeat(index);
            }
            TimerAction::Close(reason) => delivery.with_core(|core| core.close(index, reason)),
            TimerAction::Abort => delivery.with_core(|core| {
                core.stats_mut().forced += 1;
                core.abort(index, CloseReason::ShutdownForced);
            }),
        }
    }
}

/// True of the reasons that a peer prevents by saying something.
fn is_silence(reason: CloseReason) -> bool {
    matches!(reason, CloseReason::HandshakeTimeout | CloseReason::IdleTimeout | CloseReason::HeartbeatTimeout)
}
