//! Close reasons: why a session ended.

use std::fmt;

use crate::framing::FramingError;
use crate::rate::RateLimit;

macro_rules! close_reasons {
    ($($(#[$doc:meta])* $name:ident $(($value:ty))? = $index:literal, $text:literal, abrupt: $is_abrupt:literal,
        $sentence:literal;)*) => {
        /// Reason of the end of a session. Each has a sentence (`Display`), a name that never changes, and a number to count by.
        ///
        /// ```
        /// use raon_session::CloseReason;
        /// let reason = CloseReason::Application(7);
        /// assert_eq!(reason.name(), "application");
        /// assert_eq!(reason.to_string(), "the application closed the session (code 7)");
        /// assert_eq!(CloseReason::names().nth(reason.index()), Some("application"));
        /// ```
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum CloseReason {
            $($(#[$doc])* $name $(($value))?,)*
        }

        impl CloseReason {
            /// Number of reasons, for the engine's own tables.
            #[doc(hidden)]
            pub const COUNT: usize = [$($index),*].len();

            /// Names of all reasons, by their numbers: those inside `Transport`, `Application` and `RateLimit` are one each.
            pub fn names() -> impl ExactSizeIterator<Item = &'static str> {
                [$($text),*].into_iter()
            }

            /// Number of the reason, its place among the names; never changed.
            pub const fn index(self) -> usize {
                match self { $(CloseReason::$name { .. } => $index,)* }
            }

            /// A short name for logs and metrics; never changed.
            pub const fn name(self) -> &'static str {
                match self { $(CloseReason::$name { .. } => $text,)* }
            }

            /// True if what is queued is given up: the peer is gone, does not answer or does not read, or there is no more
            /// time. After any other reason it still leaves.
            //= CLOSE-4
            pub const fn is_abrupt(self) -> bool {
                match self { $(CloseReason::$name { .. } => $is_abrupt,)* }
            }

            const fn sentence(self) -> &'static str {
                match self { $(CloseReason::$name { .. } => $sentence,)* }
            }
        }
    };
}

// One line for each: number, name, whether it is abrupt, sentence.
close_reasons! {
    /// The peer ended the stream in order.
    PeerClosed = 0, "peer_closed", abrupt: false, "the peer closed the connection";
    /// The peer's system reset the connection.
    PeerReset = 1, "peer_reset", abrupt: true, "the peer's system reset the connection";
    /// The connection failed in another way.
    Transport(TransportFailure) = 2, "transport", abrupt: true, "the connection failed";
    /// The application closed it, with a code of its own.
    Application(u16) = 3, "application", abrupt: false, "the application closed the session";
    /// A callback of the application panicked in this session.
    ApplicationPanic = 4, "application_panic", abrupt: false, "the application panicked in this session";
    /// The handshake was not done in time.
    HandshakeTimeout = 5, "handshake_timeout", abrupt: false, "the peer did not finish the handshake in time";
    /// No message came for too long.
    IdleTimeout = 6, "idle_timeout", abrupt: false, "the peer sent no message for too long";
    /// A heartbeat was not answered in time.
    HeartbeatTimeout = 7, "heartbeat_timeout", abrupt: true, "the peer did not answer a heartbeat in time";
    /// A frame is longer than is allowed.
    FrameTooLong = 8, "frame_too_long", abrupt: false, "the peer sent a frame that is longer than is allowed";
    /// The bytes are no frame.
    FrameMalformed = 9, "frame_malformed", abrupt: false, "the peer sent bytes that are no frame";
    /// More messages or bytes per second than are allowed.
    RateLimit(RateLimit) = 10, "rate_limit", abrupt: false, "the peer sent more per second than is allowed";
    /// The peer did not read for longer than the grace.
    SlowConsumer = 11, "slow_consumer", abrupt: true, "the peer did not read what was sent to it for longer than the grace";
    /// The memory budget is used up.
    MemoryBudget = 12, "memory_budget", abrupt: true, "the server's memory budget is used up";
    /// The server has as many sessions as it may.
    ServerFull = 13, "server_full", abrupt: false, "the server has as many sessions as it may";
    /// The peer's address has as many sessions as it may.
    AddressLimit = 14, "address_limit", abrupt: false, "the peer's address has as many sessions as it may";
    /// The server is shutting down.
    Shutdown = 15, "shutdown", abrupt: false, "the server is shutting down";
    /// The shutdown's grace is over.
    ShutdownForced = 16, "shutdown_forced", abrupt: true, "the server is shutting down and the grace is over";
}

/// Failure of a connection, as far as it matters to a session.
///
/// ```
/// use raon_session::{CloseReason, TransportFailure};
/// let reason = CloseReason::Transport(TransportFailure::TimedOut);
/// assert_eq!(reason.to_string(), "the connection failed: the network gave no answer in time");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
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
