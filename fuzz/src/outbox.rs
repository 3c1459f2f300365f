//! The body of the outbox's target: bytes → appends, takes and settles, on a real outbox and on a plain list of what waits.

use std::collections::VecDeque;

use bytes::Bytes;
use raon_session::{ByteOrder, LengthWidth, PacketHead};
use raon_session::{
    COPY_BYTES_MAX, ChunkAllocator, ChunkRequest, Delimiter, Framing, FreeLists, HeapAllocator, LengthPrefix, Outbox,
    OutboxLimits, Packet, Piece, Pressure, Refusal, SendOutcome, SlowConsumer, encode,
};

/// A byte of framing and policy, one of the bounds, then steps of two bytes.
pub fn outbox(data: &[u8]) {
    let Some((&[shape, bounds], steps)) = data.split_first_chunk::<2>() else {
        return;
    };
    let bytes_max = 1500 + 20 * u32::from(bounds);
    let limits = OutboxLimits::default().with(|outbox| {
        outbox.bytes_max = bytes_max;
        outbox.messages_max = 4 + u32::from(bounds % 16);
        outbox.watermark_high_bytes = bytes_max / 2;
        outbox.watermark_low_bytes = bytes_max / 8;
        outbox.slow_consumer = if shape & 1 > 0 { SlowConsumer::DropOldestDroppable } else { SlowConsumer::Refuse };
    });
    match shape >> 1 & 3 {
        0 => Play::new(Packet::new(), PacketHead { id: 9 }, limits).steps(steps),
        1 => Play::new(LengthPrefix::new(LengthWidth::U32, ByteOrder::Big), (), limits).steps(steps),
        2 => Play::new(Delimiter::line(), (), limits).steps(steps),
        _ => Play::new(Packet::with_limit(700), PacketHead { id: 9 }, limits).steps(steps),
    }
}

/// A part of the stream that is copied, shared or dropped as one.
struct Part {
    bytes: Vec<u8>,
    messages: u32,
    /// Droppable, and with which key.
    droppable: Option<Option<u32>>,
}

/// Chunks of 700 bytes, or none.
#[derive(Default)]
struct Memory {
    heap: HeapAllocator,
    is_empty: bool,
}

impl ChunkAllocator for Memory {
    type Chunk = Vec<u8>;

    fn chunk(&mut self, request: ChunkRequest) -> Option<Vec<u8>> {
        let bytes =
            if matches!(request, ChunkRequest::Tail { .. }) { request.bytes().max(700) } else { request.bytes() };
        (!self.is_empty).then(|| Vec::with_capacity(bytes))
    }

    fn free_lists(&mut self) -> &mut FreeLists<Vec<u8>> {
        self.heap.free_lists()
    }
}

struct Play<F: Framing> {
    framing: F,
    head: F::Head,
    limits: OutboxLimits,
    outbox: Outbox<Vec<u8>>,
    memory: Memory,
    waiting: VecDeque<Part>,
    is_held: bool,
    is_high: bool,
    dropped: u32,
    /// Tells one body from the next.
    count: u8,
}

impl<F: Framing> Play<F> {
    fn new(framing: F, head: F::Head, limits: OutboxLimits) -> Self {
        Play {
            framing,
            head,
            limits,
            outbox: Outbox::default(),
            memory: Memory::default(),
            waiting: VecDeque::new(),
            is_held: false,
            is_high: false,
            dropped: 0,
            count: 0,
        }
    }

    fn steps(mut self, steps: &[u8]) {
        for step in steps.chunks_exact(2) {
            let size = usize::from(step[1]);
            match step[0] % 16 {
                0 | 1 => self.append(size),
                2 => self.append(4 * size),
                3 => self.append_with(size),
                4 | 5 => self.append_shared(4 * size),
                6 => self.append_frame(4 * size),
                7 | 8 => self.append_droppable(Some(size as u32 % 4), size),
                9 => self.append_droppable(Some(size as u32 % 4), COPY_BYTES_MAX + size),
                10 => self.append_droppable(None, 3 * size),
                11 => self.take(size % 4),
                12 | 13 => self.take(usize::MAX),
                14 => self.settle(),
                _ => self.memory.is_empty = size % 2 > 0,
            }
            self.check();
        }
        self.memory.is_empty = false;
        self.take(usize::MAX);
        self.settle();
        assert!(self.waiting.is_empty() && self.outbox.is_empty() && self.outbox.messages() == 0);
    }

    fn append(&mut self, size: usize) {
        let body = self.body(size);
        let outcome = self.outbox.append(&self.framing, self.head, &body, &self.limits, &mut self.memory);
        self.expect_framed(&body, outcome, false);
    }

    /// In pieces, with room to spare or without enough.
    fn append_with(&mut self, size: usize) {
        let (body, spare) = (self.body(size), usize::from(self.count % 5));
        let (prefix, suffix) = (self.framing.prefix_bytes(), self.framing.suffix_bytes());
        let bound = (size + spare).saturating_sub(1);
        let outcome = self.outbox.append_with(&self.framing, self.head, bound, &self.limits, &mut self.memory, |out| {
            body.chunks(7).for_each(|part| out.put(part));
        });
        let bound = prefix + suffix + bound.min(self.framing.message_bytes_max() - prefix - suffix);
        if let Err(refusal) = self.could_make_room(prefix + suffix) {
            return assert_eq!(outcome, SendOutcome::Refused(refusal));
        }
        if self.is_refused_for_memory(outcome) {
            return;
        }
        if prefix + size + suffix > bound {
            return assert!(matches!(outcome, SendOutcome::Refused(Refusal::Unencodable(_))), "{outcome:?}");
        }
        match self.make_room(prefix + size + suffix, None) {
            Err(refusal) => assert_eq!(outcome, SendOutcome::Refused(refusal)),
            Ok(_) => {
                assert_eq!(outcome, SendOutcome::Queued);
                self.push(self.frame(&body), None);
            }
        }
    }

    fn append_shared(&mut self, size: usize) {
        let body = self.body(size);
        let shared = Bytes::from(body.clone());
        let outcome = self.outbox.append_shared(&self.framing, self.head, &shared, &self.limits, &mut self.memory);
        self.expect_framed(&body, outcome, size > COPY_BYTES_MAX);
    }

    fn append_frame(&mut self, size: usize) {
        let frame = Bytes::from(self.body(size));
        let outcome = self.outbox.append_frame(&frame, &self.limits, &mut self.memory);
        if frame.is_empty() {
            return assert!(matches!(outcome, SendOutcome::Refused(Refusal::Unencodable(_))));
        }
        match self.make_room(frame.len(), None) {
            Err(refusal) => assert_eq!(outcome, SendOutcome::Refused(refusal)),
            Ok(_) if self.is_refused_for_memory(outcome) => {}
            Ok(_) => {
                assert_eq!(outcome, SendOutcome::Queued);
                self.push(frame.to_vec(), None);
            }
        }
    }

    fn append_droppable(&mut self, key: Option<u32>, size: usize) {
        let frame = Bytes::from(self.body(size));
        let is_copied = !self.is_held && size <= COPY_BYTES_MAX;
        if is_copied && self.memory.is_empty {
            return; // copied or not, as the room in the tail chunk allows, which the model does not know
        }
        let outcome = self.outbox.append_droppable(key, &frame, &self.limits, &mut self.memory);
        if frame.is_empty() {
            return assert!(matches!(outcome, SendOutcome::Refused(Refusal::Unencodable(_))));
        }
        match self.make_room(size, key) {
            Err(_) => assert_eq!(outcome, SendOutcome::Dropped),
            Ok(is_superseded) => {
                assert_eq!(outcome, if is_superseded { SendOutcome::Superseded } else { SendOutcome::Queued });
                self.push(frame.to_vec(), (!is_copied).then_some(key));
            }
        }
    }

    fn take(&mut self, pieces_max: usize) {
        let mut count = 0;
        while count < pieces_max {
            let Some(piece) = self.outbox.take() else {
                return assert_eq!(self.bytes(), 0, "something waits and is not given");
            };
            self.expect_piece(&piece);
            count += 1;
        }
    }

    fn settle(&mut self) {
        let settled = self.outbox.settle(&self.limits, self.memory.free_lists());
        let bytes = self.bytes();
        self.is_held = bytes > 0;
        let expected = match self.is_high {
            false if bytes > self.limits.watermark_high_bytes as usize => Some(Pressure::High),
            true if bytes <= self.limits.watermark_low_bytes as usize => Some(Pressure::Low),
            _ => None,
        };
        self.is_high = expected.map_or(self.is_high, |pressure| pressure == Pressure::High);
        assert_eq!((settled.pressure, settled.dropped), (expected, std::mem::take(&mut self.dropped)));
    }

    fn check(&self) {
        assert_eq!(self.outbox.bytes(), self.bytes());
        assert_eq!(self.outbox.messages(), self.messages() as usize);
        assert_eq!((self.outbox.is_held(), self.outbox.is_high()), (self.is_held, self.is_high));
        assert!(self.outbox.is_empty() == self.waiting.is_empty());
    }

    /// What the message came to, and the same on the list.
    fn expect_framed(&mut self, body: &[u8], outcome: SendOutcome, is_shared: bool) {
        if let Err(error) = self.framing.check(self.head, body) {
            return assert_eq!(outcome, SendOutcome::Refused(error.into()));
        }
        let frame = self.frame(body);
        match self.make_room(frame.len(), None) {
            Err(refusal) => assert_eq!(outcome, SendOutcome::Refused(refusal)),
            Ok(_) if self.is_refused_for_memory(outcome) => {}
            Ok(_) => {
                assert_eq!(outcome, SendOutcome::Queued);
                self.push(frame, None);
                if is_shared {
                    self.split_last(body.len());
                }
            }
        }
    }

    /// A shared message is three parts, of which the body is the message.
    fn split_last(&mut self, body_bytes: usize) {
        let whole = self.waiting.pop_back().expect("just pushed").bytes;
        let (prefix, rest) = whole.split_at(self.framing.prefix_bytes());
        let (body, suffix) = rest.split_at(body_bytes);
        for (bytes, messages) in [(prefix, 0), (body, 1), (suffix, 0)] {
            if !bytes.is_empty() {
                self.waiting.push_back(Part { bytes: bytes.to_vec(), messages, droppable: None });
            }
        }
    }

    /// The piece is made of the first parts, whole; says how many messages they are.
    fn expect_piece(&mut self, piece: &Piece<Vec<u8>>) {
        let mut bytes = bytes_of(piece);
        assert!(!bytes.is_empty());
        while !bytes.is_empty() {
            let part = self.waiting.pop_front().expect("more is given than waits");
            assert!(bytes.starts_with(&part.bytes), "not in order, or half of something");
            bytes = &bytes[part.bytes.len()..];
        }
    }

    /// Whether something was superseded; leaves out what makes room.
    fn make_room(&mut self, length: usize, key: Option<u32>) -> Result<bool, Refusal> {
        let older = key.and_then(|key| self.waiting.iter().position(|part| part.droppable == Some(Some(key))));
        let fits = |bytes: usize, messages: u32| {
            bytes + length <= self.limits.bytes_max as usize && messages < self.limits.messages_max
        };
        let (bytes, messages) = (self.bytes(), self.messages());
        let without_older = older.map_or((bytes, messages), |at| (bytes - self.waiting[at].bytes.len(), messages - 1));
        if !fits(without_older.0, without_older.1) {
            self.could_make_room(length)?;
        }
        if let Some(at) = older {
            self.waiting.remove(at);
        }
        while self.bytes() + length > self.limits.bytes_max as usize || self.messages() >= self.limits.messages_max {
            let oldest = self.waiting.iter().position(|part| part.droppable.is_some()).expect("they are enough");
            self.waiting.remove(oldest);
            self.dropped += 1;
        }
        Ok(older.is_some())
    }

    /// Whether there is room without what may be dropped, or with it.
    fn could_make_room(&self, length: usize) -> Result<(), Refusal> {
        let may_drop = self.limits.slow_consumer == SlowConsumer::DropOldestDroppable;
        let kept = || self.waiting.iter().filter(|part| !may_drop || part.droppable.is_none());
        let bytes = kept().map(|part| part.bytes.len()).sum::<usize>() + length;
        let messages: u32 = kept().map(|part| part.messages).sum();
        if bytes <= self.limits.bytes_max as usize && messages < self.limits.messages_max {
            return Ok(());
        }
        let is_count = self.messages() >= self.limits.messages_max;
        Err(if is_count { Refusal::OutboxMessages } else { Refusal::OutboxBytes })
    }

    fn is_refused_for_memory(&self, outcome: SendOutcome) -> bool {
        self.memory.is_empty && outcome == SendOutcome::Refused(Refusal::Memory)
    }

    fn push(&mut self, bytes: Vec<u8>, droppable: Option<Option<u32>>) {
        self.waiting.push_back(Part { bytes, messages: 1, droppable });
    }

    /// A body like no other lately, without a line feed.
    fn body(&mut self, size: usize) -> Vec<u8> {
        self.count = self.count.wrapping_add(1);
        (0..size).map(|at| 128 | self.count.wrapping_add(at as u8)).collect()
    }

    fn frame(&self, body: &[u8]) -> Vec<u8> {
        encode(&self.framing, self.head, body).map_or_else(|error| panic!("{error}"), |frame| frame.to_vec())
    }

    fn bytes(&self) -> usize {
        self.waiting.iter().map(|part| part.bytes.len()).sum()
    }

    fn messages(&self) -> u32 {
        self.waiting.iter().map(|part| part.messages).sum()
    }
}

fn bytes_of(piece: &Piece<Vec<u8>>) -> &[u8] {
    match piece {
        Piece::Chunk(chunk) => chunk,
        Piece::Shared(bytes) => bytes,
    }
}
