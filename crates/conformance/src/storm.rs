//! Many at once, and races at every moment.

//= ONCE-1, CANCEL-1, CLOSE-1, SEND-1

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use raon_provider::{
    Address, Completion, ConnectOptions, ErrorKind, ListenOptions, Operation, Outcome, Payload, SocketId,
};

use crate::platform::DescriptorLimit;
use crate::random::{Random, assert_pattern, pattern};
use crate::rig::{ANY, Rig};
use crate::setup::Setup;

const SOCKETS: usize = 5000;
const WAVE: usize = 500;

pub fn five_thousand_sockets_open_and_close(setup: &Setup) {
    let _limit = DescriptorLimit::raise();
    let mut rig = Rig::with(setup, |config| {
        config.sockets_max = 2 * SOCKETS as u32 + 16;
        config.operations_max = 8 * SOCKETS as u32;
    });
    let listener = rig.driver.listen(setup.own_address(), &ListenOptions::default()).unwrap();
    let address = rig.driver.local_address(listener).unwrap();
    rig.accept(listener, 1);
    let (mut near, mut far) = (Vec::new(), Vec::new());
    while near.len() < SOCKETS {
        open_wave(&mut rig, &address, &mut near, &mut far);
    }
    assert_eq!(rig.driver.stats().sockets, 2 * SOCKETS as u64 + 1);
    close_all(&mut rig, near, far);
    assert_eq!(rig.driver.stats().sockets, 1);
}

/// Connects a wave of sockets; each sends a greeting and receives.
fn open_wave(rig: &mut Rig, address: &Address, near: &mut Vec<SocketId>, far: &mut Vec<SocketId>) {
    for _ in 0..WAVE {
        rig.connect(address, 2);
    }
    let goal = near.len() + WAVE;
    while near.len() < goal || far.len() < goal {
        rig.poll(Some(Duration::from_secs(5)));
        let seen: Vec<_> = rig.seen().collect();
        for completion in seen {
            match completion.outcome {
                Outcome::Connected => {
                    near.push(completion.socket);
                    rig.receive(completion.socket, ANY);
                    rig.send_quiet(completion.socket, b"hello".as_slice(), ANY);
                }
                Outcome::Accepted(socket) => {
                    far.push(rig.adopt(socket));
                    rig.receive(far[far.len() - 1], ANY);
                }
                Outcome::Received(bytes) => assert!(b"hello".windows(bytes.len()).any(|piece| piece == &*bytes)),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Closes all in every way at once: either end first, with and without a farewell, with and without a reset.
fn close_all(rig: &mut Rig, near: Vec<SocketId>, far: Vec<SocketId>) {
    let mut random = Random::new(9);
    for socket in near.into_iter().chain(far) {
        if random.below(2) == 0 {
            // It may have been reset by its other end already.
            let _ = rig.try_send_quiet(socket, vec![1; 1 + random.below(3000)], ANY);
        }
        if random.below(3) == 0 {
            rig.abort(socket, 3);
        } else {
            rig.close(socket, Duration::from_secs(10), 3);
        }
        if random.below(100) == 0 {
            rig.turns(1);
        }
    }
    let mut closed = 0;
    rig.until("all sockets to close", |rig| {
        closed += rig.seen().filter(|each| matches!(each.outcome, Outcome::Closed)).count();
        closed == 2 * SOCKETS
    });
}

const ECHOES: usize = 100;
/// Token of the sides that send back what comes; those of the others are their numbers.
const MIRROR: u64 = 1_000_000;

/// The side of a connection that asks.
struct Echo {
    socket: SocketId,
    number: usize,
    round: usize,
    sent: usize,
    received: usize,
}

impl Echo {
    /// Sends the next message, of a length that changes from one to the next.
    fn ask(&mut self, rig: &mut Rig) {
        let length = 1 + (self.number * 7 + self.round * 13) % 400;
        rig.send_quiet(self.socket, pattern(self.number * 100 + self.sent, length), ANY);
        (self.round, self.sent) = (self.round + 1, self.sent + length);
    }

    /// True if the last message of all has come back.
    fn hear(&mut self, bytes: &[u8], rig: &mut Rig) -> bool {
        assert_pattern(self.number * 100 + self.received, bytes);
        self.received += bytes.len();
        assert!(self.received <= self.sent, "more came back than was sent");
        let is_whole = self.received == self.sent;
        if is_whole && self.round < ECHOES {
            self.ask(rig);
            return false;
        }
        is_whole
    }
}

/// Each sends its next message when the last one has come back whole: every byte once, in order, and none of another's.
pub fn five_hundred_connections_echo_a_hundred_messages(setup: &Setup) {
    let mut rig = Rig::with(setup, |config| config.pool.receive_count = 2 * WAVE as u32);
    let listener = rig.driver.listen(setup.own_address(), &ListenOptions::default()).unwrap();
    let address = rig.driver.local_address(listener).unwrap();
    rig.accept(listener, ANY);
    for _ in 0..WAVE {
        rig.connect(&address, ANY);
    }
    let (mut echoes, mut done) = (Vec::new(), 0);
    while done < WAVE {
        let Completion { token, socket, outcome, .. } = rig.next_completion();
        match outcome {
            Outcome::Accepted(accepted) => {
                let mirror = rig.adopt(accepted);
                rig.receive(mirror, MIRROR);
            }
            Outcome::Connected => {
                let number = echoes.len();
                echoes.push(Echo { socket, number, round: 0, sent: 0, received: 0 });
                rig.receive(socket, number as u64);
                echoes[number].ask(&mut rig);
            }
            Outcome::Received(bytes) if token == MIRROR => {
                rig.send_quiet(socket, bytes, ANY);
            }
            Outcome::Received(bytes) => done += usize::from(echoes[token as usize].hear(&bytes, &mut rig)),
            other => panic!("{other:?}"),
        }
    }
    assert!(echoes.iter().all(|echo| echo.round == ECHOES));
}

const ROUNDS: usize = 2000;

/// Some microseconds, about as long as the other thread needs.
fn spin(random: &mut Random) {
    (0..random.below(6000)).for_each(|_| std::hint::spin_loop());
}

/// Another thread writes just as the receive is cancelled: it completes once, and if it says Cancelled the bytes are there
/// for the next one.
pub fn cancels_race_completions_of_receives(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, peer) = rig.peer();
    let go = Arc::new(AtomicUsize::new(0));
    let writer = std::thread::spawn({
        let (go, mut stream) = (go.clone(), peer.into_blocking());
        move || {
            for round in 1..=ROUNDS {
                while go.load(Ordering::Acquire) < round {
                    std::thread::park();
                }
                stream.write_all(&pattern((round - 1) * 8, 8)).unwrap();
            }
        }
    });
    let mut random = Random::new(13);
    let (mut received, mut cancelled) = (0, 0);
    for round in 1..=ROUNDS {
        let is_stream = round % 2 == 0;
        let operation = if is_stream { rig.receive(socket, 1) } else { rig.receive_into(socket, 8, 1) };
        rig.turns(random.below(2));
        go.store(round, Ordering::Release);
        writer.thread().unpark();
        spin(&mut random);
        if random.below(2) == 0 {
            rig.turns(1);
        }
        // It may have completed in that turn.
        let _ = rig.driver.cancel(operation);
        cancelled += usize::from(drain_until_ended(&mut rig, &mut received));
        while received < round * 8 {
            rig.receive_into(socket, round * 8 - received, 1);
            drain_until_ended(&mut rig, &mut received);
        }
    }
    writer.join().unwrap();
    assert_eq!(received, ROUNDS * 8);
    assert!(cancelled > 0, "no cancel was ever in time: this is no race");
}

/// Takes completions up to the operation's last; true if it was cancelled.
fn drain_until_ended(rig: &mut Rig, received: &mut usize) -> bool {
    loop {
        let completion = rig.wait(1);
        let bytes = match completion.outcome {
            Outcome::Received(bytes) => bytes.to_vec(),
            Outcome::ReceivedInto(room) => Payload::from(room).to_vec(),
            Outcome::Failed { error, transferred, .. } => {
                assert_eq!((error.kind(), transferred), (ErrorKind::Cancelled, 0));
                return true;
            }
            other => panic!("{other:?}"),
        };
        assert_pattern(*received, &bytes);
        *received += bytes.len();
        if !completion.more {
            return false;
        }
    }
}

/// Another thread reads while sends are cancelled: what arrived is exactly what the completions say was transferred.
pub fn cancels_race_completions_of_sends(setup: &Setup) {
    let mut rig = Rig::with(setup, |config| config.send_queue_bytes_max = 1 << 20);
    let (socket, peer) = rig.peer_with_buffers(8192, 8192);
    let reader = std::thread::spawn(move || {
        let mut stream = peer.into_blocking();
        let (mut received, mut chunk) = (0, vec![0; 16_384]);
        loop {
            let length = stream.read(&mut chunk).unwrap();
            if length == 0 {
                return received;
            }
            assert_pattern(received, &chunk[..length]);
            received += length;
        }
    });
    let mut random = Random::new(17);
    let (mut sent, mut cancelled) = (0, 0);
    for _ in 0..ROUNDS {
        let length = 1 + random.below(40_000);
        let operation = rig.send(socket, pattern(sent, length), 1);
        rig.turns(random.below(3));
        spin(&mut random);
        let _ = rig.driver.cancel(operation);
        match rig.wait(1).outcome {
            Outcome::Sent(payload) => sent += payload.len(),
            Outcome::Failed { error, payload, transferred } => {
                assert_eq!((error.kind(), payload.unwrap().len()), (ErrorKind::Cancelled, length));
                sent += transferred as usize;
                cancelled += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    rig.shutdown_write(socket, 2);
    rig.wait(2);
    assert_eq!(reader.join().unwrap(), sent);
    assert!(cancelled > 0, "no cancel was ever in time: this is no race");
}

/// TCP_USER_TIMEOUT ends a connect that nobody answers; the first retry of the kernel is after one second. A connect to a
/// Unix socket knows no time-out: it waits until there is room in the backlog.
pub fn a_connect_without_an_answer_times_out(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let full = crate::endpoints::FullBacklog::new(setup);
    let options = ConnectOptions::default().with(|options| options.user_timeout = Some(Duration::from_millis(500)));
    rig.submit(Operation::Connect { address: full.address.clone(), options }, 1);
    if setup.is_unix {
        rig.timer(Duration::from_millis(700), 2);
        assert_eq!(rig.next_completion().token, 2, "nobody answers");
        full.drain();
        return assert!(matches!(rig.wait(1).outcome, Outcome::Connected));
    }
    assert_eq!(rig.wait_failure(1).0, ErrorKind::TimedOut);
    assert_eq!(rig.driver.stats().sockets, 0);
}
