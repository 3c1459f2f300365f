//! The pool's memory: one page-aligned region, lent out in slots and given back from any thread.
//!
//! Life of a slot:
//! 1. It lies on its section's free list, or the kernel may write into it (a receive slot in a buffer ring).
//! 2. `lend` makes a [`Loan`]: the one and only access to the slot's bytes. `split_off` makes two of one, on ranges that
//!    do not overlap: then `parts` counts the loans of the slot, and all but the last to be dropped only count it down.
//!    A loan that was never split knows nothing of the count.
//! 3. The (last) loan is dropped. On the owner's thread the slot goes back onto the free list (no atomics). On any other thread
//!    it is pushed onto `returns`, a stack that the owner empties once per turn; an owner that sleeps for want of buffers
//!    has left a mark there, and whoever replaces the mark wakes it.
//! 4. The owner goes away: `returns` is closed for good. Whoever gives back the last loan after that frees the memory,
//!    counted by `orphans`.
//!
//! On drop: the region is freed when owner and all loans are gone, in whatever order and on whatever threads.
#![allow(unsafe_code)]

pub(crate) mod buffer;
pub(crate) mod config;
mod returns;
mod span;
#[cfg(test)]
mod tests;

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::{Cell, UnsafeCell};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicIsize, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use self::returns::{Returns, Taken};
pub(crate) use self::span::{Span, SpanList, SpanMut, Target};
use crate::base::capacity;
use crate::base::error::Error;
use crate::base::setting::Setting;
use crate::base::wake::{Wake, Waker};

/// Those of `returns`, which a test replaces.
mod atomic {
    pub(super) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
}

/// Every region starts on a page: io_uring's buffer rings and RIO demand it.
pub(crate) const PAGE_BYTES: usize = 4096;

/// Zeroed, page-aligned memory that does not move.
pub(crate) struct Region {
    allocation: NonNull<u8>,
    base: NonNull<u8>,
    layout: Layout,
}

impl Region {
    /// `bytes` of zeroed memory. A page more is asked for and the start rounded up: an allocation of ordinary alignment
    /// is zeroed lazily by the system, an over-aligned one would be touched page by page. Errors: `OutOfMemory`.
    pub(crate) fn new(bytes: usize, setting: Setting) -> Result<Self, Error> {
        let refused = capacity::refused(bytes, setting);
        let layout = Layout::from_size_align(bytes.saturating_add(PAGE_BYTES), 16).map_err(|_| refused)?;
        // SAFETY: malloc(3) — the layout's size is at least a page, so not zero.
        let allocation = unsafe { alloc_zeroed(layout) };
        let allocation = NonNull::new(allocation).ok_or(refused)?;
        let offset = allocation.as_ptr().align_offset(PAGE_BYTES);
        // SAFETY: malloc(3) — offset < PAGE_BYTES and the allocation is a page longer than what is used.
        let base = unsafe { allocation.add(offset) };
        let region = Region { allocation, base, layout };
        capacity::leave_headroom(bytes, setting)?;
        Ok(region)
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: malloc(3) — allocated in `new` with this very layout and freed once.
        unsafe { dealloc(self.allocation.as_ptr(), self.layout) }
    }
}

/// The parts of the pool. Receive slots and send slots never mix: that is the quota.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Section {
    /// Ordinary receive buffers.
    #[default]
    Receive = 0,
    /// Larger receive buffers, for sockets whose bytes come in bulk.
    Bulk = 1,
    /// Buffers that the application asks for.
    Send = 2,
}

pub(crate) const SECTIONS: [Section; 3] = [Section::Receive, Section::Bulk, Section::Send];

impl Section {
    /// What says how many slots it has.
    fn setting(self) -> Setting {
        match self {
            Section::Receive => Setting::ReceiveCount,
            Section::Bulk => Setting::BulkCount,
            Section::Send => Setting::SendCount,
        }
    }
}

const SECTION_SHIFT: u32 = 30;
/// Marks a loan that shares its slot with others. Numbers are far below.
const PART: u32 = 1 << 29;

/// Section and number of a slot in 32 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SlotIndex(u32);

impl SlotIndex {
    pub(crate) fn new(section: Section, number: u32) -> Self {
        SlotIndex((section as u32) << SECTION_SHIFT | number)
    }

    pub(crate) fn section(self) -> Section {
        SECTIONS[(self.0 >> SECTION_SHIFT) as usize]
    }

    pub(crate) fn number(self) -> u32 {
        self.0 & (PART - 1)
    }
}

#[derive(Clone, Copy)]
struct SectionLayout {
    pub(crate) offset: usize,
    pub(crate) size_bytes: usize,
    pub(crate) count: u32,
    /// Position of the section's first slot among all slots.
    pub(crate) first: u32,
}

struct Local {
    free: [Vec<u32>; 3],
    lent: isize,
    closed: bool,
}

struct Shared {
    region: Region,
    sections: [SectionLayout; 3],
    owner: u64,
    local: UnsafeCell<Local>,
    /// Slots given back by other threads.
    returns: Returns,
    /// Loans of a slot that was split; of others it says nothing.
    parts: Box<[AtomicU32]>,
    orphans: AtomicIsize,
    /// Weak: buffers that outlive the owner keep no descriptor open.
    waker: OnceLock<Weak<dyn Wake>>,
}

thread_local! {
    static THREAD: Cell<u64> = const { Cell::new(0) };
}
static THREADS: AtomicU64 = AtomicU64::new(0);

/// A number of this thread that no other thread of the process ever has.
fn thread_number() -> u64 {
    THREAD.with(|cell| {
        if cell.get() == 0 {
            cell.set(THREADS.fetch_add(1, Ordering::Relaxed) + 1);
        }
        cell.get()
    })
}

impl Shared {
    fn slot_bytes(&self, index: SlotIndex) -> (NonNull<u8>, usize) {
        let section = &self.sections[index.section() as usize];
        debug_assert!(index.number() < section.count);
        let offset = section.offset + index.number() as usize * section.size_bytes;
        // SAFETY: OWN-1 — number < count, so the slot lies inside the region.
        (unsafe { self.region.base().add(offset) }, section.size_bytes)
    }

    fn parts_of(&self, index: SlotIndex) -> &AtomicU32 {
        &self.parts[self.position(index)]
    }

    /// Place of the slot among all slots.
    fn position(&self, index: SlotIndex) -> usize {
        (self.sections[index.section() as usize].first + index.number()) as usize
    }

    /// The slot at this place.
    fn slot_at(&self, position: usize) -> SlotIndex {
        let position = position as u32;
        let is_behind = |section: &&Section| self.sections[**section as usize].first <= position;
        // Sections without slots start where the next one does, and the last that fits has some.
        let section = SECTIONS.iter().rev().find(is_behind).copied().unwrap_or(Section::Receive);
        SlotIndex::new(section, position - self.sections[section as usize].first)
    }
}

/// The owner's end of the pool's memory; stays on its thread.
pub(crate) struct Owner {
    shared: NonNull<Shared>,
    is_leaked: bool,
}

impl Owner {
    /// Errors: `OutOfMemory`, with the section that takes most.
    pub(crate) fn new(counts: [u32; 3], sizes_bytes: [usize; 3]) -> Result<Self, Error> {
        let mut sections = [SectionLayout { offset: 0, size_bytes: 0, count: 0, first: 0 }; 3];
        let (mut offset, mut first) = (0, 0);
        for (section, (count, size_bytes)) in sections.iter_mut().zip(counts.into_iter().zip(sizes_bytes)) {
            *section = SectionLayout { offset, size_bytes, count, first };
            offset = (count as usize).saturating_mul(size_bytes).saturating_add(offset);
            first += count;
        }
        let largest = SECTIONS.into_iter().max_by_key(|section| {
            let section = &sections[*section as usize];
            (section.count as usize).saturating_mul(section.size_bytes)
        });
        let setting = largest.map_or(Setting::ReceiveCount, Section::setting);
        let mut free = [Vec::new(), Vec::new(), Vec::new()];
        for (free, count) in free.iter_mut().zip(counts) {
            *free = capacity::vector(count as usize, setting)?;
            // Low numbers are taken first, so that memory that was never needed is never touched.
            free.extend((0..count).rev());
        }
        let shared = Box::new(Shared {
            region: Region::new(offset, setting)?,
            sections,
            owner: thread_number(),
            local: UnsafeCell::new(Local { free, lent: 0, closed: false }),
            returns: Returns::new(capacity::slice(first, setting, |_| AtomicU32::new(0))?),
            parts: capacity::slice(first, setting, |_| AtomicU32::new(0))?,
            orphans: AtomicIsize::new(0),
            waker: OnceLock::new(),
        });
        Ok(Owner { shared: NonNull::from(Box::leak(shared)), is_leaked: false })
    }

    /// Whom to wake when a buffer comes back while the owner sleeps for want of one.
    pub(crate) fn set_waker(&self, waker: &Waker) {
        let _ = self.shared().waker.set(Arc::downgrade(waker));
    }

    /// Takes a free slot away from the section, for the kernel to fill.
    pub(crate) fn take(&mut self, section: Section) -> Option<u32> {
        self.local().free[section as usize].pop()
    }

    /// Puts back a slot that was taken and not lent.
    pub(crate) fn put(&mut self, section: Section, number: u32) {
        self.local().free[section as usize].push(number);
    }

    /// Makes the one access to a taken slot, all of which counts as filled.
    pub(crate) fn lend(&mut self, section: Section, number: u32) -> Loan {
        self.local().lent += 1;
        let end = self.shared().sections[section as usize].size_bytes as u32;
        Loan { shared: self.shared, index: SlotIndex::new(section, number), start: 0, end, length: end }
    }

    pub(crate) fn free_count(&mut self, section: Section) -> usize {
        self.local().free[section as usize].len()
    }

    /// Slots that are out, split or not.
    pub(crate) fn lent(&mut self) -> usize {
        usize::try_from(self.local().lent).unwrap_or(0)
    }

    /// Moves what other threads gave back onto the free lists. Once per turn.
    pub(crate) fn collect(&mut self) -> usize {
        let taken = self.shared().returns.take();
        self.unwind_returns(taken)
    }

    /// Leaves the mark that the owner sleeps without buffers; false if some came back meanwhile.
    pub(crate) fn mark_starving(&self) -> bool {
        self.shared().returns.mark_starving()
    }

    /// Where a slot starts, for the kernel: the slot was taken and is not lent.
    pub(crate) fn slot_span(&self, section: Section, number: u32) -> SpanMut {
        let (pointer, size) = self.shared().slot_bytes(SlotIndex::new(section, number));
        SpanMut { pointer: pointer.as_ptr(), length: size }
    }

    /// Gives the memory up for good: the kernel may still write into it.
    pub(crate) fn leak(&mut self) {
        self.is_leaked = true;
    }

    fn unwind_returns(&mut self, mut taken: Taken) -> usize {
        let mut count = 0;
        while let Some(place) = self.shared().returns.next(&mut taken) {
            let index = self.shared().slot_at(place);
            self.local().free[index.section() as usize].push(index.number());
            count += 1;
        }
        if count > 0 {
            self.local().lent -= count as isize;
        }
        count
    }

    fn shared(&self) -> &Shared {
        // SAFETY: OWN-1 — the memory lives until the owner and all loans are gone.
        unsafe { self.shared.as_ref() }
    }

    fn local(&mut self) -> &mut Local {
        // SAFETY: THREAD-1 — `Local` is touched by the owner's thread alone (Owner is !Send, loans check the thread),
        // and no reference to it outlives the statement that made it.
        unsafe { &mut *self.shared().local.get() }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if self.is_leaked {
            return;
        }
        let taken = self.shared().returns.close();
        self.unwind_returns(taken);
        let local = self.local();
        local.closed = true;
        let lent = local.lent;
        if self.shared().orphans.fetch_add(lent, Ordering::AcqRel) + lent == 0 {
            // SAFETY: OWN-1 — every loan is back (those dropped meanwhile have counted `orphans` down to -lent).
            drop(unsafe { Box::from_raw(self.shared.as_ptr()) });
        }
    }
}

/// The only access to a range of one slot's bytes: all of them, until it is split or narrowed. Goes home on drop, from any
/// thread.
pub(crate) struct Loan {
    shared: NonNull<Shared>,
    /// With the mark PART if other loans of this slot were made by a split.
    index: SlotIndex,
    /// The range in the slot.
    start: u32,
    end: u32,
    /// How much of it is filled, from its start.
    length: u32,
}

// SAFETY: OWN-1 — a loan is the only access to its range; what it shares with others is atomic or checked by thread.
unsafe impl Send for Loan {}
// SAFETY: OWN-1 — through `&Loan` bytes can only be read.
unsafe impl Sync for Loan {}

impl Loan {
    /// What is filled.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: OWN-1 — zeroed at start, and only this loan has access to the range: `split_off` and `narrow` give away
        // what they take, and `length` never exceeds it.
        unsafe { std::slice::from_raw_parts(self.first().as_ptr(), self.length as usize) }
    }

    /// What is filled, to write.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: OWN-1 — as in `bytes`, and `&mut self` excludes readers. The slice covers this range alone, never the
        // whole slot, so that it overlaps no other part's.
        unsafe { std::slice::from_raw_parts_mut(self.first().as_ptr(), self.length as usize) }
    }

    pub(crate) fn capacity(&self) -> usize {
        (self.end - self.start) as usize
    }

    pub(crate) fn len(&self) -> usize {
        self.length as usize
    }

    /// Fills `length` bytes, at most the capacity.
    pub(crate) fn set_len(&mut self, length: usize) {
        self.length = length.min(self.capacity()) as u32;
    }

    /// Gives up what lies before `start`, and of what is filled behind it all but `length` bytes.
    pub(crate) fn narrow(&mut self, start: usize, length: usize) {
        let start = start.min(self.len());
        self.start += start as u32;
        self.length = length.min(self.len() - start) as u32;
    }

    /// Keeps the first `at` bytes of what is filled, and no capacity beyond; the rest of the range is a loan of its own.
    pub(crate) fn split_off(&mut self, at: usize) -> Loan {
        let at = at.min(self.len()) as u32;
        let parts = self.shared().parts_of(self.index);
        if self.index.0 & PART == 0 {
            // Nobody else knows this slot yet; who gets one of the two loans gets it together with this store.
            parts.store(2, Ordering::Relaxed);
            self.index.0 |= PART;
        } else {
            // As with a new reference to an `Arc`: made from one that exists, so the count is not 0 meanwhile.
            parts.fetch_add(1, Ordering::Relaxed);
        }
        let start = self.start + at;
        let rest = Loan { shared: self.shared, index: self.index, start, end: self.end, length: self.length - at };
        (self.end, self.length) = (start, at);
        rest
    }

    fn first(&self) -> NonNull<u8> {
        let (pointer, size) = self.shared().slot_bytes(self.index);
        debug_assert!(self.start + self.length <= self.end && self.end as usize <= size);
        // SAFETY: OWN-1 — start <= end <= the slot's size, so it lies inside the region, at most at its end.
        unsafe { pointer.add(self.start as usize) }
    }

    /// Counts a part down; true if it was the last loan of its slot. Nothing of `shared` may be touched after a `false`.
    fn is_last(&self) -> bool {
        // Release: what was done with this part comes before the slot's next use. Acquire: so with all other parts.
        self.index.0 & PART == 0 || self.shared().parts_of(self.index).fetch_sub(1, Ordering::AcqRel) == 1
    }

    fn shared(&self) -> &Shared {
        // SAFETY: OWN-1 — the memory lives until the owner and all loans are gone.
        unsafe { self.shared.as_ref() }
    }

    /// Nothing of `shared` may be touched after the slot has been pushed: the owner may free it at once.
    fn return_remote(&self) {
        let shared = self.shared();
        // The owner's wake is held before the slot is gone, and used after.
        let waker = || shared.waker.get().and_then(Weak::upgrade);
        if let Ok(waker) = shared.returns.push(shared.position(self.index), waker) {
            return waker.iter().for_each(|waker| waker.wake());
        }
        if shared.orphans.fetch_sub(1, Ordering::AcqRel) == 1 {
            // SAFETY: OWN-1 — the owner has gone and this was the last loan.
            drop(unsafe { Box::from_raw(self.shared.as_ptr()) });
        }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if !self.is_last() {
            return;
        }
        let shared = self.shared();
        if shared.owner == thread_number() {
            // SAFETY: THREAD-1 — this is the owner's thread, and the reference ends before anything else runs.
            let local = unsafe { &mut *shared.local.get() };
            if !local.closed {
                local.free[self.index.section() as usize].push(self.index.number());
                local.lent -= 1;
                return;
            }
        }
        self.return_remote();
    }
}
