//! A body as it is written: in place, counted, and within a bound.

use std::{fmt, io};

/// Writes the body of one message where it leaves from. What is written is the message, and nothing else is: it cannot be
/// made longer than that, and what lies behind it is never sent.
///
/// The bound is the one that was asked for, the framing's limit, or the outbox's, whichever is least. Of a body that is
/// longer nothing is sent, and the sender is told so by [`EncodeError::TooLong`](crate::EncodeError::TooLong); none of the
/// calls panics.
///
/// ```
/// use raon_session::{HeapAllocator, Outbox, OutboxLimits, Packet, PacketHead, Piece};
/// use std::fmt::Write;
/// let (mut outbox, mut allocator, limits) = (Outbox::default(), HeapAllocator::default(), OutboxLimits::default());
/// outbox.append_with(&Packet::new(), PacketHead { id: 1 }, 64, &limits, &mut allocator, |body| {
///     body.put_u16_le(500);
///     body.put(b"hp");
///     let _ = write!(body, " of {}", 1000);
/// });
/// assert_eq!(outbox.take(), Some(Piece::Chunk(b"\x10\0\x01\0\xf4\x01hp of 1000".to_vec())));
/// ```
pub struct BodyWriter<'a> {
    room: &'a mut [u8],
    written: usize,
    /// All that was asked for, whether it found room or not.
    wanted: usize,
}

macro_rules! numbers {
    ($($type:ident: $little:ident $big:ident,)*) => {
        $(
            #[doc = concat!("Writes an `", stringify!($type), "`, its lowest byte first.")]
            #[inline]
            pub fn $little(&mut self, number: $type) {
                self.put(&number.to_le_bytes());
            }

            #[doc = concat!("Writes an `", stringify!($type), "`, its highest byte first, as in network order.")]
            #[inline]
            pub fn $big(&mut self, number: $type) {
                self.put(&number.to_be_bytes());
            }
        )*
    };
}

impl<'a> BodyWriter<'a> {
    pub(crate) fn new(room: &'a mut [u8]) -> Self {
        BodyWriter { room, written: 0, wanted: 0 }
    }

    /// Writes these bytes. If they do not fit nothing of the message will be sent, and nothing more is written.
    //= OUTBOX-5
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) {
        if let Some(room) = self.claim(bytes.len()) {
            room.copy_from_slice(bytes);
        }
    }

    /// Writes the same byte several times.
    pub fn put_repeated(&mut self, byte: u8, count: usize) {
        if let Some(room) = self.claim(count) {
            room.fill(byte);
        }
    }

    /// Writes one byte.
    #[inline]
    pub fn put_u8(&mut self, number: u8) {
        self.put(&[number]);
    }

    numbers! {
        u16: put_u16_le put_u16_be,
        u32: put_u32_le put_u32_be,
        u64: put_u64_le put_u64_be,
        i16: put_i16_le put_i16_be,
        i32: put_i32_le put_i32_be,
        i64: put_i64_le put_i64_be,
        f32: put_f32_le put_f32_be,
        f64: put_f64_le put_f64_be,
    }

    /// Bytes that may still be written; 0 once something did not fit.
    #[inline]
    pub fn remaining(&self) -> usize {
        if self.is_over() { 0 } else { self.room.len() - self.written }
    }

    /// Bytes that are written.
    #[inline]
    pub fn len(&self) -> usize {
        self.written
    }

    /// True if nothing is written.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.written == 0
    }

    /// True if something did not fit: then nothing of the message will be sent.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.wanted > self.written
    }

    /// Bytes that are written so far.
    #[inline]
    pub fn written(&self) -> &[u8] {
        &self.room[..self.written]
    }

    /// Bytes that are written so far, to be changed: a count, for example, that is known at the end only.
    #[inline]
    pub fn written_mut(&mut self) -> &mut [u8] {
        &mut self.room[..self.written]
    }

    /// Length that the body would have.
    pub(crate) fn wanted(&self) -> usize {
        self.wanted
    }

    #[inline]
    fn claim(&mut self, count: usize) -> Option<&mut [u8]> {
        let fits = count <= self.remaining();
        self.wanted = self.wanted.saturating_add(count);
        if !fits {
            return None;
        }
        let start = self.written;
        self.written += count;
        self.room.get_mut(start..self.written)
    }
}

/// A write is taken whole. One that does not fit is `WriteZero`, and nothing of the message will be sent.
impl io::Write for BodyWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes);
        if self.is_over() { Err(io::ErrorKind::WriteZero.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An error says that the text did not fit, and nothing of the message will be sent.
impl fmt::Write for BodyWriter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text.as_bytes());
        if self.is_over() { Err(fmt::Error) } else { Ok(()) }
    }
}

impl fmt::Debug for BodyWriter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BodyWriter({} bytes, room for {} more)", self.written, self.remaining())
    }
}
