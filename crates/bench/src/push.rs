//! F5: a thread of the server sends to random sessions, as a game's own thread does.
//!
//! 1. Each connection joins with a number, which makes it a session. One more connection says how much may be sent.
//! 2. The producer sends what it was granted. When a part of that has come, as much again is granted: it always has work,
//!    and what is on its way is bounded.
//! 3. Every byte is compared: each session gets its own messages, all of them, in order.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raon_provider::Outcome;

use crate::framed::{GRANT, HEADER_BYTES, JOIN, JOINED, PUSH, frame};
use crate::generator::{Faults, Window};
use crate::rounds::Load;
use crate::swarm::Swarm;
use crate::workload::SMOKE_CONNECTIONS;

/// Bytes of a message that the producer sends.
const PUSH_BYTES: usize = 64;
/// Messages on their way at most: sixteen for each of a thousand sessions.
const GRANTED_MAX: u64 = 16_384;
const GRANTED_AT_ONCE: u32 = 4096;
/// How long joining may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// So many sessions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Push {
    pub(crate) sessions: usize,
}

impl Load for Push {
    fn name(&self) -> &'static str {
        "F5"
    }

    fn description(&self) -> String {
        format!("another thread sends frames of {PUSH_BYTES} bytes to {} random sessions", self.sessions)
    }

    fn connections(&self) -> usize {
        self.sessions + 1
    }

    fn buffer_bytes(&self) -> u32 {
        4096
    }

    fn smoke(self) -> Self {
        Push { sessions: self.sessions.min(SMOKE_CONNECTIONS) }
    }

    fn start(&self, address: SocketAddr) -> io::Result<impl FnMut(Duration) -> io::Result<Window>> {
        let mut audience = Audience::joined(address, self.sessions)?;
        Ok(move |duration| audience.run(duration))
    }
}

struct Audience {
    /// The last of its sockets is no session.
    swarm: Swarm,
    /// Bytes received, by session.
    received: Vec<usize>,
    granted: u64,
    /// Messages that have come.
    came: u64,
    faults: Faults,
}

impl Audience {
    /// Connects all sessions; the server knows them all when this returns.
    fn joined(address: SocketAddr, sessions: usize) -> io::Result<Self> {
        let swarm = Swarm::connected(address, sessions + 1)?;
        let received = vec![0; sessions];
        let mut audience = Audience { swarm, received, granted: 0, came: 0, faults: Faults::default() };
        for index in 0..=sessions {
            let socket = audience.swarm.sockets[index];
            audience.swarm.driver.receive(socket, index as u64).map_err(io::Error::other)?;
            if index < sessions {
                audience.send(index, frame(JOIN, &(index as u32).to_le_bytes()))?;
            }
        }
        let (start, mut window) = (Instant::now(), Window::new());
        while audience.received.iter().any(|bytes| *bytes < JOINED_BYTES) {
            audience.turn(PATIENCE, &mut window)?;
            audience.faults.check()?;
            if start.elapsed() > PATIENCE {
                return Err(io::Error::other(format!("not all sessions have joined in {PATIENCE:?}")));
            }
        }
        Ok(audience)
    }

    fn send(&mut self, index: usize, frame: Vec<u8>) -> io::Result<()> {
        let sent = self.swarm.driver.send_quiet(self.swarm.sockets[index], Bytes::from(frame), index as u64);
        sent.map(drop).map_err(|refused| io::Error::other(refused.error))
    }

    /// Keeps the producer at work for some time and says what came in it.
    fn run(&mut self, duration: Duration) -> io::Result<Window> {
        let (mut window, start) = (Window::new(), Instant::now());
        loop {
            self.grant()?;
            let left = duration.saturating_sub(start.elapsed());
            if left.is_zero() {
                let silent = self.received.iter().filter(|bytes| **bytes < JOINED_BYTES + PUSH_BYTES).count();
                (window.elapsed, window.faults) = (start.elapsed(), Faults { silent, ..self.faults });
                return Ok(window);
            }
            self.turn(left, &mut window)?;
        }
    }

    fn grant(&mut self) -> io::Result<()> {
        while self.granted - self.came + u64::from(GRANTED_AT_ONCE) <= GRANTED_MAX {
            self.granted += u64::from(GRANTED_AT_ONCE);
            let sessions = self.received.len();
            let body = [GRANTED_AT_ONCE.to_le_bytes(), (sessions as u32).to_le_bytes()].concat();
            self.send(sessions, frame(GRANT, &body))?;
        }
        Ok(())
    }

    fn turn(&mut self, wait: Duration, window: &mut Window) -> io::Result<()> {
        self.swarm.driver.poll(Some(wait), &mut self.swarm.completions).map_err(io::Error::other)?;
        while let Some(completion) = self.swarm.completions.pop() {
            let index = completion.token as usize;
            match completion.outcome {
                Outcome::Received(bytes) if !bytes.is_empty() && index < self.received.len() => {
                    let came = take(index as u32, &mut self.received[index], &bytes, &mut self.faults.corrupt_bytes);
                    // A server that makes messages up cannot have been granted them.
                    self.came = (self.came + came).min(self.granted);
                    window.messages += came;
                }
                Outcome::Received(bytes) if !bytes.is_empty() => self.faults.corrupt_bytes += bytes.len() as u64,
                Outcome::Received(_) | Outcome::Failed { .. } => self.faults.errors += 1,
                _ => {}
            }
        }
        Ok(())
    }
}

/// What a session receives first.
const JOINED_BYTES: usize = HEADER_BYTES + 4;

/// Compares what a session got and says how many messages that completes.
fn take(number: u32, received: &mut usize, bytes: &[u8], corrupt_bytes: &mut u64) -> u64 {
    let whole = |received: usize| (received.saturating_sub(JOINED_BYTES) / PUSH_BYTES) as u64;
    let (before, mut rest) = (whole(*received), bytes);
    while !rest.is_empty() {
        let (frame, place, length) = expected(number, *received);
        let expected = &frame[place..length];
        let (found, after) = rest.split_at(rest.len().min(expected.len()));
        if *found != expected[..found.len()] {
            *corrupt_bytes += found.iter().zip(expected).filter(|(came, sent)| came != sent).count() as u64;
        }
        *received += found.len();
        rest = after;
    }
    whole(*received) - before
}

/// The frame that a session is in the middle of, where in it, and how long it is.
fn expected(number: u32, received: usize) -> ([u8; PUSH_BYTES], usize, usize) {
    let mut frame: [u8; PUSH_BYTES] = std::array::from_fn(|at| at as u8);
    let (id, place, length) = match received.checked_sub(JOINED_BYTES) {
        None => (JOINED, received, JOINED_BYTES),
        Some(pushed) => {
            frame[8..12].copy_from_slice(&((pushed / PUSH_BYTES) as u32).to_le_bytes());
            (PUSH, pushed % PUSH_BYTES, PUSH_BYTES)
        }
    };
    frame[..2].copy_from_slice(&(length as u16).to_le_bytes());
    frame[2..4].copy_from_slice(&id.to_le_bytes());
    frame[4..8].copy_from_slice(&number.to_le_bytes());
    (frame, place, length)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use super::*;

    fn push(number: u32, sequence: u32) -> Vec<u8> {
        let filler: Vec<u8> = (12..64).collect();
        frame(PUSH, &[&number.to_le_bytes()[..], &sequence.to_le_bytes(), &filler].concat())
    }

    fn stream(number: u32, pushes: u32) -> Vec<u8> {
        let joined = frame(JOINED, &number.to_le_bytes());
        std::iter::once(joined).chain((0..pushes).map(|sequence| push(number, sequence))).flatten().collect()
    }

    /// A server of two sessions that sends as much as it may, and leaves out one message if it is told to.
    fn serve(listener: &TcpListener, missing: Option<u32>) -> io::Result<()> {
        let mut streams: Vec<TcpStream> = (0..3).map(|_| Ok(listener.accept()?.0)).collect::<io::Result<_>>()?;
        let mut control = streams.pop().expect("the third");
        for (number, stream) in (0..).zip(&mut streams) {
            let mut asked = [0; JOINED_BYTES];
            stream.read_exact(&mut asked)?;
            assert_eq!(asked[..], frame(JOIN, &u32::to_le_bytes(number)));
            stream.write_all(&frame(JOINED, &u32::to_le_bytes(number)))?;
        }
        let (mut grant, mut sequence) = ([0; 12], 0);
        loop {
            control.read_exact(&mut grant)?;
            assert_eq!(grant[..], frame(GRANT, &[GRANTED_AT_ONCE.to_le_bytes(), 2u32.to_le_bytes()].concat()));
            for _ in 0..GRANTED_AT_ONCE / 2 {
                for (number, stream) in (0..).zip(&mut streams).filter(|_| missing != Some(sequence)) {
                    stream.write_all(&push(number, sequence))?;
                }
                sequence += 1;
            }
        }
    }

    /// What comes from such a server, with every window looked at until one is enough.
    fn listen(missing: Option<u32>, is_enough: impl Fn(u64, &Window) -> bool) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let address = listener.local_addr().expect("bound");
        let server = thread::spawn(move || serve(&listener, missing));
        let mut audience = Audience::joined(address, 2).expect("joins");
        let deadline = Instant::now() + PATIENCE;
        let mut messages = 0;
        loop {
            let window = audience.run(Duration::from_millis(10)).expect("runs");
            messages += window.messages;
            if is_enough(messages, &window) {
                break;
            }
            assert!(Instant::now() < deadline, "{messages} messages, {window:?}");
        }
        drop(audience);
        let error = server.join().expect("does not panic").expect_err("ends with the connection");
        assert_ne!(error.kind(), io::ErrorKind::Other, "{error}");
    }

    #[test]
    fn grants_go_on_and_all_is_counted() {
        listen(None, |messages, window| {
            assert_eq!(window.faults.corrupt_bytes + window.faults.errors, 0);
            messages > 3 * GRANTED_MAX && window.faults.silent == 0
        });
    }

    #[test]
    fn a_message_that_is_missing_is_found() {
        listen(Some(1000), |_, window| window.faults.check().is_err());
    }

    #[test]
    fn a_session_gets_its_own_in_order() {
        let stream = stream(7, 3);
        for cut in 0..stream.len() {
            let (mut received, mut corrupt) = (0, 0);
            let came = [&stream[..cut], &stream[cut..]].map(|part| take(7, &mut received, part, &mut corrupt));
            assert_eq!((came[0] + came[1], received, corrupt), (3, stream.len(), 0), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_missing_or_another_sessions_is_corrupt() {
        let corrupt = |bytes: &[u8]| {
            let (mut received, mut corrupt) = (0, 0);
            take(7, &mut received, bytes, &mut corrupt);
            corrupt
        };
        let whole = stream(7, 3);
        assert_eq!(corrupt(&whole), 0);
        assert_eq!(corrupt(&[&whole[..8 + 64], &whole[8 + 128..]].concat()), 1, "the second is missing");
        assert_eq!(corrupt(&stream(8, 1)), 2, "both frames are another's");
    }
}
