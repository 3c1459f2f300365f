//! Plays a plan on a driver, step by step, with the model beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use raon_provider::{
    AcceptedSocket, Address, Buffer, CloseMode, Completion, ErrorKind, Operation, SocketId, Submitter,
};

use super::judge::{Left, check_whole};
use super::model::{Kind, Model, Op};
use super::plan::{Ending, Plan};
use super::shape::Shape;
use super::verb::{Step, Verb};
use crate::peer::Peer;
use crate::rig::{Rig, refusal};
use crate::setup::Setup;

/// The driver, the model, and all that belongs to neither.
pub(super) struct Player {
    pub(super) setup: Setup,
    pub(super) shape: Shape,
    pub(super) rig: Rig,
    pub(super) model: Model,
    pub(super) submitter: Submitter,
    /// Plain ends, by link.
    pub(super) peers: BTreeMap<usize, (usize, Peer)>,
    /// Accepted and not adopted, by link.
    pub(super) accepted: Vec<(usize, AcceptedSocket)>,
    /// Accepted before the other end has heard that it is connected.
    pub(super) strays: Vec<Stray>,
    /// Listeners that exist, with their addresses.
    pub(super) listeners: Vec<(usize, Address)>,
    /// Listeners at which a connect has failed: it may stand in the backlog all the same.
    pub(super) doubtful: BTreeSet<usize>,
    kept: Vec<(Buffer, Vec<u8>)>,
    pub(super) keeps: bool,
    capacity: usize,
    tokens: u64,
    is_verbose: bool,
}

/// An accepted connection of which the other end has not heard yet.
pub(super) struct Stray {
    pub from: Address,
    pub listener: usize,
    pub socket: AcceptedSocket,
}

/// Plays it, or fails.
pub(super) fn play(setup: &Setup, plan: &Plan<Verb>, is_verbose: bool) {
    let mut player = Player::new(setup, plan, is_verbose);
    player.adopt();
    for step in &plan.steps {
        if is_verbose {
            eprintln!("{step}");
        }
        player.step(step);
        player.check_bounds();
    }
    match plan.ending {
        Ending::Drain => player.drain(),
        Ending::Shutdown => player.shut_down(),
        Ending::Drop => player.drop_driver(),
    }
}

impl Player {
    fn new(setup: &Setup, plan: &Plan<Verb>, is_verbose: bool) -> Self {
        let shape = Shape::of(plan.shape);
        let rig = Rig::with(setup, |config| shape.apply(config));
        Player {
            setup: *setup,
            shape,
            model: Model::new(shape.limits(), !setup.is_unix),
            submitter: rig.driver.submitter(),
            rig,
            peers: BTreeMap::new(),
            accepted: Vec::new(),
            strays: Vec::new(),
            listeners: Vec::new(),
            doubtful: BTreeSet::new(),
            kept: Vec::new(),
            keeps: false,
            capacity: 1024,
            tokens: 0,
            is_verbose,
        }
    }

    fn step(&mut self, step: &Step) {
        let is_odd = step.form % 2 == 1;
        match step.verb {
            Verb::Poll => drop(self.poll(Duration::from_millis(if is_odd { 2 } else { 0 }))),
            Verb::Flush => self.flush(),
            Verb::Adopt => self.adopt(),
            Verb::Send => self.submit_on(step, Kind::Send { is_quiet: false }),
            Verb::SendQuiet => self.submit_on(step, Kind::Send { is_quiet: true }),
            Verb::Burst => {
                let small = Step { size: step.size % 700 + 1, ..*step };
                (0..step.form + 2).for_each(|_| self.submit_on(&small, Kind::Send { is_quiet: is_odd }));
            }
            Verb::Receive => self.submit_on(step, Kind::Receive),
            Verb::ReceiveInto => self.submit_on(step, Kind::ReceiveInto),
            Verb::ShutdownWrite => self.submit_on(step, Kind::ShutdownWrite),
            Verb::Close => self.submit_on(step, Kind::Close(self.graceful(step))),
            Verb::Abort => self.submit_on(step, Kind::Close(CloseMode::Abort)),
            Verb::Pause | Verb::Resume => self.set_paused(step),
            Verb::Cancel => self.cancel(step),
            Verb::Timer => self.timer(step),
            Verb::Listen => self.listen(),
            Verb::Accept => self.accept(step),
            Verb::Connect => self.connect(step),
            Verb::AdoptAccepted => self.adopt_accepted(step.which),
            Verb::PeerConnect => self.peer_connect(step),
            Verb::PeerWrite => self.peer_write(step),
            Verb::PeerRead => self.peer_read(step),
            Verb::PeerShut | Verb::PeerReset | Verb::PeerDrop => self.peer_end(step),
            Verb::Keep => self.keeps = is_odd,
            Verb::Release => self.release(),
            Verb::Stale => self.stale(step),
            Verb::MailSend => self.mail_on(step, Kind::Send { is_quiet: is_odd }),
            Verb::Mail => self.mail_on(step, [Kind::Receive, Kind::ReceiveInto, Kind::ShutdownWrite][step.form % 3]),
            Verb::MailClose => self.mail_on(step, Kind::Close(self.graceful(step))),
            Verb::MailCancel => self.mail_cancel(step),
            Verb::Capacity => self.set_capacity([1, 2, 3, 8, 64, 1024][step.form % 6]),
        }
    }

    /// Nothing is ever beyond its bound.
    //= LIMIT-1
    fn check_bounds(&mut self) {
        let stats = self.rig.driver.stats();
        let limits = self.model.limits;
        assert!(stats.pending as usize <= limits.operations && stats.sockets as usize <= limits.sockets, "{stats:?}");
        assert!(
            stats.pending as usize <= self.model.ops.len(),
            "{} pending, known {:?}",
            stats.pending,
            self.model.ops
        );
    }

    // Turns.

    pub(super) fn poll(&mut self, timeout: Duration) -> usize {
        let turns = self.rig.driver.stats().turns;
        let count = self.rig.poll(Some(timeout));
        if self.rig.driver.stats().turns > turns {
            self.model.turn(self.rig.driver.now_ns());
        }
        let seen: Vec<_> = self.rig.seen().collect();
        seen.into_iter().for_each(|completion| self.take(completion));
        if count < self.capacity {
            self.model.delivered_all();
        }
        count
    }

    pub(super) fn flush(&mut self) {
        self.rig.driver.flush().unwrap();
        self.model.turn(self.rig.driver.now_ns());
    }

    pub(super) fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
        self.rig.set_capacity(capacity);
    }

    pub(super) fn take(&mut self, completion: Completion) {
        if self.is_verbose {
            eprintln!("    {completion:?}");
        }
        let (kind, on) = self.model.ops.get(&completion.token).map(|op| (op.kind, op.socket)).unzip();
        match (self.model.take(completion), kind) {
            (Left::Bytes(buffer), _) if self.keeps && !buffer.is_empty() => {
                let copy = buffer.to_vec();
                self.kept.push((buffer, copy));
            }
            (Left::Accepted(socket), _) => self.match_accepted(on.flatten().expect("a listener's"), socket),
            (Left::Connected(socket), Some(Kind::Connect { listener })) => self.match_connected(socket, listener),
            (Left::Nothing, Some(Kind::Connect { listener })) => _ = self.doubtful.insert(listener),
            _ => {}
        }
    }

    /// Buffers that were kept hold what they held.
    pub(super) fn release(&mut self) {
        for (buffer, copy) in self.kept.drain(..) {
            assert!(*buffer == *copy, "a lent buffer has changed");
        }
    }

    // Operations.

    fn choose(&self, step: &Step) -> Option<usize> {
        let live: Vec<usize> = self
            .model
            .sockets
            .iter()
            .enumerate()
            .filter(|(_, sock)| sock.place.is_some() && sock.closing.is_none())
            .map(|(index, _)| index)
            .collect();
        // Now and then any socket: a listener, one that closes, one that is gone.
        if step.which >= 6 || live.is_empty() {
            return (!self.model.sockets.is_empty()).then(|| step.size % self.model.sockets.len());
        }
        Some(live[step.which % live.len()])
    }

    fn graceful(&self, step: &Step) -> CloseMode {
        CloseMode::Graceful { deadline: Duration::from_millis([60_000, 60_000, 60_000, 5, 0, 1][step.form % 6]) }
    }

    pub(super) fn token(&mut self) -> u64 {
        self.tokens += 1;
        self.tokens
    }

    fn submit_on(&mut self, step: &Step, kind: Kind) {
        let Some(index) = self.choose(step) else { return };
        let (token, op, operation) = self.build(kind, index, step);
        self.submit(token, op, operation);
    }

    /// Submits, and compares the answer.
    //= OWN-2
    pub(super) fn submit(&mut self, token: u64, mut op: Op, operation: Operation) {
        let verdict = self.model.verdict(&op);
        let what = format!("{token}: {operation:?}");
        match self.rig.try_submit(operation, token) {
            Ok(id) => {
                verdict.check(&what, Ok(()));
                op.id = (!matches!(op.kind, Kind::Close(_))).then_some(id);
                self.model.accept(token, op);
            }
            Err(refused) => {
                let kind = refused.error.kind();
                verdict.check(&what, Err(kind));
                check_whole(token, &op, refused.value);
                if let (ErrorKind::Busy, Kind::Send { .. }) = (kind, op.kind) {
                    self.model.owe(token, &op);
                }
            }
        }
    }

    fn mail_on(&mut self, step: &Step, kind: Kind) {
        let Some(index) = self.choose(step) else { return };
        let (token, op, operation) = self.build(kind, index, step);
        let is_full = self.model.mail.len() >= self.model.limits.mailbox;
        match self.submitter.submit(operation, token) {
            Ok(()) => {
                assert!(!is_full, "the mailbox takes more than its bound");
                match kind {
                    Kind::Close(_) | Kind::Send { is_quiet: true } => self.rig.ledger.expect_perhaps(token),
                    _ => self.rig.ledger.expect_mailed(token, 1),
                }
                self.model.mail.push_back((token, Some(op)));
            }
            Err(refused) => {
                assert!(
                    is_full && refused.error.kind() == ErrorKind::Busy,
                    "{:?} of a mailbox with room",
                    refused.error
                );
                check_whole(token, &op, refused.value);
            }
        }
    }

    fn mail_cancel(&mut self, step: &Step) {
        let Some(token) = self.model.ops.keys().nth(step.size % self.model.ops.len().max(1)).copied() else { return };
        let is_full = self.model.mail.len() >= self.model.limits.mailbox;
        let answer = self.submitter.cancel(token);
        assert_eq!(answer.is_err(), is_full);
        if answer.is_ok() {
            self.model.mail.push_back((token, None));
        }
    }

    fn set_paused(&mut self, step: &Step) {
        let Some(index) = self.choose(step) else { return };
        let (sock, is_pause) = (&mut self.model.sockets[index], step.verb == Verb::Pause);
        let driver = &mut self.rig.driver;
        let answer = if is_pause { driver.pause(sock.id) } else { driver.resume(sock.id) };
        match answer {
            Ok(()) => {
                assert!(sock.closing.is_none());
                sock.is_paused = is_pause;
                // What was held is on its way, perhaps with the end.
                for token in &sock.receives {
                    self.model.ops.entry(*token).and_modify(|op| op.perhaps_ended = true);
                }
            }
            Err(error) => assert!(error.kind() == ErrorKind::Stale && sock.closing.is_some(), "{error:?}"),
        }
    }

    fn cancel(&mut self, step: &Step) {
        if let (7, false) = (step.which, self.model.ended.is_empty()) {
            let id = self.model.ended[step.size % self.model.ended.len()];
            return assert_eq!(refusal(self.rig.driver.cancel(id)), ErrorKind::Stale);
        }
        let known: Vec<_> = self.model.ops.iter().filter_map(|(token, op)| Some((*token, op.id?))).collect();
        let Some((token, id)) = known.get(step.size % known.len().max(1)).copied() else { return };
        match self.rig.driver.cancel(id) {
            Ok(()) => self.model.cancel(token),
            Err(error) => {
                let op = &self.model.ops[&token];
                // The end of a paused stream is held, not delivered: the operation is over all the same.
                let is_held =
                    op.kind == Kind::Receive && op.socket.is_some_and(|index| self.model.sockets[index].is_paused);
                let may_be_over = op.perhaps_ended || is_held;
                assert!(error.kind() == ErrorKind::Stale && may_be_over, "cancel of {token}: {error:?}, {op:?}");
            }
        }
    }

    /// Every call refuses an id that is none.
    //= STALE-1
    fn stale(&mut self, step: &Step) {
        let gone = self.model.sockets.iter().filter(|sock| sock.closing.is_some()).map(|sock| sock.id);
        let forged =
            self.model.sockets.iter().map(|sock| SocketId::from_bits(sock.id.to_bits() ^ 1 << (20 + step.size % 44)));
        let mut ids: Vec<SocketId> = gone.chain(forged).chain([SocketId::NONE]).collect();
        let id = ids.swap_remove(step.size % ids.len());
        if self.model.sockets.iter().any(|sock| sock.id == id && sock.closing.is_none()) {
            return;
        }
        let (driver, mode) = (&mut self.rig.driver, CloseMode::Abort);
        let answers = [
            refusal(driver.send(id, vec![1], 0)),
            refusal(driver.send_quiet(id, vec![1], 0)),
            refusal(driver.receive(id, 0)),
            refusal(driver.receive_into(id, vec![1], 0)),
            refusal(driver.accept(id, 0)),
            refusal(driver.pause(id)),
            refusal(driver.resume(id)),
            refusal(driver.shutdown_write(id, 0)),
            refusal(driver.close(id, mode, 0)),
            refusal(driver.local_address(id)),
        ];
        assert_eq!(answers, [ErrorKind::Stale; 10], "{id:?}");
    }

    fn timer(&mut self, step: &Step) {
        let after = Duration::from_micros([0, 500, 3000, 60_000_000, 0, 1][step.form % 6]);
        let (token, mut op) = (self.token(), Op::new(Kind::Timer, None));
        op.deadline_ns = self.model.now_ns + after.as_nanos() as u64;
        self.submit(token, op, Operation::Timer { after });
    }
}
