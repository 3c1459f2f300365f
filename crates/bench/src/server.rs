//! A server under test: a process of its own on the first core.

use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How to start a server.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// Its name in tables.
    pub(crate) name: String,
    program: PathBuf,
    arguments: Vec<String>,
}

/// A started server; killed on drop.
pub(crate) struct Running {
    child: Child,
    pub(crate) address: SocketAddr,
}

/// The peers' programs, in a workspace of their own: compared, never depended upon.
const PEERS_MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/Cargo.toml");

impl Server {
    /// Finds a server by name. `raon-io_uring` and `raon-epoll` are this program itself, all others are peers.
    pub(crate) fn named(name: &str) -> io::Result<Self> {
        let (program, options) = name.split_once('+').unwrap_or((name, ""));
        let (program, first) = match program.strip_prefix("raon-") {
            Some(backend) => (std::env::current_exe()?, vec!["serve".into(), "--backend".into(), backend.into()]),
            None => (peer_directory().join(program), Vec::new()),
        };
        let options = options.split('+').filter(|option| !option.is_empty()).map(|option| format!("--{option}"));
        let arguments = first.into_iter().chain(options).chain(["--listen".into(), "127.0.0.1:0".into()]).collect();
        Ok(Server { name: name.into(), program, arguments })
    }

    /// Peers have one size of receive buffer for all workloads unless told; Raon finds the size by itself.
    fn sized(&self, buffer_bytes: u32) -> Vec<String> {
        if self.name.starts_with("raon-") {
            return Vec::new();
        }
        let mut arguments = vec!["--buffer-bytes".into(), buffer_bytes.to_string()];
        if self.name.starts_with("floor_multishot") {
            // 4 MiB of buffers either way: Raon's own two rings are as large.
            arguments.extend(["--ring-entries".into(), ((4 << 20) / buffer_bytes).to_string()]);
        }
        arguments
    }

    /// Starts it on the first core, with receive buffers of this size, and waits until it listens.
    pub(crate) fn start(&self, buffer_bytes: u32) -> io::Result<Running> {
        let missing = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", self.program.display()));
        let mut command = Command::new("taskset");
        command
            .args(["-c", "0"])
            .arg(&self.program)
            .args(&self.arguments)
            .args(self.sized(buffer_bytes))
            .stdout(Stdio::piped());
        let mut child = command.spawn().map_err(missing)?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line)?;
        let address = line.split_whitespace().nth(2).and_then(|address| address.parse().ok());
        match address {
            Some(address) => Ok(Running { child, address }),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                Err(io::Error::other(format!("{} did not start: {line:?}", self.name)))
            }
        }
    }
}

impl Running {
    /// Processor time of all its threads so far: the scheduler's own sum, in nanoseconds.
    pub(crate) fn cpu(&self) -> io::Result<Duration> {
        let mut sum_ns = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            sum_ns += text.split_whitespace().next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(Duration::from_nanos(sum_ns))
    }

    /// Resident memory in bytes, once it no longer changes.
    pub(crate) fn settled_rss_bytes(&self) -> io::Result<u64> {
        let mut last = self.rss_bytes()?;
        loop {
            std::thread::sleep(crate::memory::SETTLE);
            let now = self.rss_bytes()?;
            if now == last {
                return Ok(now);
            }
            last = now;
        }
    }

    fn rss_bytes(&self) -> io::Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id()))?;
        let pages: u64 = text.split_whitespace().nth(1).and_then(|field| field.parse().ok()).unwrap_or(0);
        Ok(pages * rustix::param::page_size() as u64)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn peer_directory() -> PathBuf {
    PathBuf::from(PEERS_MANIFEST).with_file_name("target").join("release")
}

/// Builds the peers, once per call.
pub(crate) fn build_peers() -> io::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let status = Command::new(cargo).args(["build", "--release", "--manifest-path", PEERS_MANIFEST]).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other("the peers do not build")) }
}
