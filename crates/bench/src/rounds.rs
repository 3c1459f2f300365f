//! Interleaved rounds: every server once, in an order that shifts, each time in a fresh process.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::fit::{self, Sample};
use crate::generator::Window;
use crate::machine;
use crate::meter::{GENERATOR_BUSY_MAX, Meter, SERVER_BUSY_MIN, Spent};
use crate::server::{Running, Server, Start};
use crate::statistics::{maybe_null, quantile};
use crate::table::{self, number, spread};

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Undisturbed runs that every server is to have.
    pub(crate) rounds: usize,
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
    /// Nothing is measured: keep disturbed runs, and wait until something has come back on every connection.
    pub(crate) is_smoke: bool,
}

impl Plan {
    /// On a restless machine rounds go on, until the disturbed runs are made up for, or there are twice as many.
    fn rounds_max(&self) -> usize {
        self.rounds * 2
    }
}

/// One server's figures over all undisturbed rounds of one workload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) server: String,
    /// Undisturbed runs.
    pub(crate) runs: usize,
    /// Runs thrown away because others used the machine.
    pub(crate) discarded: usize,
    /// Medians over the runs.
    #[serde(deserialize_with = "maybe_null")]
    pub(crate) cpu_ns_per_message: f64,
    #[serde(deserialize_with = "maybe_null")]
    pub(crate) cpu_ns_per_message_low: f64,
    #[serde(deserialize_with = "maybe_null")]
    pub(crate) cpu_ns_per_message_high: f64,
    #[serde(deserialize_with = "maybe_null")]
    pub(crate) messages_per_s: f64,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) p999_ns: u64,
    /// Share of its core that the server, and the generator, used: who was the limit.
    #[serde(deserialize_with = "maybe_null")]
    pub(crate) server_busy: f64,
    #[serde(deserialize_with = "maybe_null")]
    pub(crate) generator_busy: f64,
    /// Runs in which the generator was the limit.
    #[serde(default)]
    pub(crate) generator_limited: usize,
    /// Of it, the producer's own, where there is one; a median.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) producer_ns_per_message: Option<f64>,
    /// Datagrams without an answer, in all undisturbed runs.
    #[serde(default)]
    pub(crate) lost: u64,
    /// Cost of the first server over this one's, drift taken out; above 1 is cheaper.
    #[serde(deserialize_with = "maybe_null")]
    pub(crate) cheaper: f64,
    #[serde(deserialize_with = "maybe_null")]
    pub(crate) cheaper_error: f64,
}

struct Run {
    spent: Spent,
    cpu_ns_per_message: f64,
    messages_per_s: f64,
    latency_ns: [u64; 3],
    producer_ns_per_message: Option<f64>,
    lost: u64,
    is_disturbed: bool,
}

/// Where nothing is measured, so many messages per connection show that a server runs, and it may take so long for them.
const MESSAGES_MIN: u64 = 20;
const PATIENCE: Duration = Duration::from_secs(20);

/// A load that keeps a server busy for some time and says what came back.
pub(crate) trait Load {
    /// Its name in tables.
    fn name(&self) -> &'static str;
    /// What it does, in a line.
    fn description(&self) -> String;
    /// How many connections it opens.
    fn connections(&self) -> usize;
    /// Size of a server's receive buffer that suits it.
    fn buffer_bytes(&self) -> u32;
    /// Whether a thread of the server that is called `producer` makes the messages.
    fn has_producer(&self) -> bool {
        false
    }
    /// The same with few connections.
    fn smoke(self) -> Self
    where
        Self: Sized;
    /// Connects to a fresh server.
    fn start(&self, address: SocketAddr) -> io::Result<impl FnMut(Duration) -> io::Result<Window>>;
}

/// Measures all servers under one load; `progress` is told of every run.
pub(crate) fn measure(
    servers: &[Server],
    load: &impl Load,
    plan: Plan,
    mut progress: impl FnMut(&str),
) -> io::Result<Vec<Figures>> {
    machine::make_room(load.connections())?;
    let start = Instant::now();
    let mut runs: Vec<Vec<Run>> = servers.iter().map(|_| Vec::new()).collect();
    let mut discarded = vec![0; servers.len()];
    let mut samples = Vec::new();
    for round in 0..plan.rounds_max() {
        if runs.iter().all(|kept| kept.len() >= plan.rounds) {
            break;
        }
        for place in 0..servers.len() {
            let index = (round + place) % servers.len();
            let Server { name, .. } = &servers[index];
            progress(&format!(
                "{} round {} of {} to {}: {name}",
                load.name(),
                round + 1,
                plan.rounds,
                plan.rounds_max()
            ));
            let run = run(&servers[index], load, plan)
                .map_err(|error| io::Error::new(error.kind(), format!("{name} under {}: {error}", load.name())))?;
            if run.is_disturbed {
                discarded[index] += 1;
                continue;
            }
            let at_s = start.elapsed().as_secs_f64();
            samples.push(Sample { server: index, at_s, cost: run.cpu_ns_per_message });
            runs[index].push(run);
        }
    }
    let ratios = fit::ratios(&samples, servers.len());
    let figures = servers.iter().enumerate().map(|(index, server)| {
        let ratio = ratios.as_ref().map(|ratios| ratios[index]);
        summary(&server.name, &runs[index], discarded[index], ratio)
    });
    Ok(figures.collect())
}

fn run(server: &Server, load: &impl Load, plan: Plan) -> io::Result<Run> {
    let running = server.start(Start { buffer_bytes: load.buffer_bytes(), ..Start::default() })?;
    let mut generate = load.start(running.address)?;
    generate(plan.warm_up)?.faults.check()?;
    let messages_min = load.connections() as u64 * MESSAGES_MIN;
    let (window, spent) = window(&running, &mut generate, plan, messages_min)?;
    let is_silent = window.messages == 0 || window.faults.silent > 0;
    let quantile = |share| window.latency_ns.value_at_quantile(share);
    let per_message = |spent: Duration| spent.as_nanos() as f64 / window.messages.max(1) as f64;
    if load.has_producer() && spent.producer_cpu.is_none() {
        return Err(io::Error::other("it has no thread called `producer`"));
    }
    Ok(Run {
        spent,
        cpu_ns_per_message: per_message(spent.server_cpu),
        producer_ns_per_message: spent.producer_cpu.filter(|_| load.has_producer()).map(per_message),
        messages_per_s: window.messages as f64 / window.elapsed.as_secs_f64(),
        latency_ns: [quantile(0.5), quantile(0.99), quantile(0.999)],
        lost: window.lost,
        is_disturbed: !plan.is_smoke && (spent.is_disturbed() || is_silent),
    })
}

/// The measured window; where nothing is measured, as many as it takes until all have got something, and many messages.
fn window(
    running: &Running,
    generate: &mut impl FnMut(Duration) -> io::Result<Window>,
    plan: Plan,
    messages_min: u64,
) -> io::Result<(Window, Spent)> {
    let (start, mut messages) = (Instant::now(), 0);
    loop {
        let meter = Meter::start(running)?;
        let window = generate(plan.window)?;
        let spent = meter.stop(window.elapsed)?;
        window.faults.check()?;
        messages += window.messages;
        let silent = window.faults.silent;
        if !plan.is_smoke || (silent == 0 && messages >= messages_min) {
            return Ok((window, spent));
        }
        if start.elapsed() > PATIENCE {
            let text = format!("{messages} messages in {PATIENCE:?}, {silent} connections got nothing back");
            return Err(io::Error::other(text));
        }
    }
}

fn summary(name: &str, runs: &[Run], discarded: usize, ratio: Option<fit::Ratio>) -> Figures {
    let of = |value: fn(&Run) -> f64, share: f64| quantile(runs.iter().map(value).collect(), share);
    let cost = |run: &Run| run.cpu_ns_per_message;
    Figures {
        server: name.into(),
        runs: runs.len(),
        discarded,
        cpu_ns_per_message: of(cost, 0.5),
        cpu_ns_per_message_low: of(cost, 0.25),
        cpu_ns_per_message_high: of(cost, 0.75),
        messages_per_s: of(|run| run.messages_per_s, 0.5),
        p50_ns: of(|run| run.latency_ns[0] as f64, 0.5) as u64,
        p99_ns: of(|run| run.latency_ns[1] as f64, 0.5) as u64,
        p999_ns: of(|run| run.latency_ns[2] as f64, 0.5) as u64,
        server_busy: of(|run| run.spent.server_busy, 0.5),
        generator_busy: of(|run| run.spent.generator_busy, 0.5),
        generator_limited: runs.iter().filter(|run| run.spent.is_generator_limited()).count(),
        producer_ns_per_message: runs
            .first()
            .filter(|run| run.producer_ns_per_message.is_some())
            .map(|_| of(|run| run.producer_ns_per_message.unwrap_or(f64::NAN), 0.5)),
        lost: runs.iter().map(|run| run.lost).sum(),
        cheaper: ratio.map_or(f64::NAN, |ratio| ratio.cheaper),
        cheaper_error: ratio.map_or(f64::NAN, |ratio| ratio.error),
    }
}

/// The figures of one load for people, with a note for each server whose runs the generator has limited, and for each that
/// has lost datagrams.
pub(crate) fn table(figures: &[Figures]) -> String {
    let head = ["server", "runs", "CPU ns/msg", "quartiles", "msg/s", "p50 us", "p99 us", "busy s/g", "cheaper"];
    // Of pushed messages there is no latency.
    let micros = |ns: u64| if ns == 0 { "-".to_owned() } else { number(ns as f64 / 1e3, 0) };
    let row = |row: &Figures| {
        vec![
            row.server.clone(),
            row.runs.to_string(),
            number(row.cpu_ns_per_message, 0),
            spread(row.cpu_ns_per_message_low, row.cpu_ns_per_message_high, 0),
            number(row.messages_per_s, 0),
            micros(row.p50_ns),
            micros(row.p99_ns),
            format!("{}/{}%", number(row.server_busy * 100.0, 0), number(row.generator_busy * 100.0, 0)),
            format!("{} ±{}", number(row.cheaper, 2), number(row.cheaper_error, 2)),
        ]
    };
    let rows: Vec<Vec<String>> = figures.iter().map(row).collect();
    let limited = figures.iter().filter(|row| row.generator_limited > 0);
    let notes = limited.map(|row| limit_note(&row.server, row.generator_limited, row.runs));
    let lossy = figures.iter().filter(|row| row.lost > 0);
    let losses =
        lossy.map(|row| format!("  note: {}: {} datagrams were lost in {} runs\n", row.server, row.lost, row.runs));
    let produced = figures.iter().filter_map(|row| Some((&row.server, row.producer_ns_per_message?)));
    let shares = produced.map(|(server, ns)| format!("  of it in the producer of {server}: {ns:.0} ns/msg\n"));
    table::lines(&head, &rows) + &shares.chain(notes).chain(losses).collect::<String>()
}

/// That a server could have done more. Its cost per message counts all the same.
pub(crate) fn limit_note(server: &str, limited: usize, runs: usize) -> String {
    let (generator, server_min) = (GENERATOR_BUSY_MAX * 100.0, SERVER_BUSY_MIN * 100.0);
    format!(
        "  note: generator_limited, {server} in {limited} of {runs} runs: the generator was more than {generator:.0} % \
         busy and the server less than {server_min:.0} %; messages per second are the generator's\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limited_generator_and_losses_are_noted_under_the_table() {
        let mut figures = summary("epoll_raw", &[], 0, None);
        assert!(!table(std::slice::from_ref(&figures)).contains("note"));
        (figures.runs, figures.generator_limited, figures.lost) = (20, 3, 7);
        let text = table(&[figures]);
        assert!(text.contains("generator_limited, epoll_raw in 3 of 20 runs"), "{text}");
        assert!(text.contains("epoll_raw: 7 datagrams were lost in 20 runs"), "{text}");
    }
}
