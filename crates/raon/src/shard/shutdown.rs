//! The end of a shard, in stages.
//!
//! 1. Running: nobody has asked for the end.
//! 2. Draining, from `stop` on: no connection is accepted, the application was told. Sessions go on; what waits leaves.
//!    Ends when nothing waits any more, at the latest at half of the grace.
//! 3. Closing: every session is closed in order: what is queued leaves, the peer sees the end.
//! 4. Forced, at the end of the grace: what is still there is reset.
//! 5. Over, when no session is left, or one turn after 4.
//!
//! A shard whose application has panicked and that is to stop for it goes through the same stages at once.

use std::time::Duration;

use raon_provider::{CloseMode, Completions, SocketId};
use raon_session::CloseReason;

use super::Shard;
use crate::application::Application;
use crate::error::ServerError;
use crate::id::Token;

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    Running,
    Draining { close_at_ns: u64, force_at_ns: u64 },
    Closing { force_at_ns: u64 },
    Forced,
    Over,
}

impl<A: Application> Shard<A> {
    pub(crate) fn is_running(&self) -> bool {
        self.stage == Stage::Running
    }

    pub(crate) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// The next stages, as far as they are due.
    pub(super) fn go_on_stopping(&mut self) {
        let now_ns = self.inside.driver.now_ns();
        if self.stage == Stage::Running {
            match (self.is_broken, self.inside.router.stopping()) {
                (true, _) => self.begin(now_ns, 0),
                (false, Some(grace_ns)) => self.begin(now_ns, grace_ns),
                (false, None) => return,
            }
        }
        if let Stage::Draining { close_at_ns, force_at_ns } = self.stage
            && (now_ns >= close_at_ns || !self.is_anything_waiting())
        {
            self.stage = Stage::Closing { force_at_ns };
            self.each_session(|shard, index| shard.inside.close(index, CloseReason::Shutdown));
        }
        match self.stage {
            Stage::Closing { .. } | Stage::Forced if self.is_empty() => self.stage = Stage::Over,
            Stage::Closing { force_at_ns } if now_ns >= force_at_ns => {
                self.stage = Stage::Forced;
                self.inside.stats.forced += self.inside.table.len() as u64;
                self.each_session(|shard, index| shard.inside.abort(index, CloseReason::ShutdownForced));
            }
            Stage::Forced => self.stage = Stage::Over,
            _ => {}
        }
    }

    /// Lets go of the driver, and tells the application of whoever was left.
    pub(crate) fn finish(&mut self) -> Result<(), ServerError> {
        let number = usize::from(self.inside.number);
        self.inside.router.retire(number);
        // What came too late for the last step: connections go back, the rest is dropped.
        self.take_mail();
        let mut completions = Completions::with_capacity(1);
        self.inside.driver.shutdown(&mut completions);
        while let Some(completion) = completions.pop() {
            self.dispatch(completion);
            self.tell_ended();
        }
        self.publish();
        if self.is_broken { Err(ServerError::ShardsStopped(1)) } else { Ok(()) }
    }

    fn begin(&mut self, now_ns: u64, grace_ns: u64) {
        if self.is_broken {
            self.inside.router.retire(usize::from(self.inside.number));
        }
        let force_at_ns = now_ns.saturating_add(grace_ns);
        self.stage = Stage::Draining { close_at_ns: now_ns.saturating_add(grace_ns / 2), force_at_ns };
        if self.listener != SocketId::NONE {
            // Stale only if it is closed already.
            let _ = self.inside.driver.close(self.listener, CloseMode::Abort, Token::Listener.bits());
        }
        for after_ns in [grace_ns / 2, grace_ns] {
            // Refused only for want of operations, of which there is one for each of them.
            let _ = self.inside.driver.timer(Duration::from_nanos(after_ns), Token::Stage.bits());
        }
        self.call(|application, ctx| application.on_shutdown(ctx));
        // What was just said waits until the end of this step.
        self.flush_all();
    }

    fn is_empty(&self) -> bool {
        self.inside.table.len() == 0 && self.listener == SocketId::NONE
    }

    fn is_anything_waiting(&self) -> bool {
        let table = &self.inside.table;
        let mut entries = table.indices().filter_map(|index| table.get(index));
        entries.any(|entry| !entry.session.outbox.is_empty() || entry.held.is_some())
    }

    fn each_session(&mut self, act: impl Fn(&mut Self, u32)) {
        for index in self.inside.table.indices() {
            if self.inside.table.get(index).is_some() {
                act(self, index);
            }
        }
        self.tell_ended();
    }
}
