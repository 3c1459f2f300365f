//! W8: a message of one member to all of them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use raon_provider::{Error, Outcome};

use crate::generator::Window;
use crate::rounds::Load;
use crate::swarm::Swarm;

/// Bytes of a message; the first is 1 in one that goes to all.
pub(crate) const MESSAGE_BYTES: usize = 64;

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

    fn buffer_bytes(&self) -> u32 {
        4096
    }

    fn start(&self, address: SocketAddr) -> Result<impl FnMut(Duration) -> Result<Window, Error>, Error> {
        let mut swarm = Swarm::new()?;
        swarm.connect(address, self.members)?;
        for (index, socket) in swarm.sockets.iter().enumerate() {
            swarm.driver.receive(*socket, index as u64)?;
        }
        let mut fan = Fan { received: vec![0; self.members], swarm, rounds: 0 };
        // All are members once a first message has reached all.
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
    fn run(&mut self, duration: Duration) -> Result<Window, Error> {
        let mut latency_ns = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("constant bounds are valid");
        let (start, mut messages) = (Instant::now(), 0);
        while start.elapsed() < duration {
            let sent = Instant::now();
            self.round()?;
            latency_ns.saturating_record(sent.elapsed().as_nanos() as u64);
            messages += self.received.len() as u64;
        }
        Ok(Window { messages, elapsed: start.elapsed(), latency_ns })
    }

    /// One message out, and back at every member.
    fn round(&mut self) -> Result<(), Error> {
        let mut message = [self.rounds as u8; MESSAGE_BYTES];
        message[0] = 1;
        let sender = self.swarm.sockets[self.rounds % self.swarm.sockets.len()];
        let sent = self.swarm.driver.send_quiet(sender, Bytes::copy_from_slice(&message), 0);
        sent.map_err(|refused| refused.error)?;
        self.rounds += 1;
        let (goal, mut missing) = (self.rounds * MESSAGE_BYTES, self.received.len());
        while missing > 0 {
            self.swarm.driver.poll(None, &mut self.swarm.completions)?;
            while let Some(completion) = self.swarm.completions.pop() {
                let Outcome::Received(bytes) = completion.outcome else {
                    return Err(completion.outcome.error().expect("nothing else was asked for"));
                };
                let received = &mut self.received[completion.token as usize];
                let place = *received % MESSAGE_BYTES;
                assert!(*bytes == message[place..place + bytes.len()], "corrupt bytes");
                *received += bytes.len();
                missing -= usize::from(*received == goal);
            }
        }
        Ok(())
    }
}
