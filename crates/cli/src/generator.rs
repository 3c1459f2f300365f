//! One worker of `raon load`: one thread, one driver, its share of the connections.
//!
//! In a closed loop (`closed.rs`) a message that has come back makes the next one due; in an open loop (`open.rs`)
//! messages are due at times that were fixed before (`schedule.rs`). Every byte is compared with what was sent
//! (`pattern.rs`); pings and chats have their own books (`talk.rs`). Over UDP there is a worker of another kind
//! (`datagrams.rs`). The phases are driven from outside (`crew.rs`): open idle connections, open active ones
//! (`connect.rs`), run as often as wanted, close.

mod closed;
mod connect;
mod connection;
mod crew;
mod datagrams;
mod hear;
mod open;
mod pace;
mod pattern;
mod schedule;
mod talk;
mod tally;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use raon_provider::{Address, CloseMode, Completion, Completions, Driver, Error, ErrorKind, Outcome, Payload};

use crate::stop::Stop;

use connection::{Connection, State};
use pace::Pace;
use schedule::Timetable;
use talk::{Heard, Talk};
use tally::Recorder;

pub(crate) use crew::{Crew, Phase, Status};
pub(crate) use datagrams::BYTES_MIN as DATAGRAM_BYTES_MIN;
pub(crate) use open::Offer;
pub(crate) use schedule::Arrivals;
pub(crate) use talk::{LINE_BYTES_MAX, LINE_BYTES_MIN, Language, PING_BYTES};
pub(crate) use tally::Tally;

/// Tokens that are no connection's. Those of connections are small numbers.
const TIME_OVER: u64 = u64::MAX - 1;
const PACE: u64 = u64::MAX - 2;

const COMPLETIONS_PER_TURN: usize = 1024;
/// Bytes per send; what is due on a connection leaves as one batch anyway.
const CHUNK_BYTES: u64 = 4096;
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// One worker's share of the connections.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) address: Address,
    /// Its number among so many workers, from 0 on.
    pub(crate) worker: u32,
    pub(crate) workers: u32,
    /// Those of all workers that exchange messages.
    pub(crate) connections_of_all: u32,
    pub(crate) connections: u32,
    pub(crate) idle: u32,
    pub(crate) size_bytes: u64,
    pub(crate) language: Language,
    /// How long a backlog may still be sent after the end, and answers are waited for once nothing is sent any more.
    pub(crate) answer_wait: Duration,
    /// With datagrams instead of connections: after so long one without an answer is lost.
    pub(crate) datagram_timeout: Option<Duration>,
    pub(crate) connects_per_second: Option<f64>,
    pub(crate) connects_under_way_max: u32,
    /// Chosen per run and worker, so that no two connections have the same bytes.
    pub(crate) seed: u64,
}

/// What to do on the connections, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) duration: Duration,
    pub(crate) mode: Mode,
}

/// What makes a message due.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode {
    /// The answer to an earlier one: so many are in flight on each connection.
    Closed { pipeline: u32 },
    /// A schedule.
    Open(Offer),
}

/// What can be seen of a worker while it works.
#[derive(Default)]
pub(crate) struct Live {
    pub(crate) connected: AtomicU64,
    pub(crate) connect_errors: AtomicU64,
    pub(crate) messages: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) lost: AtomicU64,
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
    talk: Talk,
    /// What the last bytes amount to, kept for its room.
    heard: Vec<Heard>,
    /// When the last connection was opened, or given up.
    greeted_ns: u64,
    recorder: Recorder,
    /// Of this phase.
    tally: Tally,
    /// Of this run, if it is an open loop.
    timetable: Timetable,
    /// Most messages in flight on a connection.
    in_flight_max: u64,
    /// Messages that are due and have no answer yet.
    awaited: u64,
    /// Active connections that have not failed.
    active: usize,
    /// Sockets that are open.
    open: usize,
    /// In a closed loop, until its time is over.
    is_refilling: bool,
    /// When the last answer came.
    answered_ns: u64,
    epoch: Instant,
    /// When this turn's completions were there.
    now_ns: u64,
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
            talk: Talk::new(&plan.language, plan.worker, plan.seed, plan.size_bytes),
            heard: Vec::new(),
            greeted_ns: 0,
            plan,
            pace: Pace::default(),
            has_pace_timer: false,
            role: State::Active,
            recorder: Recorder::default(),
            tally: Tally::new(),
            timetable: Timetable::default(),
            in_flight_max: 0,
            awaited: 0,
            active: 0,
            open: 0,
            is_refilling: false,
            answered_ns: 0,
            epoch: Instant::now(),
            now_ns: 0,
        }
    }

    /// Does one phase to its end; sooner if it is time to stop. Returns what was measured in it.
    pub(crate) fn perform(&mut self, phase: Phase) -> Result<Tally, Error> {
        self.now_ns = self.clock_ns();
        self.live.messages.store(0, Ordering::Relaxed);
        self.live.errors.store(0, Ordering::Relaxed);
        match phase {
            Phase::OpenIdle => self.open_connections(State::Idle, self.plan.idle)?,
            Phase::OpenActive => self.open_connections(State::Active, self.plan.connections)?,
            Phase::Run(load) => self.run(&load)?,
            Phase::Close => self.close_all()?,
        }
        self.recorder.flush(&mut self.tally.latency_ns);
        self.tally.talk = self.talk.take_tally();
        Ok(std::mem::replace(&mut self.tally, Tally::new()))
    }

    fn clock_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    fn turn(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        self.driver.poll(timeout, &mut self.completions)?;
        self.now_ns = self.clock_ns();
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
            Outcome::Received(bytes) if matches!(self.talk, Talk::Echo) => self.on_echo(token, &bytes),
            Outcome::Received(bytes) => self.on_words(token, &bytes),
            Outcome::Writable => self.send_due(token),
            Outcome::Connected => self.on_connected(token, socket),
            Outcome::Failed { error, .. } => self.on_failed(token, error),
            Outcome::Closed => self.open -= 1,
            Outcome::Expired => match token {
                TIME_OVER => self.is_refilling = false,
                PACE => self.has_pace_timer = false,
                _ => {}
            },
            _ => {}
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
        if connection.state == State::Greeting {
            return self.fail_greeting(token, reason);
        }
        let state = std::mem::replace(&mut connection.state, State::Over);
        if state == State::Over {
            return;
        }
        self.awaited -= connection.awaited();
        let backlog = connection.backlog(self.plan.size_bytes);
        self.tally.open.unsent += backlog;
        self.tally.open.unanswered += connection.awaited() - backlog;
        self.active -= usize::from(state == State::Active);
        self.tally.count_error(1, reason);
        self.forget(token);
    }

    /// Nothing is said on a connection any more.
    fn forget(&mut self, token: u64) {
        // Its last completion, `Closed`, is still to come: the id is not stale.
        let _ = self.driver.close(self.connections[token as usize].socket, CloseMode::Abort, token);
        let mut heard = Vec::new();
        self.talk.end(token, &mut heard);
        self.act_on(token, &mut heard);
    }

    fn run(&mut self, load: &Load) -> Result<(), Error> {
        let start_ns = self.now_ns;
        match load.mode {
            Mode::Closed { pipeline } => self.run_closed(pipeline, load.duration)?,
            Mode::Open(offer) => self.run_open(&offer, load.duration)?,
        }
        let end_ns = self.now_ns;
        self.await_answers()?;
        if self.drop_backlog() {
            self.await_answers()?;
        }
        self.give_up();
        self.tally.duration_ns = end_ns.max(self.answered_ns) - start_ns;
        Ok(())
    }

    /// Waits for the answers to what was due, for a limited time.
    fn await_answers(&mut self) -> Result<(), Error> {
        let deadline_ns = self.now_ns + self.plan.answer_wait.as_nanos() as u64;
        while self.awaited > 0 && self.now_ns < deadline_ns {
            self.turn(Some(Duration::from_nanos(deadline_ns - self.now_ns)))?;
        }
        Ok(())
    }

    /// Whose answers have not come by now is lost, and its connection with it: late ones would look like later ones.
    fn give_up(&mut self) {
        let (mut given_up, mut lost) = (0, Vec::new());
        for (token, connection) in self.connections.iter_mut().enumerate() {
            if connection.state == State::Active && connection.awaited() > 0 {
                connection.state = State::Over;
                given_up += connection.awaited();
                let (histogram, now_ns) = (&mut self.tally.latency_ns, self.now_ns);
                connection.tell_awaited(|due_ns| histogram.saturating_record(now_ns.saturating_sub(due_ns)));
                self.active -= 1;
                lost.push(token as u64);
            }
        }
        self.awaited -= given_up;
        lost.into_iter().for_each(|token| self.forget(token));
        self.tally.open.unanswered += given_up;
        let wait_s = self.plan.answer_wait.as_secs_f64();
        self.tally.count_error(given_up, || format!("messages were not answered within {wait_s} s after the end"));
    }

    /// Sends what is due on a connection, as far as the driver has room; it tells when there is more.
    fn send_due(&mut self, token: u64) {
        let chunk_bytes = match self.talk {
            Talk::Echo => CHUNK_BYTES,
            // Whole messages.
            _ => CHUNK_BYTES - CHUNK_BYTES % self.plan.size_bytes,
        };
        let connection = &mut self.connections[token as usize];
        let due_bytes = connection.due_bytes(self.in_flight_max, self.plan.size_bytes);
        while connection.state == State::Active && connection.sent_bytes < due_bytes {
            let length = (due_bytes - connection.sent_bytes).min(chunk_bytes);
            let mut payload = room(&mut self.driver, length as usize);
            let bytes = match &mut payload {
                Payload::Buffer(bytes) => &mut bytes[..],
                Payload::Vec(bytes) => &mut bytes[..],
                _ => unreachable!("room gives no other form"),
            };
            match &mut self.talk {
                Talk::Echo => connection.pattern.fill(connection.sent_bytes, bytes),
                talk => talk.fill(token, bytes),
            }
            match self.driver.send_quiet(connection.socket, payload, token) {
                Ok(_) => {
                    connection.sent_bytes += length;
                    self.talk.sent(token, length as usize);
                }
                Err(refused) if refused.error.kind() == ErrorKind::Busy => return,
                Err(refused) => return self.fail(token, || refused.error.to_string()),
            }
        }
    }

    fn close_all(&mut self) -> Result<(), Error> {
        self.role = State::Over;
        for (token, connection) in self.connections.iter_mut().enumerate() {
            if matches!(connection.state, State::Active | State::Idle | State::Greeting) {
                connection.state = State::Over;
                // It has not been closed, so it is not stale.
                let _ =
                    self.driver.close(connection.socket, CloseMode::Graceful { deadline: CLOSE_WAIT }, token as u64);
            }
        }
        while self.open > 0 {
            self.turn(None)?;
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
