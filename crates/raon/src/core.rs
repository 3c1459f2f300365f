//! Core of a shard: its driver, its sessions and what they wait for. It knows the framing and no application.
//!
//! 1. `adopt` makes a connection a session; its input and its timer are asked for in `begin`.
//! 2. Messages are queued (`append`), and what is queued is handed to the driver at the end of the step (`flush.rs`).
//! 3. A session's step is followed: what it calls for is done at once, and a session that has ended joins a queue, out of
//!    which `shard/deliver.rs` tells the application when no callback runs.
//! 4. `release` frees the slot when the driver has closed the socket.
//!
//! Fields are private to this folder, and each part keeps its own to itself.

mod accounts;
mod allocator;
mod clock;
mod deadlines;
mod evict;
mod flush;
mod held;
mod intake;
mod life;
mod members;
mod queue;
mod refuse;
mod settings;

use std::collections::VecDeque;
use std::time::Duration;

use raon_provider::{Address, Driver, Error};
use raon_session::{Framing, FreeLists};

use crate::base::id::SessionId;
use crate::base::log_limit::{LogKind, LogLimit};
use crate::base::metrics::ServerStats;
use crate::error::MailboxRefusal;
use crate::memory::budget::{Lease, Shares};
use crate::memory::chunk::OutChunk;
use crate::sessions::group::Groups;
use crate::sessions::table::Table;

use self::accounts::Accounts;
use self::clock::Clock;
use self::held::HeldInputs;
use self::intake::Answering;
pub use self::members::BroadcastOutcome;
pub(crate) use self::settings::{Settings, driver_config};

/// See the module.
pub(crate) struct ShardCore<F: Framing> {
    number: u8,
    driver: Driver,
    framing: F,
    settings: Settings,
    table: Table,
    groups: Groups,
    free_lists: FreeLists<OutChunk>,
    accounts: Accounts,
    /// Sessions to be flushed.
    dirty: Vec<u32>,
    /// Sessions that have ended, of which the application has not been told.
    ended: VecDeque<u32>,
    /// Memory in which bodies for sessions of other shards are written.
    scratch: Vec<u8>,
    clock: Clock,
    answering: Answering,
    held: HeldInputs,
    stats: ServerStats,
    /// Limit on how often each kind of trouble is logged.
    log: LogLimit,
}

impl<F: Framing> ShardCore<F> {
    /// A core without sessions. The tick runs from now on. Errors: those of the driver's timer.
    pub(crate) fn new(
        number: usize,
        driver: Driver,
        framing: F,
        settings: Settings,
        groups: Groups,
        (lease, shares): (Lease, Shares),
    ) -> Result<Self, Error> {
        let mut core = ShardCore {
            number: number as u8,
            driver,
            framing,
            table: Table::new(number as u8, settings.sessions_max as usize),
            groups,
            free_lists: FreeLists::default(),
            accounts: Accounts::new(lease, shares),
            dirty: Vec::new(),
            ended: VecDeque::new(),
            scratch: Vec::new(),
            clock: Clock::new(settings.timers_max, settings.tick),
            answering: Answering::default(),
            held: HeldInputs::default(),
            stats: ServerStats::default(),
            log: LogLimit::default(),
            settings,
        };
        core.clock.start(&mut core.driver)?;
        Ok(core)
    }

    // What the shard and its callbacks ask.

    /// The driver, for what is about no session.
    pub(crate) fn driver_mut(&mut self) -> &mut Driver {
        &mut self.driver
    }

    pub(crate) fn driver(&self) -> &Driver {
        &self.driver
    }

    /// The time of this turn.
    pub(crate) fn now_ns(&self) -> u64 {
        self.driver.now_ns()
    }

    pub(crate) fn number(&self) -> u8 {
        self.number
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    pub(crate) fn stats(&self) -> &ServerStats {
        &self.stats
    }

    pub(crate) fn stats_mut(&mut self) -> &mut ServerStats {
        &mut self.stats
    }

    /// True if a line of this kind of trouble is due, see [`LogLimit::pass`].
    pub(crate) fn may_log(&mut self, kind: LogKind) -> Option<u64> {
        self.log.pass(kind, self.driver.now_ns())
    }

    /// True if nothing is left to be done in the next step but what others bring.
    pub(crate) fn is_idle(&self) -> bool {
        self.dirty.is_empty() && !self.held.has_ready()
    }

    /// True if the session of this id is one of this shard's.
    pub(crate) fn is_own(&self, id: SessionId) -> bool {
        id.shard() == usize::from(self.number)
    }

    /// The address of a session's peer, if it is still connected.
    pub(crate) fn peer_address(&self, index: u32) -> Option<Address> {
        self.driver.peer_address(self.table.get(index)?.socket).ok()
    }

    /// Sets a timer of the application. Errors: `Busy` at `timers_max`.
    pub(crate) fn set_timer(&mut self, after: Duration, token: u64) -> Result<(), MailboxRefusal> {
        self.clock.set(&mut self.driver, after, token)
    }

    /// A timer of the application has ended: its token.
    pub(crate) fn timer_ended(&mut self, place: u32) -> Option<u64> {
        self.clock.ended(place)
    }

    /// The timer of the tick has ended: the next one is set.
    pub(crate) fn set_tick(&mut self) {
        // Its operation has just ended, so there is room for the next one.
        let _ = self.clock.set_tick(&mut self.driver);
    }

    /// The turn is over.
    pub(crate) fn end_turn(&mut self) {
        self.accounts.forget_bodies();
        self.stats.turns += 1;
    }

    /// Counts what is known at the end of a turn only.
    pub(crate) fn complete_stats(&mut self) {
        self.look_at_accepts();
        self.stats.memory_bytes = self.accounts.own_bytes();
    }

    /// Adds memory that is shared, which others add themselves.
    pub(crate) fn add_shared_bytes(&mut self) {
        self.stats.memory_bytes += self.accounts.shared_bytes();
    }
}
