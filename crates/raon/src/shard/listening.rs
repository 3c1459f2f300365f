//! A shard's listener, if it has one.
//!
//! 1. `open`: the socket listens, and its stream of connections is asked for.
//! 2. `stop_accepting`: the stream is cancelled. What it has accepted by then still comes, and becomes sessions: a process that
//!    takes the listener over cannot serve those.
//! 3. The stream's end: the socket is closed. `close_listener` does not wait for it.

use raon_provider::{CloseMode, Driver, Error, ListenOptions, OperationId, SocketId};

use super::{ListenAt, Shard};
use crate::application::Application;
use crate::config::Config;
use crate::error::ServerError;
use crate::id::Token;

/// See the module.
#[derive(Debug)]
pub(crate) struct Listening {
    /// `NONE`: there is none, or it is closed.
    socket: SocketId,
    /// Its stream of connections, `NONE` when that has ended.
    accept: OperationId,
}

impl Listening {
    pub(super) fn open(driver: &mut Driver, config: &Config, listen: ListenAt) -> Result<Self, ServerError> {
        let options =
            ListenOptions { backlog: config.backlog, reuse_port: config.reuse_port, ..ListenOptions::default() };
        let socket = match listen {
            ListenAt::Nowhere => return Ok(Listening { socket: SocketId::NONE, accept: OperationId::NONE }),
            ListenAt::Address(address) => driver.listen(address, &options)?,
            ListenAt::Inherited(socket) => driver.adopt(socket).map_err(|refused| refused.error)?,
        };
        let accept = driver.accept(socket, Token::Listener.bits())?;
        Ok(Listening { socket, accept })
    }

    /// The socket, if it listens.
    pub(super) fn socket(&self) -> Option<SocketId> {
        (self.socket != SocketId::NONE).then_some(self.socket)
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
        // Stale if it has ended: then its completion is on its way.
        let _ = self.inside.driver.cancel(self.listening.accept);
    }

    /// Closes the socket, whatever its stream may still yield.
    pub(super) fn close_listener(&mut self) {
        self.listening.accept = OperationId::NONE;
        // Stale if it is closed, or is being closed.
        let _ = self.inside.driver.close(self.listening.socket, CloseMode::Abort, Token::Listener.bits());
    }

    /// The listener's last completion has come.
    pub(crate) fn listener_closed(&mut self) {
        self.listening.socket = SocketId::NONE;
    }

    /// The stream of connections has ended.
    pub(crate) fn accepting_ended(&mut self, _error: Error) {
        self.listening.accept = OperationId::NONE;
        if !self.is_running() {
            self.close_listener();
        }
    }
}
