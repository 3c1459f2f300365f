//! Views of bytes that stay in place until a request has ended, as the kernel's structures hold them.
#![allow(unsafe_code)]

use std::net::SocketAddr;

use socket2::{SockAddr, SockAddrStorage};

/// Where the kernel reads from: a view of bytes whose owner the driver keeps until the request has ended (OWN-1).
/// Laid out as `struct iovec`, see readv(2).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Span {
    pub(crate) pointer: *const u8,
    pub(crate) length: usize,
}

impl Span {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Span { pointer: bytes.as_ptr(), length: bytes.len() }
    }
}

impl Span {
    /// Looks at the bytes, for a back end that moves them itself.
    pub(crate) fn with<T>(self, look: impl FnOnce(&[u8]) -> T) -> T {
        // SAFETY: OWN-1 — the owner stays in place until the request has ended, and only who holds the request has the span.
        look(unsafe { std::slice::from_raw_parts(self.pointer, self.length) })
    }
}

/// A list of spans whose owner, too, stays in place until the request has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpanList {
    pub(crate) pointer: *const Span,
    pub(crate) count: usize,
    /// Sum of their lengths.
    pub(crate) bytes: usize,
}

impl SpanList {
    /// The one span of a list of one.
    pub(crate) fn single(self) -> Option<Span> {
        // SAFETY: OWN-1 — the driver keeps the list in its place until the request has ended.
        (self.count == 1).then(|| unsafe { *self.pointer })
    }

    pub(crate) fn of(spans: &[Span], bytes: usize) -> Self {
        SpanList { pointer: spans.as_ptr(), count: spans.len(), bytes }
    }

    /// The spans, for a back end that moves their bytes itself.
    pub(crate) fn with<T>(self, look: impl FnOnce(&[Span]) -> T) -> T {
        // SAFETY: OWN-1 — the list stays in place until the request has ended, and only who holds the request has it.
        look(unsafe { std::slice::from_raw_parts(self.pointer, self.count) })
    }
}

/// Where a datagram goes: an address in the system's form, kept in place until the request has ended; null: to the
/// socket's own peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) pointer: *const SockAddrStorage,
    pub(crate) length: u32,
}

impl Target {
    pub(crate) fn of(address: Option<&SockAddr>) -> Self {
        let pointer = address.map_or(std::ptr::null(), |address| address.as_ptr().cast());
        Target { pointer, length: address.map_or(0, |address| address.len() as _) }
    }

    /// True if both lead to the same place.
    pub(crate) fn is_same(self, other: Target) -> bool {
        let bytes = |target: Target| match target.pointer.is_null() {
            true => &[],
            // SAFETY: OWN-1 — the driver keeps the address in its envelope until the final event; it is `length` bytes long.
            false => unsafe { std::slice::from_raw_parts(target.pointer.cast::<u8>(), target.length as usize) },
        };
        self.pointer == other.pointer || bytes(self) == bytes(other)
    }

    /// A copy of the address, for whom the system's form is of no use.
    pub(crate) fn address(self) -> Option<SocketAddr> {
        if self.pointer.is_null() {
            return None;
        }
        let mut storage = SockAddrStorage::zeroed();
        // SAFETY: OWN-1 — the driver keeps the address in its envelope until the final event; it is `length` bytes long, at
        // most a storage.
        unsafe {
            let bytes = std::ptr::from_mut(&mut storage).cast::<u8>();
            std::ptr::copy_nonoverlapping(self.pointer.cast::<u8>(), bytes, self.length as usize);
            SockAddr::new(storage, self.length as _).as_socket()
        }
    }
}

/// Where the kernel writes to: as [`Span`], and nobody else looks at the bytes until the request has ended (OWN-1).
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpanMut {
    pub(crate) pointer: *mut u8,
    pub(crate) length: usize,
}

impl SpanMut {
    pub(crate) fn of(bytes: &mut [u8]) -> Self {
        SpanMut { pointer: bytes.as_mut_ptr(), length: bytes.len() }
    }

    /// Fills the bytes, for a back end that moves them itself.
    pub(crate) fn with<T>(self, fill: impl FnOnce(&mut [u8]) -> T) -> T {
        // SAFETY: OWN-1 — the room stays in place and nobody else looks at it until the request has ended.
        fill(unsafe { std::slice::from_raw_parts_mut(self.pointer, self.length) })
    }
}
