//! One connection of the load generator: what it has sent, what must come back, and since when.

use std::collections::VecDeque;

use raon_provider::SocketId;

use super::pattern::Pattern;

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// On its way.
    Connecting,
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
    /// Bytes of all messages so far; more than were sent while the driver was busy.
    pub(super) due_bytes: u64,
    received_bytes: u64,
    /// When messages became due, first in first out: how many at which time.
    pending: VecDeque<(u64, u32)>,
    /// Messages in flight.
    pub(super) in_flight: u32,
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
            due_bytes: 0,
            received_bytes: 0,
            pending: VecDeque::new(),
            in_flight: 0,
        }
    }

    /// More messages are to go out.
    pub(super) fn owe(&mut self, messages: u32, size_bytes: u64, now_ns: u64) {
        self.due_bytes += u64::from(messages) * size_bytes;
        self.in_flight += messages;
        self.pending.push_back((now_ns, messages));
    }

    /// Bytes have come back: compares them with the stream. What was never sent is corrupt as a whole.
    pub(super) fn arrive(&mut self, bytes: &[u8], size_bytes: u64) -> Arrival {
        let expected = bytes.len().min((self.sent_bytes - self.received_bytes) as usize);
        let wrong = self.pattern.count_wrong(self.received_bytes, &bytes[..expected]);
        let before = self.received_bytes / size_bytes;
        self.received_bytes += expected as u64;
        let messages = (self.received_bytes / size_bytes - before) as u32;
        self.in_flight -= messages;
        Arrival { messages, corrupt_bytes: wrong + (bytes.len() - expected) as u64 }
    }

    /// Tells since when each of the next `messages` was due, in runs of the same time.
    pub(super) fn settle(&mut self, mut messages: u32, mut record: impl FnMut(u64, u32)) {
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
    use super::*;

    #[test]
    fn messages_are_timed_from_first_byte_due_to_last_byte_back() {
        let pattern = Pattern::new(1, 1);
        let mut connection = Connection::new(pattern);
        connection.owe(2, 10, 100);
        connection.owe(1, 10, 200);
        connection.sent_bytes = 30;
        let mut echo = vec![0; 30];
        pattern.fill(0, &mut echo);
        assert_eq!(connection.arrive(&echo[..9], 10), Arrival { messages: 0, corrupt_bytes: 0 });
        assert_eq!(connection.arrive(&echo[9..], 10), Arrival { messages: 3, corrupt_bytes: 0 });
        let mut runs = Vec::new();
        connection.settle(3, |since_ns, count| runs.push((since_ns, count)));
        assert_eq!(runs, [(100, 2), (200, 1)]);
        assert_eq!(connection.in_flight, 0);
    }

    #[test]
    fn bytes_that_were_never_sent_are_corrupt() {
        let mut connection = Connection::new(Pattern::new(1, 1));
        assert_eq!(connection.arrive(&[0; 7], 10), Arrival { messages: 0, corrupt_bytes: 7 });
    }
}
