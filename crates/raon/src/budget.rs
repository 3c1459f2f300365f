//! Memory that queues may take, server-wide: one counter, leased to the shards in portions.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a shard leases at a time: an atomic operation per 64 KiB, and at most two portions idle per shard.
pub(crate) const PORTION_BYTES: usize = 64 * 1024;

/// What is left for all shards.
pub(crate) struct Budget {
    left_bytes: AtomicU64,
}

impl Budget {
    pub(crate) fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(Budget { left_bytes: AtomicU64::new(bytes_max) })
    }

    /// Bytes that no shard has leased.
    pub(crate) fn left_bytes(&self) -> u64 {
        self.left_bytes.load(Ordering::Relaxed)
    }
}

/// A copy of a message that outlives its callback. It is charged to the server's memory until it is dropped, wherever that
/// is; [`Context::keep`](crate::Context::keep) makes it.
///
/// ```
/// use raon::{Application, Context, Kept, Message, Raw};
/// struct Diary(Vec<Kept>);
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
pub struct Kept {
    bytes: Box<[u8]>,
    budget: Arc<Budget>,
}

impl Kept {
    /// `None` if the server has no more memory for it.
    pub(crate) fn new(budget: &Arc<Budget>, bytes: &[u8]) -> Option<Self> {
        let take = |left: u64| left.checked_sub(bytes.len() as u64);
        budget.left_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        Some(Kept { bytes: bytes.into(), budget: budget.clone() })
    }
}

impl Deref for Kept {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kept({} bytes)", self.bytes.len())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.budget.left_bytes.fetch_add(self.bytes.len() as u64, Ordering::Relaxed);
    }
}

/// One shard's part: an integer to count down and up.
pub(crate) struct Lease {
    budget: Arc<Budget>,
    free_bytes: usize,
    used_bytes: usize,
    /// Used beyond what the server had left.
    debt_bytes: usize,
}

impl Lease {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Lease { budget, free_bytes: 0, used_bytes: 0, debt_bytes: 0 }
    }

    /// Charges so many bytes; false, and nothing is charged, if the server has no more.
    #[inline]
    pub(crate) fn charge(&mut self, bytes: usize) -> bool {
        if bytes > self.free_bytes && !self.extend(bytes) {
            return false;
        }
        self.free_bytes -= bytes;
        self.used_bytes += bytes;
        true
    }

    /// Charges bytes that are there already, also beyond what the server has: then nothing is left until they are given
    /// back.
    pub(crate) fn charge_anyway(&mut self, bytes: usize) {
        if bytes > self.free_bytes && !self.extend(bytes) {
            let missing = (bytes - self.free_bytes) as u64;
            let take = |left: u64| Some(left.saturating_sub(missing));
            let left = self.budget.left_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or(0);
            self.debt_bytes += missing.saturating_sub(left) as usize;
            self.free_bytes += missing as usize;
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
        if self.free_bytes > 2 * PORTION_BYTES {
            self.shrink();
        }
    }

    /// Bytes charged on this shard.
    pub(crate) fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    #[cold]
    fn extend(&mut self, bytes: usize) -> bool {
        let missing = (bytes - self.free_bytes).next_multiple_of(PORTION_BYTES) as u64;
        let take = |left: u64| left.checked_sub(missing);
        let taken = self.budget.left_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        self.free_bytes += if taken { missing as usize } else { 0 };
        taken
    }

    #[cold]
    fn shrink(&mut self) {
        let portions = (self.free_bytes - PORTION_BYTES) / PORTION_BYTES * PORTION_BYTES;
        self.free_bytes -= portions;
        self.budget.left_bytes.fetch_add(portions as u64, Ordering::Relaxed);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let leased_bytes = self.free_bytes + self.used_bytes - self.debt_bytes;
        self.budget.left_bytes.fetch_add(leased_bytes as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_shards_never_have_more_than_there_is() {
        let budget = Budget::new(4 * PORTION_BYTES as u64);
        let (mut first, mut second) = (Lease::new(budget.clone()), Lease::new(budget.clone()));
        assert!(first.charge(3 * PORTION_BYTES - 5));
        assert!(second.charge(1) && second.charge(PORTION_BYTES - 1));
        assert!(!second.charge(1), "all portions are leased");
        assert!(first.charge(5) && !first.charge(1));
        assert_eq!(budget.left_bytes(), 0);
        first.release(3 * PORTION_BYTES);
        assert_eq!(budget.left_bytes(), 2 * PORTION_BYTES as u64, "one portion is kept for the next time");
        assert!(second.charge(2 * PORTION_BYTES));
        second.release(3 * PORTION_BYTES);
        drop((first, second));
        assert_eq!(budget.left_bytes(), 4 * PORTION_BYTES as u64);
    }

    #[test]
    fn what_is_kept_is_charged_until_it_is_dropped() {
        let budget = Budget::new(10);
        let first = Kept::new(&budget, b"hello").unwrap();
        let second = Kept::new(&budget, b"hello").unwrap();
        assert!(Kept::new(&budget, b"x").is_none());
        drop(first);
        assert_eq!((budget.left_bytes(), &second[..]), (5, &b"hello"[..]));
    }

    #[test]
    fn what_is_there_already_is_charged_and_paid_back() {
        let budget = Budget::new(PORTION_BYTES as u64);
        let mut lease = Lease::new(budget.clone());
        lease.charge_anyway(3 * PORTION_BYTES);
        assert_eq!((lease.used_bytes(), budget.left_bytes()), (3 * PORTION_BYTES, 0));
        assert!(!lease.charge(1));
        lease.release(2 * PORTION_BYTES);
        assert!(!lease.charge(1), "that only paid the debt");
        lease.release(PORTION_BYTES);
        assert!(lease.charge(PORTION_BYTES) && !lease.charge(1));
        drop(lease);
        assert_eq!(budget.left_bytes(), PORTION_BYTES as u64);
    }
}
