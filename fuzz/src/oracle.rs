//! Plain readings of the framings: slow, obvious, and of a whole stream at once. What the real ones are compared with,
//! by the fuzz targets and by the tests of `raon-session`.

use raon_session::{FRAME_BYTES_CEILING, Framing, FramingError, FreeLists, Inbox, PACKET_HEADER_BYTES};

/// What a stream means: its messages with their ids (0 where there are none), and what is wrong after them.
#[derive(PartialEq, Eq, Debug, Default)]
pub struct Reading {
    pub messages: Vec<(u16, Vec<u8>)>,
    pub error: Option<FramingError>,
}

/// What an inbox makes of the stream when it comes in buffers of these lengths, again and again from the first.
pub fn play<F: Framing>(framing: &F, id: impl Fn(F::Head) -> u16, stream: &[u8], lengths: &[usize]) -> Reading {
    let (mut inbox, mut free_lists, mut reading) =
        (Inbox::default(), FreeLists::<Vec<u8>>::default(), Reading::default());
    let mut lengths = lengths.iter().cycle();
    let mut rest = stream;
    while !rest.is_empty() {
        let (mut input, after) = rest.split_at(lengths.next().map_or(rest.len(), |length| (*length).min(rest.len())));
        rest = after;
        loop {
            match inbox.next(framing, &mut input, &mut free_lists) {
                Ok(Some(message)) => reading.messages.push((id(message.head()), message.to_vec())),
                Ok(None) => break,
                Err(error) => {
                    reading.error = Some(error);
                    return reading;
                }
            }
        }
        assert!(input.is_empty(), "{} bytes of a buffer are left", input.len());
        // Twice what has arrived, with one step of a look-ahead; or what a spare buffer may have.
        let bound = (2 * (inbox.partial_bytes() + 256) + 8).max(8192);
        assert!(inbox.charged_bytes() <= bound, "{} bytes for {inbox:?}", inbox.charged_bytes());
    }
    reading
}

/// Packets, as written down: `u16` size with the header, `u16` id.
pub fn read_packets(mut stream: &[u8], limit: u32) -> Reading {
    let mut reading = Reading::default();
    while stream.len() >= 2 {
        let size = u32::from(u16::from_le_bytes([stream[0], stream[1]]));
        let header_bytes = PACKET_HEADER_BYTES as u32;
        if let Some(error) = flaw(u64::from(size), size, header_bytes, limit) {
            reading.error = Some(error);
            break;
        }
        if stream.len() < size as usize {
            break;
        }
        let id = u16::from_le_bytes([stream[2], stream[3]]);
        reading.messages.push((id, stream[PACKET_HEADER_BYTES..size as usize].to_vec()));
        stream = &stream[size as usize..];
    }
    reading
}

/// A length of two or four bytes before each body.
pub fn read_lengths(mut stream: &[u8], header: usize, is_big: bool, is_counted: bool, limit: u32) -> Reading {
    let mut reading = Reading::default();
    while stream.len() >= header {
        let mut field = stream[..header].to_vec();
        if is_big {
            field.reverse();
        }
        let announced = field.iter().rev().fold(0u32, |number, byte| number << 8 | u32::from(*byte));
        let length = u64::from(announced) + if is_counted { 0 } else { header as u64 };
        if let Some(error) = flaw(length, announced, header as u32, limit) {
            reading.error = Some(error);
            break;
        }
        if (stream.len() as u64) < length {
            break;
        }
        reading.messages.push((0, stream[header..length as usize].to_vec()));
        stream = &stream[length as usize..];
    }
    reading
}

/// Bodies up to the first delimiter, then up to the next.
pub fn read_delimited(mut stream: &[u8], delimiter: &[u8], limit: u32) -> Reading {
    let mut reading = Reading::default();
    loop {
        let most = stream.len().min(limit as usize);
        let Some(end) = (delimiter.len()..=most).find(|end| stream[..*end].ends_with(delimiter)) else {
            if stream.len() >= limit as usize {
                reading.error = Some(FramingError::Unended { limit_bytes: limit });
            }
            return reading;
        };
        reading.messages.push((0, stream[..end - delimiter.len()].to_vec()));
        stream = &stream[end..];
    }
}

/// Bodies of one length.
pub fn read_fixed(stream: &[u8], length: usize) -> Reading {
    Reading { messages: stream.chunks_exact(length).map(|body| (0, body.to_vec())).collect(), error: None }
}

fn flaw(length: u64, announced_bytes: u32, header_bytes: u32, limit_bytes: u32) -> Option<FramingError> {
    assert!(limit_bytes <= FRAME_BYTES_CEILING);
    if length < u64::from(header_bytes) {
        return Some(FramingError::TooShort { announced_bytes, header_bytes });
    }
    let announced_bytes = length.min(u64::from(u32::MAX)) as u32;
    (length > u64::from(limit_bytes)).then_some(FramingError::TooLong { announced_bytes, limit_bytes })
}
