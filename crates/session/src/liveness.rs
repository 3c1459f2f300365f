//! Liveness of a peer, which is still there and reads or not: deadlines, all from one timer per session.
//!
//! 1. A session begins with the handshake's deadline, and the engine sets a timer for it.
//! 2. What happens only stores a time; no timer is moved. So a message costs one store.
//! 3. The timer fires. Whatever is due by what was stored is done; the next deadline, if there is one, is where the timer
//!    is set next.
//! 4. Two things may need an earlier deadline than the one that is set: an outbox that fills up, and a session that is
//!    closing. They are rare, and the engine asks `arm` after them.
//!
//! A timer that fires before the deadline that was last asked for is an old one; it does nothing.

use crate::close::CloseReason;
use crate::with::with;

with!(LivenessLimits);

/// No deadline.
pub(crate) const NEVER: u64 = u64::MAX;

const NANOSECONDS_PER_MILLISECOND: u64 = 1_000_000;

/// End of a handshake.
///
/// ```
/// assert_eq!(raon_session::HandshakeEnd::default(), raon_session::HandshakeEnd::FirstMessage);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum HandshakeEnd {
    /// The first whole message.
    #[default]
    FirstMessage,
    /// `establish` alone, when the application has seen what it wants to see.
    Explicit,
}

/// Limits on the silence of a peer. 0 switches a deadline off.
///
/// ```
/// use raon_session::LivenessLimits;
/// let limits = LivenessLimits::default().with(|limits| {
///     limits.heartbeat_every_ms = 5000;
///     limits.heartbeat_answer_ms = 2000;
/// });
/// assert_eq!((limits.handshake_ms, limits.idle_ms), (10_000, 0));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LivenessLimits {
    /// From the opening to the handshake's end, in milliseconds.
    pub handshake_ms: u32,
    /// End of the handshake.
    pub handshake_end: HandshakeEnd,
    /// From one message to the next, in milliseconds. Bytes that are no whole message yet do not count.
    pub idle_ms: u32,
    /// A silence of this length, in milliseconds, calls for a heartbeat.
    pub heartbeat_every_ms: u32,
    /// From the heartbeat to any message, in milliseconds; with 0 a heartbeat needs no answer.
    pub heartbeat_answer_ms: u32,
}

impl Default for LivenessLimits {
    /// 10 s for the handshake, which is plenty over any network and keeps silent connections from piling up; nothing
    /// else, because only the application knows how often its peers speak.
    fn default() -> Self {
        LivenessLimits {
            handshake_ms: 10_000,
            handshake_end: HandshakeEnd::FirstMessage,
            idle_ms: 0,
            heartbeat_every_ms: 0,
            heartbeat_answer_ms: 0,
        }
    }
}

/// Action that a session's timer brings.
///
/// ```
/// use raon_session::{CloseReason, Session, SessionConfig, TimerAction};
/// let config = SessionConfig::default();
/// let mut session = Session::<Vec<u8>>::new(&config, 0);
/// let deadline_ns = session.arm(&config).expect("the handshake's");
/// assert_eq!(session.timer_fired(&config, deadline_ns), TimerAction::Close(CloseReason::HandshakeTimeout));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimerAction {
    /// Nothing is due, now or later: no timer. `arm` says when that changes.
    Nothing,
    /// Nothing is due: the timer again.
    Rearm {
        /// When.
        at_ns: u64,
    },
    /// The application's heartbeat, and the timer again.
    Heartbeat {
        /// When.
        at_ns: u64,
    },
    /// Close the session for this reason.
    Close(CloseReason),
    /// The queue did not leave in time: abort.
    Abort,
}

/// Times, in nanoseconds of the driver's clock.
#[derive(Debug)]
pub(crate) struct Liveness {
    /// When the last message came; at first, when the session was opened. `NEVER` if none is expected any more.
    pub(crate) heard_ns: u64,
    /// When a heartbeat was called for that no message has answered, or `NEVER`.
    pub(crate) asked_ns: u64,
    /// The end of what the session is in: the handshake, or the closing. Else `NEVER`.
    pub(crate) stage_ns: u64,
    /// When the outbox passed its high watermark, or `NEVER`.
    pub(crate) pressed_ns: u64,
    /// The deadline that the timer is set for, or `NEVER`.
    pub(crate) armed_ns: u64,
}

/// Next thing that an open session is waiting for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Due {
    Close(CloseReason),
    Heartbeat,
}

impl Liveness {
    pub(crate) fn new(limits: &LivenessLimits, now_ns: u64) -> Self {
        let stage_ns = after(now_ns, limits.handshake_ms);
        Liveness { heard_ns: now_ns, asked_ns: NEVER, stage_ns, pressed_ns: NEVER, armed_ns: NEVER }
    }

    /// A message has come. Any message answers a heartbeat.
    #[inline]
    pub(crate) fn heard(&mut self, now_ns: u64) {
        self.heard_ns = now_ns;
        self.asked_ns = NEVER;
    }

    /// The peer will not speak any more.
    pub(crate) fn expect_nothing(&mut self) {
        self.heard_ns = NEVER;
        self.asked_ns = NEVER;
    }

    /// Time that nobody is to be blamed for: all deadlines move by it.
    pub(crate) fn forgive(&mut self, stall_ns: u64) {
        for time_ns in [&mut self.heard_ns, &mut self.asked_ns, &mut self.stage_ns, &mut self.pressed_ns] {
            if *time_ns != NEVER {
                *time_ns = time_ns.saturating_add(stall_ns).min(NEVER - 1);
            }
        }
    }

    /// The timer's deadline if it must be set earlier than it is.
    pub(crate) fn arm(&mut self, deadline_ns: u64) -> Option<u64> {
        if deadline_ns >= self.armed_ns {
            return None;
        }
        self.armed_ns = deadline_ns;
        Some(deadline_ns)
    }

    /// The next deadline of a session that is neither closing nor closed.
    pub(crate) fn deadline_ns(&self, limits: &LivenessLimits, grace_ms: u32) -> u64 {
        self.next(limits, grace_ms, self.heard_ns).0
    }

    /// Finds out what is due by now, and the timer's next deadline.
    //= LIVE-1, LIVE-2
    pub(crate) fn timer_fired(&mut self, limits: &LivenessLimits, grace_ms: u32, now_ns: u64) -> TimerAction {
        let mut has_asked = false;
        loop {
            let (deadline_ns, due) = self.next(limits, grace_ms, now_ns);
            if deadline_ns > now_ns || deadline_ns == NEVER {
                self.armed_ns = deadline_ns;
                return match (deadline_ns, has_asked) {
                    (at_ns, true) => TimerAction::Heartbeat { at_ns },
                    (NEVER, false) => TimerAction::Nothing,
                    (at_ns, false) => TimerAction::Rearm { at_ns },
                };
            }
            match due {
                Due::Close(reason) => return TimerAction::Close(reason),
                Due::Heartbeat => {
                    self.asked_ns = now_ns;
                    has_asked = true;
                }
            }
        }
    }

    /// The earliest deadline and what it is for. Of two at the same moment the one that closes counts.
    fn next(&self, limits: &LivenessLimits, grace_ms: u32, looked_ns: u64) -> (u64, Due) {
        let closing = [
            (self.stage_ns, CloseReason::HandshakeTimeout),
            (after(self.pressed_ns, grace_ms), CloseReason::SlowConsumer),
            (after(self.heard_ns, limits.idle_ms), CloseReason::IdleTimeout),
        ];
        let mut next = self.heartbeat(limits, looked_ns);
        for (deadline_ns, reason) in closing {
            if deadline_ns <= next.0 && deadline_ns != NEVER {
                next = (deadline_ns, Due::Close(reason));
            }
        }
        next
    }

    /// A handshake has none; but the timer looks whether it is over as often as one would be due, so that the first is not
    /// late.
    fn heartbeat(&self, limits: &LivenessLimits, looked_ns: u64) -> (u64, Due) {
        if self.stage_ns != NEVER {
            return (after(looked_ns, limits.heartbeat_every_ms), Due::Heartbeat);
        }
        if self.asked_ns == NEVER {
            return (after(self.heard_ns, limits.heartbeat_every_ms), Due::Heartbeat);
        }
        match limits.heartbeat_answer_ms {
            0 => (after(self.asked_ns, limits.heartbeat_every_ms), Due::Heartbeat),
            answer_ms => (after(self.asked_ns, answer_ms), Due::Close(CloseReason::HeartbeatTimeout)),
        }
    }
}

/// `NEVER` if either is none.
pub(crate) fn after(from_ns: u64, milliseconds: u32) -> u64 {
    if milliseconds == 0 || from_ns == NEVER {
        return NEVER;
    }
    from_ns.saturating_add(u64::from(milliseconds) * NANOSECONDS_PER_MILLISECOND)
}
