//! Many connections, one message in flight on each: does all arrive, what does it cost, what does a connection hold.

use std::io;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::generator::{Faults, Generator, Window};
use crate::machine;
use crate::memory::FIRST;
use crate::meter::{Meter, Spent};
use crate::rounds::limit_note;
use crate::server::{Server, Start};
use crate::statistics::{maybe_null, quantile, quartiles};
use crate::swarm::Swarm;
use crate::table;
use crate::workload::{Workload, workload};

/// What is asked of each server, and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) connections: usize,
    pub(crate) window: Duration,
    pub(crate) rounds: usize,
    /// How long a server may take to do what a burst of connects left to do.
    pub(crate) settle: Duration,
}

/// One server's figures: medians over the runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ConnectionsFigures {
    pub(crate) server: String,
    pub(crate) connections: usize,
    pub(crate) window_s: f64,
    pub(crate) runs: usize,
    /// Runs in which others used the machine; they count.
    pub(crate) disturbed: usize,
    /// Runs in which the generator was the limit.
    pub(crate) generator_limited: usize,
    pub(crate) messages: u64,
    /// Sums over all runs: connections that broke or on which nothing came back, and bytes that were others.
    pub(crate) errors: u64,
    pub(crate) corrupt_bytes: u64,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    #[serde(deserialize_with = "maybe_null")]
    pub(crate) cpu_ns_per_message: f64,
    #[serde(deserialize_with = "maybe_null")]
    pub(crate) cpu_ns_per_message_low: f64,
    #[serde(deserialize_with = "maybe_null")]
    pub(crate) cpu_ns_per_message_high: f64,
    /// Resident bytes that each connection added before its first message, and after the load.
    pub(crate) rss_bytes_per_idle: f64,
    pub(crate) rss_bytes_per_connection: f64,
    /// As the driver counts them, where it is ours.
    pub(crate) kernel_entries_per_message: Option<f64>,
    pub(crate) server_busy: f64,
    pub(crate) generator_busy: f64,
}

struct Run {
    window: Window,
    spent: Spent,
    rss_bytes: [f64; 2],
    kernel_entries: Option<u64>,
}

/// How long a server may take until something has come back on each connection.
const PATIENCE: Duration = Duration::from_secs(20);

/// Measures all servers in interleaved rounds; `progress` is told of every run.
pub(crate) fn measure(
    servers: &[Server],
    plan: Plan,
    mut progress: impl FnMut(&str),
) -> io::Result<Vec<ConnectionsFigures>> {
    machine::make_room(FIRST + plan.connections)?;
    let mut runs: Vec<Vec<Run>> = servers.iter().map(|_| Vec::new()).collect();
    for round in 0..plan.rounds {
        for place in 0..servers.len() {
            let index = (round + place) % servers.len();
            let Server { name, .. } = &servers[index];
            progress(&format!("{} connections, round {}/{} {name}", plan.connections, round + 1, plan.rounds));
            let run = run(&servers[index], plan).map_err(|error| {
                io::Error::new(error.kind(), format!("{name} with {} connections: {error}", plan.connections))
            })?;
            runs[index].push(run);
        }
    }
    Ok(servers.iter().zip(&runs).map(|(server, runs)| summary(&server.name, plan, runs)).collect())
}

fn run(server: &Server, plan: Plan) -> io::Result<Run> {
    let mut running = server.start(Start { buffer_bytes: 4096, is_reporting: true, ..Start::default() })?;
    // What every server needs once is not counted; the first connections stay idle.
    let first = Swarm::connected(running.address, FIRST)?;
    let before = running.settled_rss_bytes(plan.settle)?;
    let swarm = Swarm::connected(running.address, plan.connections)?;
    let idle = running.settled_rss_bytes(plan.settle)?;
    let mut generator = Generator::start(swarm, asked(plan))?;
    warm_up(&mut generator, plan.window / 4)?;
    let counted = running.counters()?;
    let meter = Meter::start(&running)?;
    let window = generator.run(plan.window)?;
    let spent = meter.stop(window.elapsed)?;
    let kernel_entries = running.counters()?.zip(counted).map(|(now, then)| now.kernel_entries - then.kernel_entries);
    let loaded = running.rss_bytes()?;
    let per_connection = |bytes: u64| (bytes as f64 - before as f64) / plan.connections as f64;
    drop(first);
    Ok(Run { window, spent, rss_bytes: [per_connection(idle), per_connection(loaded)], kernel_entries })
}

fn asked(plan: Plan) -> Workload {
    workload("connections", plan.connections, 64, 1)
}

/// So long, and until something has come back on every connection.
fn warm_up(generator: &mut Generator, duration: Duration) -> io::Result<()> {
    let start = Instant::now();
    while generator.run(duration)?.faults.silent > 0 && start.elapsed() < PATIENCE {}
    Ok(())
}

fn summary(name: &str, plan: Plan, runs: &[Run]) -> ConnectionsFigures {
    let median = |value: &dyn Fn(&Run) -> f64| quantile(runs.iter().map(value).collect(), 0.5);
    let messages = |run: &Run| run.window.messages.max(1) as f64;
    let costs: Vec<f64> = runs.iter().map(|run| run.spent.server_cpu.as_nanos() as f64 / messages(run)).collect();
    let [cpu_ns_per_message_low, cpu_ns_per_message, cpu_ns_per_message_high] = quartiles(&costs);
    let faults = |value: fn(&Faults) -> u64| runs.iter().map(|run| value(&run.window.faults)).sum();
    let entries = median(&|run| run.kernel_entries.map_or(f64::NAN, |entries| entries as f64 / messages(run)));
    ConnectionsFigures {
        server: name.into(),
        connections: plan.connections,
        window_s: plan.window.as_secs_f64(),
        runs: runs.len(),
        disturbed: runs.iter().filter(|run| run.spent.is_disturbed()).count(),
        generator_limited: runs.iter().filter(|run| run.spent.is_generator_limited()).count(),
        messages: median(&|run| run.window.messages as f64) as u64,
        errors: faults(|faults| faults.errors + faults.silent as u64),
        corrupt_bytes: faults(|faults| faults.corrupt_bytes),
        p50_ns: median(&|run| run.window.latency_ns.value_at_quantile(0.5) as f64) as u64,
        p99_ns: median(&|run| run.window.latency_ns.value_at_quantile(0.99) as f64) as u64,
        cpu_ns_per_message,
        cpu_ns_per_message_low,
        cpu_ns_per_message_high,
        rss_bytes_per_idle: median(&|run| run.rss_bytes[0]),
        rss_bytes_per_connection: median(&|run| run.rss_bytes[1]),
        kernel_entries_per_message: Some(entries).filter(|entries| entries.is_finite()),
        server_busy: median(&|run| run.spent.server_busy),
        generator_busy: median(&|run| run.spent.generator_busy),
    }
}

/// An error if anything was lost or came back wrong, in any run of any server.
pub(crate) fn check(figures: &[ConnectionsFigures]) -> io::Result<()> {
    match figures.iter().find(|row| row.errors + row.corrupt_bytes > 0) {
        Some(row) => {
            let ConnectionsFigures { server, errors, corrupt_bytes, .. } = row;
            Err(io::Error::other(format!("{server}: {errors} errors, {corrupt_bytes} corrupt bytes")))
        }
        None => Ok(()),
    }
}

/// The figures for people.
pub(crate) fn table(figures: &[ConnectionsFigures]) -> String {
    let head = [
        "server",
        "runs",
        "disturbed",
        "messages",
        "errors",
        "corrupt",
        "p50 ms",
        "p99 ms",
        "CPU us/msg",
        "bytes/idle",
        "bytes/loaded",
        "entries/msg",
        "busy s/g",
    ];
    let row = |row: &ConnectionsFigures| {
        vec![
            row.server.clone(),
            row.runs.to_string(),
            row.disturbed.to_string(),
            row.messages.to_string(),
            row.errors.to_string(),
            row.corrupt_bytes.to_string(),
            format!("{:.1}", row.p50_ns as f64 / 1e6),
            format!("{:.1}", row.p99_ns as f64 / 1e6),
            format!("{:.2}", row.cpu_ns_per_message / 1e3),
            format!("{:.0}", row.rss_bytes_per_idle),
            format!("{:.0}", row.rss_bytes_per_connection),
            table::number(row.kernel_entries_per_message.unwrap_or(f64::NAN), 3),
            format!("{:.0}/{:.0}%", row.server_busy * 100.0, row.generator_busy * 100.0),
        ]
    };
    let limited = figures.iter().filter(|row| row.generator_limited > 0);
    let notes = limited.map(|row| limit_note(&row.server, row.generator_limited, row.runs));
    table::lines(&head, &figures.iter().map(row).collect::<Vec<_>>()) + &notes.collect::<String>()
}
