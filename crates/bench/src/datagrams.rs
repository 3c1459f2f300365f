//! D1 to D3: datagrams to an echo and back, over sockets whose peer is the server.
//!
//! 1. A socket has as many places as datagrams may be in flight. A datagram begins with the number of its socket and its
//!    own, which says its place too; the rest of it follows from both.
//! 2. An answer is compared byte for byte with what was sent; then the next datagram of its place leaves.
//! 3. Without an answer in time a datagram is lost: counted, and the next one of its place leaves. An answer that comes
//!    later is the answer to nothing and is passed over.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use raon_provider::{BindOptions, Completions, Config, Driver, Outcome, SocketId};

use crate::generator::{Faults, Window, random_block};
use crate::rounds::Load;
use crate::workload::{DatagramWorkload, SMOKE_CONNECTIONS};

/// Asked of the system for what a socket has not taken yet: more than all datagrams of a workload, with what the kernel
/// keeps beside each. Below that, loopback drops.
pub(crate) const RECEIVE_QUEUE_BYTES: u32 = 4 << 20;

/// A datagram is lost after this, some hundred times what an answer takes.
const TIMEOUT_NS: u64 = 100_000_000;
/// How often to look for what is lost.
const LOOK_NS: u64 = TIMEOUT_NS / 4;

/// Socket and sequence number, in the first bytes of a datagram.
const HEAD_BYTES: usize = 8;
/// Different contents behind them.
const CONTENTS: usize = 4096;

impl Load for DatagramWorkload {
    fn name(&self) -> &'static str {
        self.name
    }

    fn description(&self) -> String {
        let DatagramWorkload { sockets, size_bytes, in_flight, .. } = self;
        let noun = if *sockets == 1 { "socket" } else { "sockets" };
        format!("datagrams, {sockets} {noun} x {size_bytes} bytes, {in_flight} in flight each")
    }

    fn connections(&self) -> usize {
        self.sockets
    }

    fn buffer_bytes(&self) -> u32 {
        4096
    }

    fn smoke(self) -> Self {
        DatagramWorkload { sockets: self.sockets.min(SMOKE_CONNECTIONS), ..self }
    }

    fn start(&self, address: SocketAddr) -> io::Result<impl FnMut(Duration) -> io::Result<Window>> {
        let mut exchange = Exchange::start(address, *self)?;
        Ok(move |duration| exchange.run(duration))
    }
}

struct Exchange {
    driver: Driver,
    completions: Completions,
    peers: Vec<Peer>,
    contents: Contents,
    in_flight: usize,
    faults: Faults,
    /// When to look for what is lost.
    look_ns: u64,
}

/// A socket, and the server at its other end.
struct Peer {
    socket: SocketId,
    places: Vec<Place>,
    has_answered: bool,
    is_broken: bool,
}

/// The newest datagram of a place. Its sequence number leaves the index of the place when divided by their count.
#[derive(Clone, Copy)]
struct Place {
    sequence: u32,
    sent_ns: u64,
}

impl Exchange {
    /// Binds the sockets and sends what is to be in flight.
    fn start(address: SocketAddr, workload: DatagramWorkload) -> io::Result<Self> {
        let DatagramWorkload { sockets, size_bytes, in_flight, .. } = workload;
        let driver = Driver::open(&Config::default()).map_err(io::Error::other)?;
        let completions = Completions::with_capacity(1024);
        let (peers, contents, faults) = (Vec::with_capacity(sockets), Contents::new(size_bytes), Faults::default());
        let look_ns = driver.now_ns() + LOOK_NS;
        let mut exchange = Exchange { driver, completions, peers, contents, in_flight, faults, look_ns };
        (0..sockets).try_for_each(|index| exchange.bind(address, index))?;
        for index in 0..sockets {
            (0..in_flight).try_for_each(|place| exchange.send(index, place))?;
        }
        Ok(exchange)
    }

    fn bind(&mut self, server: SocketAddr, index: usize) -> io::Result<()> {
        let receive_queue_bytes = Some(RECEIVE_QUEUE_BYTES);
        let options = BindOptions::default()
            .with(|options| (options.peer, options.receive_queue_bytes) = (Some(server), receive_queue_bytes));
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => (Ipv4Addr::LOCALHOST, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::LOCALHOST, 0).into(),
        };
        let socket = self.driver.bind(any, &options).map_err(io::Error::other)?;
        self.driver.receive(socket, index as u64).map_err(io::Error::other)?;
        let place = |place| Place { sequence: place as u32, sent_ns: 0 };
        let places = (0..self.in_flight).map(place).collect();
        self.peers.push(Peer { socket, places, has_answered: false, is_broken: false });
        Ok(())
    }

    /// Keeps the load up for some time and says what came back in it.
    fn run(&mut self, duration: Duration) -> io::Result<Window> {
        let (mut window, start) = (Window::new(), Instant::now());
        loop {
            let left = duration.saturating_sub(start.elapsed());
            if left.is_zero() {
                let silent = self.peers.iter().filter(|peer| !peer.has_answered).count();
                (window.elapsed, window.faults) = (start.elapsed(), Faults { silent, ..self.faults });
                return Ok(window);
            }
            self.turn(left.min(Duration::from_nanos(LOOK_NS)), &mut window)?;
        }
    }

    fn turn(&mut self, wait: Duration, window: &mut Window) -> io::Result<()> {
        self.driver.poll(Some(wait), &mut self.completions).map_err(io::Error::other)?;
        let now_ns = self.driver.now_ns();
        while let Some(completion) = self.completions.pop() {
            let index = completion.token as usize;
            match completion.outcome {
                Outcome::Datagram { bytes, .. } => {
                    if let Some(place) = self.answered(index, &bytes) {
                        let sent_ns = self.peers[index].places[place].sent_ns;
                        window.latency_ns.saturating_record(now_ns.saturating_sub(sent_ns));
                        window.messages += 1;
                        self.next(index, place)?;
                    }
                }
                Outcome::Truncated { .. } => self.faults.corrupt_bytes += self.contents.size_bytes as u64,
                // The server is gone, or the socket is.
                Outcome::Undelivered(_) | Outcome::Failed { .. } => self.broken(index),
                _ => {}
            }
        }
        if now_ns >= self.look_ns {
            self.look_ns = now_ns + LOOK_NS;
            window.lost += self.replace_lost(now_ns)?;
        }
        Ok(())
    }

    /// Checks an answer. The place that it is the answer of, unless it is late or wrong.
    fn answered(&mut self, index: usize, bytes: &[u8]) -> Option<usize> {
        let peer = &mut self.peers[index];
        let Some(sequence) = self.contents.sequence(index, bytes) else {
            self.faults.corrupt_bytes += self.contents.size_bytes as u64;
            return None;
        };
        peer.has_answered = true;
        let place = sequence as usize % self.in_flight;
        (peer.places[place].sequence == sequence).then_some(place)
    }

    /// Gives up what has waited too long, and sends anew. Says how many that were.
    fn replace_lost(&mut self, now_ns: u64) -> io::Result<u64> {
        let mut lost = 0;
        for index in 0..self.peers.len() {
            for place in 0..self.in_flight {
                if now_ns.saturating_sub(self.peers[index].places[place].sent_ns) > TIMEOUT_NS {
                    self.next(index, place)?;
                    lost += 1;
                }
            }
        }
        Ok(lost)
    }

    /// The next datagram of a place.
    fn next(&mut self, index: usize, place: usize) -> io::Result<()> {
        let sequence = &mut self.peers[index].places[place].sequence;
        *sequence = sequence.wrapping_add(self.in_flight as u32);
        self.send(index, place)
    }

    fn send(&mut self, index: usize, place: usize) -> io::Result<()> {
        let peer = &mut self.peers[index];
        let Place { sequence, sent_ns } = &mut peer.places[place];
        *sent_ns = self.driver.now_ns();
        let mut buffer = self.driver.buffer().ok_or_else(|| io::Error::other("no buffer is left to send from"))?;
        self.contents.fill(index, *sequence, &mut buffer);
        if self.driver.send_quiet(peer.socket, buffer, index as u64).is_err() {
            self.broken(index);
        }
        Ok(())
    }

    /// A socket is counted once, however many of its operations fail.
    fn broken(&mut self, index: usize) {
        let was_broken = std::mem::replace(&mut self.peers[index].is_broken, true);
        self.faults.errors += u64::from(!was_broken);
    }
}

/// What is in a datagram.
struct Contents {
    block: Vec<u8>,
    size_bytes: usize,
}

impl Contents {
    fn new(size_bytes: usize) -> Self {
        Contents { block: random_block(CONTENTS + size_bytes), size_bytes }
    }

    fn fill(&self, index: usize, sequence: u32, buffer: &mut raon_provider::Buffer) {
        buffer.set_len(self.size_bytes);
        buffer[..HEAD_BYTES].copy_from_slice(&head(index, sequence));
        buffer[HEAD_BYTES..].copy_from_slice(self.rest(index, sequence));
    }

    /// The sequence number of a datagram of this socket, if every byte of it is as it was sent.
    fn sequence(&self, index: usize, bytes: &[u8]) -> Option<u32> {
        let (found, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
        let sequence = u32::from_le_bytes([found[4], found[5], found[6], found[7]]);
        let is_whole = *found == head(index, sequence) && rest == self.rest(index, sequence);
        is_whole.then_some(sequence)
    }

    fn rest(&self, index: usize, sequence: u32) -> &[u8] {
        let place = (index * 61 + sequence as usize * 7) % CONTENTS;
        &self.block[place..place + self.size_bytes - HEAD_BYTES]
    }
}

fn head(index: usize, sequence: u32) -> [u8; HEAD_BYTES] {
    (u64::from(sequence) << 32 | index as u64).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    const WORKLOAD: DatagramWorkload = DatagramWorkload { name: "D", sockets: 1, size_bytes: 64, in_flight: 4 };
    const WINDOW: Duration = Duration::from_millis(10);

    fn server() -> (UdpSocket, SocketAddr) {
        let server = UdpSocket::bind("127.0.0.1:0").expect("binds");
        server.set_read_timeout(Some(Duration::from_secs(20))).expect("can be set");
        let address = server.local_addr().expect("bound");
        (server, address)
    }

    #[test]
    fn only_what_was_sent_fits() {
        let contents = Contents::new(64);
        let mut buffer = Driver::open(&Config::default()).expect("opens").buffer().expect("there is one");
        contents.fill(3, 70_000, &mut buffer);
        assert_eq!(contents.sequence(3, &buffer), Some(70_000));
        assert_eq!(contents.sequence(4, &buffer), None, "another socket's");
        assert_eq!(contents.sequence(3, &buffer[..63]), None);
        buffer[63] ^= 1;
        assert_eq!(contents.sequence(3, &buffer), None);
    }

    /// Runs until the window says so, with a deadline.
    fn run_until(exchange: &mut Exchange, mut is_enough: impl FnMut(&Window) -> bool) -> Window {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let window = exchange.run(WINDOW).expect("runs");
            if is_enough(&window) {
                return window;
            }
            assert!(Instant::now() < deadline, "{window:?}");
        }
    }

    #[test]
    fn what_gets_no_answer_is_lost_and_replaced() {
        let (server, address) = server();
        let mut exchange = Exchange::start(address, WORKLOAD).expect("starts");
        let window = run_until(&mut exchange, |window| window.lost > 0);
        assert_eq!((window.lost, window.messages, window.faults.silent), (4, 0, 1));
        // The first four have left long ago: their answers are late.
        let mut bytes = [0; 100];
        let mut answer = || {
            let (length, from) = server.recv_from(&mut bytes)?;
            server.send_to(&bytes[..length], from)
        };
        for _ in 0..4 {
            answer().expect("echoes");
        }
        let window = run_until(&mut exchange, |window| window.faults.silent == 0);
        assert_eq!((window.messages, window.faults), (0, Faults::default()));
        server.set_nonblocking(true).expect("can be set");
        run_until(&mut exchange, |window| {
            while answer().is_ok() {}
            window.messages > 0
        });
    }

    #[test]
    fn a_wrong_answer_is_corrupt() {
        let (server, address) = server();
        let mut exchange = Exchange::start(address, WORKLOAD).expect("starts");
        // Nothing leaves before the first turn.
        exchange.run(WINDOW).expect("runs");
        let mut bytes = [0; 100];
        let (length, from) = server.recv_from(&mut bytes).expect("receives");
        bytes[20] ^= 1;
        server.send_to(&bytes[..length], from).expect("sends");
        let window = run_until(&mut exchange, |window| window.faults.corrupt_bytes > 0);
        assert_eq!((window.messages, window.faults.corrupt_bytes), (0, 64));
    }
}
