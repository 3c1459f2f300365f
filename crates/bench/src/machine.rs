//! Machine that a figure was measured on, and what this process may use of it.

use std::fs;
use std::io;
use std::process::Command;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::CpuSet;
use serde::{Deserialize, Serialize};

use crate::socket::CONGESTION_CONTROL;

/// Stands beside every result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) commit: String,
    pub(crate) date: String,
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    /// Of the sockets of both ends.
    pub(crate) congestion_control: String,
}

impl Machine {
    /// This one, now.
    pub(crate) fn here() -> Self {
        let uname = rustix::system::uname();
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
        let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        Machine {
            commit: output("git", &["describe", "--always", "--dirty"]),
            date: output("date", &["-u", "+%Y-%m-%d"]),
            kernel: uname.release().to_string_lossy().into_owned(),
            cpu: cpu.trim_start_matches([' ', '\t', ':']).to_owned(),
            cores,
            congestion_control: CONGESTION_CONTROL.to_owned(),
        }
    }
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or("unknown".into(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The two processors of a comparison: the first that this process may use is the server's, the second the generator's.
/// Where there is one only, both share it, and the results' `cores` says so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    pub(crate) server: usize,
    pub(crate) generator: usize,
}

/// Which they are; decided at the first call, before anything is pinned.
pub(crate) fn cores() -> Cores {
    static CORES: OnceLock<Cores> = OnceLock::new();
    *CORES.get_or_init(|| {
        let allowed = rustix::thread::sched_getaffinity(None).unwrap_or_default();
        let mut numbers = (0..CpuSet::MAX_CPU).filter(|number| allowed.is_set(*number));
        let server = numbers.next().unwrap_or(0);
        Cores { server, generator: numbers.next().unwrap_or(server) }
    })
}

/// Keeps the calling thread on the generator's core, away from the server.
pub(crate) fn pin_generator() {
    let mut set = CpuSet::new();
    set.set(cores().generator);
    // It was allowed a moment ago; if not now, the results' busy shares show it.
    let _ = rustix::thread::sched_setaffinity(None, &set);
}

/// Descriptors for everything but connections.
const DESCRIPTORS_SPARE: u64 = 100;

/// Makes room for so many connections in this process, and by that in the servers that it starts; or says what is missing.
pub(crate) fn make_room(connections: usize) -> io::Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    let needed = connections as u64 + DESCRIPTORS_SPARE;
    if let Some(allowed) = maximum.filter(|allowed| *allowed < needed) {
        return Err(io::Error::other(format!(
            "{connections} connections need {needed} descriptors per process, {allowed} are allowed: raise the hard \
             limit (`ulimit -n` as root), or ask for fewer connections"
        )));
    }
    let ports = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let ports: Vec<usize> = ports.split_whitespace().flat_map(str::parse).collect();
    match ports[..] {
        [first, last] if last - first < connections => Err(io::Error::other(format!(
            "{connections} connections need as many local ports, {first} to {last} are there: widen \
             net.ipv4.ip_local_port_range, or ask for fewer connections"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_connections_are_refused_with_the_remedy() {
        make_room(10).expect("there is room for a few");
        let error = make_room(100_000_000).expect_err("nobody has so many");
        assert!(error.to_string().contains("ask for fewer connections"), "{error}");
    }
}
