//! Memory that queues may take, server-wide: one counter, leased to the shards in portions.
//!
//! 1. A shard takes a portion when it opens and keeps it, so that the others cannot leave it without any: who needs little
//!    there can always be served, if need be at the cost of that shard's largest outbox (`evict.rs`).
//! 2. What a session takes for itself is charged to its shard's lease, which takes more portions and gives them back.
//! 3. What sessions share is charged once, wherever they are, and given back with the last reference (`Shares`).
//!
//! On drop a lease gives back everything.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

/// Most that a shard leases at a time: an atomic operation per 64 KiB.
pub(crate) const PORTION_BYTES_MAX: usize = 64 * 1024;
/// Least memory per shard: sixteen ordinary frames for its sessions to take, and as much again for its reserve and for what
/// is idle in leases.
pub(crate) const SHARD_BYTES_MIN: u64 = 128 * 1024;
/// Portions per shard at the least. One is its reserve, and two more may be idle in its lease.
const PORTIONS_PER_SHARD_MIN: u64 = 8;

/// Budget: the memory that is left for all shards.
pub(crate) struct Budget {
    left_bytes: AtomicU64,
    portion_bytes: usize,
}

impl Budget {
    pub(crate) fn new(bytes_max: u64, shards: usize) -> Arc<Self> {
        let portion_bytes = bytes_max / (PORTIONS_PER_SHARD_MIN * shards.max(1) as u64);
        let portion_bytes = portion_bytes.clamp(1, PORTION_BYTES_MAX as u64) as usize;
        Arc::new(Budget { left_bytes: AtomicU64::new(bytes_max), portion_bytes })
    }

    /// Bytes that no shard has leased and nobody shares.
    pub(crate) fn left_bytes(&self) -> u64 {
        self.left_bytes.load(Ordering::Relaxed)
    }

    /// False, and nothing is taken, if there is not so much.
    fn take(&self, bytes: usize) -> bool {
        let take = |left: u64| left.checked_sub(bytes as u64);
        self.left_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.left_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// Bytes that sessions share, counted for the shard that they began on.
#[derive(Clone)]
pub(crate) struct Shares(Arc<SharesInner>);

struct SharesInner {
    budget: Arc<Budget>,
    used_bytes: AtomicU64,
}

impl Shares {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Shares(Arc::new(SharesInner { budget, used_bytes: AtomicU64::new(0) }))
    }

    /// The same bytes, charged once until the last reference to them is dropped, on whichever thread. `None` if there is
    /// not so much memory.
    //= OUTBOX-6
    pub(crate) fn charge(&self, bytes: &Bytes) -> Option<Bytes> {
        if !self.0.budget.take(bytes.len()) {
            return None;
        }
        self.0.used_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Some(Bytes::from_owner(Charged { bytes: bytes.clone(), shares: self.clone() }))
    }

    /// Bytes that are shared now.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.0.used_bytes.load(Ordering::Relaxed)
    }
}

struct Charged {
    bytes: Bytes,
    shares: Shares,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        let SharesInner { budget, used_bytes } = &*self.shares.0;
        used_bytes.fetch_sub(self.bytes.len() as u64, Ordering::Relaxed);
        budget.give_back(self.bytes.len());
    }
}

/// A copy of a message that outlives its callback. It is charged to the server's memory until it is dropped, wherever that
/// is; [`Context::keep`](crate::Context::keep) makes it.
///
/// ```
/// use raon::{Application, Context, ChargedBytes, Message, Raw};
/// struct Diary(Vec<ChargedBytes>);
/// impl Application for Diary {
///     type Framing = Raw;
///     type Session = ();
///     type Post = ();
///     fn on_open(&mut self, _ctx: &mut Context<'_, Self>) {}
///     fn on_message(&mut self, ctx: &mut Context<'_, Self>, _: &mut (), message: Message<'_, ()>) {
///         self.0.extend(ctx.keep(&message));
///     }
/// }
/// ```
pub struct ChargedBytes {
    bytes: Box<[u8]>,
    budget: Arc<Budget>,
}

impl ChargedBytes {
    /// `None` if the server has no more memory for it.
    pub(crate) fn new(budget: &Arc<Budget>, bytes: &[u8]) -> Option<Self> {
        budget.take(bytes.len()).then(|| ChargedBytes { bytes: bytes.into(), budget: budget.clone() })
    }
}

impl Deref for ChargedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for ChargedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChargedBytes({} bytes)", self.bytes.len())
    }
}

impl Drop for ChargedBytes {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes.len());
    }
}

/// One shard's part: an integer to count down and up.
pub(crate) struct Lease {
    budget: Arc<Budget>,
    free_bytes: usize,
    used_bytes: usize,
    /// Used beyond what the server had left.
    debt_bytes: usize,
    /// Never given back.
    reserve_bytes: usize,
}

impl Lease {
    /// With its reserve, if there is as much.
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        let reserve_bytes = if budget.take(budget.portion_bytes) { budget.portion_bytes } else { 0 };
        Lease { budget, free_bytes: reserve_bytes, used_bytes: 0, debt_bytes: 0, reserve_bytes }
    }

    /// Whether so many bytes can be charged.
    #[inline]
    pub(crate) fn has(&mut self, bytes: usize) -> bool {
        bytes <= self.free_bytes || self.extend(bytes)
    }

    /// Charges bytes that are there already, also beyond what the server has: then nothing is left until they are given
    /// back.
    #[inline]
    pub(crate) fn charge(&mut self, bytes: usize) {
        if !self.has(bytes) {
            self.borrow(bytes);
        }
        self.free_bytes -= bytes;
        self.used_bytes += bytes;
    }

    /// Gives charged bytes back.
    #[inline]
    pub(crate) fn release(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.used_bytes, "{bytes} bytes come back, {} were charged", self.used_bytes);
        let bytes = bytes.min(self.used_bytes);
        self.used_bytes -= bytes;
        let repaid = bytes.min(self.debt_bytes);
        self.debt_bytes -= repaid;
        self.free_bytes += bytes - repaid;
        if self.free_bytes > 2 * self.budget.portion_bytes {
            self.shrink(self.budget.portion_bytes);
        }
    }

    /// Gives all back that is idle but for the reserve: somebody else needs it.
    pub(crate) fn trim(&mut self) {
        self.shrink(0);
    }

    /// Bytes charged on this shard.
    pub(crate) fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    #[cold]
    fn extend(&mut self, bytes: usize) -> bool {
        let missing = bytes - self.free_bytes;
        // The rest of the budget may be less than a portion.
        for wanted in [missing.next_multiple_of(self.budget.portion_bytes), missing] {
            if self.budget.take(wanted) {
                self.free_bytes += wanted;
                return true;
            }
        }
        false
    }

    #[cold]
    fn borrow(&mut self, bytes: usize) {
        let missing = (bytes - self.free_bytes) as u64;
        let take = |left: u64| Some(left.saturating_sub(missing));
        let left = self.budget.left_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or(0);
        self.debt_bytes += missing.saturating_sub(left) as usize;
        self.free_bytes += missing as usize;
    }

    /// Keeps so many free bytes, and the reserve.
    #[cold]
    fn shrink(&mut self, kept_bytes: usize) {
        let reserve_bytes = self.reserve_bytes.saturating_sub(self.used_bytes);
        let surplus_bytes = self.free_bytes.saturating_sub(kept_bytes.max(reserve_bytes));
        self.free_bytes -= surplus_bytes;
        self.budget.give_back(surplus_bytes);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.give_back(self.free_bytes + self.used_bytes - self.debt_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTION_BYTES: usize = PORTION_BYTES_MAX;

    /// For two shards.
    fn budget(portions: u64) -> Arc<Budget> {
        let budget = Budget::new(16 * PORTION_BYTES as u64, 2);
        budget.left_bytes.store(portions * PORTION_BYTES as u64, Ordering::Relaxed);
        budget
    }

    fn try_charge(lease: &mut Lease, bytes: usize) -> bool {
        let has_room = lease.has(bytes);
        if has_room {
            lease.charge(bytes);
        }
        has_room
    }

    #[test]
    fn two_shards_never_have_more_than_there_is() {
        let budget = budget(4);
        let (mut first, mut second) = (Lease::new(budget.clone()), Lease::new(budget.clone()));
        assert_eq!(budget.left_bytes(), 2 * PORTION_BYTES as u64, "each has its reserve");
        assert!(try_charge(&mut first, 3 * PORTION_BYTES - 5));
        assert!(try_charge(&mut second, 1) && try_charge(&mut second, PORTION_BYTES - 1), "its reserve nobody took");
        assert!(!try_charge(&mut second, 1), "all portions are leased");
        assert!(try_charge(&mut first, 5) && !try_charge(&mut first, 1));
        assert_eq!(budget.left_bytes(), 0);
        first.release(3 * PORTION_BYTES);
        assert_eq!(budget.left_bytes(), 2 * PORTION_BYTES as u64, "one portion is kept for the next time");
        assert!(try_charge(&mut second, 2 * PORTION_BYTES));
        second.release(3 * PORTION_BYTES);
        first.trim();
        second.trim();
        assert_eq!(budget.left_bytes(), 2 * PORTION_BYTES as u64, "the reserves stay");
        drop((first, second));
        assert_eq!(budget.left_bytes(), 4 * PORTION_BYTES as u64);
    }

    #[test]
    fn the_last_of_the_budget_is_had_though_it_is_no_portion() {
        let budget = budget(1);
        budget.left_bytes.fetch_add(100, Ordering::Relaxed);
        let mut lease = Lease::new(budget.clone());
        assert!(try_charge(&mut lease, PORTION_BYTES + 60) && try_charge(&mut lease, 40) && !try_charge(&mut lease, 1));
    }

    #[test]
    fn portions_follow_the_budget_and_the_number_of_shards() {
        for (bytes_max, shards, portion_bytes) in
            [(1 << 30, 64, PORTION_BYTES), (64 * SHARD_BYTES_MIN, 64, 16_384), (1 << 20, 1, PORTION_BYTES)]
        {
            assert_eq!(Budget::new(bytes_max, shards).portion_bytes, portion_bytes, "{bytes_max} for {shards}");
        }
    }

    #[test]
    fn what_is_kept_is_charged_until_it_is_dropped() {
        let budget = Budget::new(10, 1);
        let first = ChargedBytes::new(&budget, b"hello").unwrap();
        let second = ChargedBytes::new(&budget, b"hello").unwrap();
        assert!(ChargedBytes::new(&budget, b"x").is_none());
        drop(first);
        assert_eq!((budget.left_bytes(), &second[..]), (5, &b"hello"[..]));
    }

    //= OUTBOX-6
    #[test]
    fn what_is_shared_is_charged_once_until_the_last_has_let_go() {
        let shares = Shares::new(Budget::new(1000, 1));
        let frame = shares.charge(&Bytes::from_static(&[1; 600])).unwrap();
        assert!(shares.charge(&frame).is_none(), "there is no room for another one");
        let others = vec![frame.clone(); 400];
        assert_eq!((shares.used_bytes(), shares.0.budget.left_bytes()), (600, 400));
        drop(frame);
        let part = others[7].slice(5..6);
        std::thread::spawn(move || drop(others)).join().unwrap();
        assert_eq!(shares.used_bytes(), 600, "somebody still has a part of it");
        drop(part);
        assert_eq!((shares.used_bytes(), shares.0.budget.left_bytes()), (0, 1000));
    }

    #[test]
    fn what_is_there_already_is_charged_and_paid_back() {
        let budget = budget(1);
        let mut lease = Lease::new(budget.clone());
        lease.charge(3 * PORTION_BYTES);
        assert_eq!((lease.used_bytes(), budget.left_bytes()), (3 * PORTION_BYTES, 0));
        assert!(!lease.has(1));
        lease.release(2 * PORTION_BYTES);
        assert!(!lease.has(1), "that only paid the debt");
        lease.release(PORTION_BYTES);
        assert!(try_charge(&mut lease, PORTION_BYTES) && !lease.has(1));
        drop(lease);
        assert_eq!(budget.left_bytes(), PORTION_BYTES as u64);
    }
}
