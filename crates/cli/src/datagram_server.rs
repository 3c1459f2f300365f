//! One worker of `raon serve --udp`: one thread, one driver, one socket. Several workers share the port, and the system
//! gives each of them its share of the peers.
//!
//! 1. A datagram that has come goes back to its sender in the buffer it came in.
//! 2. If the socket has no room, it waits here, behind those that wait already, until the socket has room again.
//! 3. If too many wait, it is dropped and counted: a queue without a bound would only make all answers late.
//! 4. When the server stops, what is under way goes out; what still waits is dropped and counted.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use raon_provider::{Buffer, CloseMode, Completion, Completions, Config, Driver, Error, ErrorKind, Outcome};
use raon_provider::{Payload, SocketId};
use serde::Serialize;

use crate::datagrams;
use crate::echo_server::Service;
use crate::stop::Stop;

const RECEIVE: u64 = 1;
const SEND: u64 = 2;
const CLOSE: u64 = 3;

/// How long what is under way may take to go out when the server stops.
const DRAIN: Duration = Duration::from_secs(1);

/// What a worker has done. Of an echo, everything that was received was sent, dropped, or is an error.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Tally {
    /// Datagrams that came, whole.
    pub(crate) received: u64,
    /// Datagrams that were sent back.
    pub(crate) sent: u64,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
    /// Datagrams that came and were not sent back for want of room.
    pub(crate) dropped: u64,
    /// Datagrams that were longer than the server takes.
    pub(crate) truncated: u64,
    /// Datagrams of which the network said that they did not reach their peer.
    pub(crate) undelivered: u64,
    /// System calls made to submit, wait, or transfer.
    pub(crate) kernel_entries: u64,
    /// Datagrams that the system did not take.
    pub(crate) errors: u64,
}

impl Tally {
    /// Adds what another worker has done.
    pub(crate) fn add(&mut self, other: Tally) {
        self.received += other.received;
        self.sent += other.sent;
        self.received_bytes += other.received_bytes;
        self.sent_bytes += other.sent_bytes;
        self.dropped += other.dropped;
        self.truncated += other.truncated;
        self.undelivered += other.undelivered;
        self.kernel_entries += other.kernel_entries;
        self.errors += other.errors;
    }
}

/// What a driver for such a worker starts from, with what it needs. At most half of the receive buffers are in the queue of
/// its socket and a quarter waits here, so that there is always one for the next datagram.
pub(crate) fn config(default: Config, datagram_bytes_max: u32) -> Config {
    let pool = datagrams::pool(datagram_bytes_max);
    let send_queue_count_max = pool.receive_count / 2;
    let send_queue_bytes_max = send_queue_count_max * pool.buffer_bytes;
    default.with(|config| {
        config.pool = pool;
        config.send_queue_count_max = send_queue_count_max;
        config.send_queue_bytes_max = send_queue_bytes_max;
    })
}

/// One worker.
pub(crate) struct Worker {
    driver: Driver,
    socket: SocketId,
    service: Service,
    stop: Arc<Stop>,
    /// In the order in which they came.
    waiting: VecDeque<(SocketAddr, Buffer)>,
    waiting_max: usize,
    /// Why nothing is received any more.
    failure: Option<Error>,
    is_closed: bool,
    tally: Tally,
}

impl Worker {
    /// A worker on its own thread, with the socket that it serves.
    pub(crate) fn new(driver: Driver, socket: SocketId, service: Service, stop: Arc<Stop>) -> Self {
        stop.wakes(driver.submitter());
        let waiting_max = driver.info().receive_buffers.0 as usize / 4;
        let waiting = VecDeque::with_capacity(waiting_max);
        let tally = Tally::default();
        Worker { driver, socket, service, stop, waiting, waiting_max, failure: None, is_closed: false, tally }
    }

    /// Serves until it is time to stop.
    pub(crate) fn run(mut self) -> Result<Tally, Error> {
        // What one turn brings always fits into the queue of the socket if that is empty.
        let mut completions = Completions::with_capacity(self.waiting_max.max(1));
        self.driver.receive(self.socket, RECEIVE)?;
        while !self.stop.is_asked() {
            self.turn(None, &mut completions)?;
        }
        self.tally.dropped += self.waiting.drain(..).len() as u64;
        self.driver.close(self.socket, CloseMode::Graceful { deadline: DRAIN }, CLOSE)?;
        let deadline = Instant::now() + 2 * DRAIN;
        while !self.is_closed && Instant::now() < deadline {
            self.turn(Some(deadline - Instant::now()), &mut completions)?;
        }
        let stats = self.driver.stats();
        (self.tally.sent_bytes, self.tally.kernel_entries) = (stats.sent_bytes, stats.kernel_entries);
        Ok(self.tally)
    }

    fn turn(&mut self, timeout: Option<Duration>, completions: &mut Completions) -> Result<(), Error> {
        self.driver.poll(timeout, completions)?;
        while let Some(completion) = completions.pop() {
            self.handle(completion);
        }
        self.failure.map_or(Ok(()), Err)
    }

    fn handle(&mut self, completion: Completion) {
        match completion.outcome {
            Outcome::Datagram { bytes, from } => self.on_datagram(from, bytes),
            Outcome::Truncated { .. } => self.tally.truncated += 1,
            Outcome::Undelivered(_) => self.tally.undelivered += 1,
            Outcome::Writable => self.on_writable(),
            Outcome::Failed { error, payload: Some(_), .. } => self.on_unsent(error),
            Outcome::Failed { error, payload: None, .. } if error.kind() != ErrorKind::Cancelled => {
                self.failure = Some(error);
            }
            Outcome::Closed => self.is_closed = true,
            _ => {}
        }
    }

    fn on_datagram(&mut self, from: SocketAddr, bytes: Buffer) {
        self.tally.received += 1;
        self.tally.received_bytes += bytes.len() as u64;
        if self.service == Service::Sink {
            return;
        }
        let kept = if self.waiting.is_empty() { self.send(from, bytes) } else { Some(bytes) };
        match kept {
            Some(bytes) if self.waiting.len() < self.waiting_max => self.waiting.push_back((from, bytes)),
            Some(_) => self.tally.dropped += 1,
            None => {}
        }
    }

    /// Queues an answer. It comes back if there is no room for it; `Writable` follows.
    fn send(&mut self, to: SocketAddr, bytes: Buffer) -> Option<Buffer> {
        match self.driver.send_to_quiet(self.socket, to, bytes, SEND) {
            Ok(_) => self.tally.sent += 1,
            Err(refused) => match refused.value {
                Payload::Buffer(bytes) if refused.error.kind() == ErrorKind::Busy => return Some(bytes),
                // The socket is closing.
                _ => self.tally.dropped += 1,
            },
        }
        None
    }

    fn on_writable(&mut self) {
        while let Some((from, bytes)) = self.waiting.pop_front() {
            if let Some(bytes) = self.send(from, bytes) {
                return self.waiting.push_front((from, bytes));
            }
        }
    }

    /// A datagram was on its way and did not go.
    fn on_unsent(&mut self, error: Error) {
        self.tally.sent -= 1;
        if error.kind() == ErrorKind::Cancelled {
            self.tally.dropped += 1;
            return;
        }
        if self.tally.errors == 0 {
            tracing::warn!("a datagram could not be sent: {error}; further ones are only counted");
        }
        self.tally.errors += 1;
    }
}
