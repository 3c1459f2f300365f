//! Close reasons: why a session ended.

use std::fmt;

use crate::framing::FramingError;
use crate::rate::RateLimit;

/// Why a session ended: a closed list. Each has a sentence (`Display`), a name that never changes, and a number to count by.
///
/// ```
/// use raon_session::CloseReason;
/// let reason = CloseReason::Application(7);
/// assert_eq!(reason.name(), "application");
/// assert_eq!(reason.to_string(), "the application closed the session (code 7)");
/// let mut counters = [0u64; CloseReason::COUNT];
/// counters[reason.index()] += 1;
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CloseReason {
    /// The peer ended the stream in order.
    PeerClosed,
    /// The peer's system reset the connection.
    PeerReset,
    /// The connection failed in another way.
    Transport(TransportFailure),
    /// The application closed it, with a code of its own.
    Application(u16),
    /// A callback of the application panicked in this session.
    ApplicationPanic,
    /// The handshake was not done in time.
    HandshakeTimeout,
    /// No message came for too long.
    IdleTimeout,
    /// A heartbeat was not answered in time.
    HeartbeatTimeout,
    /// A frame is longer than is allowed.
    FrameTooLong,
    /// The bytes are no frame.
    FrameMalformed,
    /// More messages or bytes per second than are allowed.
    RateLimit(RateLimit),
    /// The peer did not read for longer than the grace.
    SlowConsumer,
    /// The memory budget is used up.
    MemoryBudget,
    /// The server has as many sessions as it may.
    ServerFull,
    /// The peer's address has as many sessions as it may.
    AddressLimit,
    /// The server is shutting down.
    Shutdown,
    /// The shutdown's grace is over.
    ShutdownForced,
}

/// Failure of a connection, as far as it matters to a session.
///
/// ```
/// use raon_session::{CloseReason, TransportFailure};
/// let reason = CloseReason::Transport(TransportFailure::TimedOut);
/// assert_eq!(reason.to_string(), "the connection failed: the network gave no answer in time");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TransportFailure {
    /// No answer from the network in time.
    TimedOut,
    /// No way to the peer any more.
    Unreachable,
    /// This side's system aborted it.
    Aborted,
    /// The system has no memory or descriptors for it.
    NoResources,
    /// Something else.
    Other,
}

impl CloseReason {
    /// Number of reasons, those inside `Transport`, `Application` and `RateLimit` counted as one each.
    pub const COUNT: usize = 17;

    /// Names by number.
    pub const NAMES: [&'static str; Self::COUNT] = [
        "peer_closed",
        "peer_reset",
        "transport",
        "application",
        "application_panic",
        "handshake_timeout",
        "idle_timeout",
        "heartbeat_timeout",
        "frame_too_long",
        "frame_malformed",
        "rate_limit",
        "slow_consumer",
        "memory_budget",
        "server_full",
        "address_limit",
        "shutdown",
        "shutdown_forced",
    ];

    /// Its number, below [`COUNT`](Self::COUNT).
    pub const fn index(self) -> usize {
        match self {
            CloseReason::PeerClosed => 0,
            CloseReason::PeerReset => 1,
            CloseReason::Transport(_) => 2,
            CloseReason::Application(_) => 3,
            CloseReason::ApplicationPanic => 4,
            CloseReason::HandshakeTimeout => 5,
            CloseReason::IdleTimeout => 6,
            CloseReason::HeartbeatTimeout => 7,
            CloseReason::FrameTooLong => 8,
            CloseReason::FrameMalformed => 9,
            CloseReason::RateLimit(_) => 10,
            CloseReason::SlowConsumer => 11,
            CloseReason::MemoryBudget => 12,
            CloseReason::ServerFull => 13,
            CloseReason::AddressLimit => 14,
            CloseReason::Shutdown => 15,
            CloseReason::ShutdownForced => 16,
        }
    }

    /// A short name for logs and metrics; never changed.
    pub const fn name(self) -> &'static str {
        Self::NAMES[self.index()]
    }

    /// Whether what is queued is given up: the peer is gone, does not answer or does not read, or there is no more time.
    /// After any other reason it still leaves.
    //= CLOSE-4
    pub const fn is_abrupt(self) -> bool {
        match self {
            CloseReason::PeerReset
            | CloseReason::Transport(_)
            | CloseReason::HeartbeatTimeout
            | CloseReason::SlowConsumer
            | CloseReason::MemoryBudget
            | CloseReason::ShutdownForced => true,
            CloseReason::PeerClosed
            | CloseReason::Application(_)
            | CloseReason::ApplicationPanic
            | CloseReason::HandshakeTimeout
            | CloseReason::IdleTimeout
            | CloseReason::FrameTooLong
            | CloseReason::FrameMalformed
            | CloseReason::RateLimit(_)
            | CloseReason::ServerFull
            | CloseReason::AddressLimit
            | CloseReason::Shutdown => false,
        }
    }

    const fn sentence(self) -> &'static str {
        match self {
            CloseReason::PeerClosed => "the peer closed the connection",
            CloseReason::PeerReset => "the peer's system reset the connection",
            CloseReason::Transport(_) => "the connection failed",
            CloseReason::Application(_) => "the application closed the session",
            CloseReason::ApplicationPanic => "the application panicked in this session",
            CloseReason::HandshakeTimeout => "the peer did not finish the handshake in time",
            CloseReason::IdleTimeout => "the peer sent no message for too long",
            CloseReason::HeartbeatTimeout => "the peer did not answer a heartbeat in time",
            CloseReason::FrameTooLong => "the peer sent a frame that is longer than is allowed",
            CloseReason::FrameMalformed => "the peer sent bytes that are no frame",
            CloseReason::RateLimit(_) => "the peer sent more per second than is allowed",
            CloseReason::SlowConsumer => "the peer did not read what was sent to it for longer than the grace",
            CloseReason::MemoryBudget => "the server's memory budget is used up",
            CloseReason::ServerFull => "the server has as many sessions as it may",
            CloseReason::AddressLimit => "the peer's address has as many sessions as it may",
            CloseReason::Shutdown => "the server is shutting down",
            CloseReason::ShutdownForced => "the server is shutting down and the grace is over",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.sentence())?;
        match self {
            CloseReason::Transport(failure) => write!(out, ": {failure}"),
            CloseReason::Application(code) => write!(out, " (code {code})"),
            CloseReason::RateLimit(limit) => write!(out, " ({limit})"),
            _ => Ok(()),
        }
    }
}

impl From<FramingError> for CloseReason {
    fn from(error: FramingError) -> Self {
        match error {
            FramingError::TooLong { .. } | FramingError::Unended { .. } => CloseReason::FrameTooLong,
            FramingError::TooShort { .. } | FramingError::Malformed { .. } | FramingError::Inconsistent => {
                CloseReason::FrameMalformed
            }
        }
    }
}

impl From<RateLimit> for CloseReason {
    fn from(limit: RateLimit) -> Self {
        CloseReason::RateLimit(limit)
    }
}

impl fmt::Display for TransportFailure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            TransportFailure::TimedOut => "the network gave no answer in time",
            TransportFailure::Unreachable => "there is no way to the peer any more",
            TransportFailure::Aborted => "this side's system aborted it",
            TransportFailure::NoResources => "the system has no memory or descriptors for it",
            TransportFailure::Other => "the system did not say how",
        })
    }
}
