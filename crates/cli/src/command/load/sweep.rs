//! Latency against rate: an open loop at each of several rates, on the same connections.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::Arguments;
use super::datagrams::{self, Datagrams};
use super::figures::{Latency, Limit, Open, Spread, rounded};
use super::session::Session;
use super::talk::Talk;
use crate::failure::Failure;
use crate::generator::{Load, Mode, Tally};
use crate::plot::{Heading, Point};
use crate::stop::{INTERRUPTED, Stop};
use crate::{plot, report};

const STEPS: u32 = 10;
/// The last step, compared with what the closed loop reached.
const REACH: f64 = 1.1;
/// How long the closed loop is.
const CALIBRATION: Duration = Duration::from_secs(2);
/// Messages in flight in all: enough to keep the server busy. With more, what is measured is how many share a packet.
const CALIBRATION_IN_FLIGHT: u32 = 64;

/// The result. The names are stable.
#[derive(Serialize)]
struct Report {
    backend: &'static str,
    connections: u64,
    idle_connections: u64,
    size_bytes: u32,
    #[serde(flatten)]
    spread: Spread,
    /// How long each rate was offered.
    step_s: f64,
    /// None if the rates were given.
    closed_loop: Option<ClosedLoop>,
    connect_errors: u64,
    steps: Vec<Step>,
}

/// What the rates were derived from.
#[derive(Serialize)]
struct ClosedLoop {
    pipeline: u32,
    messages_per_s: f64,
}

#[derive(Serialize)]
struct Step {
    #[serde(flatten)]
    open: Open,
    achieved_per_s: f64,
    duration_s: f64,
    messages: u64,
    latency_ns: Latency,
    #[serde(flatten)]
    datagrams: Option<Datagrams>,
    #[serde(flatten)]
    talk: Option<Talk>,
    errors: u64,
    corrupt_bytes: u64,
}

/// Measures at each rate and reports.
pub(super) fn run(arguments: &Arguments, stop: &Arc<Stop>) -> Result<ExitCode, Failure> {
    let Some(mut session) = Session::open(arguments, stop)? else { return Ok(stopped()) };
    let (closed_loop, rates) = match &arguments.open.rates {
        Some(rates) => (None, rates.0.clone()),
        None => calibrate(arguments, &session, stop)?,
    };
    let (mut first_error, mut silence) = (None, None);
    let mut steps = Vec::new();
    let (mut has_lost, mut has_answers) = (false, false);
    for (number, rate) in rates.iter().enumerate() {
        if has_lost {
            session.connect_again()?;
        }
        if stop.is_asked() || session.exchanging == 0 {
            break;
        }
        let name = format!("rate {} of {}, {}/s, ", number + 1, rates.len(), report::grouped((*rate).into()));
        let mode = Mode::Open(arguments.open.offer(*rate));
        let tally = session.measure(Load { duration: arguments.duration, mode }, &name)?.tally;
        steps.push(step(arguments, *rate, &tally));
        // A connection that is lost is an error.
        has_lost = tally.errors > 0;
        has_answers |= tally.messages > 0;
        silence = silence.or(datagrams::silence(arguments, &tally));
        first_error = first_error.or(tally.first_error);
    }
    let backend = session.backend();
    let connected = session.close()?;
    if steps.is_empty() && stop.is_asked() {
        return Ok(stopped());
    }
    let code =
        conclude(arguments, report(arguments, backend, closed_loop, &connected, steps), &connected, first_error)?;
    // Of some rates everything may be lost; of all of them, nobody is there.
    silence.filter(|_| !has_answers).map_or(Ok(code), Err)
}

fn stopped() -> ExitCode {
    eprintln!("stopped before the first rate was measured");
    ExitCode::from(INTERRUPTED)
}

/// What a closed loop reaches, and the rates up to somewhat beyond it.
fn calibrate(
    arguments: &Arguments,
    session: &Session<'_>,
    stop: &Stop,
) -> Result<(Option<ClosedLoop>, Vec<u32>), Failure> {
    let pipeline = CALIBRATION_IN_FLIGHT.div_ceil(arguments.connections);
    let load = Load { duration: arguments.duration.min(CALIBRATION), mode: Mode::Closed { pipeline } };
    let tally = session.measure(load, "looking for the rates in a closed loop, ")?.tally;
    let failed = |reason: &str| Failure::of("the closed loop before the sweep failed", reason);
    match tally.first_error {
        Some(reason) => Err(failed(&reason)),
        None if tally.messages == 0 && !stop.is_asked() => Err(failed("no answers; name the rates with --rates")),
        None => {
            let rates = steps_up_to(REACH * tally.per_second());
            Ok((Some(ClosedLoop { pipeline, messages_per_s: rounded(tally.per_second()) }), rates))
        }
    }
}

/// Equal steps, with three digits that count.
fn steps_up_to(last_per_s: f64) -> Vec<u32> {
    let mut rates: Vec<u32> = (1..=STEPS)
        .map(|step| {
            let rate = last_per_s * f64::from(step) / f64::from(STEPS);
            let unit = 10_f64.powf((rate.max(1.0).log10().floor() - 2.0).max(0.0));
            ((rate / unit).round() * unit).clamp(1.0, 1e7) as u32
        })
        .collect();
    rates.dedup();
    rates
}

fn step(arguments: &Arguments, rate: u32, tally: &Tally) -> Step {
    Step {
        open: Open::of(rate, tally),
        achieved_per_s: rounded(tally.per_second()),
        duration_s: tally.duration_ns as f64 / 1e9,
        messages: tally.messages,
        latency_ns: Latency::of(tally),
        datagrams: Datagrams::of(arguments, tally),
        talk: Talk::of(arguments, tally),
        errors: tally.errors,
        corrupt_bytes: tally.corrupt_bytes,
    }
}

fn report(
    arguments: &Arguments,
    backend: &'static str,
    closed_loop: Option<ClosedLoop>,
    connected: &Tally,
    steps: Vec<Step>,
) -> Report {
    Report {
        backend,
        connections: connected.connections,
        idle_connections: connected.idle_connections,
        size_bytes: arguments.size_bytes(),
        spread: Spread::of(&arguments.open.offer(0)),
        step_s: arguments.duration.as_secs_f64(),
        closed_loop,
        connect_errors: connected.connect_errors,
        steps,
    }
}

/// Draws, prints and judges.
fn conclude(
    arguments: &Arguments,
    report: Report,
    connected: &Tally,
    first_error: Option<String>,
) -> Result<ExitCode, Failure> {
    if let Some(path) = &arguments.plot {
        let points: Vec<Point> = report.steps.iter().map(point).collect();
        plot::write(path, &plot::sweep(&heading(arguments, &report), &points)?)?;
    }
    if arguments.json {
        report::print(report::json(&report));
    } else {
        report::print(text(arguments, &report));
    }
    let errors = connected.errors + report.steps.iter().map(|step| step.errors).sum::<u64>();
    let first_error = connected.first_error.clone().or(first_error);
    for (what, count, reason) in [
        ("error", errors, first_error),
        ("connect error", report.connect_errors, connected.first_connect_error.clone()),
    ] {
        if let (Some(reason), 1..) = (reason, count) {
            eprintln!("error: {}, the first: {reason}", report::plural(count, what));
        }
    }
    let corrupt_bytes: u64 = report.steps.iter().map(|step| step.corrupt_bytes).sum();
    let is_clean = errors + corrupt_bytes + report.connect_errors == 0;
    Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(arguments: &Arguments, report: &Report) -> String {
    let mut header = vec!["offered/s", "achieved/s", "p50", "p99", "p99.9", "max", "lag p99", "unsent"];
    header.extend(arguments.udp.then_some("lost"));
    header.extend(["errors", "limited by"]);
    let mut table = report::table(&header, false);
    for step in &report.steps {
        table.add_row(row(step));
    }
    report::align_figures(&mut table);
    let mut text = format!("{}\n", conditions(arguments, report));
    if let Some(ClosedLoop { pipeline, messages_per_s }) = report.closed_loop {
        let reached = report::grouped(messages_per_s as u64);
        text += &format!("a closed loop with {pipeline} in flight on each reached {reached} messages/s\n");
    }
    text += &report::lines(&table);
    if report.steps.iter().any(|step| step.open.limited_by == Some(Limit::Generator)) {
        text += "\nwhere the generator itself was the limit, its lag is a good part of the latencies:\n\
                 raise --workers, or give it CPUs of its own with --pin";
    }
    if let Some(path) = &arguments.plot {
        text += &format!("\ndrawn in {}", path.display());
    }
    text
}

fn row(step: &Step) -> Vec<String> {
    let (open, latency) = (&step.open, &step.latency_ns);
    let mut row = vec![
        report::grouped(open.offered_per_s.round() as u64),
        report::grouped(step.achieved_per_s.round() as u64),
        report::time(latency.p50),
        report::time(latency.p99),
        report::time(latency.p999),
        report::time(latency.max),
        report::time(open.lag_ns.p99),
        report::grouped(open.unsent),
    ];
    row.extend(step.datagrams.as_ref().map(Datagrams::lost));
    row.extend([
        report::grouped(step.errors),
        match open.limited_by {
            None => "-".into(),
            Some(Limit::Generator) => "generator".into(),
            Some(Limit::Server) => "server".into(),
        },
    ]);
    row
}

fn conditions(arguments: &Arguments, report: &Report) -> String {
    let idle = match report.idle_connections {
        0 => String::new(),
        idle => format!(" beside {} idle ones", report::grouped(idle)),
    };
    format!(
        "{}{idle} to {}, messages {}, {:.1} s per rate ({})",
        arguments.exchange(report.connections),
        arguments.connect,
        report.spread.text(),
        report.step_s,
        report.backend
    )
}

fn heading(arguments: &Arguments, report: &Report) -> Heading {
    Heading { title: "Latency against rate".into(), subtitle: conditions(arguments, report) }
}

fn point(step: &Step) -> Point {
    let latency = &step.latency_ns;
    Point {
        offered_per_s: step.open.offered_per_s,
        latencies_ns: [latency.p50, latency.p99, latency.p999],
        is_generator_late: step.open.limited_by == Some(Limit::Generator),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_equal_and_have_three_digits() {
        assert_eq!(steps_up_to(123_456.0)[..3], [12_300, 24_700, 37_000]);
        assert_eq!(steps_up_to(123_456.0).last(), Some(&123_000));
        assert_eq!(steps_up_to(20.0), [2, 4, 6, 8, 10, 12, 14, 16, 18, 20]);
        assert_eq!(steps_up_to(2.0), [1, 2]);
        assert_eq!(steps_up_to(1e9).last(), Some(&10_000_000));
    }
}
