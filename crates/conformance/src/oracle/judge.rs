//! Each completion against the model: is it one that the clauses allow now.

use raon_provider::{
    AcceptedSocket, Buffer, Completion, Error, ErrorKind, Operation, OperationId, Outcome, Payload, ReceiveBuffer,
    SocketId,
};

use super::material::form_of;
use super::model::{Kind, Model, Op, Sock, WriteSide};
use super::pipe::content;

/// What a completion leaves in the caller's hands.
pub(super) enum Left {
    Nothing,
    Bytes(Buffer),
    Accepted(AcceptedSocket),
    Connected(SocketId),
}

impl Model {
    /// Takes one completion in, or fails.
    pub(super) fn take(&mut self, completion: Completion) -> Left {
        let Completion { token, operation, socket, more, outcome } = completion;
        match outcome {
            Outcome::Closed => self.take_closed(socket, token),
            Outcome::Writable => self.take_writable(socket, token),
            Outcome::Refused { error, value } => self.take_refused(token, error, *value),
            outcome => return self.take_outcome(token, operation, socket, more, outcome),
        }
        assert!(!more && operation == OperationId::NONE);
        Left::Nothing
    }

    //= CLOSE-1, CLOSE-2
    fn take_closed(&mut self, socket: SocketId, token: u64) {
        let Some(index) = self.sockets.iter().position(|sock| sock.id == socket) else {
            // A shutdown also closes what was still connecting.
            return assert!(self.is_shut, "{socket:?} was never given out");
        };
        self.settle_quiets(index, None);
        let sock = &self.sockets[index];
        assert!(!sock.is_closed, "Closed came twice for {socket:?}");
        let open: Vec<_> = sock.sends.iter().chain(&sock.receives).collect();
        assert!(open.is_empty(), "{socket:?} was closed before {open:?} had ended");
        match sock.closing {
            Some(closing) => assert_eq!(token, closing.token, "the token of the close"),
            None => assert!(self.is_shut, "{socket:?} was never closed"),
        }
        if let (Some((link, side)), false) = (sock.place, self.is_aborted(sock)) {
            let link = &self.links[link];
            let has_end = link.pipes[1 - side].has_end || link.is_broken;
            assert!(has_end, "{socket:?} was closed before its deadline, and the other side has not ended");
        }
        self.sockets[index].is_closed = true;
    }

    //= LIMIT-1
    fn take_writable(&mut self, socket: SocketId, token: u64) {
        let sock = self.live(socket);
        let place = sock.owed.iter().position(|(_, owed)| *owed == token);
        let place = place.unwrap_or_else(|| panic!("Writable with {token}, owed were {:?}", sock.owed));
        sock.owed.drain(..=place);
    }

    //= OWN-2
    fn take_refused(&mut self, token: u64, error: Error, value: Operation) {
        let op = self.ops.get(&token).unwrap_or_else(|| panic!("{token} was refused, and nobody submitted it")).clone();
        assert!(op.perhaps_refused.contains(&error.kind()), "{token} was refused with {error:?}: {op:?}");
        check_whole(token, &op, value);
        if let (ErrorKind::Busy, Kind::Send { .. }) = (error.kind(), op.kind) {
            self.owe(token, &op);
        }
        if op.must_be_refused {
            self.ops.remove(&token);
        } else {
            self.end(token, 0);
        }
    }

    fn live(&mut self, socket: SocketId) -> &mut Sock {
        let sock = self.sockets.iter_mut().find(|sock| sock.id == socket);
        let sock = sock.unwrap_or_else(|| panic!("{socket:?} was never given out"));
        assert!(!sock.is_closed, "something about {socket:?} after Closed");
        sock
    }

    //= ONCE-1
    fn take_outcome(&mut self, token: u64, id: OperationId, socket: SocketId, more: bool, outcome: Outcome) -> Left {
        let op = self.ops.get_mut(&token).unwrap_or_else(|| panic!("{token} has ended or never was: {outcome:?}"));
        assert!(!op.must_be_refused, "{token} was to be refused: {outcome:?}");
        assert_eq!(*op.id.get_or_insert(id), id, "the id of {token}");
        op.perhaps_refused.clear();
        let op = op.clone();
        if let Some(index) = op.socket {
            assert_eq!(socket, self.sockets[index].id, "the socket of {token}");
            assert!(!self.sockets[index].is_closed, "{token} ends after Closed: {outcome:?}");
        }
        let left = match (op.kind, outcome) {
            (_, Outcome::Failed { error, payload, transferred }) => {
                assert!(!more);
                self.take_failure(token, &op, error, payload, transferred as usize);
                return Left::Nothing;
            }
            (Kind::Send { is_quiet: false }, Outcome::Sent(payload)) => {
                check_payload(token, &op, &payload);
                Left::Nothing
            }
            (Kind::ShutdownWrite, Outcome::WriteShut) => self.take_write_shut(&op),
            (Kind::Receive, Outcome::Received(bytes)) => self.take_received(token, &op, more, bytes),
            (Kind::ReceiveInto, Outcome::ReceivedInto(room)) => self.take_received_into(&op, room),
            (Kind::Accept, Outcome::Accepted(accepted)) => {
                assert!(more, "an accept stream ends by a failure");
                Left::Accepted(accepted)
            }
            (Kind::Connect { .. }, Outcome::Connected) => Left::Connected(socket),
            (Kind::Timer, Outcome::Expired) => {
                assert!(self.now_ns >= op.deadline_ns, "{token} fired early");
                Left::Nothing
            }
            (kind, outcome) => panic!("{token} is a {kind:?} and has come to {outcome:?}"),
        };
        if !more {
            self.end_in_order(token, &op);
            self.end(token, op.length);
        }
        left
    }

    fn take_write_shut(&mut self, op: &Op) -> Left {
        self.sockets[op.socket.expect("a socket's")].write = WriteSide::Shut;
        Left::Nothing
    }

    //= PAUSE-1
    fn take_received(&mut self, token: u64, op: &Op, more: bool, bytes: Buffer) -> Left {
        let sock = &self.sockets[op.socket.expect("a socket's")];
        let may_come = !sock.is_paused || op.is_cancelled || sock.closing.is_some() || self.is_shut;
        assert!(may_come, "{token} delivers {} bytes while paused", bytes.len());
        assert_eq!(bytes.is_empty(), !more, "0 bytes are the end of a stream, and nothing else is");
        self.deliver(op, &bytes);
        Left::Bytes(bytes)
    }

    fn take_received_into(&mut self, op: &Op, room: ReceiveBuffer) -> Left {
        assert!(room.len() <= op.length, "{} bytes in a room of {}", room.len(), op.length);
        assert_eq!(matches!(room, ReceiveBuffer::Buffer(_)), op.form == 1, "the room is another");
        self.deliver(op, &Payload::from(room).to_vec());
        Left::Nothing
    }

    fn deliver(&mut self, op: &Op, bytes: &[u8]) {
        let (link, side) = self.sockets[op.socket.expect("a socket's")].place.expect("a connection");
        let pipe = &mut self.links[link].pipes[1 - side];
        if bytes.is_empty() {
            pipe.end();
        } else {
            pipe.receive(bytes);
        }
    }

    //= OWN-1
    fn take_failure(&mut self, token: u64, op: &Op, error: Error, payload: Option<Payload>, transferred: usize) {
        match op.kind {
            Kind::Send { .. } => check_payload(token, op, &payload.expect("the payload comes back")),
            Kind::ReceiveInto => {
                let room = payload.expect("the room comes back");
                assert_eq!((room.len(), matches!(room, Payload::Buffer(_))), (op.length, op.form == 1), "the room");
            }
            _ => assert!(payload.is_none()),
        }
        let is_send = matches!(op.kind, Kind::Send { .. });
        assert!(transferred == 0 || (is_send && transferred < op.length), "{token} has transferred {transferred}");
        assert!(self.may_fail(op, error.kind()), "{token} must not fail with {error:?}: {op:?}");
        self.check_pause(token, op);
        // What is cancelled overtakes what stands before it in the queue; every other end keeps the order.
        if error.kind() != ErrorKind::Cancelled {
            self.end_in_order(token, op);
        }
        self.end(token, transferred);
        if let (Kind::ShutdownWrite, Some(index)) = (op.kind, op.socket) {
            self.reopen(index, error.kind());
        }
    }

    /// A `shutdown_write` has failed: if it was cancelled, and no other follows, the write side is as it was.
    fn reopen(&mut self, index: usize, kind: ErrorKind) {
        let sock = &mut self.sockets[index];
        let is_shutting = sock.sends.iter().any(|token| self.ops[token].kind == Kind::ShutdownWrite);
        if let (Some((link, side)), None, false) = (sock.place, sock.closing, is_shutting) {
            sock.write = if kind == ErrorKind::Cancelled { WriteSide::Open } else { WriteSide::Unclear };
            self.links[link].pipes[side].has_end = self.links[link].is_broken;
        }
    }

    fn check_pause(&self, token: u64, op: &Op) {
        if let (Kind::Receive, Some(index)) = (op.kind, op.socket) {
            let sock = &self.sockets[index];
            let may_come = !sock.is_paused || op.is_cancelled || sock.closing.is_some() || self.is_shut;
            assert!(may_come, "{token} ends while paused");
        }
    }

    /// Whether this failure is one that something has caused.
    fn may_fail(&self, op: &Op, kind: ErrorKind) -> bool {
        let Some(index) = op.socket else {
            let is_gone = matches!(op.kind, Kind::Connect { listener } if self.sockets[listener].closing.is_some());
            return match kind {
                ErrorKind::Cancelled => op.is_cancelled || self.is_shut,
                ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => is_gone || self.is_shut,
                _ => false,
            };
        };
        let sock = &self.sockets[index];
        let is_send = matches!(op.kind, Kind::Send { .. } | Kind::ShutdownWrite);
        match kind {
            ErrorKind::Cancelled if is_send => op.is_cancelled || self.is_aborted(sock),
            ErrorKind::Cancelled => op.is_cancelled || sock.closing.is_some() || self.is_shut,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::NotConnected => {
                sock.place.is_some_and(|(link, _)| self.links[link].is_broken)
            }
            _ => false,
        }
    }

    /// Everything that stands before it in its queue has ended: only quiet sends do so without a word.
    //= ORDER-1
    fn end_in_order(&mut self, token: u64, op: &Op) {
        let Some(index) = op.socket else { return };
        self.settle_quiets(index, Some(token));
        let sock = &self.sockets[index];
        let queue = if sock.sends.contains(&token) { &sock.sends } else { &sock.receives };
        assert_eq!(queue.front(), Some(&token), "ends out of order: {queue:?}");
    }

    /// Quiet sends at the head of the queue, up to this one, have succeeded.
    pub(super) fn settle_quiets(&mut self, index: usize, before: Option<u64>) {
        let is_in_queue = before.is_none_or(|token| self.sockets[index].sends.contains(&token));
        while let Some(token) = self.sockets[index].sends.front().copied().filter(|_| is_in_queue) {
            if Some(token) == before || !self.ops[&token].is_quiet() {
                return;
            }
            let length = self.ops[&token].length;
            self.end(token, length);
        }
    }

    /// It has ended, with so many bytes transferred.
    pub(super) fn end(&mut self, token: u64, count: usize) {
        let op = self.ops.remove(&token).expect("an operation ends once");
        self.ended.extend(op.id);
        let Some(index) = op.socket else { return };
        let sock = &mut self.sockets[index];
        sock.sends.retain(|each| *each != token);
        sock.receives.retain(|each| *each != token);
        if let (Kind::Send { .. }, Some((link, side))) = (op.kind, sock.place) {
            self.links[link].pipes[side].resolve(token, count);
        }
    }
}

/// An operation that comes back is the one that was given.
pub(super) fn check_whole(token: u64, op: &Op, value: Operation) {
    match (op.kind, value) {
        (Kind::Send { is_quiet }, Operation::Send { payload, quiet, .. }) => {
            assert_eq!(is_quiet, quiet);
            check_payload(token, op, &payload);
        }
        (Kind::ReceiveInto, Operation::ReceiveInto { buffer: room, .. }) => {
            assert_eq!(
                (room.len(), matches!(room, ReceiveBuffer::Buffer(_))),
                (op.length, op.form == 1),
                "the room of {token}"
            );
        }
        (Kind::Close(mode), Operation::Close { mode: back, .. }) => assert_eq!(mode, back),
        (Kind::ShutdownWrite, Operation::ShutdownWrite { .. })
        | (Kind::Receive, Operation::Receive { .. })
        | (Kind::Accept, Operation::Accept { .. })
        | (Kind::Connect { .. }, Operation::Connect { .. })
        | (Kind::Timer, Operation::Timer { .. }) => {}
        (kind, value) => panic!("{token} is a {kind:?} and comes back as {value:?}"),
    }
}

/// A payload that comes back is the one that was given.
fn check_payload(token: u64, op: &Op, payload: &Payload) {
    assert_eq!((payload.len(), form_of(payload)), (op.length, op.form), "length and form of what {token} sent");
    assert!(payload.to_vec() == content(token, op.length), "the payload of {token} has changed");
}
