//! Entries into the kernel per message: as `strace -c -f` counts, from before the first connection on, and as the driver
//! counts by itself.
//!
//! strace slows a server down, which makes its turns larger and its entries fewer. So the driver's counter is read twice:
//! under strace, where both must agree, and alone, which is what a server does.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::generator::Generator;
use crate::machine;
use crate::server::{Running, Server, Start};
use crate::strace::{Calls, CountsFile};
use crate::swarm::Swarm;
use crate::table;
use crate::workload::{Workload, workload};

/// Messages in flight on each connection.
const IN_FLIGHT: [usize; 2] = [1, 16];
const CONNECTIONS: usize = 64;
const SIZE_BYTES: usize = 64;

/// How long the last messages may take to come back.
const PATIENCE: Duration = Duration::from_secs(20);

/// One server with so many messages in flight.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EntriesFigures {
    pub(crate) server: String,
    pub(crate) in_flight: usize,
    /// Under strace, and alone.
    pub(crate) messages_traced: u64,
    pub(crate) messages: u64,
    /// All system calls by strace, without those of a server that is started and never asked.
    pub(crate) strace_per_message: f64,
    /// By the driver, at the same time, and alone; where it is ours.
    pub(crate) driver_per_message_traced: Option<f64>,
    pub(crate) driver_per_message: Option<f64>,
    /// Each system call per message, those below a thousandth of all left out.
    pub(crate) calls_per_message: BTreeMap<String, f64>,
}

/// What came of one load.
#[derive(Clone, Copy, Debug, Default)]
struct Passed {
    messages: u64,
    kernel_entries: Option<u64>,
}

/// Counts for all servers; `progress` is told of every run.
pub(crate) fn measure(
    servers: &[Server],
    duration: Duration,
    mut progress: impl FnMut(&str),
) -> io::Result<Vec<EntriesFigures>> {
    machine::make_room(CONNECTIONS)?;
    let mut figures = Vec::new();
    for server in servers {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("entries of {}: {error}", server.name));
        let (_, idle) = traced(server, None).map_err(named)?;
        for in_flight in IN_FLIGHT {
            progress(&format!("entries of {}, {in_flight} in flight", server.name));
            let load = Some((workload("entries", CONNECTIONS, SIZE_BYTES, in_flight), duration));
            let traced = traced(server, load).map_err(named)?;
            let alone = alone(server, load).map_err(named)?;
            figures.push(row(&server.name, in_flight, traced, &idle, alone));
        }
    }
    Ok(figures)
}

type Asked = Option<(Workload, Duration)>;

fn traced(server: &Server, load: Asked) -> io::Result<(Passed, Calls)> {
    let file = CountsFile::new();
    let start = Start { buffer_bytes: 4096, is_reporting: true, strace: Some(file.path()) };
    let passed = pass(server.start(start)?, load)?;
    Ok((passed, file.take()?))
}

fn alone(server: &Server, load: Asked) -> io::Result<Passed> {
    pass(server.start(Start { buffer_bytes: 4096, is_reporting: true, ..Start::default() })?, load)
}

/// Everything from the first connection to the last message, and what the driver counted meanwhile.
fn pass(mut running: Running, load: Asked) -> io::Result<Passed> {
    let before = running.counters()?;
    let loaded = load.map(|(workload, duration)| exchange(&running, workload, duration)).transpose()?;
    let after = running.counters()?;
    // Before the connections go: how they end is no part of it.
    drop(running);
    let messages = loaded.map_or(0, |(messages, _generator)| messages);
    let kernel_entries = after.zip(before).map(|(now, then)| now.kernel_entries - then.kernel_entries);
    Ok(Passed { messages, kernel_entries })
}

/// All messages that were sent have come back, and are counted.
fn exchange(running: &Running, workload: Workload, duration: Duration) -> io::Result<(u64, Generator)> {
    let mut generator = Generator::start(Swarm::connected(running.address, workload.connections)?, workload)?;
    let messages = generator.run(duration)?.messages;
    let last = generator.drain(PATIENCE)?;
    last.faults.check()?;
    Ok((messages + last.messages, generator))
}

fn row(name: &str, in_flight: usize, traced: (Passed, Calls), idle: &Calls, alone: Passed) -> EntriesFigures {
    let (traced, calls) = traced;
    let beyond = calls.iter().map(|(call, count)| (call, count.saturating_sub(idle.get(call).copied().unwrap_or(0))));
    let beyond: Vec<(&String, u64)> = beyond.collect();
    let sum: u64 = beyond.iter().map(|(_, count)| count).sum();
    let per_message = |passed: Passed| passed.kernel_entries.map(|entries| entries as f64 / passed.messages as f64);
    let messages = traced.messages as f64;
    EntriesFigures {
        server: name.into(),
        in_flight,
        messages_traced: traced.messages,
        messages: alone.messages,
        strace_per_message: sum as f64 / messages,
        driver_per_message_traced: per_message(traced),
        driver_per_message: per_message(alone),
        calls_per_message: beyond
            .into_iter()
            .filter(|(_, count)| count * 1000 > sum)
            .map(|(call, count)| (call.clone(), count as f64 / messages))
            .collect(),
    }
}

/// Entries that strace sees and the driver does not count, at most: what sets a connection up, and a few for questions.
const UNCOUNTED_MAX: f64 = (CONNECTIONS * 10) as f64;
/// And the other way round: what starting and asking costs is subtracted from strace's count only.
const SUBTRACTED_MAX: f64 = 20.0;

/// An error if strace and a driver's counter contradict each other.
pub(crate) fn check(figures: &[EntriesFigures]) -> io::Result<()> {
    for row in figures {
        let Some(driver) = row.driver_per_message_traced else { continue };
        let more = (row.strace_per_message - driver) * row.messages_traced as f64;
        if !(-SUBTRACTED_MAX..=UNCOUNTED_MAX).contains(&more) {
            let EntriesFigures { server, in_flight, .. } = row;
            let text = format!("{server}, {in_flight} in flight: strace counts {more:.0} entries more than the driver");
            return Err(io::Error::other(text));
        }
    }
    Ok(())
}

/// The figures for people.
pub(crate) fn table(figures: &[EntriesFigures]) -> String {
    let head = ["server", "in flight", "messages", "strace", "driver, traced", "driver, alone", "most of it"];
    let row = |row: &EntriesFigures| {
        let digits = |value: f64| if value < 0.01 { format!("{value:.4}") } else { format!("{value:.3}") };
        let most = row.calls_per_message.iter().max_by(|a, b| a.1.total_cmp(b.1));
        vec![
            row.server.clone(),
            row.in_flight.to_string(),
            row.messages_traced.to_string(),
            digits(row.strace_per_message),
            row.driver_per_message_traced.map_or("-".to_owned(), digits),
            row.driver_per_message.map_or("-".to_owned(), digits),
            most.map_or("-".to_owned(), |(call, count)| format!("{call} {}", digits(*count))),
        ]
    };
    table::lines(&head, &figures.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_misses_entries_is_found_out() {
        let passed = |entries| Passed { messages: 10_000, kernel_entries: Some(entries) };
        let calls = |count| Calls::from([("io_uring_enter".to_owned(), count), ("execve".to_owned(), 1)]);
        let idle = Calls::from([("execve".to_owned(), 1)]);
        let figures = |driver, strace| row("raon-io_uring", 1, (passed(driver), calls(strace)), &idle, passed(driver));
        assert!(check(&[figures(1000, 1300)]).is_ok());
        assert!(check(&[figures(1000, 995)]).is_ok());
        assert!(check(&[figures(500, 1300)]).is_err());
        assert!(check(&[figures(1000, 900)]).is_err());
    }
}
