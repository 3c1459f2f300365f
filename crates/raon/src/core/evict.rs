//! Eviction: when the server has no more memory, whoever needs a little gets it from those that hold most.
//!
//! 1. Before something is queued or kept, `provide` asks the lease for it. Nearly always there is enough.
//! 2. If not, sessions of this shard that hold at least twice as much as the one that needs it would are reset, the largest
//!    first, until there is enough. So peers that do not read, or that never end what they began, cannot use up the memory of
//!    those that talk; and nobody is reset for somebody as large.
//! 3. If there is nobody like that, it is refused: the server is too small for what all of them need.
//!
//! A shard takes from its own sessions only. It has a reserve in the budget, so there is always something of its own to take
//! from.

use raon_session::{COPY_BYTES_MAX, CloseReason, Framing, Refusal};

use bytes::Bytes;

use super::ShardCore;

/// Sessions that are reset for one need at most: what the largest hold is much more than a message.
const EVICTIONS_MAX: usize = 16;

impl<F: Framing> ShardCore<F> {
    /// Whether this session can have so many bytes more, others being reset for it if need be.
    //= OUTBOX-7
    #[inline]
    pub(super) fn provide(&mut self, index: u32, bytes: usize) -> bool {
        self.accounts.has(bytes) || self.evict(Some(index), bytes, |core| core.accounts.has(bytes))
    }

    /// Charges the session for the memory that it holds now.
    #[inline]
    pub(super) fn recharge(&mut self, index: u32) {
        let Some(entry) = self.table.get_mut(index) else { return };
        let now = entry.session.outbox.own_bytes() as u32 + entry.handed.bytes;
        let charged = std::mem::replace(&mut entry.charged_bytes, now);
        self.accounts.settle(charged as usize, now as usize);
        self.table.update_rank(index);
    }

    /// Charges bytes that many sessions are to share, unless they are copied anyway.
    pub(crate) fn share(&mut self, bytes: Bytes) -> Result<Bytes, Refusal> {
        if bytes.len() <= COPY_BYTES_MAX {
            return Ok(bytes);
        }
        if let Some(charged) = self.accounts.share(&bytes) {
            return Ok(charged);
        }
        let mut charged = None;
        let is_enough = self.evict(None, bytes.len(), |core| {
            charged = core.accounts.share_at_last(&bytes);
            charged.is_some()
        });
        charged.filter(|_| is_enough).ok_or(Refusal::Memory)
    }

    /// The same for a body that the application sends by reference, perhaps to many sessions one by one: within a turn it is
    /// charged once.
    //= OUTBOX-6
    pub(super) fn share_body(&mut self, body: &Bytes) -> Result<Bytes, Refusal> {
        if let Some(known) = self.accounts.known_body(body) {
            return Ok(known);
        }
        let shared = self.share(body.clone())?;
        self.accounts.remember_body(&shared);
        Ok(shared)
    }

    /// Resets the largest sessions until there is enough for somebody who needs `bytes`. Returns whether there is.
    #[cold]
    #[inline(never)]
    fn evict(&mut self, index: Option<u32>, bytes: usize, mut is_enough: impl FnMut(&mut Self) -> bool) -> bool {
        let own = index.and_then(|index| self.table.get(index)).map_or(0, |entry| entry.held_bytes());
        for _ in 0..EVICTIONS_MAX {
            if is_enough(self) {
                return true;
            }
            let Some((largest, held)) = self.table.heaviest() else { return false };
            if held < 2 * own.saturating_add(bytes) {
                return false;
            }
            self.close(largest, CloseReason::MemoryBudget);
        }
        is_enough(self)
    }
}
