//! Answer that a submit must get: taken, refused for one of these reasons, or either.

//= OWN-2, STALE-1, LIMIT-1, ORDER-1

use raon_provider::ErrorKind;

use super::model::{Kind, Limits, Model, Op, Sock, WriteSide};

/// What a submit may be answered with.
#[derive(Default, Debug)]
pub(super) struct Verdict {
    /// Reasons for which it may be refused.
    pub reasons: Vec<ErrorKind>,
    /// It must be refused.
    pub is_certain: bool,
}

impl Verdict {
    pub(super) fn certain(reason: ErrorKind) -> Self {
        Verdict { reasons: vec![reason], is_certain: true }
    }

    pub(super) fn may(&mut self, reason: ErrorKind, is_possible: bool) {
        if is_possible {
            self.reasons.push(reason);
        }
    }

    /// Fails unless the answer is right.
    pub(super) fn check(&self, what: &str, answer: Result<(), ErrorKind>) {
        match answer {
            Ok(()) => assert!(!self.is_certain, "{what}: was accepted, must be refused with {:?}", self.reasons),
            Err(kind) => assert!(self.reasons.contains(&kind), "{what}: {kind:?}, may be {:?}", self.reasons),
        }
    }
}

impl Model {
    /// What this operation may be answered with if it is submitted now.
    pub(super) fn verdict(&self, op: &Op) -> Verdict {
        let mut verdict = Verdict::default();
        verdict.may(ErrorKind::Busy, self.ops.len() >= self.limits.operations);
        let Some(index) = op.socket else {
            let opens = matches!(op.kind, Kind::Connect { .. });
            verdict.may(ErrorKind::Busy, opens && self.socket_count() >= self.limits.sockets);
            return if self.is_shut { Verdict::certain(ErrorKind::Closed) } else { verdict };
        };
        let sock = &self.sockets[index];
        if sock.closing.is_some() || self.is_shut {
            return Verdict::certain(ErrorKind::Stale);
        }
        let is_listener = sock.place.is_none();
        match op.kind {
            Kind::Close(_) => return Verdict::default(),
            Kind::Accept if is_listener => self.judge_receive(sock, false, &mut verdict),
            Kind::Accept => return Verdict::certain(ErrorKind::InvalidInput),
            _ if is_listener => return Verdict::certain(ErrorKind::InvalidInput),
            Kind::Receive => self.judge_receive(sock, false, &mut verdict),
            Kind::ReceiveInto => self.judge_receive(sock, true, &mut verdict),
            _ => {
                if sock.write == WriteSide::Shut {
                    return Verdict::certain(ErrorKind::WriteClosed);
                }
                verdict.may(ErrorKind::WriteClosed, sock.write == WriteSide::Unclear);
                if op.kind != Kind::ShutdownWrite && op.length > 0 {
                    self.judge_room(sock, op.length, &mut verdict);
                }
            }
        }
        if op.length == 0 && matches!(op.kind, Kind::Send { .. } | Kind::ReceiveInto) {
            verdict.reasons.push(ErrorKind::InvalidInput);
            verdict.is_certain = true;
        }
        verdict
    }

    /// One kind of receive at a time.
    //= ORDER-1
    fn judge_receive(&self, sock: &Sock, into: bool, verdict: &mut Verdict) {
        let rivals = sock.receives.iter().map(|token| &self.ops[token]);
        for rival in rivals.filter(|rival| !(into && rival.kind == Kind::ReceiveInto)) {
            verdict.may(ErrorKind::ReceiveActive, true);
            verdict.is_certain |= !rival.perhaps_ended && rival.perhaps_refused.is_empty();
        }
    }

    /// What the caller knows to be queued at most, and what must be queued at least.
    //= LIMIT-1
    fn judge_room(&self, sock: &Sock, length: usize, verdict: &mut Verdict) {
        let queued: usize = sock.sends.iter().map(|token| self.ops[token].length).sum();
        let Limits { send_bytes, send_count, .. } = self.limits;
        let is_full = |bytes, count| (count > 0 && bytes + length > send_bytes) || count >= send_count;
        verdict.may(ErrorKind::Busy, is_full(queued, sock.sends.len()));
        verdict.is_certain |= is_full(sock.fresh_bytes, sock.fresh_count);
    }

    /// Sockets that the driver has, or may still have.
    pub(super) fn socket_count(&self) -> usize {
        let connects = self.ops.values().filter(|op| matches!(op.kind, Kind::Connect { .. })).count();
        connects + self.sockets.iter().filter(|sock| !sock.is_closed).count()
    }
}
