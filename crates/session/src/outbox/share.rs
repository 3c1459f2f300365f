//! Messages that many sessions share, and those that may be dropped.

use bytes::Bytes;

use super::room::obtain;
use super::{
    COPY_BYTES_MAX, Chunk, ChunkAllocator, ChunkRequest, EncodeError, Entry, Outbox, OutboxLimits, Refusal, SendOutcome,
};
use crate::framing::{Framing, Layout};

impl<C: Chunk> Outbox<C> {
    /// A message whose body is shared. Up to [`COPY_BYTES_MAX`] it is copied, a larger one goes by reference: its prefix
    /// joins the chunk before it.
    ///
    /// Refused: as [`append`](Self::append).
    pub fn append_shared<F: Framing, S: ChunkAllocator<Chunk = C>>(
        &mut self,
        framing: &F,
        head: F::Head,
        body: &Bytes,
        limits: &OutboxLimits,
        allocator: &mut S,
    ) -> SendOutcome {
        if body.len() <= COPY_BYTES_MAX {
            return self.append(framing, head, body, limits, allocator);
        }
        let layout = match framing.check(head, body).and_then(|()| Layout::of(framing, body.len())) {
            Ok(layout) => layout,
            Err(error) => return SendOutcome::Refused(error.into()),
        };
        let length = layout.frame_bytes();
        let room = if self.has_room(length, limits) { Ok(()) } else { self.make_room(length, limits, allocator) };
        match room.and_then(|()| self.share(framing, layout, head, body, allocator)) {
            Ok(()) => SendOutcome::Queued,
            Err(refusal) => SendOutcome::Refused(refusal),
        }
    }

    /// A whole frame, made by [`encode`](crate::encode), that other sessions have too. Up to [`COPY_BYTES_MAX`] it is
    /// copied, a larger one goes by reference.
    ///
    /// Refused: what finds no room, what the allocator has no chunk for, an empty frame.
    pub fn append_frame<S: ChunkAllocator<Chunk = C>>(
        &mut self,
        frame: &Bytes,
        limits: &OutboxLimits,
        allocator: &mut S,
    ) -> SendOutcome {
        if frame.is_empty() {
            return SendOutcome::Refused(EncodeError::Empty.into());
        }
        if frame.len() <= COPY_BYTES_MAX {
            return match self.reserve(frame.len(), limits, allocator) {
                Ok(tail) => {
                    tail.put(frame);
                    self.count_in_tail(frame.len());
                    SendOutcome::Queued
                }
                Err(refusal) => SendOutcome::Refused(refusal),
            };
        }
        if !self.has_room(frame.len(), limits)
            && let Err(refusal) = self.make_room(frame.len(), limits, allocator)
        {
            return SendOutcome::Refused(refusal);
        }
        self.push_behind_tail(Entry::Shared { bytes: frame.clone(), messages: 1 }, frame.len(), allocator);
        SendOutcome::Queued
    }

    /// A whole frame that need not arrive: while it is held it may be dropped to make room, and with a key a later
    /// message with the same key takes its place in the outbox, though not in the order: it comes where it was sent.
    ///
    /// Without anything held a small frame is copied as any other, since it leaves at the end of the turn.
    ///
    /// `Dropped` if there is no room; an older message with its key then stays.
    //= OUTBOX-3
    pub fn append_droppable<S: ChunkAllocator<Chunk = C>>(
        &mut self,
        key: Option<u32>,
        frame: &Bytes,
        limits: &OutboxLimits,
        allocator: &mut S,
    ) -> SendOutcome {
        if frame.is_empty() {
            return SendOutcome::Refused(EncodeError::Empty.into());
        }
        let outcome = match self.make_room_for(key, frame.len(), limits) {
            Ok(true) => SendOutcome::Superseded,
            Ok(false) => SendOutcome::Queued,
            Err(_) => return SendOutcome::Dropped,
        };
        // Without memory for a copy it goes by reference, which needs none.
        let is_copied = !self.is_held && frame.len() <= COPY_BYTES_MAX;
        if is_copied && let Ok(tail) = self.reserve(frame.len(), limits, allocator) {
            tail.put(frame);
            self.count_in_tail(frame.len());
            return outcome;
        }
        self.push_behind_tail(Entry::Droppable { key, frame: frame.clone() }, frame.len(), allocator);
        outcome
    }

    /// Prefix to a chunk, body by reference, suffix to the next chunk. Memory is found before anything changes.
    fn share<F: Framing, S: ChunkAllocator<Chunk = C>>(
        &mut self,
        framing: &F,
        layout: Layout,
        head: F::Head,
        body: &Bytes,
        allocator: &mut S,
    ) -> Result<(), Refusal> {
        let Layout { prefix, suffix, .. } = layout;
        let mut after = if suffix > 0 { Some(obtain(ChunkRequest::Tail { bytes: suffix }, allocator)?) } else { None };
        if let Some(after) = &mut after {
            layout.write_suffix(framing, after);
        }
        if prefix > 0 {
            if self.tail.as_ref().is_none_or(|tail| tail.room() < prefix) {
                self.renew_tail(ChunkRequest::Exact { bytes: prefix }, allocator)?;
            }
            if let Some(tail) = &mut self.tail {
                layout.write_prefix(framing, head, tail);
            }
        }
        self.push_behind_tail(Entry::Shared { bytes: body.clone(), messages: 1 }, body.len(), allocator);
        self.bytes += (prefix + suffix) as u32;
        if after.is_some() {
            self.tail = after;
        }
        Ok(())
    }

    fn push_behind_tail<S: ChunkAllocator<Chunk = C>>(&mut self, entry: Entry<C>, bytes: usize, allocator: &mut S) {
        self.seal_tail(allocator);
        self.backlog_mut(allocator.free_lists()).push_back(entry);
        self.bytes += bytes as u32;
        self.messages += 1;
    }
}
