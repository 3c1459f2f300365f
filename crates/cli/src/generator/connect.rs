//! Opening connections, as fast as the pace allows (`pace.rs`).

use std::sync::atomic::Ordering;

use raon_provider::{CloseMode, Error, SocketId};

use super::connection::{Connection, State};
use super::pace::Pace;
use super::pattern::Pattern;
use super::{Generator, PACE};

impl Generator {
    /// Opens what there is not yet of so many connections.
    pub(super) fn open_connections(&mut self, role: State, count: u32) -> Result<(), Error> {
        let (under_way_max, per_second) = (self.plan.connects_under_way_max, self.plan.connects_per_second);
        let missing = count - self.count(role) as u32;
        self.role = role;
        self.pace = Pace::new(missing, under_way_max, per_second, self.now_ns);
        loop {
            self.start_connects()?;
            if self.pace.is_done() || self.stop.is_asked() {
                break;
            }
            self.turn(None)?;
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
}
