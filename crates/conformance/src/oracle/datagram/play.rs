//! Plays a plan on a driver, step by step, with the model beside it.

use std::net::SocketAddr;
use std::time::Duration;

use raon_provider::{BindOptions, Buffer, CloseMode, ErrorKind, Operation, OperationId};

use super::flight::charge;
use super::judge::check_whole;
use super::model::{Kind, Model, Op, Port};
use super::verb::{Step, Verb};
use super::{NETWORK_BYTES_MAX, QUEUE_BYTES, QUEUE_CHARGE_MAX};
use crate::oracle::material::{form_of, payload};
use crate::oracle::pipe::content;
use crate::oracle::plan::{Ending, Plan};
use crate::oracle::shape::Shape;
use crate::rig::{Rig, refusal};
use crate::setup::Setup;
use crate::vacant::Vacant;

/// What a socket takes whose buffers are the ordinary ones, and what one takes that has bulk buffers, in bytes.
const ORDINARY_BYTES_MAX: usize = 4096 - 128;
const BULK_BYTES_MAX: usize = 65_536 - 128;
/// The configuration with queues so small that nothing has to arrive, and what they hold.
const TINY_QUEUES: usize = 4;
const TINY_QUEUE_BYTES: u32 = 4096;

/// The driver, the model, and what belongs to neither.
pub(super) struct Player {
    pub(super) setup: Setup,
    pub(super) shape: Shape,
    pub(super) rig: Rig,
    pub(super) model: Model,
    queue_bytes: u32,
    /// An address that nobody has.
    pub(super) vacant: Vacant,
    kept: Vec<(Buffer, Vec<u8>)>,
    pub(super) keeps: bool,
    capacity: usize,
    tokens: u64,
    is_verbose: bool,
}

/// Plays it, or fails.
pub(super) fn play(setup: &Setup, plan: &Plan<Verb>, is_verbose: bool) {
    let mut player = Player::new(setup, plan, is_verbose);
    (0..2).for_each(|_| player.bind(BindOptions::default()));
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
        let is_tiny = plan.shape == TINY_QUEUES;
        let shape = Shape::of(if is_tiny { 0 } else { plan.shape });
        let mut rig = Rig::with(setup, |config| shape.apply(config));
        let vacant = rig.unbind();
        let mut model = Model::new(shape.limits(), is_tiny);
        model.bytes_max.insert(vacant.ip(), ORDINARY_BYTES_MAX);
        model.now_ns = rig.driver.now_ns();
        let queue_bytes = if is_tiny { TINY_QUEUE_BYTES } else { QUEUE_BYTES };
        let (kept, keeps, capacity, tokens) = (Vec::new(), false, 1024, 0);
        Player { setup: *setup, shape, rig, model, queue_bytes, vacant, kept, keeps, capacity, tokens, is_verbose }
    }

    fn step(&mut self, step: &Step) {
        let is_odd = step.form % 2 == 1;
        match step.verb {
            Verb::Poll => drop(self.poll(Duration::from_millis(if is_odd { 2 } else { 0 }))),
            Verb::Flush => self.flush(),
            Verb::Bind => self.bind(self.options(step)),
            Verb::Rebind => self.rebind(step),
            Verb::SendTo => self.send_to(step, step.size, false),
            Verb::SendToQuiet => self.send_to(step, step.size, true),
            Verb::Send => self.send_to_peer(step, is_odd),
            Verb::Burst => {
                let length = step.size % 1400 + 1;
                (0..2 * step.form + 1).for_each(|_| self.send_to(step, length, is_odd));
                self.send_to(step, length / 2, is_odd);
            }
            Verb::Receive => self.receive(step),
            Verb::Pause | Verb::Resume => self.set_paused(step),
            Verb::Cancel => self.cancel(step),
            Verb::Close => self.close_on(step, graceful(step)),
            Verb::Abort => self.close_on(step, CloseMode::Abort),
            Verb::Stale => self.stale(step),
            Verb::Misuse => self.misuse(step),
            Verb::Keep => self.keeps = is_odd,
            Verb::Release => self.release(),
            Verb::Capacity => self.set_capacity([1, 2, 3, 8, 64, 1024][step.form % 6]),
        }
    }

    /// Nothing is ever beyond its bound.
    //= LIMIT-1
    fn check_bounds(&mut self) {
        let (stats, limits) = (self.rig.driver.stats(), self.model.limits);
        assert!(stats.pending as usize <= limits.operations && stats.sockets as usize <= limits.sockets, "{stats:?}");
        let known = self.model.ops.len();
        assert!(stats.pending as usize <= known, "{} pending, known {known}", stats.pending);
    }

    // Turns.

    pub(super) fn poll(&mut self, timeout: Duration) -> usize {
        let turns = self.rig.driver.stats().turns;
        let count = self.rig.poll(Some(timeout));
        if self.rig.driver.stats().turns > turns {
            self.model.turn(self.rig.driver.now_ns());
        }
        self.take_seen();
        if count < self.capacity {
            self.model.delivered_all();
        }
        count
    }

    fn flush(&mut self) {
        self.rig.flush();
        self.model.turn(self.rig.driver.now_ns());
    }

    pub(super) fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
        self.rig.set_capacity(capacity);
    }

    pub(super) fn take_seen(&mut self) {
        for completion in self.rig.seen().collect::<Vec<_>>() {
            if self.is_verbose {
                eprintln!("    {completion:?}");
            }
            let buffer = self.model.take(completion);
            if let Some(buffer) = buffer.filter(|buffer| self.keeps && !buffer.is_empty()) {
                let copy = buffer.to_vec();
                self.kept.push((buffer, copy));
            }
        }
    }

    /// Buffers that were kept hold what they held.
    pub(super) fn release(&mut self) {
        for (buffer, copy) in self.kept.drain(..) {
            assert!(*buffer == *copy, "a lent buffer has changed");
        }
    }

    // Sockets.

    fn options(&self, step: &Step) -> BindOptions {
        let open = self.open();
        let peer = match step.form {
            4 => open.get(step.which % open.len().max(1)).map(|port| port.address),
            5 => Some(self.absent(step)),
            _ => None,
        };
        let datagram_bytes_max = if step.form == 2 { BULK_BYTES_MAX as u32 } else { 0 };
        BindOptions::default().with(|options| {
            options.peer = peer;
            options.datagram_bytes_max = datagram_bytes_max;
            options.coalesce = step.form == 3;
        })
    }

    fn bind(&mut self, options: BindOptions) {
        let address = self.setup.own_address().ip().expect("datagrams go over IP");
        self.bind_at(address, options);
    }

    fn bind_at(&mut self, address: SocketAddr, options: BindOptions) {
        let sockets = self.model.ports.iter().filter(|port| !port.is_closed).count();
        if sockets >= self.model.limits.sockets {
            return;
        }
        let options = options.with(|options| options.receive_queue_bytes = Some(self.queue_bytes));
        let id = match self.rig.driver.bind(address, &options) {
            Ok(id) => id,
            // Somebody else has got it meanwhile.
            Err(error) if address.port() != 0 && error.kind() == ErrorKind::AddressInUse => return,
            Err(error) => panic!("{error}"),
        };
        let address = self.rig.driver.local_address(id).unwrap().ip().unwrap();
        let is_bulk = options.coalesce || options.datagram_bytes_max as usize > ORDINARY_BYTES_MAX;
        let bytes_max = if is_bulk { BULK_BYTES_MAX } else { ORDINARY_BYTES_MAX };
        self.model.add_port(id, address, options.peer, bytes_max);
    }

    fn rebind(&mut self, step: &Step) {
        let is_free = |port: &&Port| port.is_closed && !self.open().iter().any(|open| open.address == port.address);
        let free: Vec<SocketAddr> = self.model.ports.iter().filter(is_free).map(|port| port.address).collect();
        let Some(address) = free.get(step.which % free.len().max(1)) else { return };
        // With the same buffers: what is too long for it stays so.
        let datagram_bytes_max = self.model.bytes_max[address] as u32;
        self.bind_at(*address, BindOptions::default().with(|options| options.datagram_bytes_max = datagram_bytes_max));
    }

    pub(super) fn open(&self) -> Vec<&Port> {
        self.model.ports.iter().filter(|port| port.closing.is_none()).collect()
    }

    /// An address at which nobody is.
    fn absent(&self, step: &Step) -> SocketAddr {
        let closed: Vec<_> = self.model.ports.iter().filter(|port| port.is_closed).collect();
        let gone = closed.get(step.size % (closed.len() + 1)).map(|port| port.address);
        gone.unwrap_or(self.vacant.ip())
    }

    fn choose(&self, step: &Step) -> Option<usize> {
        let is_open = |index: &usize| self.model.ports[*index].closing.is_none();
        let open: Vec<usize> = (0..self.model.ports.len()).filter(is_open).collect();
        // Now and then any socket: one that closes, one that is gone.
        if step.which == 7 || open.is_empty() {
            return Some(step.size % self.model.ports.len());
        }
        Some(open[step.which % open.len()])
    }

    fn close_on(&mut self, step: &Step, mode: CloseMode) {
        if let Some(index) = self.choose(step) {
            self.close(index, mode);
        }
    }

    pub(super) fn close(&mut self, index: usize, mode: CloseMode) {
        let (socket, is_closing) = (self.model.ports[index].id, self.model.ports[index].closing.is_some());
        let token = self.token();
        match self.rig.try_submit(Operation::Close { socket, mode }, token) {
            Ok(_) => {
                assert!(!is_closing, "{socket:?} was closed twice");
                self.model.accept_close(token, index, mode);
            }
            Err(refused) => assert!(is_closing && refused.error.kind() == ErrorKind::Stale, "{refused:?}"),
        }
    }

    // Operations.

    fn token(&mut self) -> u64 {
        self.tokens += 1;
        self.tokens
    }

    fn send_to(&mut self, step: &Step, length: usize, is_quiet: bool) {
        let open = self.open();
        let to = match step.form {
            5 if step.size.is_multiple_of(2) => self.absent(step),
            _ if open.is_empty() => self.vacant.ip(),
            form => open[(step.which + form) % open.len()].address,
        };
        if let Some(index) = self.choose(step) {
            self.send(index, Some(to), length, is_quiet);
        }
    }

    fn send_to_peer(&mut self, step: &Step, is_quiet: bool) {
        let ports = self.model.ports.iter().enumerate();
        let connected = ports.filter(|(_, port)| port.closing.is_none() && port.peer.is_some());
        let connected: Vec<usize> = connected.map(|(index, _)| index).collect();
        let index = connected.get(step.which % connected.len().max(1)).copied().or_else(|| self.choose(step));
        self.send(index.expect("there is one"), None, step.size, is_quiet);
    }

    fn send(&mut self, index: usize, to: Option<SocketAddr>, length: usize, is_quiet: bool) {
        let Port { id: socket, address, peer, .. } = self.model.ports[index];
        let target = to.or(peer);
        let is_there = target.is_some_and(|target| self.model.receiver(address, target).is_some());
        let unread = target.map_or(0, |target| self.model.flights.charge_at(target)) + charge(length);
        if is_there && unread > QUEUE_CHARGE_MAX && self.queue_bytes == QUEUE_BYTES {
            return;
        }
        let token = self.token();
        let bytes = content(token, length);
        let payload = payload(&mut self.rig.driver, bytes.clone(), length % 7);
        let form = form_of(&payload);
        let label = target.filter(|_| length <= NETWORK_BYTES_MAX).map(|to| self.model.label(address, to, bytes));
        let mut op = op(Kind::Send { is_quiet }, index);
        (op.length, op.form, op.to, op.label) = (length, form, to, label);
        let operation = match to {
            Some(to) => Operation::SendTo { socket, to, payload, quiet: is_quiet },
            None => Operation::Send { socket, payload, quiet: is_quiet },
        };
        self.submit(token, op, operation);
    }

    fn receive(&mut self, step: &Step) {
        if let Some(index) = self.choose(step) {
            self.start_stream(index);
        }
    }

    pub(super) fn start_stream(&mut self, index: usize) {
        let (token, socket) = (self.token(), self.model.ports[index].id);
        self.submit(token, op(Kind::Receive, index), Operation::Receive { socket });
    }

    /// Submits, and compares the answer.
    //= OWN-2
    fn submit(&mut self, token: u64, mut op: Op, operation: Operation) {
        let verdict = self.model.verdict(&op);
        let what = format!("{token}: {operation:?}");
        match self.rig.try_submit(operation, token) {
            Ok(id) => {
                verdict.check(&what, Ok(()));
                op.id = id;
                self.model.accept(token, op);
            }
            Err(refused) => {
                let kind = refused.error.kind();
                verdict.check(&what, Err(kind));
                check_whole(token, &op, refused.value);
                if kind == ErrorKind::Busy && op.kind != Kind::Receive {
                    self.model.ports[op.port].owed.push(token);
                }
            }
        }
    }

    fn set_paused(&mut self, step: &Step) {
        let Some(index) = self.choose(step) else { return };
        let (port, is_pause) = (&mut self.model.ports[index], step.verb == Verb::Pause);
        let driver = &mut self.rig.driver;
        match if is_pause { driver.pause(port.id) } else { driver.resume(port.id) } {
            Ok(()) => {
                assert!(port.closing.is_none());
                port.is_paused = is_pause;
            }
            Err(error) => assert!(error.kind() == ErrorKind::Stale && port.closing.is_some(), "{error:?}"),
        }
    }

    fn cancel(&mut self, step: &Step) {
        if let (7, false) = (step.which, self.model.ended.is_empty()) {
            let id = self.model.ended[step.size % self.model.ended.len()];
            return assert_eq!(refusal(self.rig.driver.cancel(id)), ErrorKind::Stale);
        }
        let count = self.model.ops.len().max(1);
        let Some((token, op)) = self.model.ops.iter_mut().nth(step.size % count) else { return };
        match self.rig.driver.cancel(op.id) {
            Ok(()) => (op.is_cancelled, op.perhaps_ended) = (true, true),
            Err(error) => {
                assert!(error.kind() == ErrorKind::Stale && op.perhaps_ended, "cancel of {token}: {error:?}");
            }
        }
    }
}

fn op(kind: Kind, port: usize) -> Op {
    Op {
        kind,
        port,
        id: OperationId::NONE,
        length: 0,
        form: 0,
        to: None,
        label: None,
        receiver: None,
        is_cancelled: false,
        perhaps_ended: false,
    }
}

fn graceful(step: &Step) -> CloseMode {
    CloseMode::Graceful { deadline: Duration::from_millis([60_000, 60_000, 60_000, 5, 0, 1][step.form % 6]) }
}
