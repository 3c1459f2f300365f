//! One load, in a closed loop or in an open one.

use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;

use super::Arguments;
use super::datagrams::{self, Datagrams};
use super::figures::{Latency, Limit, Open, Spread, because, rounded};
use super::session::{Measured, Session};
use super::talk::Talk;
use crate::failure::Failure;
use crate::generator::{Load, Mode, Tally};
use crate::plot::Heading;
use crate::stop::{INTERRUPTED, Stop};
use crate::{plot, report};

/// The result. The names are stable.
#[derive(Serialize)]
struct Report {
    backend: &'static str,
    connections: u64,
    size_bytes: u32,
    #[serde(flatten)]
    way: Way,
    #[serde(flatten)]
    datagrams: Option<Datagrams>,
    #[serde(flatten)]
    talk: Option<Talk>,
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

/// What is particular to either loop.
#[derive(Serialize)]
#[serde(untagged)]
enum Way {
    Closed { pipeline: u32 },
    Open { open_loop: OpenLoop },
}

#[derive(Serialize)]
struct OpenLoop {
    #[serde(flatten)]
    spread: Spread,
    #[serde(flatten)]
    figures: Open,
}

#[derive(Serialize)]
struct Idle {
    idle_connections: u64,
    server_rss_bytes_per_idle: Option<f64>,
}

/// Loads and reports.
pub(super) fn run(arguments: &Arguments, stop: &Arc<Stop>) -> Result<ExitCode, Failure> {
    let Some(session) = Session::open(arguments, stop)? else {
        eprintln!("stopped before the measurement began");
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let mut measured = session.measure(load(arguments), "")?;
    let (backend, idle_rss_bytes) = (session.backend(), session.idle_rss_bytes);
    measured.tally.add(session.close()?);
    let report = report(arguments, backend, &measured, idle_rss_bytes);
    if let Some(path) = &arguments.plot {
        let name = report.open().map_or("latency", |_| "latency from when a message was due");
        plot::write(path, &plot::latency(&heading(arguments, &report), name, &measured.tally.latency_ns)?)?;
    }
    if arguments.json {
        report::print(report::json(&report));
    } else {
        report::print(text(arguments, &report, &measured.tally));
    }
    if let Some(silence) = datagrams::silence(arguments, &measured.tally) {
        return Err(silence);
    }
    if let Some(remark) = remark(&report) {
        eprintln!("{remark}");
    }
    Ok(if is_clean(&report) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn load(arguments: &Arguments) -> Load {
    let mode = match arguments.open.rate {
        Some(per_second) => Mode::Open(arguments.open.offer(per_second)),
        None => Mode::Closed { pipeline: arguments.pipeline() },
    };
    Load { duration: arguments.duration, mode }
}

fn report(
    arguments: &Arguments,
    backend: &'static str,
    measured: &Measured,
    idle_rss_bytes: Option<(u64, u64)>,
) -> Report {
    let tally = &measured.tally;
    let way = match arguments.open.rate {
        Some(rate) => {
            let spread = Spread::of(&arguments.open.offer(rate));
            Way::Open { open_loop: OpenLoop { spread, figures: Open::of(rate, tally) } }
        }
        None => Way::Closed { pipeline: arguments.pipeline() },
    };
    let per_idle =
        |(before, after): (u64, u64)| rounded((after as f64 - before as f64) / tally.idle_connections.max(1) as f64);
    let per_message = |cpu_ns: u64| rounded(cpu_ns as f64 / tally.messages.max(1) as f64);
    Report {
        backend,
        connections: tally.connections,
        size_bytes: arguments.size_bytes(),
        way,
        datagrams: Datagrams::of(arguments, tally),
        talk: Talk::of(arguments, tally),
        duration_s: tally.duration_ns as f64 / 1e9,
        messages: tally.messages,
        messages_per_s: rounded(tally.per_second()),
        errors: tally.errors,
        corrupt_bytes: tally.corrupt_bytes,
        latency_ns: Latency::of(tally),
        server_cpu_ns_per_message: measured.server_cpu_ns.map(per_message),
        server_rss_bytes: measured.server_rss_bytes,
        connect_errors: tally.connect_errors,
        idle: (arguments.idle > 0).then(|| Idle {
            idle_connections: tally.idle_connections,
            server_rss_bytes_per_idle: idle_rss_bytes.map(per_idle),
        }),
    }
}

fn is_clean(report: &Report) -> bool {
    let unsent = report.open().map_or(0, |open| open.figures.unsent);
    report.errors + report.corrupt_bytes + report.connect_errors + unsent == 0
}

impl Report {
    fn open(&self) -> Option<&OpenLoop> {
        match &self.way {
            Way::Open { open_loop } => Some(open_loop),
            Way::Closed { .. } => None,
        }
    }

    /// Whether what comes back is what was sent, byte by byte.
    fn is_of_bytes(&self) -> bool {
        self.datagrams.is_none() && self.talk.is_none()
    }

    /// What was asked of the server, in words.
    fn asked(&self) -> String {
        match &self.way {
            Way::Closed { pipeline } => format!("{} in flight on each", report::grouped(u64::from(*pipeline))),
            Way::Open { open_loop: OpenLoop { spread, figures } } => {
                format!("{}/s {}", report::plural(figures.rate_per_s.into(), "message"), spread.text())
            }
        }
    }
}

fn text(arguments: &Arguments, report: &Report, tally: &Tally) -> String {
    let mut rows = report.datagrams.as_ref().map_or_else(Vec::new, |datagrams| datagrams.rows(tally));
    rows.extend(speed_rows(report));
    rows.extend(latency_rows(report));
    rows.extend(report.talk.as_ref().map_or_else(Vec::new, Talk::rows));
    rows.push(("connect errors", because(report.connect_errors, tally.first_connect_error.as_ref())));
    rows.push(("errors", because(report.errors, tally.first_error.as_ref())));
    if report.is_of_bytes() {
        rows.push(("corrupt bytes", report::grouped(report.corrupt_bytes)));
    }
    rows.extend(server_rows(report));
    if let Some(path) = &arguments.plot {
        rows.push(("drawn in", path.display().to_string()));
    }
    format!(
        "{} to {}, {}, {:.1} s ({})\n{}",
        arguments.exchange(report.connections),
        arguments.connect,
        report.asked(),
        report.duration_s,
        report.backend,
        report::rows(&rows)
    )
}

type Row = (&'static str, String);

fn speed_rows(report: &Report) -> Vec<Row> {
    let megabytes = report.messages_per_s * f64::from(report.size_bytes) / 1e6;
    let mut rows = Vec::new();
    if report.datagrams.is_none() {
        rows.push(("messages", report::grouped(report.messages)));
    }
    if let Some(open) = report.open() {
        rows.push(("offered messages/s", report::grouped(open.figures.offered_per_s.round() as u64)));
        rows.push(("achieved messages/s", report::grouped(report.messages_per_s.round() as u64)));
    } else {
        rows.push(("messages/s", report::grouped(report.messages_per_s as u64)));
    }
    if report.talk.is_none() {
        rows.push(("MB/s each way", format!("{megabytes:.1}")));
    }
    rows
}

fn latency_rows(report: &Report) -> Vec<Row> {
    let latency = &report.latency_ns;
    let mut rows = vec![
        ("latency p50", report::time(latency.p50)),
        ("latency p90", report::time(latency.p90)),
        ("latency p99", report::time(latency.p99)),
        ("latency p99.9", report::time(latency.p999)),
        ("latency max", report::time(latency.max)),
    ];
    if let Some(OpenLoop { figures, .. }) = report.open() {
        rows.extend([
            ("generator's lag p50", report::time(figures.lag_ns.p50)),
            ("generator's lag p99", report::time(figures.lag_ns.p99)),
            ("generator's lag max", report::time(figures.lag_ns.max)),
            ("backlogged", report::grouped(figures.backlogged)),
            ("unsent", report::grouped(figures.unsent)),
        ]);
        if report.datagrams.is_none() {
            rows.push(("unanswered", report::grouped(figures.unanswered)));
        }
    }
    rows
}

fn server_rows(report: &Report) -> Vec<Row> {
    let mut rows = Vec::new();
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
    rows
}

/// Who did not keep up, if somebody did not.
fn remark(report: &Report) -> Option<String> {
    let figures = &report.open()?.figures;
    Some(match (figures.limited_by?, &report.datagrams) {
        (Limit::Generator, _) => format!(
            "warning: the generator itself was the limit: 1 % of the messages left {} or more after they were due, and \
             that is in the latencies; raise --workers, give it CPUs of its own with --pin, or lower --rate",
            report::time(figures.lag_ns.p99)
        ),
        (Limit::Server, Some(datagrams)) => format!(
            "warning: server or network did not keep up: lost {}, never sent {}; lower --rate for a load that they bear",
            datagrams.lost(),
            report::grouped(figures.unsent)
        ),
        (Limit::Server, None) => {
            let share = 100.0 * report.messages_per_s / figures.offered_per_s.max(1.0);
            format!(
                "warning: the server did not keep up: it answered {share:.0} % of what was offered per second, and what \
                 waits for it grows with the time measured; lower --rate for latencies that last"
            )
        }
    })
}

fn heading(arguments: &Arguments, report: &Report) -> Heading {
    let title = match report.open() {
        Some(open) => format!("Latency at {}/s", report::plural(open.figures.rate_per_s.into(), "message")),
        None => format!("Latency in a closed loop of {} messages/s", report::grouped(report.messages_per_s as u64)),
    };
    Heading {
        title,
        subtitle: format!(
            "{}, {}, {} in {:.1} s, {}",
            arguments.exchange(report.connections),
            report.asked(),
            report::plural(report.messages, "message"),
            report.duration_s,
            report.backend
        ),
    }
}
