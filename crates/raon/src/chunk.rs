//! Where messages are gathered until they leave: buffers of the driver's pool, or vectors where those do not do.

use raon_provider::{Buffer, Driver, Payload};
use raon_session::{Chunk, Need, Outbox, Piece, Spares, Supply};

use crate::budget::Lease;
use crate::shard::flush::Relief;

/// A chunk of an outbox.
pub(crate) struct OutChunk {
    memory: Memory,
    length: u32,
    capacity: u32,
}

enum Memory {
    /// Its length is all that fits, until it leaves.
    Pool(Buffer),
    /// Its length is its capacity, until it leaves.
    Heap(Vec<u8>),
}

impl OutChunk {
    fn pool(mut buffer: Buffer) -> Self {
        let capacity = buffer.capacity();
        buffer.set_len(capacity);
        OutChunk { memory: Memory::Pool(buffer), length: 0, capacity: capacity as u32 }
    }

    fn heap(bytes: usize) -> Self {
        OutChunk { memory: Memory::Heap(vec![0; bytes]), length: 0, capacity: bytes as u32 }
    }

    fn bytes(&self) -> &[u8] {
        match &self.memory {
            Memory::Pool(buffer) => &buffer[..self.length as usize],
            Memory::Heap(bytes) => &bytes[..self.length as usize],
        }
    }

    /// What the driver sends.
    pub(crate) fn into_payload(self) -> Payload {
        let length = self.length as usize;
        match self.memory {
            Memory::Pool(mut buffer) => {
                buffer.set_len(length);
                buffer.into()
            }
            Memory::Heap(mut bytes) => {
                bytes.truncate(length);
                bytes.into()
            }
        }
    }
}

impl Chunk for OutChunk {
    #[inline]
    fn len(&self) -> usize {
        self.length as usize
    }

    #[inline]
    fn room(&self) -> usize {
        (self.capacity - self.length) as usize
    }

    #[inline]
    fn grow(&mut self, bytes: usize) -> &mut [u8] {
        let start = self.length as usize;
        self.length += bytes as u32;
        let end = self.length as usize;
        match &mut self.memory {
            Memory::Pool(buffer) => &mut buffer[start..end],
            Memory::Heap(memory) => &mut memory[start..end],
        }
    }

    fn truncate(&mut self, len: usize) {
        self.length = self.length.min(len as u32);
    }

    /// It waits for a peer that is slow: the pool's buffer goes back, and only what is in use stays.
    fn seal(&mut self) {
        let bytes = self.bytes().to_vec();
        *self = OutChunk { length: bytes.len() as u32, capacity: bytes.len() as u32, memory: Memory::Heap(bytes) };
    }
}

/// The bytes of a piece as the driver sends them.
pub(crate) fn payload(piece: Piece<OutChunk>) -> Payload {
    match piece {
        Piece::Chunk(chunk) => chunk.into_payload(),
        Piece::Shared(bytes) => bytes.into(),
    }
}

/// Where a shard's outboxes get their memory: the pool first, then the heap within the budget.
pub(crate) struct ChunkSupply<'a> {
    pub(crate) driver: &'a mut Driver,
    pub(crate) spares: &'a mut Spares<OutChunk>,
    pub(crate) lease: &'a mut Lease,
    /// What this turn has charged so far, to be replaced at its end by what is left in the outboxes.
    pub(crate) provisional_bytes: &'a mut usize,
    /// Of a session that is answering.
    pub(crate) relief: Option<Relief<'a>>,
}

/// What a chunk on the heap has at least: a few messages.
const HEAP_CHUNK_BYTES_MIN: usize = 1024;

impl ChunkSupply<'_> {
    /// Charges so many bytes until the end of the turn.
    #[inline]
    pub(crate) fn charge(&mut self, bytes: usize) -> bool {
        let has_room = self.lease.charge(bytes);
        *self.provisional_bytes += if has_room { bytes } else { 0 };
        has_room
    }

    #[cold]
    fn heap_chunk(&mut self, need: Need) -> Option<OutChunk> {
        let bytes = match need {
            Need::Tail { bytes } => bytes.max(HEAP_CHUNK_BYTES_MIN),
            Need::Exact { bytes } => bytes,
        };
        self.charge(bytes).then(|| OutChunk::heap(bytes))
    }
}

impl Supply for ChunkSupply<'_> {
    type Chunk = OutChunk;

    #[inline]
    fn chunk(&mut self, need: Need) -> Option<OutChunk> {
        if let Need::Exact { .. } = need {
            return self.heap_chunk(need);
        }
        let Some(buffer) = self.driver.buffer().filter(|buffer| buffer.capacity() >= need.bytes()) else {
            return self.heap_chunk(need);
        };
        self.charge(buffer.capacity()).then(|| OutChunk::pool(buffer))
    }

    fn spares(&mut self) -> &mut Spares<OutChunk> {
        self.spares
    }

    fn relieve(&mut self, outbox: &mut Outbox<OutChunk>) {
        if let Some(relief) = &mut self.relief {
            relief.hand_over(self.driver, outbox);
        }
    }
}

#[cfg(test)]
mod tests {
    use raon_provider::{AnyProvider, Config, Kind};

    use super::*;
    use crate::budget::Budget;

    #[test]
    fn the_pool_comes_first_and_the_heap_only_within_the_budget() {
        let mut config = Config::named(Kind::Sim);
        config.pool.send_count = 1;
        let mut driver = Driver::<AnyProvider>::open(&config).unwrap();
        let budget = Budget::new(2 * crate::budget::PORTION_BYTES as u64);
        let (mut lease, mut spares, mut provisional_bytes) = (Lease::new(budget), Spares::default(), 0);
        let mut supply = ChunkSupply {
            driver: &mut driver,
            spares: &mut spares,
            lease: &mut lease,
            provisional_bytes: &mut provisional_bytes,
            relief: None,
        };
        let mut first = supply.chunk(Need::Tail { bytes: 100 }).unwrap();
        first.grow(5).copy_from_slice(b"hello");
        assert_eq!(first.room(), 4091);
        let mut second = supply.chunk(Need::Tail { bytes: 100 }).unwrap();
        assert!(second.room() < 4096, "the pool has no more");
        second.grow(2).copy_from_slice(b"hi");
        assert!(supply.chunk(Need::Tail { bytes: 1 << 20 }).is_none(), "that is beyond the budget");
        second.seal();
        assert_eq!((second.room(), second.into_payload().to_vec()), (0, b"hi".to_vec()));
        assert_eq!(first.into_payload().to_vec(), b"hello");
        assert_eq!(provisional_bytes, 4096 + HEAP_CHUNK_BYTES_MIN);
    }
}
