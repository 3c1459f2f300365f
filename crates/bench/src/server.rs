//! A server under test: a process of its own on the first core.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::machine::cores;
use crate::raon::Counters;
use crate::socket::CONGESTION_CONTROL;

/// How to start a server.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// Its name in tables.
    pub(crate) name: String,
    program: PathBuf,
    arguments: Vec<String>,
}

/// What differs from one start to the next.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Start<'a> {
    /// Size of a receive buffer, for those that do not find it by themselves.
    pub(crate) buffer_bytes: u32,
    /// Ready to tell its counters, if it is ours.
    pub(crate) is_reporting: bool,
    /// Under `strace -c`, which writes its counts there when the server has ended.
    pub(crate) strace: Option<&'a Path>,
}

/// A started server; killed on drop.
pub(crate) struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
    /// Of a server that reports.
    input: Option<ChildStdin>,
    pub(crate) address: SocketAddr,
}

/// The peers' programs, in a workspace of their own: compared, never depended upon.
const PEERS_MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/Cargo.toml");

/// Names that stand for a program with an option.
const ALIASES: [(&str, &str); 1] = [("floor_single_fixed", "floor_single+fixed")];

impl Server {
    /// Finds a server by name. `raon-io_uring` and `raon-epoll` are this program itself, all others are peers. A word in
    /// between is an option: `raon-broadcast-epoll` is `raon-epoll+broadcast`.
    pub(crate) fn named(name: &str) -> io::Result<Self> {
        let full = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, full)| full);
        let (program, options) = full.split_once('+').unwrap_or((full, ""));
        let (program, first) = match program.strip_prefix("raon-") {
            Some(rest) => {
                let (service, backend) = rest.rsplit_once('-').map_or((None, rest), |(word, rest)| (Some(word), rest));
                let service = service.map(|word| format!("--{word}"));
                let words = ["serve", "--backend", backend].map(String::from);
                (std::env::current_exe()?, words.into_iter().chain(service).collect())
            }
            None => (peer(program), Vec::new()),
        };
        let options = options.split('+').filter(|option| !option.is_empty()).map(|option| format!("--{option}"));
        // Whatever happens to this process, no server is left behind.
        let common = ["--listen", "127.0.0.1:0", "--congestion", CONGESTION_CONTROL, "--with-parent"].map(String::from);
        Ok(Server { name: name.into(), program, arguments: first.into_iter().chain(options).chain(common).collect() })
    }

    /// Whether it is one of Raon's.
    pub(crate) fn is_raon(&self) -> bool {
        self.name.starts_with("raon-")
    }

    /// Starts it on its core and waits until it listens.
    pub(crate) fn start(&self, start: Start<'_>) -> io::Result<Running> {
        let is_reporting = start.is_reporting && self.is_raon();
        let mut command = self.command(start);
        command.stdout(Stdio::piped()).stdin(if is_reporting { Stdio::piped() } else { Stdio::null() });
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("`{program}` cannot be started: {error}")))?;
        let (input, output) = (child.stdin.take(), child.stdout.take().expect("piped"));
        let mut output = BufReader::new(output);
        let mut line = String::new();
        output.read_line(&mut line)?;
        let address = line.split_whitespace().nth(2).and_then(|address| address.parse().ok());
        match address {
            Some(address) => Ok(Running { child, output, input, address }),
            None => {
                // What it complains of stands above: it has this program's standard error.
                let _ = child.kill();
                let status = child.wait()?;
                Err(io::Error::other(format!("{} did not start and has ended with {status}: {line:?}", self.name)))
            }
        }
    }

    fn command(&self, start: Start<'_>) -> Command {
        let taskset = ["taskset".into(), "-c".into(), cores().server.to_string()];
        // As a grandchild: the server stays our child and is killed as any other.
        let strace = start.strace.map(|file| {
            ["strace", "-D", "-f", "-c", "-o"].into_iter().map(String::from).chain([file.display().to_string()])
        });
        let mut words = strace.into_iter().flatten().chain(taskset);
        let mut command = Command::new(words.next().expect("taskset at least"));
        command.args(words).arg(&self.program).args(&self.arguments).args(self.sized(start.buffer_bytes));
        if start.is_reporting && self.is_raon() {
            command.arg("--report");
        }
        command
    }

    /// Peers have one size of receive buffer for all workloads unless told; Raon finds the size by itself.
    fn sized(&self, buffer_bytes: u32) -> Vec<String> {
        if self.is_raon() {
            return Vec::new();
        }
        let mut arguments = vec!["--buffer-bytes".into(), buffer_bytes.to_string()];
        if self.name.starts_with("floor_multishot") {
            // 4 MiB of buffers either way: Raon's own two rings are as large.
            arguments.extend(["--ring-entries".into(), ((4 << 20) / buffer_bytes).to_string()]);
        }
        arguments
    }
}

impl Running {
    /// Processor time of all its threads so far: the scheduler's own sum, in nanoseconds.
    pub(crate) fn cpu(&self) -> io::Result<Duration> {
        self.cpu_of(|_| true).map(Option::unwrap_or_default)
    }

    /// That of its threads called `producer`, if it has any.
    pub(crate) fn producer_cpu(&self) -> io::Result<Option<Duration>> {
        self.cpu_of(|task| std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name == "producer\n"))
    }

    fn cpu_of(&self, is_meant: impl Fn(&Path) -> bool) -> io::Result<Option<Duration>> {
        let mut sum = None;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let task = task?.path();
            if is_meant(&task) {
                let text = std::fs::read_to_string(task.join("schedstat"))?;
                let ns = text.split_whitespace().next().and_then(|field| field.parse().ok()).unwrap_or(0);
                sum = Some(sum.unwrap_or_default() + Duration::from_nanos(ns));
            }
        }
        Ok(sum)
    }

    /// What its driver has counted so far; `None` unless it reports.
    pub(crate) fn counters(&mut self) -> io::Result<Option<Counters>> {
        let Some(input) = &mut self.input else { return Ok(None) };
        input.write_all(b"\n")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(Some(serde_json::from_str(&line)?))
    }

    /// Resident memory in bytes, once it has not changed for `settle`.
    pub(crate) fn settled_rss_bytes(&self, settle: Duration) -> io::Result<u64> {
        let mut last = self.rss_bytes()?;
        loop {
            std::thread::sleep(settle);
            let now = self.rss_bytes()?;
            if now == last {
                return Ok(now);
            }
            last = now;
        }
    }

    /// Resident memory in bytes, now.
    pub(crate) fn rss_bytes(&self) -> io::Result<u64> {
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

/// The peers are built as this program is: optimised, or not where nothing is measured.
const IS_RELEASE: bool = !cfg!(debug_assertions);

/// Where the peers' programs are.
fn peer_directory() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => PathBuf::from(directory).join("peers"),
        None => PathBuf::from(PEERS_MANIFEST).with_file_name("target"),
    }
}

/// A program of the peers.
pub(crate) fn peer(name: &str) -> PathBuf {
    peer_directory().join(if IS_RELEASE { "release" } else { "debug" }).join(name)
}

/// Builds the peers as far as needed, once.
pub(crate) fn build_peers() -> io::Result<()> {
    static IS_BUILT: AtomicBool = AtomicBool::new(false);
    if IS_BUILT.load(Ordering::Relaxed) {
        return Ok(());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--manifest-path", PEERS_MANIFEST, "--target-dir"]).arg(peer_directory());
    if IS_RELEASE {
        command.arg("--release");
    }
    if !command.status()?.success() {
        return Err(io::Error::other("the peers do not build"));
    }
    IS_BUILT.store(true, Ordering::Relaxed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_our_own_servers_have_a_back_end_and_options() {
        let arguments = |name: &str| Server::named(name).expect("any name does").arguments[..4].join(" ");
        assert_eq!(arguments("raon-io_uring"), "serve --backend io_uring --listen");
        assert_eq!(arguments("raon-epoll+broadcast"), "serve --backend epoll --broadcast");
        assert_eq!(arguments("raon-broadcast-epoll"), arguments("raon-epoll+broadcast"));
    }
}
