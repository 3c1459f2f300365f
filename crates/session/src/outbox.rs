//! The way out: messages as they are sent, pieces as the driver takes them.
//!
//! 1. A message is framed. Small ones are copied into the *tail chunk*, one behind the other; a larger body that is shared
//!    goes by reference, its prefix into the chunk before it. What is not in the tail chunk waits in the *backlog*, in
//!    order, and an outbox without one holds nothing else.
//! 2. At the end of the turn the engine calls `take` until there is nothing left, and hands the pieces to the driver as
//!    one send; unless the driver still has the session's last send. Then it takes nothing.
//! 3. The engine calls `settle`. What is left now is *held*: it waits for a peer that is slow. While something is held,
//!    droppable messages stay apart, so that they can be superseded or dropped. What is left decides about the watermarks.
//! 4. The driver has room again, the pieces leave as in 2, and `settle` finds that nothing is held.
//!
//! So the driver has at most one send of a session, and this is the only queue that grows. Its bounds are `bytes_max`
//! and `messages_max`; memory beside the bytes is at most an entry of the backlog and a sealed chunk per message.
//!
//! On drop what waits is dropped, and chunks go back where they came from.

mod allocator;
pub(crate) mod backlog;
mod limits;
mod room;
mod share;

use std::fmt;

pub use allocator::{ChunkAllocator, ChunkRequest, HeapAllocator, Piece};
use backlog::{Backlog, Entry};
pub use limits::{OutboxLimits, Pressure, Refusal, SendOutcome, Settled, SlowConsumer};

use crate::framing::{BodyWriter, Chunk, EncodeError, Framing, Layout};
use crate::free_lists::FreeLists;

/// Shared messages of at most so many bytes are copied into the tail chunk. Copying 512 bytes costs less than one more
/// piece in a send, which is 60 to 100 ns.
pub const COPY_BYTES_MAX: usize = 512;

/// Memory that an entry of the backlog takes beside its bytes.
pub const ENTRY_BYTES: usize = 48;

/// Outbox of one session: messages that wait to be sent to its peer, in order.
///
/// ```
/// use raon_session::{HeapAllocator, Outbox, OutboxLimits, Packet, PacketHead, Piece};
/// let (mut outbox, mut allocator) = (Outbox::default(), HeapAllocator::default());
/// let (framing, limits) = (Packet::new(), OutboxLimits::default());
/// outbox.append(&framing, PacketHead { id: 1 }, b"a", &limits, &mut allocator);
/// outbox.append(&framing, PacketHead { id: 2 }, b"b", &limits, &mut allocator);
/// assert_eq!((outbox.messages(), outbox.bytes()), (2, 10));
/// assert_eq!(outbox.take(), Some(Piece::Chunk(b"\x05\0\x01\0a\x05\0\x02\0b".to_vec())));
/// assert_eq!(outbox.take(), None);
/// ```
pub struct Outbox<C> {
    /// Where small messages go: behind everything in the backlog.
    tail: Option<C>,
    backlog: Option<Box<Backlog<C>>>,
    bytes: u32,
    messages: u32,
    tail_messages: u32,
    /// Something was left after the last hand-over.
    is_held: bool,
    /// `High` was said, and `Low` not since.
    is_high: bool,
}

impl<C: Chunk> Outbox<C> {
    /// Frames a message and copies it in.
    ///
    /// Refused: what cannot be framed, what finds no room, what the allocator has no chunk for.
    //= OUTBOX-1, OUTBOX-2
    #[inline]
    pub fn append<F: Framing, S: ChunkAllocator<Chunk = C>>(
        &mut self,
        framing: &F,
        head: F::Head,
        body: &[u8],
        limits: &OutboxLimits,
        allocator: &mut S,
    ) -> SendOutcome {
        let layout = match framing.check(head, body).and_then(|()| Layout::of(framing, body.len())) {
            Ok(layout) => layout,
            Err(error) => return SendOutcome::Refused(error.into()),
        };
        match self.reserve(layout.frame_bytes(), limits, allocator) {
            Ok(tail) => layout.write(framing, head, body, tail),
            Err(refusal) => return SendOutcome::Refused(refusal),
        }
        self.count_in_tail(layout.frame_bytes());
        SendOutcome::Queued
    }

    /// Has `fill` write the body where it will leave from, at most `body_bytes_max` bytes of it and no more than the framing
    /// and `limits` allow. What it writes is what is sent, and its length is known then.
    ///
    /// Choose `body_bytes_max` close to what is needed: so much room a chunk must have. If `fill` panics, nothing is sent of
    /// the message.
    ///
    /// Refused: as [`append`](Self::append), and `TooLong` if `fill` writes more than it may. An outbox that has no room for
    /// the shortest message refuses before `fill` is called.
    //= OUTBOX-5
    #[inline]
    pub fn append_with<F: Framing, S: ChunkAllocator<Chunk = C>>(
        &mut self,
        framing: &F,
        head: F::Head,
        body_bytes_max: usize,
        limits: &OutboxLimits,
        allocator: &mut S,
        fill: impl FnOnce(&mut BodyWriter<'_>),
    ) -> SendOutcome {
        let layout = match Layout::bounded(framing, body_bytes_max, limits.bytes_max as usize) {
            Ok(layout) => layout,
            Err(error) => return SendOutcome::Refused(error.into()),
        };
        // Now, as long as all that is in the tail chunk is whole messages.
        let longest = layout.frame_bytes();
        if !self.has_room(longest, limits) && longest <= limits.bytes_max as usize {
            allocator.on_full(self);
        }
        let written = self.can_have_room(layout.prefix + layout.suffix, limits).and_then(|()| {
            let tail = self.tail_for(layout.frame_bytes(), allocator)?;
            Ok(layout.write_with(framing, head, tail, fill)?)
        });
        match written.and_then(|length| self.keep_in_tail(length, limits)) {
            Ok(()) => SendOutcome::Queued,
            Err(refusal) => SendOutcome::Refused(refusal),
        }
    }

    /// The next piece, in order. What was droppable is not any more once it is taken.
    #[inline]
    pub fn take(&mut self) -> Option<Piece<C>> {
        if self.backlog.is_some()
            && let Some(piece) = self.take_waiting()
        {
            return Some(piece);
        }
        let tail = self.tail.take().filter(|tail| !tail.is_empty())?;
        self.bytes -= tail.len() as u32;
        self.messages -= std::mem::take(&mut self.tail_messages);
        Some(Piece::Chunk(tail))
    }

    /// Called after each hand-over, also after one in which the driver took nothing: what is left now is held.
    //= OUTBOX-4
    #[inline]
    pub fn settle(&mut self, limits: &OutboxLimits, free_lists: &mut FreeLists<C>) -> Settled {
        let dropped = if self.backlog.is_some() { self.settle_backlog(free_lists) } else { 0 };
        self.is_held = self.bytes > 0;
        let pressure = match self.is_high {
            false if self.bytes > limits.watermark_high_bytes => Some(Pressure::High),
            true if self.bytes <= limits.watermark_low_bytes => Some(Pressure::Low),
            _ => None,
        };
        if let Some(pressure) = pressure {
            self.is_high = pressure == Pressure::High;
        }
        Settled { pressure, dropped }
    }

    /// Drops all that waits, and says how many messages that was.
    pub fn clear(&mut self, free_lists: &mut FreeLists<C>) -> u32 {
        self.tail = None;
        if let Some(backlog) = self.backlog.take() {
            free_lists.keep_backlog(backlog);
        }
        (self.bytes, self.tail_messages) = (0, 0);
        std::mem::take(&mut self.messages)
    }

    /// Bytes that wait.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// Memory that it costs by itself, in bytes: all that waits, and [`ENTRY_BYTES`] for each thing that waits by reference or
    /// before such, but not the bytes themselves that others may share, if they are more than [`COPY_BYTES_MAX`] at a
    /// time. Those are charged where they were made, once.
    //= OUTBOX-6
    #[inline]
    pub fn own_bytes(&self) -> usize {
        let backlog = self
            .backlog
            .as_ref()
            .map_or(0, |backlog| (backlog.length() * ENTRY_BYTES) as isize - backlog.shared_bytes as isize);
        (self.bytes as isize + backlog) as usize
    }

    /// Messages that wait.
    #[inline]
    pub fn messages(&self) -> usize {
        self.messages as usize
    }

    /// True if no more waits than so many bytes, messages and pieces. A piece is what one `take` gives.
    #[inline]
    pub fn is_within(&self, bytes_max: u32, messages_max: u32, pieces_max: u32) -> bool {
        self.bytes <= bytes_max
            && self.messages <= messages_max
            && self.backlog.as_ref().is_none_or(|backlog| backlog.places_taken() < pieces_max as usize)
    }

    /// True if nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// True if something was left after the last hand-over.
    #[inline]
    pub fn is_held(&self) -> bool {
        self.is_held
    }

    /// True from `Pressure::High` to `Pressure::Low`.
    #[inline]
    pub fn is_high(&self) -> bool {
        self.is_high
    }

    #[inline]
    fn count_in_tail(&mut self, length: usize) {
        self.bytes += length as u32;
        self.messages += 1;
        self.tail_messages += 1;
    }

    #[inline(never)]
    fn take_waiting(&mut self) -> Option<Piece<C>> {
        let (piece, messages) = match self.backlog.as_mut()?.pop_front()? {
            Entry::Chunk { chunk, messages } => (Piece::Chunk(chunk), messages),
            Entry::Shared { bytes, messages } => (Piece::Shared(bytes), messages),
            Entry::Droppable { frame, .. } => (Piece::Shared(frame), 1),
            Entry::Gap => return None,
        };
        self.bytes -= piece.len() as u32;
        self.messages -= messages;
        Some(piece)
    }

    #[inline(never)]
    fn settle_backlog(&mut self, free_lists: &mut FreeLists<C>) -> u32 {
        let Some(backlog) = &mut self.backlog else {
            return 0;
        };
        let dropped = std::mem::take(&mut backlog.dropped);
        if backlog.is_empty()
            && let Some(backlog) = self.backlog.take()
        {
            free_lists.keep_backlog(backlog);
        }
        dropped
    }

    fn backlog_mut(&mut self, free_lists: &mut FreeLists<C>) -> &mut Backlog<C> {
        self.backlog.get_or_insert_with(|| free_lists.take_backlog())
    }
}

impl<C> Default for Outbox<C> {
    fn default() -> Self {
        Outbox { tail: None, backlog: None, bytes: 0, messages: 0, tail_messages: 0, is_held: false, is_high: false }
    }
}

impl<C> fmt::Debug for Outbox<C> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Outbox({} messages, {} bytes)", self.messages, self.bytes)
    }
}
