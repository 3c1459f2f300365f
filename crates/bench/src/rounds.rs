//! Interleaved rounds: every server once, in an order that shifts, each time in a fresh process.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use raon_provider::Error;
use serde::{Deserialize, Serialize};

use crate::fit::{self, Sample};
use crate::generator::Window;
use crate::machine::{self, Usage};
use crate::server::Server;

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
    /// Keep disturbed runs: nothing is measured.
    pub(crate) is_smoke: bool,
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
    pub(crate) cpu_ns_per_message: f64,
    pub(crate) cpu_ns_per_message_low: f64,
    pub(crate) cpu_ns_per_message_high: f64,
    pub(crate) messages_per_s: f64,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) p999_ns: u64,
    /// Share of its core that the server, and the generator, used: who was the limit.
    pub(crate) server_busy: f64,
    pub(crate) generator_busy: f64,
    /// Cost of the first server over this one's, drift taken out; above 1 is cheaper.
    pub(crate) cheaper: f64,
    pub(crate) cheaper_error: f64,
}

struct Run {
    cpu_ns_per_message: f64,
    messages_per_s: f64,
    latency_ns: [u64; 3],
    server_busy: f64,
    generator_busy: f64,
    is_disturbed: bool,
}

/// More than this share of a core used by others, or stolen by the host, disturbs a run.
const FOREIGN_MAX: f64 = 0.05;
const STOLEN_MAX: f64 = 0.02;

/// A load that keeps a server busy for some time and says what came back.
pub(crate) trait Load {
    /// Its name in tables.
    fn name(&self) -> &'static str;
    /// What it does, in a line.
    fn description(&self) -> String;
    /// Size of a server's receive buffer that suits it.
    fn buffer_bytes(&self) -> u32;
    /// Connects to a fresh server.
    fn start(&self, address: SocketAddr) -> Result<impl FnMut(Duration) -> Result<Window, Error>, Error>;
}

/// Measures all servers under one load; `progress` is told of every run.
pub(crate) fn measure(
    servers: &[Server],
    load: &impl Load,
    plan: Plan,
    mut progress: impl FnMut(&str),
) -> io::Result<Vec<Figures>> {
    let start = Instant::now();
    let mut runs: Vec<Vec<Run>> = servers.iter().map(|_| Vec::new()).collect();
    let mut discarded = vec![0; servers.len()];
    let mut samples = Vec::new();
    for round in 0..plan.rounds {
        for place in 0..servers.len() {
            let index = (round + place) % servers.len();
            progress(&format!("{} round {}/{} {}", load.name(), round + 1, plan.rounds, servers[index].name));
            let run = run(&servers[index], load, plan)?;
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
    let running = server.start(load.buffer_bytes())?;
    let failed = |error: Error| io::Error::other(format!("{}: {error}", server.name));
    let mut generate = load.start(running.address).map_err(failed)?;
    generate(plan.warm_up).map_err(failed)?;
    let spent =
        || Ok::<_, io::Error>((running.cpu()? + machine::softirq_cpu(0), machine::own_cpu() + machine::softirq_cpu(1)));
    let (usage, (cpu_before, own_before)) = (Usage::now(), spent()?);
    let window = generate(plan.window).map_err(failed)?;
    let (cpu, own) = spent()?;
    let (cpu, own) = (cpu - cpu_before, own - own_before);
    let (foreign, stolen) = Usage::foreign_since(usage, cpu + own, window.elapsed);
    let seconds = window.elapsed.as_secs_f64();
    let quantile = |share| window.latency_ns.value_at_quantile(share);
    Ok(Run {
        cpu_ns_per_message: cpu.as_nanos() as f64 / window.messages.max(1) as f64,
        messages_per_s: window.messages as f64 / seconds,
        latency_ns: [quantile(0.5), quantile(0.99), quantile(0.999)],
        server_busy: cpu.as_secs_f64() / seconds,
        generator_busy: own.as_secs_f64() / seconds,
        is_disturbed: !plan.is_smoke && (foreign > FOREIGN_MAX || stolen > STOLEN_MAX || window.messages == 0),
    })
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
        server_busy: of(|run| run.server_busy, 0.5),
        generator_busy: of(|run| run.generator_busy, 0.5),
        cheaper: ratio.map_or(f64::NAN, |ratio| ratio.cheaper),
        cheaper_error: ratio.map_or(f64::NAN, |ratio| ratio.error),
    }
}

pub(crate) fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
}
