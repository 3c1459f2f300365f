//! The open loop: messages leave when they are due, whatever the answers do, and are timed from then. So a server that
//! stalls is charged with every message that its users would have sent meanwhile.
//!
//! 1. Each turn, what is due by now is sent (`depart`), then the driver waits for answers until the next message is due.
//! 2. A connection with too many messages in flight keeps the rest as its backlog, which goes out as answers come in.
//! 3. When the time is over, the backlog has `answer_wait` to leave. What is left is unsent.
//! 4. Answers to what was sent have `answer_wait` again; those that do not come are errors. Messages of 3 and 4 count in
//!    the latencies with the time that they have waited: leaving them out would make a bad server look better.

use std::time::Duration;

use raon_provider::Error;

use super::connection::State;
use super::schedule::{Arrivals, Cursor, Lane, Timetable};
use super::{Generator, Plan};

/// Connections served per turn, so that answers are not kept waiting.
pub(super) const DEPARTURES_PER_TURN: usize = 1024;

/// What an open loop offers the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    /// Messages per second, of all workers.
    pub(crate) per_second: u32,
    pub(crate) arrivals: Arrivals,
    /// Most messages in flight on a connection.
    pub(crate) in_flight_max: u32,
}

impl Offer {
    /// The lane of a worker's connection with this place among those that are active.
    pub(super) fn lane(&self, plan: &Plan, place: usize, active: usize, start_ns: u64) -> Lane {
        let mean_ns = 1e9 / f64::from(self.per_second);
        let connections = plan.connections_of_all;
        // If connects failed, the others carry their share.
        let gap_ns = mean_ns * f64::from(connections) * active as f64 / f64::from(plan.connections.max(1));
        let offset_ns = f64::from(plan.worker) * mean_ns + gap_ns * place as f64 / active as f64;
        let number = place as u64 * u64::from(plan.workers) + u64::from(plan.worker);
        Lane::new(Cursor::new(self.arrivals, number, start_ns, offset_ns, gap_ns))
    }
}

impl Generator {
    /// Sends what is due, when it is due, until the time is over.
    pub(super) fn run_open(&mut self, offer: &Offer, duration: Duration) -> Result<(), Error> {
        let start_ns = self.now_ns;
        self.in_flight_max = u64::from(offer.in_flight_max);
        self.plan_departures(offer, start_ns, start_ns + duration.as_nanos() as u64);
        while let Some((due_ns, _)) = self.timetable.first()
            && !self.stop.is_asked()
            && self.active > 0
        {
            let now_ns = self.clock_ns();
            self.turn(Some(Duration::from_nanos(due_ns.saturating_sub(now_ns))))?;
            self.depart();
        }
        let end_ns = self.timetable.end_ns();
        // The last message is due before the time is over.
        while self.now_ns < end_ns && !self.stop.is_asked() && self.active > 0 {
            self.turn(Some(Duration::from_nanos(end_ns - self.now_ns)))?;
        }
        self.tally.open.scheduled_ns = self.now_ns.min(end_ns) - start_ns;
        if self.stop.is_asked() {
            self.drop_backlog();
        }
        Ok(())
    }

    /// Gives each connection its lane. All workers together send at equal distances if arrivals are even.
    fn plan_departures(&mut self, offer: &Offer, start_ns: u64, end_ns: u64) {
        self.timetable = Timetable::until(end_ns, self.active);
        let active = self.connections.iter_mut().enumerate().filter(|(_, one)| one.state == State::Active);
        for (place, (token, connection)) in active.enumerate() {
            let lane = offer.lane(&self.plan, place, self.active, start_ns);
            self.timetable.insert(token as u64, lane.due.next_ns());
            connection.lane = Some(lane);
        }
    }

    /// Sends what is due by now.
    fn depart(&mut self) {
        for _ in 0..DEPARTURES_PER_TURN {
            let Some((due_ns, token)) = self.timetable.first() else { return };
            let now_ns = self.clock_ns();
            if due_ns > now_ns {
                return;
            }
            self.depart_on(token, now_ns);
        }
    }

    /// Sends what is due by now on the connection that is first in the timetable.
    fn depart_on(&mut self, token: u64, now_ns: u64) {
        let connection = &mut self.connections[token as usize];
        let lag_ns = &mut self.tally.open.lag_ns;
        let count = connection
            .owe_until(now_ns, self.timetable.end_ns(), |due_ns| lag_ns.saturating_record((now_ns - due_ns).max(1)));
        self.timetable.move_first(connection.next_due_ns());
        self.tally.open.scheduled += count;
        if connection.state != State::Active {
            self.tally.open.unsent += count;
            return;
        }
        self.awaited += count;
        self.send_due(token);
        self.tally.open.backlogged += count.min(self.connections[token as usize].backlog(self.plan.size_bytes));
    }

    /// What has not left by now will not leave. Returns true if there was any.
    pub(super) fn drop_backlog(&mut self) -> bool {
        // Stopped early, it has not waited long for the server.
        let is_telling = !self.stop.is_asked();
        let mut dropped = 0;
        for connection in &mut self.connections {
            if connection.state == State::Active && connection.lane.is_some() {
                let (histogram, now_ns) = (&mut self.tally.latency_ns, self.now_ns);
                dropped += connection.drop_backlog(self.plan.size_bytes, |due_ns| {
                    if is_telling {
                        histogram.saturating_record(now_ns.saturating_sub(due_ns));
                    }
                });
            }
        }
        self.awaited -= dropped;
        self.tally.open.unsent += dropped;
        dropped > 0
    }
}
