//! The bodies of the framings' targets: bytes → a framing, a way to cut the stream, the stream. However it is cut, the
//! inbox must read what the oracle reads.

use raon_session::{ByteOrder, Delimiter, Fixed, Framing, LengthPrefix, LengthWidth, Packet, Raw};

use crate::oracle::{Reading, play, read_delimited, read_fixed, read_lengths, read_packets};

/// `LengthPrefix`: a byte of flags, two of limit, the plan, the stream.
pub fn length(data: &[u8]) {
    let Some((&[flags, low, high], data)) = data.split_first_chunk::<3>() else {
        return;
    };
    let (is_wide, is_big, is_counted) = (flags & 1 > 0, flags & 2 > 0, flags & 4 > 0);
    let width = if is_wide { LengthWidth::U32 } else { LengthWidth::U16 };
    let order = if is_big { ByteOrder::Big } else { ByteOrder::Little };
    let plain = LengthPrefix::new(width, order).with_limit(u32::from(u16::from_le_bytes([low, high])));
    let framing = if is_counted { plain.header_counted() } else { plain };
    let (lengths, stream) = plan(data);
    let limit = framing.message_bytes_max() as u32;
    let expected = read_lengths(stream, width.bytes(), is_big, is_counted, limit);
    compare(&framing, |()| 0, stream, &lengths, &expected);
}

/// `Packet`: two bytes of limit, the plan, the stream.
pub fn packet(data: &[u8]) {
    let Some((&[low, high], data)) = data.split_first_chunk::<2>() else {
        return;
    };
    let framing = Packet::with_limit(u32::from(u16::from_le_bytes([low, high])));
    let (lengths, stream) = plan(data);
    let expected = read_packets(stream, framing.message_bytes_max() as u32);
    compare(&framing, |head| head.id, stream, &lengths, &expected);
}

/// `Delimiter`: a byte of its length, two of limit, the delimiter, the plan, the stream.
pub fn delimiter(data: &[u8]) {
    let Some((&[length, low, high], data)) = data.split_first_chunk::<3>() else {
        return;
    };
    let Some((delimiter, data)) = data.split_at_checked(usize::from(length % 18)) else {
        return;
    };
    let Ok(framing) = Delimiter::new(delimiter) else {
        assert!(delimiter.is_empty() || delimiter.len() > 16);
        return;
    };
    let framing = framing.with_limit(u32::from(u16::from_le_bytes([low, high])));
    let (lengths, stream) = plan(data);
    let expected = read_delimited(stream, delimiter, framing.message_bytes_max() as u32);
    compare(&framing, |()| 0, stream, &lengths, &expected);
}

/// `Fixed`: a byte of length, the plan, the stream.
pub fn fixed(data: &[u8]) {
    let Some((&length, data)) = data.split_first() else {
        return;
    };
    let framing = Fixed::new(u32::from(length));
    let (lengths, stream) = plan(data);
    compare(&framing, |()| 0, stream, &lengths, &read_fixed(stream, framing.message_bytes_max()));
}

/// `Raw`: the plan, the stream. What comes is what was sent, wherever it is cut.
pub fn raw(data: &[u8]) {
    let (lengths, stream) = plan(data);
    let reading = play(&Raw, |()| 0, stream, &lengths);
    assert_eq!(reading.error, None);
    assert!(reading.messages.iter().all(|(_, body)| !body.is_empty()));
    assert_eq!(reading.messages.into_iter().flat_map(|(_, body)| body).collect::<Vec<_>>(), stream);
}

/// Lengths of buffers (a count below 16, then one byte each), and what is left of the data.
fn plan(data: &[u8]) -> (Vec<usize>, &[u8]) {
    let Some((count, data)) = data.split_first() else {
        return (Vec::new(), data);
    };
    let (lengths, stream) = data.split_at(usize::from(count % 16).min(data.len()));
    (lengths.iter().map(|length| 1 + usize::from(*length)).collect(), stream)
}

fn compare<F: Framing>(framing: &F, id: impl Fn(F::Head) -> u16, stream: &[u8], lengths: &[usize], expected: &Reading) {
    assert_eq!(&play(framing, &id, stream, lengths), expected, "cut to {lengths:?}");
    assert_eq!(&play(framing, &id, stream, &[]), expected, "in one buffer");
    assert_eq!(&play(framing, &id, stream, &[1]), expected, "byte by byte");
}
