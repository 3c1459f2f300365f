//! The way into a shard from other threads and other shards: a batch under a lock, swapped out whole once per turn.
//!
//! 1. A producer locks, appends bytes to the arena and a command behind it, unlocks. The first command of a batch wakes the
//!    owner, if it sleeps; the others need not.
//! 2. The owner, once per turn, swaps the batch for the empty one of the turn before. Nothing is allocated once both have
//!    grown to the load.
//!
//! The wake comes after the unlock, and a wake is noted until the owner's poll returns (WAKE-1), after which the owner
//! swaps: so no command is left lying. Bounded in bytes and in commands; what does not fit comes back.
//!
//! On close the batch is refused from then on; what is inside is taken with the last swap, or dropped with the mailbox.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use raon_provider::{AcceptedSocket, Address, Submitter};
use raon_session::CloseReason;

use crate::base::id::SessionId;
use crate::error::{MailboxError, MailboxRefusal};
use crate::sessions::admission::AdmissionPermit;
use crate::sessions::group::GroupKey;

/// Commands that others give to a shard.
pub(crate) enum Command<H, P> {
    /// A message, its body in the arena.
    Send { id: SessionId, head: H, body: Range<u32> },
    /// A message by reference.
    SendShared { id: SessionId, head: H, body: Bytes },
    /// The end of a session.
    Close { id: SessionId, reason: CloseReason },
    /// Something for the application.
    Post { key: u64, post: P },
    /// A whole frame for all members here.
    Broadcast(Box<Broadcasting>),
    /// A new session.
    Adopt(Box<Arrival>),
    /// The listener of a shard that has failed.
    Listen(Box<Handover>),
}

/// Rare commands are boxed: thousands of sends wait in a batch.
const _: () = assert!(size_of::<Command<u64, [u64; 4]>>() <= 56);

/// A broadcast on its way to another shard.
pub(crate) struct Broadcasting {
    pub(crate) group: GroupKey,
    pub(crate) except: SessionId,
    pub(crate) frame: Bytes,
    pub(crate) droppable: Option<u32>,
}

/// A connection on its way to its shard.
pub(crate) struct Arrival {
    pub(crate) socket: AcceptedSocket,
    pub(crate) permit: AdmissionPermit,
}

/// A listener on its way to another shard.
pub(crate) struct Handover {
    /// Another handle of the socket, where there can be one.
    pub(crate) socket: Option<AcceptedSocket>,
    pub(crate) at: Option<Address>,
}

/// Bytes that a command counts for beside those it carries: about what it takes in the batch.
const COMMAND_BYTES: usize = 64;
/// An arena that has grown larger than this gives its memory back when it is empty.
const ARENA_KEPT_BYTES: usize = 1 << 20;

/// Commands with their bytes, in the order in which they came.
pub(crate) struct Batch<H, P> {
    pub(crate) arena: Vec<u8>,
    pub(crate) commands: Vec<Command<H, P>>,
    /// Bytes by reference, and what commands count for.
    other_bytes: usize,
    is_closed: bool,
}

impl<H, P> Default for Batch<H, P> {
    fn default() -> Self {
        Batch { arena: Vec::new(), commands: Vec::new(), other_bytes: 0, is_closed: false }
    }
}

impl<H, P> Batch<H, P> {
    /// Empty, with its memory kept for the next turn.
    pub(crate) fn clear(&mut self) {
        if self.arena.capacity() > ARENA_KEPT_BYTES {
            self.arena = Vec::new();
        }
        self.arena.clear();
        self.commands.clear();
        self.other_bytes = 0;
    }
}

/// Bounds of a mailbox.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MailboxLimits {
    pub(crate) bytes_max: usize,
    pub(crate) commands_max: usize,
}

/// The mailbox of one shard.
pub(crate) struct Mailbox<H, P> {
    batch: Mutex<Batch<H, P>>,
    owner: OnceLock<Submitter>,
    limits: MailboxLimits,
    /// Commands that were refused since the owner has asked.
    refused: AtomicU64,
}

impl<H, P> Mailbox<H, P> {
    pub(crate) fn new(limits: MailboxLimits) -> Self {
        Mailbox { batch: Mutex::default(), owner: OnceLock::new(), limits, refused: AtomicU64::new(0) }
    }

    /// The owner's driver is open: from now on it can be woken.
    pub(crate) fn set_owner(&self, owner: Submitter) {
        // A second owner would be a bug of the server; the first one stays.
        let _ = self.owner.set(owner);
    }

    /// A message with its body copied.
    pub(crate) fn send(&self, id: SessionId, head: H, body: &[u8]) -> Result<(), MailboxRefusal> {
        let mut batch = self.lock();
        self.check(&batch, body.len())?;
        let start = batch.arena.len() as u32;
        batch.arena.extend_from_slice(body);
        let body = start..batch.arena.len() as u32;
        self.push(batch, Command::Send { id, head, body });
        Ok(())
    }

    /// Anything else; `bytes` is what it carries by reference.
    pub(crate) fn put(&self, command: Command<H, P>, bytes: usize) -> Result<(), MailboxError<Command<H, P>>> {
        let mut batch = self.lock();
        if let Err(refusal) = self.check(&batch, bytes) {
            return Err(MailboxError { refusal, value: command });
        }
        batch.other_bytes += bytes;
        self.push(batch, command);
        Ok(())
    }

    /// Wakes the owner, with nothing to fetch here.
    pub(crate) fn wake(&self) {
        if let Some(owner) = self.owner.get() {
            owner.wake();
        }
    }

    /// Owner: takes all that has come, for an empty batch.
    pub(crate) fn swap(&self, empty: &mut Batch<H, P>) {
        debug_assert!(empty.commands.is_empty());
        let mut batch = self.lock();
        if !batch.commands.is_empty() {
            empty.is_closed = batch.is_closed;
            std::mem::swap(&mut *batch, empty);
        }
    }

    /// True if there is nothing to fetch.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().commands.is_empty()
    }

    /// Owner: how many commands were refused at the bound since the last time.
    pub(crate) fn take_refused(&self) -> u64 {
        // Usually none: no write then.
        if self.refused.load(Ordering::Relaxed) == 0 { 0 } else { self.refused.swap(0, Ordering::Relaxed) }
    }

    /// Owner: refuses everything from now on.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
    }

    fn check(&self, batch: &Batch<H, P>, bytes: usize) -> Result<(), MailboxRefusal> {
        if batch.is_closed {
            return Err(MailboxRefusal::Closed);
        }
        let used = batch.arena.len() + batch.other_bytes + batch.commands.len() * COMMAND_BYTES;
        // An empty mailbox takes one command of any size: otherwise a large message could never go.
        let fits = used == 0 || used.saturating_add(bytes) <= self.limits.bytes_max;
        let is_addressable = batch.arena.len().saturating_add(bytes) <= u32::MAX as usize;
        let has_room = batch.commands.len() < self.limits.commands_max;
        if fits && is_addressable && has_room {
            return Ok(());
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        Err(MailboxRefusal::Busy)
    }

    fn push(&self, mut batch: MutexGuard<'_, Batch<H, P>>, command: Command<H, P>) {
        let is_first = batch.commands.is_empty();
        batch.commands.push(command);
        drop(batch);
        if is_first {
            self.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Batch<H, P>> {
        // Nothing in here panics while it holds the lock; a poisoned batch is whole.
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox(bytes_max: usize, commands_max: usize) -> Mailbox<(), u32> {
        Mailbox::new(MailboxLimits { bytes_max, commands_max })
    }

    #[test]
    fn what_was_put_in_comes_out_in_order() {
        let mailbox = mailbox(1000, 100);
        let id = SessionId::new(0, 1, 1);
        mailbox.send(id, (), b"one").unwrap();
        assert!(mailbox.put(Command::Post { key: 7, post: 8 }, 0).is_ok());
        mailbox.send(id, (), b"two").unwrap();
        let mut batch = Batch::default();
        mailbox.swap(&mut batch);
        let seen = batch.commands.iter().map(|command| match command {
            Command::Send { body, .. } => &batch.arena[body.start as usize..body.end as usize],
            Command::Post { key: 7, post: 8 } => &b"post"[..],
            _ => b"?",
        });
        assert_eq!(seen.collect::<Vec<_>>(), [&b"one"[..], b"post", b"two"]);
        batch.clear();
        mailbox.swap(&mut batch);
        assert!(batch.commands.is_empty());
    }

    #[test]
    fn at_the_bound_the_value_comes_back() {
        let mailbox = mailbox(200, 2);
        let id = SessionId::NONE;
        mailbox.send(id, (), &[1; 5000]).expect("an empty mailbox takes one of any size");
        assert_eq!(mailbox.send(id, (), b"x"), Err(MailboxRefusal::Busy));
        let mut batch = Batch::default();
        mailbox.swap(&mut batch);
        batch.clear();
        for post in 0..2 {
            assert!(mailbox.put(Command::Post { key: 0, post }, 0).is_ok());
        }
        let refused = mailbox.put(Command::Post { key: 0, post: 9 }, 0).unwrap_err();
        assert!(matches!(
            refused,
            MailboxError { refusal: MailboxRefusal::Busy, value: Command::Post { post: 9, .. } }
        ));
        assert_eq!((mailbox.take_refused(), mailbox.take_refused()), (2, 0));
        mailbox.close();
        assert_eq!((mailbox.send(id, (), b"x"), mailbox.take_refused()), (Err(MailboxRefusal::Closed), 0));
    }
}
