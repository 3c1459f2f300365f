//! Allocator of chunks: the driver's pool first, then the heap.

use raon_provider::Driver;
use raon_session::{ChunkAllocator, ChunkRequest, FreeLists, Outbox};

use super::flush::Relief;
use crate::memory::chunk::OutChunk;

/// Memory of a shard's outboxes: the pool first, then the heap. Whether the budget has room for a message is
/// asked before it is queued (`ShardCore::provide`).
pub(super) struct PoolAllocator<'a> {
    pub(super) driver: &'a mut Driver,
    pub(super) free_lists: &'a mut FreeLists<OutChunk>,
    /// Of a session that is answering.
    pub(super) relief: Option<Relief<'a>>,
}

/// Least capacity of a chunk on the heap: a few messages.
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
    use raon_provider::{Config, Kind};
    use raon_session::Chunk;

    use super::*;

    #[test]
    fn the_pool_comes_first_and_then_the_heap() {
        let mut config = Config::named(Kind::Sim);
        config.pool.send_count = 1;
        let mut driver = Driver::open(&config).unwrap();
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
