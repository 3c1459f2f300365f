//! A frame by itself, for those who share one among many sessions.

use bytes::Bytes;

use super::{EncodeError, Framing};

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
    let (prefix, suffix) = (framing.prefix_bytes(), framing.suffix_bytes());
    let mut frame = vec![0; prefix + body.len() + suffix];
    write(framing, head, body, &mut frame);
    Ok(frame.into())
}

/// Writes prefix, body and suffix to `out`, which is exactly as long as they are.
#[inline]
pub(crate) fn write<F: Framing>(framing: &F, head: F::Head, body: &[u8], out: &mut [u8]) {
    let prefix = framing.prefix_bytes();
    let (before, rest) = out.split_at_mut(prefix);
    let (middle, after) = rest.split_at_mut(body.len());
    framing.write_prefix(head, body.len(), before);
    middle.copy_from_slice(body);
    framing.write_suffix(after);
}
