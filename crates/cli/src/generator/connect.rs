//! Opening connections, as fast as the pace allows (`pace.rs`).

use std::sync::atomic::Ordering;
use std::time::Duration;

use raon_provider::{CloseMode, Error, Payload, SocketId};

use super::connection::{Connection, State};
use super::pace::Pace;
use super::pattern::Pattern;
use super::talk::Talk;
use super::{Generator, PACE};

impl Generator {
    /// Opens what there is not yet of so many connections.
    pub(super) fn open_connections(&mut self, role: State, count: u32) -> Result<(), Error> {
        let (under_way_max, per_second) = (self.plan.connects_under_way_max, self.plan.connects_per_second);
        let missing = count - self.count(role) as u32;
        self.role = role;
        self.pace = Pace::new(missing, under_way_max, per_second, self.now_ns);
        self.greeted_ns = self.now_ns;
        loop {
            self.start_connects()?;
            if self.pace.is_done() || self.stop.is_asked() {
                break;
            }
            self.turn(self.greeting_wait())?;
            self.give_up_greetings();
        }
        match role {
            State::Idle => self.tally.idle_connections = self.count(State::Idle) as u64,
            _ => self.tally.connections = self.active as u64,
        }
        Ok(())
    }

    fn count(&self, state: State) -> usize {
        self.connections.iter().filter(|connection| connection.state == state).count()
    }

    fn start_connects(&mut self) -> Result<(), Error> {
        let now_ns = self.now_ns;
        for _ in 0..self.pace.allowance(now_ns) {
            let token = self.connections.len() as u64;
            self.connections.push(Connection::new(Pattern::new(self.plan.seed, token)));
            self.pace.start();
            if let Err(error) = self.driver.connect(&self.plan.address, &Default::default(), token) {
                self.on_failed(token, error);
            }
        }
        if let (false, Some(wait)) = (self.has_pace_timer, self.pace.wait(now_ns)) {
            self.driver.timer(wait, PACE)?;
            self.has_pace_timer = true;
        }
        Ok(())
    }

    pub(super) fn on_connected(&mut self, token: u64, socket: SocketId) {
        self.open += 1;
        let connection = &mut self.connections[token as usize];
        connection.socket = socket;
        if self.role == State::Over {
            connection.state = State::Over;
            self.pace.end();
            // Too late; `Closed` follows.
            let _ = self.driver.close(socket, CloseMode::Abort, token);
            return;
        }
        connection.state = State::Greeting;
        let greeting = self.talk.greet(token, self.role);
        let received = self.driver.receive(socket, token).map(drop);
        let sent = match greeting {
            None => {
                self.on_ready(token);
                Ok(())
            }
            Some(words) => {
                let sent = self.driver.send_quiet(socket, Payload::Vec(words), token);
                sent.map(drop).map_err(|refused| refused.error)
            }
        };
        if let Err(error) = received.and(sent) {
            self.fail(token, || error.to_string());
        }
    }

    /// A connection is open: it has come, and its greeting is answered.
    pub(super) fn on_ready(&mut self, token: u64) {
        self.pace.end();
        self.greeted_ns = self.now_ns;
        self.live.connected.fetch_add(1, Ordering::Relaxed);
        self.connections[token as usize].state = self.role;
        self.active += usize::from(self.role == State::Active);
    }

    /// A connection was there, but did not become one that can be used.
    pub(super) fn fail_greeting(&mut self, token: u64, reason: impl FnOnce() -> String) {
        self.connections[token as usize].state = State::Over;
        self.pace.end();
        self.greeted_ns = self.now_ns;
        self.live.connect_errors.fetch_add(1, Ordering::Relaxed);
        self.tally.count_connect_error(reason);
        self.forget(token);
    }

    /// How long to wait for connections: for ever, unless answers may be missing.
    fn greeting_wait(&self) -> Option<Duration> {
        (!matches!(self.talk, Talk::Echo)).then_some(self.plan.answer_wait)
    }

    /// If nobody answered for long, nobody will.
    fn give_up_greetings(&mut self) {
        let wait_ns = self.plan.answer_wait.as_nanos() as u64;
        if self.now_ns < self.greeted_ns + wait_ns || self.greeting_wait().is_none() {
            return;
        }
        for token in 0..self.connections.len() as u64 {
            if self.connections[token as usize].state == State::Greeting {
                self.fail_greeting(token, || "the server takes connections but does not answer".into());
            }
        }
    }
}
