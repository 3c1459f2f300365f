//! Memory that sessions use now and then, kept for the next one.

use std::fmt;

use crate::outbox::backlog::Backlog;

/// Most assembly buffers that are kept.
const ASSEMBLIES_MAX: usize = 64;
/// Larger ones are given back to the heap: two ordinary receive buffers, so that what a usual frame needs is kept.
const ASSEMBLY_BYTES_MAX: usize = 8192;
/// Most backlogs that are kept. More sessions than this rarely send shared messages in one turn and are slow besides.
const BACKLOGS_MAX: usize = 256;
/// Backlogs with more places are given back to the heap.
const BACKLOG_PLACES_MAX: usize = 64;

/// Empty buffers to assemble frames in, and empty backlogs, so that neither a split frame nor a shared message allocates
/// once the load is known. One per shard.
///
/// Bounded: 64 buffers × 8 KiB, because what is larger is rare, and 256 backlogs × 64 places.
///
/// ```
/// use raon_session::FreeLists;
/// let free_lists = FreeLists::<Vec<u8>>::default();
/// assert_eq!(free_lists.charged_bytes(), 0);
/// ```
pub struct FreeLists<C> {
    assemblies: Vec<Vec<u8>>,
    // Boxed where they are used, so boxed here: a move in and out is a pointer's.
    #[expect(clippy::vec_box, reason = "an outbox holds its backlog in a box")]
    backlogs: Vec<Box<Backlog<C>>>,
}

impl<C> FreeLists<C> {
    /// Memory that is kept, in bytes of buffers.
    pub fn charged_bytes(&self) -> usize {
        self.assemblies.iter().map(Vec::capacity).sum()
    }

    pub(crate) fn take_assembly(&mut self) -> Vec<u8> {
        self.assemblies.pop().unwrap_or_default()
    }

    pub(crate) fn keep_assembly(&mut self, mut buffer: Vec<u8>) {
        let is_useful = buffer.capacity() > 0 && buffer.capacity() <= ASSEMBLY_BYTES_MAX;
        if is_useful && self.assemblies.len() < ASSEMBLIES_MAX {
            buffer.clear();
            self.assemblies.push(buffer);
        }
    }

    pub(crate) fn take_backlog(&mut self) -> Box<Backlog<C>> {
        self.backlogs.pop().unwrap_or_default()
    }

    pub(crate) fn keep_backlog(&mut self, mut backlog: Box<Backlog<C>>) {
        if backlog.places() <= BACKLOG_PLACES_MAX && self.backlogs.len() < BACKLOGS_MAX {
            backlog.clear();
            self.backlogs.push(backlog);
        }
    }
}

impl<C> Default for FreeLists<C> {
    fn default() -> Self {
        FreeLists { assemblies: Vec::new(), backlogs: Vec::new() }
    }
}

impl<C> fmt::Debug for FreeLists<C> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "FreeLists({} buffers, {} backlogs)", self.assemblies.len(), self.backlogs.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_kept_than_the_bounds_say() {
        let mut free_lists = FreeLists::<Vec<u8>>::default();
        free_lists.keep_assembly(Vec::new());
        free_lists.keep_assembly(Vec::with_capacity(ASSEMBLY_BYTES_MAX + 1));
        assert_eq!(free_lists.assemblies.len(), 0, "neither nothing nor too much is worth keeping");
        for _ in 0..2 * BACKLOGS_MAX {
            free_lists.keep_assembly(vec![1; 100]);
            free_lists.keep_backlog(Box::default());
        }
        assert_eq!((free_lists.assemblies.len(), free_lists.backlogs.len()), (ASSEMBLIES_MAX, BACKLOGS_MAX));
        assert!(free_lists.charged_bytes() <= ASSEMBLIES_MAX * ASSEMBLY_BYTES_MAX);
        assert!(free_lists.take_assembly().is_empty());
    }
}
