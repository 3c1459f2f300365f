//! The buffers that multishot receives of the bare io_uring servers take from.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use crate::uring::{Queues, map};

/// As many buffers of one size as the ring has entries, a power of two.
pub struct Buffers {
    ring: *mut BufRingEntry,
    memory: *mut u8,
    size: usize,
    entries: u16,
    tail: u16,
    /// Buffers that the kernel may take.
    free: u16,
}

impl Buffers {
    /// Registers so many buffers of one size as group 0 and gives them all to the kernel.
    pub fn new(queues: &Queues<'_>, entries: u16, size: usize) -> io::Result<Self> {
        let ring = map(usize::from(entries) * size_of::<BufRingEntry>())?.cast();
        let memory = map(usize::from(entries) * size)?;
        let mut buffers = Self { ring, memory, size, entries, tail: 0, free: 0 };
        (0..entries).for_each(|id| buffers.give(id));
        // SAFETY: the ring is page-aligned, has this many entries and is never unmapped.
        unsafe { queues.submitter().register_buf_ring_with_flags(ring as u64, entries, 0, 0)? };
        Ok(buffers)
    }

    /// Where a buffer is.
    pub fn at(&self, id: u16) -> *mut u8 {
        debug_assert!(id < self.entries);
        // SAFETY: the memory has `entries` buffers of `size` bytes and `id` is one of them.
        unsafe { self.memory.add(usize::from(id) * self.size) }
    }

    /// Gives a buffer to the kernel.
    pub fn give(&mut self, id: u16) {
        let memory = self.at(id);
        // SAFETY: the masked tail is an entry of the ring. The kernel reads an entry only after the store of the tail
        // that covers it, and there are never more than `entries` buffers, so this one is not being read.
        unsafe {
            let entry = &mut *self.ring.add(usize::from(self.tail & (self.entries - 1)));
            entry.set_addr(memory as u64);
            entry.set_len(self.size as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(self.ring).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
        self.free += 1;
    }

    /// A completion has handed one over.
    pub fn took(&mut self) {
        self.free -= 1;
    }

    /// How many the kernel may take.
    pub fn free(&self) -> u16 {
        self.free
    }
}
