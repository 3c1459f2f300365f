//! The way in: bytes as they come, messages as they were meant.
//!
//! 1. A receive buffer comes. `next` hands over frame after frame where it lies in the buffer; nothing is copied, and an
//!    inbox without a begun frame owns no memory.
//! 2. The buffer ends inside a frame: what is there of it is copied to an assembly buffer, which comes from the free lists. The
//!    receive buffer goes back to the pool.
//! 3. The next buffer comes: what belongs to the begun frame is copied behind it, and no more. The buffer grows with what
//!    has arrived, whatever the frame announces.
//! 4. The frame is whole: it is handed over from the assembly buffer. The call of `next` after that puts the buffer back
//!    to the free lists and goes on in place, as in 1.
//!
//! On drop the assembly buffer is freed; `clear` gives it to the free lists.

use std::fmt;
use std::ops::Range;

use crate::framing::{Decoded, FRAME_BYTES_CEILING, Framing, FramingError, Message};
use crate::free_lists::FreeLists;

/// `wanted` if the frame's length is not known yet: no frame has length 0.
const UNKNOWN: u32 = 0;
/// `wanted` if `partial` was handed over as a whole message. No frame is as long, see `FRAME_BYTES_CEILING`.
const DELIVERED: u32 = u32::MAX;

/// Step in which input is looked at while the length of a begun frame is unknown, in bytes: some lines of text. What turns out
/// to belong to the next frame was copied in vain.
const STEP_BYTES: usize = 256;

/// One session's begun frame, if there is one.
///
/// ```
/// use raon_session::{Delimiter, Inbox, FreeLists};
/// let (mut inbox, mut free_lists) = (Inbox::default(), FreeLists::<Vec<u8>>::default());
/// let mut messages = Vec::new();
/// for mut input in [&b"one\ntw"[..], b"o\nthree\n"] {
///     while let Some(message) = inbox.next(&Delimiter::line(), &mut input, &mut free_lists)? {
///         messages.push(message.to_vec());
///     }
/// }
/// assert_eq!(messages, [&b"one"[..], b"two", b"three"]);
/// # Ok::<(), raon_session::FramingError>(())
/// ```
#[derive(Default)]
pub struct Inbox {
    /// Bytes of the begun frame, or the message that was handed over last.
    partial: Vec<u8>,
    /// Bytes of `partial` in which the framing has looked for the frame's end in vain.
    scanned: u32,
    /// Length of the whole frame, `UNKNOWN` or `DELIVERED`.
    wanted: u32,
}

impl Inbox {
    /// The next message out of what came before and `input`, which is moved on past it. `None`: `input` is used up.
    ///
    /// Call it until it gives `None`, also with the last bytes of a session.
    ///
    /// Errors: what the framing finds wrong. The stream cannot be read any further.
    //= FRAME-1, FRAME-2
    #[inline]
    pub fn next<'a, 'i: 'a, F: Framing, C>(
        &'a mut self,
        framing: &F,
        input: &mut &'i [u8],
        free_lists: &mut FreeLists<C>,
    ) -> Result<Option<Message<'a, F::Head>>, FramingError> {
        if !self.partial.is_empty() {
            if self.wanted != DELIVERED {
                return self.next_assembled(framing, input);
            }
            self.clear(free_lists);
        }
        let bytes: &'i [u8] = input;
        if bytes.is_empty() {
            return Ok(None);
        }
        match framing.decode(bytes, 0)? {
            Decoded::Frame { head, body, length } => {
                let (body, rest) = cut(bytes, body, length)?;
                *input = rest;
                Ok(Some(Message::new(head, body)))
            }
            Decoded::Incomplete { length, scanned } => {
                *input = &bytes[bytes.len()..];
                self.begin(framing, bytes, length, scanned, free_lists)?;
                Ok(None)
            }
        }
    }

    /// Forgets what is begun and gives its memory to the free lists.
    #[inline(never)]
    pub fn clear<C>(&mut self, free_lists: &mut FreeLists<C>) {
        free_lists.keep_assembly(std::mem::take(&mut self.partial));
        self.scanned = 0;
        self.wanted = UNKNOWN;
    }

    /// Memory that the session holds for its begun frame, in bytes: at most twice what has arrived of it, or a spare's
    /// 8 KiB.
    #[inline]
    pub fn charged_bytes(&self) -> usize {
        self.partial.capacity()
    }

    /// Bytes of a frame that has begun to come and is not whole.
    #[inline]
    pub fn partial_bytes(&self) -> usize {
        if self.wanted == DELIVERED { 0 } else { self.partial.len() }
    }

    #[cold]
    #[inline(never)]
    fn begin<F: Framing, C>(
        &mut self,
        framing: &F,
        bytes: &[u8],
        length: Option<usize>,
        scanned: usize,
        free_lists: &mut FreeLists<C>,
    ) -> Result<(), FramingError> {
        self.note(framing, bytes.len(), length, scanned)?;
        self.partial = free_lists.take_assembly();
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    /// As `next` while a frame is begun.
    #[inline(never)]
    fn next_assembled<'a, F: Framing>(
        &'a mut self,
        framing: &F,
        input: &mut &[u8],
    ) -> Result<Option<Message<'a, F::Head>>, FramingError> {
        let (head, body) = loop {
            if input.is_empty() {
                return Ok(None);
            }
            let had = self.partial.len();
            let (taken, rest) = input.split_at(self.step(framing).min(input.len()));
            self.partial.extend_from_slice(taken);
            if self.partial.len() < self.wanted as usize {
                *input = rest;
                return Ok(None);
            }
            match framing.decode(&self.partial, self.scanned as usize)? {
                Decoded::Frame { head, body, length } => {
                    // Of the last step only what belongs to this frame is used up.
                    let used = length.checked_sub(had).filter(|used| *used <= taken.len());
                    *input = &input[used.ok_or(FramingError::Inconsistent)?..];
                    self.partial.truncate(length);
                    self.wanted = DELIVERED;
                    break (head, body);
                }
                Decoded::Incomplete { length, scanned } => {
                    *input = rest;
                    self.note(framing, self.partial.len(), length, scanned)?;
                }
            }
        };
        let body = self.partial.get(body).ok_or(FramingError::Inconsistent)?;
        Ok(Some(Message::new(head, body)))
    }

    /// Number of bytes to look at next, at least 1.
    fn step<F: Framing>(&self, framing: &F) -> usize {
        let have = self.partial.len();
        if self.wanted != UNKNOWN {
            return self.wanted as usize - have;
        }
        // A prefix says how long its frame is, so it is completed alone.
        match framing.prefix_bytes().saturating_sub(have) {
            0 => STEP_BYTES,
            missing => missing,
        }
    }

    /// Remembers what is known of a frame of which `have` bytes are there. A framing that sets no limit meets its own here.
    //= FRAME-3
    fn note<F: Framing>(
        &mut self,
        framing: &F,
        have: usize,
        length: Option<usize>,
        scanned: usize,
    ) -> Result<(), FramingError> {
        let limit = framing.message_bytes_max().min(FRAME_BYTES_CEILING as usize);
        if length.unwrap_or(have) > limit {
            return Err(FramingError::too_long(length.unwrap_or(have) as u64, limit));
        }
        if length.is_some_and(|length| length <= have) || scanned > have {
            return Err(FramingError::Inconsistent);
        }
        // Both are at most `limit` now, which fits.
        self.wanted = length.map_or(UNKNOWN, |length| length as u32);
        self.scanned = scanned as u32;
        Ok(())
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Inbox({} bytes begun)", self.partial_bytes())
    }
}

/// The body of the frame at the beginning of `bytes`, and what comes after the frame.
#[inline]
fn cut(bytes: &[u8], body: Range<usize>, length: usize) -> Result<(&[u8], &[u8]), FramingError> {
    match (bytes.split_at_checked(length), length) {
        (None, _) | (_, 0) => Err(FramingError::Inconsistent),
        (Some((frame, rest)), _) => Ok((frame.get(body).ok_or(FramingError::Inconsistent)?, rest)),
    }
}
