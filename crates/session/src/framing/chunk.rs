//! Chunk: memory that frames are written to, one behind the other.

/// A piece of memory that small messages are gathered in. The engine's chunks are buffers of the driver's pool; a `Vec<u8>`
/// will do for a start.
///
/// ```
/// use raon_session::Chunk;
/// let mut chunk = Vec::with_capacity(16);
/// chunk.put(b"hi");
/// assert_eq!(chunk.grow(2), [0, 0]);
/// assert_eq!((Chunk::len(&chunk), chunk.room()), (4, 12));
/// ```
pub trait Chunk: Sized {
    /// Bytes that are in use.
    fn len(&self) -> usize;

    /// Bytes that it may still grow by.
    fn room(&self) -> usize;

    /// Takes `bytes` more into use, at most `room`, and hands out that part, which is zeroed: whatever was in this memory
    /// belongs to others.
    fn grow(&mut self, bytes: usize) -> &mut [u8];

    /// Adds these bytes, at most `room`.
    fn put(&mut self, bytes: &[u8]) {
        self.grow(bytes.len()).copy_from_slice(bytes);
    }

    /// Keeps the first `len` bytes in use.
    fn truncate(&mut self, len: usize);

    /// Nothing will be added, and it will wait for a peer that is slow: a chunk that is mostly empty should give back what it
    /// does not use.
    fn seal(&mut self) {}

    /// True if nothing is in use.
    #[inline]
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Chunk for Vec<u8> {
    #[inline]
    fn len(&self) -> usize {
        Vec::len(self)
    }

    #[inline]
    fn room(&self) -> usize {
        self.capacity() - Vec::len(self)
    }

    #[inline]
    fn grow(&mut self, bytes: usize) -> &mut [u8] {
        let start = Vec::len(self);
        self.resize(start + bytes, 0);
        &mut self[start..]
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        Vec::truncate(self, len);
    }

    fn seal(&mut self) {
        self.shrink_to_fit();
    }
}
