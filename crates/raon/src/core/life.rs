//! Life of a session in the core: adopted, begun, ended, released.

use std::time::Duration;

use raon_provider::{AcceptedSocket, CloseMode, Error, ErrorKind, OperationId, SocketId};
use raon_session::{Action, CloseReason, Framing, Session, State, Step, TransportFailure};

use super::ShardCore;
use crate::base::id::Token;
use crate::sessions::admission::AdmissionPermit;
use crate::sessions::table::Entry;

impl<F: Framing> ShardCore<F> {
    /// Makes a connection a session. Errors: why it cannot be one.
    pub(crate) fn adopt(&mut self, socket: AcceptedSocket, permit: AdmissionPermit) -> Result<u32, CloseReason> {
        let socket = self.driver.adopt(socket).map_err(|refused| reason_of(refused.error.kind()))?;
        let session = Session::new(&self.settings.session, self.driver.now_ns());
        let Ok(index) = self.table.insert(Entry::new(session, socket, permit)) else {
            // No token of a session: nobody is to hear of its end.
            let _ = self.driver.close(socket, CloseMode::Abort, Token::Stage.bits());
            return Err(CloseReason::ServerFull);
        };
        Ok(index)
    }

    /// Asks for a new session's input and sets its timer. Errors: those of the driver's receive.
    pub(crate) fn begin(&mut self, index: u32) -> Result<(), Error> {
        let token = Token::Session(self.table.id(index)).bits();
        let socket = self.table.get(index).map_or(SocketId::NONE, |entry| entry.socket);
        let received: Result<OperationId, _> = self.driver.receive(socket, token);
        self.arm(index);
        received.map(drop)
    }

    /// Ends the handshake of a session.
    pub(crate) fn establish(&mut self, index: u32) {
        if let Some(entry) = self.table.get_mut(index) {
            entry.session.establish();
        }
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

    /// The peer has ended its side, and no input waits that comes before the end.
    pub(crate) fn peer_ended(&mut self, index: u32) {
        let now_ns = self.driver.now_ns();
        if let Some(entry) = self.table.get_mut(index) {
            let step = entry.session.peer_ended(&self.settings.session, now_ns);
            self.follow(index, step);
        }
    }

    /// A send or the stream of input has failed. What the peer does not take any more is given up.
    pub(crate) fn connection_failed(&mut self, index: u32, kind: ErrorKind) {
        if self.table.get(index).is_some_and(|entry| entry.session.state() != State::Closed) {
            self.close(index, reason_of(kind));
        }
    }

    /// The driver has closed the socket: after this comes `release`.
    pub(crate) fn socket_closed(&mut self, index: u32) {
        // Only after a reset that we did not ask for is the application not told yet.
        if let Some(entry) = self.table.get_mut(index) {
            let step = entry.session.socket_closed();
            self.follow(index, step);
        }
    }

    /// Queued messages have left a session that is closing, or some of them have.
    pub(super) fn drained(&mut self, index: u32) {
        if let Some(entry) = self.table.get_mut(index) {
            let step = entry.session.drained();
            self.follow(index, step);
        }
    }

    /// The next session that has ended and of whose end the application has not been told. It is in no group any more.
    pub(crate) fn next_ended(&mut self) -> Option<(u32, CloseReason)> {
        loop {
            let index = self.ended.pop_front()?;
            self.leave_all(index);
            let Some(entry) = self.table.get(index) else { continue };
            let reason = entry.session.reason().unwrap_or(CloseReason::Shutdown);
            self.stats.count_close(reason);
            return Some((index, reason));
        }
    }

    /// True if a session has ended of whose end the application has not been told.
    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Does what a session's step calls for.
    fn follow(&mut self, index: u32, step: Step) {
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

    /// The session is flushed at the end of this turn.
    pub(super) fn mark_dirty(&mut self, index: u32) {
        if let Some(entry) = self.table.get_mut(index).filter(|entry| !entry.is_dirty) {
            entry.is_dirty = true;
            self.dirty.push(index);
        }
    }

    /// The slot is free: the driver has closed the socket. Returns the session's permit, to be given back.
    pub(crate) fn release(&mut self, index: u32) -> Option<AdmissionPermit> {
        self.lose_queued(index);
        self.drop_held(index);
        let entry = self.table.remove(index)?;
        if entry.timer != OperationId::NONE {
            let _ = self.driver.cancel(entry.timer);
        }
        Some(entry.permit)
    }

    /// Time that the drain has left of the session's time to close.
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
            self.accounts.release(std::mem::take(&mut entry.inbox_charged_bytes));
            entry.handed.bytes = 0;
            self.recharge(index);
        }
    }
}

/// Reason for a session to end whose connection has ended so.
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
