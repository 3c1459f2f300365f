//! One worker of `raon serve`: one thread, one driver, its share of the clients.
//!
//! Worker 0 also accepts, and hands each connection to the worker that has the fewest (`acceptor.rs`). What a client sends
//! goes back in the buffer it came in (`relay.rs`). A client that does nothing costs one id here (`clients.rs`).

mod acceptor;
mod clients;
mod relay;

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use raon_provider::{AcceptedSocket, CloseMode, Completion, Completions, Driver, Error, ErrorKind, Outcome, SocketId};
use raon_provider::{Buffer, Submitter};
use serde::Serialize;

use crate::stop::Stop;

use acceptor::{Acceptor, Place};
use clients::Clients;
use relay::Relay;

pub(crate) use acceptor::Loads;

/// Tokens that are no client's. Those of clients are small numbers.
const LISTENER: u64 = u64::MAX - 1;
const HANDED_OVER: u64 = u64::MAX - 2;

const COMPLETIONS_PER_TURN: usize = 1024;
/// How long a client that has ended its side may take to read the rest of its echo.
const LAST_ECHO: Duration = Duration::from_secs(60);
/// How long clients may take to end when the server stops.
const DRAIN: Duration = Duration::from_secs(2);

/// What to do with the bytes that come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Service {
    /// Send them back.
    Echo,
    /// Drop them.
    Sink,
}

/// What a worker has done.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Tally {
    /// Connections served.
    pub(crate) connections: u64,
    /// Connections closed at once, for want of room or because the server was stopping.
    pub(crate) refused: u64,
    /// Receive completions.
    pub(crate) messages: u64,
    /// From clients.
    pub(crate) received_bytes: u64,
    /// To clients.
    pub(crate) sent_bytes: u64,
    /// System calls made to submit, wait, or transfer.
    pub(crate) kernel_entries: u64,
    /// Operations that failed.
    pub(crate) errors: u64,
}

impl Tally {
    /// Adds what another worker has done.
    pub(crate) fn add(&mut self, other: Tally) {
        self.connections += other.connections;
        self.refused += other.refused;
        self.messages += other.messages;
        self.received_bytes += other.received_bytes;
        self.sent_bytes += other.sent_bytes;
        self.kernel_entries += other.kernel_entries;
        self.errors += other.errors;
    }
}

/// One worker.
pub(crate) struct Worker {
    driver: Driver,
    service: Service,
    number: usize,
    loads: Arc<Loads>,
    stop: Arc<Stop>,
    acceptor: Option<Acceptor>,
    clients: Clients,
    relay: Relay,
    tally: Tally,
}

impl Worker {
    /// A worker without clients yet, on its own thread.
    pub(crate) fn new(driver: Driver, service: Service, number: usize, loads: Arc<Loads>, stop: Arc<Stop>) -> Self {
        let relay = Relay::new(driver.info().receive_buffers.0 as usize);
        stop.wakes(driver.submitter());
        let (clients, tally) = (Clients::default(), Tally::default());
        Worker { driver, service, number, loads, stop, acceptor: None, clients, relay, tally }
    }

    /// Waits for its colleagues, then accepts from this listener, for itself and for them.
    pub(crate) fn accept(&mut self, listener: SocketId, colleagues: &Receiver<Vec<Submitter>>) -> Result<(), Error> {
        // Nobody to wait for if starting them failed: the command ends anyway.
        let colleagues = colleagues.recv().unwrap_or_default();
        self.acceptor = Some(Acceptor::new(listener, self.loads.clone(), colleagues));
        self.driver.accept(listener, LISTENER).map(drop)
    }

    /// Serves until it is time to stop, then lets the clients end.
    pub(crate) fn run(mut self) -> Result<Tally, Error> {
        let mut completions = Completions::with_capacity(COMPLETIONS_PER_TURN);
        while !self.stop.is_asked() {
            self.turn(None, &mut completions)?;
        }
        self.close_all();
        let deadline = Instant::now() + DRAIN + Duration::from_millis(500);
        while !self.clients.is_empty() && Instant::now() < deadline {
            self.turn(Some(deadline - Instant::now()), &mut completions)?;
        }
        let stats = self.driver.stats();
        self.tally.refused += stats.shed;
        self.tally.received_bytes = stats.received_bytes;
        self.tally.sent_bytes = stats.sent_bytes;
        self.tally.kernel_entries = stats.kernel_entries;
        Ok(self.tally)
    }

    fn turn(&mut self, timeout: Option<Duration>, completions: &mut Completions) -> Result<(), Error> {
        self.driver.poll(timeout, completions)?;
        self.relay.look_at_pool(&mut self.driver, completions.len());
        while let Some(completion) = completions.pop() {
            self.handle(completion);
        }
        Ok(())
    }

    fn handle(&mut self, completion: Completion) {
        let Completion { token, socket, outcome, .. } = completion;
        match outcome {
            Outcome::Received(bytes) if bytes.is_empty() => self.on_end(token, socket),
            Outcome::Received(bytes) => self.on_bytes(token, socket, bytes),
            Outcome::Writable => self.on_writable(token, socket),
            Outcome::Accepted(connection) => self.on_accepted(connection),
            Outcome::Adopted => self.welcome(socket),
            Outcome::Closed => self.on_closed(token),
            Outcome::Failed { error, .. } => self.on_failed(token, socket, error),
            Outcome::AcceptPaused(error) => tracing::warn!("accepting pauses: {error}"),
            // The connection that this worker has no room for closes as the value drops.
            Outcome::Refused { error, .. } if token == HANDED_OVER => self.turn_away(error),
            _ => {}
        }
    }

    fn on_bytes(&mut self, token: u64, socket: SocketId, bytes: Buffer) {
        self.tally.messages += 1;
        if self.service == Service::Echo {
            self.relay.echo(&mut self.driver, token, socket, bytes);
        }
    }

    fn on_end(&mut self, token: u64, socket: SocketId) {
        if !self.relay.ends_later(token) {
            self.close_after_echo(token, socket);
        }
    }

    fn on_writable(&mut self, token: u64, socket: SocketId) {
        if self.relay.on_writable(&mut self.driver, token, socket) {
            self.close_after_echo(token, socket);
        }
    }

    fn close_after_echo(&mut self, token: u64, socket: SocketId) {
        // Stale if it failed meanwhile: then it is closing already.
        let _ = self.driver.close(socket, CloseMode::Graceful { deadline: LAST_ECHO }, token);
    }

    fn on_failed(&mut self, token: u64, socket: SocketId, error: Error) {
        if error.kind() == ErrorKind::Cancelled {
            return;
        }
        self.tally.errors += 1;
        if token == LISTENER {
            tracing::warn!("no more connections are accepted: {error}");
            return;
        }
        // Stale if it is closing already.
        let _ = self.driver.close(socket, CloseMode::Abort, token);
    }

    fn on_accepted(&mut self, connection: AcceptedSocket) {
        if self.stop.is_asked() {
            self.tally.refused += 1;
            return;
        }
        let place = self.acceptor.as_ref().map(|acceptor| acceptor.place(connection));
        if let Some(Place::Here(connection)) = place {
            match self.driver.adopt(connection) {
                Ok(socket) => self.welcome(socket),
                Err(refused) => self.turn_away(refused.error),
            }
        }
    }

    /// Starts serving a connection that is this worker's now.
    fn welcome(&mut self, socket: SocketId) {
        let token = self.clients.insert(socket);
        let received = self.driver.receive(socket, token);
        let is_late = self.stop.is_asked();
        match received {
            Ok(_) if !is_late => self.tally.connections += 1,
            Ok(_) => self.tally.refused += 1,
            Err(error) => {
                tracing::warn!("a connection is turned away: {error}");
                self.tally.refused += 1;
            }
        }
        if received.is_err() || is_late {
            // Just adopted, so it is not stale; `on_closed` gives its place back.
            let _ = self.driver.close(socket, CloseMode::Abort, token);
        }
    }

    /// A connection that was counted as this worker's and could not be.
    fn turn_away(&mut self, error: Error) {
        self.loads.leave(self.number);
        self.tally.refused += 1;
        if !self.stop.is_asked() {
            tracing::warn!("a connection is turned away: {error}");
        }
    }

    fn on_closed(&mut self, token: u64) {
        if token != LISTENER {
            self.relay.forget(token);
            self.clients.remove(token);
            self.loads.leave(self.number);
        }
    }

    fn close_all(&mut self) {
        if let Some(acceptor) = &self.acceptor {
            // Stale only if it failed before.
            let _ = self.driver.close(acceptor.listener(), CloseMode::Abort, LISTENER);
        }
        for (token, socket) in self.clients.iter() {
            // Stale if it is closing already, each with a deadline of its own.
            let _ = self.driver.close(socket, CloseMode::Graceful { deadline: DRAIN }, token);
        }
    }
}
