//! All of a shard but its application, so that a callback can be given both.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raon_provider::{CloseMode, Driver, ErrorKind, OperationId, SocketId};
use raon_session::{
    Action, COPY_BYTES_MAX, CloseReason, ENTRY_BYTES, Framing, FreeLists, Outbox, Refusal, SendOutcome, SessionConfig,
    Step, TransportFailure,
};

use crate::application::{Application, Head};
use crate::budget::{Lease, Shares};
use crate::chunk::{OutChunk, PoolAllocator};
use crate::group::Groups;
use crate::id::{SessionId, Token};
use crate::log_limit::LogLimit;
use crate::metrics::ServerStats;
use crate::router::Router;
use crate::shard::clock::Clock;
use crate::shard::flush::Relief;
use crate::shard::held::HeldInputs;
use crate::shard::settings::Settings;
use crate::table::Table;

/// What a message takes in an outbox beside its bytes at most: its entry, and one for the chunk before it.
const REFERENCE_BYTES: usize = 2 * ENTRY_BYTES;

/// No session.
pub(crate) const NOBODY: u32 = u32::MAX;

/// The session whose input the application is answering.
pub(crate) struct Answering {
    /// Its slot, or `NOBODY`.
    pub(crate) index: u32,
    token: u64,
    /// It gets its messages whatever waits for it: its peer does not read, and `pause_receiving` is off.
    pub(crate) ignores_pressure: bool,
    /// It has had its share of this step: what is left comes with the next one.
    pub(crate) has_used_share: bool,
}

impl Answering {
    pub(crate) const NOBODY: Answering =
        Answering { index: NOBODY, token: 0, ignores_pressure: false, has_used_share: false };
}

/// See the module.
pub(crate) struct Inside<A: Application> {
    pub(crate) number: u8,
    pub(crate) driver: Driver,
    pub(crate) framing: A::Framing,
    pub(crate) settings: Settings,
    pub(crate) router: Arc<Router<A>>,
    pub(crate) table: Table<A::Session>,
    pub(crate) groups: Groups,
    pub(crate) free_lists: FreeLists<OutChunk>,
    pub(crate) lease: Lease,
    pub(crate) shares: Shares,
    /// Bodies that were shared in this turn.
    pub(crate) bodies: Vec<Bytes>,
    /// Sessions to be flushed.
    pub(crate) dirty: Vec<u32>,
    /// Sessions that have ended, of which the application has not been told.
    pub(crate) ended: VecDeque<u32>,
    /// Posts to keys that are at home here, by this shard itself.
    pub(crate) posts: VecDeque<(u64, A::Post)>,
    /// Where bodies for sessions of other shards are written.
    pub(crate) scratch: Vec<u8>,
    pub(crate) clock: Clock,
    pub(crate) answering: Answering,
    pub(crate) held: HeldInputs,
    pub(crate) stats: ServerStats,
    /// How often each kind of trouble is logged.
    pub(crate) log: LogLimit,
}

impl<A: Application> Inside<A> {
    /// Queues something for a live session by `append`, which is given what it needs. The message takes at most so many bytes
    /// of the session's own; if there is no memory for them it is refused.
    #[inline]
    pub(crate) fn queue(
        &mut self,
        index: u32,
        bytes: usize,
        append: impl FnOnce(&mut Outbox<OutChunk>, &A::Framing, &SessionConfig, &mut PoolAllocator<'_>) -> SendOutcome,
    ) -> SendOutcome {
        let has_memory = !self.table.is_live(index) || self.provide(index, bytes);
        let Some(entry) = self.table.get_mut(index).filter(|entry| entry.session.is_live()) else {
            self.note_unusual(index, SendOutcome::Gone);
            return SendOutcome::Gone;
        };
        let relief = (index == self.answering.index).then_some(Relief {
            socket: entry.socket,
            token: self.answering.token,
            handed: &mut entry.handed,
            bytes_handed_over: &mut self.stats.bytes_handed_over,
        });
        let mut allocator = PoolAllocator { driver: &mut self.driver, free_lists: &mut self.free_lists, relief };
        let outcome = if has_memory {
            append(&mut entry.session.outbox, &self.framing, &self.settings.session, &mut allocator)
        } else {
            SendOutcome::Refused(Refusal::Memory)
        };
        if outcome.is_queued() && !entry.is_dirty {
            entry.is_dirty = true;
            self.dirty.push(index);
        }
        if outcome.is_queued() {
            self.recharge(index);
        }
        if outcome == SendOutcome::Queued {
            self.stats.messages_queued += 1;
        } else {
            self.note_unusual(index, outcome);
        }
        outcome
    }

    /// What a message with a body of at most so many bytes takes at most.
    #[inline]
    pub(crate) fn message_bytes(&self, body_bytes: usize) -> usize {
        let bytes = self.framing.prefix_bytes().saturating_add(self.framing.suffix_bytes()).saturating_add(body_bytes);
        let longest = self.framing.message_bytes_max().min(self.settings.session.outbox.bytes_max as usize);
        bytes.min(longest) + REFERENCE_BYTES
    }

    /// Queues a message with its body copied.
    #[inline]
    pub(crate) fn append(&mut self, index: u32, head: Head<A>, body: &[u8]) -> SendOutcome {
        self.queue(index, self.message_bytes(body.len()), |outbox, framing, config, allocator| {
            outbox.append(framing, head, body, &config.outbox, allocator)
        })
    }

    /// Queues a message with its body by reference, if it is long.
    pub(crate) fn append_shared(&mut self, index: u32, head: Head<A>, body: &Bytes) -> SendOutcome {
        let body = match self.share_body(body) {
            Ok(body) => body,
            Err(refusal) => {
                self.note_refused(self.table.id(index), refusal);
                return SendOutcome::Refused(refusal);
            }
        };
        let copied = if body.len() <= COPY_BYTES_MAX { body.len() } else { 0 };
        self.queue(index, self.message_bytes(copied), |outbox, framing, config, allocator| {
            outbox.append_shared(framing, head, &body, &config.outbox, allocator)
        })
    }

    /// Queues a whole frame that others may have too; droppable with a key or without one.
    pub(crate) fn append_frame(&mut self, index: u32, frame: &Bytes, droppable: Option<Option<u32>>) -> SendOutcome {
        let copied = if frame.len() <= COPY_BYTES_MAX { frame.len() } else { 0 };
        self.queue(index, copied + REFERENCE_BYTES, |outbox, _, config, allocator| match droppable {
            Some(key) => outbox.append_droppable(key, frame, &config.outbox, allocator),
            None => outbox.append_frame(frame, &config.outbox, allocator),
        })
    }

    /// From now on the application is given this session's messages.
    #[inline]
    pub(crate) fn begin_answering(&mut self, index: u32) {
        self.answering.index = index;
        self.answering.token = Token::Session(self.table.id(index)).bits();
    }

    /// Ends a session. What that calls for is done now; the application is told when no callback runs.
    pub(crate) fn close(&mut self, index: u32, reason: CloseReason) {
        let now_ns = self.driver.now_ns();
        if let Some(entry) = self.table.get_mut(index) {
            let step = entry.session.close(&self.settings.session, now_ns, reason);
            self.follow(index, step);
        }
    }

    /// Ends a session at once, whatever waits.
    pub(crate) fn abort(&mut self, index: u32, reason: CloseReason) {
        if let Some(entry) = self.table.get_mut(index) {
            let step = entry.session.abort(reason);
            self.follow(index, step);
        }
    }

    /// Does what a session's step calls for.
    pub(crate) fn follow(&mut self, index: u32, step: Step) {
        if step.has_ended {
            self.ended.push_back(index);
            self.drop_held(index);
        }
        let Some(action) = step.action else { return };
        match action {
            Action::Drain => {
                self.arm(index);
                self.mark_dirty(index);
            }
            Action::CloseGracefully => {
                let deadline = self.close_time_left(index);
                self.close_socket(index, CloseMode::Graceful { deadline });
            }
            Action::CloseAbruptly => {
                self.lose_queued(index);
                self.close_socket(index, CloseMode::Abort);
            }
        }
    }

    /// Sets the session's timer if it is needed earlier than it is set.
    pub(crate) fn arm(&mut self, index: u32) {
        let Some(entry) = self.table.get_mut(index) else { return };
        if let Some(at_ns) = entry.session.arm(&self.settings.session) {
            self.set_timer(index, at_ns);
        }
    }

    /// Sets the session's timer in place of the one that is set.
    pub(crate) fn set_timer(&mut self, index: u32, at_ns: u64) {
        let token = Token::Liveness(self.table.id(index)).bits();
        let Some(entry) = self.table.get_mut(index) else { return };
        if entry.timer != OperationId::NONE {
            // It may have fired in this turn: then it is stale, and what it brings is early and does nothing.
            let _ = self.driver.cancel(entry.timer);
        }
        let after = Duration::from_nanos(at_ns.saturating_sub(self.driver.now_ns()));
        // Refused only for want of operations, of which there is one per session for this.
        entry.timer = self.driver.timer(after, token).unwrap_or(OperationId::NONE);
    }

    /// The session is flushed at the end of this turn.
    pub(crate) fn mark_dirty(&mut self, index: u32) {
        if let Some(entry) = self.table.get_mut(index).filter(|entry| !entry.is_dirty) {
            entry.is_dirty = true;
            self.dirty.push(index);
        }
    }

    /// The slot is free: the driver has closed the socket.
    pub(crate) fn release(&mut self, index: u32) {
        self.lose_queued(index);
        self.drop_held(index);
        let Some(mut entry) = self.table.remove(index) else { return };
        entry.session.clear(&mut self.free_lists);
        if entry.timer != OperationId::NONE {
            let _ = self.driver.cancel(entry.timer);
        }
        self.lease.release(entry.charged_bytes as usize + entry.inbox_charged_bytes);
        self.router.admission.release(entry.permit);
        self.router.remove_load(usize::from(self.number));
    }

    /// Whether nothing is left to be done in the next step but what others bring.
    pub(crate) fn is_idle(&self) -> bool {
        self.posts.is_empty() && self.dirty.is_empty() && self.held.ready.is_empty()
    }

    /// Whether the session of this id is one of this shard's.
    pub(crate) fn is_own(&self, id: SessionId) -> bool {
        id.shard() == usize::from(self.number)
    }

    /// What the drain has left of the session's time to close.
    //= CLOSE-4
    fn close_time_left(&self, index: u32) -> Duration {
        let deadline_ns = self.table.get(index).map_or(0, |entry| entry.session.close_deadline_ns());
        Duration::from_nanos(deadline_ns.saturating_sub(self.driver.now_ns()))
    }

    fn close_socket(&mut self, index: u32, mode: CloseMode) {
        let token = Token::Session(self.table.id(index)).bits();
        let socket = self.table.get(index).map_or(SocketId::NONE, |entry| entry.socket);
        // Stale if it is closing already: then `Closed` is on its way.
        let _ = self.driver.close(socket, mode, token);
    }

    /// Lets go of all the memory of a session that is reset or gone. What the driver still has of it comes back by itself in
    /// a turn or two, and is not waited for: another session may be in need of it.
    fn lose_queued(&mut self, index: u32) {
        if let Some(entry) = self.table.get_mut(index) {
            self.stats.messages_lost += u64::from(entry.session.outbox.clear(&mut self.free_lists));
            entry.session.inbox.clear(&mut self.free_lists);
            self.lease.release(std::mem::take(&mut entry.inbox_charged_bytes));
            entry.handed.bytes = 0;
            self.recharge(index);
        }
    }
}

/// What the end of a connection means for its session.
pub(crate) fn reason_of(kind: ErrorKind) -> CloseReason {
    CloseReason::Transport(match kind {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => return CloseReason::PeerReset,
        ErrorKind::TimedOut => TransportFailure::TimedOut,
        ErrorKind::Unreachable => TransportFailure::Unreachable,
        ErrorKind::ConnectionAborted => TransportFailure::Aborted,
        ErrorKind::OutOfMemory | ErrorKind::NoBuffers | ErrorKind::DescriptorLimit | ErrorKind::Busy => {
            TransportFailure::NoResources
        }
        _ => TransportFailure::Other,
    })
}
