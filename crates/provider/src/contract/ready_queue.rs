//! Queue of sockets whose input can be tried now, for back ends that read by themselves, and what one turn reads of it.
//!
//! 1. A socket that became readable waits among the *fresh* ones. Those are tried first, in order of arrival.
//! 2. A socket that has used its share and has more waits among the *busy* ones. They follow, each once in a turn.
//! 3. A turn ends its reading after [`BYTES_PER_TURN`]; one busy socket is tried in every turn all the same. What is left
//!    comes first in its line with the next turn.

use std::collections::VecDeque;

/// Bytes received per turn, all sockets together, before the caller gets to see them: as many as an L2 cache still holds
/// when the answers are sent.
pub(crate) const BYTES_PER_TURN: usize = 256 * 1024;
/// Bytes that are divided among the sockets of the queue, and the least that one gets.
const SHARED_BYTES: usize = 4 * 1024 * 1024;
pub(crate) const SHARE_BYTES_MIN: usize = 16 * 1024;

/// See the module.
pub(crate) struct ReadyQueue {
    fresh: VecDeque<u32>,
    busy: VecDeque<u32>,
    share_bytes_max: usize,
    /// Of this turn: the share of each socket, what all have used, and how many of each line are still to be tried.
    share_bytes: usize,
    used_bytes: usize,
    fresh_left: usize,
    busy_left: usize,
    has_served_busy: bool,
}

impl ReadyQueue {
    pub(crate) fn new(share_bytes_max: u32) -> Self {
        ReadyQueue {
            fresh: VecDeque::with_capacity(1024),
            busy: VecDeque::new(),
            share_bytes_max: share_bytes_max as usize,
            share_bytes: 0,
            used_bytes: 0,
            fresh_left: 0,
            busy_left: 0,
            has_served_busy: false,
        }
    }

    /// A socket became readable. The caller sees to it that each is in the queue once.
    pub(crate) fn push_fresh(&mut self, socket: u32) {
        self.fresh.push_back(socket);
    }

    /// A socket has had its share and has more.
    pub(crate) fn push_busy(&mut self, socket: u32) {
        self.busy.push_back(socket);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.busy.is_empty()
    }

    /// A turn begins to read.
    //= STARVE-1
    pub(crate) fn begin(&mut self) {
        (self.fresh_left, self.busy_left) = (self.fresh.len(), self.busy.len());
        let part = SHARED_BYTES / (self.fresh_left + self.busy_left).max(1);
        self.share_bytes = part.max(SHARE_BYTES_MIN).min(self.share_bytes_max);
        (self.used_bytes, self.has_served_busy) = (0, false);
    }

    /// The next socket to be tried in this turn.
    //= STARVE-1
    pub(crate) fn next(&mut self) -> Option<u32> {
        let has_room = self.used_bytes < BYTES_PER_TURN;
        if has_room && self.fresh_left > 0 {
            self.fresh_left -= 1;
            return self.fresh.pop_front();
        }
        if self.busy_left > 0 && (has_room || !self.has_served_busy) {
            self.busy_left -= 1;
            self.has_served_busy = true;
            return self.busy.pop_front();
        }
        None
    }

    /// Bytes that a socket may read in this turn.
    pub(crate) fn share_bytes(&self) -> usize {
        self.share_bytes
    }

    /// A socket has read this much.
    pub(crate) fn used(&mut self, bytes: usize) {
        self.used_bytes += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(queue: &mut ReadyQueue, bytes: usize) -> Vec<u32> {
        queue.begin();
        std::iter::from_fn(|| queue.next().inspect(|_| queue.used(bytes))).collect()
    }

    #[test]
    fn fresh_sockets_go_before_busy_ones_and_each_is_tried_once() {
        let mut queue = ReadyQueue::new(u32::MAX);
        queue.push_busy(1);
        queue.push_fresh(2);
        queue.begin();
        assert_eq!(queue.next(), Some(2));
        queue.push_busy(2);
        assert_eq!((queue.next(), queue.next(), queue.is_empty()), (Some(1), None, false));
        assert_eq!(turn(&mut queue, 1), [2]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_turn_is_bounded_and_one_busy_socket_is_served_in_each() {
        let mut queue = ReadyQueue::new(u32::MAX);
        (0..10).for_each(|socket| queue.push_fresh(socket));
        [20, 21].into_iter().for_each(|socket| queue.push_busy(socket));
        assert_eq!(turn(&mut queue, BYTES_PER_TURN / 4), [0, 1, 2, 3, 20]);
        assert_eq!(turn(&mut queue, BYTES_PER_TURN / 4), [4, 5, 6, 7, 21]);
        assert_eq!(turn(&mut queue, BYTES_PER_TURN / 4), [8, 9]);
    }

    #[test]
    fn a_share_is_a_part_within_its_bounds() {
        let share = |sockets, share_bytes_max| {
            let mut queue = ReadyQueue::new(share_bytes_max);
            (0..sockets).for_each(|socket| queue.push_fresh(socket));
            queue.begin();
            queue.share_bytes()
        };
        assert_eq!(share(1, 256 * 1024), 256 * 1024);
        assert_eq!(share(64, 256 * 1024), SHARED_BYTES / 64);
        assert_eq!(share(10_000, 256 * 1024), SHARE_BYTES_MIN);
        assert_eq!(share(10_000, 4096), 4096);
    }
}
