//! What no system shows on demand: sockets that are never drained.

use std::cell::{Cell, RefCell};

use super::*;
use crate::base::attempt::Attempt;
use crate::base::slots::Key;
use crate::driver::Driver;
use crate::driver::completion::Completions;
use crate::driver::submitter::Submitter;
use crate::memory::config::PoolConfig;

/// Every socket is readable at the first wait, and has bytes without end.
struct Endless {
    edges: Vec<Edge>,
}

thread_local! {
    /// The longest wait that was asked for.
    static LONGEST: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    /// Whoever ends the poll that waits, if anybody does.
    static SUBMITTER: RefCell<Option<Submitter>> = const { RefCell::new(None) };
}

struct Nobody;

impl crate::base::wake::Wake for Nobody {
    fn wake(&self) {}
}

impl Selector for Endless {
    const KIND: Kind = Kind::Epoll;

    fn open() -> Result<Self, Error> {
        Ok(Endless { edges: Vec::new() })
    }

    fn add(&mut self, socket: u32, _: RawHandle) -> Result<(), Error> {
        self.edges.push(Edge { socket, readable: true, ..Edge::default() });
        Ok(())
    }

    fn remove(&mut self, _: RawHandle) {}

    fn wait(&mut self, wait: Option<Duration>, edges: &mut Vec<Edge>) -> Result<(), Error> {
        edges.append(&mut self.edges);
        LONGEST.set(LONGEST.get().max(wait.unwrap_or_default()));
        SUBMITTER.with_borrow(|submitter| submitter.iter().for_each(Submitter::wake));
        Ok(())
    }

    fn waker(&self) -> Waker {
        std::sync::Arc::new(Nobody)
    }

    fn features(&self) -> Vec<FeatureState> {
        Vec::new()
    }

    fn never_block(_: RawHandle) {}

    fn accept(_: RawHandle) -> Attempt<Socket> {
        Attempt::Later
    }

    fn connect(_: RawHandle, _: Span) -> Attempt<()> {
        Attempt::Later
    }

    fn connect_result(_: RawHandle) -> Attempt<()> {
        Attempt::Later
    }

    fn receive(_: RawHandle, span: SpanMut) -> Attempt<usize> {
        Attempt::Done(span.length)
    }

    fn send(_: RawHandle, _: Span) -> Attempt<usize> {
        Attempt::Later
    }

    fn send_list(_: RawHandle, _: SpanList) -> Attempt<usize> {
        Attempt::Later
    }

    fn receive_datagrams(_: RawHandle, _: &[SpanMut], _: &mut [Label; BATCH_MAX]) -> Attempt<usize> {
        Attempt::Later
    }

    fn send_messages(_: RawHandle, _: &[Message], _: &[Span]) -> Attempt<usize> {
        Attempt::Later
    }

    fn probe_merging() -> MergingProbe {
        (Err("nothing is merged"), Err("nothing is merged"))
    }
}

/// Two endless sockets with a receive stream each, and what a turn brings them.
struct Pair {
    endless: Box<dyn Provider>,
    pool: BufferPool,
    requests: Vec<Request>,
}

impl Pair {
    /// With this cap, in buffers.
    fn new(cap: u32) -> Self {
        let pool = PoolConfig { receive_count: 128, ..PoolConfig::default() };
        let config = Config { turn_bytes_max: cap * pool.buffer_bytes, pool, ..Config::default() };
        let pool = BufferPool::new(&config.pool).unwrap();
        let mut endless = open::<Endless>(&config).unwrap().provider;
        let requests = (0..2).map(|index| {
            let socket = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            let socket = AnySocket::Os(socket);
            endless.attach(index, &socket, Origin::Own).unwrap();
            let action = Action::Receive(Section::Receive, Shots::Many);
            Request { key: Key::new(index, 1), socket: index, handle: socket.handle(), action }
        });
        let requests = requests.collect();
        Pair { endless, pool, requests }
    }

    /// How many buffers each socket gets in the next turn.
    fn shares(&mut self) -> [usize; 2] {
        let mut events = Vec::new();
        self.endless.turn(&mut self.requests, Some(Duration::ZERO), &mut self.pool, &mut events).unwrap();
        [0, 1].map(|index| events.iter().filter(|event| event.key.index() == index && event.more).count())
    }
}

/// In the suite the pool and the kernel's own buffers bound a turn as well, so that a missing cap is not seen there.
#[test]
fn no_socket_gets_more_than_its_share_of_a_turn() {
    let mut pair = Pair::new(4);
    for _ in 0..3 {
        assert_eq!(pair.shares(), [4, 4]);
    }
}

#[test]
fn who_had_nothing_of_a_turn_comes_first_in_the_next() {
    let all = crate::contract::ready_queue::BYTES_PER_TURN / PoolConfig::default().buffer_bytes as usize;
    let mut pair = Pair::new(all as u32);
    // One that has had its share is served in every turn besides.
    assert_eq!([pair.shares(), pair.shares(), pair.shares()], [[all, 0], [all, all], [0, all]]);
}

/// Without epoll_pwait2 a wait is an int of milliseconds, and io_uring adds the present moment to a signed count.
//= TIME-1
#[test]
fn no_wait_is_longer_than_a_kernel_counts() {
    let mut driver = Driver::open_on(&Config::default(), |config, _| open::<Endless>(config)).unwrap();
    SUBMITTER.set(Some(driver.submitter()));
    let mut completions = Completions::with_capacity(1);
    for wait in [Duration::from_secs(40 * 24 * 3600), Duration::from_secs(300 * 365 * 24 * 3600), Duration::MAX] {
        LONGEST.set(Duration::ZERO);
        assert_eq!(driver.poll(Some(wait), &mut completions), Ok(0));
        let longest_ms = LONGEST.get().as_millis();
        assert!((1..=i32::MAX as u128).contains(&longest_ms), "{longest_ms} ms of {wait:?}");
    }
    driver.timer(Duration::MAX, 1).unwrap();
    LONGEST.set(Duration::ZERO);
    assert_eq!(driver.poll(None, &mut completions), Ok(0));
    assert!(LONGEST.get().as_millis() <= i32::MAX as u128);
    SUBMITTER.set(None);
}
