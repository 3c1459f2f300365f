//! Messages that end with a certain byte string.

use memchr::memchr_iter;

use super::error::saturated;
use super::{Decoded, EncodeError, FRAME_BYTES_CEILING, FRAME_BYTES_MAX_DEFAULT, Framing, FramingError};

/// The longest delimiter, in bytes. It lies in the framing itself, so that a copy of one is cheap.
pub const DELIMITER_BYTES_MAX: usize = 16;

/// Each message ends with a delimiter, which it cannot contain. An empty message is a delimiter alone.
///
/// The limit is 4,096 bytes for a whole frame, delimiter included, unless another one is set. A frame that comes in many
/// small pieces is looked through once, not again from its start for each piece.
///
/// ```
/// use raon_session::{Decoded, Delimiter, Framing};
/// let lines = Delimiter::new(b"\r\n")?.with_limit(512);
/// assert_eq!(lines.decode(b"hello\r\nwor", 0), Ok(Decoded::Frame { head: (), body: 0..5, length: 7 }));
/// assert_eq!(lines.decode(b"wor", 0), Ok(Decoded::Incomplete { length: None, scanned: 3 }));
/// # Ok::<(), raon_session::EncodeError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delimiter {
    delimiter: [u8; DELIMITER_BYTES_MAX],
    delimiter_bytes: u8,
    bytes_max: u32,
}

impl Delimiter {
    /// Messages that end with `delimiter`, of 1 to 16 bytes.
    ///
    /// Errors: `Empty`, `TooLong`.
    pub fn new(delimiter: &[u8]) -> Result<Self, EncodeError> {
        if delimiter.is_empty() {
            return Err(EncodeError::Empty);
        }
        EncodeError::check_limit(delimiter.len(), DELIMITER_BYTES_MAX)?;
        let mut kept = [0; DELIMITER_BYTES_MAX];
        kept[..delimiter.len()].copy_from_slice(delimiter);
        let delimiter_bytes = delimiter.len() as u8;
        Ok(Delimiter { delimiter: kept, delimiter_bytes, bytes_max: FRAME_BYTES_MAX_DEFAULT })
    }

    /// Messages that end with a line feed.
    pub const fn line() -> Self {
        let mut delimiter = [0; DELIMITER_BYTES_MAX];
        delimiter[0] = b'\n';
        Delimiter { delimiter, delimiter_bytes: 1, bytes_max: FRAME_BYTES_MAX_DEFAULT }
    }

    /// Another limit for a whole frame, in bytes: from the delimiter alone to [`FRAME_BYTES_CEILING`].
    pub const fn with_limit(self, bytes_max: u32) -> Self {
        let least = self.delimiter_bytes as u32;
        let bytes_max = if bytes_max < FRAME_BYTES_CEILING { bytes_max } else { FRAME_BYTES_CEILING };
        Delimiter { bytes_max: if bytes_max < least { least } else { bytes_max }, ..self }
    }

    #[inline]
    fn delimiter(&self) -> &[u8] {
        &self.delimiter[..usize::from(self.delimiter_bytes)]
    }

    /// Where the first delimiter ends whose last byte is at `from` or after it.
    ///
    /// Looks for the last byte and then back: with `\r\n` a lone `\r` costs nothing, and what was looked at before need not
    /// be looked at again but for the compare.
    #[inline]
    fn end_in(&self, bytes: &[u8], from: usize) -> Option<usize> {
        let delimiter = self.delimiter();
        let last = *delimiter.last()?;
        let from = from.max(delimiter.len() - 1);
        let ends = memchr_iter(last, bytes.get(from..)?).map(|at| from + at + 1);
        ends.into_iter().find(|end| bytes[..*end].ends_with(delimiter))
    }

    /// Where a delimiter ends that begins in the body and reaches into the one behind it: `a` + `aa` with `aa`.
    fn end_across(&self, body: &[u8]) -> Option<usize> {
        let delimiter = self.delimiter();
        let kept = body.len().min(delimiter.len() - 1);
        let mut seam = [0; 2 * DELIMITER_BYTES_MAX];
        let length = kept + delimiter.len();
        seam[..kept].copy_from_slice(&body[body.len() - kept..]);
        seam[kept..length].copy_from_slice(delimiter);
        let end = self.end_in(&seam[..length], 0)?;
        (end < length).then(|| body.len() - kept + end)
    }
}

impl Framing for Delimiter {
    type Head = ();

    //= FRAME-3
    #[inline]
    fn decode(&self, input: &[u8], scanned: usize) -> Result<Decoded<()>, FramingError> {
        let limit = self.bytes_max as usize;
        let window = &input[..input.len().min(limit)];
        if let Some(length) = self.end_in(window, scanned) {
            let body = 0..length - usize::from(self.delimiter_bytes);
            return Ok(Decoded::Frame { head: (), body, length });
        }
        if input.len() >= limit {
            return Err(FramingError::Unended { limit_bytes: self.bytes_max });
        }
        Ok(Decoded::Incomplete { length: None, scanned: input.len() })
    }

    #[inline]
    fn suffix_bytes(&self) -> usize {
        usize::from(self.delimiter_bytes)
    }

    #[inline]
    fn write_suffix(&self, out: &mut [u8]) {
        out.copy_from_slice(self.delimiter());
    }

    fn check(&self, _head: (), body: &[u8]) -> Result<(), EncodeError> {
        EncodeError::check_limit(body.len() + self.suffix_bytes(), self.message_bytes_max())?;
        let inside = |end: usize| EncodeError::DelimiterInside { at: saturated(end - self.suffix_bytes()) };
        if let Some(end) = self.end_in(body, 0) {
            return Err(inside(end));
        }
        match self.end_across(body) {
            Some(end) => Err(inside(end)),
            None => Ok(()),
        }
    }

    #[inline]
    fn message_bytes_max(&self) -> usize {
        self.bytes_max as usize
    }
}
