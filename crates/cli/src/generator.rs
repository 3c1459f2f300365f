//! One worker of `raon load`: one thread, one driver, its share of the connections.
//!
//! Each connection keeps `pipeline` messages in flight; a message that has come back whole makes the next one due. Every
//! byte is compared with what was sent (`pattern.rs`). The phases are driven from outside (`crew.rs`): open idle
//! connections, open active ones, run, close.

mod connection;
mod crew;
mod pace;
mod pattern;
mod tally;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use raon_provider::{Buffer, CloseMode, Completion, Completions, Driver, Error, ErrorKind, Outcome, Payload, SocketId};

use crate::stop::Stop;

use connection::{Connection, State};
use pace::Pace;
use pattern::Pattern;
use tally::Recorder;

pub(crate) use crew::{Crew, Phase, Status};
pub(crate) use tally::Tally;

/// Tokens that are no connection's. Those of connections are small numbers.
const TIME_OVER: u64 = u64::MAX - 1;
const WAIT_OVER: u64 = u64::MAX - 2;
const PACE: u64 = u64::MAX - 3;

const COMPLETIONS_PER_TURN: usize = 1024;
/// Bytes per send; what is due on a connection leaves as one batch anyway.
const CHUNK_BYTES: u64 = 4096;
/// How long answers that are in flight at the end are waited for.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// One worker's share of a load.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    pub(crate) connections: u32,
    pub(crate) idle: u32,
    pub(crate) size_bytes: u64,
    pub(crate) pipeline: u32,
    pub(crate) duration: Duration,
    pub(crate) connects_per_second: Option<f64>,
    pub(crate) connects_under_way_max: u32,
    /// Chosen per run and worker, so that no two connections have the same bytes.
    pub(crate) seed: u64,
}

/// What can be seen of a worker while it works.
#[derive(Default)]
pub(crate) struct Live {
    pub(crate) connected: AtomicU64,
    pub(crate) connect_errors: AtomicU64,
    pub(crate) messages: AtomicU64,
    pub(crate) errors: AtomicU64,
}

/// One worker.
pub(crate) struct Generator {
    driver: Driver,
    plan: Plan,
    stop: Arc<Stop>,
    live: Arc<Live>,
    completions: Completions,
    /// By token.
    connections: Vec<Connection>,
    pace: Pace,
    has_pace_timer: bool,
    /// What the connections that are being opened are for.
    role: State,
    recorder: Recorder,
    tally: Tally,
    /// Messages whose answers are awaited.
    in_flight: u64,
    /// Active connections that have not failed.
    active: usize,
    /// Sockets that are open.
    open: usize,
    is_refilling: bool,
    is_wait_over: bool,
    /// When the last answer came.
    answered_ns: u64,
}

impl Generator {
    pub(crate) fn new(driver: Driver, plan: Plan, stop: Arc<Stop>, live: Arc<Live>) -> Self {
        stop.wakes(driver.submitter());
        Generator {
            driver,
            stop,
            live,
            completions: Completions::with_capacity(COMPLETIONS_PER_TURN),
            connections: Vec::with_capacity((plan.connections + plan.idle) as usize),
            plan,
            pace: Pace::default(),
            has_pace_timer: false,
            role: State::Active,
            recorder: Recorder::default(),
            tally: Tally::new(),
            in_flight: 0,
            active: 0,
            open: 0,
            is_refilling: false,
            is_wait_over: false,
            answered_ns: 0,
        }
    }

    /// Does one phase to its end; sooner if it is time to stop.
    pub(crate) fn perform(&mut self, phase: Phase) -> Result<(), Error> {
        // The driver's clock stood still while this thread waited for its orders.
        self.driver.flush()?;
        match phase {
            Phase::OpenIdle => self.open_connections(State::Idle, self.plan.idle),
            Phase::OpenActive => self.open_connections(State::Active, self.plan.connections),
            Phase::Run => self.run(),
            Phase::Close => self.close_all(),
        }
    }

    /// What was measured.
    pub(crate) fn into_tally(mut self) -> Tally {
        self.recorder.flush(&mut self.tally.latency_ns);
        self.tally
    }

    fn turn(&mut self) -> Result<(), Error> {
        self.driver.poll(None, &mut self.completions)?;
        while let Some(completion) = self.completions.pop() {
            self.handle(completion);
        }
        self.live.messages.store(self.tally.messages, Ordering::Relaxed);
        self.live.errors.store(self.tally.errors, Ordering::Relaxed);
        Ok(())
    }

    fn handle(&mut self, completion: Completion) {
        let Completion { token, socket, outcome, .. } = completion;
        match outcome {
            Outcome::Received(bytes) if bytes.is_empty() => self.fail(token, || "the server ended a connection".into()),
            Outcome::Received(bytes) => self.on_bytes(token, &bytes),
            Outcome::Writable => self.send_due(token),
            Outcome::Connected => self.on_connected(token, socket),
            Outcome::Failed { error, .. } => self.on_failed(token, error),
            Outcome::Closed => self.open -= 1,
            Outcome::Expired => match token {
                TIME_OVER => self.is_refilling = false,
                WAIT_OVER => self.is_wait_over = true,
                PACE => self.has_pace_timer = false,
                _ => {}
            },
            _ => {}
        }
    }

    fn open_connections(&mut self, role: State, count: u32) -> Result<(), Error> {
        let (under_way_max, per_second) = (self.plan.connects_under_way_max, self.plan.connects_per_second);
        self.role = role;
        self.pace = Pace::new(count, under_way_max, per_second, self.driver.now_ns());
        loop {
            self.start_connects()?;
            if self.pace.is_done() || self.stop.is_asked() {
                break;
            }
            self.turn()?;
        }
        self.tally.connections = self.active as u64;
        self.tally.idle_connections = self.count(State::Idle) as u64;
        Ok(())
    }

    fn count(&self, state: State) -> usize {
        self.connections.iter().filter(|connection| connection.state == state).count()
    }

    fn start_connects(&mut self) -> Result<(), Error> {
        let now_ns = self.driver.now_ns();
        for _ in 0..self.pace.allowance(now_ns) {
            let token = self.connections.len() as u64;
            self.connections.push(Connection::new(Pattern::new(self.plan.seed, token)));
            self.pace.start();
            if let Err(error) = self.driver.connect(self.plan.address, &Default::default(), token) {
                self.on_failed(token, error);
            }
        }
        if let (false, Some(wait)) = (self.has_pace_timer, self.pace.wait(now_ns)) {
            self.driver.timer(wait, PACE)?;
            self.has_pace_timer = true;
        }
        Ok(())
    }

    fn on_connected(&mut self, token: u64, socket: SocketId) {
        self.pace.end();
        self.open += 1;
        self.live.connected.fetch_add(1, Ordering::Relaxed);
        let connection = &mut self.connections[token as usize];
        connection.socket = socket;
        connection.state = self.role;
        self.active += usize::from(self.role == State::Active);
        if self.role == State::Over {
            // Too late; `Closed` follows.
            let _ = self.driver.close(socket, CloseMode::Abort, token);
            return;
        }
        if let Err(error) = self.driver.receive(socket, token) {
            self.fail(token, || error.to_string());
        }
    }

    fn on_failed(&mut self, token: u64, error: Error) {
        let Some(connection) = self.connections.get_mut(token as usize) else { return };
        if connection.state == State::Connecting {
            connection.state = State::Over;
            self.pace.end();
            self.live.connect_errors.fetch_add(1, Ordering::Relaxed);
            self.tally.count_connect_error(|| error.to_string());
        } else if error.kind() != ErrorKind::Cancelled {
            self.fail(token, || error.to_string());
        }
    }

    /// A connection is lost, with the messages that were in flight on it: one error.
    fn fail(&mut self, token: u64, reason: impl FnOnce() -> String) {
        let connection = &mut self.connections[token as usize];
        let state = std::mem::replace(&mut connection.state, State::Over);
        if state == State::Over {
            return;
        }
        self.in_flight -= u64::from(connection.in_flight);
        self.active -= usize::from(state == State::Active);
        self.tally.count_error(1, reason);
        // Its last completion, `Closed`, is still to come: the id is not stale.
        let _ = self.driver.close(connection.socket, CloseMode::Abort, token);
    }

    fn run(&mut self) -> Result<(), Error> {
        let start_ns = self.driver.now_ns();
        self.driver.timer(self.plan.duration, TIME_OVER)?;
        self.is_refilling = true;
        for token in 0..self.connections.len() as u64 {
            if self.connections[token as usize].state == State::Active {
                self.owe(token, self.plan.pipeline);
            }
        }
        while self.is_refilling && !self.stop.is_asked() && (self.active > 0 || self.plan.connections == 0) {
            self.turn()?;
        }
        self.is_refilling = false;
        let end_ns = self.driver.now_ns();
        self.driver.timer(ANSWER_WAIT, WAIT_OVER)?;
        while self.in_flight > 0 && !self.is_wait_over {
            self.turn()?;
        }
        self.tally.duration_ns = end_ns.max(self.answered_ns) - start_ns;
        self.tally.count_error(self.in_flight, || {
            format!("messages were not answered within {} s after the end", ANSWER_WAIT.as_secs())
        });
        Ok(())
    }

    fn owe(&mut self, token: u64, messages: u32) {
        let now_ns = self.driver.now_ns();
        self.connections[token as usize].owe(messages, self.plan.size_bytes, now_ns);
        self.in_flight += u64::from(messages);
        self.send_due(token);
    }

    /// Sends what is due on a connection, as far as the driver has room; it tells when there is more.
    fn send_due(&mut self, token: u64) {
        let connection = &mut self.connections[token as usize];
        while connection.state == State::Active && connection.sent_bytes < connection.due_bytes {
            let length = (connection.due_bytes - connection.sent_bytes).min(CHUNK_BYTES);
            let mut payload = room(&mut self.driver, length as usize);
            match &mut payload {
                Payload::Buffer(bytes) => connection.pattern.fill(connection.sent_bytes, bytes),
                Payload::Vec(bytes) => connection.pattern.fill(connection.sent_bytes, bytes),
                _ => unreachable!("room gives no other form"),
            }
            match self.driver.send_quiet(connection.socket, payload, token) {
                Ok(_) => connection.sent_bytes += length,
                Err(refused) if refused.error.kind() == ErrorKind::Busy => return,
                Err(refused) => return self.fail(token, || refused.error.to_string()),
            }
        }
    }

    fn on_bytes(&mut self, token: u64, bytes: &Buffer) {
        let connection = &mut self.connections[token as usize];
        let arrival = connection.arrive(bytes, self.plan.size_bytes);
        self.tally.corrupt_bytes += arrival.corrupt_bytes;
        if arrival.messages == 0 || connection.state != State::Active {
            return;
        }
        let now_ns = self.driver.now_ns();
        let (recorder, histogram) = (&mut self.recorder, &mut self.tally.latency_ns);
        connection.settle(arrival.messages, |since_ns, count| recorder.record(histogram, now_ns - since_ns, count));
        self.answered_ns = now_ns;
        self.tally.messages += u64::from(arrival.messages);
        self.in_flight -= u64::from(arrival.messages);
        if self.is_refilling {
            self.owe(token, arrival.messages);
        }
    }

    fn close_all(&mut self) -> Result<(), Error> {
        self.role = State::Over;
        for (token, connection) in self.connections.iter_mut().enumerate() {
            if matches!(connection.state, State::Active | State::Idle) {
                connection.state = State::Over;
                // It has not been closed, so it is not stale.
                let _ =
                    self.driver.close(connection.socket, CloseMode::Graceful { deadline: CLOSE_WAIT }, token as u64);
            }
        }
        while self.open > 0 {
            self.turn()?;
        }
        Ok(())
    }
}

/// Room for so many bytes: of the pool if it has any left.
fn room(driver: &mut Driver, length: usize) -> Payload {
    match driver.buffer() {
        Some(mut buffer) => {
            buffer.set_len(length);
            Payload::Buffer(buffer)
        }
        None => Payload::Vec(vec![0; length]),
    }
}
