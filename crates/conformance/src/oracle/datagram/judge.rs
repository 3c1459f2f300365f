//! Each completion against the model: is it one that the clauses allow now.

use std::net::SocketAddr;

use raon_provider::{Buffer, Completion, Error, ErrorKind, Operation, OperationId, Outcome, Payload, SocketId};

use super::NETWORK_BYTES_MAX;
use super::flight::Label;
use super::model::{Kind, Model, Op};
use crate::oracle::material::form_of;
use crate::oracle::pipe::content;

impl Model {
    /// Takes one completion in, or fails. Returns the buffer of a datagram.
    pub(super) fn take(&mut self, completion: Completion) -> Option<Buffer> {
        let Completion { token, operation, socket, more, outcome } = completion;
        match outcome {
            Outcome::Closed => self.take_closed(socket, token),
            Outcome::Writable => self.take_writable(socket, token),
            outcome => return self.take_outcome(token, operation, socket, more, outcome),
        }
        assert!(!more && operation == OperationId::NONE);
        None
    }

    //= CLOSE-1, CLOSE-2
    fn take_closed(&mut self, socket: SocketId, token: u64) {
        let index = self.ports.iter().position(|port| port.id == socket).expect("a socket that was given out");
        let quiet: Vec<u64> =
            self.ports[index].sends.iter().copied().filter(|token| self.ops[token].is_quiet()).collect();
        quiet.into_iter().for_each(|token| self.end_sent(token));
        let port = &self.ports[index];
        assert!(!port.is_closed, "Closed came twice for {socket:?}");
        let open: Vec<_> = port.sends.iter().chain(&port.stream).collect();
        assert!(open.is_empty(), "{socket:?} was closed before {open:?} had ended");
        match port.closing {
            Some(closing) => assert_eq!(token, closing.token, "the token of the close"),
            None => assert!(self.is_shut, "{socket:?} was never closed"),
        }
        self.ports[index].is_closed = true;
    }

    //= LIMIT-1
    fn take_writable(&mut self, socket: SocketId, token: u64) {
        let port = self.ports.iter_mut().find(|port| port.id == socket).expect("a socket that was given out");
        assert!(!port.is_closed, "Writable after Closed");
        let place = port.owed.iter().position(|owed| *owed == token);
        let place = place.unwrap_or_else(|| panic!("Writable with {token}, owed were {:?}", port.owed));
        port.owed.drain(..=place);
    }

    //= ONCE-1
    fn take_outcome(
        &mut self,
        token: u64,
        id: OperationId,
        socket: SocketId,
        more: bool,
        outcome: Outcome,
    ) -> Option<Buffer> {
        let op = self.ops.get(&token).unwrap_or_else(|| panic!("{token} has ended or never was: {outcome:?}")).clone();
        let port = &self.ports[op.port];
        assert_eq!((id, socket), (op.id, port.id), "the ids of {token}");
        assert!(!port.is_closed, "{token} ends after Closed: {outcome:?}");
        assert_eq!(more, is_item(&outcome), "an item of a stream, and nothing else, is followed by more: {outcome:?}");
        if op.kind == Kind::Receive {
            // PAUSE-1: not while it is paused, unless it is ending.
            let may_come = !port.is_paused || op.is_cancelled || port.closing.is_some() || self.is_shut;
            assert!(may_come, "{token} delivers {outcome:?} while paused");
        }
        match (op.kind, outcome) {
            (_, Outcome::Failed { error, payload, transferred }) => {
                assert_eq!(transferred, 0, "{token}: a datagram goes whole or not at all");
                self.take_failure(token, &op, error, payload);
                None
            }
            (Kind::Send { is_quiet: false }, Outcome::Sent(payload)) => {
                assert!(op.length <= NETWORK_BYTES_MAX, "no network takes the {} bytes of {token}", op.length);
                check_payload(token, &op, &payload);
                self.end_sent(token);
                None
            }
            (Kind::Receive, Outcome::Datagram { bytes, from }) => {
                self.land(&op, from, Some(bytes.to_vec()));
                Some(bytes)
            }
            (Kind::Receive, Outcome::Truncated { from }) => {
                self.land(&op, from, None);
                None
            }
            (Kind::Receive, Outcome::Undelivered(error)) => {
                self.take_refusal(op.port, error);
                None
            }
            (kind, outcome) => panic!("{token} is a {kind:?} and has come to {outcome:?}"),
        }
    }

    //= DGRAM-1
    fn land(&mut self, op: &Op, from: SocketAddr, bytes: Option<Vec<u8>>) {
        let port = &self.ports[op.port];
        assert!(port.peer.is_none_or(|peer| peer == from), "{:?} hears {from}, its peer is {:?}", port.id, port.peer);
        self.flights.land(&Label { to: port.address, from, bytes });
    }

    fn take_refusal(&mut self, index: usize, error: Error) {
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let port = &mut self.ports[index];
        assert!(port.refusals > 0, "{:?} hears of a refusal that there cannot have been", port.id);
        port.refusals -= 1;
    }

    /// It has gone out whole.
    fn end_sent(&mut self, token: u64) {
        let op = self.end(token);
        if let Some(label) = op.label.as_ref().filter(|_| self.is_receiving(&op)) {
            self.flights.owe(label);
        }
    }

    //= OWN-1, CANCEL-1
    fn take_failure(&mut self, token: u64, op: &Op, error: Error, payload: Option<Payload>) {
        let port = &self.ports[op.port];
        match (op.kind, error.kind()) {
            (Kind::Receive, kind) => {
                let is_ending = op.is_cancelled || port.closing.is_some() || self.is_shut;
                assert!(kind == ErrorKind::Cancelled && is_ending, "the stream {token} ends with {error:?}: {op:?}");
                assert!(payload.is_none());
            }
            (_, ErrorKind::Cancelled) => {
                assert!(op.is_cancelled || self.is_aborted(port), "nobody has cancelled {token}");
            }
            (_, ErrorKind::MessageTooLong) => {
                assert!(op.length > NETWORK_BYTES_MAX, "the {} bytes of {token} are not too long", op.length);
            }
            _ => self.take_refusal(op.port, error),
        }
        if op.kind != Kind::Receive {
            check_payload(token, op, &payload.expect("the payload comes back"));
        }
        self.end(token);
        if let Some(label) = &op.label {
            self.flights.fail(label);
        }
    }

    fn end(&mut self, token: u64) -> Op {
        let op = self.ops.remove(&token).expect("an operation ends once");
        self.ended.push(op.id);
        let port = &mut self.ports[op.port];
        port.sends.remove(&token);
        port.stream = port.stream.filter(|stream| *stream != token);
        op
    }
}

fn is_item(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Datagram { .. } | Outcome::Truncated { .. } | Outcome::Undelivered(_))
}

/// An operation that comes back is the one that was given.
pub(super) fn check_whole(token: u64, op: &Op, value: Operation) {
    match (op.kind, value) {
        (Kind::Receive, Operation::Receive { .. }) => {}
        (Kind::Send { is_quiet }, Operation::SendTo { to, payload, quiet, .. }) => {
            assert_eq!((op.to, is_quiet), (Some(to), quiet));
            check_payload(token, op, &payload);
        }
        (Kind::Send { is_quiet }, Operation::Send { payload, quiet, .. }) => {
            assert_eq!((op.to, is_quiet), (None, quiet));
            check_payload(token, op, &payload);
        }
        (kind, value) => panic!("{token} is a {kind:?} and comes back as {value:?}"),
    }
}

/// A payload that comes back is the one that was given.
fn check_payload(token: u64, op: &Op, payload: &Payload) {
    assert_eq!((payload.len(), form_of(payload)), (op.length, op.form), "length and form of what {token} sent");
    assert!(payload.to_vec() == content(token, op.length), "the payload of {token} has changed");
}
