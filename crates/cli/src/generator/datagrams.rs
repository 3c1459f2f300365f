//! One worker of `raon load --udp`: one thread, one driver, its share of the sockets, each with the server as its peer.
//!
//! 1. A datagram leaves when it is due and its peer has a place in its window (`window.rs`): in a closed loop a free place
//!    makes the next one due, in an open loop the schedule does (`run.rs`).
//! 2. Its answer is compared with what was sent (`contents.rs`) and frees the place.
//! 3. Without an answer in time it is lost and counted, and the place is free as well. Latency is that of answers.
//! 4. Late answers, duplicates, and what the network reports are counted; only wrong contents are errors.

mod contents;
mod run;
mod window;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use raon_provider::{Buffer, SocketId};
use raon_provider::{CloseMode, Completion, Completions, Driver, Error, ErrorKind, Outcome, Payload};

use super::schedule::{Lane, Timetable};
use super::tally::Recorder;
use super::{CLOSE_WAIT, COMPLETIONS_PER_TURN, Live, Phase, Plan, Tally, room};
use crate::datagrams::bind_options;
use crate::stop::Stop;

use contents::Contents;
use window::{Answer, Window};

pub(crate) use contents::BYTES_MIN;

/// Completions of a turn after which there may be more at once; a back end may bring less than it is asked for.
const MANY: usize = 128;

/// One worker.
pub(super) struct Datagrams {
    driver: Driver,
    plan: Plan,
    server: SocketAddr,
    timeout_ns: u64,
    stop: Arc<Stop>,
    live: Arc<Live>,
    completions: Completions,
    /// By token.
    peers: Vec<Peer>,
    recorder: Recorder,
    /// Of this phase.
    tally: Tally,
    /// Of this run, if it is an open loop.
    timetable: Timetable,
    /// Most datagrams of a peer that may yet be answered.
    in_flight_max: u32,
    /// In a closed loop, until its time is over.
    is_refilling: bool,
    /// Datagrams that are due and have not left.
    backlog: u64,
    /// Datagrams that have left and may yet be answered.
    awaited: u64,
    /// Peers that have not failed.
    active: usize,
    /// Sockets that are open.
    open: usize,
    /// When the last answer came.
    answered_ns: u64,
    /// When to look for what is lost.
    look_ns: u64,
    /// The last turn brought much: more may have come already.
    is_behind: bool,
    epoch: Instant,
    /// When this turn's completions were there.
    now_ns: u64,
}

/// One socket, and the server at its other end.
struct Peer {
    socket: SocketId,
    is_active: bool,
    contents: Contents,
    window: Window,
    /// Datagrams of the lane that are due and have not left.
    backlog: u64,
    /// In an open loop: what is due next, and (as `answered`) what leaves next.
    lane: Option<Lane>,
}

impl Datagrams {
    /// A worker without sockets yet, for the server and the timeout of the plan.
    pub(super) fn new(
        driver: Driver,
        plan: Plan,
        server: SocketAddr,
        timeout: Duration,
        stop: Arc<Stop>,
        live: Arc<Live>,
    ) -> Self {
        stop.wakes(driver.submitter());
        Datagrams {
            driver,
            server,
            timeout_ns: timeout.as_nanos() as u64,
            stop,
            live,
            completions: Completions::with_capacity(COMPLETIONS_PER_TURN),
            peers: Vec::with_capacity(plan.connections as usize),
            plan,
            recorder: Recorder::default(),
            tally: Tally::new(),
            timetable: Timetable::default(),
            in_flight_max: 0,
            is_refilling: false,
            backlog: 0,
            awaited: 0,
            active: 0,
            open: 0,
            answered_ns: 0,
            look_ns: 0,
            is_behind: false,
            epoch: Instant::now(),
            now_ns: 0,
        }
    }

    /// Does one phase to its end; sooner if it is time to stop. Returns what was measured in it.
    pub(super) fn perform(&mut self, phase: Phase) -> Result<Tally, Error> {
        self.now_ns = self.clock_ns();
        self.live.messages.store(0, Ordering::Relaxed);
        self.live.errors.store(0, Ordering::Relaxed);
        self.live.lost.store(0, Ordering::Relaxed);
        match phase {
            Phase::OpenIdle => {}
            Phase::OpenActive => self.bind_all(),
            Phase::Run(load) => self.run(&load)?,
            Phase::Close => self.close_all()?,
        }
        self.recorder.flush(&mut self.tally.latency_ns);
        Ok(std::mem::replace(&mut self.tally, Tally::new()))
    }

    /// Binds what there is not yet of the sockets.
    fn bind_all(&mut self) {
        let any: IpAddr =
            if self.server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let options = bind_options(self.plan.size_bytes as u32).with(|options| options.peer = Some(self.server));
        let missing = (self.plan.connections as usize).saturating_sub(self.active);
        for _ in 0..missing {
            let token = self.peers.len() as u64;
            match self.driver.bind((any, 0), &options) {
                Ok(socket) => self.add_peer(token, socket),
                Err(error) => {
                    self.live.connect_errors.fetch_add(1, Ordering::Relaxed);
                    self.tally.count_connect_error(|| error.to_string());
                }
            }
        }
        self.tally.connections = self.active as u64;
    }

    fn add_peer(&mut self, token: u64, socket: SocketId) {
        let number = token as u32 * self.plan.workers + self.plan.worker;
        let contents = Contents::new(self.plan.seed, number);
        self.peers.push(Peer { socket, is_active: true, contents, window: Window::new(), backlog: 0, lane: None });
        (self.active, self.open) = (self.active + 1, self.open + 1);
        self.live.connected.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = self.driver.receive(socket, token) {
            self.fail(token, error);
        }
    }

    fn clock_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    fn turn(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        self.driver.poll(timeout, &mut self.completions)?;
        self.now_ns = self.clock_ns();
        self.is_behind = self.completions.len() >= MANY;
        while let Some(completion) = self.completions.pop() {
            self.handle(completion);
        }
        self.live.messages.store(self.tally.messages, Ordering::Relaxed);
        self.live.errors.store(self.tally.errors, Ordering::Relaxed);
        self.live.lost.store(self.tally.datagrams.lost, Ordering::Relaxed);
        Ok(())
    }

    fn handle(&mut self, completion: Completion) {
        let Completion { token, outcome, .. } = completion;
        match outcome {
            Outcome::Datagram { bytes, .. } => self.on_datagram(token, &bytes),
            Outcome::Truncated { .. } => self.on_corrupt(1),
            Outcome::Undelivered(error) => self.tally.datagrams.count_undelivered(error),
            Outcome::Writable => self.send_due(token, self.now_ns),
            Outcome::Failed { error, payload, .. } if error.kind() != ErrorKind::Cancelled => match payload {
                // It will not be answered: its timeout makes it a lost one.
                Some(_) => self.tally.datagrams.count_undelivered(error),
                None => self.fail(token, error),
            },
            Outcome::Closed => self.open -= 1,
            _ => {}
        }
    }

    fn on_datagram(&mut self, token: u64, bytes: &Buffer) {
        let overdue_ns = self.now_ns.checked_sub(self.timeout_ns);
        let peer = &mut self.peers[token as usize];
        let answer = match peer.contents.check(bytes, self.plan.size_bytes as usize) {
            Ok(sequence) => peer.window.answer(sequence, overdue_ns),
            Err(corrupt_bytes) => return self.on_corrupt(corrupt_bytes),
        };
        match answer {
            Answer::InTime { due_ns } => {
                self.recorder.record(&mut self.tally.latency_ns, self.now_ns.saturating_sub(due_ns), 1);
                self.tally.messages += 1;
                self.awaited -= 1;
                self.answered_ns = self.now_ns;
                self.send_due(token, self.now_ns);
            }
            Answer::Overdue => {
                self.tally.datagrams.lost += 1;
                self.tally.datagrams.late += 1;
                self.awaited -= 1;
                self.send_due(token, self.now_ns);
            }
            Answer::Late => self.tally.datagrams.late += 1,
            Answer::Duplicate => self.tally.datagrams.duplicates += 1,
            Answer::Unknown => self.on_corrupt(bytes.len() as u64),
        }
    }

    fn on_corrupt(&mut self, corrupt_bytes: u64) {
        self.tally.corrupt_bytes += corrupt_bytes;
        self.tally.datagrams.corrupt += 1;
        self.tally.count_error(1, || "a datagram came back that was not sent like that".into());
    }

    /// Whatever has waited too long on this peer is lost.
    fn give_up(&mut self, token: u64) {
        let Some(left_ns) = self.now_ns.checked_sub(self.timeout_ns) else { return };
        let lost = self.peers[token as usize].window.give_up(left_ns);
        if lost > 0 {
            self.tally.datagrams.lost += u64::from(lost);
            self.awaited -= u64::from(lost);
            self.send_due(token, self.now_ns);
        }
    }

    /// Sends what is due on a peer, as far as it has places and the driver has room; that tells when there is more.
    fn send_due(&mut self, token: u64, now_ns: u64) {
        let peer = &mut self.peers[token as usize];
        while peer.is_active && peer.window.has_place(self.in_flight_max) {
            let due_ns = match &peer.lane {
                Some(lane) if peer.backlog > 0 => lane.answered.next_ns(),
                None if self.is_refilling => now_ns,
                _ => return,
            };
            let mut payload = room(&mut self.driver, self.plan.size_bytes as usize);
            match &mut payload {
                Payload::Buffer(bytes) => peer.contents.fill(peer.window.next(), bytes),
                Payload::Vec(bytes) => peer.contents.fill(peer.window.next(), bytes),
                _ => unreachable!("room gives no other form"),
            }
            match self.driver.send_quiet(peer.socket, payload, token) {
                Ok(_) => peer.window.leave(due_ns, now_ns),
                Err(refused) if refused.error.kind() == ErrorKind::Busy => return,
                Err(refused) => return self.fail(token, refused.error),
            }
            self.awaited += 1;
            self.tally.datagrams.sent += 1;
            if let Some(lane) = &mut peer.lane {
                lane.answered.advance();
                peer.backlog -= 1;
                self.backlog -= 1;
            }
        }
    }

    /// A socket is of no use any more: one error.
    fn fail(&mut self, token: u64, error: Error) {
        let peer = &mut self.peers[token as usize];
        if !std::mem::replace(&mut peer.is_active, false) {
            return;
        }
        self.active -= 1;
        let lost = u64::from(peer.window.give_up(u64::MAX));
        let unsent = std::mem::take(&mut peer.backlog);
        (self.awaited, self.backlog) = (self.awaited - lost, self.backlog - unsent);
        self.tally.datagrams.lost += lost;
        self.tally.open.unsent += unsent;
        self.tally.count_error(1, || error.to_string());
        // Its last completion, `Closed`, is still to come: the id is not stale.
        let _ = self.driver.close(peer.socket, CloseMode::Abort, token);
    }

    fn close_all(&mut self) -> Result<(), Error> {
        for (token, peer) in self.peers.iter_mut().enumerate() {
            if std::mem::replace(&mut peer.is_active, false) {
                // It has not been closed, so it is not stale.
                let _ = self.driver.close(peer.socket, CloseMode::Graceful { deadline: CLOSE_WAIT }, token as u64);
            }
        }
        self.active = 0;
        while self.open > 0 {
            self.turn(None)?;
        }
        Ok(())
    }
}
