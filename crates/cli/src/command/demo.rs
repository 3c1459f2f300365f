//! `raon demo`: a server and a load on each back end of this machine in turn, as processes of their own.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use raon_provider::{Availability, Kind};
use serde::Serialize;
use serde_json::Value;

use super::trial::{Measured, Trial};
use crate::failure::Failure;
use crate::progress::Progress;
use crate::report;
use crate::stop::{INTERRUPTED, Stop};

const EXAMPLES: &str = "Examples:
  raon demo
  raon demo --seconds 10
  raon demo --json

For figures of one's own: `raon serve echo` in one terminal, `raon load echo` in another.";

/// Small messages on some connections, one in flight on each: what game servers live on.
const CONNECTIONS: u32 = 64;
const SIZE_BYTES: &str = "64";
/// Of the legs over UDP and on the engine, which are there to be seen rather than to be compared.
const SHORT_SECONDS: u32 = 1;

/// Arguments of `raon demo`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Seconds of measurement per back end
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// What one back end has shown.
#[derive(Serialize)]
struct Run {
    backend: &'static str,
    available: bool,
    /// Why it is not available.
    reason: Option<String>,
    #[serde(flatten)]
    figures: Option<Figures>,
    udp: Option<UdpFigures>,
    pingpong: Option<PingFigures>,
}

/// What a short leg of pings has shown: sessions on the engine.
#[derive(Serialize)]
struct PingFigures {
    messages: u64,
    messages_per_s: f64,
    latency_p50_ns: u64,
    latency_p99_ns: u64,
    errors: u64,
}

/// What a short leg over UDP has shown. A lost datagram is no error.
#[derive(Serialize)]
struct UdpFigures {
    sent: u64,
    answered_per_s: f64,
    latency_p50_ns: u64,
    latency_p99_ns: u64,
    lost: u64,
    corrupt: u64,
}

/// What is compared.
fn echo(kind: Kind, seconds: u32) -> Trial {
    Trial { load: size(), ..trial(kind, "echo", "", seconds) }
}

fn echo_udp(kind: Kind) -> Trial {
    Trial { common: vec!["--udp".into()], load: size(), ..trial(kind, "echo", " over UDP", SHORT_SECONDS) }
}

fn pingpong(kind: Kind) -> Trial {
    Trial { common: ["--workers", "1"].map(String::from).to_vec(), ..trial(kind, "pingpong", ", pings", SHORT_SECONDS) }
}

fn size() -> Vec<String> {
    ["--size", SIZE_BYTES].map(String::from).to_vec()
}

fn trial(kind: Kind, service: &'static str, name: &str, seconds: u32) -> Trial {
    let name = format!("{kind}{name}");
    Trial { kind, service, connections: CONNECTIONS, seconds, common: Vec::new(), load: Vec::new(), name }
}

#[derive(Serialize)]
struct Figures {
    messages: u64,
    messages_per_s: f64,
    latency_p50_ns: u64,
    latency_p99_ns: u64,
    server_cpu_ns_per_message: Option<f64>,
    kernel_entries_per_message: Option<f64>,
    errors: u64,
    corrupt_bytes: u64,
}

#[derive(Serialize)]
struct Report {
    runs: Vec<Run>,
    /// What `auto` would take.
    chosen: Option<&'static str>,
    chosen_why: String,
}

/// Shows each back end at work.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let available = Kind::available();
    let environment = super::info::environment(&available)?;
    let stop = Stop::install()?;
    let progress = Progress::new();
    let mut runs = Vec::new();
    for availability in &available {
        let legs = match availability.error {
            Some(_) => Some(Legs::default()),
            None => try_all(availability.kind, arguments.seconds, &stop, &progress)?,
        };
        let Some(Legs { figures, udp, pingpong }) = legs else {
            return Ok(ExitCode::from(INTERRUPTED));
        };
        let reason = availability.error.map(|error| error.to_string());
        runs.push(Run {
            backend: availability.kind.name(),
            available: figures.is_some(),
            reason,
            figures,
            udp,
            pingpong,
        });
    }
    drop(progress);
    let (chosen, chosen_why) = choice(&available, environment.as_deref());
    let report = Report { runs, chosen, chosen_why };
    report::print(if arguments.json { report::json(&report) } else { text(&report, arguments.seconds) });
    let is_clean = |figures: &Figures| figures.errors + figures.corrupt_bytes == 0;
    let all_clean = report.runs.iter().filter_map(|run| run.figures.as_ref()).all(is_clean)
        && report.runs.iter().filter_map(|run| run.udp.as_ref()).all(|udp| udp.corrupt == 0)
        && report.runs.iter().filter_map(|run| run.pingpong.as_ref()).all(|pings| pings.errors == 0);
    Ok(if all_clean && report.chosen.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What `auto` would take, and why.
fn choice(available: &[Availability], environment: Option<&str>) -> (Option<&'static str>, String) {
    let opened = super::info::open_best(available, environment);
    let why = super::info::chosen_why(available, environment, opened.as_ref());
    (opened.map(|info| info.kind.name()), why)
}

/// What the legs on one back end have shown.
#[derive(Default)]
struct Legs {
    figures: Option<Figures>,
    udp: Option<UdpFigures>,
    pingpong: Option<PingFigures>,
}

/// All legs on one back end; `None` if it was time to stop.
fn try_all(kind: Kind, seconds: u32, stop: &Arc<Stop>, progress: &Progress) -> Result<Option<Legs>, Failure> {
    let run = |trial: Trial| trial.run(stop, progress);
    let Some(Measured { load, server }) = run(echo(kind, seconds))? else { return Ok(None) };
    let Some(udp) = run(echo_udp(kind))? else { return Ok(None) };
    let Some(pings) = run(pingpong(kind))? else { return Ok(None) };
    Ok(Some(Legs {
        figures: Some(figures(&load, &server)),
        udp: Some(udp_figures(&udp.load)),
        pingpong: Some(ping_figures(&pings.load)),
    }))
}

fn figures(measured: &Value, summary: &Value) -> Figures {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let messages = number(&measured["messages"]);
    let entries = summary["kernel_entries"].as_u64().filter(|_| messages > 0);
    Figures {
        messages,
        messages_per_s: measured["messages_per_s"].as_f64().unwrap_or(0.0),
        latency_p50_ns: number(&measured["latency_ns"]["p50"]),
        latency_p99_ns: number(&measured["latency_ns"]["p99"]),
        server_cpu_ns_per_message: measured["server_cpu_ns_per_message"].as_f64(),
        kernel_entries_per_message: entries.map(|entries| entries as f64 / messages as f64),
        errors: number(&measured["errors"]) + number(&measured["connect_errors"]),
        corrupt_bytes: number(&measured["corrupt_bytes"]),
    }
}

fn udp_figures(measured: &Value) -> UdpFigures {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    UdpFigures {
        sent: number(&measured["sent"]),
        answered_per_s: measured["messages_per_s"].as_f64().unwrap_or(0.0),
        latency_p50_ns: number(&measured["latency_ns"]["p50"]),
        latency_p99_ns: number(&measured["latency_ns"]["p99"]),
        lost: number(&measured["lost"]),
        corrupt: number(&measured["corrupt"]),
    }
}

fn ping_figures(measured: &Value) -> PingFigures {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    PingFigures {
        messages: number(&measured["messages"]),
        messages_per_s: measured["messages_per_s"].as_f64().unwrap_or(0.0),
        latency_p50_ns: number(&measured["latency_ns"]["p50"]),
        latency_p99_ns: number(&measured["latency_ns"]["p99"]),
        errors: number(&measured["errors"]) + number(&measured["connect_errors"]),
    }
}

fn text(report: &Report, seconds: u32) -> String {
    let mut names = vec![""];
    names.extend(report.runs.iter().map(|run| run.backend));
    let mut table = report::table(&names, false);
    let mut row = |name: &str, cell: &dyn Fn(&Figures) -> String| {
        let cells = report.runs.iter().map(|run| run.figures.as_ref().map_or("-".into(), cell));
        table.add_row(std::iter::once(name.to_owned()).chain(cells));
    };
    row("messages/s", &|figures| report::grouped(figures.messages_per_s as u64));
    row("latency p50", &|figures| report::time(figures.latency_p50_ns));
    row("latency p99", &|figures| report::time(figures.latency_p99_ns));
    let cpu = |figures: &Figures| report::optional(figures.server_cpu_ns_per_message, |ns| report::time(ns as u64));
    row("server CPU per message", &cpu);
    let entries =
        |figures: &Figures| report::optional(figures.kernel_entries_per_message, |count| format!("{count:.3}"));
    row("kernel entries per message", &entries);
    row("errors", &|figures| report::grouped(figures.errors));
    row("corrupt bytes", &|figures| report::grouped(figures.corrupt_bytes));
    let mut row = |name: &str, cell: &dyn Fn(&UdpFigures) -> String| {
        let cells = report.runs.iter().map(|run| run.udp.as_ref().map_or("-".into(), cell));
        table.add_row(std::iter::once(name.to_owned()).chain(cells));
    };
    row("UDP: datagrams/s", &|udp| report::grouped(udp.answered_per_s as u64));
    row("UDP: latency p50", &|udp| report::time(udp.latency_p50_ns));
    row("UDP: latency p99", &|udp| report::time(udp.latency_p99_ns));
    row("UDP: lost datagrams", &|udp| format!("{} of {}", report::grouped(udp.lost), report::grouped(udp.sent)));
    row("UDP: corrupt datagrams", &|udp| report::grouped(udp.corrupt));
    let mut row = |name: &str, cell: &dyn Fn(&PingFigures) -> String| {
        let cells = report.runs.iter().map(|run| run.pingpong.as_ref().map_or("-".into(), cell));
        table.add_row(std::iter::once(name.to_owned()).chain(cells));
    };
    row("sessions: pings/s", &|pings| report::grouped(pings.messages_per_s as u64));
    row("sessions: latency p50", &|pings| report::time(pings.latency_p50_ns));
    row("sessions: latency p99", &|pings| report::time(pings.latency_p99_ns));
    row("sessions: errors", &|pings| report::grouped(pings.errors));
    report::align_figures(&mut table);
    let mut text = format!(
        "echo over loopback: {CONNECTIONS} connections, {SIZE_BYTES} bytes, one message in flight on each, \
         {seconds} s per back end over TCP,\nthen {SHORT_SECONDS} s over UDP, then {SHORT_SECONDS} s of pings to sessions \
         of the engine\n{}\n",
        report::lines(&table)
    );
    for run in &report.runs {
        if let Some(reason) = &run.reason {
            text.push_str(&format!("\n{} is not available: {reason}", run.backend));
        }
    }
    text.push_str(&format!("\nauto chooses {}: {}", report.chosen.unwrap_or("nothing"), report.chosen_why));
    text.push_str(&comparison(&report.runs).unwrap_or_default());
    text
}

/// The first two back ends in one sentence.
fn comparison(runs: &[Run]) -> Option<String> {
    let mut measured = runs.iter().filter_map(|run| Some((run.backend, run.figures.as_ref()?)));
    let ((first, one), (second, other)) = (measured.next()?, measured.next()?);
    let speed = one.messages_per_s / other.messages_per_s;
    let cpu = one.server_cpu_ns_per_message? / other.server_cpu_ns_per_message?;
    let is_sound = speed.is_finite() && cpu.is_finite();
    is_sound.then(|| {
        format!("\nin this run {first} had {speed:.2} × the messages/s of {second}, at {cpu:.2} × the CPU per message")
    })
}
