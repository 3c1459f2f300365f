//! Room: in the bounds, and in a chunk.

use super::{Chunk, ChunkAllocator, ChunkRequest, Entry, Outbox, OutboxLimits, Refusal, SlowConsumer};

impl<C: Chunk> Outbox<C> {
    /// The tail chunk, with room for `length` more bytes that the bounds allow.
    //= OUTBOX-2
    #[inline]
    pub(super) fn reserve<S: ChunkAllocator<Chunk = C>>(
        &mut self,
        length: usize,
        limits: &OutboxLimits,
        allocator: &mut S,
    ) -> Result<&mut C, Refusal> {
        if !self.has_room(length, limits) {
            self.make_room(length, limits, allocator)?;
        }
        self.tail_for(length, allocator)
    }

    /// The tail chunk, with room for `length` more bytes whatever the bounds say.
    #[inline]
    pub(super) fn tail_for<S: ChunkAllocator<Chunk = C>>(
        &mut self,
        length: usize,
        allocator: &mut S,
    ) -> Result<&mut C, Refusal> {
        if self.tail.as_ref().is_none_or(|tail| tail.room() < length) {
            self.renew_tail(ChunkRequest::Tail { bytes: length }, allocator)?;
        }
        self.tail.as_mut().ok_or(Refusal::Memory)
    }

    /// Counts a message of `length` bytes that is in the tail chunk already, or takes it out again if the bounds do not
    /// allow it.
    #[inline]
    pub(super) fn keep_in_tail(&mut self, length: usize, limits: &OutboxLimits) -> Result<(), Refusal> {
        if !self.has_room(length, limits)
            && let Err(refusal) = self.drop_for(length, limits)
        {
            if let Some(tail) = &mut self.tail {
                tail.truncate(tail.len() - length);
            }
            return Err(refusal);
        }
        self.count_in_tail(length);
        Ok(())
    }

    /// Whether there is room, or could be.
    #[inline]
    pub(super) fn can_have_room(&self, length: usize, limits: &OutboxLimits) -> Result<(), Refusal> {
        if self.has_room(length, limits) { Ok(()) } else { self.can_make_room(length, limits) }
    }

    #[inline]
    pub(super) fn has_room(&self, length: usize, limits: &OutboxLimits) -> bool {
        self.would_fit(length, 0, 0, limits)
    }

    /// Whether one more message has room once others of so many bytes have gone.
    #[inline]
    fn would_fit(&self, length: usize, gone_bytes: u32, gone_messages: u32, limits: &OutboxLimits) -> bool {
        let bytes = u64::from(self.bytes - gone_bytes) + length as u64;
        bytes <= u64::from(limits.bytes_max) && self.messages - gone_messages < limits.messages_max
    }

    /// Lets the allocator hand over what waits; without room after that, drops the oldest droppable messages until there is
    /// room, or none if they are not enough.
    #[cold]
    #[inline(never)]
    pub(super) fn make_room<S: ChunkAllocator<Chunk = C>>(
        &mut self,
        length: usize,
        limits: &OutboxLimits,
        allocator: &mut S,
    ) -> Result<(), Refusal> {
        if length <= limits.bytes_max as usize {
            allocator.on_full(self);
            if self.has_room(length, limits) {
                return Ok(());
            }
        }
        self.drop_for(length, limits)
    }

    fn drop_for(&mut self, length: usize, limits: &OutboxLimits) -> Result<(), Refusal> {
        self.can_make_room(length, limits)?;
        self.drop_until_room(length, limits);
        Ok(())
    }

    /// Makes room for a droppable message, in place of the one with its key if that waits; `Ok(true)` then. If there is no
    /// room to be had, the older one stays.
    //= OUTBOX-3
    pub(super) fn make_room_for(
        &mut self,
        key: Option<u32>,
        length: usize,
        limits: &OutboxLimits,
    ) -> Result<bool, Refusal> {
        let older = key.and_then(|key| self.backlog.as_ref()?.key_bytes(key));
        let (gone_bytes, gone_messages) = older.map_or((0, 0), |bytes| (bytes as u32, 1));
        if !self.would_fit(length, gone_bytes, gone_messages, limits) {
            self.can_make_room(length, limits)?;
        }
        let removed = key.and_then(|key| self.backlog.as_mut()?.remove_key(key));
        if let Some(bytes) = removed {
            self.uncount(bytes);
        }
        self.drop_until_room(length, limits);
        Ok(removed.is_some())
    }

    fn can_make_room(&self, length: usize, limits: &OutboxLimits) -> Result<(), Refusal> {
        let droppable =
            self.backlog.as_ref().map_or((0, 0), |backlog| (backlog.droppable_bytes, backlog.droppable_messages));
        let may_drop = limits.slow_consumer == SlowConsumer::DropOldestDroppable;
        if may_drop && self.would_fit(length, droppable.0, droppable.1, limits) {
            return Ok(());
        }
        let is_count = self.messages >= limits.messages_max;
        Err(if is_count { Refusal::OutboxMessages } else { Refusal::OutboxBytes })
    }

    fn drop_until_room(&mut self, length: usize, limits: &OutboxLimits) {
        while !self.has_room(length, limits) {
            let Some(backlog) = &mut self.backlog else { return };
            let Some(bytes) = backlog.remove_oldest() else { return };
            backlog.dropped += 1;
            self.uncount(bytes);
        }
    }

    /// A new tail chunk; the old one joins the backlog.
    #[inline(never)]
    pub(super) fn renew_tail<S: ChunkAllocator<Chunk = C>>(
        &mut self,
        request: ChunkRequest,
        allocator: &mut S,
    ) -> Result<(), Refusal> {
        let chunk = obtain(request, allocator)?;
        self.seal_tail(allocator);
        self.tail = Some(chunk);
        Ok(())
    }

    /// Moves the tail chunk to the backlog, so that something else may follow it.
    pub(super) fn seal_tail<S: ChunkAllocator<Chunk = C>>(&mut self, allocator: &mut S) {
        let messages = std::mem::take(&mut self.tail_messages);
        let Some(mut chunk) = self.tail.take().filter(|chunk| !chunk.is_empty()) else {
            return;
        };
        if self.is_held && chunk.len() < chunk.room() {
            chunk.seal();
        }
        self.backlog_mut(allocator.free_lists()).push_back(Entry::Chunk { chunk, messages });
    }

    fn uncount(&mut self, bytes: usize) {
        self.bytes -= bytes as u32;
        self.messages -= 1;
    }
}

/// A chunk with the room that is needed.
pub(super) fn obtain<S: ChunkAllocator>(request: ChunkRequest, allocator: &mut S) -> Result<S::Chunk, Refusal> {
    allocator.chunk(request).filter(|chunk| chunk.room() >= request.bytes()).ok_or(Refusal::Memory)
}
