//! The table of overlapped blocks: what the system writes into while an operation is under way.
//!
//! Life of a block:
//! 1. `take` clears a free block and notes whom it serves.
//! 2. Its address goes into one system call. From then on the system may write to it, and it neither moves nor is freed.
//! 3. The operation's completion is taken out of the port: `find` knows the block by its address, `release` frees it and
//!    moves its generation on. A call that has ended at once, without a completion, is released right away.
//! 4. A call that has failed at once leaves a completion all the same if its status is a warning rather than an error, and
//!    which it is the caller is not told: so the block is put aside with `settle` and comes back when everything that was
//!    in the port before has been taken out.
//!
//! A cancel names a block by index and generation, so one that comes late reaches no other operation.
//!
//! Bound: one block per request in the system, and those of the accepts ahead of each listener.
//!
//! On drop: freed if none is in use; else the system may still write, and the memory is given up for good.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use windows_sys::Win32::Networking::WinSock::{SOCKET, WSAGetLastError, WSAGetOverlappedResult};
use windows_sys::Win32::System::IO::{CancelIoEx, OVERLAPPED, OVERLAPPED_0};

use super::port::{Port, key};
use crate::base::error::Error;
use crate::base::slots::NONE;
use crate::contract::{CompletionMode, RequestKey};
use crate::platform::RawHandle;

/// Blocks per allocation.
const CHUNK_BLOCKS: usize = 256;
/// Room beside the overlapped structure, in bytes: two addresses of AcceptEx (2 × 44), or the header of a message, its
/// buffer and its sender (56 + 16 + 28).
pub(in crate::backend) const ROOM_BYTES: usize = 104;

/// What belongs to the system while an operation is under way.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Block {
    overlapped: OVERLAPPED,
    room: [u8; ROOM_BYTES],
}

impl Block {
    const EMPTY: Block = Block {
        overlapped: OVERLAPPED {
            Internal: 0,
            InternalHigh: 0,
            Anonymous: OVERLAPPED_0 { Pointer: std::ptr::null_mut() },
            hEvent: std::ptr::null_mut(),
        },
        room: [0; ROOM_BYTES],
    };
}

/// What an operation is there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::backend) enum Job {
    /// A connection, into the place of that number.
    Accept(u32),
    Connect,
    /// Nothing is received: it ends when there is something to receive.
    Ready,
    ReceiveInto,
    /// One datagram, into the socket's own memory.
    Datagram,
    Send(CompletionMode),
    SendDatagram(CompletionMode),
}

/// Whom a block serves.
#[derive(Clone, Copy, Debug)]
pub(in crate::backend) struct Use {
    pub(in crate::backend) key: RequestKey,
    pub(in crate::backend) socket: u32,
    pub(in crate::backend) handle: RawHandle,
    pub(in crate::backend) job: Job,
}

/// Index and generation of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::backend) struct BlockId {
    pub(in crate::backend) index: u32,
    generation: u32,
}

/// What has come of a system call that starts an operation.
pub(in crate::backend) enum Started {
    /// Its completion will come.
    Pending,
    /// It has ended with so many bytes, and no completion will come.
    Done(u32),
    /// It has failed: nothing is under way, but a completion may have been left.
    Failed(Error),
}

struct Tenant {
    generation: u32,
    used: Option<Use>,
}

/// The table.
pub(in crate::backend) struct Blocks {
    chunks: Vec<NonNull<Block>>,
    /// Address and number of each chunk, by address.
    addresses: Vec<(usize, u32)>,
    tenants: Vec<Tenant>,
    free: Vec<u32>,
    /// The block of each operation slot's request, if it has one of its own.
    by_operation: Vec<u32>,
    /// Cancels that have not found their operation, though it has not ended.
    unheard: Vec<BlockId>,
    used: usize,
}

impl Blocks {
    pub(in crate::backend) fn new() -> Self {
        Blocks {
            chunks: Vec::new(),
            addresses: Vec::new(),
            tenants: Vec::new(),
            free: Vec::new(),
            by_operation: Vec::new(),
            unheard: Vec::new(),
            used: 0,
        }
    }

    /// A cleared block.
    pub(in crate::backend) fn take(&mut self, user: Use) -> BlockId {
        if self.free.is_empty() {
            self.grow();
        }
        let index = self.free.pop().expect("the table has just grown");
        // SAFETY: OWN-1 — the block is free: the system has no pointer to it.
        unsafe { self.block(index).write(Block::EMPTY) };
        let tenant = &mut self.tenants[index as usize];
        tenant.used = Some(user);
        self.used += 1;
        if !matches!(user.job, Job::Accept(_)) {
            let operation = user.key.index() as usize;
            if self.by_operation.len() <= operation {
                self.by_operation.resize(operation + 1, NONE);
            }
            self.by_operation[operation] = index;
        }
        BlockId { index, generation: self.tenants[index as usize].generation }
    }

    /// The operation has ended and the system has let go of the block.
    pub(in crate::backend) fn release(&mut self, index: u32) -> Option<Use> {
        let tenant = &mut self.tenants[index as usize];
        let user = tenant.used.take()?;
        tenant.generation = tenant.generation.wrapping_add(1);
        self.used -= 1;
        self.free.push(index);
        Some(user)
    }

    /// The operation has ended, but a completion of it may be in the port: the block is free once that has been passed.
    pub(in crate::backend) fn settle(&mut self, index: u32, port: &Port) -> Option<Use> {
        let overlapped = self.overlapped(index);
        let tenant = &mut self.tenants[index as usize];
        let user = tenant.used.take()?;
        tenant.generation = tenant.generation.wrapping_add(1);
        self.used -= 1;
        // Without memory for the mark the block stays aside for good.
        port.post(key::SETTLED, overlapped);
        Some(user)
    }

    /// The mark of a block that was put aside has come out of the port.
    pub(in crate::backend) fn settled(&mut self, overlapped: *const OVERLAPPED) {
        if let Some(index) = self.index_of(overlapped) {
            self.free.push(index);
        }
    }

    /// Asks for the operation of a block to end early. Its completion comes all the same. One that has ended meanwhile is
    /// not touched.
    pub(in crate::backend) fn cancel(&mut self, id: BlockId) {
        let tenant = &self.tenants[id.index as usize];
        let Some(user) = tenant.used.filter(|_| tenant.generation == id.generation) else { return };
        // SAFETY: Win32: CancelIoEx — the handle is open until the last completion of its socket has come; the pointer
        // only names the operation.
        let is_found = unsafe { CancelIoEx(user.handle as _, self.overlapped(id.index)) != 0 };
        if !is_found {
            self.unheard.push(id);
        }
    }

    /// Asks again for those that were not found: either their completions are in the port, or the system was just trying
    /// them again and has put them back.
    //= CANCEL-1
    pub(in crate::backend) fn cancel_again(&mut self) {
        let unheard = std::mem::take(&mut self.unheard);
        unheard.into_iter().for_each(|id| self.cancel(id));
    }

    /// True if there are some that a wait must not forget.
    pub(in crate::backend) fn has_unheard(&self) -> bool {
        !self.unheard.is_empty()
    }

    /// The block of a request that has exactly one.
    pub(in crate::backend) fn of_request(&self, key: RequestKey) -> Option<BlockId> {
        let index = *self.by_operation.get(key.index() as usize)?;
        let tenant = self.tenants.get(index as usize)?;
        let is_its_own = |user: &Use| user.key == key && !matches!(user.job, Job::Accept(_));
        tenant.used.as_ref().filter(|user| is_its_own(user))?;
        Some(BlockId { index, generation: tenant.generation })
    }

    /// The blocks that the system has.
    pub(in crate::backend) fn in_use(&self) -> impl Iterator<Item = BlockId> + '_ {
        let in_use = self.tenants.iter().zip(0..).filter(|(tenant, _)| tenant.used.is_some());
        in_use.map(|(tenant, index)| BlockId { index, generation: tenant.generation })
    }

    /// How many those are.
    pub(in crate::backend) fn used(&self) -> usize {
        self.used
    }

    /// The block in use behind the pointer of a completion, and whom it serves. `None` for what is not ours: whoever holds a
    /// duplicate of a socket may start operations of his own.
    pub(in crate::backend) fn find(&self, overlapped: *const OVERLAPPED) -> Option<(u32, Use)> {
        let index = self.index_of(overlapped)?;
        Some((index, self.tenants[index as usize].used?))
    }

    /// How the operation of a block has ended, once its completion has come: bytes, or why not.
    pub(in crate::backend) fn result(&self, index: u32, bytes: u32) -> Result<u32, Error> {
        let overlapped = self.overlapped(index);
        // SAFETY: Win32: OVERLAPPED — the completion has come, so the system writes no more.
        let status = unsafe { (*overlapped).Internal };
        if status == 0 {
            return Ok(bytes);
        }
        let handle = self.tenants[index as usize].used.map_or(0, |user| user.handle);
        let (mut transferred, mut flags) = (0, 0);
        // SAFETY: Win32: WSAGetOverlappedResult — the operation has ended, and its socket is still open.
        let is_done = unsafe {
            WSAGetOverlappedResult(handle as SOCKET, overlapped, &raw mut transferred, 0, &raw mut flags) != 0
        };
        // SAFETY: Win32: WSAGetLastError — no arguments.
        if is_done { Ok(transferred) } else { Err(Error::from_os(unsafe { WSAGetLastError() })) }
    }

    /// Where the system reports on the operation.
    pub(in crate::backend) fn overlapped(&self, index: u32) -> *mut OVERLAPPED {
        // SAFETY: OWN-1 — the block lies inside its chunk, and chunks live as long as the table.
        unsafe { &raw mut (*self.block(index)).overlapped }
    }

    /// [`ROOM_BYTES`] bytes beside it, at an address that is a multiple of 8.
    pub(in crate::backend) fn room(&self, index: u32) -> *mut u8 {
        // SAFETY: OWN-1 — as above.
        unsafe { (&raw mut (*self.block(index)).room).cast() }
    }

    fn block(&self, index: u32) -> *mut Block {
        let (chunk, place) = (index as usize / CHUNK_BLOCKS, index as usize % CHUNK_BLOCKS);
        // SAFETY: OWN-1 — place < CHUNK_BLOCKS, the length of every chunk.
        unsafe { self.chunks[chunk].as_ptr().add(place) }
    }

    fn index_of(&self, overlapped: *const OVERLAPPED) -> Option<u32> {
        let address = overlapped as usize;
        let after = self.addresses.partition_point(|(start, _)| *start <= address);
        let (start, chunk) = *self.addresses.get(after.checked_sub(1)?)?;
        let (place, rest) = ((address - start) / size_of::<Block>(), (address - start) % size_of::<Block>());
        (place < CHUNK_BLOCKS && rest == 0).then(|| chunk * CHUNK_BLOCKS as u32 + place as u32)
    }

    fn grow(&mut self) {
        let chunk: Box<[Block]> = vec![Block::EMPTY; CHUNK_BLOCKS].into();
        let first = NonNull::from(Box::leak(chunk)).cast::<Block>();
        let (number, count) = (self.chunks.len() as u32, CHUNK_BLOCKS as u32);
        self.chunks.push(first);
        let place = self.addresses.partition_point(|(start, _)| *start < first.as_ptr() as usize);
        self.addresses.insert(place, (first.as_ptr() as usize, number));
        self.tenants.extend((0..count).map(|_| Tenant { generation: 1, used: None }));
        self.free.extend((number * count..(number + 1) * count).rev());
    }
}

impl Drop for Blocks {
    //= DROP-1
    fn drop(&mut self) {
        if self.used > 0 {
            return;
        }
        for chunk in self.chunks.drain(..) {
            let chunk = NonNull::slice_from_raw_parts(chunk, CHUNK_BLOCKS);
            // SAFETY: OWN-1 — made from a box of this length in `grow`, and the system has no pointer into it any more.
            drop(unsafe { Box::from_raw(chunk.as_ptr()) });
        }
    }
}

/// What the result of a call says that returns 0 if it has ended, on a socket that does or does not leave a completion then.
pub(in crate::backend) fn started(result: i32, bytes: u32, skips: bool) -> Started {
    use windows_sys::Win32::Networking::WinSock::WSA_IO_PENDING;
    if result == 0 {
        return if skips { Started::Done(bytes) } else { Started::Pending };
    }
    match last_error() {
        WSA_IO_PENDING => Started::Pending,
        code => Started::Failed(Error::from_os(code)),
    }
}

/// The code of the last call of this thread that failed.
pub(in crate::backend) fn last_error() -> i32 {
    // SAFETY: Win32: WSAGetLastError — no arguments.
    unsafe { WSAGetLastError() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::slots::Key;

    fn user(operation: u32, generation: u32) -> Use {
        Use { key: Key::new(operation, generation), socket: 0, handle: 0, job: Job::ReceiveInto }
    }

    #[test]
    fn a_block_is_found_by_its_address_and_by_its_request_while_it_is_in_use() {
        let mut blocks = Blocks::new();
        let ids: Vec<_> = (0..1000).map(|operation| blocks.take(user(operation, 7))).collect();
        for (id, operation) in ids.iter().zip(0..) {
            let (index, found) = blocks.find(blocks.overlapped(id.index)).unwrap();
            assert_eq!((index, found.key), (id.index, Key::new(operation, 7)));
            assert_eq!(blocks.of_request(Key::new(operation, 7)), Some(*id));
            assert_eq!(blocks.of_request(Key::new(operation, 8)), None, "another tenant of the slot");
        }
        assert_eq!(blocks.in_use().count(), 1000);
        for id in &ids {
            assert!(blocks.release(id.index).is_some());
            assert!(blocks.find(blocks.overlapped(id.index)).is_none(), "it is free");
            assert!(blocks.release(id.index).is_none());
        }
        assert_eq!(blocks.used(), 0);
    }

    #[test]
    fn a_pointer_that_is_not_ours_is_no_block() {
        let mut blocks = Blocks::new();
        let id = blocks.take(user(1, 1));
        let own = blocks.overlapped(id.index);
        let foreign = Block::EMPTY;
        assert!(blocks.find(&raw const foreign.overlapped).is_none());
        assert!(blocks.find(std::ptr::null()).is_none());
        assert!(blocks.find(own.wrapping_byte_add(8)).is_none());
        assert!(blocks.find(own).is_some());
        blocks.release(id.index);
    }

    #[test]
    fn an_id_of_an_earlier_tenant_names_nothing() {
        let mut blocks = Blocks::new();
        let first = blocks.take(user(1, 1));
        blocks.release(first.index);
        let second = blocks.take(user(1, 2));
        assert_eq!(first.index, second.index);
        assert_ne!(first, second);
        blocks.cancel(first);
        assert!(!blocks.has_unheard(), "it was not even asked for");
        assert_eq!(blocks.of_request(Key::new(1, 2)), Some(second));
        blocks.release(second.index);
    }

    #[test]
    fn a_cancel_that_finds_nothing_is_repeated_until_the_end() {
        let mut blocks = Blocks::new();
        // No socket has the handle 0, so no cancel ever finds an operation on it.
        let id = blocks.take(user(1, 1));
        blocks.cancel(id);
        blocks.cancel_again();
        assert!(blocks.has_unheard(), "it is still in use");
        blocks.release(id.index);
        blocks.cancel_again();
        assert!(!blocks.has_unheard(), "a completion has come");
    }

    #[test]
    fn a_settled_block_waits_for_its_mark() {
        let port = Port::new().unwrap();
        let mut blocks = Blocks::new();
        let id = blocks.take(user(1, 1));
        assert!(blocks.settle(id.index, &port).is_some());
        assert_eq!(blocks.used(), 0);
        let others: Vec<_> = (0..CHUNK_BLOCKS as u32).map(|operation| blocks.take(user(operation, 1))).collect();
        assert!(others.iter().all(|other| other.index != id.index), "a completion of it may be in the port");
        let mut entries = Vec::with_capacity(4);
        port.wait(&mut entries, None).unwrap();
        assert_eq!(entries[0].lpCompletionKey, key::SETTLED);
        blocks.settled(entries[0].lpOverlapped);
        // The most recently freed one comes first.
        assert_eq!(blocks.take(user(5000, 1)).index, id.index);
        blocks.in_use().collect::<Vec<_>>().into_iter().for_each(|id| assert!(blocks.release(id.index).is_some()));
    }
}
