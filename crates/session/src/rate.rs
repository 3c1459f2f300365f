//! Rates: how much a peer may send, in messages and bytes per second, with a burst.
//!
//! A bucket fills with time and is emptied by what comes. Levels are kept in parts of 10⁻⁹, so that a nanosecond adds
//! exactly the rate and nothing is divided or rounded.
//!
//! A reader that stood still finds at once what came over some time. `forgive` adds what the rate allows for that time to a
//! credit. It is kept for as long again, and after that until the bucket is full: by then nothing is owed any more.

use crate::with::with;
use std::fmt;

with!(RateLimits);

/// Parts that a bucket's level is counted in: nanoseconds per second.
const PARTS: u64 = 1_000_000_000;

/// Limits on the rate of one peer. 0 per second means no limit, and costs nothing.
///
/// ```
/// use raon_session::RateLimits;
/// let limits = RateLimits::default().with(|limits| (limits.messages_per_second, limits.messages_burst) = (100, 20));
/// assert!(limits.is_on() && !RateLimits::default().is_on());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct RateLimits {
    /// Messages per second; 0: any number.
    pub messages_per_second: u32,
    /// Messages that may come at once; 0: those of one second.
    pub messages_burst: u32,
    /// Bytes per second, of bodies; 0: any number.
    pub bytes_per_second: u32,
    /// Bytes that may come at once; 0: those of one second. At least the longest body, or that one can never come.
    pub bytes_burst: u32,
}

/// Which limit was passed.
///
/// ```
/// assert_eq!(raon_session::RateLimit::Bytes.to_string(), "bytes per second");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum RateLimit {
    /// `messages_per_second`.
    Messages,
    /// `bytes_per_second`.
    Bytes,
}

/// Rate of one peer: what it has left, if it is limited.
///
/// ```
/// use raon_session::{Rate, RateLimit, RateLimits};
/// let limits = RateLimits::default().with(|limits| (limits.messages_per_second, limits.messages_burst) = (1, 2));
/// let mut rate = Rate::new(&limits, 0);
/// assert_eq!(rate.charge(&limits, 0, 2, 100), Ok(()));
/// assert_eq!(rate.charge(&limits, 999_999_999, 1, 50), Err(RateLimit::Messages));
/// assert_eq!(rate.charge(&limits, 1_000_000_000, 1, 50), Ok(()));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rate {
    messages: Bucket,
    bytes: Bucket,
    filled_ns: u64,
    /// Credit for the time in which nobody read is kept at least until then.
    forgiven_until_ns: u64,
}

/// A level of at most `full`, and what was earned on top of it while nobody read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Bucket {
    parts: u64,
    credit: u64,
}

impl RateLimits {
    /// True if anything is limited.
    #[inline]
    pub const fn is_on(&self) -> bool {
        self.messages_per_second > 0 || self.bytes_per_second > 0
    }
}

impl Rate {
    /// With full bursts.
    pub fn new(limits: &RateLimits, now_ns: u64) -> Self {
        let bucket = |burst, rate| Bucket { parts: full(burst, rate), credit: 0 };
        Rate {
            messages: bucket(limits.messages_burst, limits.messages_per_second),
            bytes: bucket(limits.bytes_burst, limits.bytes_per_second),
            filled_ns: now_ns,
            forgiven_until_ns: 0,
        }
    }

    /// Nobody has read for `stall_ns` nanoseconds until `now_ns`: what the rate allows for that time may come on top. It is
    /// kept for as long again, and then until the bucket is full.
    //= RATE-1
    pub fn forgive(&mut self, limits: &RateLimits, now_ns: u64, stall_ns: u64) {
        self.fill(limits, now_ns);
        self.messages.earn(limits.messages_per_second, stall_ns);
        self.bytes.earn(limits.bytes_per_second, stall_ns);
        self.forgiven_until_ns = self.forgiven_until_ns.max(now_ns.saturating_add(stall_ns));
    }

    /// Takes what has come; an error if that is more than is there, and then nothing is taken.
    //= RATE-1
    pub fn charge(&mut self, limits: &RateLimits, now_ns: u64, messages: u32, bytes: u32) -> Result<(), RateLimit> {
        self.fill(limits, now_ns);
        let left = self.messages.less(limits.messages_per_second, messages).ok_or(RateLimit::Messages)?;
        self.bytes = self.bytes.less(limits.bytes_per_second, bytes).ok_or(RateLimit::Bytes)?;
        self.messages = left;
        Ok(())
    }

    fn fill(&mut self, limits: &RateLimits, now_ns: u64) {
        let elapsed_ns = now_ns.saturating_sub(self.filled_ns);
        self.filled_ns = self.filled_ns.max(now_ns);
        let keeps_credit = now_ns <= self.forgiven_until_ns;
        self.messages.fill(limits.messages_burst, limits.messages_per_second, elapsed_ns, keeps_credit);
        self.bytes.fill(limits.bytes_burst, limits.bytes_per_second, elapsed_ns, keeps_credit);
    }
}

impl Bucket {
    fn fill(&mut self, burst: u32, rate: u32, elapsed_ns: u64, keeps_credit: bool) {
        let full = full(burst, rate);
        self.parts = self.parts.saturating_add(elapsed_ns.saturating_mul(u64::from(rate))).min(full);
        if self.parts == full && !keeps_credit {
            self.credit = 0;
        }
    }

    fn earn(&mut self, rate: u32, stall_ns: u64) {
        self.credit = self.credit.saturating_add(stall_ns.saturating_mul(u64::from(rate)));
    }

    /// Bucket that is left when `count` is taken, of the level first; `None`: there is not so much.
    fn less(self, rate: u32, count: u32) -> Option<Bucket> {
        if rate == 0 {
            return Some(self);
        }
        let needed = u64::from(count) * PARTS;
        match self.parts.checked_sub(needed) {
            Some(parts) => Some(Bucket { parts, ..self }),
            None => Some(Bucket { parts: 0, credit: self.credit.checked_sub(needed - self.parts)? }),
        }
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            RateLimit::Messages => "messages per second",
            RateLimit::Bytes => "bytes per second",
        })
    }
}

impl std::error::Error for RateLimit {}

/// The level of a full bucket: at most 2³² × 10⁹, which 64 bits hold four times over.
fn full(burst: u32, rate: u32) -> u64 {
    u64::from(if burst == 0 { rate } else { burst }) * PARTS
}
