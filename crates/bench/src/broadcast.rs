//! W8: a message of one member to all of them.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raon_provider::Outcome;

use crate::generator::Window;
use crate::rounds::Load;
use crate::swarm::Swarm;
use crate::workload::SMOKE_CONNECTIONS;

/// Bytes of a message; the first is 1 in one that goes to all.
pub(crate) const MESSAGE_BYTES: usize = 64;

/// How long a message may take to reach all.
const PATIENCE: Duration = Duration::from_secs(20);

/// So many members; one message at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Broadcast {
    pub(crate) members: usize,
}

impl Load for Broadcast {
    fn name(&self) -> &'static str {
        "W8"
    }

    fn description(&self) -> String {
        format!("one message of {MESSAGE_BYTES} bytes to {} connections", self.members)
    }

    fn connections(&self) -> usize {
        self.members
    }

    fn buffer_bytes(&self) -> u32 {
        4096
    }

    fn smoke(self) -> Self {
        Broadcast { members: self.members.min(SMOKE_CONNECTIONS) }
    }

    fn start(&self, address: SocketAddr) -> io::Result<impl FnMut(Duration) -> io::Result<Window>> {
        let mut swarm = Swarm::connected(address, self.members)?;
        for (index, socket) in swarm.sockets.iter().enumerate() {
            swarm.driver.receive(*socket, index as u64).map_err(io::Error::other)?;
        }
        let mut fan = Fan { received: vec![0; self.members], swarm, rounds: 0 };
        // All are members once a first message has reached all; it is from the one that was accepted last.
        fan.round()?;
        Ok(move |duration| fan.run(duration))
    }
}

struct Fan {
    swarm: Swarm,
    received: Vec<usize>,
    rounds: usize,
}

impl Fan {
    fn run(&mut self, duration: Duration) -> io::Result<Window> {
        let (mut window, start) = (Window::new(), Instant::now());
        while start.elapsed() < duration {
            let sent = Instant::now();
            self.round()?;
            window.latency_ns.saturating_record(sent.elapsed().as_nanos() as u64);
            window.messages += self.received.len() as u64;
        }
        window.elapsed = start.elapsed();
        Ok(window)
    }

    /// One message out, and back at every member.
    fn round(&mut self) -> io::Result<()> {
        let mut message = [self.rounds as u8; MESSAGE_BYTES];
        message[0] = 1;
        let last = self.swarm.sockets.len() - 1;
        let sender = self.swarm.sockets[last - self.rounds % (last + 1)];
        let sent = self.swarm.driver.send_quiet(sender, Bytes::copy_from_slice(&message), 0);
        sent.map_err(|refused| io::Error::other(refused.error))?;
        self.rounds += 1;
        let (goal, mut missing) = (self.rounds * MESSAGE_BYTES, self.received.len());
        while missing > 0 {
            let there = self.swarm.driver.poll(Some(PATIENCE), &mut self.swarm.completions);
            if there.map_err(io::Error::other)? == 0 {
                return Err(io::Error::other(format!("a message has not reached {missing} members in {PATIENCE:?}")));
            }
            while let Some(completion) = self.swarm.completions.pop() {
                missing -= usize::from(self.take(completion.token as usize, completion.outcome, &message, goal)?);
            }
        }
        Ok(())
    }

    /// Checks what a member got; true if that is the whole message.
    fn take(&mut self, member: usize, outcome: Outcome, message: &[u8], goal: usize) -> io::Result<bool> {
        let bytes = match outcome {
            Outcome::Received(bytes) if !bytes.is_empty() => bytes,
            other => return Err(io::Error::other(format!("a connection broke: {other:?}"))),
        };
        let received = &mut self.received[member];
        let place = *received % MESSAGE_BYTES;
        if message.get(place..place + bytes.len()) != Some(&bytes[..]) {
            return Err(io::Error::other("bytes came back corrupt"));
        }
        *received += bytes.len();
        Ok(*received == goal)
    }
}
