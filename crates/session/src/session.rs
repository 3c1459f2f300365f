//! One session: its state, its way out, its deadlines and its rate. Its way in, the [`Inbox`](crate::Inbox), stands beside it:
//! the message that the application reads lies in there while the session is written to.
//!
//! 1. `new`, when the socket is adopted: `Opening`. The engine asks `arm` and sets the timer.
//! 2. A receive buffer comes: the engine takes messages out of its inbox, and says `received`. The first one ends the
//!    handshake, unless only `establish` does.
//! 3. Messages are appended to `outbox`; at the end of the turn the pieces are handed over, then `settle`.
//! 4. The end begins, by `peer_ended`, `close` or `abort`. The first reason stays; the step that says `has_ended` is the
//!    one after which the application is told, once.
//! 5. `Closing`: what is queued leaves. `drained`, or the deadline passes: the socket is closed.
//! 6. `socket_closed`: the slot is freed.
//!
//! On drop whatever waits is dropped; nothing is sent.

mod state;

use std::fmt;

pub use state::{Action, Event, State};

use crate::close::{CloseReason, TransportFailure};
use crate::framing::Chunk;
use crate::free_lists::FreeLists;
use crate::liveness::{HandshakeEnd, Liveness, LivenessLimits, NEVER, TimerAction, after};
use crate::outbox::{Outbox, OutboxLimits, Pressure, Settled, SlowConsumer};
use crate::rate::{Rate, RateLimit, RateLimits};
use crate::with::with;

with!(SessionConfig);

/// Configuration that all sessions of a server have in common. One per shard.
///
/// ```
/// use raon_session::SessionConfig;
/// let config = SessionConfig::default().with(|config| config.liveness.idle_ms = 60_000);
/// assert_eq!(config.validate(), Ok(()));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SessionConfig {
    /// Bounds of the outbox.
    pub outbox: OutboxLimits,
    /// Limits on a peer's silence.
    pub liveness: LivenessLimits,
    /// Limits on what a peer sends.
    pub rate: RateLimits,
    /// Policy at the peer's end of its side.
    pub half_close: HalfClosePolicy,
    /// Time that the queue may take to leave when a session closes, in milliseconds.
    pub drain_ms: u32,
}

impl SessionConfig {
    /// Checks these numbers.
    ///
    /// Errors: all that is wrong with them, with the remedy.
    pub fn validate(&self) -> Result<(), Vec<&'static str>> {
        let mut problems = self.outbox.validate().err().unwrap_or_default();
        if self.drain_ms == 0 {
            problems.push("drain_ms is 0; a session could close before its last messages leave");
        }
        if self.liveness.heartbeat_answer_ms > 0 && self.liveness.heartbeat_every_ms == 0 {
            problems.push("heartbeat_answer_ms is set without heartbeat_every_ms; no heartbeat would be sent");
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

impl Default for SessionConfig {
    /// 5 s for what is queued: a peer that reads at all reads 256 KiB in that time.
    fn default() -> Self {
        SessionConfig {
            outbox: OutboxLimits::default(),
            liveness: LivenessLimits::default(),
            rate: RateLimits::default(),
            half_close: HalfClosePolicy::Close,
            drain_ms: 5000,
        }
    }
}

/// Policy for a session whose peer has ended its side in order.
///
/// ```
/// assert_eq!(raon_session::HalfClosePolicy::default(), raon_session::HalfClosePolicy::Close);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum HalfClosePolicy {
    /// The session ends: what is queued still leaves. Right for games, whose peers leave by closing.
    #[default]
    Close,
    /// The session goes on one way until the application closes it. Silence is no fault any more.
    KeepOpen,
}

/// Step that an event leads to.
///
/// ```
/// use raon_session::Step;
/// assert_eq!(Step::NOTHING, Step { action: None, has_ended: false });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// Action that the engine takes now, if any.
    pub action: Option<Action>,
    /// The session has just ended: the application is told, with the session's reason. True once in a session's life.
    pub has_ended: bool,
}

impl Step {
    /// Nothing follows.
    pub const NOTHING: Step = Step { action: None, has_ended: false };
}

/// One session, `C` being what its messages are gathered in.
///
/// ```
/// use raon_session::{Action, ChunkAllocator, HeapAllocator, Inbox, Packet, PacketHead, Session, SessionConfig};
/// let (config, framing, mut allocator) = (SessionConfig::default(), Packet::new(), HeapAllocator::default());
/// let (mut session, mut inbox) = (Session::new(&config, 0), Inbox::default());
/// let mut input = &b"\x06\0\x01\0hi"[..];
/// while let Some(message) = inbox.next(&framing, &mut input, allocator.free_lists())? {
///     session.outbox.append(&framing, PacketHead { id: 2 }, &message, &config.outbox, &mut allocator);
/// }
/// session.received(&config, 5, 1, 2)?;
/// assert_eq!(session.outbox.take().map(|piece| piece.len()), Some(6));
/// session.settle(&config, 5, allocator.free_lists());
/// let step = session.peer_ended(&config, 9);
/// assert_eq!((step.action, step.has_ended), (Some(Action::Drain), true));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Session<C> {
    /// The way out.
    pub outbox: Outbox<C>,
    liveness: Liveness,
    rate: Option<Box<Rate>>,
    state: State,
    reason: Option<CloseReason>,
}

impl<C: Chunk> Session<C> {
    /// A session that has just been opened.
    pub fn new(config: &SessionConfig, now_ns: u64) -> Self {
        Session {
            outbox: Outbox::default(),
            liveness: Liveness::new(&config.liveness, now_ns),
            rate: config.rate.is_on().then(|| Box::new(Rate::new(&config.rate, now_ns))),
            state: State::Opening,
            reason: None,
        }
    }

    /// Whole messages have come, at least one, with `bytes` bytes of bodies in all. One call per receive buffer is enough;
    /// one per message makes the rates exact.
    ///
    /// Errors: more came than the rate allows. Close with that as the reason, and do not deliver them.
    //= LIVE-1, LIVE-2, RATE-1
    #[inline]
    pub fn received(
        &mut self,
        config: &SessionConfig,
        now_ns: u64,
        messages: u32,
        bytes: u32,
    ) -> Result<(), RateLimit> {
        if self.state != State::Open {
            return self.received_early(config, now_ns, messages, bytes);
        }
        self.liveness.heard(now_ns);
        match &mut self.rate {
            None => Ok(()),
            Some(rate) => rate.charge(&config.rate, now_ns, messages, bytes),
        }
    }

    /// Another sign of life than a message. For a peer that is not read from because it is slow: each time that it has read
    /// something, so that what it sends meanwhile, unheard, is not taken for silence.
    //= LIVE-2
    pub fn alive(&mut self, now_ns: u64) {
        if self.state.receives() {
            self.liveness.heard(now_ns);
        }
    }

    /// Input of the peer is held back because what was sent to it has not left: from now on the slow consumer's grace runs.
    /// After this the engine asks [`arm`](Self::arm).
    //= FLOW-1, OUTBOX-4
    pub fn input_held(&mut self, now_ns: u64) {
        if self.liveness.pressed_ns == NEVER {
            self.liveness.pressed_ns = now_ns;
        }
    }

    /// The input that was held has been given to the application, or the peer has read and it is being given.
    pub fn input_released(&mut self) {
        if !self.outbox.is_high() {
            self.liveness.pressed_ns = NEVER;
        }
    }

    /// The peer has sent what we hold back, so nothing of it is silence. For the time while input is held and the slow
    /// consumer's grace decides; without a grace, what the peer reads counts, see [`alive`](Self::alive).
    //= LIVE-2
    pub fn excuse_silence(&mut self, config: &SessionConfig, now_ns: u64) {
        if grace_ms(&config.outbox) > 0 {
            self.alive(now_ns);
            if self.state == State::Opening && self.liveness.stage_ns <= now_ns {
                self.liveness.stage_ns = after(now_ns, config.liveness.handshake_ms);
            }
        }
    }

    /// Ends the handshake; the deadline for it is off.
    //= LIVE-1
    pub fn establish(&mut self) {
        if self.state == State::Opening {
            self.liveness.stage_ns = NEVER;
        }
        self.apply(Event::Established);
    }

    /// The peer has ended its side in order.
    //= CLOSE-5
    pub fn peer_ended(&mut self, config: &SessionConfig, now_ns: u64) -> Step {
        match config.half_close {
            HalfClosePolicy::Close => self.end(Event::PeerEnd, CloseReason::PeerClosed, config, now_ns),
            HalfClosePolicy::KeepOpen => {
                if self.state.receives() {
                    self.liveness.stage_ns = NEVER;
                    self.liveness.expect_nothing();
                }
                self.apply(Event::PeerEndKept)
            }
        }
    }

    /// Ends the session for this reason: abruptly if the reason is, else after what is queued has left. A session that is
    /// closing already keeps its reason, and an abrupt one ends its waiting.
    //= CLOSE-3, CLOSE-4
    pub fn close(&mut self, config: &SessionConfig, now_ns: u64, reason: CloseReason) -> Step {
        let event = if reason.is_abrupt() { Event::Abort } else { Event::Close };
        self.end(event, reason, config, now_ns)
    }

    /// Ends the session for this reason at once, whatever the reason.
    //= CLOSE-3
    pub fn abort(&mut self, reason: CloseReason) -> Step {
        self.note_reason(reason);
        self.apply(Event::Abort)
    }

    /// The outbox is empty: called after a hand-over in `Closing`, and right after the step that says `Drain`. Does nothing
    /// while something waits.
    //= CLOSE-4
    pub fn drained(&mut self) -> Step {
        if self.outbox.is_empty() { self.apply(Event::Drained) } else { Step::NOTHING }
    }

    /// The driver has closed the socket: nothing more comes, and once the application knows the end the slot is free.
    pub fn socket_closed(&mut self) -> Step {
        self.note_reason(CloseReason::Transport(TransportFailure::Other));
        self.apply(Event::SocketClosed)
    }

    /// Called after each hand-over, as [`Outbox::settle`]. After `Pressure::High` the engine asks [`arm`](Self::arm).
    //= OUTBOX-4
    #[inline]
    pub fn settle(&mut self, config: &SessionConfig, now_ns: u64, free_lists: &mut FreeLists<C>) -> Settled {
        let settled = self.outbox.settle(&config.outbox, free_lists);
        match settled.pressure {
            None => {}
            Some(Pressure::High) => self.liveness.pressed_ns = self.liveness.pressed_ns.min(now_ns),
            Some(Pressure::Low) => self.liveness.pressed_ns = NEVER,
        }
        settled
    }

    /// The deadline that the session's timer must be set for now, if it is earlier than the one it is set for. Asked after
    /// `new`, after `Pressure::High` and after `Action::Drain`. A timer that is set already may be cancelled or left: one
    /// that fires too early does nothing.
    pub fn arm(&mut self, config: &SessionConfig) -> Option<u64> {
        let deadline_ns = match self.state {
            State::Closed => NEVER,
            State::Closing => self.liveness.stage_ns,
            _ => self.liveness.deadline_ns(&config.liveness, grace_ms(&config.outbox)),
        };
        self.liveness.arm(deadline_ns)
    }

    /// The session's timer has fired: what follows. The timer is set again only if the action says so.
    //= LIVE-1, LIVE-2, CLOSE-4
    pub fn timer_fired(&mut self, config: &SessionConfig, now_ns: u64) -> TimerAction {
        if now_ns < self.liveness.armed_ns {
            return TimerAction::Nothing;
        }
        self.check_deadlines(config, now_ns)
    }

    /// Finds out what is due now, whatever the timer was set for. For a session whose [`timer_fired`](Self::timer_fired) said
    /// `Close` or `Abort` while input of its peer was still to be read: asked again after that.
    //= LIVE-3
    pub fn check_deadlines(&mut self, config: &SessionConfig, now_ns: u64) -> TimerAction {
        self.liveness.armed_ns = NEVER;
        match self.state {
            State::Closed => TimerAction::Nothing,
            State::Closing if now_ns >= self.liveness.stage_ns => TimerAction::Abort,
            State::Closing => {
                self.liveness.armed_ns = self.liveness.stage_ns;
                TimerAction::Rearm { at_ns: self.liveness.stage_ns }
            }
            _ => self.liveness.timer_fired(&config.liveness, grace_ms(&config.outbox), now_ns),
        }
    }

    /// The engine has stood still for `stall_ns` nanoseconds until `now_ns`: nobody's deadline counts that time, and what the
    /// peer sent in it is not too much because it is read late. A timer that is set may be left: it fires early.
    //= LIVE-3, RATE-1
    pub fn forgive(&mut self, config: &SessionConfig, now_ns: u64, stall_ns: u64) {
        self.liveness.forgive(stall_ns);
        if let Some(rate) = &mut self.rate {
            rate.forgive(&config.rate, now_ns, stall_ns);
        }
    }

    /// When a session that is closing has had its time, on the clock that was handed in. What is queued and the close of
    /// the socket after it have this one deadline together. Without meaning before the session has ended.
    //= CLOSE-4
    pub fn close_deadline_ns(&self) -> u64 {
        self.liveness.stage_ns
    }

    /// Where it is in its life.
    #[inline]
    pub fn state(&self) -> State {
        self.state
    }

    /// Why it ended, once it has.
    pub fn reason(&self) -> Option<CloseReason> {
        self.reason
    }

    /// True until the application has been told the end: messages may be appended.
    #[inline]
    pub fn is_live(&self) -> bool {
        self.state.is_live()
    }

    #[cold]
    fn received_early(
        &mut self,
        config: &SessionConfig,
        now_ns: u64,
        messages: u32,
        bytes: u32,
    ) -> Result<(), RateLimit> {
        if !self.state.receives() {
            return Ok(());
        }
        if config.liveness.handshake_end == HandshakeEnd::FirstMessage {
            self.establish();
        }
        self.liveness.heard(now_ns);
        self.rate.as_mut().map_or(Ok(()), |rate| rate.charge(&config.rate, now_ns, messages, bytes))
    }

    fn end(&mut self, event: Event, reason: CloseReason, config: &SessionConfig, now_ns: u64) -> Step {
        self.note_reason_of(event, reason);
        let was_live = self.state.is_live();
        let step = self.apply(event);
        if was_live && self.state == State::Closing {
            self.liveness.stage_ns = after(now_ns, config.drain_ms.max(1));
        }
        step
    }

    /// The peer's end of a session that goes on one way already is no end.
    fn note_reason_of(&mut self, event: Event, reason: CloseReason) {
        if !self.state.on(event).0.is_live() {
            self.note_reason(reason);
        }
    }

    fn note_reason(&mut self, reason: CloseReason) {
        self.reason.get_or_insert(reason);
    }

    fn apply(&mut self, event: Event) -> Step {
        let was_live = self.state.is_live();
        let (state, action) = self.state.on(event);
        self.state = state;
        Step { action, has_ended: was_live && !state.is_live() }
    }
}

impl<C> fmt::Debug for Session<C> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Session({:?}, {:?})", self.state, self.outbox)
    }
}

/// Time that a session may stay under pressure in milliseconds; 0: for ever.
fn grace_ms(limits: &OutboxLimits) -> u32 {
    match limits.slow_consumer {
        SlowConsumer::DisconnectAfter { grace_ms } => grace_ms.max(1),
        SlowConsumer::Refuse | SlowConsumer::DropOldestDroppable => 0,
    }
}
