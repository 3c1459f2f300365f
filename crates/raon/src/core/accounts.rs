//! Accounts of a shard: memory that its sessions take by themselves, and memory that they share.

use bytes::Bytes;
use raon_session::COPY_BYTES_MAX;

use crate::memory::budget::{Lease, Shares};

/// Bodies that are remembered within a turn.
const BODIES_MAX: usize = 16;

/// See the module.
pub(super) struct Accounts {
    lease: Lease,
    shares: Shares,
    /// Bodies that were shared in this turn.
    bodies: Vec<Bytes>,
}

impl Accounts {
    pub(super) fn new(lease: Lease, shares: Shares) -> Self {
        Accounts { lease, shares, bodies: Vec::new() }
    }

    /// True if so many bytes can be charged.
    #[inline]
    pub(super) fn has(&mut self, bytes: usize) -> bool {
        self.lease.has(bytes)
    }

    /// Charges bytes that are there already, see [`Lease::charge`].
    #[inline]
    pub(super) fn charge(&mut self, bytes: usize) {
        self.lease.charge(bytes);
    }

    /// Gives charged bytes back.
    #[inline]
    pub(super) fn release(&mut self, bytes: usize) {
        self.lease.release(bytes);
    }

    /// Charges one account for what it holds now in place of what it was charged for.
    #[inline]
    pub(super) fn settle(&mut self, charged: usize, now: usize) {
        if now > charged {
            self.lease.charge(now - charged);
        } else {
            self.lease.release(charged - now);
        }
    }

    /// Charges bytes that many sessions are to share. `None`: there is not so much memory.
    pub(super) fn share(&self, bytes: &Bytes) -> Option<Bytes> {
        self.shares.charge(bytes)
    }

    /// As `share`, with all that is idle in the lease given back before.
    pub(super) fn share_at_last(&mut self, bytes: &Bytes) -> Option<Bytes> {
        self.lease.trim();
        self.shares.charge(bytes)
    }

    /// A body that was shared in this turn already.
    pub(super) fn known_body(&self, body: &Bytes) -> Option<Bytes> {
        let is_it = |known: &&Bytes| known.as_ptr() == body.as_ptr() && known.len() == body.len();
        self.bodies.iter().find(is_it).cloned()
    }

    /// Remembers a body that is shared until the turn is over.
    pub(super) fn remember_body(&mut self, shared: &Bytes) {
        if shared.len() > COPY_BYTES_MAX && self.bodies.len() < BODIES_MAX {
            self.bodies.push(shared.clone());
        }
    }

    /// The turn is over.
    pub(super) fn forget_bodies(&mut self) {
        self.bodies.clear();
    }

    /// Bytes that are charged to sessions of this shard.
    pub(super) fn own_bytes(&self) -> u64 {
        self.lease.used_bytes() as u64
    }

    /// Bytes that were shared here first and that somebody still has.
    pub(super) fn shared_bytes(&self) -> u64 {
        self.shares.used_bytes()
    }
}
