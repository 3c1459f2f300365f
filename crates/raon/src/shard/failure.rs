//! A shard that ends before the server was stopped, however it ends.
//!
//! 1. `leave`: nothing is sent its way any more, and the configuration decides about the others: the server stops, or it goes
//!    on, and another shard takes the listener.
//! 2. A shard whose application has panicked is whole: it goes through the stages of a shutdown at once.
//! 3. One that something else has stopped, a panic outside the callbacks or its driver, cannot go on: `fail` tells the
//!    application the end of each session, gives back what they held, passes on the connections that were on their way
//!    here, and ends the driver, which resets what is open. Each part has a panic boundary, so that what is broken in one does
//!    not keep the others from being done.

use std::time::Duration;

use raon_provider::{Completions, Outcome};
use raon_session::CloseReason;

use super::{Progress, Shard};
use crate::application::Application;
use crate::base::boundary;
use crate::config::OnShardFailure;
use crate::error::{ServerError, ShardFailure};
use crate::routing::mailbox::{Batch, Command};

/// Time for which every turn may fail before the shard gives up, in nanoseconds. Time and not turns: a turn that fails does not
/// wait, and a thousand of them may pass in the moment that a system takes to find memory again.
const FAILING_NS_MAX: u64 = 1_000_000_000;

/// Turns that fail, one after the other.
#[derive(Default)]
pub(super) struct Failing {
    since_ns: Option<u64>,
}

impl Failing {
    /// Notes a turn. Errors: its own, if all have failed for too long.
    pub(super) fn note<E>(&mut self, now_ns: u64, turned: Result<(), E>) -> Result<(), E> {
        let Err(error) = turned else {
            self.since_ns = None;
            return Ok(());
        };
        let since_ns = *self.since_ns.get_or_insert(now_ns);
        if now_ns.saturating_sub(since_ns) >= FAILING_NS_MAX { Err(error) } else { Ok(()) }
    }
}

impl<A: Application> Shard<A> {
    /// Steps until the end. Errors: why it came before the server was stopped.
    pub(crate) fn run(mut self) -> Result<(), ServerError> {
        let result = loop {
            match self.advance(None) {
                Ok(Progress::Over) => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(error),
            }
        };
        // What the application keeps may panic when it is dropped.
        let _ = boundary::contain(|| drop(self));
        result
    }

    /// One step, and the end if it was the last one. Errors, after which the shard is over: why it has ended before the
    /// server was stopped.
    pub(crate) fn advance(&mut self, wait: Option<Duration>) -> Result<Progress, ServerError> {
        let stepped = boundary::catch(|| {
            let is_busy = self.step(wait)?;
            if self.is_over() {
                self.finish();
                return Ok(Progress::Over);
            }
            Ok(if is_busy { Progress::Busy } else { Progress::Idle })
        });
        match stepped {
            Ok(Ok(Progress::Over)) => {
                self.failure.take().map_or(Ok(Progress::Over), |failure| Err(self.error(failure)))
            }
            Ok(Ok(progress)) => Ok(progress),
            Ok(Err(error)) => Err(self.fail(ShardFailure::Driver(error))),
            Err(message) => Err(self.fail(ShardFailure::Panic(message))),
        }
    }

    /// The shard leaves the server.
    pub(super) fn leave(&mut self, failure: &ShardFailure) {
        let (number, then) = (self.number, self.delivery.core().settings().on_shard_failure);
        tracing::error!(shard = number, "the shard has ended: {failure}; {then}");
        self.delivery.stats_mut().shard_failures += 1;
        self.router.retire(number);
        self.decide(then);
    }

    /// Decides about the server. One that is stopping does so already.
    pub(super) fn decide(&mut self, then: OnShardFailure) {
        let router = self.router.clone();
        router.note_failure();
        if router.stopping().is_some() {
            return;
        }
        match then {
            OnShardFailure::StopServer => router.stop(self.delivery.core().settings().failure_grace_ns),
            OnShardFailure::GoOn => self.pass_listener_on(),
        }
    }

    fn error(&self, failure: ShardFailure) -> ServerError {
        ServerError::ShardFailed { shard: self.number, failure }
    }

    fn fail(&mut self, failure: ShardFailure) -> ServerError {
        let reason = match failure {
            ShardFailure::Panic(_) => CloseReason::ApplicationPanic,
            _ => CloseReason::ShutdownForced,
        };
        // What has already ended the application is the cause of what followed.
        let cause = self.is_broken().then_some(ShardFailure::Callback);
        let _ = boundary::contain(|| self.leave(&failure));
        for index in self.delivery.core().table().indices() {
            let _ = boundary::contain(|| self.delivery.with_core(|core| core.abort(index, reason)));
            // The application is told also if that has panicked.
            let _ = boundary::contain(|| self.delivery.with_core(|_| {}));
            let _ = boundary::contain(|| self.release(index));
        }
        let _ = boundary::contain(|| self.give_mail_back());
        let _ = boundary::contain(|| self.end_driver());
        let _ = boundary::contain(|| self.publish());
        self.router.end(self.number);
        self.error(cause.unwrap_or(failure))
    }

    /// Gives back commands that others have put in, also the rest of a batch that was being worked off: connections and a
    /// listener go to other shards.
    fn give_mail_back(&mut self) {
        let mut batches = [std::mem::take(&mut self.batch), Batch::default()];
        if let Some(mailbox) = self.router.mailbox(self.number) {
            mailbox.swap(&mut batches[1]);
        }
        for command in batches.iter_mut().flat_map(|batch| batch.commands.drain(..)) {
            match command {
                Command::Adopt(arrival) => {
                    self.router.remove_load(self.number);
                    self.find_shard(arrival);
                }
                Command::Listen(handover) => self.router.pass_listener(handover),
                Command::Send { .. } | Command::SendShared { .. } | Command::Close { .. } => {
                    self.delivery.stats_mut().late += 1
                }
                Command::Post { .. } | Command::Broadcast(_) => {}
            }
        }
    }

    /// Resets what is open. What the listener has yielded meanwhile goes to other shards.
    fn end_driver(&mut self) {
        let mut completions = Completions::with_capacity(1);
        self.delivery.driver_mut().shutdown(&mut completions);
        while let Some(completion) = completions.pop() {
            if let Outcome::Accepted(socket) = completion.outcome {
                self.on_accepted(socket);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_second_of_nothing_but_failures_counts() {
        let mut failing = Failing::default();
        for turn in 0..5000 {
            assert_eq!(failing.note(7 + turn, Err("busy")), Ok(()), "however many turns it is");
        }
        assert_eq!(failing.note(FAILING_NS_MAX, Ok::<_, &str>(())), Ok(()));
        assert_eq!(failing.note(FAILING_NS_MAX + 7, Err("busy")), Ok(()), "one has worked meanwhile");
        assert_eq!(failing.note(2 * FAILING_NS_MAX + 6, Err("busy")), Ok(()));
        assert_eq!(failing.note(2 * FAILING_NS_MAX + 7, Err("dead")), Err("dead"));
    }
}
