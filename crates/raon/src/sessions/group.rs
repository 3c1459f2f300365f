//! Groups: who hears a broadcast. Each shard knows its own members; all know which shards have any.
//!
//! 1. `join` puts the session into the group's dense list and notes the place with the session. The first member of a shard
//!    makes the shard known as present.
//! 2. `leave`, or the end of the session, swaps the last member into the place. The last one of a shard takes the group
//!    away there, and the last one of all takes it out of the shared table: both are bounded by memberships.
//! 3. A broadcast goes through the list, and to each other shard that is present once.
//!
//! Ordered maps, not hashed ones: the same run again from the same seed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A group's name or number. Both are different groups, whatever they look like.
///
/// ```
/// use raon::GroupKey;
/// assert_ne!(GroupKey::from("7"), GroupKey::from(7));
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum GroupKey {
    /// By number: a room's, for example.
    Number(u64),
    /// By name.
    Name(Arc<str>),
}

impl From<u64> for GroupKey {
    fn from(number: u64) -> Self {
        GroupKey::Number(number)
    }
}

impl From<&str> for GroupKey {
    fn from(name: &str) -> Self {
        GroupKey::Name(name.into())
    }
}

impl From<String> for GroupKey {
    fn from(name: String) -> Self {
        GroupKey::Name(name.into())
    }
}

impl From<&GroupKey> for GroupKey {
    fn from(key: &GroupKey) -> Self {
        key.clone()
    }
}

/// A session's place in a group of its shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Membership {
    group: u32,
    place: u32,
}

/// Shards that have members of each group: a broadcast goes there.
#[derive(Default)]
pub(crate) struct Presence {
    shards: Mutex<BTreeMap<GroupKey, Vec<bool>>>,
}

impl Presence {
    fn set(&self, key: &GroupKey, shard: usize, is_present: bool) {
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        if is_present {
            let present = shards.entry(key.clone()).or_default();
            present.resize(present.len().max(shard + 1), false);
            present[shard] = true;
        } else if let Some(present) = shards.get_mut(key) {
            present[shard] = false;
            if !present.contains(&true) {
                shards.remove(key);
            }
        }
    }

    /// The shards that have members.
    pub(crate) fn of(&self, key: &GroupKey) -> Vec<usize> {
        let shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        let present = shards.get(key).into_iter().flatten().enumerate();
        present.filter(|(_, is_present)| **is_present).map(|(shard, _)| shard).collect()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.lock().unwrap().len()
    }
}

struct Group {
    key: GroupKey,
    /// Slots of the members.
    members: Vec<u32>,
}

/// The groups that have members on one shard.
pub(crate) struct Groups {
    shard: usize,
    presence: Arc<Presence>,
    numbers: BTreeMap<GroupKey, u32>,
    groups: Vec<Group>,
    free: Vec<u32>,
}

impl Groups {
    pub(crate) fn new(shard: usize, presence: Arc<Presence>) -> Self {
        Groups { shard, presence, numbers: BTreeMap::new(), groups: Vec::new(), free: Vec::new() }
    }

    /// Puts the session of this slot in; false if it was there already.
    pub(crate) fn join(&mut self, key: GroupKey, slot: u32, own: &mut Vec<Membership>) -> bool {
        let known = self.numbers.get(&key).copied();
        if known.is_some_and(|group| own.iter().any(|membership| membership.group == group)) {
            return false;
        }
        let group = known.unwrap_or_else(|| self.add(key));
        let members = &mut self.groups[group as usize].members;
        own.push(Membership { group, place: members.len() as u32 });
        members.push(slot);
        true
    }

    /// Takes the session out; false if it was not there. `moved` is told whose place has changed: group, slot, new place.
    pub(crate) fn leave(&mut self, key: &GroupKey, own: &mut Vec<Membership>, moved: impl FnOnce(u32, Moved)) -> bool {
        let Some(group) = self.numbers.get(key).copied() else { return false };
        let Some(at) = own.iter().position(|membership| membership.group == group) else { return false };
        let membership = own.swap_remove(at);
        if let Some((slot, change)) = self.remove(membership) {
            moved(slot, change);
        }
        true
    }

    /// Takes a membership out of its group; the slot whose place has changed by that, and how.
    pub(crate) fn remove(&mut self, membership: Membership) -> Option<(u32, Moved)> {
        let Membership { group, place } = membership;
        let members = &mut self.groups[group as usize].members;
        members.swap_remove(place as usize);
        let moved = members.get(place as usize).map(|slot| (*slot, Moved(membership)));
        if members.is_empty() {
            self.take_away(group);
        }
        moved
    }

    /// Number of members that the group has on this shard.
    pub(crate) fn count(&self, key: &GroupKey) -> usize {
        self.numbers.get(key).map_or(0, |group| self.groups[*group as usize].members.len())
    }

    /// The slot of the member at this place on this shard.
    pub(crate) fn member(&self, group: u32, place: usize) -> Option<u32> {
        self.groups.get(group as usize)?.members.get(place).copied()
    }

    /// The number of a group that has members on this shard.
    pub(crate) fn number(&self, key: &GroupKey) -> Option<u32> {
        self.numbers.get(key).copied()
    }

    /// The other shards that have members.
    pub(crate) fn elsewhere(&self, key: &GroupKey) -> impl Iterator<Item = usize> {
        let own = self.shard;
        self.presence.of(key).into_iter().filter(move |shard| *shard != own)
    }

    fn add(&mut self, key: GroupKey) -> u32 {
        self.presence.set(&key, self.shard, true);
        let group = self.free.pop().unwrap_or_else(|| {
            self.groups.push(Group { key: GroupKey::Number(0), members: Vec::new() });
            self.groups.len() as u32 - 1
        });
        self.groups[group as usize].key = key.clone();
        self.numbers.insert(key, group);
        group
    }

    fn take_away(&mut self, group: u32) {
        let key = std::mem::replace(&mut self.groups[group as usize].key, GroupKey::Number(0));
        self.presence.set(&key, self.shard, false);
        self.numbers.remove(&key);
        self.free.push(group);
    }
}

/// The member that was last in its group took the place of one that left.
#[derive(Clone, Copy)]
pub(crate) struct Moved(Membership);

impl Moved {
    /// Tells it its new place.
    pub(crate) fn apply(self, own: &mut [Membership]) {
        let Moved(Membership { group, place }) = self;
        if let Some(membership) = own.iter_mut().find(|membership| membership.group == group) {
            membership.place = place;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sessions by slot, with their places.
    struct Rig {
        groups: Groups,
        own: Vec<Vec<Membership>>,
    }

    impl Rig {
        fn join(&mut self, key: u64, slot: u32) -> bool {
            self.groups.join(key.into(), slot, &mut self.own[slot as usize])
        }

        fn leave(&mut self, key: u64, slot: u32) -> bool {
            let mut own = std::mem::take(&mut self.own[slot as usize]);
            let others = &mut self.own;
            let left = self.groups.leave(&key.into(), &mut own, |slot, moved| moved.apply(&mut others[slot as usize]));
            self.own[slot as usize] = own;
            left
        }

        fn members(&self, key: u64) -> Vec<u32> {
            let Some(group) = self.groups.number(&key.into()) else { return Vec::new() };
            let mut members: Vec<u32> = (0..).map_while(|place| self.groups.member(group, place)).collect();
            members.sort_unstable();
            members
        }
    }

    #[test]
    fn members_come_and_go_as_in_a_set() {
        let presence = Arc::new(Presence::default());
        let mut rig = Rig { groups: Groups::new(1, presence.clone()), own: vec![Vec::new(); 16] };
        let mut model = vec![std::collections::BTreeSet::new(); 5];
        let mut random: u64 = 1;
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (key, slot, joins) = ((random >> 33) % 5, (random >> 40) as u32 % 16, random >> 63 == 0);
            if joins {
                assert_eq!(rig.join(key, slot), model[key as usize].insert(slot));
            } else {
                assert_eq!(rig.leave(key, slot), model[key as usize].remove(&slot));
            }
            assert_eq!(rig.members(key), model[key as usize].iter().copied().collect::<Vec<_>>());
            assert_eq!(presence.of(&key.into()), if model[key as usize].is_empty() { vec![] } else { vec![1] });
        }
        for slot in 0..16 {
            (0..5).for_each(|key| assert!(rig.leave(key, slot) || !model[key as usize].contains(&slot)));
        }
        assert_eq!((rig.groups.numbers.len(), presence.len()), (0, 0), "empty groups leave nothing behind");
        assert!(rig.groups.groups.len() <= 5, "places of groups are used again");
    }

    #[test]
    fn a_broadcast_learns_which_other_shards_have_members() {
        let presence = Arc::new(Presence::default());
        let mut shards: Vec<_> = (0..3).map(|shard| Groups::new(shard, presence.clone())).collect();
        let mut own = Vec::new();
        shards[2].join("lobby".into(), 0, &mut own);
        shards[0].join("lobby".into(), 0, &mut Vec::new());
        assert_eq!(shards[0].elsewhere(&"lobby".into()).collect::<Vec<_>>(), [2]);
        assert_eq!(shards[1].elsewhere(&"lobby".into()).collect::<Vec<_>>(), [0, 2]);
        shards[2].leave(&"lobby".into(), &mut own, |_, _| {});
        assert_eq!(shards[0].elsewhere(&"lobby".into()).count(), 0);
    }
}
