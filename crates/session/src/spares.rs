//! Memory that sessions use now and then, kept for the next one.

use std::fmt;

use crate::outbox::Backlog;

/// Most assembly buffers that are kept.
const ASSEMBLIES_MAX: usize = 64;
/// Larger ones are given back to the allocator: two ordinary receive buffers, so that what a usual frame needs is kept.
const ASSEMBLY_BYTES_MAX: usize = 8192;
/// Most backlogs that are kept. More sessions than this rarely send shared messages in one turn and are slow besides.
const BACKLOGS_MAX: usize = 256;
/// Backlogs with more places are given back to the allocator.
const BACKLOG_PLACES_MAX: usize = 64;

/// Empty buffers to assemble frames in, and empty backlogs, so that neither a split frame nor a shared message allocates
/// once the load is known. One per shard.
///
/// Bounded: 64 buffers × 8 KiB, because what is larger is rare, and 256 backlogs × 64 places.
///
/// ```
/// use raon_session::Spares;
/// let spares = Spares::<Vec<u8>>::default();
/// assert_eq!(spares.charged_bytes(), 0);
/// ```
pub struct Spares<C> {
    assemblies: Vec<Vec<u8>>,
    // Boxed where they are used, so boxed here: a move in and out is a pointer's.
    #[expect(clippy::vec_box, reason = "an outbox holds its backlog in a box")]
    backlogs: Vec<Box<Backlog<C>>>,
}

impl<C> Spares<C> {
    /// What is kept, in bytes of buffers.
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

impl<C> Default for Spares<C> {
    fn default() -> Self {
        Spares { assemblies: Vec::new(), backlogs: Vec::new() }
    }
}

impl<C> fmt::Debug for Spares<C> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Spares({} buffers, {} backlogs)", self.assemblies.len(), self.backlogs.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_kept_than_the_bounds_say() {
        let mut spares = Spares::<Vec<u8>>::default();
        spares.keep_assembly(Vec::new());
        spares.keep_assembly(Vec::with_capacity(ASSEMBLY_BYTES_MAX + 1));
        assert_eq!(spares.assemblies.len(), 0, "neither nothing nor too much is worth keeping");
        for _ in 0..2 * BACKLOGS_MAX {
            spares.keep_assembly(vec![1; 100]);
            spares.keep_backlog(Box::default());
        }
        assert_eq!((spares.assemblies.len(), spares.backlogs.len()), (ASSEMBLIES_MAX, BACKLOGS_MAX));
        assert!(spares.charged_bytes() <= ASSEMBLIES_MAX * ASSEMBLY_BYTES_MAX);
        assert!(spares.take_assembly().is_empty());
    }
}
