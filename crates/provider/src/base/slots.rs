//! A table of fixed capacity whose keys carry a generation.
//!
//! 1. `insert` takes the most recently freed slot (its line is still in the cache) or the next untouched one, so memory
//!    that was never needed is never touched.
//! 2. `remove` bumps the slot's generation: every key given out before is stale from then on.
//! 3. A slot whose generation is used up is retired rather than wrapped, so that a stale key can never match again. At
//!    four billion uses per slot the table outlives the machine.

//= STALE-1

use std::collections::TryReserveError;

/// Bits of a key that hold the slot's index; the generation takes the 32 bits above.
pub(crate) const INDEX_BITS: u32 = 20;
/// The most slots that a table can have.
pub(crate) const CAPACITY_MAX: usize = 1 << INDEX_BITS;
/// "No slot": the end of an intrusive list.
pub(crate) const NONE: u32 = u32::MAX;

/// Index and generation of one occupant, 52 bits. Never 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Key(u64);

impl Key {
    pub(crate) fn new(index: u32, generation: u32) -> Self {
        Key(u64::from(generation) << INDEX_BITS | u64::from(index))
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Key(bits)
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    pub(crate) fn index(self) -> u32 {
        (self.0 & (CAPACITY_MAX as u64 - 1)) as u32
    }

    pub(crate) fn generation(self) -> u32 {
        (self.0 >> INDEX_BITS) as u32
    }
}

struct Slot<T> {
    generation: u32,
    next_free: u32,
    value: Option<T>,
}

/// The table.
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    capacity: usize,
    free_head: u32,
    length: usize,
    first_generation: u32,
}

impl<T> Slots<T> {
    /// A table for `capacity` occupants, without memory.
    pub(crate) fn new(capacity: usize, first_generation: u32) -> Self {
        assert!(capacity <= CAPACITY_MAX, "a table has at most 2^20 slots");
        Slots { slots: Vec::new(), capacity, free_head: NONE, length: 0, first_generation: first_generation.max(1) }
    }

    /// Takes the memory for all occupants, and touches none of it. Errors: it cannot be had.
    pub(crate) fn reserve(&mut self) -> Result<(), TryReserveError> {
        self.slots.try_reserve_exact(self.capacity)
    }

    /// Bytes that all occupants take.
    pub(crate) fn bytes(&self) -> usize {
        self.capacity * size_of::<Slot<T>>()
    }

    /// Puts a value into a free slot, or gives it back when the table is full.
    #[inline(always)]
    pub(crate) fn insert(&mut self, value: T) -> Result<Key, T> {
        if self.free_head != NONE {
            let index = self.free_head;
            let slot = &mut self.slots[index as usize];
            self.free_head = slot.next_free;
            slot.value = Some(value);
            self.length += 1;
            return Ok(Key::new(index, slot.generation));
        }
        if self.slots.len() == self.capacity {
            return Err(value);
        }
        let index = self.slots.len() as u32;
        self.slots.push(Slot { generation: self.first_generation, next_free: NONE, value: Some(value) });
        self.length += 1;
        Ok(Key::new(index, self.first_generation))
    }

    /// Empties a slot by index and makes all its keys stale.
    pub(crate) fn remove(&mut self, index: u32) -> Option<T> {
        let value = self.slots.get_mut(index as usize)?.value.take()?;
        self.retire(index);
        Some(value)
    }

    /// As [`remove`](Self::remove) of an occupied slot, but drops the value in place.
    #[inline(always)]
    pub(crate) fn clear(&mut self, index: u32) {
        debug_assert!(self.get(index).is_some());
        self.slots[index as usize].value = None;
        self.retire(index);
    }

    fn retire(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        self.length -= 1;
        if slot.generation < u32::MAX {
            slot.generation += 1;
            slot.next_free = self.free_head;
            self.free_head = index;
        }
    }

    /// The index behind a key, if its generation is still the slot's own.
    pub(crate) fn resolve(&self, key: Key) -> Option<u32> {
        let slot = self.slots.get(key.index() as usize)?;
        (slot.generation == key.generation() && slot.value.is_some()).then_some(key.index())
    }

    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        self.slots.get(index as usize)?.value.as_ref()
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.slots.get_mut(index as usize)?.value.as_mut()
    }

    /// The key under which an occupied slot is known.
    pub(crate) fn key(&self, index: u32) -> Key {
        Key::new(index, self.slots[index as usize].generation)
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// The indices of all occupied slots, in order.
    pub(crate) fn indices(&self) -> impl Iterator<Item = u32> + '_ {
        self.slots.iter().enumerate().filter(|(_, slot)| slot.value.is_some()).map(|(index, _)| index as u32)
    }
}

/// An occupied slot; a free one is a bug in the driver, which holds indices of live slots only.
impl<T> std::ops::Index<u32> for Slots<T> {
    type Output = T;

    fn index(&self, index: u32) -> &T {
        self.slots[index as usize].value.as_ref().expect("an index held by the driver names a live slot")
    }
}

impl<T> std::ops::IndexMut<u32> for Slots<T> {
    fn index_mut(&mut self, index: u32) -> &mut T {
        self.slots[index as usize].value.as_mut().expect("an index held by the driver names a live slot")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_stale_after_its_slot_was_reused() {
        let mut slots = Slots::new(2, 1);
        let first = slots.insert('a').unwrap();
        assert_eq!(slots.remove(first.index()), Some('a'));
        let second = slots.insert('b').unwrap();
        assert_eq!(first.index(), second.index());
        assert_eq!(slots.resolve(first), None);
        assert_eq!(slots.resolve(second), Some(second.index()));
    }

    #[test]
    fn a_full_table_gives_the_value_back() {
        let mut slots = Slots::new(1, 1);
        slots.insert(1).unwrap();
        assert_eq!(slots.insert(2), Err(2));
    }

    #[test]
    fn a_used_up_generation_retires_its_slot() {
        let mut slots = Slots::new(1, u32::MAX);
        let last = slots.insert(1).unwrap();
        slots.remove(last.index());
        assert_eq!(slots.resolve(last), None);
        assert_eq!(slots.insert(2), Err(2), "the slot must not come back with an old generation");
    }
}
