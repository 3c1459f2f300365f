//! The closed loop: each connection keeps so many messages in flight, and an answer makes the next one due.

use std::time::Duration;

use raon_provider::Error;

use super::connection::State;
use super::{Generator, TIME_OVER};

impl Generator {
    /// Keeps `pipeline` messages in flight on each connection until the time is over.
    pub(super) fn run_closed(&mut self, pipeline: u32, duration: Duration) -> Result<(), Error> {
        self.driver.timer(duration, TIME_OVER)?;
        self.in_flight_max = u64::from(pipeline);
        self.is_refilling = true;
        for token in 0..self.connections.len() as u64 {
            let connection = &mut self.connections[token as usize];
            connection.lane = None;
            if connection.state == State::Active {
                self.owe(token, pipeline);
            }
        }
        while self.is_refilling && !self.stop.is_asked() && (self.active > 0 || self.plan.connections == 0) {
            self.turn(None)?;
        }
        self.is_refilling = false;
        Ok(())
    }

    /// More messages are due on a connection.
    pub(super) fn owe(&mut self, token: u64, messages: u32) {
        self.connections[token as usize].owe(messages, self.now_ns);
        self.awaited += u64::from(messages);
        self.send_due(token);
    }
}
