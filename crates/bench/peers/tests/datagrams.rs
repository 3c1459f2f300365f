//! Starts every server for datagrams and talks to it.

mod support;

use std::net::UdpSocket;
use std::thread;

use raon_bench_peers::datagram::{coalesce, segment};
use raon_bench_peers::raise_file_limit;
use support::{PATIENCE, Server, pattern};

fn connect(server: &Server) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server.addr).unwrap();
    // What came before it had a peer was for one that had its port before.
    socket.set_nonblocking(true).unwrap();
    while socket.recv(&mut [0; 100]).is_ok() {}
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// One at a time and a few at a time; on loopback none is lost while so few are in flight.
fn ping_pong(server: &Server, seed: usize) {
    let socket = connect(server);
    let mut echo = [0; 2000];
    for len in [0, 1, 64, 1200, 1472].into_iter().cycle().take(500) {
        let sent: Vec<_> = (0..1 + len % 7).map(|place| pattern(seed * 100 + place, len)).collect();
        sent.iter().for_each(|datagram| assert_eq!(socket.send(datagram).unwrap(), len));
        for datagram in sent {
            let count = socket.recv(&mut echo).unwrap();
            assert!(echo[..count] == datagram[..], "{count} bytes of {len}, or other ones");
        }
    }
}

/// Many that leave as one message and may come as one; the last is shorter.
fn together(server: &Server, seed: usize) {
    let socket = connect(server);
    segment(&socket, 100).unwrap();
    let mut echo = [0; 2000];
    for round in 0..200 {
        let data = pattern(seed * 1000 + round, 1550);
        assert_eq!(socket.send(&data).unwrap(), data.len());
        for datagram in data.chunks(100) {
            let count = socket.recv(&mut echo).unwrap();
            assert!(echo[..count] == *datagram, "{count} bytes of {}, or other ones", datagram.len());
        }
    }
}

fn check_datagrams(path: &str, args: &[&str]) {
    raise_file_limit().unwrap();
    let server = &Server::start(path, args);
    // Peers that are gone before the answer comes. All of them are answered before others may get their ports.
    let last = connect(server);
    for seed in 0..50 {
        connect(server).send(&pattern(seed, 64)).unwrap();
    }
    last.send(b"last").unwrap();
    assert_eq!(last.recv(&mut [0; 100]).unwrap(), 4);
    thread::scope(|scope| {
        for seed in 0..4 {
            scope.spawn(move || ping_pong(server, seed));
            scope.spawn(move || together(server, seed));
        }
    });
    // More peers than any batch, all at once.
    let sockets: Vec<_> = (0..200).map(|_| connect(server)).collect();
    for (seed, socket) in sockets.iter().enumerate() {
        socket.send(&pattern(seed, 100)).unwrap();
    }
    for (seed, socket) in sockets.iter().enumerate() {
        let mut echo = [0; 200];
        let count = socket.recv(&mut echo).unwrap();
        assert!(echo[..count] == pattern(seed, 100)[..]);
    }
    assert_eq!((server.threads(), server.sockets()), (1, 1));
}

macro_rules! servers {
    ($($test:ident = $name:literal $(, $arg:literal)*;)*) => {$(
        #[test]
        fn $test() {
            check_datagrams(env!(concat!("CARGO_BIN_EXE_", $name)), &[$($arg),*]);
        }
    )*};
}

servers! {
    floor_datagram = "floor_datagram";
    floor_datagram_small = "floor_datagram", "--ring-entries", "4", "--sq-entries", "2";
    floor_datagram_offload = "floor_datagram", "--offload";
    epoll_datagram = "epoll_datagram";
    epoll_datagram_offload = "epoll_datagram", "--offload";
    tokio_datagram = "tokio_datagram";
    quinn_udp = "quinn_udp";
}

/// How many bytes of sixteen datagrams that leave together come back together.
fn together_bytes(path: &str, args: &[&str]) -> usize {
    let server = Server::start(path, args);
    let socket = connect(&server);
    coalesce(&socket).unwrap();
    segment(&socket, 100).unwrap();
    socket.send(&pattern(1, 1550)).unwrap();
    let mut echo = [0; 2000];
    let count = socket.recv(&mut echo).unwrap();
    assert!(echo[..count] == pattern(1, 1550)[..count]);
    count
}

#[test]
fn offload_keeps_messages_together() {
    for path in [env!("CARGO_BIN_EXE_floor_datagram"), env!("CARGO_BIN_EXE_epoll_datagram")] {
        assert_eq!((together_bytes(path, &[]), together_bytes(path, &["--offload"])), (100, 1550), "{path}");
    }
}
