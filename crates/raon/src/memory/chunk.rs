//! Chunks of outboxes, in which messages are gathered: buffers of the driver's pool, or vectors where those do not do.

use raon_provider::{Buffer, Payload};
use raon_session::{COPY_BYTES_MAX, Chunk, Piece};

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

    /// Payload that the driver sends.
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
