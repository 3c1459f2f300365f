//! Meter of processor time in a window: of the server, the generator, and everybody else.

use std::fs;
use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use crate::machine::cores;
use crate::server::Running;

/// Reads all clocks when it is made and again at the end.
pub(crate) struct Meter<'a> {
    running: &'a Running,
    usage: Usage,
    server: Duration,
    producer: Option<Duration>,
    generator: Duration,
}

impl<'a> Meter<'a> {
    /// From now on.
    pub(crate) fn start(running: &'a Running) -> io::Result<Self> {
        let usage = Usage::now();
        let producer = running.producer_cpu()?;
        Ok(Meter { running, usage, server: server_cpu(running)?, producer, generator: generator_cpu() })
    }

    /// Until now, `elapsed` later.
    pub(crate) fn stop(self, elapsed: Duration) -> io::Result<Spent> {
        let (server, generator) = (server_cpu(self.running)? - self.server, generator_cpu() - self.generator);
        let (now, producer) = (Usage::now(), self.running.producer_cpu()?);
        let share = |seconds: f64| (seconds / elapsed.as_secs_f64()).max(0.0);
        let foreign = (now.busy - self.usage.busy).as_secs_f64() - (server + generator).as_secs_f64();
        Ok(Spent {
            server_cpu: server,
            producer_cpu: producer.zip(self.producer).map(|(now, then)| now - then),
            server_busy: share(server.as_secs_f64()),
            generator_busy: share(generator.as_secs_f64()),
            foreign: share(foreign),
            stolen: share((now.stolen - self.usage.stolen).as_secs_f64()),
        })
    }
}

/// What a window has cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    pub(crate) server_cpu: Duration,
    /// Of it, that of a thread called `producer`, if there is one.
    pub(crate) producer_cpu: Option<Duration>,
    /// Shares of a core: the server's of its own, the generator's of its own.
    pub(crate) server_busy: f64,
    pub(crate) generator_busy: f64,
    /// Used by neither, and taken by the host.
    foreign: f64,
    stolen: f64,
}

/// More than this share of a core used by others, or stolen by the host, disturbs a run.
const FOREIGN_MAX: f64 = 0.05;
const STOLEN_MAX: f64 = 0.02;

/// A generator above the one while its server is below the other was the limit.
pub(crate) const GENERATOR_BUSY_MAX: f64 = 0.97;
pub(crate) const SERVER_BUSY_MIN: f64 = 0.90;

impl Spent {
    /// Whether others had too much of the machine.
    pub(crate) fn is_disturbed(&self) -> bool {
        self.foreign > FOREIGN_MAX || self.stolen > STOLEN_MAX
    }

    /// Whether the server could have done more, had the generator asked for more.
    pub(crate) fn is_generator_limited(&self) -> bool {
        self.generator_busy > GENERATOR_BUSY_MAX && self.server_busy < SERVER_BUSY_MIN
    }
}

/// All processors' time so far, from proc_stat(5).
#[derive(Clone, Copy, Debug)]
struct Usage {
    busy: Duration,
    stolen: Duration,
}

impl Usage {
    fn now() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let fields: Vec<u64> =
            text.lines().next().unwrap_or_default().split_whitespace().skip(1).flat_map(str::parse).collect();
        let tick = |index: usize| fields.get(index).copied().unwrap_or(0);
        let of = |ticks: u64| Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second());
        // user, nice, system, irq, softirq; steal.
        Usage { busy: of(tick(0) + tick(1) + tick(2) + tick(5) + tick(6)), stolen: of(tick(7)) }
    }
}

fn server_cpu(running: &Running) -> io::Result<Duration> {
    Ok(running.cpu()? + softirq_cpu()[0])
}

/// This thread's, which is the whole generator.
fn generator_cpu() -> Duration {
    schedstat("/proc/thread-self/schedstat") + softirq_cpu()[1]
}

/// Processor time so far of the kernel threads that do a core's network work when a system call leaves too much of it, for
/// the server's core and the generator's: the work of whoever runs there. Zero where it cannot be seen, as in a container,
/// and for the generator where both share a core.
fn softirq_cpu() -> [Duration; 2] {
    static THREADS: OnceLock<[Option<String>; 2]> = OnceLock::new();
    let find = |core: usize| {
        let name = format!("ksoftirqd/{core}");
        let processes = fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.path());
        let mut named =
            processes.filter(|path| fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name));
        named.next().map(|path| path.join("schedstat").to_string_lossy().into_owned())
    };
    let threads = THREADS.get_or_init(|| {
        let cores = cores();
        [find(cores.server), find(cores.generator).filter(|_| cores.generator != cores.server)]
    });
    threads.each_ref().map(|path| path.as_deref().map_or(Duration::ZERO, schedstat))
}

fn schedstat(path: &str) -> Duration {
    let text = fs::read_to_string(path).unwrap_or_default();
    Duration::from_nanos(text.split_whitespace().next().and_then(|field| field.parse().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_limit_only_while_the_server_rests() {
        let spent = |server_busy, generator_busy| Spent {
            server_cpu: Duration::ZERO,
            producer_cpu: None,
            server_busy,
            generator_busy,
            foreign: 0.0,
            stolen: 0.0,
        };
        assert!(spent(0.8, 0.99).is_generator_limited());
        assert!(!spent(0.95, 0.99).is_generator_limited());
        assert!(!spent(0.8, 0.95).is_generator_limited());
    }
}
