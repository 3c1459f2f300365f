//! The clauses as plain data: what is open, what a submit must be answered with, what must have happened by now.
//!
//! The model follows what a caller can know. Where the kernel or an undelivered completion decides, it allows each
//! answer that is right in one of the cases, and the completions tell which it was.

use std::collections::{BTreeMap, VecDeque};

use raon_provider::{Address, CloseMode, ErrorKind, OperationId, SocketId};

use super::pipe::Pipe;

/// The bounds of the configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub sockets: usize,
    pub operations: usize,
    pub send_bytes: usize,
    pub send_count: usize,
    pub mailbox: usize,
}

/// What an operation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Send { is_quiet: bool },
    ShutdownWrite,
    Receive,
    ReceiveInto,
    Accept,
    Connect { listener: usize },
    Timer,
    Close(CloseMode),
}

/// An operation, from its submission to its last completion.
#[derive(Clone, Debug)]
pub(super) struct Op {
    pub kind: Kind,
    pub socket: Option<usize>,
    /// Bytes of the payload or room.
    pub length: usize,
    /// Form of the payload or room.
    pub form: usize,
    /// Unknown as long as only a mailbox has seen it.
    pub id: Option<OperationId>,
    pub is_cancelled: bool,
    /// Its last completion may be on its way.
    pub perhaps_ended: bool,
    /// No turn has been since it was accepted: the driver itself has the buffer.
    pub is_fresh: bool,
    /// It was cancelled while the driver had it: the next turn ends it.
    pub is_due: bool,
    /// A mailbox has taken it, the driver may refuse it for one of these reasons.
    pub perhaps_refused: Vec<ErrorKind>,
    /// It must.
    pub must_be_refused: bool,
    /// When the driver took it from the mailbox.
    pub mailed_at: Option<u64>,
    /// Of a timer.
    pub deadline_ns: u64,
}

/// Whether a socket takes sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum WriteSide {
    Open,
    /// A `shutdown_write` may have been undone by a cancel, or refused.
    Unclear,
    Shut,
}

/// A close that was accepted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closing {
    pub token: u64,
    /// `None`: an abort.
    pub deadline_ns: Option<u64>,
}

/// A socket of the driver.
#[derive(Debug)]
pub(super) struct Sock {
    pub id: SocketId,
    /// Link and side; `None`: a listener.
    pub place: Option<(usize, usize)>,
    pub closing: Option<Closing>,
    pub is_closed: bool,
    pub is_paused: bool,
    pub write: WriteSide,
    /// Open operations per direction, in the order of their submission.
    pub receives: VecDeque<u64>,
    pub sends: VecDeque<u64>,
    /// When which sends were Busy, by token; the last is owed `Writable`.
    pub owed: Vec<(u64, u64)>,
    /// Accepted since the last turn: surely still queued.
    pub fresh_bytes: usize,
    pub fresh_count: usize,
}

/// One end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Peer,
    Socket(usize),
    /// In a backlog.
    Pending,
    /// Accepted and not adopted.
    Accepted,
    Gone,
}

/// A connection. Pipe 0 leads from end 0 to end 1, pipe 1 back.
pub(super) struct Link {
    pub ends: [End; 2],
    pub pipes: [Pipe; 2],
    /// Somebody has reset it, or may have.
    pub is_broken: bool,
    /// The connecting end's address, which may be `Unnamed`, and the listener.
    pub origin: Option<(Address, usize)>,
}

/// The whole.
pub(super) struct Model {
    pub limits: Limits,
    pub sockets: Vec<Sock>,
    pub links: Vec<Link>,
    pub ops: BTreeMap<u64, Op>,
    /// Ids of what has ended.
    pub ended: Vec<OperationId>,
    /// What the mailbox holds: an operation, or the cancel of a token.
    pub mail: VecDeque<(u64, Option<Op>)>,
    /// Counts turns, and what lies between them.
    moment: u64,
    /// The driver's clock at its last turn.
    pub now_ns: u64,
    pub is_shut: bool,
    /// Whether the connections know resets: those of Unix sockets do not.
    has_resets: bool,
}

impl Op {
    pub(super) fn new(kind: Kind, socket: Option<usize>) -> Self {
        Op {
            kind,
            socket,
            length: 0,
            form: 0,
            id: None,
            is_cancelled: false,
            perhaps_ended: false,
            is_fresh: true,
            is_due: false,
            perhaps_refused: Vec::new(),
            must_be_refused: false,
            mailed_at: None,
            deadline_ns: 0,
        }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.kind == Kind::Send { is_quiet: true }
    }

    fn is_send_side(&self) -> bool {
        matches!(self.kind, Kind::Send { .. } | Kind::ShutdownWrite)
    }
}

impl Link {
    /// Its connect came from there to this listener, and has not been accepted yet.
    pub(super) fn is_waiting(&self, from: &Address, listener: usize) -> bool {
        let origin = self.origin.as_ref();
        self.ends[1] == End::Pending && origin.is_some_and(|(address, to)| address == from && *to == listener)
    }
}

impl Model {
    pub(super) fn new(limits: Limits, has_resets: bool) -> Self {
        let (sockets, links, mail) = (Vec::new(), Vec::new(), VecDeque::new());
        let (ops, ended) = (BTreeMap::new(), Vec::new());
        Model { limits, sockets, links, ops, ended, mail, moment: 0, now_ns: 0, is_shut: false, has_resets }
    }

    /// A socket that the driver has.
    pub(super) fn add_socket(&mut self, id: SocketId, place: Option<(usize, usize)>) -> usize {
        assert!(!self.sockets.iter().any(|sock| sock.id == id), "{id:?} was given out twice");
        self.sockets.push(Sock {
            id,
            place,
            closing: None,
            is_closed: false,
            is_paused: false,
            write: WriteSide::Open,
            receives: VecDeque::new(),
            sends: VecDeque::new(),
            owed: Vec::new(),
            fresh_bytes: 0,
            fresh_count: 0,
        });
        let index = self.sockets.len() - 1;
        if let Some((link, side)) = place {
            self.links[link].ends[side] = End::Socket(index);
        }
        index
    }

    /// The operation was taken: by the driver, or by the mailbox at its turn, which then may have refused it.
    pub(super) fn accept(&mut self, token: u64, op: Op) {
        if let (Kind::Close(mode), Some(index)) = (op.kind, op.socket) {
            return self.accept_close(token, index, mode);
        }
        if let Some(index) = op.socket {
            self.link_operation(token, &op, index);
        }
        let known = self.ops.insert(token, op);
        assert!(known.is_none());
    }

    fn link_operation(&mut self, token: u64, op: &Op, index: usize) {
        let sock = &mut self.sockets[index];
        if !op.is_send_side() {
            return sock.receives.push_back(token);
        }
        sock.sends.push_back(token);
        let is_sure = op.perhaps_refused.is_empty();
        let (link, side) = sock.place.expect("only connections send");
        let pipe = &mut self.links[link].pipes[side];
        if op.kind == Kind::ShutdownWrite {
            pipe.has_end = true;
            sock.write = if is_sure { WriteSide::Shut } else { WriteSide::Unclear };
            sock.fresh_count += usize::from(is_sure);
            return;
        }
        pipe.accept(token, op.length, !is_sure);
        if is_sure {
            sock.fresh_bytes += op.length;
            sock.fresh_count += 1;
        }
    }

    //= CLOSE-1
    fn accept_close(&mut self, token: u64, index: usize, mode: CloseMode) {
        let sock = &mut self.sockets[index];
        let is_listener = sock.place.is_none();
        let deadline_ns = match mode {
            CloseMode::Graceful { deadline } if !is_listener => {
                Some(self.now_ns.saturating_add(deadline.as_nanos() as u64))
            }
            _ => None,
        };
        sock.closing = Some(Closing { token, deadline_ns });
        for token in sock.receives.iter().chain(&sock.sends) {
            self.ops.entry(*token).and_modify(|op| op.perhaps_ended = true);
        }
        match sock.place {
            Some((link, side)) if deadline_ns.is_some() => {
                self.links[link].pipes[side].has_end = true;
                self.links[link].pipes[1 - side].is_discarded = true;
                self.advance(self.now_ns);
            }
            Some((link, _)) => self.break_link(link),
            None => self.break_backlog(index),
        }
    }

    fn break_backlog(&mut self, listener: usize) {
        for link in 0..self.links.len() {
            let is_pending = self.links[link].ends.contains(&End::Pending);
            if is_pending && self.links[link].origin.as_ref().is_some_and(|(_, origin)| *origin == listener) {
                self.break_link(link);
            }
        }
    }

    /// From now on bytes may be lost on it and its operations may fail.
    pub(super) fn break_link(&mut self, link: usize) {
        self.links[link].is_broken = true;
        let is_end_like = !self.has_resets;
        self.links[link].pipes.iter_mut().for_each(|pipe| pipe.lose(is_end_like));
    }

    /// The time is now this: deadlines of closes may have passed.
    //= CLOSE-2
    pub(super) fn advance(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        for index in 0..self.sockets.len() {
            let sock = &self.sockets[index];
            if let (Some((link, _)), false, true) = (sock.place, sock.is_closed, self.is_aborted(sock)) {
                self.break_link(link);
            }
        }
    }

    /// The driver ends, and with it all connections.
    pub(super) fn shut(&mut self) {
        self.is_shut = true;
        (0..self.links.len()).for_each(|link| self.break_link(link));
        // What was accepted and never adopted is closed in the ordinary way.
        for link in &mut self.links {
            link.pipes[1].has_end |= matches!(link.ends[1], End::Pending | End::Accepted);
        }
    }

    /// It was aborted, or the deadline of its close is over.
    pub(super) fn is_aborted(&self, sock: &Sock) -> bool {
        let is_over = |closing: Closing| closing.deadline_ns.is_none_or(|deadline_ns| deadline_ns <= self.now_ns);
        self.is_shut || sock.closing.is_some_and(is_over)
    }

    /// A send was Busy: it is owed `Writable` in the place of those that were before.
    pub(super) fn owe(&mut self, token: u64, op: &Op) {
        let (moment, index) = (op.mailed_at.unwrap_or(self.moment), op.socket.expect("a socket's"));
        let owed = &mut self.sockets[index].owed;
        let place = owed.partition_point(|(earlier, _)| *earlier <= moment);
        owed.insert(place, (moment, token));
    }

    /// A cancel was accepted.
    //= CANCEL-1
    pub(super) fn cancel(&mut self, token: u64) {
        let is_head = self.is_perhaps_head(token);
        let Some(op) = self.ops.get_mut(&token) else { return };
        op.is_cancelled = true;
        op.perhaps_ended = true;
        op.is_due |= match op.kind {
            Kind::Timer => true,
            Kind::Send { is_quiet: false } | Kind::ShutdownWrite => op.is_fresh,
            Kind::ReceiveInto => !is_head,
            _ => false,
        };
        let (kind, socket, is_send) = (op.kind, op.socket, op.is_send_side());
        let Some(index) = socket.filter(|_| is_send) else { return };
        let sock = &mut self.sockets[index];
        (sock.fresh_bytes, sock.fresh_count) = (0, 0);
        if kind == Kind::ShutdownWrite {
            sock.write = WriteSide::Unclear;
        } else if let Some((link, side)) = sock.place {
            self.links[link].pipes[side].doubt(token);
        }
    }

    fn is_perhaps_head(&self, token: u64) -> bool {
        let socket = self.ops.get(&token).and_then(|op| op.socket);
        let head = socket.and_then(|index| self.sockets[index].receives.front());
        head.is_none_or(|head| *head == token || self.ops[head].perhaps_ended)
    }

    /// A turn has been: what the mailbox held is the driver's now, in order.
    //= ORDER-2
    pub(super) fn turn(&mut self, now_ns: u64) {
        for (token, op) in std::mem::take(&mut self.mail) {
            let Some(mut op) = op else {
                self.cancel(token);
                continue;
            };
            let verdict = self.verdict(&op);
            op.perhaps_refused = verdict.reasons;
            op.mailed_at = Some(self.moment + 1);
            if verdict.is_certain {
                op.must_be_refused = true;
                self.ops.insert(token, op);
            } else {
                self.accept(token, op);
            }
        }
        self.moment += 2;
        self.advance(now_ns);
        self.ops.values_mut().for_each(|op| (op.is_fresh, op.perhaps_ended) = (false, true));
        self.sockets.iter_mut().for_each(|sock| (sock.fresh_bytes, sock.fresh_count) = (0, 0));
    }

    /// All completions that there were have been delivered.
    pub(super) fn delivered_all(&mut self) {
        for (token, op) in &mut self.ops {
            assert!(!op.is_due, "{token} was cancelled while the driver had it, and a turn did not end it: {op:?}");
            assert!(!op.must_be_refused, "{token} was not refused: {op:?}");
            op.perhaps_refused.clear();
            op.perhaps_ended = op.is_quiet();
        }
    }
}
