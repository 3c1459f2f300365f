//! Servers to talk to, and what the tests of all of them need.
#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
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
        let Some(rest) = line.strip_prefix("listening on ") else {
            // What it complains of stands above: it has this program's standard error.
            let _ = process.kill();
            panic!("{name} says {line:?} and has ended with {}", process.wait().unwrap());
        };
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
        // The table may miss a row while others come and go.
        rows.iter().map(Vec::as_slice).find(is_its_own).is_some_and(|row| row[4].ends_with(":00000000"))
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

pub fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// Writes everything in uneven parts, ends its side, and reads what is expected only once everything is written or nothing
/// more goes in.
pub fn pipelined(mut stream: TcpStream, data: &[u8], expected: &[u8]) {
    let mut writer = stream.try_clone().unwrap();
    writer.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let (stalled, stall) = mpsc::channel();
    let mut echo = Vec::new();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut rest = data;
            for len in [1, 64, 4096, 777, 16384].into_iter().cycle() {
                let (part, after) = rest.split_at(len.min(rest.len()));
                write_all(&mut writer, part, &stalled).unwrap();
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            writer.shutdown(Shutdown::Write).unwrap();
            // Nobody listens any more if it was told before.
            let _ = stalled.send(());
        });
        stall.recv_timeout(PATIENCE).unwrap();
        stream.read_to_end(&mut echo).unwrap();
    });
    assert!(echo == expected, "{} of {} bytes, or other ones", echo.len(), expected.len());
}

/// As `write_all`, and tells when the socket takes nothing more.
fn write_all(writer: &mut TcpStream, mut rest: &[u8], stalled: &mpsc::Sender<()>) -> io::Result<()> {
    while !rest.is_empty() {
        match writer.write(rest) {
            Ok(count) => rest = &rest[count..],
            Err(e) if e.kind() == ErrorKind::WouldBlock => drop(stalled.send(())),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
