//! New connections: counted, spread over the shards, made sessions.
//!
//! 1. A listener yields a connection. If it is admitted, it goes to the shard with the fewest sessions, through
//!    that shard's mailbox; or stays, if each shard has a listener of its own.
//! 2. The shard adopts it: from then on it has a slot, a stream of input, and the handshake's deadline.
//! 3. `on_open` makes the application's state, and the session counts as opened.
//!
//! Whatever fails on the way gives the permit back, and the reason is counted.

use raon_provider::{AcceptedSocket, Error, ErrorKind, OperationId, Outcome, SocketId};
use raon_session::{CloseReason, Session};

use crate::admission::AdmissionPermit;
use crate::application::Application;
use crate::boundary;
use crate::context::Context;
use crate::error::MailboxRefusal;
use crate::id::Token;
use crate::log_limit::LogKind;
use crate::mailbox::{Arrival, Command};
use crate::shard::Shard;
use crate::shard::inside::{Inside, reason_of};
use crate::table::Entry;

impl<A: Application> Shard<A> {
    /// Something of the listener.
    pub(crate) fn on_listener(&mut self, more: bool, outcome: Outcome) {
        match outcome {
            Outcome::Accepted(socket) => self.on_accepted(socket),
            Outcome::Closed => self.listener_closed(),
            Outcome::AcceptPaused(error) => self.inside.accept_paused(error),
            Outcome::Failed { error, .. } if !more => self.accepting_ended(error),
            // The pause before the next try is over.
            Outcome::Expired => self.listen_again(),
            // A listener is asked for nothing else.
            _ => {}
        }
    }

    /// A connection has come: it gets a permit, if there is one, and a shard.
    pub(crate) fn on_accepted(&mut self, socket: AcceptedSocket) {
        self.inside.stats.accepted += 1;
        self.listener_works();
        if !self.is_open() && !self.is_broken() {
            return self.inside.refuse_connection(CloseReason::Shutdown);
        }
        let address = || socket.peer_address().ok().and_then(|address| address.ip()).map(|address| address.ip());
        match self.inside.router.admission.admit(address) {
            Ok(permit) => self.find_shard(Box::new(Arrival { socket, permit })),
            Err(reason) => self.inside.refuse_connection(reason),
        }
    }

    /// Gives a connection to the shard with the fewest sessions; to this one, if that has no room for it.
    pub(crate) fn find_shard(&mut self, mut arrival: Box<Arrival>) {
        let (router, own) = (self.inside.router.clone(), usize::from(self.inside.number));
        if self.is_alone && !router.is_retired(own) {
            router.add_load(own);
            return self.open_session(*arrival);
        }
        while let Some(shard) = router.least_loaded() {
            if shard == own {
                return self.open_session(*arrival);
            }
            let Some(mailbox) = router.mailbox(shard) else { break };
            let Err(refused) = mailbox.put(Command::Adopt(arrival), 0) else { return };
            router.remove_load(shard);
            let Command::Adopt(back) = refused.value else { return };
            arrival = back;
            // One that has stopped since is not chosen again.
            if refused.refusal == MailboxRefusal::Busy && !router.is_retired(own) {
                router.add_load(own);
                return self.open_session(*arrival);
            }
        }
        self.give_up(arrival.permit, CloseReason::Shutdown);
    }

    /// Makes a connection a session of this shard, where it is counted already.
    pub(crate) fn open_session(&mut self, arrival: Arrival) {
        let own = usize::from(self.inside.number);
        if self.is_broken() {
            self.inside.router.remove_load(own);
            return self.find_shard(Box::new(arrival));
        }
        match self.adopt(arrival.socket, arrival.permit) {
            Ok(index) => self.begin_session(index),
            Err(reason) => {
                self.inside.router.remove_load(own);
                self.give_up(arrival.permit, reason);
            }
        }
    }

    fn adopt(&mut self, socket: AcceptedSocket, permit: AdmissionPermit) -> Result<u32, CloseReason> {
        if !self.is_open() {
            return Err(CloseReason::Shutdown);
        }
        let inside = &mut self.inside;
        let socket = inside.driver.adopt(socket).map_err(|refused| reason_of(refused.error.kind()))?;
        self.newest_ns = inside.driver.now_ns();
        let session = Session::new(&inside.settings.session, self.newest_ns);
        let Ok(index) = inside.table.insert(Entry::new(session, socket, permit)) else {
            // No token of a session: nobody is to hear of its end.
            let _ = inside.driver.close(socket, raon_provider::CloseMode::Abort, Token::Stage.bits());
            return Err(CloseReason::ServerFull);
        };
        Ok(index)
    }

    fn begin_session(&mut self, index: u32) {
        let token = Token::Session(self.inside.table.id(index)).bits();
        let socket = self.inside.table.get(index).map_or(SocketId::NONE, |entry| entry.socket);
        let received: Result<OperationId, _> = self.inside.driver.receive(socket, token);
        self.inside.arm(index);
        let (application, inside) = (&mut self.application, &mut self.inside);
        match boundary::contain(|| application.on_open(&mut Context::of(inside, index))) {
            Some(state) => {
                self.inside.table.put_state(index, state);
                self.inside.stats.opened += 1;
                self.inside.stats.sessions += 1;
            }
            None => {
                self.inside.close(index, CloseReason::ApplicationPanic);
                self.panicked();
            }
        }
        if let Err(error) = received {
            self.inside.close(index, reason_of(error.kind()));
        }
        self.tell_ended();
    }

    fn give_up(&mut self, permit: AdmissionPermit, reason: CloseReason) {
        self.inside.router.admission.release(permit);
        self.inside.refuse_connection(reason);
    }
}

impl<A: Application> Inside<A> {
    /// The listener's stream of connections pauses, and goes on by itself.
    fn accept_paused(&mut self, error: Error) {
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

    /// What the driver has counted of the listener's troubles since the last turn.
    pub(crate) fn look_at_accepts(&mut self) {
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
}
