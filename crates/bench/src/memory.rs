//! M: what an idle connection holds, and how fast connections come and go.

use std::io;
use std::time::{Duration, Instant};

use raon_provider::Error;
use serde::{Deserialize, Serialize};

use crate::rounds::quantile;
use crate::server::Server;
use crate::swarm::Swarm;

/// Figures of one server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MemoryFigures {
    pub(crate) server: String,
    pub(crate) idle_connections: usize,
    pub(crate) runs: usize,
    /// Resident bytes that each idle connection added, median.
    pub(crate) rss_bytes_per_idle: f64,
    /// Connections accepted and closed per second, median.
    pub(crate) accepts_per_s: f64,
    /// The server's processor time for each of them, median.
    pub(crate) cpu_ns_per_accept: f64,
}

/// Connections opened before the first look, so that what every server needs once is not counted.
const FIRST: usize = 100;
const PER_WAVE: usize = 500;

pub(crate) fn measure(server: &Server, idle: usize, rounds: usize, waves: usize) -> io::Result<MemoryFigures> {
    let failed = |error: Error| io::Error::other(format!("{}: {error}", server.name));
    let mut samples = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..rounds {
        let running = server.start(4096)?;
        let mut swarm = Swarm::new().map_err(failed)?;
        swarm.connect(running.address, FIRST).map_err(failed)?;
        let before = running.settled_rss_bytes()?;
        swarm.connect(running.address, idle).map_err(failed)?;
        let after = running.settled_rss_bytes()?;
        samples[0].push((after as f64 - before as f64) / idle as f64);
        swarm.abort().map_err(failed)?;
        let (cpu, start) = (running.cpu()?, Instant::now());
        for _ in 0..waves {
            swarm.connect(running.address, PER_WAVE).map_err(failed)?;
            swarm.abort().map_err(failed)?;
        }
        let count = (waves * PER_WAVE) as f64;
        samples[1].push(count / start.elapsed().as_secs_f64());
        samples[2].push((running.cpu()? - cpu).as_nanos() as f64 / count);
    }
    let [rss, accepts, cpu] = samples.map(|values| quantile(values, 0.5));
    Ok(MemoryFigures {
        server: server.name.clone(),
        idle_connections: idle,
        runs: rounds,
        rss_bytes_per_idle: rss,
        accepts_per_s: accepts,
        cpu_ns_per_accept: cpu,
    })
}

/// How long a server may take to do what a burst of connects left to do.
pub(crate) const SETTLE: Duration = Duration::from_millis(500);
