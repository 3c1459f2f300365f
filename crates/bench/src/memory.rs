//! M: what an idle connection holds, and how fast connections come and go.

use std::io;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::machine;
use crate::meter::Meter;
use crate::server::{Server, Start};
use crate::statistics::{maybe_null, quartiles, unknown};
use crate::swarm::Swarm;
use crate::table::{self, number, spread};

/// Figures of one server: medians over the runs, with quartiles.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MemoryFigures {
    pub(crate) server: String,
    pub(crate) idle_connections: usize,
    pub(crate) runs: usize,
    /// Resident bytes that each idle connection added.
    pub(crate) rss_bytes_per_idle: f64,
    #[serde(default = "unknown", deserialize_with = "maybe_null")]
    pub(crate) rss_bytes_per_idle_low: f64,
    #[serde(default = "unknown", deserialize_with = "maybe_null")]
    pub(crate) rss_bytes_per_idle_high: f64,
    /// Connections accepted and closed per second.
    pub(crate) accepts_per_s: f64,
    #[serde(default = "unknown", deserialize_with = "maybe_null")]
    pub(crate) accepts_per_s_low: f64,
    #[serde(default = "unknown", deserialize_with = "maybe_null")]
    pub(crate) accepts_per_s_high: f64,
    /// The server's processor time for each of them.
    pub(crate) cpu_ns_per_accept: f64,
    #[serde(default = "unknown", deserialize_with = "maybe_null")]
    pub(crate) cpu_ns_per_accept_low: f64,
    #[serde(default = "unknown", deserialize_with = "maybe_null")]
    pub(crate) cpu_ns_per_accept_high: f64,
}

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Its name in titles.
    pub(crate) name: &'static str,
    pub(crate) idle: usize,
    pub(crate) rounds: usize,
    /// Bursts of connects and resets.
    pub(crate) waves: usize,
    /// How long a server may take to do what a burst of connects left to do.
    pub(crate) settle: Duration,
}

impl Effort {
    pub(crate) const fn new(name: &'static str, idle: usize, rounds: usize) -> Self {
        Effort { name, idle, rounds, waves: 20, settle: Duration::from_millis(500) }
    }

    /// Enough to show that it runs.
    pub(crate) fn smoke(self) -> Self {
        Effort { idle: 200, rounds: 1, waves: 1, settle: Duration::from_millis(20), ..self }
    }
}

/// Connections opened before the first look, so that what every server needs once is not counted.
pub(crate) const FIRST: usize = 100;
const PER_WAVE: usize = 500;

/// Measures all servers in interleaved rounds; `progress` is told of every run.
pub(crate) fn measure(
    servers: &[Server],
    effort: Effort,
    mut progress: impl FnMut(&str),
) -> io::Result<Vec<MemoryFigures>> {
    machine::make_room(FIRST + effort.idle.max(PER_WAVE))?;
    let mut samples = vec![[const { Vec::new() }; 3]; servers.len()];
    for round in 0..effort.rounds {
        for place in 0..servers.len() {
            let index = (round + place) % servers.len();
            let Server { name, .. } = &servers[index];
            progress(&format!("{} round {}/{} {name}", effort.name, round + 1, effort.rounds));
            let values = run(&servers[index], effort)
                .map_err(|error| io::Error::new(error.kind(), format!("{name} under {}: {error}", effort.name)))?;
            samples[index].iter_mut().zip(values).for_each(|(samples, value)| samples.push(value));
        }
    }
    Ok(servers.iter().zip(samples).map(|(server, samples)| summary(&server.name, effort, &samples)).collect())
}

/// Bytes per idle connection, accepts per second, processor time per accept.
fn run(server: &Server, effort: Effort) -> io::Result<[f64; 3]> {
    let running = server.start(Start { buffer_bytes: 4096, ..Start::default() })?;
    let mut swarm = Swarm::connected(running.address, FIRST)?;
    let before = running.settled_rss_bytes(effort.settle)?;
    swarm.connect(running.address, effort.idle)?;
    let after = running.settled_rss_bytes(effort.settle)?;
    swarm.abort()?;
    let (meter, start) = (Meter::start(&running)?, Instant::now());
    for _ in 0..effort.waves {
        swarm.connect(running.address, PER_WAVE)?;
        swarm.abort()?;
    }
    let (count, elapsed) = ((effort.waves * PER_WAVE) as f64, start.elapsed());
    let cpu = meter.stop(elapsed)?.server_cpu;
    let rss = (after as f64 - before as f64) / effort.idle as f64;
    Ok([rss, count / elapsed.as_secs_f64(), cpu.as_nanos() as f64 / count])
}

fn summary(name: &str, effort: Effort, samples: &[Vec<f64>; 3]) -> MemoryFigures {
    let [rss, accepts, cpu] = samples.each_ref().map(|values| quartiles(values));
    MemoryFigures {
        server: name.into(),
        idle_connections: effort.idle,
        runs: effort.rounds,
        rss_bytes_per_idle: rss[1],
        rss_bytes_per_idle_low: rss[0],
        rss_bytes_per_idle_high: rss[2],
        accepts_per_s: accepts[1],
        accepts_per_s_low: accepts[0],
        accepts_per_s_high: accepts[2],
        cpu_ns_per_accept: cpu[1],
        cpu_ns_per_accept_low: cpu[0],
        cpu_ns_per_accept_high: cpu[2],
    }
}

/// The figures for people.
pub(crate) fn table(figures: &[MemoryFigures]) -> String {
    let head = ["server", "runs", "bytes/idle", "quartiles", "accepts/s", "quartiles", "CPU ns/accept", "quartiles"];
    let row = |row: &MemoryFigures| {
        vec![
            row.server.clone(),
            row.runs.to_string(),
            number(row.rss_bytes_per_idle, 0),
            spread(row.rss_bytes_per_idle_low, row.rss_bytes_per_idle_high, 0),
            number(row.accepts_per_s, 0),
            spread(row.accepts_per_s_low, row.accepts_per_s_high, 0),
            number(row.cpu_ns_per_accept, 0),
            spread(row.cpu_ns_per_accept_low, row.cpu_ns_per_accept_high, 0),
        ]
    };
    table::lines(&head, &figures.iter().map(row).collect::<Vec<_>>())
}
