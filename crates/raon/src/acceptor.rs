//! New connections: counted, spread over the shards, made sessions.
//!
//! 1. A listener yields a connection. If there is a place for it, it goes to the shard with the fewest sessions, through
//!    that shard's inlet; or stays, if each shard has a listener of its own.
//! 2. The shard adopts it: from then on it has a slot, a stream of input, and the handshake's deadline.
//! 3. `on_open` makes the application's state, and the session counts as opened.
//!
//! Whatever fails on the way gives the place back, and the reason is counted.

use raon_provider::{AcceptedSocket, Error, ErrorKind, OperationId, Outcome, SocketId};
use raon_session::{CloseReason, Session};

use crate::application::Application;
use crate::context::Context;
use crate::id::Token;
use crate::inlet::{Arrival, Command};
use crate::log_limit::LogKind;
use crate::places::Place;
use crate::shard::inside::{Inside, reason_of};
use crate::shard::{Shard, fence};
use crate::table::Entry;

impl<A: Application> Shard<A> {
    /// Something of the listener.
    pub(crate) fn on_listener(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Accepted(socket) => self.on_accepted(socket),
            Outcome::Closed => self.listener = SocketId::NONE,
            Outcome::AcceptPaused(error) => self.inside.accept_paused(error),
            // Its end is that of the listener, which we have closed.
            _ => {}
        }
    }

    fn on_accepted(&mut self, socket: AcceptedSocket) {
        self.inside.stats.accepted += 1;
        if let Some(reason) = self.inside.router.refuses() {
            return self.inside.stats.count_close(reason);
        }
        let address = || socket.peer_address().ok().and_then(|address| address.ip()).map(|address| address.ip());
        let place = match self.inside.router.places.claim(address) {
            Ok(place) => place,
            Err(reason) => return self.inside.stats.count_close(reason),
        };
        let own = usize::from(self.inside.number);
        let target = if self.is_alone { Some(own) } else { self.inside.router.least_loaded() };
        if self.is_alone {
            self.inside.router.take_on(own);
        }
        match target {
            Some(shard) if shard != own => self.hand_off(shard, socket, place),
            Some(_) => self.open_session(socket, place),
            None => self.give_up(place, CloseReason::Shutdown),
        }
    }

    /// To another shard; here, if that has no room for it.
    fn hand_off(&mut self, shard: usize, socket: AcceptedSocket, place: Place) {
        let router = self.inside.router.clone();
        let Some(inlet) = router.inlet(shard) else { return self.give_up(place, CloseReason::Shutdown) };
        if let Err(refused) = inlet.put(Command::Adopt(Box::new(Arrival { socket, place })), 0) {
            router.let_go(shard);
            if let Command::Adopt(arrival) = refused.value {
                router.take_on(usize::from(self.inside.number));
                self.open_session(arrival.socket, arrival.place);
            }
        }
    }

    /// Makes a connection a session of this shard, where it is counted already.
    pub(crate) fn open_session(&mut self, socket: AcceptedSocket, place: Place) {
        match self.adopt(socket, place) {
            Ok(index) => self.begin_session(index),
            Err(reason) => {
                self.inside.router.let_go(usize::from(self.inside.number));
                self.give_up(place, reason);
            }
        }
    }

    fn adopt(&mut self, socket: AcceptedSocket, place: Place) -> Result<u32, CloseReason> {
        if !self.is_running() {
            return Err(CloseReason::Shutdown);
        }
        let inside = &mut self.inside;
        let socket = inside.driver.adopt(socket).map_err(|refused| reason_of(refused.error.kind()))?;
        let session = Session::new(&inside.settings.session, inside.driver.now_ns());
        let Ok(index) = inside.table.insert(Entry::new(session, socket, place)) else {
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
        match fence::fence(|| application.on_open(&mut Context::of(inside, index))) {
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

    fn give_up(&mut self, place: Place, reason: CloseReason) {
        self.inside.router.places.release(place);
        self.inside.stats.count_close(reason);
    }
}

impl<A: Application> Inside<A> {
    /// The listener's stream of connections pauses, and goes on by itself.
    fn accept_paused(&mut self, error: Error) {
        self.stats.accept_pauses += 1;
        let is_short = matches!(error.kind(), ErrorKind::DescriptorLimit | ErrorKind::SystemDescriptorLimit);
        let kind = if is_short { LogKind::DescriptorsUsedUp } else { LogKind::AcceptPaused };
        if let Some(suppressed) = self.log.pass(kind, self.driver.now_ns()) {
            tracing::warn!(shard = self.number, suppressed, "the listener pauses: {error}");
        }
    }
}
