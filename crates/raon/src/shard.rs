//! One shard: a driver, its sessions, an application. `step` is the unit, and all of it happens in there.
//!
//! One step:
//! 1. One turn of the driver: what the last step has handed over goes out, what has come comes in.
//! 2. Each completion is dealt with; the application is called for each message. What it sends is queued. Input that was
//!    held because answers had not left is worked off, a portion per session.
//! 3. What others have put into the mailbox, and what the shard has posted to itself.
//! 4. The shutdown goes on, if there is one.
//! 5. Each session that has something queued is flushed, once: one send per session and step, whatever was said.
//!
//! When a session ends while a callback runs, the application is told as soon as that callback is over, and before
//! anything else (`tell_ended`): so no `on_close` is inside another callback, and each comes once.
//!
//! On drop the driver is dropped, which resets what is open (DROP-1); nobody is told any more.

mod attention;
mod clock;
mod evict;
mod failure;
pub(crate) mod flush;
pub(crate) mod held;
pub(crate) mod inside;
mod listening;
mod mail;
mod receive;
mod refuse;
mod settings;
mod shutdown;

use std::sync::Arc;
use std::time::Duration;

use raon_provider::{
    AcceptedSocket, Address, AnyProvider, Completion, Completions, Driver, Error, Outcome, SimNetwork,
};
use raon_session::{CloseReason, FreeLists, Pressure};

use crate::application::{Application, Head, ShardInfo};
use crate::boundary;
use crate::budget::Lease;
use crate::config::{OnPanic, ServerConfig};
use crate::context::Context;
use crate::error::{ServerError, ShardFailure};
use crate::group::Groups;
use crate::id::Token;
use crate::log_limit::LogLimit;
use crate::mailbox::Batch;
use crate::metrics::ServerStats;
use crate::router::Router;
use crate::server::Factory;
use crate::table::Table;

use self::attention::Attention;
use self::clock::Clock;
use self::inside::{Answering, Inside};
pub(crate) use self::listening::Handover;
use self::listening::Listening;
use self::settings::{Settings, driver_config, sessions_max};
use self::shutdown::{Ending, Stage};

/// Completions that one turn delivers at most.
const COMPLETIONS_MAX: usize = 1024;
/// Where a shard listens.
pub(crate) enum ListenAt {
    /// It gets its sessions from another shard.
    Nowhere,
    Address(Address),
    Inherited(AcceptedSocket),
}

/// What a shard is made of.
pub(crate) struct ShardParts<A: Application> {
    pub(crate) number: usize,
    pub(crate) config: ServerConfig,
    /// The simulated network that it is in, if it is in one.
    pub(crate) network: Option<SimNetwork>,
    pub(crate) framing: A::Framing,
    pub(crate) factory: Factory<A>,
    pub(crate) router: Arc<Router<A>>,
    pub(crate) listen: ListenAt,
}

/// See the module.
pub(crate) struct Shard<A: Application> {
    pub(crate) application: A,
    pub(crate) inside: Inside<A>,
    /// The framing once more, so that messages can be found while a callback has the inside.
    framing: A::Framing,
    completions: Completions,
    batch: Batch<Head<A>, A::Post>,
    listening: Listening,
    /// Each shard has a listener of its own and keeps what that yields.
    pub(crate) is_alone: bool,
    stage: Stage,
    ending: Ending,
    /// When the newest session began.
    pub(crate) newest_ns: u64,
    attention: Attention,
    is_simulated: bool,
    /// The first turn does not wait: something may have been put into the mailbox before it could wake anybody.
    has_turned: bool,
    failing: failure::Failing,
    /// Why it ends before the server is stopped.
    failure: Option<ShardFailure>,
}

/// What a step has come to.
pub(crate) enum Progress {
    /// Something was done.
    Busy,
    /// Nothing was there to be done.
    Idle,
    /// The shard has ended.
    Over,
}

impl<A: Application> Shard<A> {
    /// Opens the driver on this thread, and the listener, and makes the application. Returns where it listens.
    pub(crate) fn open(parts: ShardParts<A>) -> Result<(Self, Option<Address>), ServerError> {
        let ShardParts { number, config, network, framing, factory, router, listen } = parts;
        let mut driver = Driver::<AnyProvider>::open(&driver_config(&config, network.as_ref()))?;
        let settings = Settings::new(&config);
        let listening = Listening::open(&mut driver, &config, listen)?;
        let address = listening.socket().map(|listener| driver.local_address(listener)).transpose()?;
        let mut clock = Clock::new(settings.timers_max, settings.tick);
        clock.start(&mut driver)?;
        if let Some(mailbox) = router.mailbox(number) {
            mailbox.set_owner(driver.submitter());
        }
        let application = factory(ShardInfo::new(number, router.shards(), driver.info().kind));
        let inside = Inside {
            number: number as u8,
            driver,
            framing: framing.clone(),
            settings,
            table: Table::new(number as u8, sessions_max(&config) as usize),
            groups: Groups::new(number, router.presence.clone()),
            free_lists: FreeLists::default(),
            lease: Lease::new(router.budget.clone()),
            shares: router.shares(number),
            bodies: Vec::new(),
            dirty: Vec::new(),
            ended: Default::default(),
            posts: Default::default(),
            scratch: Vec::new(),
            clock,
            answering: Answering::NOBODY,
            held: Default::default(),
            stats: ServerStats::default(),
            log: LogLimit::default(),
            router,
        };
        let shard = Shard {
            application,
            inside,
            framing,
            completions: Completions::with_capacity(COMPLETIONS_MAX),
            batch: Batch::default(),
            listening,
            is_alone: config.reuse_port,
            stage: Stage::Running,
            ending: Ending::default(),
            newest_ns: 0,
            attention: Attention::default(),
            is_simulated: network.is_some(),
            has_turned: false,
            failing: failure::Failing::default(),
            failure: None,
        };
        Ok((shard, address))
    }

    /// One step, see the module. Waits for at most so long if nothing is there; `None`: as long as it takes. Returns whether
    /// there was anything to do.
    ///
    /// Errors: what the driver says, when it has said so for a long time.
    fn step(&mut self, wait: Option<Duration>) -> Result<bool, Error> {
        let is_idle = self.inside.is_idle() && !self.attention.is_pressing();
        let may_wait = is_idle && self.has_turned && self.may_wait();
        let wait = if may_wait { wait } else { Some(Duration::ZERO) };
        self.has_turned = true;
        let looked_ns = self.inside.driver.now_ns();
        let wait = self.watch(wait);
        self.turn(wait)?;
        self.notice_stall(looked_ns);
        // Before the mail is taken: what was put in before `stop` was called is in it then.
        let grace_ns = self.inside.router.stopping();
        let mut is_busy = !self.completions.is_empty();
        let mut has_arrived = false;
        while let Some(completion) = self.completions.pop() {
            has_arrived |= matches!(completion.outcome, Outcome::Received(_) | Outcome::Accepted(_));
            self.dispatch(completion);
            self.tell_ended();
        }
        has_arrived |= self.work_off_held();
        self.judge_overdue();
        has_arrived |= self.take_mail();
        has_arrived |= self.take_posts();
        self.go_on_stopping(grace_ns, has_arrived);
        if self.flush_all() {
            is_busy = true;
            self.has_flushed();
        }
        is_busy |= has_arrived;
        self.inside.bodies.clear();
        self.inside.stats.turns += 1;
        self.publish();
        Ok(is_busy)
    }

    /// When the driver's next timer is due, for whoever waits in its place.
    pub(crate) fn next_deadline_ns(&self) -> Option<u64> {
        let mailbox = self.inside.router.mailbox(usize::from(self.inside.number));
        let has_mail = mailbox.is_some_and(|mailbox| !mailbox.is_empty());
        let is_idle = self.inside.is_idle() && !self.attention.is_pressing() && !has_mail && self.may_wait();
        if is_idle { self.inside.driver.next_deadline_ns() } else { Some(0) }
    }

    fn turn(&mut self, wait: Option<Duration>) -> Result<(), Error> {
        let polled = self.inside.driver.poll(wait, &mut self.completions);
        self.failing.note(self.inside.driver.now_ns(), polled.map(drop))
    }

    /// True if it ends because its application has panicked.
    pub(crate) fn is_broken(&self) -> bool {
        self.failure.is_some()
    }

    fn dispatch(&mut self, completion: Completion) {
        let Completion { token, operation, more, outcome, .. } = completion;
        match Token::of(token, self.inside.number) {
            Token::Session(id) => match self.inside.table.resolve(id) {
                Some(index) => self.on_session(index, more, outcome),
                None => self.inside.stats.late += 1,
            },
            // A timer that was taken back ends too.
            Token::Liveness(id) => {
                if let (Some(index), Outcome::Expired) = (self.inside.table.resolve(id), outcome) {
                    self.on_liveness(index, operation);
                }
            }
            Token::Timer(place) => self.on_timer(place, &outcome),
            Token::Tick => self.on_tick(&outcome),
            // It has ended the wait: the stages look at the clock themselves.
            Token::Stage => {}
            Token::Listener => self.on_listener(more, outcome),
        }
    }

    /// A timer of the application has ended. At the end of the driver all that are set end, and their time has not come.
    fn on_timer(&mut self, place: u32, outcome: &Outcome) {
        let token = self.inside.clock.ended(place);
        if let (Some(token), Outcome::Expired) = (token, outcome) {
            self.inside.stats.timers += 1;
            self.call(|application, ctx| application.on_timer(ctx, token));
        }
    }

    /// The timer of the tick has ended.
    fn on_tick(&mut self, outcome: &Outcome) {
        if matches!(outcome, Outcome::Expired) {
            // Its operation has just ended, so there is room for the next one.
            let _ = self.inside.clock.set_tick(&mut self.inside.driver);
            self.call(|application, ctx| application.on_tick(ctx));
        }
    }

    /// Calls the application about no session in particular.
    fn call(&mut self, callback: impl FnOnce(&mut A, &mut Context<'_, A>)) {
        let (application, inside) = (&mut self.application, &mut self.inside);
        let called = boundary::contain(|| callback(application, &mut Context::of_shard(inside)));
        if called.is_none() {
            self.panicked();
        }
        self.tell_ended();
    }

    /// Tells the application of sessions that have ended.
    pub(crate) fn tell_ended(&mut self) {
        while let Some(index) = self.inside.ended.pop_front() {
            self.inside.leave_all(index);
            let Some(entry) = self.inside.table.get(index) else { continue };
            let reason = entry.session.reason().unwrap_or(CloseReason::Shutdown);
            self.inside.stats.count_close(reason);
            // None: `on_open` has panicked, so the application knows of no session.
            let Some(state) = self.inside.table.take_state(index) else { continue };
            self.inside.stats.sessions -= 1;
            let (application, inside) = (&mut self.application, &mut self.inside);
            let told = boundary::contain(|| application.on_close(&mut Context::of(inside, index), state, reason));
            if told.is_none() {
                self.panicked();
            }
        }
    }

    /// A callback has panicked.
    pub(crate) fn panicked(&mut self) {
        self.inside.stats.panics += 1;
        if self.inside.settings.on_panic == OnPanic::StopShard {
            self.failure.get_or_insert(ShardFailure::Callback);
        }
    }

    /// True if there was anything to flush.
    fn flush_all(&mut self) -> bool {
        let is_any = !self.inside.dirty.is_empty();
        // What is queued by `on_pressure` is flushed too; each watermark is passed once, so this ends.
        while let Some(index) = self.inside.dirty.pop() {
            let pressure = self.inside.flush(index);
            if let Some(pressure) = pressure {
                self.on_pressure(index, pressure);
            }
            self.tell_ended();
        }
        is_any
    }

    fn on_pressure(&mut self, index: u32, pressure: Pressure) {
        self.inside.press(index, pressure);
        self.call_session(index, |application, ctx, state| application.on_pressure(ctx, state, pressure));
    }

    /// Calls the application about a session, if it has one of this slot.
    fn call_session(&mut self, index: u32, callback: impl FnOnce(&mut A, &mut Context<'_, A>, &mut A::Session)) {
        if !self.inside.table.is_live(index) {
            return;
        }
        let Some(mut state) = self.inside.table.take_state(index) else { return };
        let (application, inside) = (&mut self.application, &mut self.inside);
        let called = boundary::contain(|| callback(application, &mut Context::of(inside, index), &mut state));
        self.inside.table.put_state(index, state);
        if called.is_none() {
            self.inside.close(index, CloseReason::ApplicationPanic);
            self.panicked();
        }
    }

    fn publish(&mut self) {
        let inside = &mut self.inside;
        inside.look_at_accepts();
        inside.note_mailbox();
        inside.stats.memory_bytes = inside.lease.used_bytes() as u64;
        inside.router.publish(usize::from(inside.number), &inside.stats);
        // The router adds this for others itself.
        inside.stats.memory_bytes += inside.shares.used_bytes();
    }
}
