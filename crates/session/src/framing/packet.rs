//! The `packet` preset: a size, an id, a body.

use super::{Decoded, EncodeError, FRAME_BYTES_MAX_DEFAULT, Framing, FramingError};

/// Length of a packet's header in bytes: two of size, two of id.
pub const PACKET_HEADER_BYTES: usize = 4;

/// Little endian: `u16` size of the whole packet, header included, `u16` id, then the body.
///
/// The limit is 4,096 bytes for a whole packet unless another one is set.
///
/// ```
/// use raon_session::{Inbox, Packet, FreeLists};
/// let (mut inbox, mut free_lists) = (Inbox::default(), FreeLists::<Vec<u8>>::default());
/// let mut input = &[6, 0, 3, 0, b'h', b'i'][..];
/// let message = inbox.next(&Packet::new(), &mut input, &mut free_lists)?.expect("a whole packet");
/// assert_eq!((message.head().id, &message[..]), (3, &b"hi"[..]));
/// # Ok::<(), raon_session::FramingError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    bytes_max: u32,
}

/// Head of a packet.
///
/// ```
/// use raon_session::PacketHead;
/// assert_eq!(PacketHead::from(7).id, 7);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PacketHead {
    /// Which kind of message it is.
    pub id: u16,
}

impl From<u16> for PacketHead {
    #[inline]
    fn from(id: u16) -> Self {
        PacketHead { id }
    }
}

impl Packet {
    /// With a limit of 4,096 bytes for a whole packet.
    pub const fn new() -> Self {
        Packet { bytes_max: FRAME_BYTES_MAX_DEFAULT }
    }

    /// With another limit for a whole packet: from its header's 4 bytes to 65,535, the most that the size can say.
    pub const fn with_limit(bytes_max: u32) -> Self {
        let bytes_max = if bytes_max > u16::MAX as u32 { u16::MAX as u32 } else { bytes_max };
        let least = PACKET_HEADER_BYTES as u32;
        Packet { bytes_max: if bytes_max < least { least } else { bytes_max } }
    }

    #[cold]
    fn out_of_range(&self, size: usize) -> FramingError {
        if size < PACKET_HEADER_BYTES {
            return FramingError::TooShort { announced_bytes: size as u32, header_bytes: PACKET_HEADER_BYTES as u32 };
        }
        FramingError::too_long(size as u64, self.bytes_max as usize)
    }
}

impl Default for Packet {
    fn default() -> Self {
        Packet::new()
    }
}

impl Framing for Packet {
    type Head = PacketHead;

    //= FRAME-3
    #[inline]
    fn decode(&self, input: &[u8], _scanned: usize) -> Result<Decoded<PacketHead>, FramingError> {
        // The size alone may come first: a bad one is told at once.
        let Some(size) = input.first_chunk::<2>() else {
            return Ok(Decoded::Incomplete { length: None, scanned: 0 });
        };
        let size = usize::from(u16::from_le_bytes(*size));
        if size < PACKET_HEADER_BYTES || size > self.bytes_max as usize {
            return Err(self.out_of_range(size));
        }
        match input {
            [_, _, low, high, ..] if input.len() >= size => {
                let head = PacketHead { id: u16::from_le_bytes([*low, *high]) };
                Ok(Decoded::Frame { head, body: PACKET_HEADER_BYTES..size, length: size })
            }
            _ => Ok(Decoded::Incomplete { length: Some(size), scanned: 0 }),
        }
    }

    #[inline]
    fn prefix_bytes(&self) -> usize {
        PACKET_HEADER_BYTES
    }

    #[inline]
    fn write_prefix(&self, head: PacketHead, body_bytes: usize, out: &mut [u8]) {
        let [size_low, size_high] = ((body_bytes + PACKET_HEADER_BYTES) as u16).to_le_bytes();
        let [id_low, id_high] = head.id.to_le_bytes();
        out.copy_from_slice(&[size_low, size_high, id_low, id_high]);
    }

    #[inline]
    fn check(&self, _head: PacketHead, body: &[u8]) -> Result<(), EncodeError> {
        EncodeError::check_limit(body.len() + PACKET_HEADER_BYTES, self.bytes_max as usize)
    }

    #[inline]
    fn message_bytes_max(&self) -> usize {
        self.bytes_max as usize
    }
}
