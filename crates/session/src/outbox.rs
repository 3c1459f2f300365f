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

mod backlog;
mod chunk;
mod limits;
mod room;
mod share;

use std::fmt;

pub(crate) use backlog::Backlog;
use backlog::Entry;
pub use chunk::{Chunk, HeapSupply, Need, Piece, Supply};
pub use limits::{OutboxLimits, Pressure, Refusal, SendOutcome, Settled, SlowConsumer};

use crate::framing::{EncodeError, Framing, write_frame};
use crate::spares::Spares;

/// Shared messages of at most so many bytes are copied into the tail chunk. Copying 512 bytes costs less than one more
/// piece in a send, which is 60 to 100 ns.
pub const COPY_BYTES_MAX: usize = 512;

/// What waits to be sent to one peer, in order.
///
/// ```
/// use raon_session::{HeapSupply, Outbox, OutboxLimits, Packet, PacketHead, Piece};
/// let (mut outbox, mut supply) = (Outbox::default(), HeapSupply::default());
/// let (framing, limits) = (Packet::new(), OutboxLimits::default());
/// outbox.append(&framing, PacketHead { id: 1 }, b"a", &limits, &mut supply);
/// outbox.append(&framing, PacketHead { id: 2 }, b"b", &limits, &mut supply);
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
    /// Refused: what cannot be framed, what finds no room, what the supply has no chunk for.
    //= OUTBOX-1, OUTBOX-2
    #[inline]
    pub fn append<F: Framing, S: Supply<Chunk = C>>(
        &mut self,
        framing: &F,
        head: F::Head,
        body: &[u8],
        limits: &OutboxLimits,
        supply: &mut S,
    ) -> SendOutcome {
        if let Err(error) = framing.check(head, body) {
            return SendOutcome::Refused(error.into());
        }
        let length = framing.prefix_bytes() + body.len() + framing.suffix_bytes();
        match self.reserve(length, limits, supply) {
            Ok(tail) => write_frame(framing, head, body, tail.grow(length)),
            Err(refusal) => return SendOutcome::Refused(refusal),
        }
        self.count_in_tail(length);
        SendOutcome::Queued
    }

    /// Lets `fill` write the body where it will leave from: it gets `body_bytes_max` bytes, which may hold anything, and
    /// says how many of them it has written. No more are sent than it says, so it must not say more than it wrote.
    ///
    /// Choose `body_bytes_max` close to what is needed: so much room must be left in the outbox and in a chunk. If `fill`
    /// panics, nothing is sent of it.
    ///
    /// Refused: as [`append`](Self::append), and a `body_bytes_max` beyond the framing's limit.
    #[inline]
    pub fn append_with<F: Framing, S: Supply<Chunk = C>>(
        &mut self,
        framing: &F,
        head: F::Head,
        body_bytes_max: usize,
        limits: &OutboxLimits,
        supply: &mut S,
        fill: impl FnOnce(&mut [u8]) -> usize,
    ) -> SendOutcome {
        let (prefix, suffix) = (framing.prefix_bytes(), framing.suffix_bytes());
        let length_max = prefix.saturating_add(body_bytes_max).saturating_add(suffix);
        if let Err(error) = EncodeError::check_limit(length_max, framing.message_bytes_max()) {
            return SendOutcome::Refused(error.into());
        }
        let tail = match self.reserve(length_max, limits, supply) {
            Ok(tail) => tail,
            Err(refusal) => return SendOutcome::Refused(refusal),
        };
        let mut frame = Uncommitted { len: tail.len(), chunk: tail };
        let (before, rest) = frame.chunk.grow(length_max).split_at_mut(prefix);
        let body_bytes = fill(&mut rest[..body_bytes_max]).min(body_bytes_max);
        if let Err(error) = framing.check(head, &rest[..body_bytes]) {
            return SendOutcome::Refused(error.into());
        }
        framing.write_prefix(head, body_bytes, before);
        framing.write_suffix(&mut rest[body_bytes..body_bytes + suffix]);
        let length = prefix + body_bytes + suffix;
        frame.len += length;
        drop(frame);
        self.count_in_tail(length);
        SendOutcome::Queued
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

    /// Puts back, to the front, a piece that the driver refused; several in reverse order. `messages` is how many it is
    /// counted as from now on. What was droppable stays for good.
    pub fn restore(&mut self, piece: Piece<C>, messages: u32, spares: &mut Spares<C>) {
        if piece.is_empty() {
            return;
        }
        self.bytes += piece.len() as u32;
        self.messages += messages;
        let entry = match piece {
            Piece::Chunk(chunk) => Entry::Chunk { chunk, messages },
            Piece::Shared(bytes) => Entry::Shared { bytes, messages },
        };
        self.backlog_mut(spares).push_front(entry);
    }

    /// Called after each hand-over, also after one in which the driver took nothing: what is left now is held.
    //= OUTBOX-4
    #[inline]
    pub fn settle(&mut self, limits: &OutboxLimits, spares: &mut Spares<C>) -> Settled {
        let dropped = if self.backlog.is_some() { self.settle_backlog(spares) } else { 0 };
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
    pub fn clear(&mut self, spares: &mut Spares<C>) -> u32 {
        self.tail = None;
        if let Some(backlog) = self.backlog.take() {
            spares.keep_backlog(backlog);
        }
        (self.bytes, self.tail_messages) = (0, 0);
        std::mem::take(&mut self.messages)
    }

    /// Bytes that wait.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes as usize
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
            && self.backlog.as_ref().is_none_or(|backlog| backlog.length() < pieces_max as usize)
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
    fn settle_backlog(&mut self, spares: &mut Spares<C>) -> u32 {
        let Some(backlog) = &mut self.backlog else {
            return 0;
        };
        let dropped = std::mem::take(&mut backlog.dropped);
        if backlog.is_empty()
            && let Some(backlog) = self.backlog.take()
        {
            spares.keep_backlog(backlog);
        }
        dropped
    }

    fn backlog_mut(&mut self, spares: &mut Spares<C>) -> &mut Backlog<C> {
        self.backlog.get_or_insert_with(|| spares.take_backlog())
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

/// A tail chunk in which a frame is being written. Cut back to `len` however that ends, also by a panic.
struct Uncommitted<'a, C: Chunk> {
    chunk: &'a mut C,
    len: usize,
}

impl<C: Chunk> Drop for Uncommitted<'_, C> {
    #[inline]
    fn drop(&mut self) {
        self.chunk.truncate(self.len);
    }
}
