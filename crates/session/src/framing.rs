//! Framing: where in a stream of bytes a message begins and ends, and what else its frame says of it.
//!
//! A frame is prefix, body and suffix. The prefix may carry a head beside the length (a message's id, for example); the
//! body is what the application sees. A [`Framing`] looks at bytes and writes bytes, and keeps nothing: what has arrived
//! so far is the [`Inbox`](crate::Inbox)'s business.

mod chunk;
mod delimiter;
mod encode;
mod error;
mod fixed;
mod length;
mod message;
mod packet;
mod raw;
mod writer;

use std::ops::Range;

pub use chunk::Chunk;
pub use delimiter::{DELIMITER_BYTES_MAX, Delimiter};
pub(crate) use encode::Layout;
pub use encode::{encode, encode_with, write_body};
pub use error::{EncodeError, FramingError};
pub use fixed::Fixed;
pub use length::{ByteOrder, LengthPrefix, LengthWidth};
pub use message::Message;
pub use packet::{PACKET_HEADER_BYTES, Packet, PacketHead};
pub use raw::Raw;
pub use writer::BodyWriter;

/// The longest frame, in bytes, that any limit may allow: 1 GiB. Sums of a few such lengths stay far from overflow.
pub const FRAME_BYTES_CEILING: u32 = 1 << 30;

/// The limit of a whole frame, in bytes, unless another one is set: one ordinary receive buffer of the driver.
pub const FRAME_BYTES_MAX_DEFAULT: u32 = 4096;

/// Framing: how messages lie in the stream.
///
/// Write one's own by saying how a frame is found and how its prefix is written:
///
/// ```
/// use raon_session::{Decoded, EncodeError, Framing, FramingError};
/// /// One byte of length, then the body.
/// #[derive(Clone)]
/// struct Short;
/// impl Framing for Short {
///     type Head = ();
///     fn decode(&self, input: &[u8], _scanned: usize) -> Result<Decoded<()>, FramingError> {
///         let Some(body) = input.first() else {
///             return Ok(Decoded::Incomplete { length: None, scanned: 0 });
///         };
///         let length = 1 + usize::from(*body);
///         if input.len() < length {
///             return Ok(Decoded::Incomplete { length: Some(length), scanned: 0 });
///         }
///         Ok(Decoded::Frame { head: (), body: 1..length, length })
///     }
///     fn prefix_bytes(&self) -> usize {
///         1
///     }
///     fn write_prefix(&self, _head: (), body_bytes: usize, out: &mut [u8]) {
///         out[0] = body_bytes as u8;
///     }
///     fn check(&self, _head: (), body: &[u8]) -> Result<(), EncodeError> {
///         EncodeError::check_limit(body.len() + 1, self.message_bytes_max())
///     }
///     fn message_bytes_max(&self) -> usize {
///         256
///     }
/// }
/// assert_eq!(raon_session::encode(&Short, (), b"hi")?, &b"\x02hi"[..]);
/// # Ok::<(), EncodeError>(())
/// ```
pub trait Framing: Clone + Send + 'static {
    /// Head of a message: what its frame says beside the length; `()` if nothing.
    type Head: Copy + Send + 'static;

    /// The first frame in `input`, which is not empty. In its first `scanned` bytes a frame's end was looked for before in
    /// vain: what the last `Incomplete` for the same frame said, else 0.
    ///
    /// Errors end the session. A length over the limit is an error as soon as it is known, so that nobody makes room
    /// for it.
    fn decode(&self, input: &[u8], scanned: usize) -> Result<Decoded<Self::Head>, FramingError>;

    /// Bytes before the body, the same for every message.
    #[inline]
    fn prefix_bytes(&self) -> usize {
        0
    }

    /// Bytes after the body, the same for every message.
    #[inline]
    fn suffix_bytes(&self) -> usize {
        0
    }

    /// Writes the prefix of a message that `check` lets pass to `out`, which is `prefix_bytes` long and zeroed.
    #[inline]
    fn write_prefix(&self, _head: Self::Head, _body_bytes: usize, _out: &mut [u8]) {}

    /// Writes the suffix to `out`, which is `suffix_bytes` long and zeroed.
    #[inline]
    fn write_suffix(&self, _out: &mut [u8]) {}

    /// Whether the other end could read such a message: neither too long, nor of a wrong length, nor with a delimiter
    /// inside.
    fn check(&self, head: Self::Head, body: &[u8]) -> Result<(), EncodeError>;

    /// The longest whole frame, in bytes: prefix, body and suffix.
    fn message_bytes_max(&self) -> usize;
}

/// Result of decoding: what a [`Framing`] finds at the beginning of the bytes that are there.
///
/// ```
/// use raon_session::{Decoded, Framing, Packet, PacketHead};
/// let found = Packet::new().decode(&[6, 0, 3, 0, 7, 8, 99], 0)?;
/// assert_eq!(found, Decoded::Frame { head: PacketHead { id: 3 }, body: 4..6, length: 6 });
/// # Ok::<(), raon_session::FramingError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decoded<H> {
    /// A whole frame.
    Frame {
        /// Head of the message.
        head: H,
        /// Where the body lies.
        body: Range<usize>,
        /// Length of the whole frame in bytes, at least 1: the next frame begins there.
        length: usize,
    },
    /// Not a whole frame yet.
    Incomplete {
        /// Length of the whole frame in bytes, if it is known already; more than there is.
        length: Option<usize>,
        /// Bytes in which a frame's end has been looked for in vain; handed in again with the next try.
        scanned: usize,
    },
}
