//! Refusals and late messages: each kind is counted by itself, and the log gets one line per kind and second.

use raon_provider::{Error, ErrorKind};
use raon_session::{CloseReason, Framing, Refusal, SendOutcome};

use super::ShardCore;
use crate::base::id::SessionId;
use crate::base::log_limit::LogKind;

const OUTBOX_FULL: &str = "an outbox is full and a message was refused; raise outbox_bytes_max or outbox_messages_max, send \
    droppable messages, or set slow_consumer to end sessions that do not read";
const MEMORY_USED_UP: &str = "the memory budget is used up; raise memory_bytes_max or lower outbox_bytes_max";
const UNENCODABLE: &str = "a message cannot be framed; send shorter ones or raise the framing's limit";
const LATE: &str = "something was meant for a session that has ended; forget its id in on_close";
const MAILBOX_FULL: &str =
    "a shard's mailbox is full; send less per turn or raise mailbox_bytes_max and mailbox_commands_max";

impl<F: Framing> ShardCore<F> {
    /// Something was not simply queued for the session in this slot.
    #[cold]
    pub(super) fn note_unusual(&mut self, index: u32, outcome: SendOutcome) {
        match outcome {
            SendOutcome::Queued => {}
            SendOutcome::Superseded => {
                self.stats.messages_queued += 1;
                self.stats.messages_dropped += 1;
            }
            SendOutcome::Dropped => self.stats.messages_dropped += 1,
            SendOutcome::Refused(refusal) => self.note_refused(self.table.id(index), refusal),
            SendOutcome::Gone => self.note_late(self.table.id(index)),
        }
    }

    /// A message to this session was refused.
    #[cold]
    pub(crate) fn note_refused(&mut self, session: SessionId, refusal: Refusal) {
        self.stats.messages_refused += 1;
        match refusal {
            Refusal::OutboxBytes | Refusal::OutboxMessages => {
                self.stats.refused_outbox += 1;
                self.warn(LogKind::OutboxFull, session, OUTBOX_FULL);
            }
            Refusal::Memory => {
                self.stats.refused_memory += 1;
                self.warn(LogKind::MemoryBudget, session, MEMORY_USED_UP);
            }
            Refusal::Unencodable(_) => {
                self.stats.refused_encoding += 1;
                self.warn(LogKind::EncodeTooLong, session, UNENCODABLE);
            }
        }
    }

    /// Something was meant for a session that has ended.
    #[cold]
    pub(crate) fn note_late(&mut self, session: SessionId) {
        self.stats.late += 1;
        self.warn(LogKind::Late, session, LATE);
    }

    /// A session ends because there is no memory for what it has sent.
    #[cold]
    pub(super) fn memory_used_up(&mut self, index: u32) {
        self.warn(LogKind::MemoryBudget, self.table.id(index), MEMORY_USED_UP);
    }

    /// A post of this shard to itself was refused.
    #[cold]
    pub(crate) fn note_post_refused(&mut self) {
        self.stats.refused_mailbox += 1;
        self.warn(LogKind::MailboxFull, SessionId::NONE, MAILBOX_FULL);
    }

    /// Counts commands that this shard's mailbox has refused since the last time, whoever wanted to put them in.
    pub(crate) fn note_mailbox(&mut self, refused: u64) {
        if refused > 0 {
            self.stats.refused_mailbox += refused;
            self.warn(LogKind::MailboxFull, SessionId::NONE, MAILBOX_FULL);
        }
    }

    /// The listener's stream of connections pauses, and goes on by itself.
    pub(crate) fn accept_paused(&mut self, error: Error) {
        let is_short = matches!(error.kind(), ErrorKind::DescriptorLimit | ErrorKind::SystemDescriptorLimit);
        let kind = if is_short { LogKind::DescriptorsUsedUp } else { LogKind::AcceptPaused };
        if let Some(suppressed) = self.log.pass(kind, self.driver.now_ns()) {
            tracing::warn!(shard = self.number, suppressed, "the listener pauses: {error}");
        }
    }

    /// A connection is closed instead of becoming a session.
    pub(crate) fn refuse_connection(&mut self, reason: CloseReason) {
        self.stats.count_close(reason);
        if let Some(suppressed) = self.log.pass(LogKind::ConnectionRefused, self.driver.now_ns()) {
            tracing::warn!(shard = self.number, suppressed, "a connection is refused: {reason}");
        }
    }

    /// Takes over what the driver has counted of the listener's troubles since the last turn.
    pub(super) fn look_at_accepts(&mut self) {
        let (pauses, closed) = self.driver.accept_troubles();
        let closed_now = closed - self.stats.accepted_and_closed;
        (self.stats.accept_pauses, self.stats.accepted_and_closed) = (pauses, closed);
        if closed_now > 0
            && let Some(suppressed) = self.log.pass(LogKind::DescriptorsUsedUp, self.driver.now_ns())
        {
            tracing::warn!(
                shard = self.number,
                suppressed,
                "no descriptor is left: {closed_now} connections were closed; raise RLIMIT_NOFILE or lower sessions_max"
            );
        }
    }

    fn warn(&mut self, kind: LogKind, session: SessionId, remedy: &str) {
        if let Some(suppressed) = self.log.pass(kind, self.driver.now_ns()) {
            tracing::warn!(shard = self.number, %session, suppressed, "{remedy}");
        }
    }
}
