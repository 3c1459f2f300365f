//! Memory that others have used: whatever a framing and a writer do, nothing of it leaves, and nothing of it is seen.

use std::panic::{AssertUnwindSafe, catch_unwind};

mod support;

use bytes::Bytes;
use proptest::prelude::*;
use raon_session::{
    BodyWriter, Chunk, ChunkAllocator, ChunkRequest, Decoded, EncodeError, Framing, FramingError, FreeLists, Outbox,
    OutboxLimits, Piece, SendOutcome, SlowConsumer, encode, encode_with,
};

/// What other sessions have left in the memory. Nobody here writes this byte.
const FOREIGN: u8 = 0xEE;

/// A chunk like those of a pool: its memory is used again and again.
struct Used {
    memory: Box<[u8]>,
    length: usize,
}

impl Chunk for Used {
    fn len(&self) -> usize {
        self.length
    }

    fn room(&self) -> usize {
        self.memory.len() - self.length
    }

    fn grow(&mut self, bytes: usize) -> &mut [u8] {
        let start = self.length;
        self.length += bytes;
        let grown = &mut self.memory[start..self.length];
        grown.fill(0);
        grown
    }

    fn truncate(&mut self, len: usize) {
        self.length = self.length.min(len);
    }
}

#[derive(Default)]
struct Pool(FreeLists<Used>);

impl ChunkAllocator for Pool {
    type Chunk = Used;

    fn chunk(&mut self, request: ChunkRequest) -> Option<Used> {
        Some(Used { memory: vec![FOREIGN; request.bytes().max(300)].into(), length: 0 })
    }

    fn free_lists(&mut self) -> &mut FreeLists<Used> {
        &mut self.0
    }
}

/// Announces so much, writes so much less, panics at times, and says something else each time that it is asked if it is
/// `fickle`.
#[derive(Clone, Debug)]
struct Careless {
    prefix: usize,
    suffix: usize,
    missing: usize,
    limit: usize,
    is_fickle: bool,
    panics_at: u8,
    asked: std::cell::Cell<usize>,
}

impl Careless {
    fn answer(&self, bytes: usize) -> usize {
        self.asked.set(self.asked.get() + 1);
        if self.is_fickle { bytes + self.asked.get() % 3 } else { bytes }
    }

    fn write(&self, out: &mut [u8], place: u8) {
        assert!(out.iter().all(|byte| *byte == 0), "what is handed out is zeroed: {out:?}");
        let length = out.len().saturating_sub(self.missing);
        out[..length].fill(place);
        assert!(self.panics_at != place, "on purpose");
    }
}

impl Framing for Careless {
    type Head = ();

    fn decode(&self, _input: &[u8], _scanned: usize) -> Result<Decoded<()>, FramingError> {
        Ok(Decoded::Incomplete { length: None, scanned: 0 })
    }

    fn prefix_bytes(&self) -> usize {
        self.answer(self.prefix)
    }

    fn suffix_bytes(&self) -> usize {
        self.answer(self.suffix)
    }

    fn write_prefix(&self, _head: (), _body_bytes: usize, out: &mut [u8]) {
        self.write(out, 1);
    }

    fn write_suffix(&self, out: &mut [u8]) {
        self.write(out, 2);
    }

    fn check(&self, _head: (), body: &[u8]) -> Result<(), EncodeError> {
        assert!(!body.contains(&FOREIGN), "others' bytes are shown: {body:?}");
        assert!(self.panics_at != 3, "on purpose");
        if body.len() % 7 == 6 { Err(EncodeError::Unencodable { code: 6 }) } else { Ok(()) }
    }

    fn message_bytes_max(&self) -> usize {
        self.limit
    }
}

fn framings() -> impl Strategy<Value = Careless> {
    let sizes = (0..9usize, 0..5usize, 0..9usize, prop_oneof![Just(0), 1..400usize, Just(usize::MAX)]);
    // Lengths of such frames are no numbers any more.
    let sizes = prop_oneof![9 => sizes, 1 => Just((usize::MAX, usize::MAX - 3, 1, usize::MAX))];
    (sizes, any::<bool>(), 0..12u8).prop_map(|((prefix, suffix, missing, limit), is_fickle, panics_at)| Careless {
        prefix,
        suffix,
        missing,
        limit,
        is_fickle,
        panics_at,
        asked: Default::default(),
    })
}

/// One thing that a writer is asked to do, by number and size.
type Deed = (u8, usize);

/// Does it, and notes what must be in the body. Returns true if it has gone too far.
fn write(body: &mut BodyWriter<'_>, deeds: &[Deed], expected: &mut Vec<u8>) {
    for (deed, size) in deeds {
        let before = body.len();
        match deed {
            0 => body.put(&vec![9; *size]),
            1 => body.put_repeated(9, *size),
            2 => body.put_u64_be(0x0909_0909_0909_0909),
            3 => drop(std::io::Write::write(body, &vec![9; *size])),
            4 => drop(std::fmt::Write::write_str(body, &"\t".repeat(*size))),
            5 => body.put_repeated(9, usize::MAX),
            6 => body.written_mut().fill(8),
            7 => assert!(*size != 13, "on purpose"),
            _ => body.put_u8(9),
        }
        if *deed == 6 {
            expected.fill(8);
        }
        expected.resize(body.len(), 9);
        assert!(body.len() >= before && !body.written().contains(&FOREIGN));
        assert_eq!(body.written(), expected);
    }
}

//= OUTBOX-5
proptest! {
    #![proptest_config(support::config())]

    #[test]
    fn nothing_foreign_leaves_whatever_framings_and_writers_do(
        framing in framings(),
        messages in prop::collection::vec((0..6u8, 0..500usize, prop::collection::vec((0..9u8, 0..60usize), 0..6)), 1..12),
    ) {
        let limits = OutboxLimits::default().with(|outbox| { outbox.bytes_max = 2000; outbox.slow_consumer = SlowConsumer::DropOldestDroppable; });
        let (mut outbox, mut pool) = (Outbox::<Used>::default(), Pool::default());
        let mut queued_bytes = 0_usize;
        for (form, bound, deeds) in &messages {
            let (bytes, count) = (outbox.bytes(), outbox.messages());
            let mut expected = Vec::new();
            // Whatever panics is the user's, and is stopped where callbacks are.
            let done = catch_unwind(AssertUnwindSafe(|| match form {
                0 | 1 => outbox.append_with(&framing, (), *bound, &limits, &mut pool, |body| write(body, deeds, &mut expected)),
                2 => outbox.append(&framing, (), &vec![9; *bound], &limits, &mut pool),
                3 => outbox.append_shared(&framing, (), &Bytes::from(vec![9; 600 + *bound]), &limits, &mut pool),
                4 => match encode(&framing, (), &vec![9; *bound]) {
                    Ok(frame) => outbox.append_frame(&frame, &limits, &mut pool),
                    Err(error) => SendOutcome::Refused(error.into()),
                },
                _ => match encode_with(&framing, (), *bound, |body| write(body, deeds, &mut expected)) {
                    Ok(frame) => outbox.append_droppable(None, &frame, &limits, &mut pool),
                    Err(error) => SendOutcome::Refused(error.into()),
                },
            }));
            if !matches!(done, Ok(outcome) if outcome.is_queued()) {
                prop_assert_eq!((outbox.bytes(), outbox.messages()), (bytes, count), "{:?} leaves nothing", done.ok());
            } else {
                // Others may have made room for it.
                queued_bytes = queued_bytes.wrapping_add(outbox.bytes()).wrapping_sub(bytes);
            }
        }
        let mut left = 0;
        while let Some(piece) = outbox.take() {
            let bytes: &[u8] = match &piece {
                Piece::Chunk(chunk) => &chunk.memory[..chunk.length],
                Piece::Shared(bytes) => bytes,
            };
            prop_assert!(!bytes.contains(&FOREIGN), "{:?}", bytes);
            left += bytes.len();
        }
        prop_assert_eq!((left, outbox.bytes(), outbox.messages()), (queued_bytes, 0, 0));
    }
}
