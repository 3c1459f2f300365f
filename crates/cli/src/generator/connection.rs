//! One connection of the load generator: what it has sent, what must come back, and since when.

use std::collections::VecDeque;

use raon_provider::SocketId;

use super::pattern::Pattern;
use super::schedule::Lane;

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// On its way.
    Connecting,
    /// There, and its greeting is not answered yet.
    Greeting,
    /// Does nothing, and is to stay open.
    Idle,
    /// Exchanges messages.
    Active,
    /// Failed, or closed by us.
    Over,
}

/// One connection.
pub(super) struct Connection {
    pub(super) socket: SocketId,
    pub(super) state: State,
    pub(super) pattern: Pattern,
    /// Bytes handed to the driver.
    pub(super) sent_bytes: u64,
    received_bytes: u64,
    /// Messages that were to be sent so far.
    due: u64,
    /// Messages that have come back.
    answered: u64,
    /// In a closed loop: when messages became due, first in first out, how many at which time.
    pending: VecDeque<(u64, u32)>,
    /// In an open loop: when they are due.
    pub(super) lane: Option<Lane>,
}

/// What some received bytes amount to.
#[derive(Debug, PartialEq)]
pub(super) struct Arrival {
    /// Messages that are whole now.
    pub(super) messages: u32,
    pub(super) corrupt_bytes: u64,
}

impl Connection {
    pub(super) fn new(pattern: Pattern) -> Self {
        Connection {
            socket: SocketId::NONE,
            state: State::Connecting,
            pattern,
            sent_bytes: 0,
            received_bytes: 0,
            due: 0,
            answered: 0,
            pending: VecDeque::new(),
            lane: None,
        }
    }

    /// More messages are to go out, timed from now.
    pub(super) fn owe(&mut self, messages: u32, now_ns: u64) {
        self.due += u64::from(messages);
        self.pending.push_back((now_ns, messages));
    }

    /// Everything of the lane up to these times is to go out. Tells when each was due; returns how many.
    pub(super) fn owe_until(&mut self, now_ns: u64, end_ns: u64, mut tell: impl FnMut(u64)) -> u64 {
        let Some(lane) = &mut self.lane else { return 0 };
        let before = self.due;
        while lane.due.next_ns() <= now_ns && lane.due.next_ns() < end_ns {
            tell(lane.due.advance());
            self.due += 1;
        }
        self.due - before
    }

    /// When the next message of the lane is due.
    pub(super) fn next_due_ns(&self) -> u64 {
        self.lane.as_ref().map_or(u64::MAX, |lane| lane.due.next_ns())
    }

    /// How many bytes may have been sent by now, with at most so many messages in flight.
    pub(super) fn due_bytes(&self, in_flight_max: u64, size_bytes: u64) -> u64 {
        self.due.min(self.answered.saturating_add(in_flight_max)) * size_bytes
    }

    /// Messages that are due and have no answer yet.
    pub(super) fn awaited(&self) -> u64 {
        self.due - self.answered
    }

    /// Messages that are due and of which nothing has been sent.
    pub(super) fn backlog(&self, size_bytes: u64) -> u64 {
        self.due - self.sent_bytes.div_ceil(size_bytes)
    }

    /// Those will not be sent any more. Tells when each was due; returns how many.
    pub(super) fn drop_backlog(&mut self, size_bytes: u64, tell: impl FnMut(u64)) -> u64 {
        let dropped = self.backlog(size_bytes);
        self.due -= dropped;
        self.tell_lane(self.awaited(), dropped, tell);
        dropped
    }

    /// Tells when each message that is awaited was due.
    pub(super) fn tell_awaited(&self, tell: impl FnMut(u64)) {
        self.tell_lane(0, self.awaited(), tell);
    }

    fn tell_lane(&self, skipped: u64, count: u64, mut tell: impl FnMut(u64)) {
        let Some(lane) = &self.lane else { return };
        let mut cursor = lane.answered.clone();
        for _ in 0..skipped {
            cursor.advance();
        }
        for _ in 0..count {
            tell(cursor.advance());
        }
    }

    /// Bytes have come back: compares them with the stream. What was never sent is corrupt as a whole.
    pub(super) fn arrive(&mut self, bytes: &[u8], size_bytes: u64) -> Arrival {
        let expected = bytes.len().min((self.sent_bytes - self.received_bytes) as usize);
        let wrong = self.pattern.count_wrong(self.received_bytes, &bytes[..expected]);
        self.received_bytes += expected as u64;
        let messages = (self.received_bytes / size_bytes - self.answered) as u32;
        Arrival { messages, corrupt_bytes: wrong + (bytes.len() - expected) as u64 }
    }

    /// The next `messages` are answered: tells since when each of them was due, in runs of the same time.
    pub(super) fn settle(&mut self, mut messages: u32, mut record: impl FnMut(u64, u32)) {
        self.answered += u64::from(messages);
        if let Some(lane) = &mut self.lane {
            return (0..messages).for_each(|_| record(lane.answered.advance(), 1));
        }
        while let Some((since_ns, count)) = self.pending.front_mut()
            && messages > 0
        {
            let run = messages.min(*count);
            record(*since_ns, run);
            messages -= run;
            *count -= run;
            if *count == 0 {
                self.pending.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::schedule::{Arrivals, Cursor};
    use super::*;

    const SIZE_BYTES: u64 = 10;

    fn echo(connection: &mut Connection, messages: u64) -> Vec<u64> {
        let mut bytes = vec![0; (messages * SIZE_BYTES) as usize];
        connection.pattern.fill(connection.received_bytes, &mut bytes);
        let arrival = connection.arrive(&bytes, SIZE_BYTES);
        assert_eq!(arrival, Arrival { messages: messages as u32, corrupt_bytes: 0 });
        let mut times = Vec::new();
        connection.settle(arrival.messages, |since_ns, count| times.extend((0..count).map(|_| since_ns)));
        times
    }

    #[test]
    fn messages_are_timed_from_first_byte_due_to_last_byte_back() {
        let pattern = Pattern::new(1, 1);
        let mut connection = Connection::new(pattern);
        connection.owe(2, 100);
        connection.owe(1, 200);
        assert_eq!(connection.due_bytes(3, SIZE_BYTES), 30);
        connection.sent_bytes = 30;
        let mut echo = vec![0; 30];
        pattern.fill(0, &mut echo);
        assert_eq!(connection.arrive(&echo[..9], SIZE_BYTES), Arrival { messages: 0, corrupt_bytes: 0 });
        assert_eq!(connection.arrive(&echo[9..], SIZE_BYTES), Arrival { messages: 3, corrupt_bytes: 0 });
        let mut runs = Vec::new();
        connection.settle(3, |since_ns, count| runs.push((since_ns, count)));
        assert_eq!(runs, [(100, 2), (200, 1)]);
        assert_eq!(connection.awaited(), 0);
    }

    #[test]
    fn a_message_that_had_to_wait_is_timed_from_when_it_was_due() {
        let mut connection = Connection::new(Pattern::new(1, 1));
        connection.lane = Some(Lane::new(Cursor::new(Arrivals::Even, 0, 0, 0.0, 10.0)));
        let mut due = Vec::new();
        assert_eq!(connection.owe_until(35, 100, |due_ns| due.push(due_ns)), 4);
        assert_eq!((due, connection.next_due_ns()), (vec![0, 10, 20, 30], 40));
        // Two may be in flight: the others go when those have come back.
        connection.sent_bytes = connection.due_bytes(2, SIZE_BYTES);
        assert_eq!((connection.sent_bytes, connection.backlog(SIZE_BYTES)), (20, 2));
        assert_eq!(echo(&mut connection, 1), [0]);
        connection.sent_bytes = connection.due_bytes(2, SIZE_BYTES);
        assert_eq!((connection.backlog(SIZE_BYTES), connection.awaited()), (1, 3));
        assert_eq!(echo(&mut connection, 2), [10, 20]);
    }

    #[test]
    fn what_was_not_sent_by_the_end_is_dropped_and_told() {
        let mut connection = Connection::new(Pattern::new(1, 1));
        connection.lane = Some(Lane::new(Cursor::new(Arrivals::Even, 0, 0, 0.0, 10.0)));
        connection.owe_until(1000, 50, |_| ());
        // One whole message and the beginning of another.
        connection.sent_bytes = 11;
        let mut dropped = Vec::new();
        assert_eq!(connection.drop_backlog(SIZE_BYTES, |due_ns| dropped.push(due_ns)), 3);
        assert_eq!((dropped, connection.awaited()), (vec![20, 30, 40], 2));
        // The rest of the one that was begun still goes.
        assert_eq!(connection.due_bytes(9, SIZE_BYTES), 20);
        let mut awaited = Vec::new();
        connection.tell_awaited(|due_ns| awaited.push(due_ns));
        assert_eq!(awaited, [0, 10]);
    }

    #[test]
    fn bytes_that_were_never_sent_are_corrupt() {
        let mut connection = Connection::new(Pattern::new(1, 1));
        assert_eq!(connection.arrive(&[0; 7], 10), Arrival { messages: 0, corrupt_bytes: 7 });
    }
}
