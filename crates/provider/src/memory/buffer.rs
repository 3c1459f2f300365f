//! The buffer pool: fixed memory, lent in slots that come back by themselves.

use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::base::error::Error;
use crate::base::wake::Waker;
use crate::memory::config::PoolConfig;
use crate::memory::{Loan, Owner, SpanMut};

pub(crate) use crate::memory::Section;

/// Bytes in a slot of the driver's pool. Goes back to its pool on drop, from any thread.
///
/// Received bytes come in one, and it can be sent as it is: `driver.send(socket, buffer, token)` copies nothing.
///
/// ```
/// use raon_provider::{Config, Driver};
/// let mut driver = Driver::open(&Config::default())?;
/// let mut buffer = driver.buffer().expect("a fresh pool has buffers");
/// buffer.fill_from(b"hello");
/// assert_eq!((&buffer[..], buffer.capacity()), (&b"hello"[..], 4096));
/// # Ok::<(), raon_provider::Error>(())
/// ```
#[derive(Default)]
pub struct Buffer {
    loan: Option<Loan>,
}

impl Buffer {
    /// No bytes and no slot: what the end of a receive stream carries.
    pub const fn empty() -> Self {
        Buffer { loan: None }
    }

    /// How many bytes fit, in bytes.
    pub fn capacity(&self) -> usize {
        self.loan.as_ref().map_or(0, Loan::capacity)
    }

    /// How many bytes it holds. As that of the slice, without looking at the slot.
    pub fn len(&self) -> usize {
        self.loan.as_ref().map_or(0, Loan::len)
    }

    /// True if it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes as many of `bytes` as fit, in place of what was there, and says how many.
    pub fn fill_from(&mut self, bytes: &[u8]) -> usize {
        if let Some(loan) = &mut self.loan {
            loan.set_len(0);
        }
        self.put(bytes)
    }

    /// Adds as many of `bytes` as fit behind what is there, and says how many.
    //= OWN-3
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) -> usize {
        let Some(loan) = &mut self.loan else { return 0 };
        let start = loan.len();
        let count = bytes.len().min(loan.capacity() - start);
        loan.set_len(start + count);
        loan.bytes_mut()[start..].copy_from_slice(&bytes[..count]);
        count
    }

    /// Cuts it to `length` bytes from `start` on.
    pub(crate) fn narrow(&mut self, start: usize, length: usize) {
        if let Some(loan) = &mut self.loan {
            loan.narrow(start, length);
        }
    }

    /// Keeps the first `at` bytes; the others are a buffer of their own in the same slot, and neither reaches into the other.
    pub(crate) fn split_off(&mut self, at: usize) -> Buffer {
        Buffer { loan: self.loan.as_mut().map(|loan| loan.split_off(at)) }
    }

    /// Sets the number of bytes, at most [`capacity`](Self::capacity). Bytes that are added are zero: what others have
    /// left in the slot is never seen. [`put`](Self::put) adds bytes without the zeros.
    //= OWN-3
    pub fn set_len(&mut self, length: usize) {
        let Some(loan) = &mut self.loan else { return };
        let start = loan.len();
        loan.set_len(length);
        if let Some(added) = loan.bytes_mut().get_mut(start..) {
            added.fill(0);
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.loan.as_ref().map_or(&[], Loan::bytes)
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.loan.as_mut().map_or(&mut [], Loan::bytes_mut)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} of {} bytes)", self.len(), self.capacity())
    }
}

/// Fill state of the pool, in slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolState {
    /// Slots that are lent now, of any section.
    pub lent: usize,
    /// Receive slots not lent (free, or waiting in the kernel's ring).
    pub receive_free: usize,
    /// Send slots not lent.
    pub send_free: usize,
}

/// The owner's end of the pool. Receive slots and send slots are apart, so neither side can use up the other's.
//= STARVE-1
pub(crate) struct BufferPool {
    owner: Owner,
    /// Receive slots that are with the kernel, per section.
    kernel: [usize; 3],
    /// Slots that it has ever got.
    given: [u64; 3],
}

impl BufferPool {
    /// Errors: `OutOfMemory`.
    pub(crate) fn new(config: &PoolConfig) -> Result<Self, Error> {
        let counts = [config.receive_count, config.bulk_count, config.send_count];
        let sizes = [config.buffer_bytes, config.bulk_bytes, config.buffer_bytes].map(|bytes| bytes as usize);
        Ok(BufferPool { owner: Owner::new(counts, sizes)?, kernel: [0; 3], given: [0; 3] })
    }

    pub(crate) fn set_waker(&self, waker: &Waker) {
        self.owner.set_waker(waker);
    }

    /// A slot of the send quota, empty; `None` when all are lent.
    pub(crate) fn lend_send(&mut self) -> Option<Buffer> {
        let number = self.owner.take(Section::Send)?;
        Some(self.lend(Section::Send, number, 0))
    }

    /// A receive slot to try a receive into: full length, to be cut by `set_len`.
    pub(crate) fn lend_receive(&mut self, section: Section) -> Option<Buffer> {
        let number = self.owner.take(section)?;
        Some(self.lend(section, number, usize::MAX))
    }

    /// A slot for the kernel to fill by itself; it comes back by [`take_kernel`](Self::take_kernel).
    pub(crate) fn give_kernel(&mut self, section: Section) -> Option<(u32, SpanMut)> {
        let number = self.owner.take(section)?;
        self.kernel[section as usize] += 1;
        self.given[section as usize] += 1;
        Some((number, self.owner.slot_span(section, number)))
    }

    /// The kernel filled `length` bytes of a slot that it had.
    pub(crate) fn take_kernel(&mut self, section: Section, number: u32, length: usize) -> Buffer {
        self.kernel[section as usize] -= 1;
        self.lend(section, number, length)
    }

    /// A slot that the kernel had and never used.
    pub(crate) fn take_unused(&mut self, section: Section, number: u32) {
        self.kernel[section as usize] -= 1;
        self.owner.put(section, number);
    }

    /// Receive slots that are neither lent nor with the kernel.
    pub(crate) fn free(&mut self, section: Section) -> usize {
        self.owner.free_count(section)
    }

    /// Slots that a receive can still get, here or in the kernel.
    pub(crate) fn available(&mut self, section: Section) -> usize {
        self.owner.free_count(section) + self.kernel[section as usize]
    }

    /// Slots that the kernel has ever got of the section.
    pub(crate) fn given(&self, section: Section) -> u64 {
        self.given[section as usize]
    }

    /// Takes in what other threads gave back.
    pub(crate) fn collect(&mut self) -> usize {
        self.owner.collect()
    }

    /// See [`Owner::mark_starving`].
    pub(crate) fn mark_starving(&self) -> bool {
        self.owner.mark_starving()
    }

    pub(crate) fn state(&mut self) -> PoolState {
        self.collect();
        PoolState {
            lent: self.owner.lent(),
            receive_free: self.available(Section::Receive) + self.available(Section::Bulk),
            send_free: self.owner.free_count(Section::Send),
        }
    }

    fn lend(&mut self, section: Section, number: u32, length: usize) -> Buffer {
        let mut loan = self.owner.lend(section, number);
        loan.set_len(length);
        Buffer { loan: Some(loan) }
    }

    pub(crate) fn leak(&mut self) {
        self.owner.leak();
    }
}
