//! Slots that other threads give back: a stack that its owner empties at once.
//!
//! 1. `push` links a slot in front of the others and replaces the head. The owner takes the whole stack, never a part of it,
//!    so nobody's view of the head can be about another stack of the same look.
//! 2. An owner that sleeps for want of slots leaves the mark STARVING in the empty stack; whoever replaces the mark wakes it.
//! 3. The owner goes away: CLOSED, for good. What is given back after that is not put in any more.
//!
//! What was done with a slot comes before its next use: `push` releases, `take` acquires. `tests/returns.rs` looks at every
//! order of the steps, with atomics that are made for that: so they are named by the module above.

use super::atomic::{AtomicU32, AtomicU64, Ordering};

const EMPTY: u64 = 0;
const STARVING: u64 = u64::MAX - 1;
const CLOSED: u64 = u64::MAX;

/// The stack, of slots known by their places from 0 on.
pub(super) struct Returns {
    /// Place + 1, EMPTY, STARVING or CLOSED.
    head: AtomicU64,
    /// Per slot the place + 1 of the one below it, or EMPTY.
    next: Box<[AtomicU32]>,
}

/// The owner has gone.
pub(super) struct Closed;

/// What is left of a stack that was taken.
pub(super) struct Taken(u64);

impl Returns {
    /// For so many slots as `next` has places, all 0.
    pub(super) fn new(next: Box<[AtomicU32]>) -> Self {
        Returns { head: AtomicU64::new(EMPTY), next }
    }

    /// Any thread that has this slot: puts it in. Returns what `waker` gave if the owner waits for it.
    ///
    /// Once the slot is in, nothing here is touched any more: the owner may go away at once, and this with it.
    pub(super) fn push<W>(&self, place: usize, waker: impl Fn() -> Option<W>) -> Result<Option<W>, Closed> {
        let own = place as u64 + 1;
        let mut head = self.head.load(Ordering::Acquire);
        while head != CLOSED {
            let waker = if head == STARVING { waker() } else { None };
            let next = if head == STARVING { EMPTY } else { head };
            self.next[place].store(next as u32, Ordering::Relaxed);
            match self.head.compare_exchange_weak(head, own, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(waker),
                Err(now) => head = now,
            }
        }
        Err(Closed)
    }

    /// Owner: all that is there.
    pub(super) fn take(&self) -> Taken {
        // Most turns find nothing: a look is enough, and leaves the line with whoever has it.
        if self.head.load(Ordering::Relaxed) == EMPTY {
            return Taken(EMPTY);
        }
        Taken(self.head.swap(EMPTY, Ordering::AcqRel))
    }

    /// Owner: all that is there, and nothing comes any more.
    pub(super) fn close(&self) -> Taken {
        Taken(self.head.swap(CLOSED, Ordering::AcqRel))
    }

    /// Owner: the next slot of those that were taken.
    pub(super) fn next(&self, taken: &mut Taken) -> Option<usize> {
        if taken.0 == EMPTY || taken.0 >= STARVING {
            return None;
        }
        let place = (taken.0 - 1) as usize;
        taken.0 = u64::from(self.next[place].load(Ordering::Relaxed));
        Some(place)
    }

    /// Owner: leaves the mark that it sleeps without slots; false if some came back meanwhile.
    pub(super) fn mark_starving(&self) -> bool {
        self.head.compare_exchange(EMPTY, STARVING, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}
