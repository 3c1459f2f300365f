//! What a figure was measured on, and whether somebody else used the machine meanwhile.

use std::fs;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Stands beside every result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) commit: String,
    pub(crate) date: String,
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) congestion_control: String,
}

impl Machine {
    /// This one, now.
    pub(crate) fn here() -> Self {
        let uname = rustix::system::uname();
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
        let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        let congestion = fs::read_to_string(CONGESTION).unwrap_or_default();
        Machine {
            commit: output("git", &["describe", "--always", "--dirty"]),
            date: output("date", &["-u", "+%Y-%m-%d"]),
            kernel: uname.release().to_string_lossy().into_owned(),
            cpu: cpu.trim_start_matches([' ', '\t', ':']).to_owned(),
            cores,
            congestion_control: congestion.trim().to_owned(),
        }
    }
}

const CONGESTION: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or("unknown".into(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The system's congestion control set to one that every machine has, and back on drop.
pub(crate) struct CongestionControl {
    before: Option<String>,
}

impl CongestionControl {
    /// Sets it to reno if that is allowed; the results name what was in force either way.
    pub(crate) fn fix() -> Self {
        let before = fs::read_to_string(CONGESTION).ok();
        let is_set = fs::write(CONGESTION, "reno").is_ok();
        CongestionControl { before: before.filter(|_| is_set) }
    }
}

impl Drop for CongestionControl {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // It was writable a moment ago; if not now, the next reboot sets it.
            let _ = fs::write(CONGESTION, before.trim());
        }
    }
}

/// All processors' time so far, from proc_stat(5).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    busy: Duration,
    stolen: Duration,
}

impl Usage {
    /// Now.
    pub(crate) fn now() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let fields: Vec<u64> =
            text.lines().next().unwrap_or_default().split_whitespace().skip(1).flat_map(str::parse).collect();
        let tick = |index: usize| fields.get(index).copied().unwrap_or(0);
        let of = |ticks: u64| Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second());
        // user, nice, system, irq, softirq; steal.
        Usage { busy: of(tick(0) + tick(1) + tick(2) + tick(5) + tick(6)), stolen: of(tick(7)) }
    }

    /// Time that neither of ours used since then, as a share of `elapsed` on one processor; and time stolen.
    pub(crate) fn foreign_since(then: Usage, ours: Duration, elapsed: Duration) -> (f64, f64) {
        let now = Usage::now();
        let foreign = (now.busy - then.busy).as_secs_f64() - ours.as_secs_f64();
        let share = |seconds: f64| (seconds / elapsed.as_secs_f64()).max(0.0);
        (share(foreign), share((now.stolen - then.stolen).as_secs_f64()))
    }
}

/// Processor time so far of the kernel thread that does a core's network work when a system call leaves too much of it:
/// the work of whoever runs on that core. Zero where it cannot be seen, as in a container.
pub(crate) fn softirq_cpu(core: usize) -> Duration {
    static THREADS: OnceLock<[Option<String>; 2]> = OnceLock::new();
    let find = |core: usize| {
        let name = format!("ksoftirqd/{core}");
        let processes = fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.path());
        let mut named =
            processes.filter(|path| fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name));
        named.next().map(|path| path.join("schedstat").to_string_lossy().into_owned())
    };
    let path = THREADS.get_or_init(|| [find(0), find(1)])[core].as_deref();
    path.map_or(Duration::ZERO, schedstat)
}

fn schedstat(path: &str) -> Duration {
    let text = fs::read_to_string(path).unwrap_or_default();
    Duration::from_nanos(text.split_whitespace().next().and_then(|field| field.parse().ok()).unwrap_or(0))
}

/// Processor time of this thread so far.
pub(crate) fn own_cpu() -> Duration {
    schedstat("/proc/thread-self/schedstat")
}

/// Keeps the calling thread on the second core, away from the server.
pub(crate) fn pin_generator() {
    let mut set = rustix::thread::CpuSet::new();
    set.set(1);
    // On one core there is no second: then both share it, and the results' `cores` says so.
    let _ = rustix::thread::sched_setaffinity(None, &set);
}
