//! The way out, case by case. That order and bounds hold in any sequence is shown in `fuzz_targets.rs`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use raon_session::{
    COPY_BYTES_MAX, Chunk, ChunkAllocator, ChunkRequest, Delimiter, EncodeError, Fixed, FreeLists, HeapAllocator,
    Outbox, OutboxLimits, Packet, PacketHead, Piece, Pressure, Raw, Refusal, SendOutcome, SlowConsumer, encode,
};

type Pieces = Vec<Piece<Vec<u8>>>;

const HEAD: PacketHead = PacketHead { id: 7 };

/// A heap that counts what it gives, and stops giving.
#[derive(Default)]
struct Counted {
    heap: HeapAllocator,
    requests: Vec<ChunkRequest>,
    is_empty: bool,
    /// What may still be handed over at the bound.
    reliefs: usize,
    handed_over: Pieces,
}

impl ChunkAllocator for Counted {
    type Chunk = Vec<u8>;

    fn chunk(&mut self, request: ChunkRequest) -> Option<Vec<u8>> {
        self.requests.push(request);
        if self.is_empty { None } else { self.heap.chunk(request) }
    }

    fn free_lists(&mut self) -> &mut FreeLists<Vec<u8>> {
        self.heap.free_lists()
    }

    fn on_full(&mut self, outbox: &mut Outbox<Vec<u8>>) {
        if self.reliefs > 0 {
            self.reliefs -= 1;
            self.handed_over.extend(std::iter::from_fn(|| outbox.take()));
        }
    }
}

fn small_limits(slow_consumer: SlowConsumer) -> OutboxLimits {
    OutboxLimits::default().with(|outbox| {
        outbox.bytes_max = 100;
        outbox.messages_max = 4;
        outbox.watermark_high_bytes = 50;
        outbox.watermark_low_bytes = 10;
        outbox.slow_consumer = slow_consumer;
    })
}

fn take_all(outbox: &mut Outbox<Vec<u8>>) -> Pieces {
    std::iter::from_fn(|| outbox.take()).collect()
}

fn stream(pieces: &[Piece<Vec<u8>>]) -> Vec<u8> {
    let bytes = pieces.iter().flat_map(|piece| match piece {
        Piece::Chunk(chunk) => chunk.iter(),
        Piece::Shared(bytes) => bytes.iter(),
    });
    bytes.copied().collect()
}

/// Droppable messages stay apart from now on.
fn hold(outbox: &mut Outbox<Vec<u8>>, limits: &OutboxLimits, allocator: &mut Counted) {
    outbox.append(&Raw, (), b"!", limits, allocator);
    outbox.settle(limits, allocator.free_lists());
    assert!(outbox.is_held());
}

#[test]
fn small_messages_share_a_chunk() {
    let (mut outbox, mut allocator, limits) = (Outbox::default(), Counted::default(), OutboxLimits::default());
    for _ in 0..60 {
        assert_eq!(outbox.append(&Packet::new(), HEAD, &[5; 60], &limits, &mut allocator), SendOutcome::Queued);
    }
    assert_eq!((outbox.messages(), outbox.bytes()), (60, 60 * 64));
    assert_eq!(allocator.requests, [ChunkRequest::Tail { bytes: 64 }]);
    let pieces = take_all(&mut outbox);
    assert_eq!(pieces.len(), 1);
    assert_eq!(stream(&pieces), encode(&Packet::new(), HEAD, &[5; 60]).expect("short").repeat(60));
    assert_eq!((outbox.messages(), outbox.bytes()), (0, 0));
}

#[test]
fn a_frame_is_never_split_over_chunks() {
    let (mut outbox, mut allocator, limits) = (Outbox::default(), Counted::default(), OutboxLimits::default());
    for length in [3000, 3000, 6000, 10] {
        let body = vec![length as u8; length];
        assert_eq!(outbox.append(&Raw, (), &body, &limits, &mut allocator), SendOutcome::Queued);
    }
    let lengths: Vec<usize> = take_all(&mut outbox).iter().map(Piece::len).collect();
    assert_eq!(lengths, [3000, 3000, 6000, 10]);
}

//= OUTBOX-1
#[test]
fn a_large_shared_body_goes_by_reference_behind_its_prefix() {
    let (mut outbox, mut allocator, limits) = (Outbox::default(), Counted::default(), OutboxLimits::default());
    let large = Bytes::from(vec![9; COPY_BYTES_MAX + 1]);
    outbox.append(&Packet::new(), HEAD, b"before", &limits, &mut allocator);
    assert_eq!(outbox.append_shared(&Packet::new(), HEAD, &large, &limits, &mut allocator), SendOutcome::Queued);
    outbox.append(&Packet::new(), HEAD, b"after", &limits, &mut allocator);
    assert_eq!(outbox.messages(), 3);
    let expected =
        [&b"before"[..], &large, b"after"].map(|body| encode(&Packet::new(), HEAD, body).expect("short")).concat();
    let pieces = take_all(&mut outbox);
    assert_eq!(stream(&pieces), expected);
    let [Piece::Chunk(first), Piece::Shared(body), Piece::Chunk(_)] = &pieces[..] else {
        panic!("{pieces:?}");
    };
    assert!(first.ends_with(&[5, 2, 7, 0]), "the prefix is in the chunk before it");
    assert_eq!(body.as_ptr(), large.as_ptr(), "not copied");
}

#[test]
fn a_prefix_alone_gets_a_chunk_of_its_length() {
    let (mut outbox, mut allocator, limits) = (Outbox::default(), Counted::default(), OutboxLimits::default());
    let large = Bytes::from(vec![9; 2000]);
    for _ in 0..3 {
        outbox.append_shared(&Packet::new(), HEAD, &large, &limits, &mut allocator);
    }
    assert_eq!(allocator.requests, [ChunkRequest::Exact { bytes: 4 }; 3]);
    assert_eq!(stream(&take_all(&mut outbox)), encode(&Packet::new(), HEAD, &large).expect("short").repeat(3));
}

#[test]
fn a_suffix_follows_a_shared_body() {
    let (mut outbox, mut allocator, limits) = (Outbox::default(), Counted::default(), OutboxLimits::default());
    let lines = Delimiter::new(b"\r\n").expect("short");
    let large = Bytes::from(vec![b'x'; 600]);
    for _ in 0..2 {
        outbox.append_shared(&lines, (), &large, &limits, &mut allocator);
        outbox.append(&lines, (), b"y", &limits, &mut allocator);
    }
    assert_eq!((outbox.messages(), outbox.bytes()), (4, 2 * (602 + 3)));
    let line = [&large[..], b"\r\ny\r\n"].concat();
    assert_eq!(stream(&take_all(&mut outbox)), line.repeat(2));
    assert_eq!((outbox.messages(), outbox.bytes()), (0, 0));
}

#[test]
fn shared_messages_up_to_512_bytes_are_copied() {
    let (mut outbox, mut allocator, limits) = (Outbox::default(), Counted::default(), OutboxLimits::default());
    let frame = Bytes::from(vec![1; COPY_BYTES_MAX]);
    outbox.append_frame(&frame, &limits, &mut allocator);
    outbox.append_shared(&Raw, (), &frame, &limits, &mut allocator);
    outbox.append_droppable(Some(1), &frame, &limits, &mut allocator);
    assert_eq!(take_all(&mut outbox), [Piece::Chunk(vec![1; 3 * COPY_BYTES_MAX])]);
    let longer = Bytes::from(vec![1; COPY_BYTES_MAX + 1]);
    outbox.append_frame(&longer, &limits, &mut allocator);
    assert_eq!(take_all(&mut outbox), [Piece::Shared(longer)]);
    assert_eq!(
        outbox.append_frame(&Bytes::new(), &limits, &mut allocator),
        SendOutcome::Refused(Refusal::Unencodable(EncodeError::Empty))
    );
}

//= OUTBOX-2
#[test]
fn the_bounds_hold_to_the_byte_and_to_the_message() {
    let (mut outbox, mut allocator, limits) =
        (Outbox::default(), Counted::default(), small_limits(SlowConsumer::Refuse));
    let mut append =
        |outbox: &mut Outbox<_>, length| outbox.append(&Raw, (), &[1; 101][..length], &limits, &mut allocator);
    assert_eq!(append(&mut outbox, 101), SendOutcome::Refused(Refusal::OutboxBytes));
    assert_eq!(append(&mut outbox, 60), SendOutcome::Queued);
    assert_eq!(append(&mut outbox, 41), SendOutcome::Refused(Refusal::OutboxBytes));
    assert_eq!(append(&mut outbox, 37), SendOutcome::Queued);
    assert_eq!((append(&mut outbox, 1), append(&mut outbox, 1)), (SendOutcome::Queued, SendOutcome::Queued));
    assert_eq!(append(&mut outbox, 1), SendOutcome::Refused(Refusal::OutboxMessages));
    assert_eq!((outbox.bytes(), outbox.messages()), (99, 4));
    take_all(&mut outbox);
    assert_eq!(append(&mut outbox, 100), SendOutcome::Queued);
}

#[test]
fn what_cannot_be_framed_is_refused_and_leaves_nothing() {
    let (mut outbox, mut allocator, limits) = (Outbox::default(), Counted::default(), OutboxLimits::default());
    let wrong = EncodeError::WrongLength { body_bytes: 3, fixed_bytes: 4 };
    let refused = SendOutcome::Refused(Refusal::Unencodable(wrong));
    assert_eq!(outbox.append(&Fixed::new(4), (), b"abc", &limits, &mut allocator), refused);
    let long = Bytes::from(vec![b'\n'; 600]);
    let inside = SendOutcome::Refused(EncodeError::DelimiterInside { at: 0 }.into());
    assert_eq!(outbox.append_shared(&Delimiter::line(), (), &long, &limits, &mut allocator), inside);
    let outcome =
        outbox.append_with(&Delimiter::line(), (), 9, &limits, &mut allocator, |body| body.put_repeated(b'\n', 9));
    assert_eq!(outcome, inside);
    assert!(outbox.is_empty() && outbox.take().is_none());
}

//= OUTBOX-5
#[test]
fn encoding_in_place_sends_what_it_wrote() {
    let (mut outbox, mut allocator, limits) = (Outbox::default(), Counted::default(), OutboxLimits::default());
    let outcome = outbox.append_with(&Packet::new(), HEAD, 100, &limits, &mut allocator, |body| {
        assert_eq!((body.remaining(), body.len(), body.is_empty()), (100, 0, true));
        body.put_u8(0);
        body.put(b"bc");
        body.written_mut()[0] = b'a';
        assert_eq!((body.written(), body.remaining(), body.is_over()), (&b"abc"[..], 97, false));
    });
    assert_eq!(outcome, SendOutcome::Queued);
    assert_eq!(stream(&take_all(&mut outbox)), b"\x07\0\x07\0abc");
    // As much as the framing allows, however much is asked for.
    let outcome = outbox.append_with(&Packet::new(), HEAD, usize::MAX, &limits, &mut allocator, |body| {
        assert_eq!(body.remaining(), 4092);
        body.put_repeated(b'x', 4092);
    });
    assert_eq!((outcome, outbox.bytes()), (SendOutcome::Queued, 4096));
}

//= OUTBOX-5
#[test]
fn a_body_longer_than_its_bound_is_refused_whole() {
    let (mut outbox, mut allocator, limits) = (Outbox::default(), Counted::default(), OutboxLimits::default());
    let too_long = |frame_bytes, limit_bytes| {
        SendOutcome::Refused(Refusal::Unencodable(EncodeError::TooLong { frame_bytes, limit_bytes }))
    };
    let outcome = outbox.append_with(&Packet::new(), HEAD, 2, &limits, &mut allocator, |body| {
        body.put(b"de");
        body.put(b"fgh");
        body.put(b"i");
        assert_eq!((body.written(), body.remaining(), body.is_over()), (&b"de"[..], 0, true));
    });
    assert_eq!(outcome, too_long(10, 6));
    let outcome = outbox.append_with(&Packet::new(), HEAD, 9, &limits, &mut allocator, |body| {
        body.put(b"long");
        assert!(std::io::Write::write(body, b"longer").is_err() && std::fmt::Write::write_str(body, "").is_err());
        body.put(b"x");
        assert_eq!((body.written(), body.remaining()), (&b"long"[..], 0), "what follows is not written either");
        body.put_repeated(0, usize::MAX);
    });
    assert_eq!(outcome, too_long(u32::MAX, 13));
    let outcome = outbox.append_with(&Packet::new(), HEAD, 5000, &limits, &mut allocator, |body| body.put(&[1; 4093]));
    assert_eq!(outcome, too_long(4097, 4096));
    let tight = limits.with(|outbox| outbox.bytes_max = 20);
    let outcome = outbox.append_with(&Packet::new(), HEAD, 50, &tight, &mut allocator, |body| body.put(&[1; 17]));
    assert_eq!(outcome, too_long(21, 20));
    assert!(outbox.is_empty() && outbox.messages() == 0 && outbox.take().is_none());
}

//= OUTBOX-2
#[test]
fn the_bounds_ask_for_what_was_written_and_not_for_what_was_meant() {
    let limits = small_limits(SlowConsumer::DropOldestDroppable);
    let (mut outbox, mut allocator) = (Outbox::default(), Counted::default());
    hold(&mut outbox, &limits, &mut allocator);
    outbox.append_droppable(None, &Bytes::from_static(&[1; 60]), &limits, &mut allocator);
    let outcome = outbox.append_with(&Raw, (), 100, &limits, &mut allocator, |body| body.put(&[2; 39]));
    assert_eq!((outcome, outbox.messages()), (SendOutcome::Queued, 3), "there is room beside the droppable one");
    // One that cannot go drops nothing, and what was written of it is gone.
    let outcome = outbox.append_with(&Raw, (), 100, &limits, &mut allocator, |body| body.put(&[3; 61]));
    assert_eq!((outcome, outbox.messages()), (SendOutcome::Refused(Refusal::OutboxBytes), 3));
    let outcome = outbox.append_with(&Raw, (), 100, &limits, &mut allocator, |body| body.put(&[4; 10]));
    assert_eq!((outcome, outbox.messages()), (SendOutcome::Queued, 3), "it makes room");
    let expected = [&[b'!'][..], &[2; 39], &[4; 10]].concat();
    assert_eq!(stream(&take_all(&mut outbox)), expected);
}

//= OUTBOX-1
#[test]
fn of_an_encoding_that_panics_nothing_is_sent() {
    let (mut outbox, mut allocator, limits) = (Outbox::default(), Counted::default(), OutboxLimits::default());
    outbox.append(&Packet::new(), HEAD, b"a", &limits, &mut allocator);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        outbox.append_with(&Packet::new(), HEAD, 50, &limits, &mut allocator, |body| {
            body.put_repeated(1, 50);
            panic!("on purpose")
        })
    }));
    assert!(panicked.is_err());
    outbox.append(&Packet::new(), HEAD, b"b", &limits, &mut allocator);
    assert_eq!(stream(&take_all(&mut outbox)), b"\x05\0\x07\0a\x05\0\x07\0b");
}

#[test]
fn without_memory_messages_are_refused_whole() {
    let (mut outbox, mut allocator, limits) = (Outbox::default(), Counted::default(), OutboxLimits::default());
    let large = Bytes::from(vec![b'x'; 600]);
    outbox.append_frame(&large, &limits, &mut allocator);
    allocator.is_empty = true;
    let refused = SendOutcome::Refused(Refusal::Memory);
    assert_eq!(outbox.append(&Raw, (), b"a", &limits, &mut allocator), refused);
    assert_eq!(outbox.append_shared(&Packet::new(), HEAD, &large, &limits, &mut allocator), refused);
    assert_eq!(outbox.append_shared(&Delimiter::line(), (), &large, &limits, &mut allocator), refused);
    assert_eq!(outbox.append_with(&Raw, (), 5, &limits, &mut allocator, |_| panic!("not called")), refused);
    assert_eq!((outbox.messages(), outbox.bytes()), (1, 600));
    assert_eq!(take_all(&mut outbox), [Piece::Shared(large)]);
}

#[test]
fn a_chunk_smaller_than_needed_is_no_chunk() {
    /// Always 8 bytes.
    struct Stingy(HeapAllocator);
    impl ChunkAllocator for Stingy {
        type Chunk = Vec<u8>;
        fn chunk(&mut self, _request: ChunkRequest) -> Option<Vec<u8>> {
            Some(Vec::with_capacity(8))
        }
        fn free_lists(&mut self) -> &mut FreeLists<Vec<u8>> {
            self.0.free_lists()
        }
    }
    let (mut outbox, mut allocator) = (Outbox::default(), Stingy(HeapAllocator::default()));
    let outcome = outbox.append(&Raw, (), &[1; 64], &OutboxLimits::default(), &mut allocator);
    assert_eq!(outcome, SendOutcome::Refused(Refusal::Memory));
    assert_eq!(outbox.append(&Raw, (), &[1; 8], &OutboxLimits::default(), &mut allocator), SendOutcome::Queued);
}

//= OUTBOX-4
#[test]
fn watermarks_speak_in_turns() {
    let (mut outbox, mut allocator, limits) =
        (Outbox::default(), Counted::default(), small_limits(SlowConsumer::Refuse));
    let mut heard = Vec::new();
    let mut fill_to = |bytes: usize| {
        take_all(&mut outbox);
        if bytes > 0 {
            outbox.append(&Raw, (), &vec![1; bytes], &limits, &mut allocator);
        }
        heard.push(outbox.settle(&limits, allocator.free_lists()).pressure);
        outbox.is_high()
    };
    assert_eq!(
        [50, 51, 100, 11, 51, 10, 50, 0, 51].map(&mut fill_to),
        [false, true, true, true, true, false, false, false, true]
    );
    let (high, low) = (Some(Pressure::High), Some(Pressure::Low));
    assert_eq!(heard, [None, high, None, None, None, low, None, None, high]);
}

//= OUTBOX-3
#[test]
fn a_later_message_takes_the_place_of_one_with_its_key() {
    let (mut outbox, mut allocator, limits) = (Outbox::default(), Counted::default(), OutboxLimits::default());
    hold(&mut outbox, &limits, &mut allocator);
    let mut droppable = |outbox: &mut Outbox<_>, key, text: &'static [u8]| {
        outbox.append_droppable(key, &Bytes::from_static(text), &limits, &mut allocator)
    };
    assert_eq!(droppable(&mut outbox, Some(1), b"[1a]"), SendOutcome::Queued);
    assert_eq!(droppable(&mut outbox, Some(2), b"[2a]"), SendOutcome::Queued);
    assert_eq!(droppable(&mut outbox, None, b"[-]"), SendOutcome::Queued);
    assert_eq!(droppable(&mut outbox, None, b"[-]"), SendOutcome::Queued, "without a key nothing is superseded");
    assert_eq!(droppable(&mut outbox, Some(1), b"[1b]"), SendOutcome::Superseded);
    assert_eq!((outbox.messages(), outbox.bytes()), (5, 15));
    assert_eq!(stream(&take_all(&mut outbox)), b"![2a][-][-][1b]");
    assert_eq!(droppable(&mut outbox, Some(1), b"[1c]"), SendOutcome::Queued, "the older one has left");
}

//= OUTBOX-3
#[test]
fn at_the_bound_the_oldest_droppable_messages_make_room() {
    let limits = small_limits(SlowConsumer::DropOldestDroppable);
    let (mut outbox, mut allocator) = (Outbox::default(), Counted::default());
    hold(&mut outbox, &limits, &mut allocator);
    for text in [&b"[1.................................]"[..], b"[2.................................]"] {
        outbox.append_droppable(None, &Bytes::from_static(text), &limits, &mut allocator);
    }
    outbox.append(&Raw, (), b"kept", &limits, &mut allocator);
    assert_eq!((outbox.messages(), outbox.bytes()), (4, 77));
    assert_eq!(outbox.append(&Raw, (), b"new", &limits, &mut allocator), SendOutcome::Queued, "one gave its place");
    assert_eq!(outbox.settle(&limits, allocator.free_lists()).dropped, 1);
    assert_eq!(outbox.settle(&limits, allocator.free_lists()).dropped, 0, "said once");
    // Even both are not enough: none is dropped in vain.
    let refused = SendOutcome::Refused(Refusal::OutboxBytes);
    outbox.take();
    assert_eq!(outbox.append(&Raw, (), &[1; 94], &limits, &mut allocator), refused);
    assert_eq!(stream(&take_all(&mut outbox)), b"[2.................................]keptnew");
}

//= OUTBOX-3
#[test]
fn a_droppable_message_without_room_is_dropped_and_the_older_one_stays() {
    let limits = small_limits(SlowConsumer::Refuse);
    let (mut outbox, mut allocator) = (Outbox::default(), Counted::default());
    hold(&mut outbox, &limits, &mut allocator);
    let mut droppable = |outbox: &mut Outbox<_>, text: &[u8]| {
        outbox.append_droppable(Some(1), &Bytes::copy_from_slice(text), &limits, &mut allocator)
    };
    assert_eq!(droppable(&mut outbox, &[2; 90]), SendOutcome::Queued);
    assert_eq!(droppable(&mut outbox, &[3; 100]), SendOutcome::Dropped);
    assert_eq!(outbox.bytes(), 91);
    assert_eq!(droppable(&mut outbox, &[4; 99]), SendOutcome::Superseded, "the older one's room counts");
    assert_eq!(stream(&take_all(&mut outbox)), [&b"!"[..], &[4; 99]].concat());
}

#[test]
fn clearing_says_how_much_it_was() {
    let (mut outbox, mut allocator, limits) = (Outbox::default(), Counted::default(), OutboxLimits::default());
    outbox.append(&Raw, (), b"one", &limits, &mut allocator);
    outbox.append_frame(&Bytes::from(vec![2; 600]), &limits, &mut allocator);
    outbox.append(&Raw, (), b"three", &limits, &mut allocator);
    assert_eq!(outbox.clear(allocator.free_lists()), 3);
    assert!(outbox.is_empty() && outbox.messages() == 0 && outbox.take().is_none());
}

#[test]
fn what_one_session_left_is_not_given_to_the_next() {
    let limits = small_limits(SlowConsumer::DropOldestDroppable);
    let (mut first, mut allocator) = (Outbox::default(), Counted::default());
    hold(&mut first, &limits, &mut allocator);
    for key in 0..4 {
        first.append_droppable(Some(key), &Bytes::from_static(b"secret"), &limits, &mut allocator);
    }
    first.clear(allocator.free_lists());
    let mut second = Outbox::default();
    second.append_frame(&Bytes::from(vec![2; 600]), &OutboxLimits::default(), &mut allocator);
    assert_eq!(second.settle(&OutboxLimits::default(), allocator.free_lists()).dropped, 0);
    let outcome =
        second.append_droppable(Some(1), &Bytes::from_static(b"own"), &OutboxLimits::default(), &mut allocator);
    assert_eq!(outcome, SendOutcome::Queued);
    assert_eq!(stream(&take_all(&mut second)), [&[2; 600][..], b"own"].concat());
}

#[test]
fn a_slow_session_keeps_no_more_of_a_chunk_than_it_uses() {
    let (mut outbox, mut allocator, limits) = (Outbox::default(), Counted::default(), OutboxLimits::default());
    hold(&mut outbox, &limits, &mut allocator);
    for _ in 0..10 {
        outbox.append(&Raw, (), b"small", &limits, &mut allocator);
        outbox.append_droppable(None, &Bytes::from_static(b"droppable"), &limits, &mut allocator);
    }
    let capacities = take_all(&mut outbox).into_iter().filter_map(|piece| match piece {
        Piece::Chunk(chunk) => Some(chunk.capacity()),
        Piece::Shared(_) => None,
    });
    assert!(capacities.clone().count() >= 10 && capacities.sum::<usize>() < 200);
}

#[test]
fn a_warm_outbox_reuses_its_backlog() {
    // A vector stands for any chunk; its memory is not counted here, that of the backlog is.
    let (mut outbox, mut allocator, limits) = (Outbox::default(), Counted::default(), OutboxLimits::default());
    let large = Bytes::from(vec![2; 600]);
    for _ in 0..3 {
        outbox.append_frame(&large, &limits, &mut allocator);
        assert_eq!(take_all(&mut outbox).len(), 1);
        outbox.settle(&limits, allocator.free_lists());
        assert!(format!("{:?}", allocator.free_lists()).contains("1 backlogs"), "it went back to the free_lists");
    }
}

#[test]
fn the_limits_say_what_is_wrong_with_them() {
    assert_eq!(OutboxLimits::default().validate(), Ok(()));
    let wrong = OutboxLimits::default().with(|outbox| {
        outbox.bytes_max = 0;
        outbox.messages_max = 0;
        outbox.watermark_high_bytes = 1;
        outbox.watermark_low_bytes = 2;
        outbox.slow_consumer = SlowConsumer::Refuse;
    });
    assert_eq!(wrong.validate().unwrap_err().len(), 4);
    assert!(Chunk::is_empty(&Vec::new()));
}

/// Whoever can hand over what waits makes room for every kind of message, in order, before anything is refused or dropped.
//= FLOW-1
#[test]
fn what_waits_is_handed_over_before_a_message_is_refused() {
    let limits = small_limits(SlowConsumer::DropOldestDroppable);
    let large = Bytes::from(vec![b'l'; 90]);
    type Append = fn(&mut Outbox<Vec<u8>>, &Bytes, &OutboxLimits, &mut Counted) -> SendOutcome;
    let ways: [Append; 4] = [
        |outbox, body, limits, allocator| outbox.append(&Raw, (), body, limits, allocator),
        |outbox, body, limits, allocator| {
            outbox.append_with(&Raw, (), body.len(), limits, allocator, |out| out.put(body))
        },
        |outbox, body, limits, allocator| outbox.append_shared(&Raw, (), body, limits, allocator),
        |outbox, body, limits, allocator| outbox.append_frame(body, limits, allocator),
    ];
    for append in ways {
        let (mut outbox, mut allocator) = (Outbox::default(), Counted { reliefs: 1, ..Counted::default() });
        outbox.append_droppable(
            None,
            &Bytes::from_static(b"some fifty bytes of which none is to be dropped...."),
            &limits,
            &mut allocator,
        );
        assert_eq!(append(&mut outbox, &large, &limits, &mut allocator), SendOutcome::Queued);
        assert_eq!((allocator.reliefs, stream(&allocator.handed_over).len(), outbox.bytes()), (0, 51, 90));
        let refused = SendOutcome::Refused(Refusal::OutboxBytes);
        assert_eq!(append(&mut outbox, &large, &limits, &mut allocator), refused, "once");
        assert_eq!(stream(&take_all(&mut outbox)), large);
    }
    // What would not fit into an empty outbox either hands over nothing.
    let (mut outbox, mut allocator) = (Outbox::default(), Counted { reliefs: 1, ..Counted::default() });
    outbox.append(&Raw, (), b"waits", &limits, &mut allocator);
    outbox.append(&Raw, (), &[0; 101], &limits, &mut allocator);
    assert_eq!((allocator.reliefs, outbox.bytes()), (1, 5));
}

#[test]
fn an_outbox_says_whether_it_is_within_bounds() {
    let limits = OutboxLimits::default();
    let (mut outbox, mut allocator) = (Outbox::default(), Counted::default());
    assert!(outbox.is_within(0, 0, 1));
    outbox.append(&Raw, (), b"one", &limits, &mut allocator);
    outbox.append(&Raw, (), b"two", &limits, &mut allocator);
    let within =
        [(6, 2, 1), (5, 2, 1), (6, 1, 1)].map(|(bytes, messages, pieces)| outbox.is_within(bytes, messages, pieces));
    assert_eq!(within, [true, false, false]);
    outbox.append_shared(&Raw, (), &Bytes::from(vec![0; 600]), &limits, &mut allocator);
    // The chunk before it, and itself.
    assert_eq!([2, 3].map(|pieces| outbox.is_within(1000, 10, pieces)), [false, true]);
}
