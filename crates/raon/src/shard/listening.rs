//! A shard's listener, if it has one.
//!
//! 1. `open`: the socket listens, and its stream of connections is asked for.
//! 2. The stream ends although nobody has stopped the server, for example because another process has shut the socket down:
//!    the stream is asked for again, or, if the server has bound the socket itself, the socket is replaced, after a pause that
//!    doubles. After some tries in a row without a connection the listener has failed: the configuration decides whether the
//!    server stops. One that goes on tries on.
//! 3. The shard fails and the others go on: `pass_listener_on` gives the socket, or its address, to another shard, which takes
//!    it over.
//! 4. `stop_accepting`: the stream is cancelled. What it has accepted by then still comes, and becomes sessions: a process that
//!    takes the listener over cannot serve those.
//! 5. The stream's end: the socket is closed. `close_listener` does not wait for it.

use std::time::Duration;

use raon_provider::{Address, CloseMode, Driver, Error, ListenOptions, OperationId, SocketId};

use super::{ListenAt, Shard};
use crate::application::Application;
use crate::base::id::Token;
use crate::base::log_limit::LogKind;
use crate::config::{OnShardFailure, ServerConfig};
use crate::error::ServerError;
use crate::routing::mailbox::Handover;

/// First and longest pause before a listener is tried again, in milliseconds.
const PAUSE_MS_MIN: u64 = 20;
const PAUSE_MS_MAX: u64 = 1000;
/// Tries in a row, without a connection between them, after which a listener has failed: about 600 ms.
const TRIES_MAX: u32 = 5;

/// See the module.
#[derive(Debug)]
pub(crate) struct Listening {
    /// `NONE`: there is none, or it is closed.
    socket: SocketId,
    /// Its stream of connections, `NONE` when that has ended.
    accept: OperationId,
    /// Where the server has bound it; `None` if it was opened by somebody else.
    at: Option<Address>,
    options: ListenOptions,
    /// Tries since a connection has come.
    tries: u32,
    /// Why it has failed, if it has.
    pub(super) failure: Option<Error>,
}

impl Listening {
    pub(super) fn open(driver: &mut Driver, config: &ServerConfig, listen: ListenAt) -> Result<Self, ServerError> {
        let options = ListenOptions::default().with(|options| {
            options.backlog = config.backlog;
            options.reuse_port = config.reuse_port;
        });
        let (socket, accept) = (SocketId::NONE, OperationId::NONE);
        let mut listening = Listening { socket, accept, at: None, options, tries: 0, failure: None };
        match listen {
            ListenAt::Nowhere => return Ok(listening),
            ListenAt::Address(address) => {
                listening.socket = driver.listen(address, &listening.options)?;
                listening.at = Some(driver.local_address(listening.socket)?);
            }
            ListenAt::Inherited(socket) => listening.socket = driver.adopt(socket).map_err(|refused| refused.error)?,
        }
        listening.accept = driver.accept(listening.socket, Token::Listener.bits())?;
        Ok(listening)
    }

    /// The socket, if it listens.
    pub(super) fn socket(&self) -> Option<SocketId> {
        (self.socket != SocketId::NONE).then_some(self.socket)
    }

    /// Asks for the stream of connections, on a new socket if there is none.
    fn open_again(&mut self, driver: &mut Driver) -> Result<(), Error> {
        if let Some(address) = &self.at {
            self.socket = driver.listen(address.clone(), &self.options)?;
        }
        self.accept = driver.accept(self.socket, Token::Listener.bits())?;
        Ok(())
    }
}

impl<A: Application> Shard<A> {
    pub(super) fn is_listening(&self) -> bool {
        self.listening.socket != SocketId::NONE
    }

    /// True while connections may still come.
    pub(super) fn is_accepting(&self) -> bool {
        self.listening.accept != OperationId::NONE
    }

    /// Ends the stream of connections; those that it has accepted still come.
    pub(super) fn stop_accepting(&mut self) {
        if !self.is_accepting() {
            return self.close_listener();
        }
        // Stale if it has ended: then its completion is on its way.
        let _ = self.delivery.driver_mut().cancel(self.listening.accept);
    }

    /// Closes the socket, whatever its stream may still yield.
    pub(super) fn close_listener(&mut self) {
        self.listening.accept = OperationId::NONE;
        // Stale if it is closed, or is being closed.
        let _ = self.delivery.driver_mut().close(self.listening.socket, CloseMode::Abort, Token::Listener.bits());
    }

    /// The listener's last completion has come.
    pub(crate) fn listener_closed(&mut self) {
        self.listening.socket = SocketId::NONE;
    }

    /// A connection has come.
    pub(crate) fn listener_works(&mut self) {
        self.listening.tries = 0;
    }

    /// The stream of connections has ended.
    pub(crate) fn accepting_ended(&mut self, error: Error) {
        self.listening.accept = OperationId::NONE;
        if !self.is_running() {
            return self.close_listener();
        }
        self.delivery.stats_mut().listener_failures += 1;
        if self.listening.at.is_some() {
            self.close_listener();
        }
        self.listen_later(error);
    }

    /// The pause before the next try is over.
    pub(crate) fn listen_again(&mut self) {
        if !self.is_running() || self.is_accepting() {
            return;
        }
        if self.listening.at.is_some() && self.is_listening() {
            // The old socket is still being closed.
            return self.pause_listening(PAUSE_MS_MIN);
        }
        if let Err(error) = self.listening.open_again(self.delivery.driver_mut()) {
            self.listen_later(error);
        }
    }

    fn listen_later(&mut self, error: Error) {
        if let Some(suppressed) = self.delivery.with_core(|core| core.may_log(LogKind::ListenerEnded)) {
            tracing::warn!(shard = self.number, suppressed, "the listener accepts nobody and is tried again: {error}");
        }
        let listening = &mut self.listening;
        let pause_ms = (PAUSE_MS_MIN << listening.tries.min(16)).min(PAUSE_MS_MAX);
        listening.tries = listening.tries.saturating_add(1);
        if listening.tries == TRIES_MAX {
            self.listener_failed(error);
        }
        self.pause_listening(pause_ms);
    }

    fn pause_listening(&mut self, pause_ms: u64) {
        // Refused only for want of operations, of which there is one for this.
        let _ = self.delivery.driver_mut().timer(Duration::from_millis(pause_ms), Token::Listener.bits());
    }

    fn listener_failed(&mut self, error: Error) {
        let (number, then) = (self.number, self.delivery.core().settings().on_shard_failure);
        tracing::error!(shard = number, "the listener has failed: {error}; {then}");
        self.listening.failure.get_or_insert(error);
        self.router.note_failure();
        if then == OnShardFailure::StopServer && self.router.stopping().is_none() {
            self.router.stop(self.delivery.core().settings().failure_grace_ns);
        }
    }

    /// This shard has failed, and the others go on: one of them listens from now on. Where each has a listener of its own the
    /// system spreads connections over those that are left.
    pub(super) fn pass_listener_on(&mut self) {
        if self.is_alone || (!self.is_listening() && self.listening.at.is_none()) {
            return;
        }
        let socket = self.delivery.driver_mut().clone_listener(self.listening.socket).ok();
        let at = self.listening.at.take();
        if socket.is_none() && at.is_none() {
            tracing::error!(shard = self.number, "no other shard can take the listener over: the server stops");
            return self.router.stop(self.delivery.core().settings().failure_grace_ns);
        }
        self.close_listener();
        self.router.pass_listener(Box::new(Handover { socket, at }));
    }

    /// Takes the listener of a shard that has failed.
    pub(super) fn take_over(&mut self, handover: Box<Handover>) {
        if self.is_broken() {
            return self.router.pass_listener(handover);
        }
        if !self.is_running() || self.is_listening() {
            return;
        }
        tracing::info!(shard = self.number, "the shard takes the listener over");
        let Handover { socket, at } = *handover;
        self.listening.tries = 0;
        if let Some(adopted) = socket.and_then(|socket| self.delivery.driver_mut().adopt(socket).ok()) {
            self.listening.socket = adopted;
            match self.delivery.driver_mut().accept(adopted, Token::Listener.bits()) {
                Ok(accept) => self.listening.accept = accept,
                Err(error) => self.listen_later(error),
            }
            self.listening.at = at;
        } else {
            self.listening.at = at;
            self.listen_again();
        }
    }
}
