//! The way in: what is copied and what is not, how much memory it takes, and what happens to the memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use raon_session::{
    ByteOrder, Decoded, Delimiter, EncodeError, Framing, FramingError, FreeLists, Inbox, LengthPrefix, LengthWidth,
    Packet, PacketHead,
};

type SpareMemory = FreeLists<Vec<u8>>;

fn packet(body: &[u8]) -> Vec<u8> {
    let mut frame = ((body.len() + 4) as u16).to_le_bytes().to_vec();
    frame.extend_from_slice(&[1, 0]);
    frame.extend_from_slice(body);
    frame
}

fn is_inside(part: &[u8], whole: &[u8]) -> bool {
    whole.as_ptr_range().contains(&part.as_ptr())
}

//= FRAME-2
#[test]
fn whole_frames_are_handed_over_where_they_lie() {
    let buffer: Vec<u8> = (1..=16u8).flat_map(|number| packet(&[number; 60])).collect();
    let (mut inbox, mut free_lists, mut input) = (Inbox::default(), SpareMemory::default(), &buffer[..]);
    for number in 1..=16u8 {
        let message = inbox.next(&Packet::new(), &mut input, &mut free_lists).expect("good").expect("whole");
        assert_eq!(&message[..], [number; 60]);
        assert!(is_inside(&message, &buffer), "frame {number} was copied");
    }
    assert!(inbox.next(&Packet::new(), &mut input, &mut free_lists).expect("good").is_none());
    assert_eq!((inbox.charged_bytes(), free_lists.charged_bytes()), (0, 0), "no memory was taken");
}

//= FRAME-2
#[test]
fn only_the_cut_frame_is_copied() {
    let stream: Vec<u8> = (1..=6u8).flat_map(|number| packet(&[number; 60])).collect();
    let (first, second) = stream.split_at(100);
    let (mut inbox, mut free_lists) = (Inbox::default(), SpareMemory::default());
    let mut copied = Vec::new();
    for buffer in [first, second] {
        let mut input = buffer;
        while let Some(message) = inbox.next(&Packet::new(), &mut input, &mut free_lists).expect("good") {
            if !is_inside(&message, buffer) {
                copied.push(message[0]);
            }
        }
    }
    assert_eq!(copied, [2]);
    assert_eq!(inbox.charged_bytes(), 0, "the buffer went back");
    assert!(free_lists.charged_bytes() > 0);
}

//= FRAME-2
#[test]
fn memory_grows_with_what_came_and_not_with_what_was_announced() {
    let framing = LengthPrefix::new(LengthWidth::U32, ByteOrder::Big).with_limit(1 << 30);
    let (mut inbox, mut free_lists) = (Inbox::default(), SpareMemory::default());
    let header = ((1u32 << 29) + 1).to_be_bytes();
    assert!(inbox.next(&framing, &mut &header[..], &mut free_lists).expect("within the limit").is_none());
    assert!(inbox.charged_bytes() <= 16, "{} bytes for a header", inbox.charged_bytes());
    for _ in 0..100 {
        assert!(inbox.next(&framing, &mut &[7; 1000][..], &mut free_lists).expect("good").is_none());
    }
    assert_eq!(inbox.partial_bytes(), 100_004);
    assert!(inbox.charged_bytes() <= 2 * inbox.partial_bytes());
    inbox.clear(&mut free_lists);
    assert_eq!((inbox.charged_bytes(), inbox.partial_bytes()), (0, 0));
    assert_eq!(free_lists.charged_bytes(), 0, "so much is not kept");
}

//= FRAME-3
#[test]
fn what_is_too_long_takes_no_memory() {
    let (mut inbox, mut free_lists) = (Inbox::default(), SpareMemory::default());
    let framing = LengthPrefix::new(LengthWidth::U32, ByteOrder::Little);
    let error = inbox.next(&framing, &mut &[0, 0, 1, 0, 1, 1, 1][..], &mut free_lists).unwrap_err();
    assert_eq!(error, FramingError::TooLong { announced_bytes: 65_540, limit_bytes: 4096 });
    assert_eq!(inbox.charged_bytes(), 0);
    // The same when the length itself comes in pieces: only those are kept.
    assert!(inbox.next(&framing, &mut &[0, 0, 1][..], &mut free_lists).expect("not known yet").is_none());
    assert!(inbox.next(&framing, &mut &[0; 4000][..], &mut free_lists).is_err());
    assert!(inbox.charged_bytes() <= 16);
}

#[test]
fn a_warm_inbox_takes_its_memory_from_the_free_lists() {
    let (mut inbox, mut free_lists) = (Inbox::default(), SpareMemory::default());
    let mut kept = Vec::new();
    for _ in 0..10 {
        for part in [&packet(&[1; 500])[..200], &packet(&[1; 500])[200..]] {
            let mut input = part;
            while let Some(message) = inbox.next(&Packet::new(), &mut input, &mut free_lists).expect("good") {
                kept.push(message.as_ptr());
            }
        }
    }
    kept.dedup();
    assert_eq!(kept.len(), 1, "each frame was assembled in the same memory");
}

#[test]
fn a_prefix_in_single_bytes_is_completed_alone() {
    let stream = [packet(b"one"), packet(b"two")].concat();
    let (mut inbox, mut free_lists) = (Inbox::default(), SpareMemory::default());
    assert!(inbox.next(&Packet::new(), &mut &stream[..1], &mut free_lists).expect("good").is_none());
    let mut input = &stream[1..];
    let first = inbox.next(&Packet::new(), &mut input, &mut free_lists).expect("good").expect("whole");
    assert_eq!(&first[..], b"one");
    assert_eq!(input, packet(b"two"), "not a byte more is used up");
}

#[test]
fn a_line_that_ends_in_the_next_buffer_leaves_what_follows() {
    let (mut inbox, mut free_lists) = (Inbox::default(), SpareMemory::default());
    assert!(inbox.next(&Delimiter::line(), &mut &b"hel"[..], &mut free_lists).expect("good").is_none());
    let buffer = b"lo\nworld\n!".to_vec();
    let mut input = &buffer[..];
    let line = inbox.next(&Delimiter::line(), &mut input, &mut free_lists).expect("good").expect("whole");
    assert_eq!((&line[..], input), (&b"hello"[..], &b"world\n!"[..]));
    let line = inbox.next(&Delimiter::line(), &mut input, &mut free_lists).expect("good").expect("whole");
    assert!(&line[..] == b"world" && is_inside(&line, &buffer));
    assert!(inbox.next(&Delimiter::line(), &mut input, &mut free_lists).expect("good").is_none());
    assert_eq!(inbox.partial_bytes(), 1);
}

/// Says what it was told to say.
#[derive(Clone)]
struct Liar(Decoded<()>, usize);

impl Framing for Liar {
    type Head = ();

    fn decode(&self, _input: &[u8], _scanned: usize) -> Result<Decoded<()>, FramingError> {
        Ok(self.0.clone())
    }

    fn check(&self, _head: (), _body: &[u8]) -> Result<(), EncodeError> {
        Ok(())
    }

    fn message_bytes_max(&self) -> usize {
        self.1
    }
}

//= FRAME-3
#[test]
fn a_framing_that_contradicts_itself_is_an_error_and_no_panic() {
    let lies = [
        Decoded::Frame { head: (), body: 0..1, length: 0 },
        Decoded::Frame { head: (), body: 0..1, length: 5 },
        Decoded::Frame { head: (), body: 2..9, length: 4 },
        Decoded::Frame { head: (), body: 1..4, length: 3 },
        Decoded::Incomplete { length: Some(4), scanned: 0 },
        Decoded::Incomplete { length: None, scanned: 5 },
    ];
    for lie in lies {
        let (mut inbox, mut free_lists) = (Inbox::default(), SpareMemory::default());
        let result = inbox.next(&Liar(lie.clone(), 100), &mut &b"abcd"[..], &mut free_lists).map(|_| ());
        assert_eq!(result, Err(FramingError::Inconsistent), "{lie:?}");
        // The same while a frame is begun.
        let honest = Liar(Decoded::Incomplete { length: None, scanned: 0 }, 100);
        let mut inbox = Inbox::default();
        assert!(inbox.next(&honest, &mut &b"ab"[..], &mut free_lists).expect("honest").is_none());
        let result = inbox.next(&Liar(lie.clone(), 100), &mut &b"cd"[..], &mut free_lists).map(|_| ());
        assert_eq!(result, Err(FramingError::Inconsistent), "{lie:?}, assembled");
    }
}

/// Notes how much was looked at.
#[derive(Clone, Default)]
struct Noting(Arc<AtomicUsize>);

impl Framing for Noting {
    type Head = PacketHead;

    fn decode(&self, input: &[u8], scanned: usize) -> Result<Decoded<PacketHead>, FramingError> {
        self.0.fetch_max(input.len(), Ordering::Relaxed);
        Packet::new().decode(input, scanned)
    }

    fn prefix_bytes(&self) -> usize {
        Packet::new().prefix_bytes()
    }

    fn check(&self, head: PacketHead, body: &[u8]) -> Result<(), EncodeError> {
        Packet::new().check(head, body)
    }

    fn message_bytes_max(&self) -> usize {
        Packet::new().message_bytes_max()
    }
}

//= FRAME-2
#[test]
fn of_a_begun_frame_not_a_byte_too_many_is_copied() {
    let stream = [packet(&[1; 100]), packet(&[2; 100])].concat();
    for first in 1..104 {
        let (framing, mut inbox, mut free_lists) = (Noting::default(), Inbox::default(), SpareMemory::default());
        assert!(inbox.next(&framing, &mut &stream[..first], &mut free_lists).expect("good").is_none());
        let mut input = &stream[first..];
        assert_eq!(inbox.next(&framing, &mut input, &mut free_lists).expect("good").map(|body| body.len()), Some(100));
        assert_eq!(framing.0.load(Ordering::Relaxed), 104, "cut at {first}");
        assert_eq!(input.len(), 104);
    }
}

//= FRAME-3
#[test]
fn a_framing_without_a_limit_of_its_own_meets_one() {
    let endless = Liar(Decoded::Incomplete { length: None, scanned: 0 }, 1000);
    let (mut inbox, mut free_lists) = (Inbox::default(), SpareMemory::default());
    let mut taken = 0;
    let error = loop {
        match inbox.next(&endless, &mut &[0; 300][..], &mut free_lists) {
            Ok(_) => taken += 300,
            Err(error) => break error,
        }
    };
    assert_eq!(taken, 900);
    assert!(matches!(error, FramingError::TooLong { limit_bytes: 1000, .. }), "{error}");
}
