//! Frames as they are written: their length once, then prefix, body and suffix, into a chunk or by themselves.

use bytes::Bytes;

use super::{BodyWriter, Chunk, EncodeError, FRAME_BYTES_CEILING, Framing};

/// One whole frame in memory of its own: encode once, share with many sessions by
/// [`append_frame`](crate::Outbox::append_frame).
///
/// Errors: those of the framing's `check`.
///
/// ```
/// use raon_session::{Packet, PacketHead, encode};
/// let frame = encode(&Packet::new(), PacketHead { id: 0x0102 }, b"hi")?;
/// assert_eq!(frame, &[6, 0, 2, 1, b'h', b'i'][..]);
/// # Ok::<(), raon_session::EncodeError>(())
/// ```
pub fn encode<F: Framing>(framing: &F, head: F::Head, body: &[u8]) -> Result<Bytes, EncodeError> {
    framing.check(head, body)?;
    let layout = Layout::of(framing, body.len())?;
    let mut frame = Vec::with_capacity(layout.frame_bytes());
    layout.write(framing, head, body, &mut frame);
    Ok(frame.into())
}

/// As [`encode`], the body written in place: of at most `body_bytes_max` bytes.
///
/// Errors: `TooLong` if more was written than that or than the framing allows; those of the framing's `check`.
///
/// ```
/// use raon_session::{EncodeError, Packet, PacketHead, encode_with};
/// let frame = encode_with(&Packet::new(), PacketHead { id: 2 }, 100, |body| body.put_u16_be(7))?;
/// assert_eq!(frame, &[6, 0, 2, 0, 0, 7][..]);
/// let refused = encode_with(&Packet::new(), PacketHead { id: 2 }, 1, |body| body.put_u16_be(7));
/// assert_eq!(refused, Err(EncodeError::TooLong { frame_bytes: 6, limit_bytes: 5 }));
/// # Ok::<(), EncodeError>(())
/// ```
pub fn encode_with<F: Framing>(
    framing: &F,
    head: F::Head,
    body_bytes_max: usize,
    fill: impl FnOnce(&mut BodyWriter<'_>),
) -> Result<Bytes, EncodeError> {
    let layout = Layout::bounded(framing, body_bytes_max, usize::MAX)?;
    let mut frame = Vec::with_capacity(layout.frame_bytes());
    layout.write_with(framing, head, &mut frame, fill)?;
    Ok(frame.into())
}

/// Has `fill` write a body alone, in place of what is in `body`: for a message that is framed elsewhere. Its memory is used
/// again.
///
/// Errors: `TooLong` if more was written than `body_bytes_max`, or than fits a frame of `frame_bytes_max` or the framing's
/// limit. `body` is empty then.
///
/// ```
/// use raon_session::{Packet, write_body};
/// let mut body = b"something else".to_vec();
/// write_body(&Packet::new(), 10, 4096, &mut body, |body| body.put(b"hi"))?;
/// assert_eq!(body, b"hi");
/// # Ok::<(), raon_session::EncodeError>(())
/// ```
//= OUTBOX-5
pub fn write_body<F: Framing>(
    framing: &F,
    body_bytes_max: usize,
    frame_bytes_max: usize,
    body: &mut Vec<u8>,
    fill: impl FnOnce(&mut BodyWriter<'_>),
) -> Result<(), EncodeError> {
    body.clear();
    let layout = Layout::bounded(framing, body_bytes_max, frame_bytes_max)?;
    let out = Uncommitted::new(body);
    let mut writer = BodyWriter::new(out.chunk.grow(layout.body));
    fill(&mut writer);
    let (length, checked) = (writer.len(), layout.check(&writer));
    checked.map(|()| out.commit(length))
}

/// The lengths of a frame's three parts. The framing is asked for them once per frame, so that one that gives another
/// answer the next time harms nobody.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) prefix: usize,
    pub(crate) body: usize,
    pub(crate) suffix: usize,
}

impl Layout {
    /// Of a frame around a body of this length.
    #[inline]
    pub(crate) fn of<F: Framing>(framing: &F, body: usize) -> Result<Self, EncodeError> {
        let (prefix, suffix) = (framing.prefix_bytes(), framing.suffix_bytes());
        let length = prefix.saturating_add(body).saturating_add(suffix);
        EncodeError::check_limit(length, FRAME_BYTES_CEILING as usize)?;
        Ok(Layout { prefix, body, suffix })
    }

    /// Of the longest frame that is allowed, if its body has at most `body_bytes_max` bytes and it has `frame_bytes_max`.
    pub(crate) fn bounded<F: Framing>(
        framing: &F,
        body_bytes_max: usize,
        frame_bytes_max: usize,
    ) -> Result<Self, EncodeError> {
        let around = Layout::of(framing, 0)?;
        let limit = framing.message_bytes_max().min(FRAME_BYTES_CEILING as usize).min(frame_bytes_max);
        EncodeError::check_limit(around.frame_bytes(), limit)?;
        Ok(Layout { body: body_bytes_max.min(limit - around.frame_bytes()), ..around })
    }

    /// Length of the whole frame in bytes.
    #[inline]
    pub(crate) fn frame_bytes(self) -> usize {
        self.prefix + self.body + self.suffix
    }

    /// Whether what the writer was given has found room.
    #[inline]
    fn check(self, writer: &BodyWriter<'_>) -> Result<(), EncodeError> {
        let wanted = writer.wanted().saturating_add(self.prefix + self.suffix);
        EncodeError::check_limit(wanted, self.frame_bytes())
    }

    /// Writes the frame around `body`, which `check` has let pass, to the end of the chunk, which has the room. A framing
    /// that writes less than it announced leaves zeros there.
    //= OUTBOX-5
    #[inline]
    pub(crate) fn write<F: Framing, C: Chunk>(self, framing: &F, head: F::Head, body: &[u8], chunk: &mut C) {
        let frame = Uncommitted::new(chunk);
        self.write_prefix(framing, head, frame.chunk);
        frame.chunk.put(body);
        self.write_suffix(framing, frame.chunk);
        frame.commit(self.frame_bytes());
    }

    /// Writes the prefix alone.
    #[inline]
    pub(crate) fn write_prefix<F: Framing, C: Chunk>(self, framing: &F, head: F::Head, chunk: &mut C) {
        if self.prefix > 0 {
            let frame = Uncommitted::new(chunk);
            framing.write_prefix(head, self.body, frame.chunk.grow(self.prefix));
            frame.commit(self.prefix);
        }
    }

    /// Writes the suffix alone.
    #[inline]
    pub(crate) fn write_suffix<F: Framing, C: Chunk>(self, framing: &F, chunk: &mut C) {
        if self.suffix > 0 {
            let frame = Uncommitted::new(chunk);
            framing.write_suffix(frame.chunk.grow(self.suffix));
            frame.commit(self.suffix);
        }
    }

    /// Has `fill` write the body where it leaves from, then writes prefix and suffix around it. Returns the length of the
    /// whole frame. Nothing is added to the chunk if the body is too long or no message, or if `fill` panics.
    //= OUTBOX-5
    #[inline]
    pub(crate) fn write_with<F: Framing, C: Chunk>(
        self,
        framing: &F,
        head: F::Head,
        chunk: &mut C,
        fill: impl FnOnce(&mut BodyWriter<'_>),
    ) -> Result<usize, EncodeError> {
        let frame = Uncommitted::new(chunk);
        let out = frame.chunk.grow(self.frame_bytes());
        let (before, rest) = out.split_at_mut(self.prefix);
        let mut writer = BodyWriter::new(&mut rest[..self.body]);
        fill(&mut writer);
        self.check(&writer)?;
        let layout = Layout { body: writer.len(), ..self };
        let (body, after) = rest.split_at_mut(layout.body);
        framing.check(head, body)?;
        framing.write_prefix(head, layout.body, before);
        framing.write_suffix(&mut after[..layout.suffix]);
        frame.commit(layout.frame_bytes());
        Ok(layout.frame_bytes())
    }
}

/// A chunk in which something is being written. Cut back to what is committed however that ends, also by a panic.
struct Uncommitted<'a, C: Chunk> {
    chunk: &'a mut C,
    len: usize,
}

impl<'a, C: Chunk> Uncommitted<'a, C> {
    #[inline]
    fn new(chunk: &'a mut C) -> Self {
        Uncommitted { len: chunk.len(), chunk }
    }

    #[inline]
    fn commit(mut self, bytes: usize) {
        self.len += bytes;
    }
}

impl<C: Chunk> Drop for Uncommitted<'_, C> {
    #[inline]
    fn drop(&mut self) {
        self.chunk.truncate(self.len);
    }
}
