//! The framings one by one: limits, odd sizes, what cannot be framed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use raon_session::{
    ByteOrder, Decoded, Delimiter, EncodeError, FRAME_BYTES_CEILING, Fixed, Framing, FramingError, FreeLists, Inbox,
    LengthPrefix, LengthWidth, Packet, PacketHead, Raw, encode,
};

const FRAMINGS: [(LengthWidth, ByteOrder, bool); 8] = [
    (LengthWidth::U16, ByteOrder::Little, false),
    (LengthWidth::U16, ByteOrder::Little, true),
    (LengthWidth::U16, ByteOrder::Big, false),
    (LengthWidth::U16, ByteOrder::Big, true),
    (LengthWidth::U32, ByteOrder::Little, false),
    (LengthWidth::U32, ByteOrder::Little, true),
    (LengthWidth::U32, ByteOrder::Big, false),
    (LengthWidth::U32, ByteOrder::Big, true),
];

fn length_prefix((width, order, is_counted): (LengthWidth, ByteOrder, bool)) -> LengthPrefix {
    let framing = LengthPrefix::new(width, order);
    if is_counted { framing.header_counted() } else { framing }
}

#[test]
fn length_prefixes_look_as_they_should() {
    let expected: [&[u8]; 8] = [
        b"\x02\0hi",
        b"\x04\0hi",
        b"\0\x02hi",
        b"\0\x04hi",
        b"\x02\0\0\0hi",
        b"\x06\0\0\0hi",
        b"\0\0\0\x02hi",
        b"\0\0\0\x06hi",
    ];
    for (form, expected) in FRAMINGS.into_iter().zip(expected) {
        assert_eq!(encode(&length_prefix(form), (), b"hi").expect("short"), expected, "{form:?}");
    }
}

#[test]
fn empty_bodies_are_messages_where_a_frame_shows_them() {
    for form in FRAMINGS {
        let framing = length_prefix(form);
        let frame = encode(&framing, (), b"").expect("fits");
        let length = form.0.bytes();
        assert_eq!(framing.decode(&frame, 0), Ok(Decoded::Frame { head: (), body: length..length, length }));
    }
    let frame = encode(&Packet::new(), PacketHead { id: 258 }, b"").expect("fits");
    assert_eq!(frame, &[4, 0, 2, 1][..]);
    assert_eq!(Delimiter::line().decode(b"\n", 0), Ok(Decoded::Frame { head: (), body: 0..0, length: 1 }));
    assert_eq!(encode(&Raw, (), b""), Err(EncodeError::Empty));
}

//= FRAME-3
#[test]
fn a_size_smaller_than_its_own_header_is_malformed() {
    for size in 0..4u16 {
        let expected = FramingError::TooShort { announced_bytes: u32::from(size), header_bytes: 4 };
        assert_eq!(Packet::new().decode(&size.to_le_bytes(), 0), Err(expected));
        let wide = LengthPrefix::new(LengthWidth::U32, ByteOrder::Big).header_counted();
        assert_eq!(wide.decode(&u32::from(size).to_be_bytes(), 0), Err(expected));
    }
    let narrow = LengthPrefix::new(LengthWidth::U16, ByteOrder::Big).header_counted();
    for size in 0..2u16 {
        let expected = FramingError::TooShort { announced_bytes: u32::from(size), header_bytes: 2 };
        assert_eq!(narrow.decode(&size.to_be_bytes(), 0), Err(expected));
    }
    assert_eq!(narrow.decode(&[0, 2], 0), Ok(Decoded::Frame { head: (), body: 2..2, length: 2 }));
}

//= FRAME-3
#[test]
fn limits_are_of_whole_frames_on_both_ways() {
    for form in FRAMINGS {
        let framing = length_prefix(form).with_limit(100);
        let body = vec![1; 100 - form.0.bytes()];
        let frame = encode(&framing, (), &body).expect("exactly the limit");
        assert_eq!(frame.len(), 100);
        assert!(matches!(framing.decode(&frame, 0), Ok(Decoded::Frame { length: 100, .. })));
        let longer = encode(&framing.with_limit(101), (), &[&body[..], &[1]].concat()).expect("one more is allowed");
        let error = FramingError::TooLong { announced_bytes: 101, limit_bytes: 100 };
        assert_eq!(framing.decode(&longer[..form.0.bytes()], 0), Err(error), "the length alone shows it");
        let error = EncodeError::TooLong { frame_bytes: 101, limit_bytes: 100 };
        assert_eq!(framing.check((), &[&body[..], &[1]].concat()), Err(error));
    }
    let packet = Packet::with_limit(10);
    assert!(packet.check(PacketHead { id: 1 }, &[0; 6]).is_ok());
    assert!(packet.check(PacketHead { id: 1 }, &[0; 7]).is_err());
    assert!(packet.decode(&[11, 0], 0).is_err());
}

#[test]
fn limits_stay_within_what_a_frame_can_say() {
    let narrow = LengthPrefix::new(LengthWidth::U16, ByteOrder::Little);
    assert_eq!(narrow.with_limit(u32::MAX).message_bytes_max(), 65_537);
    assert_eq!(narrow.with_limit(u32::MAX).header_counted().message_bytes_max(), 65_535);
    assert_eq!(narrow.header_counted().with_limit(0).message_bytes_max(), 2);
    let wide = LengthPrefix::new(LengthWidth::U32, ByteOrder::Little).with_limit(u32::MAX);
    assert_eq!(wide.message_bytes_max(), FRAME_BYTES_CEILING as usize);
    assert_eq!(Packet::with_limit(1 << 20).message_bytes_max(), 65_535);
    assert_eq!(Packet::with_limit(0).message_bytes_max(), 4);
    assert_eq!(Delimiter::line().with_limit(0).message_bytes_max(), 1);
    assert_eq!(Fixed::new(0).message_bytes_max(), 1);
    // The longest that a two-byte length can say comes through both ways.
    let framing = narrow.with_limit(65_537);
    let frame = encode(&framing, (), &vec![7; 65_535]).expect("just sayable");
    assert_eq!(framing.decode(&frame, 0), Ok(Decoded::Frame { head: (), body: 2..65_537, length: 65_537 }));
}

//= FRAME-3
#[test]
fn an_announced_length_near_the_end_of_numbers_is_refused() {
    for form in [FRAMINGS[4], FRAMINGS[5], FRAMINGS[6], FRAMINGS[7]] {
        let framing = length_prefix(form).with_limit(u32::MAX);
        let error = FramingError::TooLong { announced_bytes: u32::MAX, limit_bytes: FRAME_BYTES_CEILING };
        assert_eq!(framing.decode(&[0xff; 8], 0), Err(error));
    }
}

#[test]
fn delimiters_have_one_to_sixteen_bytes() {
    assert_eq!(Delimiter::new(b""), Err(EncodeError::Empty));
    assert_eq!(Delimiter::new(&[1; 17]), Err(EncodeError::TooLong { frame_bytes: 17, limit_bytes: 16 }));
    assert!(Delimiter::new(&[1; 16]).is_ok());
    assert_eq!(Delimiter::line(), Delimiter::new(b"\n").expect("one byte"));
}

#[test]
fn a_delimiter_inside_is_refused_also_across_the_seam() {
    let inside = |delimiter: &[u8], body: &[u8]| Delimiter::new(delimiter).expect("short").check((), body);
    assert_eq!(inside(b"\r\n", b"ab\r\ncd"), Err(EncodeError::DelimiterInside { at: 2 }));
    assert_eq!(inside(b"\r\n", b"ab\r"), Ok(()));
    // `a` and the delimiter `aa` would be read as an empty message and an `a`.
    assert_eq!(inside(b"aa", b"a"), Err(EncodeError::DelimiterInside { at: 0 }));
    assert_eq!(inside(b"aba", b"xxab"), Err(EncodeError::DelimiterInside { at: 2 }));
    assert_eq!(inside(b"aab", b"xa"), Ok(()));
}

//= FRAME-3
#[test]
fn a_line_without_an_end_is_refused_at_the_limit() {
    let lines = Delimiter::new(b"\r\n").expect("short").with_limit(10);
    assert_eq!(lines.decode(b"12345678\r", 0), Ok(Decoded::Incomplete { length: None, scanned: 9 }));
    assert_eq!(lines.decode(b"12345678\r\n", 0), Ok(Decoded::Frame { head: (), body: 0..8, length: 10 }));
    assert_eq!(lines.decode(b"123456789\r\n", 0), Err(FramingError::Unended { limit_bytes: 10 }));
}

/// Counts the bytes that the framing inside looks at anew.
#[derive(Clone)]
struct Counting {
    inside: Delimiter,
    looked_at: Arc<AtomicUsize>,
}

impl Framing for Counting {
    type Head = ();

    fn decode(&self, input: &[u8], scanned: usize) -> Result<Decoded<()>, FramingError> {
        self.looked_at.fetch_add(input.len() - scanned, Ordering::Relaxed);
        self.inside.decode(input, scanned)
    }

    fn check(&self, head: (), body: &[u8]) -> Result<(), EncodeError> {
        self.inside.check(head, body)
    }

    fn message_bytes_max(&self) -> usize {
        self.inside.message_bytes_max()
    }
}

//= FRAME-2
#[test]
fn a_line_in_single_bytes_is_looked_through_once() {
    let framing = Counting { inside: Delimiter::line().with_limit(1 << 20), looked_at: Arc::default() };
    let (mut inbox, mut free_lists) = (Inbox::default(), FreeLists::<Vec<u8>>::default());
    for _ in 0..50_000 {
        assert!(inbox.next(&framing, &mut &b"x"[..], &mut free_lists).expect("no error").is_none());
    }
    let message = inbox.next(&framing, &mut &b"\n"[..], &mut free_lists).expect("no error");
    assert_eq!(message.map(|message| message.len()), Some(50_000));
    assert_eq!(framing.looked_at.load(Ordering::Relaxed), 50_001);
}

#[test]
fn errors_and_refusals_have_sentences() {
    let framing = [
        FramingError::TooLong { announced_bytes: 2, limit_bytes: 1 },
        FramingError::TooShort { announced_bytes: 1, header_bytes: 4 },
        FramingError::Unended { limit_bytes: 9 },
        FramingError::Malformed { code: 3 },
        FramingError::Inconsistent,
    ];
    let encode = [
        EncodeError::TooLong { frame_bytes: 2, limit_bytes: 1 },
        EncodeError::WrongLength { body_bytes: 1, fixed_bytes: 2 },
        EncodeError::DelimiterInside { at: 4 },
        EncodeError::Empty,
        EncodeError::Unencodable { code: 5 },
    ];
    let mut texts: Vec<String> = framing.iter().map(ToString::to_string).collect();
    texts.extend(encode.iter().map(ToString::to_string));
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), 10);
}
