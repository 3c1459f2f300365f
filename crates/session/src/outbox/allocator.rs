//! Allocator of an outbox: where its chunks come from, and the pieces in which they leave.

use bytes::Bytes;

use super::Outbox;
use crate::framing::Chunk;
use crate::free_lists::FreeLists;

/// Request for a chunk, by what it is wanted for.
///
/// ```
/// use raon_session::ChunkRequest;
/// assert_eq!(ChunkRequest::Exact { bytes: 4 }.bytes(), 4);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChunkRequest {
    /// Messages are gathered in it: room for at least so many bytes, and rather for many messages.
    Tail {
        /// Room for the first message, in bytes.
        bytes: usize,
    },
    /// Nothing comes after these bytes; any more room is wasted. The prefix of a shared message, for example.
    Exact {
        /// Room in bytes.
        bytes: usize,
    },
}

impl ChunkRequest {
    /// The least room in bytes.
    #[inline]
    pub const fn bytes(self) -> usize {
        match self {
            ChunkRequest::Tail { bytes } | ChunkRequest::Exact { bytes } => bytes,
        }
    }
}

/// Source of an outbox's memory: the shard's pool, budget and free lists behind one face.
///
/// ```
/// use raon_session::{HeapAllocator, ChunkRequest, ChunkAllocator};
/// let mut allocator = HeapAllocator::with_chunks_of(4096);
/// assert!(allocator.chunk(ChunkRequest::Tail { bytes: 64 }).expect("the heap is large").capacity() >= 4096);
/// ```
pub trait ChunkAllocator {
    /// Kind of chunk that it gives.
    type Chunk: Chunk;

    /// An empty chunk with the room that is needed; `None` if the memory budget is used up. Then the message is refused.
    fn chunk(&mut self, request: ChunkRequest) -> Option<Self::Chunk>;

    /// Lists in which used memory is kept for the next session.
    fn free_lists(&mut self) -> &mut FreeLists<Self::Chunk>;

    /// An outbox at its bound is about to refuse a message that would fit into an empty one. An engine that can
    /// hand over what waits takes it now; by default nothing is taken.
    fn on_full(&mut self, _outbox: &mut Outbox<Self::Chunk>) {}
}

/// Chunks from the heap, without a budget. For tests and for servers that have no pool.
///
/// ```
/// use raon_session::{HeapAllocator, Outbox, OutboxLimits, Raw, SendOutcome};
/// let (mut outbox, mut allocator) = (Outbox::default(), HeapAllocator::default());
/// let outcome = outbox.append(&Raw, (), b"hi", &OutboxLimits::default(), &mut allocator);
/// assert_eq!(outcome, SendOutcome::Queued);
/// ```
#[derive(Debug)]
pub struct HeapAllocator {
    chunk_bytes: usize,
    free_lists: FreeLists<Vec<u8>>,
}

impl HeapAllocator {
    /// Gathers small messages in chunks of `chunk_bytes` bytes.
    pub fn with_chunks_of(chunk_bytes: usize) -> Self {
        HeapAllocator { chunk_bytes, free_lists: FreeLists::default() }
    }
}

impl Default for HeapAllocator {
    /// Chunks of 4,096 bytes: one ordinary buffer of the driver's pool.
    fn default() -> Self {
        HeapAllocator::with_chunks_of(4096)
    }
}

impl ChunkAllocator for HeapAllocator {
    type Chunk = Vec<u8>;

    fn chunk(&mut self, request: ChunkRequest) -> Option<Vec<u8>> {
        Some(match request {
            ChunkRequest::Tail { bytes } => Vec::with_capacity(bytes.max(self.chunk_bytes)),
            ChunkRequest::Exact { bytes } => Vec::with_capacity(bytes),
        })
    }

    fn free_lists(&mut self) -> &mut FreeLists<Vec<u8>> {
        &mut self.free_lists
    }
}

/// Piece of an outbox as it leaves: bytes that the driver can own.
///
/// ```
/// use raon_session::Piece;
/// let piece = Piece::Chunk(b"hello".to_vec());
/// assert_eq!((piece.len(), piece.is_empty()), (5, false));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece<C> {
    /// Frames that were copied together.
    Chunk(C),
    /// A large body, or a frame that others share.
    Shared(Bytes),
}

impl<C: Chunk> Piece<C> {
    /// Its length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Piece::Chunk(chunk) => chunk.len(),
            Piece::Shared(bytes) => bytes.len(),
        }
    }

    /// True if it has no bytes; an outbox never gives such a piece.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
