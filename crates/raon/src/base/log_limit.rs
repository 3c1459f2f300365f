//! The limit on log lines: each kind of trouble writes one line per second and shard, however often it happens.
//!
//! 1. The code that meets trouble asks [`LogLimit::pass`] with the driver's clock.
//! 2. `Some(suppressed)` means that a line is due. The line says how many of its kind were left out since the last one.
//! 3. `None` means that a line of this kind is less than a second old: the event is counted and nothing is written.
//!
//! Nothing is allocated, and an event that is left out costs one comparison. Counters in `ServerStats` count every event.

/// One line per kind in this time, in nanoseconds: a person can follow it, and a disk is not filled by an attack.
const PERIOD_NS: u64 = 1_000_000_000;

/// A kind of trouble; each has a limit of its own, so that one cannot hide another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LogKind {
    /// A message was refused because the session's outbox was full.
    OutboxFull,
    /// A message or a frame was refused because the memory budget was used up.
    MemoryBudget,
    /// A message was refused because it cannot be framed.
    EncodeTooLong,
    /// A message was meant for a session that was gone.
    Late,
    /// A command was refused because a shard's mailbox was full.
    MailboxFull,
    /// A connection was closed instead of becoming a session.
    ConnectionRefused,
    /// The system failed an accept, and the listener pauses.
    AcceptPaused,
    /// No descriptor is left for a connection.
    DescriptorsUsedUp,
    /// A shard has ended before the server was stopped.
    ShardEnded,
    /// A listener's stream of connections has ended before the server was stopped.
    ListenerEnded,
}

impl LogKind {
    const ALL: [LogKind; 10] = [
        LogKind::OutboxFull,
        LogKind::MemoryBudget,
        LogKind::EncodeTooLong,
        LogKind::Late,
        LogKind::MailboxFull,
        LogKind::ConnectionRefused,
        LogKind::AcceptPaused,
        LogKind::DescriptorsUsedUp,
        LogKind::ShardEnded,
        LogKind::ListenerEnded,
    ];
}

#[derive(Clone, Copy, Default)]
struct Window {
    /// From this time on the next line may be written.
    open_at_ns: u64,
    suppressed: u64,
}

/// The limits of one shard.
#[derive(Default)]
pub(crate) struct LogLimit {
    windows: [Window; LogKind::ALL.len()],
}

impl LogLimit {
    /// Asks for a line of this kind at this time of the driver's clock. `Some`: write it, and say that so many like it were
    /// left out. `None`: leave it out.
    #[cold]
    pub(crate) fn pass(&mut self, kind: LogKind, now_ns: u64) -> Option<u64> {
        let window = &mut self.windows[kind as usize];
        if now_ns < window.open_at_ns {
            window.suppressed += 1;
            return None;
        }
        window.open_at_ns = now_ns.saturating_add(PERIOD_NS);
        Some(std::mem::take(&mut window.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_kind_and_second_says_how_many_were_left_out() {
        let mut limit = LogLimit::default();
        assert_eq!(limit.pass(LogKind::OutboxFull, 0), Some(0), "the first one, also at the clock's start");
        for now_ns in [0, 1, PERIOD_NS - 1] {
            assert_eq!(limit.pass(LogKind::OutboxFull, now_ns), None);
        }
        assert_eq!(limit.pass(LogKind::MailboxFull, 2), Some(0), "another kind has a limit of its own");
        assert_eq!(limit.pass(LogKind::OutboxFull, PERIOD_NS), Some(3));
        assert_eq!(limit.pass(LogKind::OutboxFull, 2 * PERIOD_NS), Some(0), "what was told is not told again");
    }

    #[test]
    fn every_kind_has_a_window() {
        for (place, kind) in LogKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place, "{kind:?}");
        }
    }
}
