//! Span lists of sends that leave in several pieces.

use crate::base::index::Index;
use crate::driver::socket::GatherIndex;
use crate::memory::Span;

/// All lists, of which each stays in place until its send has ended.
#[derive(Default)]
pub(super) struct GatherLists {
    lists: Vec<Vec<Span>>,
    free: Vec<GatherIndex>,
}

impl GatherLists {
    /// An empty list.
    pub(super) fn take(&mut self) -> GatherIndex {
        self.free.pop().unwrap_or_else(|| {
            self.lists.push(Vec::with_capacity(16));
            GatherIndex::of(self.lists.len() as u32 - 1)
        })
    }

    pub(super) fn list(&mut self, index: GatherIndex) -> &mut Vec<Span> {
        &mut self.lists[index.number() as usize]
    }

    pub(super) fn give_back(&mut self, index: GatherIndex) {
        self.list(index).clear();
        self.free.push(index);
    }
}
