//! The end of a shard, in stages.
//!
//! 1. Running: nobody has asked for the end.
//! 2. Draining, from `stop` on: the application was told, and the stream of connections is ended; those that it still
//!    yields become sessions. Sessions go on, and what has arrived is served. Ends when all shards are quiet: for some turns
//!    nothing has arrived, no answer waits, and nobody has just connected and said nothing yet. At the latest it ends at
//!    half of the grace.
//! 3. Closing: every session is closed in order: what is queued leaves, the peer sees the end.
//! 4. Forced, at the end of the grace: what is still there is reset.
//! 5. Over, when no session is left, or one turn after 4.
//!
//! A shard whose application has panicked and that is to stop for it goes through the same stages at once.

use std::time::Duration;

use raon_provider::{Completions, OperationId};
use raon_session::{CloseReason, State};

use super::Shard;
use crate::application::Application;
use crate::base::id::Token;
use crate::core::ShardCore;
use crate::error::ShardFailure;

/// Turns in a row in which nothing has arrived, after which a shard takes it that nothing is under way inside the system. One
/// would do for a back end that asks the system in each turn; with the second, what a turn has set off has come as well.
const QUIET_TURNS: u32 = 2;
/// Peers that have connected so short a time before the end, and have not said anything, are waited for so long after it, in
/// nanoseconds: a quarter of a second, within which a first message crosses any sea.
const NEWCOMER_NS: u64 = 250_000_000;

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    Running,
    Draining { close_at_ns: u64, force_at_ns: u64 },
    Closing { force_at_ns: u64 },
    Forced,
    Over,
}

/// Progress of a shard that ends.
#[derive(Debug)]
pub(super) struct Ending {
    /// The grace that it knows of.
    grace_ns: u64,
    began_ns: u64,
    /// Turns since something has arrived.
    quiet_turns: u32,
    /// The slot of the session for which the shard was seen to wait: it is asked first.
    owed: u32,
    /// They end the wait when a stage does.
    timers: [OperationId; 3],
}

impl Default for Ending {
    fn default() -> Self {
        Ending { grace_ns: u64::MAX, began_ns: 0, quiet_turns: 0, owed: 0, timers: [OperationId::NONE; 3] }
    }
}

impl<A: Application> Shard<A> {
    /// True while connections become sessions here.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Running | Stage::Draining { .. })
    }

    pub(crate) fn is_running(&self) -> bool {
        self.stage == Stage::Running
    }

    pub(crate) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// False while the next turn is asked for at once.
    pub(super) fn may_wait(&self) -> bool {
        match self.stage {
            Stage::Draining { .. } => self.ending.quiet_turns >= QUIET_TURNS,
            Stage::Forced => false,
            _ => true,
        }
    }

    /// The next stages, as far as they are due. `grace_ns` is what the router said before this step's mail was taken: so all
    /// that was put in before `stop` was called has been dealt with.
    pub(super) fn go_on_stopping(&mut self, grace_ns: Option<u64>, has_arrived: bool) {
        let now_ns = self.now_ns();
        match (self.stage, self.is_broken(), grace_ns) {
            (Stage::Running, true, _) => self.begin(now_ns, 0),
            (Stage::Running, false, Some(grace_ns)) => self.begin(now_ns, grace_ns),
            (Stage::Running, false, None) => return,
            (_, _, Some(grace_ns)) => self.shorten(now_ns, grace_ns),
            _ => {}
        }
        self.ending.quiet_turns = if has_arrived { 0 } else { self.ending.quiet_turns.saturating_add(1) };
        if let Stage::Draining { close_at_ns, force_at_ns } = self.stage
            && (now_ns >= close_at_ns || self.has_drained(now_ns))
        {
            self.stage = Stage::Closing { force_at_ns };
            self.router.set_quiet(self.number, true);
            self.close_listener();
            self.each_session(|core, index| core.close(index, CloseReason::Shutdown));
        }
        match self.stage {
            Stage::Closing { .. } | Stage::Forced if self.is_empty() => self.stage = Stage::Over,
            Stage::Closing { force_at_ns } if now_ns >= force_at_ns => {
                self.stage = Stage::Forced;
                self.delivery.stats_mut().forced += self.delivery.core().table().len() as u64;
                self.each_session(|core, index| core.abort(index, CloseReason::ShutdownForced));
            }
            Stage::Forced => self.stage = Stage::Over,
            _ => {}
        }
    }

    /// Something was flushed: what that sets off comes first.
    pub(super) fn has_flushed(&mut self) {
        self.ending.quiet_turns = 0;
    }

    /// Lets go of the driver, and tells the application of whoever was left.
    pub(super) fn finish(&mut self) {
        let number = self.number;
        self.router.retire(number);
        // What came too late for the last step: connections go back, the rest is dropped.
        self.take_mail();
        let mut completions = Completions::with_capacity(1);
        self.delivery.driver_mut().shutdown(&mut completions);
        while let Some(completion) = completions.pop() {
            self.dispatch(completion);
        }
        self.publish();
        let broken = self.is_broken().then_some(ShardFailure::Callback);
        self.failure = broken.or(self.listening.failure.take().map(ShardFailure::Listener));
        self.router.end(number);
    }

    fn begin(&mut self, now_ns: u64, grace_ns: u64) {
        if self.is_broken() {
            self.leave(&ShardFailure::Callback);
        }
        let force_at_ns = now_ns.saturating_add(grace_ns);
        self.stage = Stage::Draining { close_at_ns: now_ns.saturating_add(grace_ns / 2), force_at_ns };
        (self.ending.grace_ns, self.ending.began_ns) = (grace_ns, now_ns);
        self.set_stage_timers(now_ns);
        self.stop_accepting();
        self.delivery.shutdown();
        // What was just said waits until the end of this step.
        self.flush_all();
    }

    /// A later `stop` with less grace: the stages end earlier, never later.
    fn shorten(&mut self, now_ns: u64, grace_ns: u64) {
        if grace_ns >= self.ending.grace_ns {
            return;
        }
        self.ending.grace_ns = grace_ns;
        let (half_ns, whole_ns) = (now_ns.saturating_add(grace_ns / 2), now_ns.saturating_add(grace_ns));
        match &mut self.stage {
            Stage::Draining { close_at_ns, force_at_ns } => {
                (*close_at_ns, *force_at_ns) = (half_ns.min(*close_at_ns), whole_ns.min(*force_at_ns));
            }
            Stage::Closing { force_at_ns } => *force_at_ns = whole_ns.min(*force_at_ns),
            _ => return,
        }
        self.set_stage_timers(now_ns);
    }

    fn set_stage_timers(&mut self, now_ns: u64) {
        let (close_at_ns, force_at_ns) = match self.stage {
            Stage::Draining { close_at_ns, force_at_ns } => (close_at_ns, force_at_ns),
            Stage::Closing { force_at_ns } => (force_at_ns, force_at_ns),
            _ => return,
        };
        let newcomers_at_ns = self.ending.began_ns.saturating_add(NEWCOMER_NS).min(close_at_ns);
        for (timer, at_ns) in self.ending.timers.iter_mut().zip([newcomers_at_ns, close_at_ns, force_at_ns]) {
            // Stale if it has fired.
            let _ = self.delivery.driver_mut().cancel(*timer);
            let after = Duration::from_nanos(at_ns.saturating_sub(now_ns));
            // Refused only for want of operations, of which there is one for each of them.
            *timer = self.delivery.driver_mut().timer(after, Token::Stage.bits()).unwrap_or(OperationId::NONE);
        }
    }

    fn is_empty(&self) -> bool {
        self.delivery.core().table().len() == 0 && !self.is_listening()
    }

    /// True if nothing that had arrived is left to be served, here and on the other shards, which may still have something
    /// for this one.
    fn has_drained(&mut self, now_ns: u64) -> bool {
        let is_quiet = self.ending.quiet_turns >= QUIET_TURNS && !self.is_accepting() && !self.owes_anybody(now_ns);
        let (router, number) = (&self.router, self.number);
        router.set_quiet(number, is_quiet);
        // In this order: who puts something in here does it before it is quiet itself.
        is_quiet && router.are_all_quiet() && router.mailbox(number).is_none_or(|mailbox| mailbox.is_empty())
    }

    /// True if a session is to get something before it is closed. Looks at the one that was last found first, so that waiting
    /// for a slow peer does not go through all sessions in each turn.
    fn owes_anybody(&mut self, now_ns: u64) -> bool {
        let ending = &self.ending;
        let awaits_newcomers = self.newest_ns.saturating_add(NEWCOMER_NS) > ending.began_ns
            && now_ns < ending.began_ns.saturating_add(NEWCOMER_NS);
        let is_owed = |index: u32| self.is_owed(index) || (awaits_newcomers && self.is_newcomer(index));
        if is_owed(ending.owed) {
            return true;
        }
        let found = self.delivery.core().table().indices().find(|index| is_owed(*index));
        self.ending.owed = found.unwrap_or(0);
        found.is_some()
    }

    /// True if this session has not got all that it has asked for: wherever input or answers wait, this is where to say so.
    fn is_owed(&self, index: u32) -> bool {
        self.delivery
            .core()
            .table()
            .get(index)
            .is_some_and(|entry| !entry.session.outbox.is_empty() || entry.held.is_some())
    }

    fn is_newcomer(&self, index: u32) -> bool {
        self.delivery.core().table().get(index).is_some_and(|entry| entry.session.state() == State::Opening)
    }

    fn each_session(&mut self, act: impl Fn(&mut ShardCore<A::Framing>, u32)) {
        self.delivery.with_core(|core| {
            for index in core.table().indices() {
                if core.table().get(index).is_some() {
                    act(core, index);
                }
            }
        });
    }
}
