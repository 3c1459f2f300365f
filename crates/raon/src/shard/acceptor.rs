//! New connections: counted, spread over the shards, made sessions.
//!
//! 1. A listener yields a connection. If it is admitted, it goes to the shard with the fewest sessions, through
//!    that shard's mailbox; or stays, if each shard has a listener of its own.
//! 2. The shard adopts it: from then on it has a slot, a stream of input, and the handshake's deadline.
//! 3. `on_open` makes the application's state, and the session counts as opened.
//!
//! Whatever fails on the way gives the permit back, and the reason is counted.

use raon_provider::{AcceptedSocket, Outcome};
use raon_session::CloseReason;

use super::Shard;
use crate::application::Application;
use crate::error::MailboxRefusal;
use crate::routing::mailbox::{Arrival, Command};
use crate::sessions::admission::AdmissionPermit;

impl<A: Application> Shard<A> {
    /// Something of the listener.
    pub(crate) fn on_listener(&mut self, more: bool, outcome: Outcome) {
        match outcome {
            Outcome::Accepted(socket) => self.on_accepted(socket),
            Outcome::Closed => self.listener_closed(),
            Outcome::AcceptPaused(error) => self.delivery.with_core(|core| core.accept_paused(error)),
            Outcome::Failed { error, .. } if !more => self.accepting_ended(error),
            // The pause before the next try is over.
            Outcome::Expired => self.listen_again(),
            // A listener is asked for nothing else.
            _ => {}
        }
    }

    /// A connection has come: it gets a permit, if there is one, and a shard.
    pub(crate) fn on_accepted(&mut self, socket: AcceptedSocket) {
        self.delivery.stats_mut().accepted += 1;
        self.listener_works();
        if !self.is_open() && !self.is_broken() {
            return self.delivery.with_core(|core| core.refuse_connection(CloseReason::Shutdown));
        }
        let address = || socket.peer_address().ok().and_then(|address| address.ip()).map(|address| address.ip());
        match self.router.admission.admit(address) {
            Ok(permit) => self.find_shard(Box::new(Arrival { socket, permit })),
            Err(reason) => self.delivery.with_core(|core| core.refuse_connection(reason)),
        }
    }

    /// Gives a connection to the shard with the fewest sessions; to this one, if that has no room for it.
    pub(crate) fn find_shard(&mut self, mut arrival: Box<Arrival>) {
        let (router, own) = (self.router.clone(), self.number);
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
        let own = self.number;
        if self.is_broken() {
            self.router.remove_load(own);
            return self.find_shard(Box::new(arrival));
        }
        match self.adopt(arrival.socket, arrival.permit) {
            Ok(index) => self.begin_session(index),
            Err(reason) => {
                self.router.remove_load(own);
                self.give_up(arrival.permit, reason);
            }
        }
    }

    fn adopt(&mut self, socket: AcceptedSocket, permit: AdmissionPermit) -> Result<u32, CloseReason> {
        if !self.is_open() {
            return Err(CloseReason::Shutdown);
        }
        let adopted = self.delivery.with_core(|core| core.adopt(socket, permit));
        if adopted.is_ok() {
            self.newest_ns = self.now_ns();
        }
        adopted
    }

    fn begin_session(&mut self, index: u32) {
        let begun = self.delivery.with_core(|core| core.begin(index));
        self.delivery.open(index, begun.map_err(|error| error.kind()));
    }

    fn give_up(&mut self, permit: AdmissionPermit, reason: CloseReason) {
        self.router.admission.release(permit);
        self.delivery.with_core(|core| core.refuse_connection(reason));
    }
}
