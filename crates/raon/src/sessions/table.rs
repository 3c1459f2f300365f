//! Table of the sessions of one shard: slots with a generation.
//!
//! 1. `insert` takes the slot that was freed last, or the next new one; memory that was never needed is never touched.
//! 2. `remove`, when the driver has closed the socket, makes the id stale. A slot whose generation is used up is never
//!    used again.

use raon_provider::{OperationId, SocketId};
use raon_session::{Session, State};

use crate::base::id::{SLOT_BITS, SessionId};
use crate::memory::chunk::OutChunk;
use crate::sessions::admission::AdmissionPermit;
use crate::sessions::group::Membership;
use crate::sessions::held_input::HeldInput;
use crate::sessions::ranks::{Rank, Ranked, Ranks};

/// Record of a session.
pub(crate) struct Entry {
    pub(crate) session: Session<OutChunk>,
    pub(crate) socket: SocketId,
    /// The timer that is set, or `NONE`.
    pub(crate) timer: OperationId,
    pub(crate) groups: Vec<Membership>,
    /// Charged for the outbox, and for what the driver has of it: each at most 2^30.
    pub(crate) charged_bytes: u32,
    /// Charged for the begun frame: twice what a framing's limit may be.
    pub(crate) inbox_charged_bytes: usize,
    pub(crate) handed: Handed,
    /// Input that waits for answers to leave.
    pub(crate) held: Option<Box<HeldInput>>,
    rank: Rank,
    pub(crate) permit: AdmissionPermit,
    /// In the list of sessions to be flushed.
    pub(crate) is_dirty: bool,
    /// Under high pressure, and not read from for it.
    pub(crate) is_paused: bool,
    /// Its stream of input is paused in the driver.
    pub(crate) is_intake_paused: bool,
}

/// Output of a session that the driver has.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Handed {
    /// Bytes of large hand-overs that the driver has not finished; those that others may share are not counted.
    pub(crate) bytes: u32,
    /// The driver has a send, and `Writable` will come.
    pub(crate) is_awaited: bool,
    /// The driver was given more while it had a send already.
    pub(crate) is_overflowed: bool,
    /// The driver has refused a send, for which it has a place: the connection cannot go on.
    pub(crate) is_refused: bool,
}

impl Entry {
    pub(crate) fn new(session: Session<OutChunk>, socket: SocketId, permit: AdmissionPermit) -> Self {
        Entry {
            session,
            socket,
            timer: OperationId::NONE,
            groups: Vec::new(),
            charged_bytes: 0,
            inbox_charged_bytes: 0,
            handed: Handed::default(),
            held: None,
            rank: Rank::default(),
            permit,
            is_dirty: false,
            is_paused: false,
            is_intake_paused: false,
        }
    }

    /// Memory that goes when the session is reset, in bytes: memory that others share too is counted, since one of them may
    /// be the last to hold it.
    pub(crate) fn held_bytes(&self) -> usize {
        if self.session.state() == State::Closed {
            return 0;
        }
        let held = self.held.as_ref().map_or(0, |held| held.charged_bytes);
        self.session.outbox.bytes() + self.handed.bytes as usize + self.inbox_charged_bytes + held
    }
}

struct Slot {
    generation: u32,
    next_free: u32,
    entry: Option<Entry>,
}

// What an idle session costs beside the driver and the application's state: its inbox lies outside of the slot.
const _: () = assert!(size_of::<Slot>() + size_of::<raon_session::Inbox>() <= 256);

const NONE: u32 = u32::MAX;

/// The table.
pub(crate) struct Table {
    shard: u8,
    slots: Vec<Slot>,
    free_head: u32,
    length: usize,
    capacity: usize,
    ranks: Ranks,
}

impl Ranked for Vec<Slot> {
    #[inline]
    fn rank_mut(&mut self, index: u32) -> Option<&mut Rank> {
        self.get_mut(index as usize)?.entry.as_mut().map(|entry| &mut entry.rank)
    }

    #[inline]
    fn held_bytes(&self, index: u32) -> usize {
        self.get(index as usize).and_then(|slot| slot.entry.as_ref()).map_or(0, Entry::held_bytes)
    }
}

impl Table {
    pub(crate) fn new(shard: u8, capacity: usize) -> Self {
        let capacity = capacity.min(1 << SLOT_BITS);
        let ranks = Ranks::default();
        Table { shard, slots: Vec::new(), free_head: NONE, length: 0, capacity, ranks }
    }

    /// Puts a session in, or gives it back when the table is full.
    pub(crate) fn insert(&mut self, entry: Entry) -> Result<u32, Box<Entry>> {
        let index = self.free_head;
        if index != NONE {
            let slot = &mut self.slots[index as usize];
            self.free_head = slot.next_free;
            slot.entry = Some(entry);
        } else if self.slots.len() == self.capacity {
            return Err(Box::new(entry));
        } else {
            self.slots.push(Slot { generation: 1, next_free: NONE, entry: Some(entry) });
        }
        self.length += 1;
        Ok(if index == NONE { self.slots.len() as u32 - 1 } else { index })
    }

    /// Takes a session out; its id is stale from then on.
    pub(crate) fn remove(&mut self, index: u32) -> Option<Entry> {
        self.ranks.remove(&mut self.slots, index);
        let slot = self.slots.get_mut(index as usize)?;
        let entry = slot.entry.take()?;
        self.length -= 1;
        if slot.generation < u32::MAX {
            slot.generation += 1;
            slot.next_free = self.free_head;
            self.free_head = index;
        }
        Some(entry)
    }

    /// The slot of a session of this shard that is there, also while it is closing.
    #[inline]
    pub(crate) fn resolve(&self, id: SessionId) -> Option<u32> {
        let slot = self.slots.get(id.slot() as usize)?;
        let is_it = slot.generation == id.generation() && id.shard() == usize::from(self.shard);
        (is_it && slot.entry.is_some()).then_some(id.slot())
    }

    /// The slot of a session that messages can be sent to.
    #[inline]
    pub(crate) fn resolve_live(&self, id: SessionId) -> Option<u32> {
        self.resolve(id).filter(|index| self.is_live(*index))
    }

    #[inline]
    pub(crate) fn is_live(&self, index: u32) -> bool {
        self.get(index).is_some_and(|entry| entry.session.is_live())
    }

    pub(crate) fn id(&self, index: u32) -> SessionId {
        SessionId::new(self.shard, index, self.slots[index as usize].generation)
    }

    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&Entry> {
        self.slots.get(index as usize)?.entry.as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut Entry> {
        self.slots.get_mut(index as usize)?.entry.as_mut()
    }

    /// The memory that the session holds has changed.
    #[inline]
    pub(crate) fn update_rank(&mut self, index: u32) {
        self.ranks.update(&mut self.slots, index);
    }

    /// A session that holds most, within a factor of two, and how much that is in bytes.
    pub(crate) fn heaviest(&mut self) -> Option<(u32, usize)> {
        let index = self.ranks.heaviest(&mut self.slots)?;
        Some((index, self.slots.held_bytes(index)))
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Slots that were ever used: where to look for all sessions.
    pub(crate) fn indices(&self) -> std::ops::Range<u32> {
        0..self.slots.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use raon_session::SessionConfig;

    use super::*;

    fn entry() -> Entry {
        Entry::new(Session::new(&SessionConfig::default(), 0), SocketId::NONE, AdmissionPermit { address: None })
    }

    #[test]
    fn an_id_is_stale_once_its_session_is_gone() {
        let mut table = Table::new(3, 2);
        let first = table.insert(entry()).ok().unwrap();
        let id = table.id(first);
        assert_eq!((table.resolve(id), table.resolve_live(id), id.shard()), (Some(first), Some(first), 3));
        assert!(table.remove(first).is_some() && table.remove(first).is_none());
        let second = table.insert(entry()).ok().unwrap();
        assert_eq!((second, table.resolve(id)), (first, None), "the same slot, another session");
        assert_eq!(table.resolve(SessionId::new(2, second, 2)), None, "another shard's");
        assert_eq!(table.resolve(SessionId::NONE), None);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut table = Table::new(0, 1);
        assert!(table.insert(entry()).is_ok());
        assert!(table.insert(entry()).is_err());
        assert_eq!(table.len(), 1);
    }
}
