//! The load: one thread on one driver, closed loop, every byte checked.
//!
//! A connection's messages are all the same piece of one random block, at a place of its own: a byte that is lost, added,
//! moved or meant for another connection does not fit. What comes back whole is answered by as many new messages in one
//! send, so the generator does no more system work than the server.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use raon_provider::{Error, Outcome, SocketId};

use crate::rounds::Load;
use crate::swarm::Swarm;
use crate::workload::Workload;

/// What one window of time has shown.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) messages: u64,
    pub(crate) elapsed: Duration,
    pub(crate) latency_ns: Histogram<u64>,
}

impl Load for Workload {
    fn name(&self) -> &'static str {
        self.name
    }

    fn description(&self) -> String {
        let Workload { connections, size_bytes, in_flight, .. } = self;
        format!("{connections} connections x {size_bytes} bytes, {in_flight} in flight each")
    }

    fn buffer_bytes(&self) -> u32 {
        self.buffer_bytes
    }

    fn start(&self, address: SocketAddr) -> Result<impl FnMut(Duration) -> Result<Window, Error>, Error> {
        let mut generator = Generator::start(address, *self)?;
        Ok(move |duration| generator.run(duration))
    }
}

struct Connection {
    socket: SocketId,
    /// In-flight messages one after the other: any run of messages is a slice of it.
    stream: Bytes,
    received: usize,
    sent_ns: VecDeque<u64>,
}

/// The load on one server.
struct Generator {
    swarm: Swarm,
    connections: Vec<Connection>,
    workload: Workload,
}

impl Generator {
    /// Connects everything and fills every connection with its messages in flight.
    fn start(address: SocketAddr, workload: Workload) -> Result<Self, Error> {
        let mut swarm = Swarm::new()?;
        swarm.connect(address, workload.connections)?;
        let block = random_block(workload.size_bytes + 64 * 1024);
        let connection = |(index, socket): (usize, &SocketId)| Connection {
            socket: *socket,
            stream: stream(&block, index, workload),
            received: 0,
            sent_ns: VecDeque::with_capacity(workload.in_flight),
        };
        let connections = swarm.sockets.iter().enumerate().map(connection).collect();
        let mut generator = Generator { swarm, connections, workload };
        for index in 0..generator.connections.len() {
            generator.swarm.driver.receive(generator.connections[index].socket, index as u64)?;
            generator.send(index, workload.in_flight);
        }
        Ok(generator)
    }

    /// Keeps the load up for some time and says what came back in it.
    ///
    /// Panics on a byte that does not fit: a server that corrupts has no figures.
    fn run(&mut self, duration: Duration) -> Result<Window, Error> {
        let mut latency_ns = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("constant bounds are valid");
        let (start, mut messages) = (Instant::now(), 0);
        loop {
            let left = duration.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(Window { messages, elapsed: start.elapsed(), latency_ns });
            }
            self.swarm.driver.poll(Some(left), &mut self.swarm.completions)?;
            let now_ns = self.swarm.driver.now_ns();
            while let Some(completion) = self.swarm.completions.pop() {
                match completion.outcome {
                    Outcome::Received(bytes) if !bytes.is_empty() => {
                        let index = completion.token as usize;
                        let whole = self.connections[index].take(&bytes, self.workload.size_bytes);
                        for _ in 0..whole {
                            let sent_ns = self.connections[index].sent_ns.pop_front().unwrap_or(now_ns);
                            latency_ns.saturating_record(now_ns.saturating_sub(sent_ns));
                        }
                        messages += whole as u64;
                        self.send(index, whole);
                    }
                    other => panic!("the server broke a connection: {other:?}"),
                }
            }
        }
    }

    fn send(&mut self, index: usize, count: usize) {
        if count == 0 {
            return;
        }
        let connection = &mut self.connections[index];
        let now_ns = self.swarm.driver.now_ns();
        connection.sent_ns.extend(std::iter::repeat_n(now_ns, count));
        let bytes = connection.stream.slice(..count * self.workload.size_bytes);
        self.swarm
            .driver
            .send_quiet(connection.socket, bytes, index as u64)
            .expect("never more than what is in flight");
    }
}

impl Connection {
    /// Checks what came and says how many messages it completes.
    fn take(&mut self, bytes: &[u8], size_bytes: usize) -> usize {
        let before = self.received;
        let mut rest = bytes;
        while !rest.is_empty() {
            let place = self.received % self.stream.len();
            let length = rest.len().min(self.stream.len() - place);
            assert!(rest[..length] == self.stream[place..place + length], "corrupt bytes");
            self.received += length;
            rest = &rest[length..];
        }
        self.received / size_bytes - before / size_bytes
    }
}

fn stream(block: &[u8], index: usize, workload: Workload) -> Bytes {
    let place = index * 61 % (64 * 1024);
    block[place..place + workload.size_bytes].repeat(workload.in_flight).into()
}

/// Random enough that no two places look alike (xorshift64*).
fn random_block(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes()
    };
    std::iter::from_fn(|| Some(next())).flatten().take(length).collect()
}
