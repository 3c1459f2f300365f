//! Groups as a callback has them: a broadcast is encoded once, and handed over once per shard.

use bytes::Bytes;
use raon_session::{BodyWriter, EncodeError};

use super::context::Context;
use super::{Application, Head};
use crate::base::id::SessionId;
use crate::core::BroadcastOutcome;
use crate::routing::mailbox::{Broadcasting, Command};
use crate::sessions::group::GroupKey;

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

impl<'a, A: Application> Context<'a, A> {
    /// The group of this name or number.
    pub fn group(&mut self, key: impl Into<GroupKey>) -> Group<'_, 'a, A> {
        Group::new(self, key.into())
    }
}

impl<'c, 'a, A: Application> Group<'c, 'a, A> {
    pub(crate) fn new(ctx: &'c mut Context<'a, A>, key: GroupKey) -> Self {
        Group { ctx, key }
    }

    /// Puts the session that this callback is about in. False if it was in, or the callback is about none, or it is going.
    pub fn join(self) -> bool {
        let Some(index) = self.ctx.current() else { return false };
        self.ctx.core.join(index, self.key)
    }

    /// Takes the session that this callback is about out. False if it was not in.
    pub fn leave(self) -> bool {
        let Some(index) = self.ctx.current() else { return false };
        self.ctx.core.leave(index, &self.key)
    }

    /// Puts another session of this shard in. False if it was in, or is gone, or lives on another shard.
    pub fn join_session(self, id: SessionId) -> bool {
        let core = &mut *self.ctx.core;
        core.table().resolve_live(id).is_some_and(|index| core.join(index, self.key))
    }

    /// Takes another session of this shard out. False if it was not in.
    pub fn leave_session(self, id: SessionId) -> bool {
        let core = &mut *self.ctx.core;
        core.table().resolve_live(id).is_some_and(|index| core.leave(index, &self.key))
    }

    /// Members on this shard.
    pub fn members_here(&self) -> usize {
        self.ctx.core.groups().count(&self.key)
    }

    /// Sends a message to all members but one, or to all.
    pub fn broadcast(self, except: Option<SessionId>, head: Head<A>, body: &[u8]) -> BroadcastOutcome {
        let frame = self.ctx.core.encode(head, body);
        self.deliver(except, None, frame)
    }

    /// The same to the members on this shard only: what `on_shutdown` says, for example, which every shard is asked for.
    pub fn broadcast_here(self, except: Option<SessionId>, head: Head<A>, body: &[u8]) -> BroadcastOutcome {
        let core = &mut *self.ctx.core;
        match core.encode(head, body) {
            Ok(frame) => {
                core.stats_mut().broadcasts += 1;
                match core.share(frame) {
                    Ok(frame) => core.broadcast_here(&self.key, except.unwrap_or(SessionId::NONE), &frame, None),
                    Err(_) => self.refused(),
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
        let frame = self.ctx.core.encode_with(head, body_bytes_max, fill);
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
        let frame = self.ctx.core.encode(head, body);
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
        let frame = self.ctx.core.encode_with(head, body_bytes_max, fill);
        self.deliver(except, Some(key), frame)
    }

    fn deliver(
        self,
        except: Option<SessionId>,
        droppable: Option<u32>,
        frame: Result<Bytes, EncodeError>,
    ) -> BroadcastOutcome {
        match frame {
            Ok(frame) => self.send(except.unwrap_or(SessionId::NONE), frame, droppable),
            Err(error) => {
                self.ctx.unencodable(error);
                BroadcastOutcome::default()
            }
        }
    }

    /// To the members here, and once to each other shard that has any.
    fn send(self, except: SessionId, frame: Bytes, droppable: Option<u32>) -> BroadcastOutcome {
        let (core, router) = (&mut *self.ctx.core, self.ctx.env.router);
        core.stats_mut().broadcasts += 1;
        let Ok(frame) = core.share(frame) else { return self.refused() };
        let mut result = core.broadcast_here(&self.key, except, &frame, droppable);
        if router.shards() > 1 {
            let mut refused = 0;
            for shard in core.groups().elsewhere(&self.key) {
                let broadcasting = Broadcasting { group: self.key.clone(), except, frame: frame.clone(), droppable };
                let command = Command::Broadcast(Box::new(broadcasting));
                let put = router.mailbox(shard).map(|mailbox| mailbox.put(command, frame.len()));
                if put.is_some_and(|put| put.is_ok()) {
                    result.shards += 1;
                } else {
                    refused += 1;
                }
            }
            result.refused += refused;
            core.stats_mut().broadcast_refused += refused as u64;
        }
        result
    }

    /// There is no memory for the frame: nobody gets it.
    #[cold]
    fn refused(self) -> BroadcastOutcome {
        let (core, router) = (&mut *self.ctx.core, self.ctx.env.router);
        let elsewhere = if router.shards() > 1 { core.groups().elsewhere(&self.key).count() } else { 0 };
        let refused = core.groups().count(&self.key) + elsewhere;
        core.stats_mut().broadcast_refused += refused as u64;
        BroadcastOutcome { refused, ..BroadcastOutcome::default() }
    }
}
