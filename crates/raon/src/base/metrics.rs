//! Counters: each shard counts for itself, and they are summed up when somebody asks.

use std::fmt;
use std::ops::AddAssign;

use raon_session::CloseReason;

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of a shard, or of all shards together, as of the last turn of each.
        ///
        /// ```
        /// use raon::{CloseReason, ServerStats};
        /// let stats = ServerStats::default();
        /// assert_eq!((stats.sessions, stats.closed_for(CloseReason::PeerClosed)), (0, 0));
        /// ```
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        #[non_exhaustive]
        pub struct ServerStats {
            $($(#[$doc])* pub $name: u64,)*
            /// Sessions that ended, and connections that were closed before they became one, by the number of the reason.
            closed: Closed,
        }

        impl ServerStats {
            /// Every counter with its name, in order, for whoever exports them; ends by reason aside.
            pub fn entries(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }

        impl AddAssign for ServerStats {
            fn add_assign(&mut self, other: ServerStats) {
                $(self.$name += other.$name;)*
                for (sum, count) in self.closed.0.iter_mut().zip(other.closed.0) {
                    *sum += count;
                }
            }
        }
    };
}

stats! {
    /// Sessions that are open now.
    sessions,
    /// Connections that the listeners have yielded.
    accepted,
    /// Pauses of a listener because the system failed an accept, for example for want of descriptors.
    accept_pauses,
    /// Connections that were closed at once because no descriptor was left for them.
    accepted_and_closed,
    /// Ends of a listener's stream of connections before the server was stopped; it is opened again.
    listener_failures,
    /// Shards that have ended before the server was stopped.
    shard_failures,
    /// Sessions opened: `on_open` has returned.
    opened,
    /// Messages given to `on_message`.
    messages_received,
    /// Bytes that came on sessions' connections.
    bytes_received,
    /// Bytes that came for a session that was closing, behind the message at which it was closed, or of a frame that was never
    /// completed.
    bytes_discarded,
    /// Messages queued for sending.
    messages_queued,
    /// Bytes handed to the driver.
    bytes_handed_over,
    /// Messages that were refused at a bound or could not be framed: the sum of the next three.
    messages_refused,
    /// Messages that were refused because the session's outbox was full.
    refused_outbox,
    /// Messages that were refused because the server's memory was used up.
    refused_memory,
    /// Messages that could not be framed.
    refused_encoding,
    /// Commands that were refused because this shard's mailbox was full, whoever they came from.
    refused_mailbox,
    /// Droppable messages that were left out: superseded, or dropped for want of room.
    messages_dropped,
    /// Messages that waited when their session ended abruptly.
    messages_lost,
    /// Late things, which were meant for a session that was gone: messages, closes, completions.
    late,
    /// Broadcasts begun on this shard.
    broadcasts,
    /// Members that a broadcast was queued for.
    broadcast_delivered,
    /// Members that a broadcast was refused by, and shards whose mailbox had no room for it.
    broadcast_refused,
    /// Posts given to `on_post`.
    posts,
    /// Timers given to `on_timer`.
    timers,
    /// Callbacks that panicked.
    panics,
    /// Times that a session's stream of input was paused because its peer did not read.
    pauses,
    /// Sessions that were reset because they did not end in time.
    forced,
    /// Memory that begun frames and outboxes take now, in bytes.
    memory_bytes,
    /// Turns.
    turns,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Closed([u64; CloseReason::COUNT]);

impl ServerStats {
    /// One more ended for this reason.
    pub(crate) fn count_close(&mut self, reason: CloseReason) {
        self.closed.0[reason.index()] += 1;
    }

    /// Number of sessions that ended for this reason; codes and causes inside a reason are not told apart.
    pub fn closed_for(&self, reason: CloseReason) -> u64 {
        self.closed.0[reason.index()]
    }

    /// Numbers of sessions that ended, by the reason's name.
    pub fn closed_by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CloseReason::names().zip(self.closed.0)
    }

    /// Number of sessions that ended in all.
    pub fn closed(&self) -> u64 {
        self.closed.0.iter().sum()
    }
}

/// One counter per line, zeros left out.
impl fmt::Display for ServerStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ends = self.closed_by_reason().map(|(name, count)| (format!("closed: {name}"), count));
        let all = self.entries().map(|(name, count)| (name.replace('_', " "), count)).chain(ends);
        for (name, count) in all.filter(|(_, count)| *count > 0) {
            writeln!(f, "{name}: {count}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_take_every_counter() {
        let mut one = ServerStats { opened: 1, turns: 2, ..ServerStats::default() };
        one.count_close(CloseReason::Application(3));
        let mut sum = one;
        sum += one;
        assert_eq!((sum.opened, sum.turns, sum.closed()), (2, 4, 2));
        assert_eq!(sum.closed_for(CloseReason::Application(9)), 2);
        assert_eq!(sum.to_string(), "opened: 2\nturns: 4\nclosed: application: 2\n");
    }
}
