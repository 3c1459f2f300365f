//! `raon load`: loads an echo server and verifies every byte.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::arguments::{self, Threads};
use crate::failure::Failure;
use crate::generator::{Crew, Phase, Plan, Status, Tally};
use crate::platform::{self, ServerProcess};
use crate::progress::Progress;
use crate::report;
use crate::stop::{INTERRUPTED, Stop};

const EXAMPLES: &str = "Examples:
  raon load echo
  raon load echo --connections 9000 --duration 8s
  raon load echo --size 16384 --pipeline 4 --workers 2 --json
  raon load echo --connections 0 --idle 18000 --duration 1s     memory per idle connection

Exits with 1 if a connection failed, a message was lost, or a byte came back wrong. Ctrl-C ends the measurement early.";

/// Connects under way at once, of all workers.
const CONNECTS_UNDER_WAY_MAX: u32 = 512;
/// Descriptors beside those of connections.
const DESCRIPTORS_OWN: u64 = 32;
const DESCRIPTORS_PER_WORKER: u64 = 8;
const PROBE_WAIT: Duration = Duration::from_secs(5);

/// Arguments of `raon load`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// What the server does: echo sends back what it gets
    service: ServiceName,
    /// Where it listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000")]
    connect: SocketAddr,
    /// Connections that exchange messages
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    connections: u32,
    /// Bytes per message
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=16_777_216))]
    size: u32,
    /// Messages in flight per connection
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pipeline: u32,
    /// How long to measure, such as 10s, 500ms or 2m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = arguments::duration)]
    duration: Duration,
    /// Connections opened per second at most, such as 1000/s
    #[arg(long, value_name = "N/s", value_parser = arguments::rate)]
    connect_rate: Option<u32>,
    /// Further connections that do nothing, to see what they cost the server
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    idle: u32,
    #[command(flatten)]
    threads: Threads,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum ServiceName {
    Echo,
}

/// The result. The names are stable.
#[derive(Serialize)]
struct Report {
    backend: &'static str,
    connections: u64,
    size_bytes: u32,
    pipeline: u32,
    duration_s: f64,
    messages: u64,
    messages_per_s: f64,
    errors: u64,
    corrupt_bytes: u64,
    latency_ns: Latency,
    /// None if the server is not on this machine or not ours to look at; so too below.
    server_cpu_ns_per_message: Option<f64>,
    server_rss_bytes: Option<u64>,
    connect_errors: u64,
    #[serde(flatten)]
    idle: Option<Idle>,
}

#[derive(Serialize)]
struct Latency {
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

#[derive(Serialize)]
struct Idle {
    idle_connections: u64,
    server_rss_bytes_per_idle: Option<f64>,
}

/// What was seen of the server from outside.
#[derive(Default)]
struct Observed {
    cpu_ns: Option<u64>,
    rss_bytes: Option<u64>,
    rss_before_idle_bytes: Option<u64>,
    rss_after_idle_bytes: Option<u64>,
}

/// Loads and reports.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    check(arguments)?;
    if arguments.threads.with_parent {
        platform::end_with_parent()?;
    }
    let stop = Stop::install()?;
    probe(arguments.connect)?;
    let server = ServerProcess::listening_at(arguments.connect);
    let crew = Crew::start(plans(arguments), &arguments.threads, &stop)?;
    let kind = crew.kind;
    let progress = Progress::new();
    let observed = measure(arguments, &crew, server.as_ref(), &stop, &progress)?;
    progress.say("closing the connections");
    crew.perform(Phase::Close, |_| progress.say("closing the connections"))?;
    let tally = crew.finish()?;
    drop(progress);
    if stop.is_asked() && tally.duration_ns == 0 {
        eprintln!("stopped before the measurement began");
        return Ok(ExitCode::from(INTERRUPTED));
    }
    let report = report(arguments, kind.name(), &tally, &observed);
    if arguments.json {
        report::print(report::json(&report));
    } else {
        report::print(text(arguments, &report, &tally));
    }
    let is_clean = report.errors + report.corrupt_bytes + report.connect_errors == 0;
    Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What cannot be done is told before anything is begun.
fn check(arguments: &Arguments) -> Result<(), Failure> {
    let (connections, workers) =
        (u64::from(arguments.connections) + u64::from(arguments.idle), arguments.threads.workers);
    if connections == 0 {
        return Err(Failure::usage("no connections to open: set --connections or --idle above 0"));
    }
    const PER_WORKER_MAX: u64 = 262_144;
    if connections.div_ceil(workers.into()) > PER_WORKER_MAX {
        let text = format!("{connections} connections are too many for {workers} workers: raise --workers");
        return Err(Failure::usage(text));
    }
    let needed = connections + DESCRIPTORS_OWN + DESCRIPTORS_PER_WORKER * u64::from(workers);
    let allowed = platform::raise_descriptor_limit();
    if needed > allowed {
        let most = allowed.saturating_sub(needed - connections);
        return Err(Failure::new(format!(
            "{connections} connections need {needed} descriptors, {allowed} are allowed: raise the hard limit \
             (`ulimit -Hn`), or ask for at most {most}"
        )));
    }
    Ok(())
}

/// One connection, one message: tells whether an echo server is there, and that it has accepted all who came before.
fn probe(address: SocketAddr) -> Result<(), Failure> {
    const MESSAGE: &[u8; 8] = b"raon-ok?";
    let failed = |error: std::io::Error| raon_provider::Error::from(error);
    let mut stream = TcpStream::connect_timeout(&address, PROBE_WAIT).map_err(|error| match error.raw_os_error() {
        Some(_) => Failure::of(format!("cannot connect to {address}"), failed(error)),
        None => {
            Failure::new(format!("cannot connect to {address}: no answer in 5 s; check the address and the network"))
        }
    })?;
    let mut answer = [0; 8];
    let exchanged = stream
        .set_read_timeout(Some(PROBE_WAIT))
        .and_then(|()| stream.write_all(MESSAGE))
        // Now a server that does not echo has nothing to wait for either.
        .and_then(|()| stream.shutdown(Shutdown::Write))
        .and_then(|()| stream.read_exact(&mut answer));
    if exchanged.is_err() || &answer != MESSAGE {
        let text =
            "takes connections but does not send back what it gets: start an echo server there (`raon serve echo`)";
        return Err(Failure::new(format!("{address} {text}")));
    }
    Ok(())
}

/// Each worker's share.
fn plans(arguments: &Arguments) -> Vec<Plan> {
    let workers = u32::from(arguments.threads.workers);
    let share = |total: u32, worker: u32| total / workers + u32::from(worker < total % workers);
    let random = RandomState::new();
    let plan = |worker| {
        let mut hasher = random.build_hasher();
        hasher.write_u32(worker);
        Plan {
            address: arguments.connect,
            connections: share(arguments.connections, worker),
            idle: share(arguments.idle, worker),
            size_bytes: u64::from(arguments.size),
            pipeline: arguments.pipeline,
            duration: arguments.duration,
            connects_per_second: arguments.connect_rate.map(|rate| f64::from(rate) / f64::from(workers)),
            connects_under_way_max: CONNECTS_UNDER_WAY_MAX.div_ceil(workers),
            seed: hasher.finish(),
        }
    };
    (0..workers).map(plan).collect()
}

/// All phases up to the last answer, with a look at the server before and after.
fn measure(
    arguments: &Arguments,
    crew: &Crew,
    server: Option<&ServerProcess>,
    stop: &Arc<Stop>,
    progress: &Progress,
) -> Result<Observed, Failure> {
    let mut observed = Observed::default();
    let total = u64::from(arguments.connections) + u64::from(arguments.idle);
    let connecting = |status: Status| {
        let failed =
            if status.connect_errors > 0 { format!(", {} failed", status.connect_errors) } else { String::new() };
        progress.say(format!(
            "connecting: {} of {}{failed}",
            report::grouped(status.connected),
            report::grouped(total)
        ));
    };
    if arguments.idle > 0 {
        observed.rss_before_idle_bytes = server.and_then(ServerProcess::rss_bytes);
        crew.perform(Phase::OpenIdle, connecting)?;
        if !stop.is_asked() {
            // Connections are accepted in order: once it answers, the idle ones have been accepted.
            probe(arguments.connect)?;
        }
        observed.rss_after_idle_bytes = server.and_then(ServerProcess::rss_bytes);
    }
    crew.perform(Phase::OpenActive, connecting)?;
    if !stop.is_asked() {
        let before_ns = server.and_then(ServerProcess::cpu_ns);
        let mut speed = Speed::new(arguments.duration);
        crew.perform(Phase::Run, |status| progress.say(speed.line(status.messages, status.errors)))?;
        let after_ns = server.and_then(ServerProcess::cpu_ns);
        observed.cpu_ns = before_ns.zip(after_ns).map(|(before_ns, after_ns)| after_ns.saturating_sub(before_ns));
    }
    observed.rss_bytes = server.and_then(ServerProcess::rss_bytes);
    Ok(observed)
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

    fn line(&mut self, messages: u64, errors: u64) -> String {
        let since_s = self.last.0.elapsed().as_secs_f64();
        if since_s >= 0.5 {
            self.per_second = (messages - self.last.1) as f64 / since_s;
            self.last = (Instant::now(), messages);
        }
        let speed = report::grouped(self.per_second as u64);
        let (elapsed_s, duration_s) = (self.start.elapsed().as_secs_f64(), self.duration.as_secs_f64());
        let messages = report::grouped(messages);
        format!(
            "{elapsed_s:.1} of {duration_s:.1} s: {speed} messages/s, {messages} so far, {}",
            report::plural(errors, "error")
        )
    }
}

fn report(arguments: &Arguments, backend: &'static str, tally: &Tally, observed: &Observed) -> Report {
    let round = |figure: f64| (figure * 10.0).round() / 10.0;
    let duration_s = tally.duration_ns as f64 / 1e9;
    let grown_bytes = observed.rss_before_idle_bytes.zip(observed.rss_after_idle_bytes);
    let per_idle =
        grown_bytes.map(|(before, after)| (after as f64 - before as f64) / tally.idle_connections.max(1) as f64);
    Report {
        backend,
        connections: tally.connections,
        size_bytes: arguments.size,
        pipeline: arguments.pipeline,
        duration_s,
        messages: tally.messages,
        messages_per_s: if tally.messages == 0 { 0.0 } else { round(tally.messages as f64 / duration_s) },
        errors: tally.errors,
        corrupt_bytes: tally.corrupt_bytes,
        latency_ns: Latency {
            p50: tally.percentile_ns(50.0),
            p90: tally.percentile_ns(90.0),
            p99: tally.percentile_ns(99.0),
            p999: tally.percentile_ns(99.9),
            max: tally.latency_ns.max(),
        },
        server_cpu_ns_per_message: observed.cpu_ns.map(|cpu_ns| round(cpu_ns as f64 / tally.messages.max(1) as f64)),
        server_rss_bytes: observed.rss_bytes,
        connect_errors: tally.connect_errors,
        idle: (arguments.idle > 0)
            .then(|| Idle { idle_connections: tally.idle_connections, server_rss_bytes_per_idle: per_idle.map(round) }),
    }
}

fn text(arguments: &Arguments, report: &Report, tally: &Tally) -> String {
    let because = |count: u64, reason: &Option<String>| match reason {
        Some(reason) => format!("{} (first: {reason})", report::grouped(count)),
        None => report::grouped(count),
    };
    let latency = &report.latency_ns;
    let megabytes = report.messages_per_s * f64::from(report.size_bytes) / 1e6;
    let mut rows = vec![
        ("messages", report::grouped(report.messages)),
        ("messages/s", report::grouped(report.messages_per_s as u64)),
        ("MB/s each way", format!("{megabytes:.1}")),
        ("latency p50", report::time(latency.p50)),
        ("latency p90", report::time(latency.p90)),
        ("latency p99", report::time(latency.p99)),
        ("latency p99.9", report::time(latency.p999)),
        ("latency max", report::time(latency.max)),
        ("connect errors", because(report.connect_errors, &tally.first_connect_error)),
        ("errors", because(report.errors, &tally.first_error)),
        ("corrupt bytes", report::grouped(report.corrupt_bytes)),
    ];
    if let Some(cpu_ns) = report.server_cpu_ns_per_message.filter(|_| report.messages > 0) {
        rows.push(("server CPU per message", report::time(cpu_ns as u64)));
    }
    rows.extend(report.server_rss_bytes.map(|bytes| ("server memory (RSS)", report::bytes(bytes))));
    if let Some(idle) = &report.idle {
        rows.push(("idle connections", report::grouped(idle.idle_connections)));
        let per_idle =
            idle.server_rss_bytes_per_idle.map(|bytes| ("server memory per idle one", format!("{bytes:.0} B")));
        rows.extend(per_idle);
    }
    format!(
        "{} of {} bytes to {}, {} in flight on each, {:.1} s ({})\n{}",
        report::plural(report.connections, "connection"),
        report.size_bytes,
        arguments.connect,
        report.pipeline,
        report.duration_s,
        report.backend,
        report::rows(&rows)
    )
}
