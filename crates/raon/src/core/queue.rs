//! Queue: messages to a session go to its outbox, charged and counted.

use bytes::Bytes;
use raon_session::{
    BodyWriter, COPY_BYTES_MAX, ENTRY_BYTES, EncodeError, Framing, Outbox, Refusal, SendOutcome, SessionConfig, encode,
    encode_with, write_body,
};

use super::ShardCore;
use super::allocator::PoolAllocator;
use super::flush::Relief;
use crate::memory::chunk::OutChunk;

/// Most bytes that a message takes in an outbox beside its own: its entry, and one for the chunk before it.
const REFERENCE_BYTES: usize = 2 * ENTRY_BYTES;
/// Memory for bodies that are written for sessions of other shards is given back if it has grown larger than this: sixteen
/// ordinary frames.
const SCRATCH_BYTES_MAX: usize = 64 * 1024;

impl<F: Framing> ShardCore<F> {
    /// Queues a message with its body copied.
    #[inline]
    pub(crate) fn append(&mut self, index: u32, head: F::Head, body: &[u8]) -> SendOutcome {
        self.queue(index, self.message_bytes(body.len()), |outbox, framing, config, allocator| {
            outbox.append(framing, head, body, &config.outbox, allocator)
        })
    }

    /// Queues a message with its body by reference, if it is long.
    pub(crate) fn append_shared(&mut self, index: u32, head: F::Head, body: &Bytes) -> SendOutcome {
        let body = match self.share_body(body) {
            Ok(body) => body,
            Err(refusal) => {
                self.note_refused(self.table.id(index), refusal);
                return SendOutcome::Refused(refusal);
            }
        };
        let copied = if body.len() <= COPY_BYTES_MAX { body.len() } else { 0 };
        self.queue(index, self.message_bytes(copied), |outbox, framing, config, allocator| {
            outbox.append_shared(framing, head, &body, &config.outbox, allocator)
        })
    }

    /// Queues a whole frame that others may have too; droppable with a key or without one.
    pub(crate) fn append_frame(&mut self, index: u32, frame: &Bytes, droppable: Option<Option<u32>>) -> SendOutcome {
        let copied = if frame.len() <= COPY_BYTES_MAX { frame.len() } else { 0 };
        self.queue(index, copied + REFERENCE_BYTES, |outbox, _, config, allocator| match droppable {
            Some(key) => outbox.append_droppable(key, frame, &config.outbox, allocator),
            None => outbox.append_frame(frame, &config.outbox, allocator),
        })
    }

    /// Queues a message whose body `fill` writes where it leaves from, of at most `body_bytes_max` bytes.
    pub(crate) fn append_with(
        &mut self,
        index: u32,
        head: F::Head,
        body_bytes_max: usize,
        fill: impl FnOnce(&mut BodyWriter<'_>),
    ) -> SendOutcome {
        let bytes = self.message_bytes(body_bytes_max);
        self.queue(index, bytes, |outbox, framing, config, allocator| {
            outbox.append_with(framing, head, body_bytes_max, &config.outbox, allocator, fill)
        })
    }

    /// One whole frame for many sessions. Errors: the message cannot be framed.
    pub(crate) fn encode(&self, head: F::Head, body: &[u8]) -> Result<Bytes, EncodeError> {
        encode(&self.framing, head, body)
    }

    /// As `encode`, the body written by `fill`.
    pub(crate) fn encode_with(
        &self,
        head: F::Head,
        body_bytes_max: usize,
        fill: impl FnOnce(&mut BodyWriter<'_>),
    ) -> Result<Bytes, EncodeError> {
        encode_with(&self.framing, head, body_bytes_max, fill)
    }

    /// A body alone, written by `fill`, for a message that another shard frames. Give its memory back by `keep_scratch`.
    /// Errors: it is too long.
    pub(crate) fn write_body(
        &mut self,
        body_bytes_max: usize,
        fill: impl FnOnce(&mut BodyWriter<'_>),
    ) -> Result<Vec<u8>, EncodeError> {
        let mut body = std::mem::take(&mut self.scratch);
        let frame_bytes_max = self.settings.session.outbox.bytes_max as usize;
        match write_body(&self.framing, body_bytes_max, frame_bytes_max, &mut body, fill) {
            Ok(()) => Ok(body),
            Err(error) => {
                self.keep_scratch(body);
                Err(error)
            }
        }
    }

    /// Takes back the memory of a body.
    pub(crate) fn keep_scratch(&mut self, body: Vec<u8>) {
        if body.capacity() <= SCRATCH_BYTES_MAX {
            self.scratch = body;
        }
    }

    /// Queues something for a live session by `append`, which is given what it needs. The message takes at most so many bytes
    /// of the session's own; if there is no memory for them it is refused.
    #[inline]
    fn queue(
        &mut self,
        index: u32,
        bytes: usize,
        append: impl FnOnce(&mut Outbox<OutChunk>, &F, &SessionConfig, &mut PoolAllocator<'_>) -> SendOutcome,
    ) -> SendOutcome {
        let has_memory = !self.table.is_live(index) || self.provide(index, bytes);
        let Some(entry) = self.table.get_mut(index).filter(|entry| entry.session.is_live()) else {
            self.note_unusual(index, SendOutcome::Gone);
            return SendOutcome::Gone;
        };
        let relief = self.answering.token_of(index).map(|token| Relief {
            socket: entry.socket,
            token,
            handed: &mut entry.handed,
            bytes_handed_over: &mut self.stats.bytes_handed_over,
        });
        let mut allocator = PoolAllocator { driver: &mut self.driver, free_lists: &mut self.free_lists, relief };
        let outcome = if has_memory {
            append(&mut entry.session.outbox, &self.framing, &self.settings.session, &mut allocator)
        } else {
            SendOutcome::Refused(Refusal::Memory)
        };
        if outcome.is_queued() && !entry.is_dirty {
            entry.is_dirty = true;
            self.dirty.push(index);
        }
        if outcome.is_queued() {
            self.recharge(index);
        }
        if outcome == SendOutcome::Queued {
            self.stats.messages_queued += 1;
        } else {
            self.note_unusual(index, outcome);
        }
        outcome
    }

    /// Most bytes that a message takes with a body of at most so many.
    #[inline]
    fn message_bytes(&self, body_bytes: usize) -> usize {
        let bytes = self.framing.prefix_bytes().saturating_add(self.framing.suffix_bytes()).saturating_add(body_bytes);
        let longest = self.framing.message_bytes_max().min(self.settings.session.outbox.bytes_max as usize);
        bytes.min(longest) + REFERENCE_BYTES
    }
}
