//! The harness: a driver whose every completion goes through the books.
//!
//! 1. Submit through the rig: what is accepted is booked.
//! 2. `next_completion`, `wait_for`, `until` turn the driver and keep what came; a wait that lasts too long fails with what was seen.
//! 3. The drop shuts the driver down and checks that everything accepted has completed exactly once, that no operation is
//!    pending, that no buffer is lent.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use raon_provider::{
    AcceptedSocket, Address, BindOptions, CloseMode, Completion, Completions, Config, Driver, Error, ErrorKind,
    ListenOptions, Operation, OperationId, Outcome, Payload, ReceiveBuffer, Refused, SocketId,
};

use crate::ledger::{Ledger, Manner};
use crate::peer::{self, Peer};
use crate::setup::Setup;
use crate::simulated;
use crate::vacant::Vacant;

/// Longer than anything takes that works.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Token of what a test does not look at.
pub const ANY: u64 = 999_999;

/// A driver, its books, and what it has delivered.
pub struct Rig {
    setup: Setup,
    /// The driver under test.
    pub driver: Driver,
    /// The books.
    pub ledger: Ledger,
    completions: Completions,
    seen: VecDeque<Completion>,
    /// The last completions, as text, for the report of a failure.
    trace: VecDeque<String>,
    leaked_before: u64,
}

impl Rig {
    /// A driver of the set-up.
    pub fn new(setup: &Setup) -> Self {
        Rig::with(setup, |_| {})
    }

    /// The same with a changed configuration.
    pub fn with(setup: &Setup, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = setup.config();
        change(&mut config);
        let driver = Driver::open(&config).unwrap_or_else(|error| panic!("{setup:?} cannot be opened: {error}"));
        setup.check(&driver);
        Rig::of(*setup, driver, 1024)
    }

    /// A rig around a driver, whose polls deliver at most `capacity` completions.
    pub fn of(setup: Setup, driver: Driver, capacity: usize) -> Self {
        Rig {
            setup,
            driver,
            ledger: Ledger::default(),
            completions: Completions::with_capacity(capacity),
            seen: VecDeque::new(),
            trace: VecDeque::new(),
            leaked_before: raon_provider::leaked_operations(),
        }
    }

    /// From now on a poll delivers at most so many.
    pub fn set_capacity(&mut self, capacity: usize) {
        assert!(self.completions.is_empty());
        self.completions = Completions::with_capacity(capacity);
    }

    // Sockets.

    /// A listener where nobody else is.
    pub fn listen(&mut self) -> (SocketId, Address) {
        self.listen_at(self.setup.address())
    }

    /// A listener at this address.
    pub fn listen_at(&mut self, address: Address) -> (SocketId, Address) {
        let listener = self.patiently(|rig| rig.driver.listen(&address, &ListenOptions::default())).unwrap();
        (listener, self.driver.local_address(listener).unwrap())
    }

    /// Listens, lets `close` close that listener, and keeps its address: nobody listens there as long as that is kept.
    pub fn unlisten(&mut self, mut close: impl FnMut(&mut Rig, SocketId, &Address)) -> Vacant {
        // Somebody else may be quicker now and then, and a listener that has not closed has its address each time.
        let mut vacant = || {
            let (listener, address) = self.listen();
            close(self, listener, &address);
            Vacant::at(&address)
        };
        (0..10).find_map(|_| vacant()).expect("the address of a listener that has closed is free")
    }

    /// A socket of the driver and its plain peer.
    pub fn peer(&mut self) -> (SocketId, Peer) {
        self.peer_with_buffers(0, 0)
    }

    /// The same with buffers of given sizes on the way from the driver to the peer.
    pub fn peer_with_buffers(&mut self, near_send: usize, far_receive: usize) -> (SocketId, Peer) {
        let (near, far) = peer::connection(&self.setup, near_send, far_receive);
        (self.adopt(near), far)
    }

    /// Two sockets of the driver, connected.
    pub fn pair(&mut self) -> (SocketId, SocketId) {
        let (near, far) = peer::connection(&self.setup, 0, 0);
        (self.adopt(near), self.adopt(far.into_socket()))
    }

    /// Makes the peer's end to come a reset: a Unix socket ends with one only if it leaves bytes unread.
    pub fn provoke_reset(&mut self, socket: SocketId) {
        if self.setup.is_unix {
            self.send_quiet(socket, b"never read".as_slice(), ANY);
            self.settle();
        }
    }

    /// Adopts what must be adoptable.
    pub fn adopt(&mut self, socket: impl Into<AcceptedSocket>) -> SocketId {
        let mut socket = socket.into();
        loop {
            match self.driver.adopt(socket) {
                Ok(adopted) => return adopted,
                Err(refused) if self.is_fault(&refused.error) => socket = refused.value,
                Err(refused) => panic!("a socket that can be adopted: {refused}"),
            }
        }
    }

    /// Again as long as it fails by a fault that the set-up asked for.
    fn patiently<T>(&mut self, mut call: impl FnMut(&mut Rig) -> Result<T, Error>) -> Result<T, Error> {
        loop {
            match call(self) {
                Err(error) if self.is_fault(&error) => {}
                result => return result,
            }
        }
    }

    /// True if the wrapper made it up: a real one has a code of the system.
    fn is_fault(&self, error: &Error) -> bool {
        self.setup.faults.is_some() && error.os_code() == 0 && error.kind() == ErrorKind::DescriptorLimit
    }

    /// A datagram socket on loopback, and its address.
    pub fn bind(&mut self, options: &BindOptions) -> (SocketId, SocketAddr) {
        let socket = self.patiently(|rig| rig.driver.bind(([127, 0, 0, 1], 0), options)).unwrap();
        (socket, self.driver.local_address(socket).unwrap().ip().unwrap())
    }

    /// Where nobody takes datagrams.
    pub fn unbind(&mut self) -> Vacant {
        if simulated::network().is_none() {
            return Vacant::datagrams();
        }
        let (gone, address) = self.bind(&BindOptions::default());
        self.abort(gone, ANY);
        self.wait_closed(ANY);
        Vacant::at(&address.into()).expect("the network is the test's own")
    }

    // Operations. Each panics if it is refused.

    /// Any operation, booked if it is accepted.
    pub fn try_submit(&mut self, operation: Operation, token: u64) -> Result<OperationId, Refused<Operation>> {
        let manner = match &operation {
            Operation::Accept { .. } | Operation::Receive { .. } => Some(Manner::Stream),
            Operation::Send { quiet: true, .. } | Operation::SendTo { quiet: true, .. } => Some(Manner::Quiet),
            Operation::Close { .. } | Operation::Adopt { .. } => None,
            _ => Some(Manner::Single),
        };
        if let Operation::Close { socket, .. } = operation {
            let accepted = self.driver.submit(operation, token)?;
            self.ledger.close(socket, token);
            return Ok(accepted);
        }
        let id = self.driver.submit(operation, token)?;
        if let Some(manner) = manner {
            self.ledger.accept(id, token, manner);
        }
        Ok(id)
    }

    /// Any operation.
    pub fn submit(&mut self, operation: Operation, token: u64) -> OperationId {
        self.try_submit(operation, token).expect("an operation that is accepted")
    }

    /// `Driver::accept`.
    pub fn accept(&mut self, socket: SocketId, token: u64) -> OperationId {
        self.submit(Operation::Accept { socket }, token)
    }

    /// `Driver::connect`.
    pub fn connect(&mut self, address: impl Into<Address>, token: u64) -> OperationId {
        let address = address.into();
        let id = self.patiently(|rig| rig.driver.connect(&address, &Default::default(), token)).unwrap();
        self.ledger.accept(id, token, Manner::Single);
        id
    }

    /// `Driver::receive`.
    pub fn receive(&mut self, socket: SocketId, token: u64) -> OperationId {
        self.submit(Operation::Receive { socket }, token)
    }

    /// `Driver::receive_into` a vector of so many bytes.
    pub fn receive_into(&mut self, socket: SocketId, length: usize, token: u64) -> OperationId {
        let room = ReceiveBuffer::Vec(vec![0; length]);
        self.submit(Operation::ReceiveInto { socket, buffer: room }, token)
    }

    /// `Driver::send`, which may be refused.
    pub fn try_send(
        &mut self,
        socket: SocketId,
        payload: impl Into<Payload>,
        token: u64,
    ) -> Result<OperationId, Refused<Payload>> {
        let id = self.driver.send(socket, payload, token)?;
        self.ledger.accept(id, token, Manner::Single);
        Ok(id)
    }

    /// `Driver::send`.
    pub fn send(&mut self, socket: SocketId, payload: impl Into<Payload>, token: u64) -> OperationId {
        self.try_send(socket, payload, token).expect("a send that is accepted")
    }

    /// `Driver::send_quiet`, which may be refused.
    pub fn try_send_quiet(
        &mut self,
        socket: SocketId,
        payload: impl Into<Payload>,
        token: u64,
    ) -> Result<OperationId, Refused<Payload>> {
        let id = self.driver.send_quiet(socket, payload, token)?;
        self.ledger.accept(id, token, Manner::Quiet);
        Ok(id)
    }

    /// `Driver::send_quiet`.
    pub fn send_quiet(&mut self, socket: SocketId, payload: impl Into<Payload>, token: u64) -> OperationId {
        self.try_send_quiet(socket, payload, token).expect("a send that is accepted")
    }

    /// `Driver::send_to`.
    pub fn send_to(
        &mut self,
        socket: SocketId,
        to: SocketAddr,
        payload: impl Into<Payload>,
        token: u64,
    ) -> OperationId {
        self.submit(Operation::SendTo { socket, to, payload: payload.into(), quiet: false }, token)
    }

    /// The next datagram of a stream: its bytes and its sender.
    pub fn wait_datagram(&mut self, token: u64) -> (Vec<u8>, SocketAddr) {
        match self.wait(token).outcome {
            Outcome::Datagram { bytes, from } => (bytes.to_vec(), from),
            other => panic!("a datagram was due: {other:?}"),
        }
    }

    /// `Driver::shutdown_write`.
    pub fn shutdown_write(&mut self, socket: SocketId, token: u64) -> OperationId {
        self.submit(Operation::ShutdownWrite { socket }, token)
    }

    /// `Driver::timer`.
    pub fn timer(&mut self, after: Duration, token: u64) -> OperationId {
        self.submit(Operation::Timer { after }, token)
    }

    /// `Driver::close`, graceful.
    pub fn close(&mut self, socket: SocketId, deadline: Duration, token: u64) {
        self.submit(Operation::Close { socket, mode: CloseMode::Graceful { deadline } }, token);
    }

    /// `Driver::close`, abort.
    pub fn abort(&mut self, socket: SocketId, token: u64) {
        self.submit(Operation::Close { socket, mode: CloseMode::Abort }, token);
    }

    /// `Driver::cancel` of what has not ended.
    pub fn cancel(&mut self, operation: OperationId) {
        self.driver.cancel(operation).expect("an operation that has not ended");
    }

    // Completions.

    /// One poll; what comes is booked and kept.
    pub fn poll(&mut self, timeout: Option<Duration>) -> usize {
        if timeout.is_some_and(|timeout| timeout < Duration::from_micros(1)) {
            simulated::pass_time();
        }
        let polled = self.driver.poll(timeout, &mut self.completions);
        assert!(polled.is_ok() || self.setup.faults.is_some(), "{polled:?}");
        let count = self.completions.len();
        assert_eq!(polled.unwrap_or(count), count);
        self.take();
        count
    }

    /// `Driver::flush`.
    pub fn flush(&mut self) {
        let flushed = self.driver.flush();
        assert!(flushed.is_ok() || self.setup.faults.is_some(), "{flushed:?}");
    }

    /// Some turns without a wait; more where a turn may do nothing.
    pub fn turns(&mut self, count: usize) {
        let each = self.setup.faults.map_or(1, |faults| 3 * usize::from(faults.rates.turns_late_max) + 3);
        for _ in 0..count * each {
            self.poll(Some(Duration::ZERO));
        }
    }

    /// Lets everything happen that is under way: a few turns, and some milliseconds by the driver's own timer.
    pub fn settle(&mut self) {
        self.timer(Duration::from_millis(3), SETTLE);
        self.wait_for("the settling timer", |completion| completion.token == SETTLE);
        self.turns(2);
    }

    /// Shuts the driver down; what that ends is booked and kept.
    pub fn shut_down(&mut self) {
        self.driver.shutdown(&mut self.completions);
        self.take();
    }

    /// Drops the driver and goes on with another one and new books.
    pub fn replace(&mut self, driver: Driver) {
        drop(std::mem::replace(&mut self.driver, driver));
        assert_eq!(raon_provider::leaked_operations(), self.leaked_before, "operations were leaked");
        self.ledger = Ledger::default();
        self.seen.clear();
    }

    /// What has come and was not asked for yet, in order.
    pub fn seen(&mut self) -> impl Iterator<Item = Completion> + '_ {
        self.seen.drain(..)
    }

    /// The next completion, in order.
    pub fn next_completion(&mut self) -> Completion {
        self.until("any completion", |rig| !rig.seen.is_empty());
        self.seen.pop_front().expect("one was seen")
    }

    /// The first completion that matches; the others stay.
    pub fn wait_for(&mut self, what: &str, matches: impl Fn(&Completion) -> bool) -> Completion {
        self.until(what, |rig| rig.seen.iter().any(&matches));
        let place = self.seen.iter().position(&matches).expect("it was seen");
        self.seen.remove(place).expect("it is there")
    }

    /// The first completion with this token.
    pub fn wait(&mut self, token: u64) -> Completion {
        self.wait_for(&format!("a completion with token {token}"), |completion| completion.token == token)
    }

    /// The failure with this token: its error kind, payload and count.
    pub fn wait_failure(&mut self, token: u64) -> (ErrorKind, Option<Payload>, u32) {
        match self.wait(token).outcome {
            Outcome::Failed { error, payload, transferred } => (error.kind(), payload, transferred),
            other => panic!("token {token} was to fail: {other:?}"),
        }
    }

    /// All bytes of a receive stream until so many are there.
    pub fn wait_bytes(&mut self, token: u64, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            match self.wait(token).outcome {
                Outcome::Received(part) if !part.is_empty() => bytes.extend_from_slice(&part),
                other => panic!("{} of {length} bytes, then {other:?}", bytes.len()),
            }
        }
        assert_eq!(bytes.len(), length, "more bytes than expected");
        bytes
    }

    /// So many bytes by single receives, which may each bring fewer.
    pub fn receive_exactly(&mut self, socket: SocketId, length: usize, token: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            self.receive_into(socket, length - bytes.len(), token);
            match self.wait(token).outcome {
                Outcome::ReceivedInto(room) if !room.is_empty() => bytes.extend(Payload::from(room).to_vec()),
                other => panic!("{} of {length} bytes, then {other:?}", bytes.len()),
            }
        }
        bytes
    }

    /// The orderly end of a receive stream.
    pub fn wait_end(&mut self, token: u64) {
        let completion = self.wait(token);
        let is_end = matches!(&completion.outcome, Outcome::Received(bytes) if bytes.is_empty());
        assert!(is_end && !completion.more, "the end of the stream was due: {completion:?}");
    }

    /// `Closed` with this token.
    pub fn wait_closed(&mut self, token: u64) {
        self.wait_for(&format!("Closed with token {token}"), |completion| {
            completion.token == token && matches!(completion.outcome, Outcome::Closed)
        });
    }

    /// Polls until the condition holds.
    pub fn until(&mut self, what: &str, mut condition: impl FnMut(&mut Rig) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut wait = Duration::ZERO;
        while !condition(self) {
            assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}; {}", self.report());
            self.poll(Some(wait));
            // Conditions may be about a peer, whose news the driver does not hear of.
            wait = (wait + Duration::from_micros(50)).min(Duration::from_millis(1));
        }
    }

    /// Nothing has come that was not asked for.
    pub fn assert_nothing_seen(&self) {
        assert!(self.seen.is_empty(), "nothing was to come: {:?}", self.seen);
    }

    /// Nothing has come with this token that was not asked for.
    pub fn assert_nothing_seen_of(&self, token: u64) {
        assert!(self.seen.iter().all(|completion| completion.token != token), "nothing was to come: {:?}", self.seen);
    }

    fn take(&mut self) {
        while let Some(completion) = self.completions.pop() {
            if self.trace.len() == TRACE_LENGTH {
                self.trace.pop_front();
            }
            self.trace.push_back(format!("{completion:?}"));
            self.ledger.book(&completion);
            // With faults an accept stream pauses now and then: no test of another thing is to know of it.
            let is_fault = matches!(&completion.outcome, Outcome::AcceptPaused(error) if error.os_code() == 0);
            if !(is_fault && self.setup.faults.is_some()) {
                self.seen.push_back(completion);
            }
        }
    }

    fn report(&mut self) -> String {
        let waiting = self.seen.len();
        let last: Vec<_> = self.trace.iter().map(String::as_str).collect();
        let stats = self.driver.stats();
        format!("{waiting} unclaimed, {stats:?}, the last completions:\n{}", last.join("\n"))
    }

    fn finish(&mut self) {
        self.seen.clear();
        self.shut_down();
        self.seen.clear();
        self.ledger.assert_settled();
        let stats = self.driver.stats();
        assert_eq!((stats.pending, stats.sockets), (0, 0), "{stats:?}");
        let pool = self.driver.pool_state();
        assert_eq!(pool.lent, 0, "{pool:?}");
        assert_eq!(raon_provider::leaked_operations(), self.leaked_before, "operations were leaked");
    }
}

const SETTLE: u64 = u64::MAX - 1;
const TRACE_LENGTH: usize = 40;

impl Drop for Rig {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.finish();
        }
    }
}

/// The error kind of a refusal.
pub fn refusal<T, R: Into<Error>>(result: Result<T, R>) -> ErrorKind {
    match result {
        Ok(_) => panic!("it was to be refused"),
        Err(refused) => refused.into().kind(),
    }
}
