//! Where messages are gathered until they leave: buffers of the driver's pool, or vectors where those do not do.

use raon_provider::{Buffer, Driver, Payload};
use raon_session::{COPY_BYTES_MAX, Chunk, ChunkAllocator, ChunkRequest, FreeLists, Outbox, Piece};

use crate::shard::flush::Relief;

/// A chunk of an outbox. What is in use is the length of what it holds, so that nothing else can leave.
pub(crate) enum OutChunk {
    Pool(Buffer),
    Heap(Vec<u8>),
}

impl OutChunk {
    fn bytes(&self) -> &[u8] {
        match self {
            OutChunk::Pool(buffer) => buffer,
            OutChunk::Heap(bytes) => bytes,
        }
    }

    /// What the driver sends.
    pub(crate) fn into_payload(self) -> Payload {
        match self {
            OutChunk::Pool(buffer) => buffer.into(),
            OutChunk::Heap(bytes) => bytes.into(),
        }
    }
}

impl Chunk for OutChunk {
    #[inline]
    fn len(&self) -> usize {
        match self {
            OutChunk::Pool(buffer) => buffer.len(),
            OutChunk::Heap(bytes) => bytes.len(),
        }
    }

    #[inline]
    fn room(&self) -> usize {
        match self {
            OutChunk::Pool(buffer) => buffer.capacity() - buffer.len(),
            OutChunk::Heap(bytes) => bytes.capacity() - bytes.len(),
        }
    }

    //= OUTBOX-5
    #[inline]
    fn grow(&mut self, bytes: usize) -> &mut [u8] {
        match self {
            OutChunk::Pool(buffer) => {
                let start = buffer.len();
                buffer.set_len(start + bytes);
                &mut buffer[start..]
            }
            OutChunk::Heap(memory) => memory.grow(bytes),
        }
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        match self {
            OutChunk::Pool(buffer) => {
                let taken = buffer.put(bytes);
                debug_assert_eq!(taken, bytes.len(), "a chunk has the room that was asked for");
            }
            OutChunk::Heap(memory) => memory.put(bytes),
        }
    }

    fn truncate(&mut self, len: usize) {
        match self {
            OutChunk::Pool(buffer) => buffer.set_len(len.min(buffer.len())),
            OutChunk::Heap(bytes) => bytes.truncate(len),
        }
    }

    /// It waits for a peer that is slow: the pool's buffer goes back, and only what is in use stays.
    fn seal(&mut self) {
        *self = OutChunk::Heap(self.bytes().to_vec());
    }
}

/// The bytes of a piece as the driver sends them.
pub(crate) fn payload(piece: Piece<OutChunk>) -> Payload {
    match piece {
        Piece::Chunk(chunk) => chunk.into_payload(),
        Piece::Shared(bytes) => bytes.into(),
    }
}

/// Bytes of a piece that its session is charged for: those that others may share are charged where they were made.
pub(crate) fn own_bytes(piece: &Piece<OutChunk>) -> usize {
    match piece {
        Piece::Shared(bytes) if bytes.len() > COPY_BYTES_MAX => 0,
        _ => piece.len(),
    }
}

/// Where a shard's outboxes get their memory: the pool first, then the heap. Whether the budget has room for a message is
/// asked before it is queued (`Inside::provide`).
pub(crate) struct PoolAllocator<'a> {
    pub(crate) driver: &'a mut Driver,
    pub(crate) free_lists: &'a mut FreeLists<OutChunk>,
    /// Of a session that is answering.
    pub(crate) relief: Option<Relief<'a>>,
}

/// What a chunk on the heap has at least: a few messages.
const HEAP_CHUNK_BYTES_MIN: usize = 1024;

#[cold]
fn heap_chunk(request: ChunkRequest) -> OutChunk {
    OutChunk::Heap(Vec::with_capacity(match request {
        ChunkRequest::Tail { bytes } => bytes.max(HEAP_CHUNK_BYTES_MIN),
        ChunkRequest::Exact { bytes } => bytes,
    }))
}

impl ChunkAllocator for PoolAllocator<'_> {
    type Chunk = OutChunk;

    #[inline]
    fn chunk(&mut self, request: ChunkRequest) -> Option<OutChunk> {
        let is_tail = matches!(request, ChunkRequest::Tail { .. });
        let buffer = if is_tail { self.driver.buffer() } else { None };
        let buffer = buffer.filter(|buffer| buffer.capacity() >= request.bytes());
        Some(buffer.map_or_else(|| heap_chunk(request), OutChunk::Pool))
    }

    fn free_lists(&mut self) -> &mut FreeLists<OutChunk> {
        self.free_lists
    }

    fn on_full(&mut self, outbox: &mut Outbox<OutChunk>) {
        if let Some(relief) = &mut self.relief {
            relief.hand_over(self.driver, outbox);
        }
    }
}

#[cfg(test)]
mod tests {
    use raon_provider::{AnyProvider, Config, Kind};

    use super::*;

    #[test]
    fn the_pool_comes_first_and_then_the_heap() {
        let mut config = Config::named(Kind::Sim);
        config.pool.send_count = 1;
        let mut driver = Driver::<AnyProvider>::open(&config).unwrap();
        let mut free_lists = FreeLists::default();
        let mut allocator = PoolAllocator { driver: &mut driver, free_lists: &mut free_lists, relief: None };
        let mut first = allocator.chunk(ChunkRequest::Tail { bytes: 100 }).unwrap();
        first.put(b"hello");
        assert_eq!(first.grow(2), [0, 0]);
        assert_eq!(first.room(), 4089);
        first.truncate(5);
        let mut second = allocator.chunk(ChunkRequest::Tail { bytes: 100 }).unwrap();
        assert!(second.room() < 4096, "the pool has no more");
        second.put(b"hi");
        second.seal();
        assert_eq!((second.room(), second.into_payload().to_vec()), (0, b"hi".to_vec()));
        assert_eq!(first.into_payload().to_vec(), b"hello");
        let exact = allocator.chunk(ChunkRequest::Exact { bytes: 4 }).unwrap();
        assert!(matches!(exact, OutChunk::Heap(_)), "nothing would be gathered in a buffer of the pool");
    }
}
