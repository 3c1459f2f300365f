//! A length, then the body.

use super::{Decoded, EncodeError, FRAME_BYTES_CEILING, FRAME_BYTES_MAX_DEFAULT, Framing, FramingError};

/// Width of the length.
///
/// ```
/// assert_eq!(raon_session::LengthWidth::U32.bytes(), 4);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LengthWidth {
    /// Two bytes.
    U16,
    /// Four bytes.
    U32,
}

impl LengthWidth {
    /// Its length in bytes.
    #[inline]
    pub const fn bytes(self) -> usize {
        match self {
            LengthWidth::U16 => 2,
            LengthWidth::U32 => 4,
        }
    }

    const fn value_max(self) -> u32 {
        match self {
            LengthWidth::U16 => u16::MAX as u32,
            LengthWidth::U32 => u32::MAX,
        }
    }
}

/// Which byte of a number comes first.
///
/// ```
/// use raon_session::{ByteOrder, LengthPrefix, LengthWidth, encode};
/// let network = LengthPrefix::new(LengthWidth::U16, ByteOrder::Big);
/// assert_eq!(encode(&network, (), b"hi")?, &b"\x00\x02hi"[..]);
/// # Ok::<(), raon_session::EncodeError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ByteOrder {
    /// The lowest.
    Little,
    /// The highest, as in network order.
    Big,
}

/// A length of two or four bytes in either byte order, then the body. The length may count itself or not.
///
/// The limit is 4,096 bytes for a whole frame, length field included, unless another one is set.
///
/// ```
/// use raon_session::{ByteOrder, LengthPrefix, LengthWidth, encode};
/// let framing = LengthPrefix::new(LengthWidth::U32, ByteOrder::Little).header_counted().with_limit(65_536);
/// assert_eq!(encode(&framing, (), b"hi")?, &b"\x06\x00\x00\x00hi"[..]);
/// # Ok::<(), raon_session::EncodeError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LengthPrefix {
    width: LengthWidth,
    order: ByteOrder,
    /// Bytes that the length counts beside the body: its own or none.
    counted_bytes: u32,
    /// Limit of a whole frame as it was asked for.
    limit_bytes: u32,
    /// The same, as far as the length field can say it.
    bytes_max: u32,
}

impl LengthPrefix {
    /// The length does not count itself; a whole frame has at most 4,096 bytes.
    pub const fn new(width: LengthWidth, order: ByteOrder) -> Self {
        let limit_bytes = FRAME_BYTES_MAX_DEFAULT;
        LengthPrefix { width, order, counted_bytes: 0, limit_bytes, bytes_max: limit_bytes }.bounded()
    }

    /// The length counts its own bytes too; one that is smaller than they are is malformed.
    pub const fn header_counted(self) -> Self {
        LengthPrefix { counted_bytes: self.width.bytes() as u32, ..self }.bounded()
    }

    /// Another limit for a whole frame, in bytes: from the length field alone to what it can say, and at most
    /// [`FRAME_BYTES_CEILING`].
    pub const fn with_limit(self, limit_bytes: u32) -> Self {
        LengthPrefix { limit_bytes, ..self }.bounded()
    }

    const fn bounded(self) -> Self {
        let header = self.width.bytes() as u32;
        let sayable = self.width.value_max().saturating_add(header - self.counted_bytes);
        let ceiling = if sayable < FRAME_BYTES_CEILING { sayable } else { FRAME_BYTES_CEILING };
        let limit = if self.limit_bytes > header { self.limit_bytes } else { header };
        LengthPrefix { bytes_max: if limit < ceiling { limit } else { ceiling }, ..self }
    }

    /// The number in the length field, if it is there.
    #[inline]
    fn announced(&self, input: &[u8]) -> Option<u32> {
        match self.width {
            LengthWidth::U16 => {
                let field = *input.first_chunk::<2>()?;
                let little = u16::from_le_bytes(field);
                Some(u32::from(if self.order == ByteOrder::Little { little } else { little.swap_bytes() }))
            }
            LengthWidth::U32 => {
                let little = u32::from_le_bytes(*input.first_chunk::<4>()?);
                Some(if self.order == ByteOrder::Little { little } else { little.swap_bytes() })
            }
        }
    }

    #[cold]
    fn out_of_range(&self, announced: u32, length: u64) -> FramingError {
        let header_bytes = self.width.bytes() as u32;
        if length < u64::from(header_bytes) {
            return FramingError::TooShort { announced_bytes: announced, header_bytes };
        }
        FramingError::too_long(length, self.bytes_max as usize)
    }
}

impl Framing for LengthPrefix {
    type Head = ();

    //= FRAME-3
    #[inline]
    fn decode(&self, input: &[u8], _scanned: usize) -> Result<Decoded<()>, FramingError> {
        let header = self.width.bytes();
        let Some(announced) = self.announced(input) else {
            return Ok(Decoded::Incomplete { length: None, scanned: 0 });
        };
        let length = u64::from(announced) + header as u64 - u64::from(self.counted_bytes);
        if length < header as u64 || length > u64::from(self.bytes_max) {
            return Err(self.out_of_range(announced, length));
        }
        let length = length as usize;
        Ok(if input.len() < length {
            Decoded::Incomplete { length: Some(length), scanned: 0 }
        } else {
            Decoded::Frame { head: (), body: header..length, length }
        })
    }

    #[inline]
    fn prefix_bytes(&self) -> usize {
        self.width.bytes()
    }

    #[inline]
    fn write_prefix(&self, _head: (), body_bytes: usize, out: &mut [u8]) {
        // `check` has seen that it fits the field.
        let announced = body_bytes as u32 + self.counted_bytes;
        match (self.width, self.order) {
            (LengthWidth::U16, ByteOrder::Little) => out.copy_from_slice(&(announced as u16).to_le_bytes()),
            (LengthWidth::U16, ByteOrder::Big) => out.copy_from_slice(&(announced as u16).to_be_bytes()),
            (LengthWidth::U32, ByteOrder::Little) => out.copy_from_slice(&announced.to_le_bytes()),
            (LengthWidth::U32, ByteOrder::Big) => out.copy_from_slice(&announced.to_be_bytes()),
        }
    }

    #[inline]
    fn check(&self, _head: (), body: &[u8]) -> Result<(), EncodeError> {
        EncodeError::check_limit(body.len() + self.width.bytes(), self.bytes_max as usize)
    }

    #[inline]
    fn message_bytes_max(&self) -> usize {
        self.bytes_max as usize
    }
}
