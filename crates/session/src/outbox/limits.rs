//! Limits of an outbox: how much may wait, what happens at the bound, and what is said of it.

use crate::framing::EncodeError;
use crate::with::with;

with!(OutboxLimits);

/// The bounds of an outbox. One value per shard, shared by its sessions.
///
/// ```
/// use raon_session::OutboxLimits;
/// let limits = OutboxLimits::default().with(|limits| limits.watermark_low_bytes = 128 * 1024);
/// assert_eq!(limits.validate(), Err(vec!["watermark_low_bytes is above watermark_high_bytes; lower it"]));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct OutboxLimits {
    /// Most bytes that wait, frames' prefixes and suffixes included. At least the longest frame, or that one can never go.
    pub bytes_max: u32,
    /// Most messages that wait.
    pub messages_max: u32,
    /// More than this left after a hand-over is `Pressure::High`.
    pub watermark_high_bytes: u32,
    /// After that, this or less left after a hand-over is `Pressure::Low`.
    pub watermark_low_bytes: u32,
    /// Policy when the peer does not read fast enough.
    pub slow_consumer: SlowConsumer,
}

impl OutboxLimits {
    /// Checks these numbers.
    ///
    /// Errors: all that is wrong with them, with the remedy.
    pub fn validate(&self) -> Result<(), Vec<&'static str>> {
        let rules = [
            (self.bytes_max == 0, "bytes_max is 0; nothing could be sent"),
            (self.messages_max == 0, "messages_max is 0; nothing could be sent"),
            (self.watermark_high_bytes > self.bytes_max, "watermark_high_bytes is above bytes_max; lower it"),
            (
                self.watermark_low_bytes > self.watermark_high_bytes,
                "watermark_low_bytes is above watermark_high_bytes; lower it",
            ),
        ];
        let problems: Vec<_> = rules.iter().filter(|(is_broken, _)| *is_broken).map(|(_, problem)| *problem).collect();
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

impl Default for OutboxLimits {
    /// 256 KiB, what the driver takes per socket in one go; 4,096 messages of 64 bytes fill it; watermarks at a quarter and
    /// a sixteenth.
    fn default() -> Self {
        OutboxLimits {
            bytes_max: 256 * 1024,
            messages_max: 4096,
            watermark_high_bytes: 64 * 1024,
            watermark_low_bytes: 16 * 1024,
            slow_consumer: SlowConsumer::Refuse,
        }
    }
}

/// Policy for a session whose peer does not read as fast as is sent to it.
///
/// ```
/// use raon_session::{OutboxLimits, SlowConsumer};
/// let slow_consumer = SlowConsumer::DisconnectAfter { grace_ms: 5000 };
/// let patient = OutboxLimits::default().with(|limits| limits.slow_consumer = slow_consumer);
/// assert_eq!(patient.validate(), Ok(()));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum SlowConsumer {
    /// At the bound messages are refused; the session goes on.
    #[default]
    Refuse,
    /// At the bound the oldest droppable messages make room; if they are not enough, none is dropped and the new message
    /// is refused.
    DropOldestDroppable,
    /// As `Refuse`, and a session that stays between `High` and `Low` for so long is closed.
    DisconnectAfter {
        /// Grace in milliseconds.
        grace_ms: u32,
    },
}

/// Outcome of sending a message. It may be ignored: refusals are counted and follow the [`SlowConsumer`] policy.
///
/// ```
/// use raon_session::{Refusal, SendOutcome};
/// assert!(SendOutcome::Queued.is_queued() && SendOutcome::Superseded.is_queued());
/// assert!(!SendOutcome::Refused(Refusal::OutboxBytes).is_queued());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendOutcome {
    /// It waits in the outbox and leaves at the end of the turn, or as soon as the peer reads.
    Queued,
    /// Queued, and an older message with the same key, which still waited, is left out.
    Superseded,
    /// It was droppable and there was no room for it.
    Dropped,
    /// It was not taken, and why.
    Refused(Refusal),
    /// The session is gone or going.
    Gone,
}

impl SendOutcome {
    /// True if the message waits to leave.
    #[inline]
    pub const fn is_queued(self) -> bool {
        matches!(self, SendOutcome::Queued | SendOutcome::Superseded)
    }
}

/// Why an outbox did not take a message.
///
/// ```
/// use raon_session::{EncodeError, Refusal};
/// assert_eq!(Refusal::from(EncodeError::Empty), Refusal::Unencodable(EncodeError::Empty));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// `bytes_max` would be passed.
    OutboxBytes,
    /// `messages_max` wait already.
    OutboxMessages,
    /// The allocator gave no chunk: the memory budget is used up.
    Memory,
    /// The message cannot be framed.
    Unencodable(EncodeError),
}

impl From<EncodeError> for Refusal {
    #[inline]
    fn from(error: EncodeError) -> Self {
        Refusal::Unencodable(error)
    }
}

/// Pressure of an outbox, which says so when it fills up and when it has emptied again. Each once, in turns, beginning with
/// `High`.
///
/// ```
/// use raon_session::{HeapAllocator, Outbox, OutboxLimits, Pressure, Raw, ChunkAllocator};
/// let (mut outbox, mut allocator) = (Outbox::default(), HeapAllocator::default());
/// let limits = OutboxLimits::default().with(|limits| (limits.watermark_high_bytes, limits.watermark_low_bytes) = (4, 0));
/// outbox.append(&Raw, (), b"hello", &limits, &mut allocator);
/// assert_eq!(outbox.settle(&limits, allocator.free_lists()).pressure, Some(Pressure::High));
/// outbox.take();
/// assert_eq!(outbox.settle(&limits, allocator.free_lists()).pressure, Some(Pressure::Low));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pressure {
    /// More than `watermark_high_bytes` are left after a hand-over.
    High,
    /// No more than `watermark_low_bytes` are left.
    Low,
}

/// State of an outbox after a hand-over.
///
/// ```
/// use raon_session::Settled;
/// assert_eq!(Settled::default(), Settled { pressure: None, dropped: 0 });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Settled {
    /// A watermark has been passed.
    pub pressure: Option<Pressure>,
    /// Droppable messages that had been queued and made room for others since the last time.
    pub dropped: u32,
}
