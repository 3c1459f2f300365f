//! Registered memory, in slices of one size: what the network card may read and write.
//!
//! Life of a slice:
//! 1. `take` gives out a free one; its bytes are ours (`bytes`, `bytes_mut`).
//! 2. `lend` gives it to the system, with a request: from here on nobody looks there.
//! 3. The request's completion was dequeued: `taken_back`, and its bytes are ours again.
//! 4. `put` makes it free.
//!
//! Regions are few: each is as large as all before it together, so there are at most some twenty, and none is registered
//! before it is needed.
//!
//! On drop: regions are deregistered and freed, unless the system still has a slice; then they are given up for good.
#![allow(unsafe_code)]

use windows_sys::Win32::Networking::WinSock::{RIO_BUF, RIO_BUFFERID};

use crate::backend::iocp::blocks::last_error;
use crate::base::error::{Error, ErrorKind};
use crate::base::setting::Setting;
use crate::memory::Region;
use crate::platform::rio::RioFunctions;

/// Bytes of the first region, at least.
const REGION_BYTES_MIN: usize = 256 * 1024;
/// Bytes of a region, at most: lengths of the system's have 32 bits.
const REGION_BYTES_MAX: usize = 1 << 30;
/// What stands for a region that was refused, see mswsockdef.h.
const RIO_INVALID_BUFFERID: RIO_BUFFERID = 0xFFFF_FFFF;

struct Chunk {
    region: Region,
    buffer: RIO_BUFFERID,
    /// Number of its first slice.
    first: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Holder {
    Nobody,
    Us,
    System,
}

/// Slices of one size.
pub(super) struct Slices {
    functions: RioFunctions,
    slice_bytes: usize,
    /// Never more than so many.
    count_max: u32,
    chunks: Vec<Chunk>,
    holders: Vec<Holder>,
    free: Vec<u32>,
    lent: usize,
}

impl Slices {
    pub(super) fn new(functions: RioFunctions, slice_bytes: usize, count_max: u32) -> Self {
        let (chunks, holders, free) = (Vec::new(), Vec::new(), Vec::new());
        Slices { functions, slice_bytes, count_max, chunks, holders, free, lent: 0 }
    }

    /// Bytes of each.
    pub(super) fn slice_bytes(&self) -> usize {
        self.slice_bytes
    }

    /// One to use. Errors: `Busy` at the bound, `OutOfMemory` if the system registers no more.
    pub(super) fn take(&mut self) -> Result<u32, Error> {
        if self.free.is_empty() {
            self.grow()?;
        }
        let number = self.free.pop().ok_or(Error::new(ErrorKind::Busy))?;
        self.holders[number as usize] = Holder::Us;
        Ok(number)
    }

    /// It is not needed any more.
    pub(super) fn put(&mut self, number: u32) {
        let before = std::mem::replace(&mut self.holders[number as usize], Holder::Nobody);
        assert_eq!(before, Holder::Us, "a slice is given back by who has it");
        self.free.push(number);
    }

    /// Its bytes.
    pub(super) fn bytes_mut(&mut self, number: u32) -> &mut [u8] {
        assert_eq!(self.holders[number as usize], Holder::Us, "only who has a slice looks there");
        let start = self.start(number);
        // SAFETY: OWN-1 — the slice lies inside its region, the system does not have it, and `&mut self` excludes others.
        unsafe { std::slice::from_raw_parts_mut(start, self.slice_bytes) }
    }

    /// Its bytes.
    pub(super) fn bytes(&self, number: u32) -> &[u8] {
        assert_eq!(self.holders[number as usize], Holder::Us, "only who has a slice looks there");
        // SAFETY: OWN-1 — the slice lies inside its region and the system, which alone could write there, does not have it.
        unsafe { std::slice::from_raw_parts(self.start(number), self.slice_bytes) }
    }

    /// Gives it to the system, for one request.
    pub(super) fn lend(&mut self, number: u32) {
        let before = std::mem::replace(&mut self.holders[number as usize], Holder::System);
        assert_eq!(before, Holder::Us, "a slice is lent by who has it");
        self.lent += 1;
    }

    /// A part of a slice that is lent, as the system wants it.
    pub(super) fn part(&self, number: u32, start: usize, length: usize) -> RIO_BUF {
        assert!(self.holders[number as usize] == Holder::System && start + length <= self.slice_bytes);
        let chunk = self.chunk(number);
        let offset = (number - chunk.first) as usize * self.slice_bytes + start;
        RIO_BUF { BufferId: chunk.buffer, Offset: offset as u32, Length: length as u32 }
    }

    /// The system has let go of it: the completion was dequeued, or the request was refused.
    pub(super) fn taken_back(&mut self, number: u32) {
        let before = std::mem::replace(&mut self.holders[number as usize], Holder::Us);
        assert_eq!(before, Holder::System, "a slice comes back from who has it");
        self.lent -= 1;
    }

    fn chunk(&self, number: u32) -> &Chunk {
        let after = self.chunks.partition_point(|chunk| chunk.first <= number);
        &self.chunks[after - 1]
    }

    fn start(&self, number: u32) -> *mut u8 {
        let chunk = self.chunk(number);
        let offset = (number - chunk.first) as usize * self.slice_bytes;
        // SAFETY: OWN-1 — the number was given out, so the slice lies inside the region.
        unsafe { chunk.region.base().as_ptr().add(offset) }
    }

    fn grow(&mut self) -> Result<(), Error> {
        let first = self.holders.len() as u32;
        let wanted = (REGION_BYTES_MIN / self.slice_bytes).max(first as usize).max(1);
        let possible = (REGION_BYTES_MAX / self.slice_bytes).min((self.count_max - first) as usize);
        let count = wanted.min(possible);
        if count == 0 {
            return Ok(());
        }
        let bytes = count * self.slice_bytes;
        let region = Region::new(bytes, Setting::RioReceiveBytes)?;
        let register = self.functions.table.RIORegisterBuffer.ok_or(Error::new(ErrorKind::BackendUnavailable))?;
        // SAFETY: RIORegisterBuffer(3) — the region is `bytes` long and stays in place until it is deregistered.
        let buffer = unsafe { register(region.base().as_ptr(), bytes as u32) };
        if buffer == RIO_INVALID_BUFFERID {
            return Err(Error::from_os(last_error()));
        }
        self.chunks.push(Chunk { region, buffer, first });
        self.holders.resize(first as usize + count, Holder::Nobody);
        // Low numbers first, so that memory that was never needed is never touched.
        self.free.extend((first..first + count as u32).rev());
        Ok(())
    }
}

impl Drop for Slices {
    //= DROP-1
    fn drop(&mut self) {
        if self.lent > 0 {
            return self.chunks.drain(..).for_each(|chunk| std::mem::forget(chunk.region));
        }
        for chunk in &self.chunks {
            if let Some(deregister) = self.functions.table.RIODeregisterBuffer {
                // SAFETY: RIODeregisterBuffer(3) — registered once, and no request on it is outstanding.
                unsafe { deregister(chunk.buffer) };
            }
        }
    }
}
