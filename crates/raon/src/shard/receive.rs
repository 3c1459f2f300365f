//! What comes from a session's connection, and from its timer.

use raon_provider::{OperationId, Outcome};
use raon_session::{CloseReason, Inbox, Pressure, RateLimit, State};

use super::Shard;

use super::inside::{Inside, NOBODY, reason_of};
use crate::application::Application;
use crate::boundary;
use crate::context::Context;

/// Messages of one session that are given to the application in one step: a thousand sessions that send the shortest
/// ones take as long as a turn takes that is full of bytes.
const MESSAGES_PER_TURN: u32 = 256;

impl<A: Application> Shard<A> {
    /// Something of a session's connection has ended or come.
    #[inline]
    pub(super) fn on_session(&mut self, index: u32, more: bool, outcome: Outcome) {
        match outcome {
            Outcome::Received(buffer) if buffer.is_empty() && !more => self.on_peer_end(index),
            Outcome::Received(buffer) => self.on_received(index, &buffer),
            Outcome::Writable => self.inside.writable(index),
            Outcome::Closed => {
                // Only after a reset that we did not ask for is the application not told yet.
                if let Some(entry) = self.inside.table.get_mut(index) {
                    let step = entry.session.socket_closed();
                    self.inside.follow(index, step);
                }
                self.tell_ended();
                self.inside.release(index);
            }
            Outcome::Failed { error, .. } => self.inside.connection_failed(index, reason_of(error.kind())),
            // A session's socket is asked for nothing else.
            _ => {}
        }
    }

    /// The session's timer has fired.
    pub(super) fn on_liveness(&mut self, index: u32, operation: OperationId) {
        let now_ns = self.inside.driver.now_ns();
        let Some(entry) = self.inside.table.get_mut(index) else { return };
        if entry.timer == operation {
            entry.timer = OperationId::NONE;
        }
        if entry.held.is_some() {
            entry.session.excuse_silence(&self.inside.settings.session, now_ns);
        }
        let verdict = entry.session.fired(&self.inside.settings.session, now_ns);
        self.act_on(index, verdict);
    }

    /// The end comes after the input that waits.
    //= FLOW-1
    pub(super) fn on_peer_end(&mut self, index: u32) {
        if self.inside.hold_end(index) {
            return;
        }
        let now_ns = self.inside.driver.now_ns();
        if let Some(entry) = self.inside.table.get_mut(index) {
            self.inside.stats.bytes_discarded += entry.session.inbox.partial_bytes() as u64;
            let step = entry.session.peer_ended(&self.inside.settings.session, now_ns);
            self.inside.follow(index, step);
        }
    }

    /// Gives what is in a receive buffer to the application, unless input from before it waits or reading stops on the way.
    fn on_received(&mut self, index: u32, bytes: &[u8]) {
        self.inside.stats.bytes_received += bytes.len() as u64;
        if self.inside.has_held_input(index) {
            return self.inside.hold(index, bytes);
        }
        let left = self.give(index, bytes);
        if left > 0 {
            self.inside.hold(index, &bytes[bytes.len() - left..]);
        }
    }

    /// Gives each message in some input to the application. The state and the begun frame are taken out of the slot once for
    /// all of them, so that callbacks can have the rest. Returns how many bytes are left because reading stopped.
    pub(super) fn give(&mut self, index: u32, bytes: &[u8]) -> usize {
        let is_live = self.inside.table.is_live(index);
        let Some(mut state) = (if is_live { self.inside.table.take_state(index) } else { None }) else {
            self.inside.stats.bytes_discarded += bytes.len() as u64;
            return 0;
        };
        let mut inbox = self.inside.take_inbox(index);
        let mut input = bytes;
        self.inside.begin_answering(index);
        let (application, inside, framing) = (&mut self.application, &mut self.inside, &self.framing);
        let given = boundary::contain(|| {
            give_messages(application, inside, framing, index, &mut state, &mut inbox, &mut input)
        });
        self.inside.answering.index = NOBODY;
        self.inside.table.put_state(index, state);
        self.inside.put_inbox(index, inbox);
        match given {
            Some(Ok(())) => {}
            Some(Err(reason)) => self.inside.close(index, reason),
            None => {
                self.inside.close(index, CloseReason::ApplicationPanic);
                self.panicked();
            }
        }
        if self.inside.table.is_live(index) {
            return input.len();
        }
        self.inside.stats.bytes_discarded += input.len() as u64;
        0
    }
}

/// Until the input is used up, reading stops, or the session has ended: then the rest stays in `input`. Errors: why it is to
/// end.
#[inline]
fn give_messages<A: Application>(
    application: &mut A,
    inside: &mut Inside<A>,
    framing: &A::Framing,
    index: u32,
    state: &mut A::Session,
    inbox: &mut Inbox,
    input: &mut &[u8],
) -> Result<(), CloseReason> {
    let now_ns = inside.driver.now_ns();
    let is_exact = inside.settings.session.rate.is_on();
    let mut ctx = Context::of(inside, index);
    let mut is_first = true;
    let mut share = MESSAGES_PER_TURN;
    ctx.inside.answering.has_used_share = false;
    while input.is_empty() || ctx.inside.may_give(index) {
        if share == 0 && !input.is_empty() {
            ctx.inside.answering.has_used_share = true;
            break;
        }
        share = share.saturating_sub(1);
        // Used up, this also gives back the memory of the last message.
        let Some(message) = inbox.next(framing, input, &mut ctx.inside.free_lists)? else { break };
        if is_first || is_exact {
            is_first = false;
            ctx.inside.heard(index, now_ns, message.len() as u32)?;
        }
        ctx.inside.stats.messages_received += 1;
        application.on_message(&mut ctx, state, message);
    }
    Ok(())
}

impl<A: Application> Inside<A> {
    /// A message has come. Errors: the session has sent more than it may.
    #[inline]
    fn heard(&mut self, index: u32, now_ns: u64, bytes: u32) -> Result<(), RateLimit> {
        let session = self.table.get_mut(index).map(|entry| &mut entry.session);
        session.map_or(Ok(()), |session| session.received(&self.settings.session, now_ns, 1, bytes))
    }

    /// A watermark was passed: its peer is not read from until it reads.
    pub(super) fn press(&mut self, index: u32, pressure: Pressure) {
        self.arm(index);
        let pauses = self.settings.pause_receiving;
        let Some(entry) = self.table.get_mut(index) else { return };
        entry.is_paused = pauses && pressure == Pressure::High;
        self.adjust_intake(index);
        if pressure == Pressure::Low {
            self.list_held(index);
        }
    }

    /// A send or the stream of input has failed. What the peer does not take any more is given up.
    fn connection_failed(&mut self, index: u32, reason: CloseReason) {
        if self.table.get(index).is_some_and(|entry| entry.session.state() != State::Closed) {
            self.close(index, reason);
        }
    }

    fn take_inbox(&mut self, index: u32) -> Inbox {
        self.table.get_mut(index).map(|entry| std::mem::take(&mut entry.session.inbox)).unwrap_or_default()
    }

    /// Puts the begun frame back and charges what it takes.
    fn put_inbox(&mut self, index: u32, mut inbox: Inbox) {
        let Some(entry) = self.table.get_mut(index) else { return };
        if !entry.session.is_live() {
            inbox.clear(&mut self.free_lists);
        }
        let bytes = inbox.charged_bytes();
        let charged = std::mem::replace(&mut entry.inbox_charged_bytes, bytes);
        entry.session.inbox = inbox;
        let growth = bytes.saturating_sub(charged);
        // It holds the memory already, so it is charged for it even if that is the end of it.
        let is_within = growth == 0 || self.provide(index, growth);
        self.lease.charge(growth);
        self.lease.release(charged.saturating_sub(bytes));
        self.table.update_rank(index);
        if !is_within {
            self.memory_used_up(index);
            self.close(index, CloseReason::MemoryBudget);
        }
    }
}
