//! Errors of a frame that came, and of a message that should go.

use std::fmt;

/// Why bytes that came are no frame. Ends the session: what follows in the stream cannot be trusted.
///
/// ```
/// use raon_session::{Framing, FramingError, Packet};
/// let error = Packet::new().decode(&[0xff, 0xff, 1, 0], 0).unwrap_err();
/// assert_eq!(error, FramingError::TooLong { announced_bytes: 65_535, limit_bytes: 4096 });
/// assert_eq!(error.to_string(), "a frame of 65535 bytes is announced, 4096 are allowed");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FramingError {
    /// The frame is announced, or has grown, beyond the limit.
    TooLong {
        /// Length of the whole frame in bytes, as far as it is known; at most `u32::MAX`.
        announced_bytes: u32,
        /// The limit that it breaks, in bytes.
        limit_bytes: u32,
    },
    /// The announced size counts the header and is smaller than it.
    TooShort {
        /// The announced size in bytes.
        announced_bytes: u32,
        /// Length of the header in bytes.
        header_bytes: u32,
    },
    /// So many bytes have come without a delimiter.
    Unended {
        /// The limit of a whole frame, delimiter included, in bytes.
        limit_bytes: u32,
    },
    /// For framings of one's own: whatever else is wrong, with a code of one's own.
    Malformed {
        /// Says what.
        code: u16,
    },
    /// The framing itself gave a frame that does not lie in its bytes, or none where it promised one. A bug in a framing
    /// of one's own; those of this crate never give it.
    Inconsistent,
}

impl FramingError {
    /// `TooLong` for a whole frame of so many bytes.
    #[cold]
    pub fn too_long(announced_bytes: u64, limit_bytes: usize) -> Self {
        FramingError::TooLong {
            announced_bytes: u32::try_from(announced_bytes).unwrap_or(u32::MAX),
            limit_bytes: u32::try_from(limit_bytes).unwrap_or(u32::MAX),
        }
    }
}

impl fmt::Display for FramingError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FramingError::TooLong { announced_bytes, limit_bytes } => {
                write!(out, "a frame of {announced_bytes} bytes is announced, {limit_bytes} are allowed")
            }
            FramingError::TooShort { announced_bytes, header_bytes } => {
                write!(out, "a frame of {announced_bytes} bytes is announced, its header alone has {header_bytes}")
            }
            FramingError::Unended { limit_bytes } => {
                write!(out, "no delimiter in {limit_bytes} bytes, which a whole frame may have")
            }
            FramingError::Malformed { code } => write!(out, "not a frame (code {code} of the framing)"),
            FramingError::Inconsistent => out.write_str("the framing contradicts itself; correct its decode"),
        }
    }
}

impl std::error::Error for FramingError {}

/// Why a message cannot be framed. Nothing is sent, and the session goes on.
///
/// ```
/// use raon_session::{EncodeError, Fixed, Framing};
/// let error = Fixed::new(8).check((), b"short").unwrap_err();
/// assert_eq!(error, EncodeError::WrongLength { body_bytes: 5, fixed_bytes: 8 });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum EncodeError {
    /// The whole frame would be longer than the limit, or than its length field can say.
    TooLong {
        /// Length of the whole frame in bytes.
        frame_bytes: u32,
        /// The limit in bytes.
        limit_bytes: u32,
    },
    /// Every body has one length here, and this has another.
    WrongLength {
        /// Length of the body in bytes.
        body_bytes: u32,
        /// The length that all bodies have, in bytes.
        fixed_bytes: u32,
    },
    /// The body contains the delimiter, or its end and the delimiter together do so early: the other end would cut it
    /// there.
    DelimiterInside {
        /// Where the delimiter begins, in bytes from the body's start.
        at: u32,
    },
    /// An empty message would leave no trace in the stream.
    Empty,
    /// For framings of one's own: whatever else is wrong, with a code of one's own.
    Unencodable {
        /// Says what.
        code: u16,
    },
}

impl EncodeError {
    /// `TooLong` if a whole frame of `frame_bytes` is over `limit_bytes`.
    #[inline]
    pub fn check_limit(frame_bytes: usize, limit_bytes: usize) -> Result<(), Self> {
        if frame_bytes <= limit_bytes { Ok(()) } else { Err(Self::too_long(frame_bytes, limit_bytes)) }
    }

    #[cold]
    fn too_long(frame_bytes: usize, limit_bytes: usize) -> Self {
        EncodeError::TooLong { frame_bytes: saturated(frame_bytes), limit_bytes: saturated(limit_bytes) }
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EncodeError::TooLong { frame_bytes, limit_bytes } => {
                write!(out, "the frame would have {frame_bytes} bytes, {limit_bytes} are allowed; split the message")
            }
            EncodeError::WrongLength { body_bytes, fixed_bytes } => {
                write!(out, "the body has {body_bytes} bytes, every body must have {fixed_bytes}")
            }
            EncodeError::DelimiterInside { at } => {
                write!(out, "the body contains the delimiter at byte {at}; escape it")
            }
            EncodeError::Empty => out.write_str("an empty message cannot be told from none; send at least one byte"),
            EncodeError::Unencodable { code } => write!(out, "not a message of this framing (code {code})"),
        }
    }
}

impl std::error::Error for EncodeError {}

pub(super) fn saturated(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
