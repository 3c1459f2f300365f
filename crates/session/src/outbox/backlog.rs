//! The part of an outbox that only some sessions have: what waits before the tail chunk.
//!
//! Entries are numbered in order, so that a key leads to its message without a search. What is superseded or dropped in
//! the middle leaves a gap, which is skipped; gaps are closed when they are the larger part.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::COPY_BYTES_MAX;

/// Gaps that are always borne before it is worth closing them.
const GAPS_MIN: usize = 32;

/// One thing that waits.
pub(super) enum Entry<C> {
    Chunk { chunk: C, messages: u32 },
    Shared { bytes: Bytes, messages: u32 },
    Droppable { key: Option<u32>, frame: Bytes },
    Gap,
}

impl<C> Entry<C> {
    fn shared_bytes(&self) -> u32 {
        match self {
            Entry::Shared { bytes, .. } | Entry::Droppable { frame: bytes, .. } if bytes.len() > COPY_BYTES_MAX => {
                bytes.len() as u32
            }
            _ => 0,
        }
    }
}

/// Backlog: messages that wait before the tail chunk, in order.
pub(crate) struct Backlog<C> {
    entries: VecDeque<Entry<C>>,
    /// Number of the first entry.
    number_first: u64,
    /// Of each key that waits, the entry's number. Ordered rather than hashed: no random source, and the same run again
    /// from the same seed.
    keys: BTreeMap<u32, u64>,
    gaps: usize,
    /// No droppable entry has a smaller number.
    oldest: u64,
    pub(super) droppable_messages: u32,
    pub(super) droppable_bytes: u32,
    /// Bytes by reference that are long enough to be charged where they were made.
    pub(super) shared_bytes: u32,
    /// Dropped since the last time that somebody asked.
    pub(super) dropped: u32,
}

impl<C> Default for Backlog<C> {
    fn default() -> Self {
        Backlog {
            entries: VecDeque::new(),
            number_first: 0,
            keys: BTreeMap::new(),
            gaps: 0,
            oldest: 0,
            droppable_messages: 0,
            droppable_bytes: 0,
            shared_bytes: 0,
            dropped: 0,
        }
    }
}

impl<C> Backlog<C> {
    pub(super) fn push_back(&mut self, entry: Entry<C>) {
        if let Entry::Droppable { key, frame } = &entry {
            if let Some(key) = key {
                self.keys.insert(*key, self.number_first + self.entries.len() as u64);
            }
            self.droppable_messages += 1;
            self.droppable_bytes += frame.len() as u32;
        }
        self.shared_bytes += entry.shared_bytes();
        self.entries.push_back(entry);
    }

    /// The first entry that is not a gap.
    pub(super) fn pop_front(&mut self) -> Option<Entry<C>> {
        loop {
            let entry = self.entries.pop_front()?;
            self.number_first += 1;
            self.shared_bytes -= entry.shared_bytes();
            match &entry {
                Entry::Gap => {
                    self.gaps -= 1;
                    continue;
                }
                Entry::Droppable { key, frame } => self.forget(*key, frame.len()),
                Entry::Chunk { .. } | Entry::Shared { .. } => {}
            }
            return Some(entry);
        }
    }

    /// Takes out the message with this key, if one waits, and says how long it was.
    pub(super) fn remove_key(&mut self, key: u32) -> Option<usize> {
        let number = *self.keys.get(&key)?;
        self.remove(number)
    }

    /// Takes out the droppable message that has waited longest, and says how long it was.
    pub(super) fn remove_oldest(&mut self) -> Option<usize> {
        if self.droppable_messages == 0 {
            return None;
        }
        let from = self.oldest.saturating_sub(self.number_first) as usize;
        let mut later = self.entries.iter().enumerate().skip(from);
        let (index, _) = later.find(|(_, entry)| matches!(entry, Entry::Droppable { .. }))?;
        self.oldest = self.number_first + index as u64;
        self.remove(self.oldest)
    }

    /// Length of the message with this key, if one waits.
    pub(super) fn key_bytes(&self, key: u32) -> Option<usize> {
        let index = self.keys.get(&key)?.checked_sub(self.number_first)?;
        match self.entries.get(index as usize)? {
            Entry::Droppable { frame, .. } => Some(frame.len()),
            _ => None,
        }
    }

    /// Entries that are no gaps.
    #[inline]
    pub(super) fn length(&self) -> usize {
        self.entries.len() - self.gaps
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.len() == self.gaps
    }

    /// Entries, gaps among them.
    pub(super) fn places_taken(&self) -> usize {
        self.entries.len()
    }

    /// Places for entries that it has memory for.
    pub(crate) fn places(&self) -> usize {
        self.entries.capacity()
    }

    /// As new, but for its memory.
    pub(crate) fn clear(&mut self) {
        let mut entries = std::mem::take(&mut self.entries);
        entries.clear();
        *self = Backlog { entries, ..Backlog::default() };
    }

    fn remove(&mut self, number: u64) -> Option<usize> {
        let index = number.checked_sub(self.number_first)? as usize;
        let entry = self.entries.get_mut(index)?;
        let shared_bytes = entry.shared_bytes();
        let Entry::Droppable { key, frame } = std::mem::replace(entry, Entry::Gap) else {
            return None;
        };
        self.shared_bytes -= shared_bytes;
        self.gaps += 1;
        self.forget(key, frame.len());
        if self.gaps > GAPS_MIN.max(self.entries.len() / 2) {
            self.close_gaps();
        }
        Some(frame.len())
    }

    fn forget(&mut self, key: Option<u32>, bytes: usize) {
        if let Some(key) = key {
            self.keys.remove(&key);
        }
        self.droppable_messages -= 1;
        self.droppable_bytes -= bytes as u32;
    }

    /// Numbers move, so the keys are told anew.
    fn close_gaps(&mut self) {
        self.entries.retain(|entry| !matches!(entry, Entry::Gap));
        self.gaps = 0;
        self.oldest = self.number_first;
        let numbered = self.entries.iter().zip(self.number_first..);
        let keyed = numbered.filter_map(|(entry, number)| match entry {
            Entry::Droppable { key: Some(key), .. } => Some((*key, number)),
            _ => None,
        });
        self.keys = keyed.collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn droppable(key: u32) -> Entry<Vec<u8>> {
        Entry::Droppable { key: Some(key), frame: Bytes::from(vec![key as u8; 3]) }
    }

    fn first_bytes(backlog: &mut Backlog<Vec<u8>>) -> Vec<u8> {
        let mut found = Vec::new();
        while let Some(entry) = backlog.pop_front() {
            found.push(match entry {
                Entry::Chunk { chunk, .. } => chunk[0],
                Entry::Shared { bytes, .. } | Entry::Droppable { frame: bytes, .. } => bytes[0],
                Entry::Gap => unreachable!("gaps are skipped"),
            });
        }
        found
    }

    #[test]
    fn superseding_without_end_does_not_grow() {
        let mut backlog = Backlog::default();
        backlog.push_back(Entry::Chunk { chunk: vec![255], messages: 1 });
        for key in 0..20 {
            backlog.push_back(droppable(key));
        }
        for round in 0..10_000u32 {
            let key = round * 7 % 20;
            assert_eq!(backlog.remove_key(key), Some(3));
            backlog.push_back(droppable(key));
        }
        assert!(backlog.entries.len() <= 21 + GAPS_MIN + 1, "{} entries", backlog.entries.len());
        assert_eq!((backlog.droppable_messages, backlog.droppable_bytes), (20, 60));
        assert_eq!(first_bytes(&mut backlog).len(), 21);
        assert!(backlog.is_empty() && backlog.keys.is_empty());
    }

    #[test]
    fn keys_survive_closed_gaps() {
        let mut backlog = Backlog::default();
        for key in 0..100 {
            backlog.push_back(droppable(key));
        }
        for key in 0..90 {
            assert_eq!(backlog.remove_key(key), Some(3), "{key}");
        }
        assert_eq!(backlog.remove_key(95), Some(3));
        assert_eq!(backlog.remove_oldest(), Some(3));
        assert_eq!(first_bytes(&mut backlog), [91, 92, 93, 94, 96, 97, 98, 99]);
    }

    #[test]
    fn the_oldest_goes_first() {
        let mut backlog = Backlog::default();
        for key in [5, 6, 7] {
            backlog.push_back(Entry::Chunk { chunk: vec![100 + key as u8], messages: 1 });
            backlog.push_back(droppable(key));
        }
        assert_eq!((backlog.remove_oldest(), backlog.remove_oldest()), (Some(3), Some(3)));
        backlog.push_back(droppable(8));
        assert_eq!(backlog.remove_key(5), None);
        assert_eq!(first_bytes(&mut backlog), [105, 106, 107, 7, 8]);
        assert_eq!(backlog.remove_oldest(), None);
    }

    #[test]
    fn the_oldest_is_found_after_gaps_are_closed() {
        let mut backlog = Backlog::default();
        for frame in (1..=200).map(|length| vec![0; length]) {
            backlog.push_back(Entry::<Vec<u8>>::Droppable { key: None, frame: frame.into() });
        }
        let removed: Vec<usize> = std::iter::from_fn(|| backlog.remove_oldest()).collect();
        assert_eq!(removed, (1..=200).collect::<Vec<_>>());
        assert!(backlog.is_empty() && backlog.entries.len() <= GAPS_MIN, "{} gaps", backlog.gaps);
    }
}
