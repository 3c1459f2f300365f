//! Messages that all have one length.

use super::error::saturated;
use super::{Decoded, EncodeError, FRAME_BYTES_CEILING, Framing, FramingError};

/// Every message has the same number of bytes; there is neither prefix nor suffix.
///
/// ```
/// use raon_session::{Decoded, Fixed, Framing};
/// let framing = Fixed::new(3);
/// assert_eq!(framing.decode(b"abcd", 0)?, Decoded::Frame { head: (), body: 0..3, length: 3 });
/// # Ok::<(), raon_session::FramingError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fixed {
    bytes: u32,
}

impl Fixed {
    /// Messages of `bytes` bytes; 0 is taken for 1, and at most [`FRAME_BYTES_CEILING`] are.
    pub const fn new(bytes: u32) -> Self {
        let bytes = if bytes == 0 { 1 } else { bytes };
        Fixed { bytes: if bytes > FRAME_BYTES_CEILING { FRAME_BYTES_CEILING } else { bytes } }
    }
}

impl Framing for Fixed {
    type Head = ();

    #[inline]
    fn decode(&self, input: &[u8], _scanned: usize) -> Result<Decoded<()>, FramingError> {
        let length = self.bytes as usize;
        Ok(if input.len() < length {
            Decoded::Incomplete { length: Some(length), scanned: 0 }
        } else {
            Decoded::Frame { head: (), body: 0..length, length }
        })
    }

    #[inline]
    fn check(&self, _head: (), body: &[u8]) -> Result<(), EncodeError> {
        if body.len() == self.bytes as usize {
            return Ok(());
        }
        Err(EncodeError::WrongLength { body_bytes: saturated(body.len()), fixed_bytes: self.bytes })
    }

    #[inline]
    fn message_bytes_max(&self) -> usize {
        self.bytes as usize
    }
}
