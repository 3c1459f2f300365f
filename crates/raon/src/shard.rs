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
//! anything else (`deliver.rs`).
//!
//! On drop the driver is dropped, which resets what is open (DROP-1); nobody is told any more.

mod acceptor;
mod attention;
mod deliver;
mod failure;
mod listening;
mod mail;
mod receive;
mod shutdown;

use std::sync::Arc;
use std::time::Duration;

use raon_provider::{AcceptedSocket, Address, Completion, Completions, Driver, Error, Outcome, SimNetwork};

use crate::application::{AppRouter, Application, Head, ShardInfo};
use crate::base::id::Token;
use crate::config::ServerConfig;
use crate::core::{Settings, ShardCore, driver_config};
use crate::error::{ServerError, ShardFailure};
use crate::memory::budget::Lease;
use crate::routing::mailbox::Batch;
use crate::sessions::group::Groups;

use self::attention::Attention;
use self::deliver::Delivery;
use self::listening::Listening;
use self::shutdown::{Ending, Stage};

/// Makes the application of a shard.
pub(crate) type Factory<A> = Arc<dyn Fn(ShardInfo) -> A + Send + Sync>;

/// Completions that one turn delivers at most.
const COMPLETIONS_MAX: usize = 1024;
/// Where a shard listens.
pub(crate) enum ListenAt {
    /// It gets its sessions from another shard.
    Nowhere,
    Address(Address),
    Inherited(AcceptedSocket),
}

/// Parts that a shard is made of.
pub(crate) struct ShardParts<A: Application> {
    pub(crate) number: usize,
    pub(crate) config: ServerConfig,
    /// The simulated network that it is in, if it is in one.
    pub(crate) network: Option<SimNetwork>,
    pub(crate) framing: A::Framing,
    pub(crate) factory: Factory<A>,
    pub(crate) router: Arc<AppRouter<A>>,
    pub(crate) listen: ListenAt,
}

/// See the module.
pub(crate) struct Shard<A: Application> {
    number: usize,
    delivery: Delivery<A>,
    router: Arc<AppRouter<A>>,
    completions: Completions,
    batch: Batch<Head<A>, A::Post>,
    listening: Listening,
    /// Each shard has a listener of its own and keeps what that yields.
    is_alone: bool,
    stage: Stage,
    ending: Ending,
    /// When the newest session began.
    newest_ns: u64,
    attention: Attention,
    is_simulated: bool,
    /// The first turn does not wait: something may have been put into the mailbox before it could wake anybody.
    has_turned: bool,
    failing: failure::Failing,
    /// Why it ends before the server is stopped.
    failure: Option<ShardFailure>,
}

/// Progress of a step.
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
        let mut driver = Driver::open(&driver_config(&config, network.as_ref()))?;
        let settings = Settings::new(&config);
        let listening = Listening::open(&mut driver, &config, listen)?;
        let address = listening.socket().map(|listener| driver.local_address(listener)).transpose()?;
        if let Some(mailbox) = router.mailbox(number) {
            mailbox.set_owner(driver.submitter());
        }
        let application = factory(ShardInfo::new(number, router.shards(), driver.info().kind));
        let groups = Groups::new(number, router.presence.clone());
        let memory = (Lease::new(router.budget.clone()), router.shares(number));
        let core = ShardCore::new(number, driver, framing.clone(), settings, groups, memory)?;
        let shard = Shard {
            number,
            delivery: Delivery::new(application, framing, core, router.clone()),
            router,
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
        let may_wait = self.is_idle() && self.has_turned && self.may_wait();
        let wait = if may_wait { wait } else { Some(Duration::ZERO) };
        self.has_turned = true;
        let looked_ns = self.now_ns();
        let wait = self.watch(wait);
        self.turn(wait)?;
        self.notice_stall(looked_ns);
        // Before the mail is taken: what was put in before `stop` was called is in it then.
        let grace_ns = self.router.stopping();
        let mut is_busy = !self.completions.is_empty();
        let mut has_arrived = false;
        while let Some(completion) = self.completions.pop() {
            has_arrived |= matches!(completion.outcome, Outcome::Received(_) | Outcome::Accepted(_));
            self.dispatch(completion);
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
        self.delivery.with_core(ShardCore::end_turn);
        self.publish();
        Ok(is_busy)
    }

    /// When the driver's next timer is due, for whoever waits in its place.
    pub(crate) fn next_deadline_ns(&self) -> Option<u64> {
        let has_mail = self.router.mailbox(self.number).is_some_and(|mailbox| !mailbox.is_empty());
        let is_idle = self.is_idle() && !has_mail && self.may_wait();
        if is_idle { self.delivery.core().driver().next_deadline_ns() } else { Some(0) }
    }

    /// True if nothing is left to be done in the next step but what others bring.
    fn is_idle(&self) -> bool {
        self.delivery.core().is_idle() && !self.delivery.has_posts() && !self.attention.is_pressing()
    }

    fn now_ns(&self) -> u64 {
        self.delivery.core().now_ns()
    }

    fn turn(&mut self, wait: Option<Duration>) -> Result<(), Error> {
        let polled = self.delivery.driver_mut().poll(wait, &mut self.completions);
        self.failing.note(self.delivery.core().now_ns(), polled.map(drop))
    }

    /// True if it ends because its application has panicked.
    pub(crate) fn is_broken(&self) -> bool {
        self.delivery.is_broken()
    }

    fn dispatch(&mut self, completion: Completion) {
        let Completion { token, operation, more, outcome, .. } = completion;
        let core = self.delivery.core();
        match Token::of(token, core.number()) {
            Token::Session(id) => match core.table().resolve(id) {
                Some(index) => self.on_session(index, more, outcome),
                None => self.delivery.stats_mut().late += 1,
            },
            // A timer that was taken back ends too.
            Token::Liveness(id) => {
                if let (Some(index), Outcome::Expired) = (core.table().resolve(id), outcome) {
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
        let token = self.delivery.with_core(|core| core.timer_ended(place));
        if let (Some(token), Outcome::Expired) = (token, outcome) {
            self.delivery.stats_mut().timers += 1;
            self.delivery.timer(token);
        }
    }

    /// The timer of the tick has ended.
    fn on_tick(&mut self, outcome: &Outcome) {
        if matches!(outcome, Outcome::Expired) {
            self.delivery.with_core(ShardCore::set_tick);
            self.delivery.tick();
        }
    }

    /// True if there was anything to flush.
    fn flush_all(&mut self) -> bool {
        let is_any = self.delivery.core().has_dirty();
        // What is queued by `on_pressure` is flushed too; each watermark is passed once, so this ends.
        while let Some((index, pressure)) = self.delivery.with_core(ShardCore::flush_next) {
            if let Some(pressure) = pressure {
                self.delivery.pressure(index, pressure);
            }
        }
        is_any
    }

    fn publish(&mut self) {
        let refused = self.router.mailbox(self.number).map_or(0, |mailbox| mailbox.take_refused());
        self.delivery.with_core(|core| {
            core.note_mailbox(refused);
            core.complete_stats();
        });
        self.router.publish(self.number, self.delivery.core().stats());
        self.delivery.with_core(ShardCore::add_shared_bytes);
    }

    /// The slot is free: the driver has closed the socket.
    fn release(&mut self, index: u32) {
        if let Some(permit) = self.delivery.with_core(|core| core.release(index)) {
            self.router.admission.release(permit);
            self.router.remove_load(self.number);
        }
    }

    /// Receive buffers of the pool that anybody holds.
    #[cfg(test)]
    pub(crate) fn buffers_lent(&mut self) -> usize {
        self.delivery.driver_mut().pool_state().lent
    }
}
