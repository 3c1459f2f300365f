//! Raw bytes: no framing at all.

use super::{Decoded, EncodeError, FRAME_BYTES_CEILING, Framing, FramingError};

/// Whatever arrives together is a message. The stream may cut and join them as it likes; nothing is ever copied.
///
/// ```
/// use raon_session::{Inbox, Raw, FreeLists};
/// let (mut inbox, mut free_lists) = (Inbox::default(), FreeLists::<Vec<u8>>::default());
/// let mut input = &b"all of it"[..];
/// let message = inbox.next(&Raw, &mut input, &mut free_lists)?.expect("there are bytes");
/// assert_eq!(&message[..], b"all of it");
/// # Ok::<(), raon_session::FramingError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Raw;

impl Framing for Raw {
    type Head = ();

    #[inline]
    fn decode(&self, input: &[u8], _scanned: usize) -> Result<Decoded<()>, FramingError> {
        Ok(Decoded::Frame { head: (), body: 0..input.len(), length: input.len() })
    }

    #[inline]
    fn check(&self, _head: (), body: &[u8]) -> Result<(), EncodeError> {
        if body.is_empty() {
            return Err(EncodeError::Empty);
        }
        EncodeError::check_limit(body.len(), self.message_bytes_max())
    }

    #[inline]
    fn message_bytes_max(&self) -> usize {
        FRAME_BYTES_CEILING as usize
    }
}
