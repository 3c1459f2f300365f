//! How much a peer may send: messages and bytes per second, with a burst.
//!
//! A bucket fills with time and is emptied by what comes. Levels are kept in parts of 10⁻⁹, so that a nanosecond adds
//! exactly the rate and nothing is divided or rounded.

use std::fmt;

/// Parts that a bucket's level is counted in: nanoseconds per second.
const PARTS: u64 = 1_000_000_000;

/// What one peer may send. 0 per second means no limit, and costs nothing.
///
/// ```
/// use raon_session::RateLimits;
/// let limits = RateLimits { messages_per_second: 100, messages_burst: 20, ..RateLimits::default() };
/// assert!(limits.is_on() && !RateLimits::default().is_on());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
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
pub enum RateLimit {
    /// `messages_per_second`.
    Messages,
    /// `bytes_per_second`.
    Bytes,
}

/// What one peer has left, if its rate is limited.
///
/// ```
/// use raon_session::{Rate, RateLimit, RateLimits};
/// let limits = RateLimits { messages_per_second: 1, messages_burst: 2, ..RateLimits::default() };
/// let mut rate = Rate::new(&limits, 0);
/// assert_eq!(rate.charge(&limits, 0, 2, 100), Ok(()));
/// assert_eq!(rate.charge(&limits, 999_999_999, 1, 50), Err(RateLimit::Messages));
/// assert_eq!(rate.charge(&limits, 1_000_000_000, 1, 50), Ok(()));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rate {
    message_parts: u64,
    byte_parts: u64,
    filled_ns: u64,
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
        Rate {
            message_parts: full(limits.messages_burst, limits.messages_per_second),
            byte_parts: full(limits.bytes_burst, limits.bytes_per_second),
            filled_ns: now_ns,
        }
    }

    /// Takes what has come; an error if that is more than is there, and then nothing is taken.
    //= RATE-1
    pub fn charge(&mut self, limits: &RateLimits, now_ns: u64, messages: u32, bytes: u32) -> Result<(), RateLimit> {
        let elapsed_ns = now_ns.saturating_sub(self.filled_ns);
        self.filled_ns = self.filled_ns.max(now_ns);
        let fill = |parts: u64, burst: u32, rate: u32| {
            parts.saturating_add(elapsed_ns.saturating_mul(u64::from(rate))).min(full(burst, rate))
        };
        self.message_parts = fill(self.message_parts, limits.messages_burst, limits.messages_per_second);
        self.byte_parts = fill(self.byte_parts, limits.bytes_burst, limits.bytes_per_second);
        let left = |parts: u64, rate: u32, count: u32| match rate {
            0 => Some(parts),
            _ => parts.checked_sub(u64::from(count) * PARTS),
        };
        let message_parts =
            left(self.message_parts, limits.messages_per_second, messages).ok_or(RateLimit::Messages)?;
        self.byte_parts = left(self.byte_parts, limits.bytes_per_second, bytes).ok_or(RateLimit::Bytes)?;
        self.message_parts = message_parts;
        Ok(())
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
