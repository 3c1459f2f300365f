//! Members of groups on this shard: who joins, who leaves, and what a broadcast tells them.

use bytes::Bytes;
use raon_session::Framing;

use super::ShardCore;
use crate::base::id::SessionId;
use crate::sessions::group::{GroupKey, Groups};

/// Outcome of a broadcast.
///
/// ```
/// use raon::BroadcastOutcome;
/// let told = BroadcastOutcome::default();
/// assert_eq!(told.delivered + told.refused + told.shards, 0);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct BroadcastOutcome {
    /// Members on this shard for which it is queued.
    pub delivered: usize,
    /// Members on this shard that refused it, and other shards whose mailbox had no room.
    pub refused: usize,
    /// Other shards that it was handed over to; what becomes of it there, their counters say.
    pub shards: usize,
}

impl<F: Framing> ShardCore<F> {
    /// Puts a live session into a group; false if it was in.
    pub(crate) fn join(&mut self, index: u32, key: GroupKey) -> bool {
        let Some(entry) = self.table.get_mut(index).filter(|entry| entry.session.is_live()) else { return false };
        self.groups.join(key, index, &mut entry.groups)
    }

    /// Takes a session out of a group; false if it was not in.
    pub(crate) fn leave(&mut self, index: u32, key: &GroupKey) -> bool {
        let Some(entry) = self.table.get_mut(index) else { return false };
        let mut own = std::mem::take(&mut entry.groups);
        let table = &mut self.table;
        let has_left = self.groups.leave(key, &mut own, |slot, moved| {
            if let Some(other) = table.get_mut(slot) {
                moved.apply(&mut other.groups);
            }
        });
        if let Some(entry) = self.table.get_mut(index) {
            entry.groups = own;
        }
        has_left
    }

    /// The session leaves all its groups.
    pub(super) fn leave_all(&mut self, index: u32) {
        let Some(entry) = self.table.get_mut(index) else { return };
        for membership in std::mem::take(&mut entry.groups) {
            if let Some((slot, moved)) = self.groups.remove(membership)
                && let Some(other) = self.table.get_mut(slot)
            {
                moved.apply(&mut other.groups);
            }
        }
    }

    /// The groups of this shard.
    pub(crate) fn groups(&self) -> &Groups {
        &self.groups
    }

    /// To the members here.
    pub(crate) fn broadcast_here(
        &mut self,
        key: &GroupKey,
        except: SessionId,
        frame: &Bytes,
        droppable: Option<u32>,
    ) -> BroadcastOutcome {
        let mut result = BroadcastOutcome::default();
        let Some(group) = self.groups.number(key) else { return result };
        let except = self.table.resolve(except);
        // Nothing in here changes who is a member: no callback runs.
        for place in 0.. {
            let Some(index) = self.groups.member(group, place) else { break };
            // Who is going has not left yet.
            if Some(index) == except || !self.table.is_live(index) {
                continue;
            }
            if self.append_frame(index, frame, droppable.map(Some)).is_queued() {
                result.delivered += 1;
            } else {
                result.refused += 1;
            }
        }
        self.stats.broadcast_delivered += result.delivered as u64;
        self.stats.broadcast_refused += result.refused as u64;
        result
    }
}
