//! Router, which all shards share: where each is to be reached, where keys are at home, who has room for one more.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::metrics::ServerStats;
use crate::config::ServerConfig;
use crate::error::{MailboxError, MailboxRefusal};
use crate::memory::budget::{Budget, Shares};
use crate::routing::mailbox::{Command, Handover, Mailbox, MailboxLimits};
use crate::sessions::admission::Admission;
use crate::sessions::group::Presence;

/// State of a server.
///
/// ```
/// use raon::{Raw, Server, ServerState};
/// let server = Server::builder().listen("127.0.0.1:0").workers(1).framing(Raw).start()?;
/// assert_eq!(server.handle().state(), ServerState::Running);
/// server.handle().stop(std::time::Duration::ZERO);
/// # let handle = server.handle().clone();
/// server.join()?;
/// assert_eq!(handle.state(), ServerState::Ended);
/// # Ok::<(), raon::ServerError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ServerState {
    /// All shards run.
    Running,
    /// A shard or a listener has failed, and the rest goes on, see `OnShardFailure::GoOn`.
    Degraded,
    /// The server was stopped, or has stopped itself, and is ending.
    Stopping,
    /// All shards have ended.
    Ended,
}

/// One per server.
pub(crate) struct Router<H, P> {
    doors: Vec<Door<H, P>>,
    pub(crate) admission: Admission,
    pub(crate) budget: Arc<Budget>,
    pub(crate) presence: Arc<Presence>,
    /// Where the next search for the least loaded shard begins, so that equal ones take turns.
    next: AtomicU32,
    is_stopping: AtomicBool,
    /// A shard or a listener has failed.
    has_failed: AtomicBool,
    /// Time that the shutdown may take, in nanoseconds: the least that was asked for.
    grace_ns: AtomicU64,
}

/// Door of a shard: the part of it that others see.
struct Door<H, P> {
    mailbox: Mailbox<H, P>,
    /// Sessions that are there or on their way; `GONE` for a shard that has stopped.
    load: AtomicU32,
    /// The server ends, and this shard has served all that had arrived at it.
    is_quiet: AtomicBool,
    /// Nothing of it runs any more.
    has_ended: AtomicBool,
    stats: Mutex<ServerStats>,
    shares: Shares,
}

/// The load of a shard that takes no more sessions.
const GONE: u32 = 1 << 31;

impl<H, P> Router<H, P> {
    pub(crate) fn new(config: &ServerConfig, shards: usize) -> Arc<Self> {
        let limits = MailboxLimits {
            bytes_max: config.mailbox_bytes_max as usize,
            commands_max: config.mailbox_commands_max as usize,
        };
        let budget = Budget::new(config.memory_bytes_max, shards);
        let door = || Door {
            mailbox: Mailbox::new(limits),
            load: AtomicU32::new(0),
            is_quiet: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            stats: Mutex::default(),
            shares: Shares::new(budget.clone()),
        };
        Arc::new(Router {
            doors: (0..shards).map(|_| door()).collect(),
            admission: Admission::new(
                config.sessions_max,
                config.sessions_per_address_max,
                config.address_prefix_v6_bits,
            ),
            budget,
            presence: Arc::default(),
            next: AtomicU32::new(0),
            is_stopping: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            grace_ns: AtomicU64::new(u64::MAX),
        })
    }

    /// Number of shards.
    pub(crate) fn shards(&self) -> usize {
        self.doors.len()
    }

    /// Where the shard of this number is reached, if there is one.
    pub(crate) fn mailbox(&self, shard: usize) -> Option<&Mailbox<H, P>> {
        self.doors.get(shard).map(|door| &door.mailbox)
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
        loop {
            let order = (0..count).map(|step| (start + step) % count);
            let loads = order.map(|shard| (self.doors[shard].load.load(Ordering::Relaxed), shard));
            let (_, shard) = loads.min_by_key(|(load, _)| *load).filter(|(load, _)| *load < GONE)?;
            // It may have stopped since; then it is not the least loaded one any more.
            if self.add_load(shard) {
                return Some(shard);
            }
        }
    }

    /// One session more on this shard; false if it has stopped.
    pub(crate) fn add_load(&self, shard: usize) -> bool {
        self.doors[shard].load.fetch_add(1, Ordering::Relaxed) < GONE
    }

    /// One session less on this shard.
    pub(crate) fn remove_load(&self, shard: usize) {
        self.doors[shard].load.fetch_sub(1, Ordering::Relaxed);
    }

    /// This shard takes nothing any more: first it is not chosen any more, then it refuses.
    pub(crate) fn retire(&self, shard: usize) {
        self.doors[shard].load.fetch_or(GONE, Ordering::AcqRel);
        self.doors[shard].mailbox.close();
    }

    /// True once `retire` was called.
    pub(crate) fn is_retired(&self, shard: usize) -> bool {
        self.doors[shard].load.load(Ordering::Acquire) >= GONE
    }

    /// Nothing of this shard runs any more.
    pub(crate) fn end(&self, shard: usize) {
        self.doors[shard].has_ended.store(true, Ordering::Release);
    }

    /// A shard or a listener has failed.
    pub(crate) fn note_failure(&self) {
        self.has_failed.store(true, Ordering::Release);
    }

    /// State of the server as a whole.
    pub(crate) fn state(&self) -> ServerState {
        if self.doors.iter().all(|door| door.has_ended.load(Ordering::Acquire)) {
            ServerState::Ended
        } else if self.stopping().is_some() {
            ServerState::Stopping
        } else if self.has_failed.load(Ordering::Acquire) {
            ServerState::Degraded
        } else {
            ServerState::Running
        }
    }

    /// Gives the listener of a shard that has failed to another one; nobody takes it if none is left.
    pub(crate) fn pass_listener(&self, mut handover: Box<Handover>) {
        for door in &self.doors {
            match door.mailbox.put(Command::Listen(handover), 0) {
                Ok(()) => return,
                Err(MailboxError { value: Command::Listen(back), .. }) => handover = back,
                Err(_) => unreachable!("the value that comes back is the one that was put in"),
            }
        }
    }

    /// Begins the shutdown of all shards. Once it has begun less grace shortens it, and more has no effect.
    pub(crate) fn stop(&self, grace_ns: u64) {
        self.grace_ns.fetch_min(grace_ns, Ordering::Relaxed);
        self.is_stopping.store(true, Ordering::Release);
        self.wake_all();
    }

    /// A shard that is ending tells whether all that had arrived at it is served. The others wait for it.
    pub(crate) fn set_quiet(&self, shard: usize, is_quiet: bool) {
        let was_quiet = self.doors[shard].is_quiet.swap(is_quiet, Ordering::AcqRel);
        if is_quiet && !was_quiet && self.doors.len() > 1 {
            self.wake_all();
        }
    }

    /// True if no shard that has not stopped is still serving what had arrived.
    pub(crate) fn are_all_quiet(&self) -> bool {
        let is_quiet = |shard: usize| self.doors[shard].is_quiet.load(Ordering::Acquire) || self.is_retired(shard);
        (0..self.doors.len()).all(is_quiet)
    }

    /// The grace in nanoseconds, if the shutdown has begun.
    #[inline]
    pub(crate) fn stopping(&self) -> Option<u64> {
        self.is_stopping.load(Ordering::Acquire).then(|| self.grace_ns.load(Ordering::Relaxed))
    }

    fn wake_all(&self) {
        self.doors.iter().for_each(|door| door.mailbox.wake());
    }

    /// A shard tells how it stands.
    pub(crate) fn publish(&self, shard: usize, stats: &ServerStats) {
        *self.doors[shard].stats.lock().unwrap_or_else(PoisonError::into_inner) = *stats;
    }

    /// Counters of a shard at its last turn, with memory that is shared now: that may come back from elsewhere.
    pub(crate) fn stats(&self, shard: usize) -> ServerStats {
        let Door { stats, shares, .. } = &self.doors[shard];
        let mut stats = *stats.lock().unwrap_or_else(PoisonError::into_inner);
        stats.memory_bytes += shares.used_bytes();
        stats
    }

    /// Where bytes are charged that are shared on this shard first.
    pub(crate) fn shares(&self, shard: usize) -> Shares {
        self.doors[shard].shares.clone()
    }
}

/// Puts a post into a shard's mailbox.
pub(crate) fn post_to<H, P>(router: &Router<H, P>, shard: usize, key: u64, post: P) -> Result<(), MailboxError<P>> {
    let Some(mailbox) = router.mailbox(shard) else {
        return Err(MailboxError { refusal: MailboxRefusal::Closed, value: post });
    };
    mailbox.put(Command::Post { key, post }, size_of::<P>()).map_err(|MailboxError { refusal, value }| match value {
        Command::Post { post, .. } => MailboxError { refusal, value: post },
        _ => unreachable!("the value that comes back is the one that was put in"),
    })
}
