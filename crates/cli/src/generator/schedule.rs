//! Schedule of an open loop: when messages are due, whatever the answers do.
//!
//! Each connection has an endless series of times that is computed, not stored: the same seed gives the same series, so
//! one cursor stands at its next message to send and another at its next answer. However long a server stalls, what has
//! piled up is a number, and every message still knows when it was due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use super::pattern::{STEP, mix};

/// How messages are spread over time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arrivals {
    /// At equal distances.
    Even,
    /// At random and independent of each other, as those of many users.
    Poisson {
        /// The same seed gives the same times.
        seed: u64,
    },
}

/// A place in the series of one connection.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    next_ns: f64,
    gap_ns: f64,
    /// State of the generator of random gaps; `None`: all are the same.
    random: Option<u64>,
}

impl Cursor {
    /// The series of the connection with this number: one message per gap, in equal steps from `first_ns` or at random.
    pub(super) fn new(arrivals: Arrivals, number: u64, start_ns: u64, offset_ns: f64, gap_ns: f64) -> Self {
        let start_ns = start_ns as f64;
        match arrivals {
            Arrivals::Even => Cursor { next_ns: start_ns + offset_ns, gap_ns, random: None },
            Arrivals::Poisson { seed } => {
                let mut cursor = Cursor { next_ns: start_ns, gap_ns, random: Some(mix(mix(seed) ^ number)) };
                cursor.advance();
                cursor
            }
        }
    }

    /// When the next message is due.
    pub(super) fn next_ns(&self) -> u64 {
        self.next_ns.round() as u64
    }

    /// Goes one message on. Returns when the one passed is due.
    pub(super) fn advance(&mut self) -> u64 {
        let passed_ns = self.next_ns();
        self.next_ns += match &mut self.random {
            None => self.gap_ns,
            Some(state) => {
                *state = state.wrapping_add(STEP);
                // Between 0, excluded, and 1: its logarithm is finite.
                let share = ((mix(*state) >> 11) + 1) as f64 / (1_u64 << 53) as f64;
                -share.ln() * self.gap_ns
            }
        };
        passed_ns
    }
}

/// Where one connection stands in its series.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    /// At the first message that is not due yet.
    pub(super) due: Cursor,
    /// At the first message without an answer.
    pub(super) answered: Cursor,
}

impl Lane {
    pub(super) fn new(start: Cursor) -> Self {
        Lane { due: start.clone(), answered: start }
    }
}

/// All connections of a worker, by the time of their next message.
#[derive(Default)]
pub(super) struct Timetable {
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    end_ns: u64,
}

impl Timetable {
    /// A timetable up to `end_ns`, excluded.
    pub(super) fn until(end_ns: u64, connections: usize) -> Self {
        Timetable { queue: BinaryHeap::with_capacity(connections), end_ns }
    }

    /// When it ends.
    pub(super) fn end_ns(&self) -> u64 {
        self.end_ns
    }

    pub(super) fn insert(&mut self, token: u64, due_ns: u64) {
        if due_ns < self.end_ns {
            self.queue.push(Reverse((due_ns, token)));
        }
    }

    /// The earliest message: when it is due and on which connection. `None`: the timetable is over.
    pub(super) fn first(&self) -> Option<(u64, u64)> {
        self.queue.peek().map(|Reverse(first)| *first)
    }

    /// The first connection's next message is due then.
    pub(super) fn move_first(&mut self, due_ns: u64) {
        let Some(mut first) = self.queue.peek_mut() else { return };
        if due_ns < self.end_ns {
            first.0.0 = due_ns;
        } else {
            PeekMut::pop(first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: f64 = 1e9;

    fn times(mut cursor: Cursor, end_ns: u64) -> Vec<u64> {
        std::iter::from_fn(|| Some(cursor.advance())).take_while(|due_ns| *due_ns < end_ns).collect()
    }

    #[test]
    fn even_arrivals_do_not_drift() {
        let cursor = Cursor::new(Arrivals::Even, 0, 5, 100.0, SECOND_NS / 3.0);
        let times = times(cursor, 3_600_000_000_000);
        assert_eq!(times.len(), 3 * 3600);
        assert_eq!((times[0], times[1]), (105, 333_333_438));
        assert!(times.last().unwrap().abs_diff(3_599_666_666_771) < 10, "{:?}", times.last());
    }

    #[test]
    fn random_arrivals_keep_the_rate_and_vary_as_they_should() {
        let cursor = Cursor::new(Arrivals::Poisson { seed: 1 }, 0, 0, 0.0, SECOND_NS / 1000.0);
        let times = times(cursor, 100_000_000_000);
        assert!((99_000..101_000).contains(&times.len()), "{}", times.len());
        // Of exponential gaps 1 in e is longer than the mean.
        let long = times.windows(2).filter(|pair| pair[1] - pair[0] > 1_000_000).count() as f64;
        assert!((long / times.len() as f64 - (-1.0_f64).exp()).abs() < 0.01, "{long}");
    }

    #[test]
    fn a_seed_and_a_number_make_the_series() {
        let series = |seed, number| times(Cursor::new(Arrivals::Poisson { seed }, number, 0, 0.0, 1e6), 1_000_000_000);
        assert_eq!(series(7, 1), series(7, 1));
        assert_ne!(series(7, 1), series(7, 2));
        assert_ne!(series(7, 1), series(8, 1));
    }

    #[test]
    fn the_earliest_comes_first_until_the_end() {
        let mut timetable = Timetable::until(100, 3);
        for (token, due_ns) in [(1, 30), (2, 10), (3, 100)] {
            timetable.insert(token, due_ns);
        }
        assert_eq!(timetable.first(), Some((10, 2)));
        timetable.move_first(40);
        assert_eq!(timetable.first(), Some((30, 1)));
        timetable.move_first(100);
        assert_eq!(timetable.first(), Some((40, 2)));
        timetable.move_first(100);
        assert_eq!(timetable.first(), None);
    }
}
