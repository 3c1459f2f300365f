//! Echo of datagrams to their senders, in the same buffer: a quiet send for each datagram of a turn, all with the next one.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use raon_provider::{BindOptions, Driver, ErrorKind, Outcome, Payload, SocketId};

use super::{Options, Service, announce, config, run, tell};
use crate::datagrams::RECEIVE_QUEUE_BYTES;

/// Serves until the process is killed.
pub(super) fn serve(options: &Options) -> io::Result<()> {
    let config = config(options);
    // All that a turn brings may be queued for sending: a datagram in each receive buffer.
    let send_queue_bytes_max = config.pool.receive_count * config.pool.buffer_bytes;
    let mut driver = Driver::open(&config.with(|config| config.send_queue_bytes_max = send_queue_bytes_max))
        .map_err(io::Error::other)?;
    let receive_queue_bytes = Some(RECEIVE_QUEUE_BYTES);
    let bind = BindOptions::default()
        .with(|own| (own.coalesce, own.receive_queue_bytes) = (options.coalesce, receive_queue_bytes));
    let socket = driver.bind(options.listen, &bind).map_err(io::Error::other)?;
    driver.receive(socket, 0).map_err(io::Error::other)?;
    announce(options, &driver, socket)?;
    run(driver, Datagrams::default()).map_err(io::Error::other)
}

#[derive(Default)]
struct Datagrams {
    /// What was refused for want of room, in order. Each holds a receive buffer or a part of one, so there are never more
    /// than the pool has, and while all are here nothing more is received.
    waiting: VecDeque<(SocketAddr, Payload)>,
}

impl Service for Datagrams {
    fn on_completion(&mut self, driver: &mut Driver, socket: SocketId, outcome: Outcome) {
        match outcome {
            Outcome::Datagram { bytes, from } if self.waiting.is_empty() => {
                self.send(driver, socket, from, bytes.into())
            }
            Outcome::Datagram { bytes, from } => self.waiting.push_back((from, bytes.into())),
            Outcome::Writable => {
                for (from, payload) in std::mem::take(&mut self.waiting) {
                    if self.waiting.is_empty() {
                        self.send(driver, socket, from, payload);
                    } else {
                        self.waiting.push_back((from, payload));
                    }
                }
            }
            Outcome::Expired => tell(driver),
            Outcome::Failed { error, payload: None, .. } => panic!("nothing is received any more: {error}"),
            // A peer that is gone, or a datagram that did not go: the generator counts it as lost.
            _ => {}
        }
    }
}

impl Datagrams {
    fn send(&mut self, driver: &mut Driver, socket: SocketId, to: SocketAddr, payload: Payload) {
        if let Err(refused) = driver.send_to_quiet(socket, to, payload, 0)
            && refused.error.kind() == ErrorKind::Busy
        {
            self.waiting.push_back((to, refused.value));
        }
    }
}
