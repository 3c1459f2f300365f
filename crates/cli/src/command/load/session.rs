//! The connections of one `raon load`, on which one load or several are measured, with a look at the server's process.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Arguments;
use super::probe::probe;
use crate::failure::Failure;
use crate::generator::{Crew, Load, Phase, Plan, Status, Tally};
use crate::platform::ServerProcess;
use crate::progress::Progress;
use crate::report;
use crate::stop::Stop;

/// Connects under way at once, of all workers.
const CONNECTS_UNDER_WAY_MAX: u32 = 512;
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// Connections that are open until it is closed.
pub(super) struct Session<'a> {
    arguments: &'a Arguments,
    crew: Crew,
    server: Option<ServerProcess>,
    stop: Arc<Stop>,
    progress: Progress,
    /// What came of opening them.
    connected: Tally,
    /// Connections that exchange messages and were open before the next load.
    pub(super) exchanging: u64,
    /// Memory of the server before and after the idle connections.
    pub(super) idle_rss_bytes: Option<(u64, u64)>,
}

/// What was measured of one load.
pub(super) struct Measured {
    pub(super) tally: Tally,
    /// CPU time of the server meanwhile. None if it is not on this machine or not ours to look at.
    pub(super) server_cpu_ns: Option<u64>,
    /// Memory of the server after it.
    pub(super) server_rss_bytes: Option<u64>,
}

impl<'a> Session<'a> {
    /// Opens all connections; `None` if it was time to stop before all were open.
    pub(super) fn open(arguments: &'a Arguments, stop: &Arc<Stop>) -> Result<Option<Self>, Failure> {
        let opened = Self::open_all(arguments, stop);
        if !stop.is_asked() {
            return opened.map(Some);
        }
        // Whoever has stopped it does not ask any more what could not be opened, or not be closed.
        let _ = opened.and_then(Session::close);
        Ok(None)
    }

    /// Fewer if it is time to stop.
    fn open_all(arguments: &'a Arguments, stop: &Arc<Stop>) -> Result<Self, Failure> {
        probe(arguments)?;
        let server = ServerProcess::listening_at(&arguments.connect, arguments.udp);
        let crew = Crew::start(plans(arguments), &arguments.threads, stop)?;
        let (progress, connected) = (Progress::new(), Tally::new());
        let stop = stop.clone();
        let mut session =
            Session { arguments, crew, server, stop, progress, connected, exchanging: 0, idle_rss_bytes: None };
        if arguments.idle > 0 {
            session.open_idle()?;
        }
        let connected = session.connect(Phase::OpenActive)?;
        session.exchanging = connected.connections;
        session.connected.add(connected);
        Ok(session)
    }

    fn open_idle(&mut self) -> Result<(), Failure> {
        let before_bytes = self.server_rss_bytes();
        self.connected = self.connect(Phase::OpenIdle)?;
        if !self.stop.is_asked() {
            // Connections are accepted in order: once it answers, the idle ones have been accepted.
            probe(self.arguments)?;
        }
        self.idle_rss_bytes = before_bytes.zip(self.server_rss_bytes());
        Ok(())
    }

    fn connect(&self, phase: Phase) -> Result<Tally, Failure> {
        let total = u64::from(self.arguments.connections) + u64::from(self.arguments.idle);
        self.crew.perform(phase, |status| {
            let failed =
                if status.connect_errors > 0 { format!(", {} failed", status.connect_errors) } else { String::new() };
            let connected = report::grouped(status.connected);
            self.progress.say(format!("connecting: {connected} of {}{failed}", report::grouped(total)));
        })
    }

    /// Opens the connections again that were lost.
    pub(super) fn connect_again(&mut self) -> Result<(), Failure> {
        let mut again = self.crew.perform(Phase::OpenActive, |_| self.progress.say("connecting again"))?;
        self.exchanging = std::mem::take(&mut again.connections);
        self.connected.add(again);
        Ok(())
    }

    /// Measures one load; `name` goes before the live line.
    pub(super) fn measure(&self, load: Load, name: &str) -> Result<Measured, Failure> {
        let before_ns = self.server.as_ref().and_then(ServerProcess::cpu_ns);
        let mut speed = Speed::new(load.duration);
        let tally =
            self.crew.perform(Phase::Run(load), |status| self.progress.say(format!("{name}{}", speed.line(status))))?;
        let after_ns = self.server.as_ref().and_then(ServerProcess::cpu_ns);
        let server_cpu_ns = before_ns.zip(after_ns).map(|(before_ns, after_ns)| after_ns.saturating_sub(before_ns));
        Ok(Measured { tally, server_cpu_ns, server_rss_bytes: self.server_rss_bytes() })
    }

    /// Closes all connections. Returns what came of opening and closing them.
    pub(super) fn close(mut self) -> Result<Tally, Failure> {
        self.progress.say("closing the connections");
        let closed = self.crew.perform(Phase::Close, |_| self.progress.say("closing the connections"))?;
        self.connected.add(closed);
        self.crew.finish()?;
        Ok(self.connected)
    }

    fn server_rss_bytes(&self) -> Option<u64> {
        self.server.as_ref().and_then(ServerProcess::rss_bytes)
    }

    /// What the generator runs on.
    pub(super) fn backend(&self) -> &'static str {
        self.crew.kind.name()
    }
}

/// Each worker's share.
fn plans(arguments: &Arguments) -> Vec<Plan> {
    let workers = u32::from(arguments.threads.workers());
    let share = |total: u32, worker: u32| total / workers + u32::from(worker < total % workers);
    let random = RandomState::new();
    let language = arguments.languages();
    let plan = |worker| {
        let mut hasher = random.build_hasher();
        hasher.write_u32(worker);
        Plan {
            address: arguments.connect.clone(),
            worker,
            workers,
            connections_of_all: arguments.connections,
            connections: share(arguments.connections, worker),
            idle: share(arguments.idle, worker),
            size_bytes: u64::from(arguments.size_bytes()),
            language: language(worker),
            answer_wait: ANSWER_WAIT,
            datagram_timeout: arguments.datagram_timeout(),
            connects_per_second: arguments.connect_rate.map(|rate| f64::from(rate) / f64::from(workers)),
            connects_under_way_max: CONNECTS_UNDER_WAY_MAX.div_ceil(workers),
            seed: hasher.finish(),
        }
    };
    (0..workers).map(plan).collect()
}

/// The live line of a measurement.
struct Speed {
    start: Instant,
    duration: Duration,
    last: (Instant, u64),
    per_second: f64,
}

impl Speed {
    fn new(duration: Duration) -> Self {
        let start = Instant::now();
        Speed { start, duration, last: (start, 0), per_second: 0.0 }
    }

    fn line(&mut self, status: &Status) -> String {
        let since_s = self.last.0.elapsed().as_secs_f64();
        if since_s >= 0.5 {
            self.per_second = status.messages.saturating_sub(self.last.1) as f64 / since_s;
            self.last = (Instant::now(), status.messages);
        }
        let speed = report::grouped(self.per_second as u64);
        let (elapsed_s, duration_s) = (self.start.elapsed().as_secs_f64(), self.duration.as_secs_f64());
        let messages = report::grouped(status.messages);
        let errors = report::plural(status.errors, "error");
        let lost = match status.lost {
            0 => String::new(),
            lost => format!("{} lost, ", report::grouped(lost)),
        };
        format!("{elapsed_s:.1} of {duration_s:.1} s: {speed} messages/s, {messages} so far, {lost}{errors}")
    }
}
