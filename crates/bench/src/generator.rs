//! The load: one thread on one driver, closed loop, every byte checked.
//!
//! A connection's messages are all the same piece of one random block, at a place of its own: a byte that is lost, added,
//! moved or meant for another connection does not fit. Frames that are in flight differ from each other besides. What
//! comes back whole is answered by as many new messages in one send, so the generator does no more system work than the
//! server.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use raon_provider::{Outcome, SocketId};

use crate::framed;
use crate::rounds::Load;
use crate::swarm::Swarm;
use crate::workload::{Form, SMOKE_CONNECTIONS, Workload};

/// What one window of time has shown.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) messages: u64,
    /// Datagrams that no answer came to.
    pub(crate) lost: u64,
    pub(crate) elapsed: Duration,
    pub(crate) latency_ns: Histogram<u64>,
    pub(crate) faults: Faults,
}

/// What a server must not do, from the first message on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Connections that it has ended.
    pub(crate) errors: u64,
    /// Bytes that are not those that were sent.
    pub(crate) corrupt_bytes: u64,
    /// Connections on which nothing has come back yet: no fault of a short window, but of a long one.
    pub(crate) silent: usize,
}

impl Window {
    pub(crate) fn new() -> Self {
        let latency_ns = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("constant bounds are valid");
        Window { messages: 0, lost: 0, elapsed: Duration::ZERO, latency_ns, faults: Faults::default() }
    }
}

impl Faults {
    /// A server that corrupts or breaks connections has no figures.
    pub(crate) fn check(self) -> io::Result<()> {
        match self {
            Faults { errors: 0, corrupt_bytes: 0, .. } => Ok(()),
            Faults { errors, corrupt_bytes, .. } => {
                Err(io::Error::other(format!("{errors} connections broke, {corrupt_bytes} bytes came back corrupt")))
            }
        }
    }
}

impl Load for Workload {
    fn name(&self) -> &'static str {
        self.name
    }

    fn description(&self) -> String {
        let Workload { connections, size_bytes, in_flight, form, .. } = self;
        let frames = if *form == Form::Framed { "frames, " } else { "" };
        format!("{frames}{connections} connections x {size_bytes} bytes, {in_flight} in flight each")
    }

    fn connections(&self) -> usize {
        self.connections
    }

    fn buffer_bytes(&self) -> u32 {
        self.buffer_bytes
    }

    fn smoke(self) -> Self {
        Workload { connections: self.connections.min(SMOKE_CONNECTIONS), ..self }
    }

    fn start(&self, address: SocketAddr) -> io::Result<impl FnMut(Duration) -> io::Result<Window>> {
        let mut generator = Generator::start(Swarm::connected(address, self.connections)?, *self)?;
        Ok(move |duration| generator.run(duration))
    }
}

struct Connection {
    socket: SocketId,
    /// Messages one after the other: any run of as many as may be in flight, from `next` on, is a slice of it.
    stream: Bytes,
    /// Bytes of the messages that differ.
    period_bytes: usize,
    /// Where in it the next message begins.
    next: usize,
    /// What comes back, again and again.
    expected: Bytes,
    received: usize,
    sent_ns: VecDeque<u64>,
    is_broken: bool,
}

/// The load on one server.
pub(crate) struct Generator {
    swarm: Swarm,
    connections: Vec<Connection>,
    workload: Workload,
    faults: Faults,
}

impl Generator {
    /// Fills every connection of the swarm with its messages in flight.
    pub(crate) fn start(swarm: Swarm, workload: Workload) -> io::Result<Self> {
        let block = random_block(workload.size_bytes + 64 * 1024);
        let connection = |(index, socket): (usize, &SocketId)| Connection::new(*socket, &block, index, workload);
        let connections = swarm.sockets.iter().enumerate().map(connection).collect();
        let mut generator = Generator { swarm, connections, workload, faults: Faults::default() };
        for index in 0..generator.connections.len() {
            let socket = generator.connections[index].socket;
            generator.swarm.driver.receive(socket, index as u64).map_err(io::Error::other)?;
            generator.send(index, workload.in_flight);
        }
        Ok(generator)
    }

    /// Keeps the load up for some time and says what came back in it.
    pub(crate) fn run(&mut self, duration: Duration) -> io::Result<Window> {
        let (mut window, start) = (Window::new(), Instant::now());
        loop {
            let left = duration.saturating_sub(start.elapsed());
            if left.is_zero() {
                window.elapsed = start.elapsed();
                window.faults = self.faults();
                return Ok(window);
            }
            self.turn(left, true, &mut window)?;
        }
    }

    /// Sends nothing more and takes what is still in flight, so that each message sent is counted.
    pub(crate) fn drain(&mut self, patience: Duration) -> io::Result<Window> {
        let (mut window, start) = (Window::new(), Instant::now());
        while self.connections.iter().any(|connection| !connection.sent_ns.is_empty()) {
            let left = patience.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(io::Error::other(format!("messages have not come back within {patience:?}")));
            }
            self.turn(left, false, &mut window)?;
        }
        window.elapsed = start.elapsed();
        window.faults = self.faults();
        Ok(window)
    }

    fn turn(&mut self, wait: Duration, is_answering: bool, window: &mut Window) -> io::Result<()> {
        self.swarm.driver.poll(Some(wait), &mut self.swarm.completions).map_err(io::Error::other)?;
        let now_ns = self.swarm.driver.now_ns();
        while let Some(completion) = self.swarm.completions.pop() {
            let index = completion.token as usize;
            let Outcome::Received(bytes) = completion.outcome else {
                self.broken(index);
                continue;
            };
            if bytes.is_empty() {
                self.broken(index);
                continue;
            }
            let connection = &mut self.connections[index];
            let whole = connection.take(&bytes, self.workload.size_bytes, &mut self.faults.corrupt_bytes);
            for sent_ns in connection.sent_ns.drain(..whole.min(connection.sent_ns.len())) {
                window.latency_ns.saturating_record(now_ns.saturating_sub(sent_ns));
            }
            window.messages += whole as u64;
            if is_answering {
                self.send(index, whole);
            }
        }
        Ok(())
    }

    fn send(&mut self, index: usize, count: usize) {
        let connection = &mut self.connections[index];
        if count == 0 || connection.is_broken {
            return;
        }
        let now_ns = self.swarm.driver.now_ns();
        connection.sent_ns.extend(std::iter::repeat_n(now_ns, count));
        // More than what was in flight comes back from a server that makes bytes up.
        let bytes = connection.take_next(count.min(self.workload.in_flight) * self.workload.size_bytes);
        if self.swarm.driver.send_quiet(connection.socket, bytes, index as u64).is_err() {
            self.broken(index);
        }
    }

    /// A connection is counted once, however many of its operations fail.
    fn broken(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if !std::mem::replace(&mut connection.is_broken, true) {
            connection.sent_ns.clear();
            self.faults.errors += 1;
        }
    }

    fn faults(&self) -> Faults {
        let is_silent = |connection: &&Connection| connection.received < self.workload.size_bytes;
        Faults { silent: self.connections.iter().filter(is_silent).count(), ..self.faults }
    }
}

impl Connection {
    fn new(socket: SocketId, block: &[u8], index: usize, workload: Workload) -> Self {
        let (stream, expected, period_bytes) = match workload.form {
            Form::Raw => {
                let stream = stream(block, index, workload);
                (stream.clone(), stream, workload.size_bytes)
            }
            Form::Framed => {
                let [stream, expected] = framed::streams(block, index, workload).map(Bytes::from);
                (stream, expected, workload.size_bytes * workload.in_flight)
            }
        };
        let sent_ns = VecDeque::with_capacity(workload.in_flight);
        Connection { socket, stream, period_bytes, next: 0, expected, received: 0, sent_ns, is_broken: false }
    }

    /// So many bytes of the next messages.
    fn take_next(&mut self, bytes: usize) -> Bytes {
        let start = self.next;
        self.next = (start + bytes) % self.period_bytes;
        self.stream.slice(start..start + bytes)
    }

    /// Checks what came and says how many messages it completes.
    fn take(&mut self, bytes: &[u8], size_bytes: usize, corrupt_bytes: &mut u64) -> usize {
        let before = self.received;
        let mut rest = bytes;
        while !rest.is_empty() {
            let place = self.received % self.expected.len();
            let length = rest.len().min(self.expected.len() - place);
            let expected = &self.expected[place..place + length];
            if rest[..length] != *expected {
                *corrupt_bytes += rest.iter().zip(expected).filter(|(came, sent)| came != sent).count() as u64;
            }
            self.received += length;
            rest = &rest[length..];
        }
        self.received / size_bytes - before / size_bytes
    }
}

fn stream(block: &[u8], index: usize, workload: Workload) -> Bytes {
    let place = index * 61 % (block.len() - workload.size_bytes).max(1);
    block[place..place + workload.size_bytes].repeat(workload.in_flight).into()
}

/// Random enough that no two places look alike (xorshift64*).
pub(crate) fn random_block(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes()
    };
    std::iter::from_fn(|| Some(next())).flatten().take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::workload;

    #[test]
    fn a_byte_that_does_not_fit_is_counted() {
        let workload = workload("W", 1, 3, 2);
        let mut connection = Connection::new(SocketId::NONE, b"abc", 0, workload);
        let mut corrupt_bytes = 0;
        assert_eq!(connection.take(b"abcab", 3, &mut corrupt_bytes), 1);
        assert_eq!(connection.take(b"cabcab", 3, &mut corrupt_bytes), 2);
        assert_eq!(corrupt_bytes, 0);
        assert_eq!(connection.take(b"xabx", 3, &mut corrupt_bytes), 2);
        assert_eq!(corrupt_bytes, 2);
    }

    #[test]
    fn frames_go_on_where_they_ended() {
        let workload = Workload { form: Form::Framed, ..workload("F", 1, 8, 3) };
        let mut connection = Connection::new(SocketId::NONE, &random_block(100), 0, workload);
        let all = connection.stream.clone();
        assert_eq!(connection.take_next(24), all[..24]);
        assert_eq!(connection.take_next(16), all[..16]);
        assert_eq!(connection.take_next(24), [&all[16..24], &all[..16]].concat());
        let (mut corrupt_bytes, answers) = (0, connection.expected.clone());
        assert_eq!(connection.take(&answers[..24], 8, &mut corrupt_bytes), 3);
        assert_eq!(connection.take(&answers[..8], 8, &mut corrupt_bytes), 1);
        assert_eq!(corrupt_bytes, 0);
        connection.take(&answers[..8], 8, &mut corrupt_bytes);
        assert!(corrupt_bytes > 0, "the same once more instead of the next");
    }

    #[test]
    fn only_what_broke_or_is_corrupt_ends_a_comparison() {
        assert!(Faults { silent: 3, ..Faults::default() }.check().is_ok());
        assert!(Faults { errors: 1, ..Faults::default() }.check().is_err());
        assert!(Faults { corrupt_bytes: 1, ..Faults::default() }.check().is_err());
    }
}
