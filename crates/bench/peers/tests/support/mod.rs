//! Servers to talk to, and what the tests of all of them need.
#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for a condition.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::yield_now();
    }
}

pub struct Server {
    process: Child,
    pub addr: SocketAddr,
}

impl Server {
    pub fn start(path: &str, args: &[&str]) -> Self {
        let mut process = Command::new(path).args(args).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let name = path.rsplit('/').next().unwrap();
        let rest = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{name} says {line:?}"));
        let addr = rest.strip_suffix(&format!(" ({name})\n")).unwrap().parse().unwrap();
        Self { process, addr }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        prepare(&stream);
        stream
    }

    /// A connection whose receive buffer is so small that the server soon cannot send.
    pub fn connect_narrow(&self) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&self.addr.into()).unwrap();
        let stream = TcpStream::from(socket);
        prepare(&stream);
        stream
    }

    /// Whether the server has read everything that came to it on this connection.
    pub fn has_read(&self, stream: &TcpStream) -> bool {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let ends = [self.addr, stream.local_addr().unwrap()].map(|end| format!(":{:04X}", end.port()));
        // Number, local address, remote address, state, bytes to be sent and to be read: see proc_pid_net(5).
        let is_its_own = |words: &&[&str]| words[1].ends_with(&ends[0]) && words[2].ends_with(&ends[1]);
        let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        let row = rows.iter().map(Vec::as_slice).find(is_its_own).expect("the connection is open");
        row[4].ends_with(":00000000")
    }

    pub fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap().count()
    }

    pub fn sockets(&self) -> usize {
        let fds = std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap();
        let links = fds.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let running = self.process.try_wait().unwrap().is_none();
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        if !thread::panicking() {
            assert!(running, "the server has ended by itself");
        }
    }
}

fn prepare(stream: &TcpStream) {
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
}

/// Bytes that differ between connections and positions.
pub fn pattern(seed: usize, len: usize) -> Vec<u8> {
    let mut state = seed as u64 * 2 + 1;
    let next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}
