//! The owner of one back end: all semantics that are the same everywhere live here, above the back ends.
//!
//! One turn (`poll`, or `flush` without the wait):
//! 1. take what submitters have left in the mailbox, and the buffers that other threads gave back;
//! 2. arm the receives that waited for buffers, and form one batch of sends per socket that has any;
//! 3. hand everything to the back end and wait there, at most until the next deadline;
//! 4. turn its events into completions, then fire the timers that are due.
//!
//! Parts do the work of a turn, each with its own state (`driver/parts.rs`). They are given what all share
//! (`driver/core.rs`). A part does not know another: what follows from an end goes back as a value to `driver/dispatch.rs`.
//!
//! Submitting only queues (TURN-1), so user code never runs inside a submit and completions never come from one.
//!
//! On drop: every operation is cancelled, the back end is turned until it holds nothing (at most `drain_deadline`), then
//! memory is freed; what the kernel still holds is leaked and counted (`driver/shutdown.rs`).

mod accept;
mod attach;
mod backlog;
mod close;
pub(crate) mod completion;
mod connect;
mod control;
mod core;
mod datagram;
mod dispatch;
mod gather;
mod held;
pub(crate) mod info;
pub(crate) mod mailbox;
mod open;
pub(crate) mod operation;
mod parts;
mod queued;
mod receive;
mod send;
mod share;
mod shutdown;
pub(crate) mod socket;
mod submit;
pub(crate) mod submitter;
mod timer;

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use crate::base::error::Error;
use crate::base::time;
use crate::contract::Event;
use crate::contract::stats::Stats;
use crate::driver::completion::Completions;
use crate::driver::core::Core;
use crate::driver::info::Info;
use crate::driver::mailbox::Mailbox;
use crate::driver::parts::Parts;
use crate::driver::submitter::Submitter;
use crate::memory::buffer::{Buffer, PoolState};

/// A completion-based I/O engine on one back end, owned by one thread.
///
/// Give it operations with their buffers; call [`poll`](Self::poll); get each operation back, with its buffer and its
/// result, exactly once. Ids of sockets and operations carry a generation: one that is stale is refused, and never acts
/// on whatever came after. Other threads reach a driver through its [`Submitter`].
///
/// It stays on the thread that opened it:
///
/// ```compile_fail
/// use raon_provider::{Config, Driver};
/// let driver = Driver::open(&Config::default()).unwrap();
/// std::thread::spawn(move || drop(driver));
/// ```
///
/// An echo server that loses nothing, whatever its clients do:
#[doc = concat!("```no_run\n", include_str!("../examples/echo.rs"), "\n```")]
pub struct Driver {
    core: Core,
    parts: Parts,
    events: Vec<Event>,
    mailbox: Arc<Mailbox>,
    /// Error of the last turn, if that had completions to deliver first.
    trouble: Option<Error>,
    _pinned: PhantomData<*const ()>,
}

impl Driver {
    /// One turn: hands over what was submitted, waits until something has ended or `timeout` is over (`None`: no limit;
    /// zero: no wait), and puts what has ended into `completions`. Returns how many are there: none at the time-out, and
    /// when [`Submitter::wake`] ended the wait.
    ///
    /// Errors: what the operating system says when the wait itself fails; nothing is lost then, call again.
    //= TURN-1
    pub fn poll(&mut self, timeout: Option<Duration>, completions: &mut Completions) -> Result<usize, Error> {
        let deadline_ns = match timeout {
            None => Some(time::NEVER_NS),
            Some(Duration::ZERO) => None,
            Some(timeout) => Some(time::after(self.core.profile.clock.now_ns(), timeout)),
        };
        loop {
            let room = completions.capacity().saturating_sub(completions.len());
            if self.core.ready.len() < room.max(1) {
                let wait = if completions.is_empty() { deadline_ns } else { None };
                // What has ended is delivered first, and the error by the next call.
                let is_told = self.trouble.is_some() && self.core.ready.is_empty() && completions.is_empty();
                if !is_told && let Err(error) = self.turn(wait) {
                    self.trouble = Some(error);
                }
                if self.core.ready.is_empty()
                    && completions.is_empty()
                    && let Some(error) = self.trouble.take()
                {
                    return Err(error);
                }
            }
            self.deliver(completions);
            let is_over = deadline_ns.is_none_or(|deadline_ns| self.core.now_ns >= deadline_ns);
            //= WAKE-1
            let is_woken = self.mailbox.take_wake();
            if is_over || is_woken || !completions.is_empty() {
                return Ok(completions.len());
            }
        }
    }

    /// Hands over what was submitted, without waiting. What ends meanwhile is delivered by the next [`poll`](Self::poll).
    ///
    /// Errors: as [`poll`](Self::poll).
    pub fn flush(&mut self) -> Result<(), Error> {
        self.turn(None)
    }

    /// A buffer of the pool's send quota, or `None` when all are lent.
    #[inline]
    pub fn buffer(&mut self) -> Option<Buffer> {
        self.core.pool.lend_send()
    }

    /// How many buffers are lent and free.
    pub fn pool_state(&mut self) -> PoolState {
        self.core.pool.state()
    }

    /// A front door for other threads.
    pub fn submitter(&self) -> Submitter {
        Submitter { mailbox: self.mailbox.clone() }
    }

    /// Counters and latencies so far.
    pub fn stats(&mut self) -> Stats {
        let mut stats = self.core.counters.snapshot(
            &self.core.profile.counters,
            self.core.user_operations,
            self.core.sockets.len(),
        );
        stats.wakes = self.mailbox.wakes();
        stats
    }

    /// What this driver runs on.
    pub fn info(&self) -> Info {
        Info::new(&self.core.profile, &self.core.config)
    }

    /// The driver's clock, in nanoseconds since some start: that of the last turn.
    pub fn now_ns(&self) -> u64 {
        self.core.now_ns
    }

    /// The same clock, read now.
    pub fn clock_ns(&self) -> u64 {
        self.core.profile.clock.now_ns()
    }

    /// When the earliest timer or deadline of this driver is due, on its clock: for whoever waits in its place.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.core.timers.next_ns()
    }

    fn turn(&mut self, deadline_ns: Option<u64>) -> Result<(), Error> {
        self.take_mail();
        self.core.pool.collect();
        self.parts.receives.begin_turn(&mut self.core);
        self.parts.pump_sends(&mut self.core);
        let wait = self.wait_for(deadline_ns);
        let turned = self.core.provider.turn(&mut self.core.requests, wait, &mut self.core.pool, &mut self.events);
        self.mailbox.awake();
        self.core.now_ns = self.core.profile.clock.now_ns();
        self.core.counters.totals.turns += 1;
        for event in self.events.drain(..) {
            self.parts.dispatch(&mut self.core, event);
        }
        self.parts.receives.end_turn(&self.core);
        self.parts.fire_timers(&mut self.core);
        self.parts.backlogs.tell_waiting(&mut self.core);
        turned
    }

    /// How long the back end may wait: not at all if there is something to do.
    fn wait_for(&mut self, deadline_ns: Option<u64>) -> Option<Duration> {
        let idle = Some(Duration::ZERO);
        let Some(deadline_ns) = deadline_ns else { return idle };
        let is_short_of_buffers = self.parts.receives.is_short_of_buffers();
        if !self.core.ready.is_empty()
            || self.parts.receives.is_behind()
            || (is_short_of_buffers && self.core.is_about_to_send())
        {
            return idle;
        }
        let until_ns = self.core.timers.next_ns().map_or(deadline_ns, |next_ns| next_ns.min(deadline_ns));
        let has_end = until_ns != time::NEVER_NS;
        let wait_ns = until_ns.saturating_sub(if has_end { self.core.profile.clock.now_ns() } else { 0 });
        if wait_ns == 0 || (is_short_of_buffers && !self.core.pool.mark_starving()) || !self.mailbox.fall_asleep() {
            return idle;
        }
        has_end.then(|| Duration::from_nanos(wait_ns.min(time::WAIT_NS_MAX)))
    }

    fn deliver(&mut self, completions: &mut Completions) {
        if completions.is_empty() && self.core.ready.len() <= completions.capacity() {
            std::mem::swap(&mut self.core.ready, &mut completions.queue);
            return;
        }
        let room = completions.capacity().saturating_sub(completions.len()).min(self.core.ready.len());
        completions.queue.extend(self.core.ready.drain(..room));
    }
}
