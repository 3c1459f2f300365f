//! Context of a callback: what it can do.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use raon_provider::Address;
use raon_session::{BodyWriter, CloseReason, EncodeError, Refusal, SendOutcome};

use super::states::OtherStates;
use super::{AppRouter, Application, Head};
use crate::base::id::SessionId;
use crate::base::metrics::ServerStats;
use crate::core::ShardCore;
use crate::error::{MailboxError, MailboxRefusal};
use crate::memory::budget::ChargedBytes;
use crate::routing::mailbox::Command;
use crate::routing::router::post_to;

/// Parts of a shard that a callback has beside the core: what they are made of is the application's.
pub(crate) struct CallbackEnv<'a, A: Application> {
    pub(crate) router: &'a AppRouter<A>,
    /// Posts to keys that are at home here, by this shard itself.
    pub(crate) posts: &'a mut VecDeque<(u64, A::Post)>,
    pub(crate) states: OtherStates<'a, A::Session>,
}

/// A shard, as a callback of its application sees it, and the session that the callback is about, if it is about one.
///
/// Nothing is sent from inside a callback: it is queued, and leaves at the end of the turn. What a send returns may be
/// ignored: refusals are counted, and follow the slow-consumer policy.
///
/// ```
/// use raon::{Application, Context, Message, Raw, SessionId};
/// struct Pairs { waiting: Option<SessionId> }
/// impl Application for Pairs {
///     type Framing = Raw;
///     type Session = Option<SessionId>;
///     type Post = ();
///     fn on_open(&mut self, ctx: &mut Context<'_, Self>) -> Option<SessionId> {
///         let Some(partner) = self.waiting.take() else {
///             self.waiting = Some(ctx.id());
///             return None;
///         };
///         let own = ctx.id();
///         if let Some(session) = ctx.session_mut(partner) {
///             *session = Some(own);
///         }
///         Some(partner)
///     }
///     fn on_message(&mut self, ctx: &mut Context<'_, Self>, partner: &mut Option<SessionId>, message: Message<'_, ()>) {
///         if let Some(partner) = *partner {
///             ctx.send(partner, (), &message);
///         }
///     }
/// }
/// ```
pub struct Context<'a, A: Application> {
    pub(crate) core: &'a mut ShardCore<A::Framing>,
    pub(super) env: CallbackEnv<'a, A>,
    /// The slot of the session that the callback is about.
    current: Option<u32>,
    id: SessionId,
}

impl<'a, A: Application> Context<'a, A> {
    /// For a callback that is about the session in this slot, or about none.
    #[inline]
    pub(crate) fn new(core: &'a mut ShardCore<A::Framing>, env: CallbackEnv<'a, A>, current: Option<u32>) -> Self {
        let id = current.map_or(SessionId::NONE, |index| core.table().id(index));
        Context { core, env, current, id }
    }

    // Sending.

    /// Sends a message to the session that this callback is about. `Gone` if it is about none.
    #[inline]
    pub fn reply(&mut self, head: Head<A>, body: &[u8]) -> SendOutcome {
        match self.current {
            Some(index) => self.core.append(index, head, body),
            None => SendOutcome::Gone,
        }
    }

    /// The same, written where it will leave from: what `fill` writes is the body, of at most `body_bytes_max` bytes.
    ///
    /// ```
    /// use raon::{Application, Context, Message, Packet, PacketHead};
    /// struct Scores(Vec<u32>);
    /// impl Application for Scores {
    ///     type Framing = Packet;
    ///     type Session = ();
    ///     type Post = ();
    ///     fn on_open(&mut self, _ctx: &mut Context<'_, Self>) {}
    ///     fn on_message(&mut self, ctx: &mut Context<'_, Self>, _: &mut (), _: Message<'_, PacketHead>) {
    ///         ctx.reply_with(PacketHead { id: 2 }, 4 * self.0.len(), |body| {
    ///             self.0.iter().for_each(|score| body.put_u32_le(*score));
    ///         });
    ///     }
    /// }
    /// ```
    pub fn reply_with(
        &mut self,
        head: Head<A>,
        body_bytes_max: usize,
        fill: impl FnOnce(&mut BodyWriter<'_>),
    ) -> SendOutcome {
        self.send_with(self.id, head, body_bytes_max, fill)
    }

    /// Sends a message to any session of the server. To one of another shard it goes by that shard's mailbox: `Queued` then
    /// means that it is on its way, and `Refused(Refusal::Memory)` that the mailbox is full.
    pub fn send(&mut self, id: SessionId, head: Head<A>, body: &[u8]) -> SendOutcome {
        if !self.core.is_own(id) {
            let sent = self.env.router.mailbox(id.shard()).map(|mailbox| mailbox.send(id, head, body));
            return outcome_of(sent.unwrap_or(Err(MailboxRefusal::Closed)));
        }
        match self.resolve(id) {
            Some(index) => self.core.append(index, head, body),
            None => SendOutcome::Gone,
        }
    }

    /// As [`send`](Self::send), written where it will leave from: what `fill` writes is the body, of at most
    /// `body_bytes_max` bytes and no more than the framing and the outbox allow. If it writes more the message is refused
    /// as [`TooLong`](EncodeError::TooLong). To a session of another shard it is written into that shard's mailbox.
    pub fn send_with(
        &mut self,
        id: SessionId,
        head: Head<A>,
        body_bytes_max: usize,
        fill: impl FnOnce(&mut BodyWriter<'_>),
    ) -> SendOutcome {
        if !self.core.is_own(id) {
            return self.send_elsewhere(id, head, body_bytes_max, fill);
        }
        match self.resolve(id) {
            Some(index) => self.core.append_with(index, head, body_bytes_max, fill),
            None => SendOutcome::Gone,
        }
    }

    /// As [`send`](Self::send), the body by reference if it is longer than 512 bytes: one body for many sessions.
    pub fn send_shared(&mut self, id: SessionId, head: Head<A>, body: &Bytes) -> SendOutcome {
        if !self.core.is_own(id) {
            let command = Command::SendShared { id, head, body: body.clone() };
            return self.put(id, command, body.len());
        }
        match self.resolve(id) {
            Some(index) => self.core.append_shared(index, head, body),
            None => SendOutcome::Gone,
        }
    }

    /// Sends a message that need not arrive to a session of this shard: while it waits for a peer that is slow, a later one
    /// with the same key takes its place, and it makes room for others if the policy says so.
    ///
    /// To a session of another shard it is sent as any other.
    pub fn send_droppable(&mut self, id: SessionId, key: Option<u32>, head: Head<A>, body: &[u8]) -> SendOutcome {
        if !self.core.is_own(id) {
            return self.send(id, head, body);
        }
        let frame = self.core.encode(head, body);
        self.queue_droppable(id, key, frame)
    }

    /// As [`send_droppable`](Self::send_droppable), the body written by `fill`, as in [`send_with`](Self::send_with).
    pub fn send_droppable_with(
        &mut self,
        id: SessionId,
        key: Option<u32>,
        head: Head<A>,
        body_bytes_max: usize,
        fill: impl FnOnce(&mut BodyWriter<'_>),
    ) -> SendOutcome {
        if !self.core.is_own(id) {
            return self.send_elsewhere(id, head, body_bytes_max, fill);
        }
        let frame = self.core.encode_with(head, body_bytes_max, fill);
        self.queue_droppable(id, key, frame)
    }

    // Sessions.

    /// The session that this callback is about; [`SessionId::NONE`] if it is about none.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The application's state of another session of this shard. `None` for the session that this callback is about, whose
    /// state the callback has; for one that is gone or going; and for one of another shard, to which one can post.
    pub fn session_mut(&mut self, id: SessionId) -> Option<&mut A::Session> {
        let index = self.core.table().resolve_live(id)?;
        self.env.states.get_mut(index)
    }

    /// Ends the session that this callback is about, with a code of the application's own. What is queued still leaves;
    /// what came behind this message is discarded and counted.
    pub fn close(&mut self, code: u16) {
        self.close_session(self.id, code);
    }

    /// Ends any session of the server. False if it is gone or going, or its shard's mailbox has no room.
    pub fn close_session(&mut self, id: SessionId, code: u16) -> bool {
        let reason = CloseReason::Application(code);
        if !self.core.is_own(id) {
            return self.put(id, Command::Close { id, reason }, 0) == SendOutcome::Queued;
        }
        let live = self.core.table().resolve_live(id);
        match live {
            Some(index) => self.core.close(index, reason),
            None => self.core.note_late(id),
        }
        live.is_some()
    }

    /// Copies a message, so that it outlives the callback. The copy is charged to the server's memory until it is dropped.
    /// `None` if there is no more.
    pub fn keep(&self, message: &[u8]) -> Option<ChargedBytes> {
        ChargedBytes::new(&self.env.router.budget, message)
    }

    /// Ends the handshake of this session: its deadline is off. The first message does it too, unless
    /// `handshake_ends_with_message` is false.
    pub fn establish(&mut self) {
        if let Some(index) = self.current {
            self.core.establish(index);
        }
    }

    /// The address of this session's peer, if it is still connected.
    pub fn peer_address(&self) -> Option<Address> {
        self.core.peer_address(self.current?)
    }

    /// Bytes that wait for a session of this shard; 0 for one that is gone.
    pub fn queued_bytes(&self, id: SessionId) -> usize {
        let index = self.core.table().resolve_live(id);
        index.and_then(|index| self.core.table().get(index)).map_or(0, |entry| entry.session.outbox.bytes())
    }

    // The shard and the others.

    /// Posts to the key's home shard, where `on_post` gets it: the same shard for the same key, posts of one sender in
    /// order. So what has a key, a room for example, can live in one place.
    ///
    /// Errors, with the post: `Busy`, `Closed`.
    pub fn post(&mut self, key: u64, post: A::Post) -> Result<(), MailboxError<A::Post>> {
        let home = self.env.router.home(key);
        if home != usize::from(self.core.number()) {
            return post_to(self.env.router, home, key, post);
        }
        if self.env.posts.len() >= self.core.settings().posts_max {
            self.core.note_post_refused();
            return Err(MailboxError { refusal: MailboxRefusal::Busy, value: post });
        }
        self.env.posts.push_back((key, post));
        Ok(())
    }

    /// Calls `on_timer` with this token after some time. It cannot be taken back: ignore what has become meaningless.
    ///
    /// Errors: `Busy` at `timers_max`.
    pub fn set_timer(&mut self, after: Duration, token: u64) -> Result<(), MailboxRefusal> {
        self.core.set_timer(after, token)
    }

    /// The shard's clock in nanoseconds since some start: that of this turn.
    pub fn now_ns(&self) -> u64 {
        self.core.now_ns()
    }

    /// The number of this shard.
    pub fn shard(&self) -> usize {
        usize::from(self.core.number())
    }

    /// Sessions of this shard, those that are going included.
    pub fn sessions(&self) -> usize {
        self.core.table().len()
    }

    /// The counters of this shard so far.
    pub fn stats(&self) -> &ServerStats {
        self.core.stats()
    }

    /// Ends the server, as [`ServerHandle::stop`](crate::ServerHandle::stop).
    pub fn stop_server(&mut self, grace: Duration) {
        self.env.router.stop(grace.as_nanos().min(u128::from(u64::MAX)) as u64);
    }

    pub(crate) fn current(&self) -> Option<u32> {
        self.current
    }

    pub(crate) fn unencodable(&mut self, error: EncodeError) -> SendOutcome {
        self.core.note_refused(self.id, error.into());
        SendOutcome::Refused(error.into())
    }

    /// The slot of a session of this shard; one that is gone is counted.
    #[inline]
    fn resolve(&mut self, id: SessionId) -> Option<u32> {
        let index = self.core.table().resolve(id);
        if index.is_none() {
            self.core.note_late(id);
        }
        index
    }

    fn queue_droppable(&mut self, id: SessionId, key: Option<u32>, frame: Result<Bytes, EncodeError>) -> SendOutcome {
        match frame {
            Ok(frame) => match (self.resolve(id), self.core.share(frame)) {
                (None, _) => SendOutcome::Gone,
                (Some(index), Ok(frame)) => self.core.append_frame(index, &frame, Some(key)),
                (Some(_), Err(_)) => {
                    self.core.stats_mut().messages_dropped += 1;
                    SendOutcome::Dropped
                }
            },
            Err(error) => self.unencodable(error),
        }
    }

    /// Has a body written for a session of another shard.
    fn send_elsewhere(
        &mut self,
        id: SessionId,
        head: Head<A>,
        body_bytes_max: usize,
        fill: impl FnOnce(&mut BodyWriter<'_>),
    ) -> SendOutcome {
        match self.core.write_body(body_bytes_max, fill) {
            Ok(body) => {
                let outcome = self.send(id, head, &body);
                self.core.keep_scratch(body);
                outcome
            }
            Err(error) => self.unencodable(error),
        }
    }

    /// Puts a command into the mailbox of the session's shard.
    fn put(&mut self, id: SessionId, command: Command<Head<A>, A::Post>, bytes: usize) -> SendOutcome {
        let put = self.env.router.mailbox(id.shard()).map(|mailbox| mailbox.put(command, bytes));
        outcome_of(put.map_or(Err(MailboxRefusal::Closed), |put| put.map_err(|refused| refused.refusal)))
    }
}

fn outcome_of(put: Result<(), MailboxRefusal>) -> SendOutcome {
    match put {
        Ok(()) => SendOutcome::Queued,
        Err(MailboxRefusal::Busy) => SendOutcome::Refused(Refusal::Memory),
        Err(MailboxRefusal::Closed) => SendOutcome::Gone,
    }
}
