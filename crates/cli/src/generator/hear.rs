//! Hearing: what has come is compared or taken apart, and what follows from it.

use raon_provider::Buffer;

use super::Generator;
use super::connection::State;
use super::talk::Heard;

impl Generator {
    pub(super) fn on_echo(&mut self, token: u64, bytes: &Buffer) {
        let connection = &mut self.connections[token as usize];
        let arrival = connection.arrive(bytes, self.plan.size_bytes);
        self.tally.corrupt_bytes += arrival.corrupt_bytes;
        if arrival.messages > 0 && connection.state == State::Active {
            self.tally.messages += u64::from(arrival.messages);
            self.settle(token, arrival.messages);
        }
    }

    pub(super) fn on_words(&mut self, token: u64, bytes: &Buffer) {
        // What comes for one that is over is of no interest any more.
        if self.connections[token as usize].state != State::Over {
            let mut heard = std::mem::take(&mut self.heard);
            self.talk.hear(token, bytes, &mut heard);
            self.act_on(token, &mut heard);
            self.heard = heard;
        }
    }

    /// Draws the consequences of what was heard on a connection.
    pub(super) fn act_on(&mut self, token: u64, heard: &mut Vec<Heard>) {
        for one in heard.drain(..) {
            match one {
                Heard::Ready => self.on_ready(token),
                Heard::Answered { token, messages } => {
                    if self.connections[token as usize].state == State::Active {
                        self.tally.messages += u64::from(messages);
                        self.settle(token, messages);
                    }
                }
                Heard::Damaged { token } => {
                    if self.connections[token as usize].state == State::Active {
                        self.tally.open.unanswered += 1;
                        self.tally.count_error(1, || "a line did not come to everybody in the room".into());
                        self.settle(token, 1);
                    }
                }
                Heard::Wrong(reason) => self.tally.count_error(1, || reason.into()),
                Heard::Broken(reason) => self.fail(token, || reason),
            }
        }
    }

    /// So many messages of a connection are done with: times them, and sends what follows.
    fn settle(&mut self, token: u64, messages: u32) {
        let now_ns = self.now_ns;
        let (recorder, histogram) = (&mut self.recorder, &mut self.tally.latency_ns);
        self.connections[token as usize]
            .settle(messages, |since_ns, count| recorder.record(histogram, now_ns.saturating_sub(since_ns), count));
        self.answered_ns = now_ns;
        self.awaited -= u64::from(messages);
        if self.is_refilling {
            self.owe(token, messages);
        } else {
            self.send_due(token);
        }
    }
}
