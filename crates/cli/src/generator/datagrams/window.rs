//! The datagrams of one peer that may yet be answered, and what became of those before them.
//!
//! 1. A datagram leaves with the next sequence number and takes a place.
//! 2. Its answer comes within the timeout: the place is free again.
//! 3. No answer comes: it is lost, and the place is free again. Since all wait equally long, they are lost in order. An
//!    answer that comes after its time, but before anybody looked, makes its own datagram a lost one and no other.
//! 4. An answer to what was lost is late; a second answer to anything is a duplicate.
//!
//! Of what is settled, one bit each is kept for the last `PAST` ones. An answer to an older one counts as late.

use std::collections::VecDeque;

/// Settled datagrams that are remembered.
const PAST: u64 = 1024;
/// Datagrams behind one that is missing; then that one's timeout is waited for. Bounds what a window keeps: 2 MiB.
const SPAN_MAX: usize = 131_072;
/// When an answered datagram was due.
const ANSWERED: u64 = u64::MAX;

/// See above.
pub(super) struct Window {
    flights: VecDeque<Flight>,
    /// Sequence number of the first of them.
    first: u64,
    /// Those that have no answer yet.
    awaited: u32,
    /// By sequence number: whether there was an answer.
    past: [u64; PAST as usize / 64],
}

/// A datagram that has left.
#[derive(Clone, Copy)]
struct Flight {
    /// Or `ANSWERED`.
    due_ns: u64,
    left_ns: u64,
}

/// What an answer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// The first one, in time, to a datagram that was due then.
    InTime { due_ns: u64 },
    /// After the time of a datagram that had not been given up yet: it is lost.
    Overdue,
    /// To a datagram that had been given up.
    Late,
    /// To a datagram that has been answered.
    Duplicate,
    /// To a datagram that was never sent.
    Unknown,
}

impl Window {
    pub(super) fn new() -> Self {
        Window { flights: VecDeque::new(), first: 0, awaited: 0, past: [0; PAST as usize / 64] }
    }

    /// A datagram leaves; it was due then. Its sequence number was [`next`](Self::next).
    pub(super) fn leave(&mut self, due_ns: u64, now_ns: u64) {
        self.flights.push_back(Flight { due_ns: due_ns.min(ANSWERED - 1), left_ns: now_ns });
        self.awaited += 1;
    }

    /// Gives up what has left at this time or before. Returns how many that were.
    pub(super) fn give_up(&mut self, left_ns: u64) -> u32 {
        let mut lost = 0;
        while let Some(flight) = self.flights.front() {
            let is_answered = flight.due_ns == ANSWERED;
            if !is_answered && flight.left_ns > left_ns {
                break;
            }
            lost += u32::from(!is_answered);
            self.settle_first(is_answered);
        }
        self.awaited -= lost;
        lost
    }

    /// An answer has come; those to what has left at this time or before are late.
    pub(super) fn answer(&mut self, sequence: u64, left_ns: Option<u64>) -> Answer {
        if sequence < self.first {
            return self.answer_past(sequence);
        }
        let Some(flight) = self.flights.get_mut((sequence - self.first) as usize) else { return Answer::Unknown };
        let due_ns = std::mem::replace(&mut flight.due_ns, ANSWERED);
        if due_ns == ANSWERED {
            return Answer::Duplicate;
        }
        let is_late = left_ns.is_some_and(|left_ns| flight.left_ns <= left_ns);
        self.awaited -= 1;
        while self.flights.front().is_some_and(|flight| flight.due_ns == ANSWERED) {
            self.settle_first(true);
        }
        if is_late { Answer::Overdue } else { Answer::InTime { due_ns } }
    }

    /// The sequence number of the next datagram.
    pub(super) fn next(&self) -> u64 {
        self.first + self.flights.len() as u64
    }

    /// True if one more may leave, with at most so many that may yet be answered.
    pub(super) fn has_place(&self, in_flight_max: u32) -> bool {
        self.awaited < in_flight_max && self.flights.len() < SPAN_MAX
    }

    fn answer_past(&mut self, sequence: u64) -> Answer {
        if self.first - sequence > PAST {
            return Answer::Late;
        }
        let (word, bit) = place(sequence);
        let was_answered = self.past[word] & bit != 0;
        self.past[word] |= bit;
        if was_answered { Answer::Duplicate } else { Answer::Late }
    }

    fn settle_first(&mut self, is_answered: bool) {
        let (word, bit) = place(self.first);
        self.past[word] = if is_answered { self.past[word] | bit } else { self.past[word] & !bit };
        self.flights.pop_front();
        self.first += 1;
    }
}

/// Where the bit of a settled datagram is.
fn place(sequence: u64) -> (usize, u64) {
    let bit = sequence % PAST;
    ((bit / 64) as usize, 1 << (bit % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With datagrams that were due and left at these times.
    fn window(times_ns: &[u64]) -> Window {
        let mut window = Window::new();
        times_ns.iter().for_each(|time_ns| window.leave(*time_ns, time_ns + 1));
        window
    }

    #[test]
    fn answers_in_any_order_free_their_places() {
        let mut window = window(&[10, 20, 30]);
        assert!(!window.has_place(3) && window.has_place(4));
        assert_eq!(window.answer(1, None), Answer::InTime { due_ns: 20 });
        assert_eq!(window.answer(1, None), Answer::Duplicate, "though one before it is missing");
        assert!(window.has_place(3));
        assert_eq!(window.answer(2, None), Answer::InTime { due_ns: 30 });
        assert_eq!(window.answer(0, None), Answer::InTime { due_ns: 10 });
        assert_eq!((window.awaited, window.next(), window.flights.len()), (0, 3, 0));
        assert_eq!([0, 1, 2, 3].map(|sequence| window.answer(sequence, None)), {
            [Answer::Duplicate, Answer::Duplicate, Answer::Duplicate, Answer::Unknown]
        });
        assert_eq!(window.answer(u64::MAX, None), Answer::Unknown);
    }

    #[test]
    fn what_is_not_answered_in_time_is_lost_and_its_place_free() {
        let mut window = window(&[10, 20, 30, 40]);
        assert_eq!(window.answer(1, None), Answer::InTime { due_ns: 20 });
        assert_eq!(window.give_up(10), 0, "it left at 11");
        assert_eq!(window.give_up(31), 2);
        assert_eq!((window.awaited, window.has_place(2)), (1, true));
        assert_eq!(window.answer(0, None), Answer::Late);
        assert_eq!(window.answer(0, None), Answer::Duplicate);
        assert_eq!(window.answer(1, None), Answer::Duplicate);
        assert_eq!(window.answer(2, None), Answer::Late);
        assert_eq!(window.answer(3, None), Answer::InTime { due_ns: 40 });
        assert_eq!(window.give_up(u64::MAX), 0);
    }

    #[test]
    fn an_answer_after_its_time_is_late_and_its_datagram_lost_alone() {
        let mut window = window(&[10, 20, 30]);
        assert_eq!(window.answer(1, Some(21)), Answer::Overdue);
        assert_eq!((window.awaited, window.answer(1, Some(21))), (2, Answer::Duplicate));
        assert_eq!(window.answer(2, Some(21)), Answer::InTime { due_ns: 30 });
        assert_eq!(window.give_up(21), 1, "the first one, of which nothing has come");
        assert_eq!((window.awaited, window.answer(0, Some(21))), (0, Answer::Late));
    }

    #[test]
    fn of_the_distant_past_little_is_known() {
        let mut window = Window::new();
        for sequence in 0..3 * PAST {
            window.leave(sequence, sequence);
            if sequence % 2 == 0 {
                assert_eq!(window.answer(sequence, None), Answer::InTime { due_ns: sequence });
            } else {
                assert_eq!(window.give_up(sequence), 1);
            }
        }
        assert_eq!(window.answer(2 * PAST, None), Answer::Duplicate);
        assert_eq!(window.answer(2 * PAST + 1, None), Answer::Late);
        assert_eq!(window.answer(2 * PAST - 2, None), Answer::Late, "an even one, and forgotten");
    }

    #[test]
    fn one_that_is_missing_holds_up_a_bounded_number() {
        let mut window = window(&[0]);
        while window.has_place(2) {
            let sequence = window.next();
            window.leave(sequence, sequence);
            assert_eq!(window.answer(sequence, None), Answer::InTime { due_ns: sequence });
        }
        assert_eq!(window.next(), SPAN_MAX as u64);
        assert_eq!(window.give_up(1), 1);
        assert!(window.has_place(1) && window.flights.is_empty());
    }

    /// Against a plain list of what became of each datagram.
    #[test]
    fn agrees_with_a_model() {
        const TIMEOUT: u64 = 40;
        let mut window = Window::new();
        let mut model: Vec<(u64, &str)> = Vec::new();
        let mut random = 1u64;
        for now_ns in 0..50_000u64 {
            random = super::super::super::pattern::mix(random.wrapping_add(now_ns));
            let expected = |model: &[(u64, &str)]| model.iter().filter(|(_, state)| *state == "awaited").count();
            if random.is_multiple_of(3) {
                window.leave(now_ns, now_ns);
                model.push((now_ns, "awaited"));
            } else if random % 3 == 1 && !model.is_empty() {
                let back = (random >> 8) % 60;
                let sequence = (model.len() as u64 - 1).saturating_sub(back);
                let entry = &mut model[sequence as usize];
                let limit_ns = now_ns.checked_sub(TIMEOUT);
                let answer = match entry.1 {
                    "awaited" if limit_ns.is_some_and(|limit_ns| entry.0 <= limit_ns) => Answer::Overdue,
                    "awaited" => Answer::InTime { due_ns: entry.0 },
                    "lost" => Answer::Late,
                    _ => Answer::Duplicate,
                };
                entry.1 = "answered";
                assert_eq!(window.answer(sequence, limit_ns), answer, "{sequence} at {now_ns}");
            } else if now_ns > TIMEOUT {
                let limit_ns = now_ns - TIMEOUT;
                let is_old = |entry: &&mut (u64, &str)| entry.1 == "awaited" && entry.0 <= limit_ns;
                let tail = model.len().saturating_sub(500);
                let lost = model[tail..].iter_mut().filter(is_old).map(|entry| entry.1 = "lost").count();
                assert_eq!(window.give_up(limit_ns) as usize, lost);
            }
            let tail = model.len().saturating_sub(500);
            assert_eq!(window.awaited as usize, expected(&model[tail..]));
        }
    }
}
