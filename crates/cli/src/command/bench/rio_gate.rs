//! `raon bench rio-gate`: whether RIO earns its place on this machine. The rule is in `verdict.rs`.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use raon_provider::{Backend, Completions, Driver, Kind, RioFunctions};
use serde::Serialize;
use serde_json::Value;

use super::verdict::{Figure, Side, Verdict, decide};
use crate::arguments;
use crate::command::trial::Trial;
use crate::failure::{Context, Failure};
use crate::progress::Progress;
use crate::report;
use crate::stop::{INTERRUPTED, Stop};

const EXAMPLES: &str = "Examples:
  raon bench rio-gate
  raon bench rio-gate --connections 1000 --rounds 9 --seconds 10
  raon bench rio-gate --json

In each round both back ends take their turn, the one that begins changes: a new server with one worker, a new load, one
message in flight on each connection over loopback, every byte verified. What counts is the median over the rounds.

The verdict is rio if it brings at least 15 % more messages/s, or at least 30 % less server CPU per message; else iocp.
RIO pins memory and reserves a queue per connection, so a small gain does not pay for it: Microsoft's own msquic had RIO
and removed it in 2025 for its limited upside. Fewer than 256 connections decide nothing: RIO gains by batches.

Run it on a machine that is idle otherwise and has at least 4 CPUs. `--backend rio` or `--backend iocp`, RAON_BACKEND, or
`backend` in a configuration then say what to use.

Exits with 0 and a verdict, whichever it is; with 1 if one of the two is not available, a message was lost, an answer was
late for good, or a byte came back wrong.";

/// Arguments of `raon bench rio-gate`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Connections that exchange messages
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(256..=65_536))]
    connections: u32,
    /// Seconds of measurement per back end and round
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Rounds, each with both back ends
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Bytes per message
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=16_777_216))]
    size: u32,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    /// Who must earn its place
    #[arg(long, value_name = "NAME", default_value = "rio", hide = true)]
    candidate: Kind,
    /// Who has it otherwise
    #[arg(long, value_name = "NAME", default_value = "iocp", hide = true)]
    incumbent: Kind,
}

/// What one back end has shown in one round.
#[derive(Clone, Copy, Serialize)]
struct Round {
    messages: u64,
    messages_per_s: f64,
    server_cpu_ns_per_message: Option<f64>,
    latency_p50_ns: u64,
    latency_p99_ns: u64,
    errors: u64,
    corrupt_bytes: u64,
}

/// What one back end has shown in all of them.
#[derive(Serialize)]
struct BackendReport {
    backend: &'static str,
    messages_per_s: Option<Figure>,
    server_cpu_ns_per_message: Option<Figure>,
    latency_p50_ns: Option<Figure>,
    latency_p99_ns: Option<Figure>,
    errors: u64,
    corrupt_bytes: u64,
    rounds: Vec<Round>,
}

/// The result. The names are stable.
#[derive(Serialize)]
struct Report {
    connections: u32,
    size_bytes: u32,
    seconds: u32,
    rounds: u32,
    /// The candidate, then the incumbent.
    backends: [BackendReport; 2],
    /// None if something went wrong.
    verdict: Option<Verdict>,
}

/// Compares and decides.
pub(crate) fn run(arguments: &Arguments, rio: Option<RioFunctions>) -> Result<ExitCode, Failure> {
    let kinds = [arguments.candidate, arguments.incumbent];
    check(kinds, rio)?;
    let stop = Stop::install()?;
    let Some(rounds) = measure(arguments, kinds, &stop)? else { return Ok(ExitCode::from(INTERRUPTED)) };
    let report = report(arguments, kinds, rounds);
    report::print(if arguments.json { report::json(&report) } else { text(&report) });
    match report.verdict {
        Some(_) => Ok(ExitCode::SUCCESS),
        None => Err(Failure::new(format!("no verdict: {}", trouble(&report)))),
    }
}

/// Both must work here, and be two.
fn check([candidate, incumbent]: [Kind; 2], rio: Option<RioFunctions>) -> Result<(), Failure> {
    if candidate == incumbent {
        return Err(Failure::usage(format!("{candidate} cannot be compared with itself: name another --incumbent")));
    }
    for kind in [candidate, incumbent] {
        if kind == Kind::Sim {
            return Err(Failure::usage("sim is for tests inside one process: it cannot be compared"));
        }
        let opened = Driver::open(&arguments::config(Backend::Named(kind), rio));
        let doing = format!("rio-gate compares {candidate} with {incumbent}, and {kind} is not available here");
        opened.context(doing)?.shutdown(&mut Completions::with_capacity(1));
    }
    Ok(())
}

/// The rounds of each back end; `None` if it was time to stop.
fn measure(arguments: &Arguments, kinds: [Kind; 2], stop: &Arc<Stop>) -> Result<Option<[Vec<Round>; 2]>, Failure> {
    let progress = Progress::new();
    let mut rounds = [Vec::new(), Vec::new()];
    for number in 0..arguments.rounds {
        // Whoever begins may find a colder or a cooler machine: they take turns in that too.
        let order = if number % 2 == 0 { [0, 1] } else { [1, 0] };
        for side in order {
            let name = format!("round {} of {}, {}", number + 1, arguments.rounds, kinds[side]);
            let measured = trial(arguments, kinds[side], name).run(stop, &progress)?;
            let Some(measured) = measured else { return Ok(None) };
            rounds[side].push(round(&measured.load));
        }
    }
    Ok(Some(rounds))
}

fn trial(arguments: &Arguments, kind: Kind, name: String) -> Trial {
    Trial {
        kind,
        service: "echo",
        connections: arguments.connections,
        seconds: arguments.seconds,
        common: ["--workers", "1"].map(String::from).to_vec(),
        load: vec!["--size".into(), arguments.size.to_string()],
        name,
    }
}

fn round(load: &Value) -> Round {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    Round {
        messages: number(&load["messages"]),
        messages_per_s: load["messages_per_s"].as_f64().unwrap_or(0.0),
        server_cpu_ns_per_message: load["server_cpu_ns_per_message"].as_f64().filter(|ns| *ns > 0.0),
        latency_p50_ns: number(&load["latency_ns"]["p50"]),
        latency_p99_ns: number(&load["latency_ns"]["p99"]),
        errors: number(&load["errors"]) + number(&load["connect_errors"]),
        corrupt_bytes: number(&load["corrupt_bytes"]),
    }
}

fn report(arguments: &Arguments, kinds: [Kind; 2], rounds: [Vec<Round>; 2]) -> Report {
    let [candidate, incumbent] = rounds;
    let backends = [backend_report(kinds[0], candidate), backend_report(kinds[1], incumbent)];
    let is_clean = backends.iter().all(|backend| backend.errors + backend.corrupt_bytes == 0);
    let sides = side(kinds[0], &backends[0]).zip(side(kinds[1], &backends[1]));
    Report {
        connections: arguments.connections,
        size_bytes: arguments.size,
        seconds: arguments.seconds,
        rounds: arguments.rounds,
        backends,
        verdict: sides.filter(|_| is_clean).and_then(|(candidate, incumbent)| decide(candidate, incumbent)),
    }
}

fn backend_report(kind: Kind, rounds: Vec<Round>) -> BackendReport {
    let figure = |of: &dyn Fn(&Round) -> Option<f64>| Figure::of(rounds.iter().map(of));
    BackendReport {
        backend: kind.name(),
        messages_per_s: figure(&|round| Some(round.messages_per_s)),
        server_cpu_ns_per_message: figure(&|round| round.server_cpu_ns_per_message),
        latency_p50_ns: figure(&|round| Some(round.latency_p50_ns as f64)),
        latency_p99_ns: figure(&|round| Some(round.latency_p99_ns as f64)),
        errors: rounds.iter().map(|round| round.errors).sum(),
        corrupt_bytes: rounds.iter().map(|round| round.corrupt_bytes).sum(),
        rounds,
    }
}

/// `None` if any round brought nothing.
fn side(kind: Kind, report: &BackendReport) -> Option<Side> {
    let messages_per_s = report.messages_per_s.filter(|figure| figure.min > 0.0)?;
    Some(Side { kind, messages_per_s, cpu_ns_per_message: report.server_cpu_ns_per_message })
}

/// Why there is no verdict.
fn trouble(report: &Report) -> String {
    let faulty = report.backends.iter().filter(|backend| backend.errors + backend.corrupt_bytes > 0);
    let said: Vec<String> = faulty
        .map(|backend| {
            let bytes = report::plural(backend.corrupt_bytes, "corrupt byte");
            format!("{} had {} and {bytes}", backend.backend, report::plural(backend.errors, "error"))
        })
        .collect();
    if said.is_empty() { "a round brought no message; give it more --seconds".into() } else { said.join("; ") }
}

fn text(report: &Report) -> String {
    let [candidate, incumbent] = &report.backends;
    let mut table = report::table(&["", candidate.backend, incumbent.backend], false);
    let mut row = |name: &str, cell: &dyn Fn(&BackendReport) -> String| {
        table.add_row([name.to_owned(), cell(candidate), cell(incumbent)]);
    };
    let whole = |figure: f64| report::grouped(figure as u64);
    let time = |figure: f64| report::time(figure as u64);
    row("messages/s", &|backend| cell(backend.messages_per_s, whole));
    row("  lowest to highest round", &|backend| spread(backend.messages_per_s, whole));
    row("server CPU per message", &|backend| cell(backend.server_cpu_ns_per_message, time));
    row("  lowest to highest round", &|backend| spread(backend.server_cpu_ns_per_message, time));
    row("latency p50", &|backend| cell(backend.latency_p50_ns, time));
    row("latency p99", &|backend| cell(backend.latency_p99_ns, time));
    row("errors", &|backend| report::grouped(backend.errors));
    row("corrupt bytes", &|backend| report::grouped(backend.corrupt_bytes));
    report::align_figures(&mut table);
    let mut text = format!(
        "echo over loopback: {}, {}, one message in flight on each, one worker, {} of {} s, medians\n{}",
        report::plural(report.connections.into(), "connection"),
        report::bytes(report.size_bytes.into()),
        report::plural(report.rounds.into(), "round"),
        report.seconds,
        report::lines(&table)
    );
    if let Some(verdict) = &report.verdict {
        text += &format!("\n\nverdict: {}\n{}", verdict.chosen, verdict.why);
        if verdict.is_scattered {
            text += "\nthe rounds of both overlap: raise --rounds or --seconds, or free the machine, to be sure";
        }
    }
    text
}

fn cell(figure: Option<Figure>, text: impl Fn(f64) -> String) -> String {
    report::optional(figure, |figure| text(figure.median))
}

fn spread(figure: Option<Figure>, text: impl Fn(f64) -> String) -> String {
    report::optional(figure, |figure| format!("{} to {}", text(figure.min), text(figure.max)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn arguments() -> Arguments {
        Arguments {
            connections: 256,
            seconds: 1,
            rounds: 2,
            size: 64,
            json: false,
            candidate: Kind::Rio,
            incumbent: Kind::Iocp,
        }
    }

    fn load(messages_per_s: f64, corrupt_bytes: u64) -> Round {
        round(&json!({
            "messages": 1000, "messages_per_s": messages_per_s, "server_cpu_ns_per_message": 900.0,
            "latency_ns": { "p50": 10, "p99": 20 }, "errors": 0, "connect_errors": 0, "corrupt_bytes": corrupt_bytes
        }))
    }

    fn report_of(candidate: [Round; 2], incumbent: [Round; 2]) -> Report {
        report(&arguments(), [Kind::Rio, Kind::Iocp], [candidate.to_vec(), incumbent.to_vec()])
    }

    #[test]
    fn both_figures_and_the_verdict_are_told() {
        let report = report_of([load(150.0, 0); 2], [load(90.0, 0), load(110.0, 0)]);
        let text = text(&report);
        assert_eq!(report.verdict.unwrap().chosen, "rio");
        for part in ["verdict: rio", "50.0 % more messages/s", "0.0 % more server CPU", "90 to 110", "900 ns"] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
    }

    #[test]
    fn a_wrong_byte_leaves_no_verdict() {
        let report = report_of([load(150.0, 0); 2], [load(100.0, 0), load(100.0, 3)]);
        assert!(report.verdict.is_none() && !text(&report).contains("verdict"));
        assert_eq!(trouble(&report), "iocp had 0 errors and 3 corrupt bytes");
    }

    #[test]
    fn a_round_without_messages_leaves_no_verdict() {
        let report = report_of([load(150.0, 0), load(0.0, 0)], [load(100.0, 0); 2]);
        assert!(report.verdict.is_none());
        assert!(trouble(&report).contains("brought no message"));
    }
}
