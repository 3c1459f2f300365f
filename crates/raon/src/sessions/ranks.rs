//! Ranks of sessions by the memory that they hold, found without a search: sessions in lists by the power of two of what they hold.
//!
//! A session that holds less than `RANKED_BYTES_MIN`, as nearly all do, is in no list, and costs a comparison whenever what it
//! holds changes. A place in a list is two numbers of slots in the session's own record.

/// Less is not worth being looked for: an ordinary frame.
const RANKED_BYTES_MIN: usize = 4096;
/// Of the highest list that has any, so many are compared.
const COMPARED_MAX: usize = 8;
const NONE: u32 = u32::MAX;

/// Of a session: its list, and its neighbours there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rank {
    /// 0: in none.
    class: u8,
    previous: u32,
    next: u32,
}

impl Default for Rank {
    fn default() -> Self {
        Rank { class: 0, previous: NONE, next: NONE }
    }
}

/// Where the ranks of sessions are, by slot.
pub(crate) trait Ranked {
    /// The session's rank; `None`: there is no such session.
    fn rank_mut(&mut self, index: u32) -> Option<&mut Rank>;

    /// Memory that it holds, in bytes.
    fn held_bytes(&self, index: u32) -> usize;
}

/// The heads of the lists.
#[derive(Debug)]
pub(crate) struct Ranks {
    heads: [u32; usize::BITS as usize + 1],
}

impl Default for Ranks {
    fn default() -> Self {
        Ranks { heads: [NONE; usize::BITS as usize + 1] }
    }
}

fn class_of(bytes: usize) -> u8 {
    if bytes < RANKED_BYTES_MIN { 0 } else { (usize::BITS - bytes.leading_zeros()) as u8 }
}

impl Ranks {
    /// The memory that the session holds has changed.
    #[inline]
    pub(crate) fn update(&mut self, sessions: &mut impl Ranked, index: u32) {
        let class = class_of(sessions.held_bytes(index));
        if sessions.rank_mut(index).is_some_and(|rank| rank.class != class) {
            self.remove(sessions, index);
            self.insert(sessions, index, class);
        }
    }

    /// The session goes.
    pub(crate) fn remove(&mut self, sessions: &mut impl Ranked, index: u32) {
        let Some(rank) = sessions.rank_mut(index) else { return };
        let Rank { class, previous, next } = std::mem::take(rank);
        if class == 0 {
            return;
        }
        match sessions.rank_mut(previous) {
            Some(rank) => rank.next = next,
            None => self.heads[usize::from(class)] = next,
        }
        if let Some(rank) = sessions.rank_mut(next) {
            rank.previous = previous;
        }
    }

    /// One of those that hold most: no other one holds twice as much.
    pub(crate) fn heaviest(&self, sessions: &mut impl Ranked) -> Option<u32> {
        let mut at = *self.heads.iter().rev().find(|head| **head != NONE)?;
        let mut heaviest = at;
        for _ in 0..COMPARED_MAX {
            if sessions.held_bytes(at) > sessions.held_bytes(heaviest) {
                heaviest = at;
            }
            match sessions.rank_mut(at) {
                Some(rank) if rank.next != NONE => at = rank.next,
                _ => break,
            }
        }
        Some(heaviest)
    }

    fn insert(&mut self, sessions: &mut impl Ranked, index: u32, class: u8) {
        if class == 0 {
            return;
        }
        let next = std::mem::replace(&mut self.heads[usize::from(class)], index);
        if let Some(rank) = sessions.rank_mut(index) {
            *rank = Rank { class, previous: NONE, next };
        }
        if let Some(rank) = sessions.rank_mut(next) {
            rank.previous = index;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Ranked for Vec<Option<(usize, Rank)>> {
        fn rank_mut(&mut self, index: u32) -> Option<&mut Rank> {
            self.get_mut(index as usize)?.as_mut().map(|(_, rank)| rank)
        }

        fn held_bytes(&self, index: u32) -> usize {
            self.get(index as usize).and_then(Option::as_ref).map_or(0, |(bytes, _)| *bytes)
        }
    }

    #[test]
    fn the_heaviest_is_found_among_those_that_come_grow_and_go() {
        let (mut sessions, mut ranks) = (vec![None; 40], Ranks::default());
        let mut random: u64 = 1;
        for _ in 0..50_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (index, bytes) = ((random >> 58) as u32 % 40, (random >> 33) as usize % (1 << ((random >> 40) % 20)));
            if random >> 20 & 7 == 0 {
                ranks.remove(&mut sessions, index);
                sessions[index as usize] = None;
            } else {
                sessions[index as usize].get_or_insert((0, Rank::default())).0 = bytes;
                ranks.update(&mut sessions, index);
            }
            let most = sessions.iter().flatten().map(|(bytes, _)| *bytes).max().unwrap_or(0);
            match ranks.heaviest(&mut sessions) {
                None => assert!(most < RANKED_BYTES_MIN, "{most} bytes are overlooked"),
                Some(index) => assert!(sessions.held_bytes(index) * 2 > most, "{most} bytes are overlooked"),
            }
        }
    }
}
