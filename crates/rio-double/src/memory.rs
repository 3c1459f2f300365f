//! Registered regions, and which of their bytes are held by requests.
#![allow(unsafe_code)]

use std::collections::{BTreeMap, HashMap};

use windows_sys::Win32::Networking::WinSock::{RIO_BUF, RIO_BUFFERID, WSAEFAULT, WSAEINVAL};

use super::rule::{Rule, refuse, violated};

const PAGE_BYTES: usize = 4096;

/// A slice of a region, held by a request.
#[derive(Clone, Copy)]
pub(crate) struct Slice {
    region: RIO_BUFFERID,
    start: usize,
    pub(crate) length: u32,
    ticket: u64,
}

struct Hold {
    end: usize,
    is_written: bool,
}

struct Region {
    base: usize,
    length: u32,
    /// By start and ticket: sends may share bytes.
    holds: BTreeMap<(usize, u64), Hold>,
    /// The longest hold there ever was, in bytes: nothing that starts further ahead reaches a slice.
    longest: usize,
}

impl Region {
    fn overlaps(&self, start: usize, end: usize, is_written: bool) -> bool {
        let near = self.holds.range((start.saturating_sub(self.longest), 0)..(end, 0));
        near.into_iter().any(|(_, hold)| hold.end > start && (is_written || hold.is_written))
    }
}

/// All regions of the process.
#[derive(Default)]
pub(crate) struct Regions {
    regions: HashMap<RIO_BUFFERID, Region>,
    tickets: u64,
}

impl Regions {
    pub(crate) fn register(&mut self, id: RIO_BUFFERID, base: usize, length: u32) -> Result<RIO_BUFFERID, i32> {
        if base == 0 || length == 0 || !base.is_multiple_of(PAGE_BYTES) {
            return refuse(Rule::RegionShape, WSAEFAULT, format!("{length} bytes at {base:#x}"));
        }
        self.regions.insert(id, Region { base, length, holds: BTreeMap::new(), longest: 0 });
        Ok(id)
    }

    pub(crate) fn deregister(&mut self, id: RIO_BUFFERID) {
        match self.regions.remove(&id) {
            None => violated(Rule::UnknownHandle, format!("buffer {id} is not registered")),
            Some(region) if !region.holds.is_empty() => {
                violated(Rule::RegionHeld, format!("{} requests hold slices of buffer {id}", region.holds.len()));
            }
            Some(_) => {}
        }
    }

    /// Takes a slice for a request, which reads or writes there until [`release`](Self::release).
    pub(crate) fn hold(&mut self, buffer: RIO_BUF, is_written: bool, may_be_empty: bool) -> Result<Slice, i32> {
        let RIO_BUF { BufferId: id, Offset: offset, Length: length } = buffer;
        let Some(region) = self.regions.get_mut(&id) else {
            return refuse(Rule::SliceOutside, WSAEINVAL, format!("buffer {id} is not registered"));
        };
        let is_empty = length == 0 && !may_be_empty;
        if is_empty || u64::from(offset) + u64::from(length) > u64::from(region.length) {
            let detail = format!("{length} bytes at {offset} of buffer {id}, which has {}", region.length);
            return refuse(Rule::SliceOutside, WSAEFAULT, detail);
        }
        let start = region.base + offset as usize;
        let end = start + length as usize;
        if region.overlaps(start, end, is_written) {
            let detail = format!("{length} bytes at {offset} of buffer {id} are held by another request");
            return refuse(Rule::SliceHeld, WSAEINVAL, detail);
        }
        self.tickets += 1;
        region.longest = region.longest.max(length as usize);
        region.holds.insert((start, self.tickets), Hold { end, is_written });
        Ok(Slice { region: id, start, length, ticket: self.tickets })
    }

    /// Lets a slice go: its completion is dequeued, or its request was refused.
    pub(crate) fn release(&mut self, slice: Slice) {
        if let Some(region) = self.regions.get_mut(&slice.region) {
            region.holds.remove(&(slice.start, slice.ticket));
        }
    }

    /// What is in the slice; nothing if its region is gone.
    pub(crate) fn read(&self, slice: Slice) -> Vec<u8> {
        match self.is_there(slice) {
            // SAFETY: RIORegisterBuffer(3) — the caller keeps the memory in place until he deregisters it, and `hold` has
            // seen that the slice lies inside.
            true => unsafe { std::slice::from_raw_parts(slice.start as *const u8, slice.length as usize) }.to_vec(),
            false => Vec::new(),
        }
    }

    /// Fills the slice from its start on, unless its region is gone.
    pub(crate) fn write(&self, slice: Slice, bytes: &[u8]) {
        if self.is_there(slice) {
            let length = bytes.len().min(slice.length as usize);
            // SAFETY: RIORegisterBuffer(3) — as in `read`; and the caller looks there only after the dequeue that calls this.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), slice.start as *mut u8, length) };
        }
    }

    fn is_there(&self, slice: Slice) -> bool {
        self.regions.contains_key(&slice.region)
    }
}
