//! Deadlines in an indexed binary heap: set, move and cancel in O(log n), and a cancelled one leaves nothing behind.

use crate::base::index::{Index, OperationIndex, SocketIndex, index};
use crate::base::slots::NONE;

/// What a deadline is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Due {
    /// A timer operation.
    Operation(OperationIndex),
    /// A socket's graceful close.
    Close(SocketIndex),
    /// A listener's next try to accept.
    Accept(SocketIndex),
    /// A connecting socket's next try.
    Connect(SocketIndex),
}

index!(
    /// Name of a deadline that is set.
    pub(crate) TimerHandle
);

#[derive(Clone, Copy)]
struct Entry {
    due: Due,
    deadline_ns: u64,
    /// Place in the heap, or the next free entry.
    place: u32,
}

/// The heap. Handles stay valid until `remove` or until `pop_due` returns their entry.
#[derive(Default)]
pub(crate) struct Timers {
    entries: Vec<Entry>,
    heap: Vec<u32>,
    free: Option<u32>,
}

impl Timers {
    /// Sets a deadline. The number of entries is bounded by the tables of those who set them.
    pub(crate) fn insert(&mut self, deadline_ns: u64, due: Due) -> TimerHandle {
        let place = self.heap.len() as u32;
        let entry = Entry { due, deadline_ns, place };
        let handle = match self.free {
            Some(handle) => {
                let next = self.entries[handle as usize].place;
                self.free = (next != NONE).then_some(next);
                self.entries[handle as usize] = entry;
                handle
            }
            None => {
                self.entries.push(entry);
                self.entries.len() as u32 - 1
            }
        };
        self.heap.push(handle);
        self.sift_up(place as usize);
        TimerHandle::of(handle)
    }

    /// Takes a deadline away.
    pub(crate) fn remove(&mut self, handle: TimerHandle) {
        self.take_out(handle.number());
    }

    /// The earliest deadline.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        self.heap.first().map(|handle| self.entries[*handle as usize].deadline_ns)
    }

    /// Takes out the earliest one, if its time has come.
    pub(crate) fn pop_due(&mut self, now_ns: u64) -> Option<Due> {
        let handle = *self.heap.first()?;
        let Entry { due, deadline_ns, .. } = self.entries[handle as usize];
        (deadline_ns <= now_ns).then(|| {
            self.take_out(handle);
            due
        })
    }

    fn take_out(&mut self, handle: u32) {
        let place = self.entries[handle as usize].place as usize;
        let last = self.heap.len() - 1;
        self.swap(place, last);
        self.heap.pop();
        if place < last {
            self.sift_up(place);
            self.sift_down(place);
        }
        self.entries[handle as usize].place = self.free.unwrap_or(NONE);
        self.free = Some(handle);
    }

    fn deadline(&self, place: usize) -> u64 {
        self.entries[self.heap[place] as usize].deadline_ns
    }

    fn swap(&mut self, first: usize, second: usize) {
        self.heap.swap(first, second);
        self.entries[self.heap[first] as usize].place = first as u32;
        self.entries[self.heap[second] as usize].place = second as u32;
    }

    fn sift_up(&mut self, mut place: usize) {
        while place > 0 && self.deadline(place) < self.deadline((place - 1) / 2) {
            self.swap(place, (place - 1) / 2);
            place = (place - 1) / 2;
        }
    }

    fn sift_down(&mut self, mut place: usize) {
        loop {
            let Some(child) =
                (2 * place + 1..(2 * place + 3).min(self.heap.len())).min_by_key(|child| self.deadline(*child))
            else {
                return;
            };
            if self.deadline(place) <= self.deadline(child) {
                return;
            }
            self.swap(place, child);
            place = child;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_in_order_and_removed_ones_do_not() {
        let mut timers = Timers::default();
        // A fixed scramble of 0..1000 with handles remembered.
        let handles: Vec<_> = (0..1000u64).map(|n| (n * 7919 % 1000, n)).collect();
        let handles: Vec<_> = handles
            .into_iter()
            .map(|(at, n)| (at, timers.insert(at, Due::Operation(OperationIndex::of(n as u32)))))
            .collect();
        for (_, handle) in handles.iter().filter(|(at, _)| at % 3 == 0) {
            timers.remove(*handle);
        }
        assert_eq!(timers.pop_due(0), None, "0 is divisible by 3");
        let mut expected = (0..1000u64).filter(|at| at % 3 != 0);
        while let Some(next) = timers.next_ns() {
            assert_eq!(Some(next), expected.next());
            assert!(timers.pop_due(next).is_some());
        }
        assert_eq!(expected.next(), None);
        assert_eq!(timers.entries.len(), 1000);
        timers.insert(5, Due::Close(SocketIndex::of(1)));
        assert_eq!(timers.entries.len(), 1000, "entries are used again");
    }
}
