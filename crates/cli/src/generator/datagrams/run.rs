//! The two loops over datagrams. Either ends when everything that has left is answered or lost.

use std::time::Duration;

use raon_provider::Error;

use super::super::open::{DEPARTURES_PER_TURN, Offer};
use super::super::schedule::Timetable;
use super::super::{Load, Mode};
use super::Datagrams;

impl Datagrams {
    pub(super) fn run(&mut self, load: &Load) -> Result<(), Error> {
        let start_ns = self.now_ns;
        let end_ns = start_ns + load.duration.as_nanos() as u64;
        match load.mode {
            Mode::Closed { pipeline } => self.run_closed(pipeline, end_ns)?,
            Mode::Open(offer) => self.run_open(&offer, end_ns)?,
        }
        let end_ns = self.now_ns;
        self.let_backlog_leave()?;
        while self.awaited > 0 {
            self.turn_until(u64::MAX)?;
        }
        self.tally.open.unanswered = self.tally.datagrams.lost;
        self.tally.duration_ns = end_ns.max(self.answered_ns) - start_ns;
        Ok(())
    }

    /// Keeps `pipeline` datagrams in flight on each socket until the time is over.
    fn run_closed(&mut self, pipeline: u32, end_ns: u64) -> Result<(), Error> {
        self.in_flight_max = pipeline;
        self.is_refilling = true;
        for token in 0..self.peers.len() {
            self.peers[token].lane = None;
            self.send_due(token as u64, self.now_ns);
        }
        while self.now_ns < end_ns && self.goes_on() {
            self.turn_until(end_ns)?;
        }
        self.is_refilling = false;
        Ok(())
    }

    /// Sends what is due, when it is due, until the time is over.
    fn run_open(&mut self, offer: &Offer, end_ns: u64) -> Result<(), Error> {
        let start_ns = self.now_ns;
        self.in_flight_max = offer.in_flight_max;
        self.plan_departures(offer, start_ns, end_ns);
        while let Some((due_ns, _)) = self.timetable.first()
            && self.goes_on()
        {
            self.turn_until(due_ns)?;
            self.depart();
        }
        // The last one is due before the time is over.
        while self.now_ns < end_ns && self.goes_on() {
            self.turn_until(end_ns)?;
        }
        self.tally.open.scheduled_ns = self.now_ns.min(end_ns) - start_ns;
        Ok(())
    }

    fn goes_on(&self) -> bool {
        !self.stop.is_asked() && self.active > 0
    }

    /// One turn, up to that time; then whatever has waited too long is lost. It is looked for some times per timeout, but
    /// while answers wait to be read at most once: what is given up leaves again, and would keep them waiting longer.
    fn turn_until(&mut self, time_ns: u64) -> Result<(), Error> {
        const LOOKS_PER_TIMEOUT: u64 = 16;
        const LOOK_NS: (u64, u64) = (1_000_000, 100_000_000);
        let wait_ns = time_ns.min(self.look_ns).saturating_sub(self.clock_ns());
        self.turn(Some(Duration::from_nanos(wait_ns)))?;
        let patience_ns = if self.is_behind { self.timeout_ns } else { 0 };
        if self.now_ns >= self.look_ns + patience_ns {
            self.look_ns = self.now_ns + (self.timeout_ns / LOOKS_PER_TIMEOUT).clamp(LOOK_NS.0, LOOK_NS.1);
            (0..self.peers.len() as u64).for_each(|token| self.give_up(token));
        }
        Ok(())
    }

    fn plan_departures(&mut self, offer: &Offer, start_ns: u64, end_ns: u64) {
        self.timetable = Timetable::until(end_ns, self.active);
        let active = self.peers.iter_mut().enumerate().filter(|(_, peer)| peer.is_active);
        for (place, (token, peer)) in active.enumerate() {
            let lane = offer.lane(&self.plan, place, self.active, start_ns);
            self.timetable.insert(token as u64, lane.due.next_ns());
            peer.lane = Some(lane);
        }
    }

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

    /// Sends what is due by now on the peer that is first in the timetable.
    fn depart_on(&mut self, token: u64, now_ns: u64) {
        let end_ns = self.timetable.end_ns();
        let peer = &mut self.peers[token as usize];
        let Some(lane) = &mut peer.lane else { return self.timetable.move_first(u64::MAX) };
        let mut count = 0;
        while lane.due.next_ns() <= now_ns && lane.due.next_ns() < end_ns {
            let lag_ns = now_ns - lane.due.advance();
            self.tally.open.lag_ns.saturating_record(lag_ns.max(1));
            count += 1;
        }
        self.timetable.move_first(lane.due.next_ns());
        self.tally.open.scheduled += count;
        if !peer.is_active {
            self.tally.open.unsent += count;
            return;
        }
        peer.backlog += count;
        self.backlog += count;
        self.send_due(token, now_ns);
        self.tally.open.backlogged += count.min(self.peers[token as usize].backlog);
    }

    /// After the end the backlog may leave for one timeout more. The rest is unsent; it has waited for the server, and
    /// counts in the latencies with that, but for what was only stopped early.
    fn let_backlog_leave(&mut self) -> Result<(), Error> {
        let deadline_ns = self.now_ns + self.timeout_ns;
        while self.backlog > 0 && self.now_ns < deadline_ns && self.goes_on() {
            self.turn_until(deadline_ns)?;
        }
        let is_telling = !self.stop.is_asked();
        for peer in &mut self.peers {
            let unsent = std::mem::take(&mut peer.backlog);
            self.tally.open.unsent += unsent;
            let Some(lane) = peer.lane.as_mut().filter(|_| is_telling) else { continue };
            for _ in 0..unsent {
                let waited_ns = self.now_ns.saturating_sub(lane.answered.advance());
                self.tally.latency_ns.saturating_record(waited_ns);
            }
        }
        self.backlog = 0;
        Ok(())
    }
}
