//! Registered I/O on its double: what happens when the system refuses, is late, or loses its queue,
//! and that everything is given back.
#![cfg(windows)]

use std::os::windows::io::AsRawSocket;
use std::time::{Duration, Instant};

use raon_conformance::platform::{rio_functions, stream_socket};
use raon_conformance::setup::Setup;
use raon_provider::{
    Completion, Completions, Config, ConnectOptions, Driver, ErrorKind, Feature, Kind, ListenOptions, Outcome,
    RioConfig, SocketId,
};
use rio_double::{Faults, Remains, remains, set_faults, socket_made};
use socket2::{Domain, Socket, Type};

const DEADLINE: Duration = Duration::from_secs(20);
const WSA_FLAG_OVERLAPPED: u32 = 1;
const MESSAGE: &[u8] = b"a message";

/// A driver and what it has completed.
struct Rig {
    driver: Driver,
    seen: Vec<Completion>,
}

impl Rig {
    fn new(change: impl FnOnce(&mut RioConfig)) -> Self {
        let mut config = Setup::by_name("rio").config();
        change(&mut config.rio);
        Rig { driver: Driver::open(&config).unwrap(), seen: Vec::new() }
    }

    /// Turns until a completion is as wanted, which is taken out.
    fn until(&mut self, what: &str, wanted: impl Fn(&Completion) -> bool) -> Completion {
        let deadline = Instant::now() + DEADLINE;
        let mut completions = Completions::with_capacity(64);
        loop {
            if let Some(at) = self.seen.iter().position(&wanted) {
                return self.seen.remove(at);
            }
            assert!(Instant::now() < deadline, "waited for {what}, saw {:?}", self.seen);
            let _ = self.driver.poll(Some(Duration::from_millis(20)), &mut completions);
            self.seen.extend(completions.drain());
        }
    }

    /// Both ends of a connection, through the driver's own listener.
    fn pair(&mut self) -> (SocketId, SocketId) {
        let listener = self.driver.listen(([127, 0, 0, 1], 0), &ListenOptions::default()).unwrap();
        let address = self.driver.local_address(listener).unwrap();
        self.driver.accept(listener, 90).unwrap();
        self.driver.connect(address, &ConnectOptions::default(), 91).unwrap();
        let near = self.until("a connect", |completion| completion.token == 91).socket;
        let Outcome::Accepted(far) = self.until("an accept", |completion| completion.token == 90).outcome else {
            panic!("a connection was due")
        };
        (near, self.driver.adopt(far).unwrap())
    }

    /// Sends a message and hears it at the other end; both receive streams have the token 1.
    fn exchange(&mut self, from: SocketId, to: SocketId) {
        self.driver.send(from, MESSAGE.to_vec(), 2).unwrap();
        let mut heard = Vec::new();
        while heard.len() < MESSAGE.len() {
            let completion = self.until("bytes", |completion| completion.token == 1 && completion.socket == to);
            let Outcome::Received(bytes) = completion.outcome else { panic!("bytes were due: {completion:?}") };
            heard.extend_from_slice(&bytes);
        }
        assert_eq!(heard, MESSAGE);
        self.until("the end of a send", |completion| completion.token == 2);
    }
}

#[test]
fn all_is_given_back() {
    let mut rig = Rig::new(|_| {});
    assert!(rig.driver.info().uses(Feature::RegisteredIo));
    let (near, far) = rig.pair();
    rig.driver.receive(near, 1).unwrap();
    rig.driver.receive(far, 1).unwrap();
    rig.exchange(near, far);
    rig.exchange(far, near);
    assert_eq!(remains().request_queues, 2, "a queue for each end, none for the listener");
    drop(rig);
    assert_eq!(remains(), Remains::default());
}

#[test]
fn requests_that_find_no_memory_are_posted_later() {
    let mut rig = Rig::new(|_| {});
    let (near, far) = rig.pair();
    set_faults(Faults { refused_requests: 5, ..Faults::default() });
    rig.driver.receive(far, 1).unwrap();
    rig.exchange(near, far);
    set_faults(Faults { refused_requests: 3, ..Faults::default() });
    rig.exchange(near, far);
}

#[test]
fn completions_that_come_late_reach_no_other_socket() {
    let mut rig = Rig::new(|_| {});
    set_faults(Faults { late_dequeues: 20, ..Faults::default() });
    for _ in 0..5 {
        let (near, far) = rig.pair();
        rig.driver.receive(near, 1).unwrap();
        rig.driver.receive(far, 1).unwrap();
        rig.exchange(near, far);
        for socket in [near, far] {
            rig.driver.close(socket, raon_provider::CloseMode::Abort, 3).unwrap();
            rig.until("the end", |completion| completion.token == 3 && matches!(completion.outcome, Outcome::Closed));
        }
        rig.seen.clear();
    }
    assert!(remains().requests > 0, "some are late");
    drop(rig);
    assert_eq!(remains(), Remains::default(), "the drop waits for them");
}

#[test]
fn a_corrupt_queue_ends_everything_with_that() {
    let mut rig = Rig::new(|_| {});
    let (near, far) = rig.pair();
    rig.driver.receive(near, 1).unwrap();
    rig.driver.receive(far, 1).unwrap();
    rig.exchange(near, far);
    set_faults(Faults { corrupt_dequeues: 1, ..Faults::default() });
    let mut completions = Completions::with_capacity(16);
    // What has ended comes first, then the error, again and again.
    let error = (0..8).find_map(|_| {
        let polled = rig.driver.poll(Some(Duration::ZERO), &mut completions);
        rig.seen.extend(completions.drain());
        polled.err()
    });
    assert_eq!(error.expect("the queue is corrupt").kind(), ErrorKind::QueueCorrupt);
    let is_it = |completion: &Completion| matches!(completion.outcome, Outcome::Failed { error, .. } if error.kind() == ErrorKind::QueueCorrupt);
    for token in [1, 1] {
        rig.until("the end of a stream", |completion| completion.token == token && is_it(completion));
    }
    rig.driver.send(near, MESSAGE.to_vec(), 4).unwrap();
    rig.until("a refusal", |completion| completion.token == 4 && is_it(completion));
}

#[test]
fn a_socket_without_a_place_is_refused_and_the_queue_grows_before() {
    // Each socket takes five places: one receive, four sends.
    let mut rig = Rig::new(|rio| (rio.completions_first, rio.completions_max) = (1, 12));
    let listener = stream_socket(Domain::IPV4);
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(8).unwrap();
    let address = listener.local_addr().unwrap();
    let connect = || {
        let near = stream_socket(Domain::IPV4);
        near.connect(&address).unwrap();
        near
    };
    let first = rig.driver.adopt(connect()).unwrap();
    let second = rig.driver.adopt(connect()).unwrap();
    rig.driver.receive(first, 1).unwrap();
    rig.driver.receive(second, 1).unwrap();
    rig.driver.flush().unwrap();
    let refused = rig.driver.adopt(connect()).unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::Busy);
    rig.driver.close(first, raon_provider::CloseMode::Abort, 3).unwrap();
    rig.until("the end", |completion| completion.token == 3);
    let deadline = Instant::now() + DEADLINE;
    let mut socket = refused.value;
    while let Err(refused) = rig.driver.adopt(socket) {
        assert!(Instant::now() < deadline, "the places of a closed socket are free again");
        rig.driver.flush().unwrap();
        socket = refused.value;
    }
}

#[test]
fn a_socket_without_the_flag_goes_by_the_port() {
    let mut rig = Rig::new(|_| {});
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(1).unwrap();
    let near = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    near.connect(&listener.local_addr().unwrap()).unwrap();
    let far = listener.accept().unwrap().0;
    for socket in [&near, &far] {
        socket_made(socket.as_raw_socket() as usize, WSA_FLAG_OVERLAPPED);
    }
    let (near, far) = (rig.driver.adopt(near).unwrap(), rig.driver.adopt(far).unwrap());
    rig.driver.receive(far, 1).unwrap();
    rig.exchange(near, far);
    assert_eq!(remains().request_queues, 0);
}

#[test]
fn it_may_look_again_and_again_before_it_sleeps() {
    let mut rig = Rig::new(|rio| rio.poll = Duration::from_millis(5));
    let (near, far) = rig.pair();
    rig.driver.receive(near, 1).unwrap();
    rig.driver.receive(far, 1).unwrap();
    for _ in 0..10 {
        rig.exchange(near, far);
        rig.exchange(far, near);
    }
}

#[test]
fn without_the_systems_functions_it_is_named_as_missing() {
    assert!(rio_functions().is_some());
    // A machine that has them opens it: then there is nothing to be named.
    if let Err(error) = Driver::open(&Config::named(Kind::Rio)) {
        assert_eq!((error.kind(), error.feature()), (ErrorKind::BackendUnavailable, Some(Feature::RegisteredIo)));
    }
}
