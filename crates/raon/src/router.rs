//! What all shards share: where each is to be reached, where keys are at home, who has room for one more.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use raon_session::CloseReason;

use crate::application::{Application, Head};
use crate::budget::{Budget, Shares};
use crate::config::Config;
use crate::group::Presence;
use crate::inlet::{Inlet, InletLimits};
use crate::metrics::Stats;
use crate::places::Places;

/// The inlet of a shard that runs this application.
pub(crate) type ShardInlet<A> = Inlet<Head<A>, <A as Application>::Post>;

/// One per server.
pub(crate) struct Router<A: Application> {
    doors: Vec<Door<A>>,
    pub(crate) places: Places,
    pub(crate) budget: Arc<Budget>,
    pub(crate) presence: Arc<Presence>,
    /// Where the next search for the least loaded shard begins, so that equal ones take turns.
    next: AtomicU32,
    is_stopping: AtomicBool,
    /// How long the shutdown may take, in nanoseconds.
    grace_ns: AtomicU64,
}

/// What others see of a shard.
struct Door<A: Application> {
    inlet: ShardInlet<A>,
    /// Sessions that are there or on their way; `GONE` for a shard that has stopped.
    load: AtomicU32,
    stats: Mutex<Stats>,
    shares: Shares,
}

/// The load of a shard that takes no more sessions.
const GONE: u32 = 1 << 31;

impl<A: Application> Router<A> {
    pub(crate) fn new(config: &Config, shards: usize) -> Arc<Self> {
        let limits = InletLimits {
            bytes_max: config.inlet_bytes_max as usize,
            commands_max: config.inlet_commands_max as usize,
        };
        let budget = Budget::new(config.memory_bytes_max, shards);
        let door = || Door {
            inlet: Inlet::new(limits),
            load: AtomicU32::new(0),
            stats: Mutex::default(),
            shares: Shares::new(budget.clone()),
        };
        Arc::new(Router {
            doors: (0..shards).map(|_| door()).collect(),
            places: Places::new(config.sessions_max, config.sessions_per_address_max, config.address_prefix_v6_bits),
            budget,
            presence: Arc::default(),
            next: AtomicU32::new(0),
            is_stopping: AtomicBool::new(false),
            grace_ns: AtomicU64::new(0),
        })
    }

    /// How many shards there are.
    pub(crate) fn shards(&self) -> usize {
        self.doors.len()
    }

    /// Where the shard of this number is reached, if there is one.
    pub(crate) fn inlet(&self, shard: usize) -> Option<&ShardInlet<A>> {
        self.doors.get(shard).map(|door| &door.inlet)
    }

    /// The shard on which a key's posts are dealt with: always the same one for the same number of shards.
    pub(crate) fn home(&self, key: u64) -> usize {
        // The finalizer of splitmix64: keys that follow each other spread evenly.
        let mixed = (key ^ (key >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let mixed = mixed ^ (mixed >> 31);
        ((u128::from(mixed) * self.doors.len() as u128) >> 64) as usize
    }

    /// The shard with the fewest sessions, counted there from now on; `None` if all have stopped.
    pub(crate) fn least_loaded(&self) -> Option<usize> {
        let count = self.doors.len();
        let start = self.next.fetch_add(1, Ordering::Relaxed) as usize;
        let order = (0..count).map(|step| (start + step) % count);
        let shard = order.min_by_key(|shard| self.doors[*shard].load.load(Ordering::Relaxed))?;
        self.take_on(shard).then_some(shard)
    }

    /// One session more on this shard; false if it has stopped.
    pub(crate) fn take_on(&self, shard: usize) -> bool {
        self.doors[shard].load.fetch_add(1, Ordering::Relaxed) < GONE
    }

    /// One session less on this shard.
    pub(crate) fn let_go(&self, shard: usize) {
        self.doors[shard].load.fetch_sub(1, Ordering::Relaxed);
    }

    /// This shard has stopped.
    pub(crate) fn retire(&self, shard: usize) {
        self.doors[shard].load.fetch_or(GONE, Ordering::Relaxed);
        self.doors[shard].inlet.close();
    }

    /// Begins the shutdown of all shards, once.
    pub(crate) fn stop(&self, grace_ns: u64) {
        self.grace_ns.fetch_max(grace_ns, Ordering::Relaxed);
        self.is_stopping.store(true, Ordering::Release);
        self.doors.iter().for_each(|door| door.inlet.wake());
    }

    /// The grace in nanoseconds, if the shutdown has begun.
    #[inline]
    pub(crate) fn stopping(&self) -> Option<u64> {
        self.is_stopping.load(Ordering::Acquire).then(|| self.grace_ns.load(Ordering::Relaxed))
    }

    /// A shard tells how it stands.
    pub(crate) fn publish(&self, shard: usize, stats: &Stats) {
        *self.doors[shard].stats.lock().unwrap_or_else(PoisonError::into_inner) = *stats;
    }

    /// How a shard stood at its last turn, with what is shared now: that may come back from elsewhere.
    pub(crate) fn stats(&self, shard: usize) -> Stats {
        let Door { stats, shares, .. } = &self.doors[shard];
        let mut stats = *stats.lock().unwrap_or_else(PoisonError::into_inner);
        stats.memory_bytes += shares.used_bytes();
        stats
    }

    /// Where bytes are charged that are shared on this shard first.
    pub(crate) fn shares(&self, shard: usize) -> Shares {
        self.doors[shard].shares.clone()
    }

    /// Why a connection is refused now, if it is.
    pub(crate) fn refuses(&self) -> Option<CloseReason> {
        self.stopping().map(|_| CloseReason::Shutdown)
    }
}
