//! Promises of the simulated network to whoever tests with it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use raon_provider::{
    CloseMode, Completion, Completions, Config, ConnectOptions, Driver, ErrorKind, FaultPlan, Kind, ListenOptions,
    OperationId, Outcome, PoolConfig, SimConfig, SimNetwork, SimPeer, SocketId,
};

fn small(network: &SimNetwork) -> Config {
    let pool = PoolConfig::default().with(|pool| {
        pool.receive_count = 32;
        pool.send_count = 8;
        pool.bulk_count = 2;
    });
    Config::simulated(network).with(|config| {
        config.sockets_max = 256;
        config.operations_max = 1024;
        config.pool = pool;
    })
}

fn open(network: &SimNetwork) -> Driver {
    Driver::open(&small(network)).unwrap()
}

/// What comes within some virtual time.
fn poll_for(driver: &mut Driver, duration: Duration) -> Vec<Completion> {
    let mut completions = Completions::with_capacity(256);
    let mut all = Vec::new();
    let end_ns = driver.now_ns() + duration.as_nanos() as u64;
    while driver.now_ns() < end_ns {
        let left = Duration::from_nanos(end_ns - driver.now_ns());
        driver.poll(Some(left), &mut completions).unwrap();
        all.extend(completions.drain());
    }
    all
}

const ADDRESS: ([u8; 4], u16) = ([10, 0, 0, 1], 9000);
const MESSAGE: usize = 700;
const MESSAGES: usize = 20;

fn byte(position: usize) -> u8 {
    (position % 251) as u8
}

/// An echo server and clients on drivers of their own, in a storm: connections fail in every way and are made again.
struct Storm {
    network: SimNetwork,
    server: Driver,
    clients: Driver,
    /// Bytes that came back, by connection.
    echoed: BTreeMap<SocketId, usize>,
    connected: Vec<SocketId>,
    open: BTreeSet<OperationId>,
    started: usize,
    finished: usize,
    whole: usize,
    failures: BTreeSet<String>,
}

const ACCEPT: u64 = 1;
const RECEIVE: u64 = 2;
const SEND: u64 = 3;
const CONNECT: u64 = 4;
const CLOSE: u64 = 5;
/// The first of the timers' tokens; each stands for a connection.
const TIMER: u64 = 100;

impl Storm {
    fn new(seed: u64, plan: FaultPlan) -> Self {
        let network = SimNetwork::with_faults(seed, plan);
        network.record();
        let mut server = open(&network);
        let listener = server.listen(ADDRESS, &ListenOptions::default()).unwrap();
        let accept = server.accept(listener, ACCEPT).unwrap();
        let clients = open(&network);
        Storm {
            network,
            server,
            clients,
            echoed: BTreeMap::new(),
            connected: Vec::new(),
            open: BTreeSet::from([accept]),
            started: 0,
            finished: 0,
            whole: 0,
            failures: BTreeSet::new(),
        }
    }

    /// Makes so many connections, some at a time, and steps both drivers until all have ended.
    fn run(&mut self, connections: usize) {
        let mut completions = Completions::with_capacity(64);
        for _ in 0..2_000_000 {
            while self.started < connections && self.started - self.finished < 10 {
                self.started += 1;
                let bind = Some(([10, 0, 0, 2 + (self.started % 4) as u8], 0).into());
                let options = ConnectOptions::default().with(|options| options.bind = bind);
                match self.clients.connect(ADDRESS, &options, CONNECT) {
                    Ok(operation) => drop(self.open.insert(operation)),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::DescriptorLimit);
                        self.finished += 1;
                    }
                }
            }
            if self.finished == connections {
                return;
            }
            self.server.poll(Some(Duration::ZERO), &mut completions).unwrap();
            for completion in completions.drain().collect::<Vec<_>>() {
                self.book(&completion);
                self.serve(completion);
            }
            self.clients.poll(Some(Duration::ZERO), &mut completions).unwrap();
            for completion in completions.drain().collect::<Vec<_>>() {
                self.book(&completion);
                self.take(completion);
            }
            self.step();
        }
        panic!("{} of {connections} ended; {}", self.finished, self.network.trace());
    }

    /// To the next thing that is due, of the network or of a driver, but not far: what a driver only goes on with is due
    /// at no time.
    fn step(&mut self) {
        let now_ns = self.network.now_ns();
        let due = [self.network.next_event_ns(), self.server.next_deadline_ns(), self.clients.next_deadline_ns()];
        let next_ns = due.into_iter().flatten().min().unwrap_or(u64::MAX).clamp(now_ns, now_ns + 10_000_000);
        self.network.advance(Duration::from_nanos(next_ns - now_ns));
    }

    /// Each operation ends once.
    fn book(&mut self, completion: &Completion) {
        if let Some(error) = completion.outcome.error() {
            self.failures.insert(format!("{:?}", error.kind()));
        }
        let is_quiet = completion.token == SEND;
        if !completion.more && completion.operation != OperationId::NONE && !is_quiet {
            assert!(self.open.remove(&completion.operation), "{completion:?} has ended before");
        }
    }

    fn serve(&mut self, completion: Completion) {
        let socket = completion.socket;
        match completion.outcome {
            Outcome::Accepted(accepted) => {
                let socket = self.server.adopt(accepted).unwrap();
                self.open.insert(self.server.receive(socket, RECEIVE).unwrap());
            }
            Outcome::Received(bytes) if bytes.is_empty() => {
                let _ = self.server.close(socket, CloseMode::Graceful { deadline: Duration::from_secs(1) }, CLOSE);
            }
            Outcome::Received(bytes) => {
                if self.server.send_quiet(socket, bytes.to_vec(), SEND).is_err() {
                    abort(&mut self.server, socket);
                }
            }
            Outcome::Failed { .. } => abort(&mut self.server, socket),
            Outcome::AcceptPaused(error) => assert_eq!(error.kind(), ErrorKind::DescriptorLimit),
            Outcome::Closed | Outcome::Writable => {}
            other => panic!("{other:?}"),
        }
    }

    fn take(&mut self, completion: Completion) {
        let socket = completion.socket;
        match completion.outcome {
            Outcome::Connected => self.start(socket),
            Outcome::Failed { .. } if completion.token == CONNECT => self.finished += 1,
            Outcome::Expired => {
                let socket = self.connected[(completion.token - TIMER) as usize];
                abort(&mut self.clients, socket);
            }
            Outcome::Received(bytes) if !bytes.is_empty() => {
                let echoed = self.echoed.get_mut(&socket).unwrap();
                assert!(bytes.iter().enumerate().all(|(place, got)| *got == byte(*echoed + place)), "a byte is wrong");
                *echoed += bytes.len();
                if *echoed == MESSAGE * MESSAGES {
                    self.whole += 1;
                    let deadline = Duration::from_secs(1);
                    self.clients.close(socket, CloseMode::Graceful { deadline }, CLOSE).unwrap();
                }
            }
            Outcome::Received(_) | Outcome::Failed { .. } => abort(&mut self.clients, socket),
            Outcome::Closed => self.finished += 1,
            other => panic!("{other:?}"),
        }
    }

    fn start(&mut self, socket: SocketId) {
        self.echoed.insert(socket, 0);
        self.open.insert(self.clients.receive(socket, RECEIVE).unwrap());
        for message in 0..MESSAGES {
            let bytes: Vec<u8> = (message * MESSAGE..(message + 1) * MESSAGE).map(byte).collect();
            self.clients.send_quiet(socket, bytes, SEND).unwrap();
        }
        // Nobody is waited for longer.
        let token = TIMER + self.connected.len() as u64;
        self.connected.push(socket);
        self.open.insert(self.clients.timer(Duration::from_secs(8), token).unwrap());
    }

    /// Ends both drivers: everything accepted has ended, nothing is held.
    fn end(mut self) -> (String, BTreeSet<String>, usize) {
        let mut completions = Completions::with_capacity(64);
        for driver in [&mut self.server, &mut self.clients] {
            driver.shutdown(&mut completions);
        }
        for completion in completions.drain().collect::<Vec<_>>() {
            self.book(&completion);
        }
        assert!(self.open.is_empty(), "never ended: {:?}", self.open);
        for driver in [&mut self.server, &mut self.clients] {
            assert_eq!((driver.stats().pending, driver.stats().sockets), (0, 0));
            assert_eq!(driver.pool_state().lent, 0);
        }
        (self.network.trace(), self.failures, self.whole)
    }
}

/// It may be closing already.
fn abort(driver: &mut Driver, socket: SocketId) {
    let _ = driver.close(socket, CloseMode::Abort, CLOSE);
}

fn storm(seed: u64, plan: FaultPlan, connections: usize) -> (String, BTreeSet<String>, usize) {
    let mut storm = Storm::new(seed, plan);
    storm.run(connections);
    storm.end()
}

#[test]
fn the_same_seed_is_the_same_run() {
    let (first, _, _) = storm(7, FaultPlan::stormy(), 30);
    assert!(first.lines().count() > 1000, "{}", first.lines().count());
    assert_eq!(storm(7, FaultPlan::stormy(), 30).0, first, "byte for byte");
    assert_ne!(storm(8, FaultPlan::stormy(), 30).0, first);
}

#[test]
fn storms_lose_connections_and_nothing_else() {
    let (mut failures, mut whole) = (BTreeSet::new(), 0);
    for seed in 0..20 {
        let (_, other, count) = storm(seed, FaultPlan::stormy(), 30);
        failures.extend(other);
        whole += count;
    }
    assert!((100..600).contains(&whole), "{whole} of 600 connections came through");
    for kind in ["ConnectionReset", "ConnectionRefused", "TimedOut", "DescriptorLimit"] {
        assert!(failures.contains(kind), "{kind} is missing: {failures:?}");
    }
}

#[test]
fn a_rough_network_loses_nothing_at_all() {
    for seed in 0..10 {
        assert_eq!(storm(seed, FaultPlan::rough(), 20).2, 20, "every connection came through");
    }
}

#[test]
fn time_passes_only_when_somebody_waits() {
    let network = SimNetwork::new(1);
    let mut driver = open(&network);
    driver.timer(Duration::from_secs(3600), 1).unwrap();
    assert_eq!(driver.next_deadline_ns(), Some(3600 * 1_000_000_000));
    let mut completions = Completions::with_capacity(4);
    driver.poll(Some(Duration::ZERO), &mut completions).unwrap();
    assert_eq!(network.now_ns(), 0);
    driver.poll(None, &mut completions).unwrap();
    assert_eq!((completions.len(), network.now_ns()), (1, 3600 * 1_000_000_000), "and an hour is nothing");
}

#[test]
fn a_wait_that_nothing_can_end_says_so() {
    let sim = SimConfig::default().with(|sim| sim.patience = Duration::from_millis(5));
    let mut driver = Driver::open(&Config::named(Kind::Sim).with(|config| config.sim = sim)).unwrap();
    let mut completions = Completions::with_capacity(4);
    let error = driver.poll(None, &mut completions).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NothingToWaitFor);
    driver.timer(Duration::from_millis(1), 1).unwrap();
    assert_eq!(driver.poll(None, &mut completions).unwrap(), 1, "the driver works on");
}

#[test]
fn a_socket_belongs_to_its_network() {
    let (network, other) = (SimNetwork::new(1), SimNetwork::new(1));
    let mut driver = open(&other);
    let (socket, mut peer) = network.pair();
    let refused = driver.adopt(socket).unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::ForeignSocket);
    let refused = open(&other).adopt(refused.value).unwrap_err();
    let os = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(driver.adopt(os).unwrap_err().error.kind(), ErrorKind::ForeignSocket);
    // By a back end of the operating system too.
    let refused = Driver::open(&Config::default()).unwrap().adopt(refused.value).unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::ForeignSocket);
    #[cfg(target_os = "linux")]
    let refused = Driver::open(&Config::named(Kind::Epoll)).unwrap().adopt(refused.value).unwrap_err();
    // The very socket comes back, and works at home.
    let mut home = open(&network);
    let socket = home.adopt(refused.value).unwrap();
    home.send_quiet(socket, b"raon".as_slice(), 1).unwrap();
    home.flush().unwrap();
    assert_eq!(peer.read(&mut [0; 8]).unwrap(), Some(4));
}

#[test]
fn descriptors_run_out_and_the_accept_stream_backs_off() {
    // The listener, the reserve and four connections.
    let network = SimNetwork::with_faults(1, FaultPlan::default().with(|plan| plan.descriptors_max = 6));
    let mut driver = open(&network);
    let listener = driver.listen(ADDRESS, &ListenOptions::default()).unwrap();
    driver.accept(listener, ACCEPT).unwrap();
    let mut peers: Vec<SimPeer> = (0..6).map(|_| network.connect(ADDRESS)).collect();
    let seen = poll_for(&mut driver, Duration::from_millis(5));
    let accepted =
        |seen: &[Completion]| seen.iter().filter(|each| matches!(each.outcome, Outcome::Accepted(_))).count();
    let paused = |each: &Completion| match each.outcome {
        Outcome::AcceptPaused(error) => error.kind() == ErrorKind::DescriptorLimit,
        _ => false,
    };
    assert!(accepted(&seen) == 4 && seen.iter().filter(|each| paused(each)).count() == 1, "{seen:?}");
    assert_eq!(driver.stats().shed, 2, "all that wait are told that there is no place");
    let ends = peers.iter_mut().map(|peer| peer.read(&mut [0; 1]));
    assert_eq!(ends.filter(|end| *end == Ok(Some(0))).count(), 2);
    let _late = network.connect(ADDRESS);
    assert_eq!(driver.connect(ADDRESS, &Default::default(), CONNECT).unwrap_err().kind(), ErrorKind::DescriptorLimit);
    drop(seen);
    assert_eq!(accepted(&poll_for(&mut driver, Duration::from_secs(2))), 1, "one that comes later, when there is room");
}

#[test]
fn a_connect_without_an_answer_ends_in_its_time() {
    let plan = FaultPlan::default().with(|plan| plan.unanswered_connects = 1.0);
    let network = SimNetwork::with_faults(1, plan);
    let _listener = network.listen(ADDRESS).unwrap();
    let mut driver = open(&network);
    let options = ConnectOptions::default().with(|options| options.user_timeout = Some(Duration::from_secs(3)));
    driver.connect(ADDRESS, &options, 1).unwrap();
    driver.connect(ADDRESS, &ConnectOptions::default(), 2).unwrap();
    let mut completions = Completions::with_capacity(4);
    for (token, at) in [(1, Duration::from_secs(3)), (2, plan.connect_timeout)] {
        driver.poll(None, &mut completions).unwrap();
        let completion = completions.pop().unwrap();
        assert_eq!(completion.outcome.error().unwrap().kind(), ErrorKind::TimedOut);
        assert_eq!((completion.token, Duration::from_nanos(network.now_ns())), (token, at));
    }
}

#[test]
fn a_partition_delays_and_a_longer_one_ends_what_waits_for_it() {
    let network = SimNetwork::new(1);
    let mut listener = network.listen(ADDRESS).unwrap();
    let mut driver = open(&network);
    let (here, there): (IpAddr, IpAddr) = ([10, 0, 0, 2].into(), [10, 0, 0, 1].into());
    let user_timeout = Some(Duration::from_secs(5));
    let options = ConnectOptions::default()
        .with(|options| (options.bind, options.user_timeout) = (Some((here, 0).into()), user_timeout));
    driver.connect(ADDRESS, &options, CONNECT).unwrap();
    let seen = poll_for(&mut driver, Duration::from_millis(1));
    let socket = seen[0].socket;
    let mut peer = listener.accept().unwrap();
    assert_eq!(peer.peer_address().unwrap().ip().unwrap().ip(), here);

    network.partition(here, there, Duration::from_secs(4));
    driver.send_quiet(socket, b"raon".as_slice(), SEND).unwrap();
    poll_for(&mut driver, Duration::from_secs(3));
    assert_eq!(peer.read(&mut [0; 8]).unwrap(), None);
    poll_for(&mut driver, Duration::from_secs(2));
    assert_eq!(peer.read(&mut [0; 8]).unwrap(), Some(4), "late, and whole");

    network.partition(there, here, Duration::from_secs(60));
    driver.receive(socket, RECEIVE).unwrap();
    driver.send_quiet(socket, b"raon".as_slice(), SEND).unwrap();
    let seen = poll_for(&mut driver, Duration::from_secs(6));
    assert_eq!(seen[0].outcome.error().unwrap().kind(), ErrorKind::TimedOut, "{seen:?}");
}

#[test]
fn peers_see_what_system_sockets_would_show() {
    let network = SimNetwork::new(1);
    let mut refused = network.connect(ADDRESS);
    assert_eq!((refused.is_connected(), refused.error()), (false, Some(ErrorKind::ConnectionRefused)));
    assert_eq!(refused.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionRefused);

    for address in ["10.0.0.1:9000", "[::1]:9000", "unix:/simulated/name", "unix:@name"] {
        let address: raon_provider::Address = address.parse().unwrap();
        let mut listener = network.listen(&address).unwrap();
        assert_eq!(network.listen(&address).err().map(|error| error.kind()), Some(ErrorKind::AddressInUse));
        let mut near = network.connect(&address);
        let mut far = listener.accept().unwrap();
        assert_eq!((near.peer_address().unwrap(), far.local_address().unwrap()), (address.clone(), address));
        assert_eq!(near.local_address().unwrap(), far.peer_address().unwrap());
        assert_eq!(near.write(b"to and").unwrap(), 6);
        near.shut_write().unwrap();
        let mut bytes = [0; 16];
        assert_eq!((far.read(&mut bytes).unwrap(), far.read(&mut bytes).unwrap()), (Some(6), Some(0)));
        assert_eq!(far.write(b"fro").unwrap(), 3);
        assert_eq!(near.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!(near.read(&mut bytes).unwrap(), Some(3));
        // Closed with bytes that were never read: the other end is told.
        assert_eq!(far.write(b"unread").unwrap(), 6);
        near.close();
        assert_eq!(far.read(&mut bytes).unwrap(), Some(0), "it had seen the end before");
        assert!(!far.is_connected());
    }
}

/// However much is sent to it, and however often.
#[test]
fn a_unix_peer_that_is_gone_takes_nothing() {
    let network = SimNetwork::new(1);
    let address: raon_provider::Address = "unix:@name".parse().unwrap();
    let mut listener = network.listen(&address).unwrap();
    let mut near = network.connect(&address);
    listener.accept().unwrap().close();
    let room = FaultPlan::default().send_buffer_bytes as usize;
    for _ in 0..3 {
        assert_eq!(near.write(&vec![7; room]).unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}

/// Any numbers: nothing panics, and no poll goes on without an end.
#[test]
fn a_plan_of_any_numbers_leaves_a_way_out() {
    for rate in [0.0, -1.0, 0.5, 1.0, 1e300, f64::INFINITY, f64::NAN] {
        for time in [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(u64::MAX), Duration::MAX] {
            let plan = FaultPlan::default().with(|plan| {
                plan.latency_min = Duration::ZERO;
                plan.latency_max = time;
                plan.jitter_max = time;
                plan.bandwidth_bytes = 1;
                plan.send_buffer_bytes = 0;
                plan.receive_buffer_bytes = u32::MAX;
                plan.lost_segments = rate;
                plan.lost_datagrams = rate;
                plan.duplicated_datagrams = rate;
                plan.retransmit_after = time;
                plan.resets = 0.0;
                plan.partitions = rate;
                plan.partition_max = time;
                plan.deaf_peers = rate;
                plan.refused_connects = 0.0;
                plan.slow_connects = rate;
                plan.slow_connect_max = time;
                plan.unanswered_connects = 0.0;
                plan.connect_timeout = time;
                plan.short_reads = rate;
                plan.short_writes = rate;
                plan.stream_ends = rate;
                plan.no_buffers = rate;
                plan.failed_accepts = rate;
                plan.late_completions = rate;
                plan.late_max = time;
                plan.reordered_turns = rate;
                plan.full_queues = rate;
                plan.descriptors_max = u32::MAX;
            });
            let network = SimNetwork::with_faults(u64::MAX, plan);
            let mut driver = open(&network);
            let listener = driver.listen(ADDRESS, &ListenOptions::default()).unwrap();
            driver.accept(listener, 1).unwrap();
            driver.connect(ADDRESS, &ConnectOptions::default(), 2).unwrap();
            let (near, mut far) = network.pair();
            let near = driver.adopt(near).unwrap();
            driver.send(near, vec![7; 3], 3).unwrap();
            driver.receive(near, 4).unwrap();
            let _ = far.write(b"raon");
            let socket = driver.bind(([10, 0, 0, 1], 7), &Default::default()).unwrap();
            driver.send_to(socket, ([10, 0, 0, 1], 7).into(), vec![1; 10], 5).unwrap();
            driver.receive(socket, 6).unwrap();
            let mut completions = Completions::with_capacity(64);
            for wait in [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(1 << 40), Duration::MAX] {
                driver.poll(Some(wait), &mut completions).unwrap();
                completions.drain().for_each(drop);
            }
        }
    }
}
