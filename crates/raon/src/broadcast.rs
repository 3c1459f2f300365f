//! One message to all members of a group: encoded once, handed over once per shard.

use bytes::Bytes;
use raon_session::{BodyWriter, EncodeError, encode, encode_with};

use crate::application::{Application, Head};
use crate::context::Context;
use crate::group::GroupKey;
use crate::id::SessionId;
use crate::mailbox::{Broadcasting, Command};
use crate::shard::inside::Inside;

/// What became of a broadcast.
///
/// ```
/// use raon::BroadcastOutcome;
/// let told = BroadcastOutcome { delivered: 3, refused: 1, shards: 0 };
/// assert_eq!(told.delivered + told.refused, 4);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BroadcastOutcome {
    /// Members on this shard for which it is queued.
    pub delivered: usize,
    /// Members on this shard that refused it, and other shards whose mailbox had no room.
    pub refused: usize,
    /// Other shards that it was handed over to; what becomes of it there, their counters say.
    pub shards: usize,
}

/// A group of sessions, of this shard and others, got by [`Context::group`]. A session that ends leaves its groups.
///
/// ```
/// use raon::{Application, Context, Message, Raw};
/// struct Chat;
/// impl Application for Chat {
///     type Framing = Raw;
///     type Session = ();
///     type Post = ();
///     fn on_open(&mut self, ctx: &mut Context<'_, Self>) {
///         ctx.group("lobby").join();
///     }
///     fn on_message(&mut self, ctx: &mut Context<'_, Self>, _: &mut (), message: Message<'_, ()>) {
///         let own = ctx.id();
///         ctx.group("lobby").broadcast(Some(own), (), &message);
///     }
/// }
/// ```
pub struct Group<'c, 'a, A: Application> {
    ctx: &'c mut Context<'a, A>,
    key: GroupKey,
}

impl<'c, 'a, A: Application> Group<'c, 'a, A> {
    pub(crate) fn new(ctx: &'c mut Context<'a, A>, key: GroupKey) -> Self {
        Group { ctx, key }
    }

    /// Puts the session that this callback is about in. False if it was in, or the callback is about none, or it is going.
    pub fn join(self) -> bool {
        let Some(index) = self.ctx.current() else { return false };
        self.ctx.inside.join(index, self.key)
    }

    /// Takes the session that this callback is about out. False if it was not in.
    pub fn leave(self) -> bool {
        let Some(index) = self.ctx.current() else { return false };
        self.ctx.inside.leave(index, &self.key)
    }

    /// Puts another session of this shard in. False if it was in, or is gone, or lives on another shard.
    pub fn join_session(self, id: SessionId) -> bool {
        let inside = &mut *self.ctx.inside;
        inside.table.resolve_live(id).is_some_and(|index| inside.join(index, self.key))
    }

    /// Takes another session of this shard out. False if it was not in.
    pub fn leave_session(self, id: SessionId) -> bool {
        let inside = &mut *self.ctx.inside;
        inside.table.resolve_live(id).is_some_and(|index| inside.leave(index, &self.key))
    }

    /// Members on this shard.
    pub fn members_here(&self) -> usize {
        self.ctx.inside.groups.count(&self.key)
    }

    /// Sends a message to all members but one, or to all.
    pub fn broadcast(self, except: Option<SessionId>, head: Head<A>, body: &[u8]) -> BroadcastOutcome {
        let frame = encode(&self.ctx.inside.framing, head, body);
        self.deliver(except, None, frame)
    }

    /// The same to the members on this shard only: what `on_shutdown` says, for example, which every shard is asked for.
    pub fn broadcast_here(self, except: Option<SessionId>, head: Head<A>, body: &[u8]) -> BroadcastOutcome {
        let inside = &mut *self.ctx.inside;
        match encode(&inside.framing, head, body) {
            Ok(frame) => {
                inside.stats.broadcasts += 1;
                match inside.share(frame) {
                    Ok(frame) => inside.broadcast_here(&self.key, except.unwrap_or(SessionId::NONE), &frame, None),
                    Err(_) => inside.broadcast_refused(&self.key),
                }
            }
            Err(error) => {
                self.ctx.unencodable(error);
                BroadcastOutcome::default()
            }
        }
    }

    /// As [`broadcast`](Self::broadcast), written in place: what `fill` writes is the body, of at most `body_bytes_max` bytes
    /// and no more than the framing allows. If it writes more nobody gets anything, and the refusal is counted.
    ///
    /// ```
    /// use raon::{Application, Context, Delimiter, Message};
    /// use std::fmt::Write;
    /// struct Hall;
    /// impl Application for Hall {
    ///     type Framing = Delimiter;
    ///     type Session = u32;
    ///     type Post = ();
    ///     fn on_open(&mut self, ctx: &mut Context<'_, Self>) -> u32 {
    ///         ctx.sessions() as u32
    ///     }
    ///     fn on_message(&mut self, ctx: &mut Context<'_, Self>, guest: &mut u32, line: Message<'_, ()>) {
    ///         ctx.group("hall").broadcast_with(None, (), line.len() + 20, |body| {
    ///             let _ = write!(body, "guest {guest}: ");
    ///             body.put(&line);
    ///         });
    ///     }
    /// }
    /// ```
    pub fn broadcast_with(
        self,
        except: Option<SessionId>,
        head: Head<A>,
        body_bytes_max: usize,
        fill: impl FnOnce(&mut BodyWriter<'_>),
    ) -> BroadcastOutcome {
        let frame = encode_with(&self.ctx.inside.framing, head, body_bytes_max, fill);
        self.deliver(except, None, frame)
    }

    /// Sends a message that need not arrive, such as a snapshot: for a member that is slow a later one with the same key
    /// takes its place.
    pub fn broadcast_droppable(
        self,
        except: Option<SessionId>,
        key: u32,
        head: Head<A>,
        body: &[u8],
    ) -> BroadcastOutcome {
        let frame = encode(&self.ctx.inside.framing, head, body);
        self.deliver(except, Some(key), frame)
    }

    /// As [`broadcast_droppable`](Self::broadcast_droppable), written in place as by
    /// [`broadcast_with`](Self::broadcast_with).
    pub fn broadcast_droppable_with(
        self,
        except: Option<SessionId>,
        key: u32,
        head: Head<A>,
        body_bytes_max: usize,
        fill: impl FnOnce(&mut BodyWriter<'_>),
    ) -> BroadcastOutcome {
        let frame = encode_with(&self.ctx.inside.framing, head, body_bytes_max, fill);
        self.deliver(except, Some(key), frame)
    }

    fn deliver(
        self,
        except: Option<SessionId>,
        droppable: Option<u32>,
        frame: Result<Bytes, EncodeError>,
    ) -> BroadcastOutcome {
        match frame {
            Ok(frame) => self.ctx.inside.broadcast(&self.key, except.unwrap_or(SessionId::NONE), frame, droppable),
            Err(error) => {
                self.ctx.unencodable(error);
                BroadcastOutcome::default()
            }
        }
    }
}

impl<A: Application> Inside<A> {
    pub(crate) fn join(&mut self, index: u32, key: GroupKey) -> bool {
        let Some(entry) = self.table.get_mut(index).filter(|entry| entry.session.is_live()) else { return false };
        self.groups.join(key, index, &mut entry.groups)
    }

    pub(crate) fn leave(&mut self, index: u32, key: &GroupKey) -> bool {
        let Some(entry) = self.table.get_mut(index) else { return false };
        let mut own = std::mem::take(&mut entry.groups);
        let table = &mut self.table;
        let has_left = self.groups.leave(key, &mut own, |slot, moved| {
            if let Some(other) = table.get_mut(slot) {
                moved.apply(&mut other.groups);
            }
        });
        if let Some(entry) = self.table.get_mut(index) {
            entry.groups = own;
        }
        has_left
    }

    /// The session leaves all its groups.
    pub(crate) fn leave_all(&mut self, index: u32) {
        let Some(entry) = self.table.get_mut(index) else { return };
        for membership in std::mem::take(&mut entry.groups) {
            if let Some((slot, moved)) = self.groups.remove(membership)
                && let Some(other) = self.table.get_mut(slot)
            {
                moved.apply(&mut other.groups);
            }
        }
    }

    /// To the members here, and once to each other shard that has any.
    pub(crate) fn broadcast(
        &mut self,
        key: &GroupKey,
        except: SessionId,
        frame: Bytes,
        droppable: Option<u32>,
    ) -> BroadcastOutcome {
        self.stats.broadcasts += 1;
        let Ok(frame) = self.share(frame) else { return self.broadcast_refused(key) };
        let mut result = self.broadcast_here(key, except, &frame, droppable);
        if self.router.shards() > 1 {
            for shard in self.groups.elsewhere(key) {
                let broadcasting = Broadcasting { group: key.clone(), except, frame: frame.clone(), droppable };
                let command = Command::Broadcast(Box::new(broadcasting));
                let put = self.router.mailbox(shard).map(|mailbox| mailbox.put(command, frame.len()));
                if put.is_some_and(|put| put.is_ok()) {
                    result.shards += 1;
                } else {
                    result.refused += 1;
                    self.stats.broadcast_refused += 1;
                }
            }
        }
        result
    }

    /// There is no memory for the frame: nobody gets it.
    #[cold]
    fn broadcast_refused(&mut self, key: &GroupKey) -> BroadcastOutcome {
        let elsewhere = if self.router.shards() > 1 { self.groups.elsewhere(key).count() } else { 0 };
        let refused = self.groups.count(key) + elsewhere;
        self.stats.broadcast_refused += refused as u64;
        BroadcastOutcome { refused, ..BroadcastOutcome::default() }
    }

    /// To the members here.
    pub(crate) fn broadcast_here(
        &mut self,
        key: &GroupKey,
        except: SessionId,
        frame: &Bytes,
        droppable: Option<u32>,
    ) -> BroadcastOutcome {
        let mut result = BroadcastOutcome::default();
        let Some(group) = self.groups.number(key) else { return result };
        let except = self.table.resolve(except);
        // Nothing in here changes who is a member: no callback runs.
        for place in 0.. {
            let Some(index) = self.groups.member(group, place) else { break };
            // Who is going has not left yet.
            if Some(index) == except || !self.table.is_live(index) {
                continue;
            }
            if self.append_frame(index, frame, droppable.map(Some)).is_queued() {
                result.delivered += 1;
            } else {
                result.refused += 1;
            }
        }
        self.stats.broadcast_delivered += result.delivered as u64;
        self.stats.broadcast_refused += result.refused as u64;
        result
    }
}
