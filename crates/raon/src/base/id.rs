//! Ids of sessions, and the tokens under which a shard's operations come back.

use std::fmt;

/// Most shards of a server: the numbers above are kinds of tokens that are not about a session's stream.
pub const SHARDS_MAX: usize = 128;

const SHARD_SHIFT: u32 = 56;
const SLOT_SHIFT: u32 = 32;
/// Bits of the slot's number.
pub(crate) const SLOT_BITS: u32 = 24;

/// One session of one shard, in 64 bits: shard, slot and the slot's generation. Stale for good once the session is closed:
/// whatever is meant for it then is counted and dropped, and never reaches the slot's next session.
///
/// ```
/// use raon::SessionId;
/// let id = SessionId::from_bits(3 << 56 | 7 << 32 | 1);
/// assert_eq!((id.shard(), id.to_string().as_str()), (3, "3.7.1"));
/// assert_eq!(SessionId::from_bits(id.to_bits()), id);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(u64);

impl SessionId {
    /// No session: the id that is always stale.
    pub const NONE: SessionId = SessionId(u64::MAX);

    pub(crate) fn new(shard: u8, slot: u32, generation: u32) -> Self {
        SessionId(u64::from(shard) << SHARD_SHIFT | u64::from(slot) << SLOT_SHIFT | u64::from(generation))
    }

    /// The number of the shard that it lives on.
    pub fn shard(self) -> usize {
        (self.0 >> SHARD_SHIFT) as usize
    }

    pub(crate) fn slot(self) -> u32 {
        (self.0 >> SLOT_SHIFT) as u32 & ((1 << SLOT_BITS) - 1)
    }

    pub(crate) fn generation(self) -> u32 {
        self.0 as u32
    }

    /// The id as a number, for messages and logs.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// The id that [`to_bits`](Self::to_bits) gave. Any other number is a stale id, never a wrong one.
    pub fn from_bits(bits: u64) -> Self {
        SessionId(bits)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.shard(), self.slot(), self.generation())
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session-{self}")
    }
}

/// Token of a completion: what it is about. That of a session's socket is the session's id itself, so that the common case is
/// one comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Token {
    /// The socket of a session.
    Session(SessionId),
    /// The timer of a session, with the shard's number in place.
    Liveness(SessionId),
    /// A timer of the application, by its place.
    Timer(u32),
    /// The application's clock.
    Tick,
    /// The next stage of the shutdown.
    Stage,
    /// The listener.
    Listener,
}

const LIVENESS: u64 = 0xF0;
const TIMER: u64 = 0xF1;
const TICK: u64 = 0xF2;
const STAGE: u64 = 0xF3;
const LISTENER: u64 = 0xF4;
const REST: u64 = (1 << SHARD_SHIFT) - 1;

impl Token {
    #[inline]
    pub(crate) fn bits(self) -> u64 {
        match self {
            Token::Session(id) => id.0,
            Token::Liveness(id) => LIVENESS << SHARD_SHIFT | id.0 & REST,
            Token::Timer(place) => TIMER << SHARD_SHIFT | u64::from(place),
            Token::Tick => TICK << SHARD_SHIFT,
            Token::Stage => STAGE << SHARD_SHIFT,
            Token::Listener => LISTENER << SHARD_SHIFT,
        }
    }

    /// The token of these bits on the shard of this number.
    #[inline]
    pub(crate) fn of(bits: u64, shard: u8) -> Self {
        match bits >> SHARD_SHIFT {
            LIVENESS => Token::Liveness(SessionId(u64::from(shard) << SHARD_SHIFT | bits & REST)),
            TIMER => Token::Timer(bits as u32),
            TICK => Token::Tick,
            STAGE => Token::Stage,
            LISTENER => Token::Listener,
            _ => Token::Session(SessionId(bits)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_they_were() {
        let id = SessionId::new(SHARDS_MAX as u8 - 1, (1 << SLOT_BITS) - 1, u32::MAX);
        assert_eq!((id.shard(), id.slot(), id.generation()), (SHARDS_MAX - 1, (1 << SLOT_BITS) - 1, u32::MAX));
        let tokens =
            [Token::Session(id), Token::Liveness(id), Token::Timer(7), Token::Tick, Token::Stage, Token::Listener];
        for token in tokens {
            assert_eq!(Token::of(token.bits(), SHARDS_MAX as u8 - 1), token);
        }
    }
}
