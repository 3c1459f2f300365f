//! What no system shows on demand: sockets that are never drained.

use super::*;
use crate::config::PoolConfig;
use crate::slots::Key;

/// Every socket is readable at the first wait, and has bytes without end.
struct Endless {
    edges: Vec<Edge>,
}

struct Nobody;

impl crate::provider::Wake for Nobody {
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

    fn wait(&mut self, _: Option<Duration>, edges: &mut Vec<Edge>) -> Result<(), Error> {
        edges.append(&mut self.edges);
        Ok(())
    }

    fn waker(&self) -> Waker {
        std::sync::Arc::new(Nobody)
    }

    fn features(&self) -> Vec<FeatureState> {
        Vec::new()
    }

    fn accept(_: RawHandle) -> Tried<Socket> {
        Tried::Later
    }

    fn connect(_: RawHandle, _: Span) -> Tried<()> {
        Tried::Later
    }

    fn connect_result(_: RawHandle) -> Tried<()> {
        Tried::Later
    }

    fn receive(_: RawHandle, span: SpanMut) -> Tried<usize> {
        Tried::Done(span.length)
    }

    fn send(_: RawHandle, _: Span) -> Tried<usize> {
        Tried::Later
    }

    fn send_list(_: RawHandle, _: SpanList) -> Tried<usize> {
        Tried::Later
    }

    fn receive_datagrams(_: RawHandle, _: &[SpanMut], _: &mut [Label; BATCH_MAX]) -> Tried<usize> {
        Tried::Later
    }

    fn send_datagrams(_: RawHandle, _: &[(SpanList, Target)]) -> Tried<usize> {
        Tried::Later
    }
}

/// A turn of this back end: how many buffers each socket has got.
fn shares(endless: &mut Readiness<Endless>, requests: &mut Vec<Request>, pool: &mut BufferPool) -> [usize; 2] {
    let mut events = Vec::new();
    endless.turn(requests, Some(Duration::ZERO), pool, &mut events).unwrap();
    let share = |index| events.iter().filter(|event| event.key.index() == index && event.more).count();
    [share(0), share(1)]
}

/// In the suite the pool and the kernel's own buffers bound a turn as well, so that a missing cap is not seen there.
#[test]
fn no_socket_gets_more_than_its_share_of_a_turn() {
    let pool = PoolConfig { receive_count: 64, ..PoolConfig::default() };
    let config = Config { turn_bytes_max: 4 * pool.buffer_bytes, pool, ..Config::default() };
    let mut pool = BufferPool::new(&config.pool);
    let mut endless = Readiness::<Endless>::open(&config, &mut pool).unwrap();
    let mut requests = Vec::new();
    for index in 0..2 {
        let socket = Socket::new(Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        endless.attach(index, &socket).unwrap();
        let action = Action::Receive(Section::Receive);
        requests.push(Request { key: Key::new(index, 1), socket: index, handle: raw_handle(&socket), action });
    }
    for _ in 0..3 {
        assert_eq!(shares(&mut endless, &mut requests, &mut pool), [4, 4]);
    }
}
