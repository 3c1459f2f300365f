//! Sockets of a simulated network, as the network keeps them: what each kind of socket remembers. What happens to them is in
//! `world.rs`, `connect.rs`, `stream.rs` and `datagram.rs`.
#![forbid(unsafe_code)]

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

use super::pipe::Pipe;
use crate::base::address::Address;
use crate::base::error::ErrorKind;

/// One socket of the network.
pub(crate) struct Node {
    pub(crate) local: Address,
    pub(crate) body: Body,
    /// Takes a place in the drivers' table of descriptors.
    pub(crate) is_counted: bool,
    /// Its name, or port, is its own: an accepted connection shares that of its listener.
    pub(super) owns_name: bool,
    /// The driver that it is attached to, and its index there.
    pub(super) watcher: Option<(u32, u32)>,
    /// In that driver's inbox.
    pub(super) is_noted: bool,
}

/// Kind of a socket, with what that kind remembers.
pub(crate) enum Body {
    /// Nothing but a place in the table of descriptors.
    Reserve,
    Listener(Listener),
    Stream(Box<Stream>),
    Datagram(Box<Port>),
}

/// A socket that waits for connections.
pub(crate) struct Listener {
    pub(crate) backlog: usize,
    pub(crate) waiting: VecDeque<u32>,
}

/// Progress of a connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Unconnected,
    Connecting,
    Connected,
}

/// One end of a connection.
pub(crate) struct Stream {
    pub(crate) phase: Phase,
    pub(crate) peer: Address,
    /// The socket at the other end; 0: none.
    pub(crate) other: u32,
    pub(crate) inbound: Pipe,
    /// To be told, once.
    pub(crate) error: Option<ErrorKind>,
    pub(crate) is_reset: bool,
    pub(super) is_write_shut: bool,
    pub(crate) is_linger_zero: bool,
    /// Time for which it waits for an answer; 0: as the plan says.
    pub(crate) user_timeout_ns: u64,
    /// Bytes written to an end that has closed, before its reset comes.
    pub(super) lost_bytes: usize,
    /// Moment at which it gives up, if a partition keeps its bytes from arriving.
    pub(crate) gives_up_ns: Option<u64>,
}

impl Stream {
    pub(crate) fn new(peer: Address, inbound: Pipe, user_timeout_ns: u64) -> Self {
        Stream {
            phase: Phase::Unconnected,
            peer,
            other: 0,
            inbound,
            error: None,
            is_reset: false,
            is_write_shut: false,
            is_linger_zero: false,
            user_timeout_ns,
            lost_bytes: 0,
            gives_up_ns: None,
        }
    }

    pub(crate) fn connected(peer: Address, other: u32, inbound: Pipe, user_timeout_ns: u64) -> Self {
        Stream { phase: Phase::Connected, other, ..Stream::new(peer, inbound, user_timeout_ns) }
    }

    pub(crate) fn is_connecting(&self) -> bool {
        self.phase == Phase::Connecting
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.phase == Phase::Connected && !self.is_reset
    }

    pub(crate) fn is_waiting_for_an_answer(&self) -> bool {
        self.is_connecting() || (self.gives_up_ns.is_some() && !self.is_reset)
    }

    pub(crate) fn error(&self) -> Option<ErrorKind> {
        self.error
    }

    pub(crate) fn break_with(&mut self, error: ErrorKind) {
        (self.error, self.is_reset, self.phase) = (Some(error), true, Phase::Unconnected);
        self.inbound.purge();
    }
}

/// A datagram socket.
#[derive(Default)]
pub(crate) struct Port {
    pub(crate) peer: Option<SocketAddr>,
    pub(super) is_shared: bool,
    pub(super) is_dual_stack: bool,
    pub(super) groups: BTreeSet<IpAddr>,
    pub(super) queue: VecDeque<(SocketAddr, Vec<u8>)>,
    pub(super) queue_bytes: usize,
    pub(super) queue_bytes_max: usize,
    /// Report of the network about an earlier datagram.
    pub(super) error: Option<ErrorKind>,
}

impl Port {
    pub(crate) fn is_readable(&self) -> bool {
        !self.queue.is_empty() || self.error.is_some()
    }
}

/// A datagram on its way.
pub(crate) struct Flight {
    pub(super) sender: u32,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) bytes: Vec<u8>,
}
