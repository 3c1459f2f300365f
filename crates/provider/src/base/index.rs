//! Indices: numbers of places, each type good for its own table only.

use std::marker::PhantomData;

use crate::base::slots::{Key, Slots};

/// Number of a place in a table of one kind.
pub(crate) trait Index: Copy {
    fn of(number: u32) -> Self;

    fn number(self) -> u32;
}

/// Declares a type of index. It holds one more than the number, so that an `Option` of it is no larger.
macro_rules! index {
    ($(#[$doc:meta])* $visibility:vis $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        $visibility struct $name(std::num::NonZeroU32);

        impl $crate::base::index::Index for $name {
            #[inline]
            fn of(number: u32) -> Self {
                $name(std::num::NonZeroU32::new(number + 1).expect("a table has fewer places"))
            }

            #[inline]
            fn number(self) -> u32 {
                self.0.get() - 1
            }
        }
    };
}
pub(crate) use index;

index!(
    /// Index of a socket in the driver's table of sockets.
    pub(crate) SocketIndex
);
index!(
    /// Index of an operation in the driver's table of operations.
    pub(crate) OperationIndex
);

/// A table of slots that only an index of its own kind opens.
pub(crate) struct Table<I, T> {
    slots: Slots<T>,
    index: PhantomData<I>,
}

impl<I: Index, T> Table<I, T> {
    /// The table of these slots.
    pub(crate) fn of(slots: Slots<T>) -> Self {
        Table { slots, index: PhantomData }
    }

    /// Puts a value into a free slot, or gives it back when the table is full.
    #[inline(always)]
    pub(crate) fn insert(&mut self, value: T) -> Result<I, T> {
        self.slots.insert(value).map(|key| I::of(key.index()))
    }

    /// Empties a slot and makes all its keys stale.
    pub(crate) fn remove(&mut self, index: I) -> Option<T> {
        self.slots.remove(index.number())
    }

    /// As [`remove`](Self::remove) of an occupied slot, but drops the value in place.
    #[inline(always)]
    pub(crate) fn clear(&mut self, index: I) {
        self.slots.clear(index.number());
    }

    /// The index behind a key, if its generation is still the slot's own.
    #[inline]
    pub(crate) fn resolve(&self, key: Key) -> Option<I> {
        self.slots.resolve(key).map(I::of)
    }

    #[inline]
    pub(crate) fn get(&self, index: I) -> Option<&T> {
        self.slots.get(index.number())
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: I) -> Option<&mut T> {
        self.slots.get_mut(index.number())
    }

    /// The key under which an occupied slot is known.
    #[inline]
    pub(crate) fn key(&self, index: I) -> Key {
        self.slots.key(index.number())
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The indices of all occupied slots, in order.
    pub(crate) fn indices(&self) -> impl Iterator<Item = I> + '_ {
        self.slots.indices().map(I::of)
    }
}

/// An occupied slot; a free one is a bug in the driver, which holds indices of live slots only.
impl<I: Index, T> std::ops::Index<I> for Table<I, T> {
    type Output = T;

    #[inline]
    fn index(&self, index: I) -> &T {
        &self.slots[index.number()]
    }
}

impl<I: Index, T> std::ops::IndexMut<I> for Table<I, T> {
    #[inline]
    fn index_mut(&mut self, index: I) -> &mut T {
        &mut self.slots[index.number()]
    }
}

const _: () = assert!(size_of::<Option<SocketIndex>>() == 4 && size_of::<Option<OperationIndex>>() == 4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_its_number() {
        for number in [0, 1, (1 << 20) - 1] {
            assert_eq!((SocketIndex::of(number).number(), OperationIndex::of(number).number()), (number, number));
        }
    }
}
