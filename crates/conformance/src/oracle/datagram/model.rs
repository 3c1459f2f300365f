//! Model of datagram sockets: what is open, what a submit must be answered with, and what must have happened by now.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use raon_provider::{CloseMode, ErrorKind, OperationId, SocketId};

use super::NETWORK_BYTES_MAX;
use super::flight::{Flights, Label};
use crate::oracle::answer::Verdict;
use crate::oracle::model::{Closing, Limits};

/// What an operation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Send { is_quiet: bool },
    Receive,
}

/// An operation, from its submission to its last completion.
#[derive(Clone, Debug)]
pub(super) struct Op {
    pub kind: Kind,
    pub port: usize,
    pub id: OperationId,
    /// Bytes and form of the payload, and the token that they are made of.
    pub length: usize,
    pub form: usize,
    /// Of a send: its address, unless the socket has one.
    pub to: Option<SocketAddr>,
    /// Of a send that a network takes.
    pub label: Option<Label>,
    /// The socket that must get it.
    pub receiver: Option<usize>,
    pub is_cancelled: bool,
    /// Its last completion may be on its way.
    pub perhaps_ended: bool,
}

/// A datagram socket.
#[derive(Debug)]
pub(super) struct Port {
    pub id: SocketId,
    pub address: SocketAddr,
    pub peer: Option<SocketAddr>,
    pub closing: Option<Closing>,
    pub is_closed: bool,
    pub is_paused: bool,
    pub stream: Option<u64>,
    pub sends: BTreeSet<u64>,
    /// Sends that were Busy, by token; the last is owed `Writable`.
    pub owed: Vec<u64>,
    /// Accepted since the last turn: surely still under way.
    fresh_bytes: usize,
    fresh_count: usize,
    /// How often the network may still say that nobody is there.
    pub refusals: usize,
}

/// The whole.
pub(super) struct Model {
    pub limits: Limits,
    pub ports: Vec<Port>,
    pub ops: BTreeMap<u64, Op>,
    /// Ids of what has ended.
    pub ended: Vec<OperationId>,
    pub flights: Flights,
    /// The longest datagram for each address.
    pub bytes_max: BTreeMap<SocketAddr, usize>,
    /// The queues are so small that anything may be lost.
    is_lossy: bool,
    pub now_ns: u64,
    pub is_shut: bool,
}

impl Model {
    pub(super) fn new(limits: Limits, is_lossy: bool) -> Self {
        Model {
            limits,
            ports: Vec::new(),
            ops: BTreeMap::new(),
            ended: Vec::new(),
            flights: Flights::default(),
            bytes_max: BTreeMap::new(),
            is_lossy,
            now_ns: 0,
            is_shut: false,
        }
    }

    pub(super) fn add_port(&mut self, id: SocketId, address: SocketAddr, peer: Option<SocketAddr>, bytes_max: usize) {
        assert!(!self.ports.iter().any(|port| port.id == id), "{id:?} was given out twice");
        self.bytes_max.insert(address, bytes_max);
        self.ports.push(Port {
            id,
            address,
            peer,
            closing: None,
            is_closed: false,
            is_paused: false,
            stream: None,
            sends: BTreeSet::new(),
            owed: Vec::new(),
            fresh_bytes: 0,
            fresh_count: 0,
            refusals: 0,
        });
    }

    /// What a send of so many bytes is called on its way.
    pub(super) fn label(&self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) -> Label {
        let fits = bytes.len() <= self.bytes_max[&to];
        Label { to, from, bytes: fits.then_some(bytes) }
    }

    /// Who gets a datagram: the open socket of that address, if it does not listen to another one alone.
    pub(super) fn receiver(&self, from: SocketAddr, to: SocketAddr) -> Option<usize> {
        let takes =
            |port: &Port| port.address == to && port.closing.is_none() && port.peer.is_none_or(|peer| peer == from);
        self.ports.iter().position(takes)
    }

    // Answers.

    /// What this operation may be answered with if it is submitted now.
    //= OWN-2, STALE-1, LIMIT-1, ORDER-1
    pub(super) fn verdict(&self, op: &Op) -> Verdict {
        let port = &self.ports[op.port];
        if port.closing.is_some() || self.is_shut {
            return Verdict::certain(ErrorKind::Stale);
        }
        let mut verdict = Verdict::default();
        if op.kind == Kind::Receive {
            if port.stream.is_some() {
                return Verdict::certain(ErrorKind::ReceiveActive);
            }
            verdict.may(ErrorKind::Busy, self.ops.len() >= self.limits.operations);
            return verdict;
        }
        if op.to.or(port.peer).is_none() {
            return Verdict::certain(ErrorKind::NotConnected);
        }
        let queued: usize = port.sends.iter().map(|token| self.ops[token].length).sum();
        let Limits { send_bytes, send_count, operations, .. } = self.limits;
        let is_full = |bytes, count| (count > 0 && bytes + op.length > send_bytes) || count >= send_count;
        verdict.may(ErrorKind::Busy, is_full(queued, port.sends.len()) || self.ops.len() >= operations);
        verdict.is_certain = is_full(port.fresh_bytes, port.fresh_count);
        verdict
    }

    /// The operation was taken.
    pub(super) fn accept(&mut self, token: u64, mut op: Op) {
        let port = &mut self.ports[op.port];
        if op.kind == Kind::Receive {
            port.stream = Some(token);
        } else {
            port.sends.insert(token);
            port.fresh_bytes += op.length;
            port.fresh_count += 1;
        }
        if let Some(label) = &op.label {
            self.flights.launch(label, op.length);
            let (from, to) = (label.from, label.to);
            let receiver = self.receiver(from, to);
            let port = &mut self.ports[op.port];
            port.refusals += usize::from(receiver.is_none() && port.peer == Some(to));
            op.receiver = receiver.filter(|_| !self.is_lossy);
        }
        let known = self.ops.insert(token, op);
        assert!(known.is_none());
    }

    //= CLOSE-1
    pub(super) fn accept_close(&mut self, token: u64, index: usize, mode: CloseMode) {
        let deadline_ns = match mode {
            CloseMode::Graceful { deadline } => Some(self.now_ns.saturating_add(deadline.as_nanos() as u64)),
            CloseMode::Abort => None,
            other => unreachable!("{other:?} is never chosen"),
        };
        let port = &mut self.ports[index];
        port.closing = Some(Closing { token, deadline_ns });
        for token in port.sends.iter().chain(&port.stream) {
            self.ops.entry(*token).and_modify(|op| op.perhaps_ended = true);
        }
        self.lose(index);
    }

    /// Nothing arrives there any more, and who has it for a peer may hear of it.
    fn lose(&mut self, index: usize) {
        let address = self.ports[index].address;
        for (from, count) in self.flights.lose(address) {
            let senders = self.ports.iter_mut().filter(|port| port.address == from && port.peer == Some(address));
            senders.for_each(|port| port.refusals += count);
        }
    }

    /// The driver ends.
    pub(super) fn shut(&mut self) {
        self.is_shut = true;
        (0..self.ports.len()).for_each(|index| self.lose(index));
    }

    // Time.

    /// A turn has been.
    pub(super) fn turn(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        // A stream ends when it is asked to, and at no other time.
        let ends = |op: &mut Op| op.perhaps_ended |= op.kind != Kind::Receive || op.is_cancelled;
        self.ops.values_mut().for_each(ends);
        self.ports.iter_mut().for_each(|port| (port.fresh_bytes, port.fresh_count) = (0, 0));
    }

    /// All completions that there were have been delivered.
    pub(super) fn delivered_all(&mut self) {
        self.ops.values_mut().for_each(|op| op.perhaps_ended = op.is_quiet());
    }

    /// It was aborted, or the deadline of its close is over.
    pub(super) fn is_aborted(&self, port: &Port) -> bool {
        let is_over = |closing: Closing| closing.deadline_ns.is_none_or(|deadline_ns| deadline_ns <= self.now_ns);
        self.is_shut || port.closing.is_some_and(is_over)
    }

    /// What has not happened although nothing stands in its way.
    pub(super) fn unsettled(&self) -> Option<String> {
        let must_end = |op: &Op| !op.is_quiet() && (op.kind != Kind::Receive || op.is_cancelled);
        let must_fail = |op: &Op| op.length > NETWORK_BYTES_MAX;
        if let Some((token, op)) = self.ops.iter().find(|(_, op)| must_end(op) || must_fail(op)) {
            return Some(format!("the end of {token}, a {:?} of {} bytes", op.kind, op.length));
        }
        if let Some(port) = self.ports.iter().find(|port| port.closing.is_none() && !port.owed.is_empty()) {
            return Some(format!("Writable of {:?} for {:?}", port.id, port.owed));
        }
        // A quiet send that has not failed has gone.
        let must_come = |op: &&Op| op.is_quiet() && self.is_receiving(op);
        self.flights.missing(self.ops.values().filter(must_come).filter_map(|op| op.label.as_ref()))
    }

    /// The socket that must get it is as it was when it was sent.
    pub(super) fn is_receiving(&self, op: &Op) -> bool {
        op.receiver.is_some_and(|index| self.ports[index].closing.is_none() && !self.is_shut)
    }
}

impl Op {
    pub(super) fn is_quiet(&self) -> bool {
        self.kind == Kind::Send { is_quiet: true }
    }
}
