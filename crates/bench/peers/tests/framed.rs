//! Starts every framed server and talks to it.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use raon_bench_peers::framed::{Assembler, ECHO, ECHOED, GRANT, HEADER, JOIN, JOINED, push};
use raon_bench_peers::raise_file_limit;
use support::{Server, pattern, pipelined, reset, wait_until};

fn frame(id: u16, body: &[u8]) -> Vec<u8> {
    [&((HEADER + body.len()) as u16).to_le_bytes()[..], &id.to_le_bytes(), body].concat()
}

/// Frames of all lengths, with the answers to them.
fn exchange(seed: usize) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let lengths = [0, 1, 60, 500, 3, 4092].into_iter().cycle().enumerate();
    lengths.map(move |(at, len)| {
        let body = pattern(seed * 1000 + at, len);
        (frame(ECHO, &body), frame(ECHOED, &body))
    })
}

/// One after the other, of so many bytes together.
fn conversation(seed: usize, bytes: usize) -> (Vec<u8>, Vec<u8>) {
    let (mut asked, mut answered) = (Vec::new(), Vec::new());
    for (question, answer) in exchange(seed) {
        if asked.len() >= bytes {
            break;
        }
        asked.extend(question);
        answered.extend(answer);
    }
    (asked, answered)
}

fn expect(stream: &mut TcpStream, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    stream.read_exact(&mut bytes).unwrap();
    assert!(bytes == expected);
}

/// The end of each frame goes together with the first bytes of the next one, which the server then has in part.
fn in_parts(mut stream: TcpStream, cut: usize) {
    let frames: Vec<_> = exchange(cut).take(60).collect();
    let split =
        |at: usize| frames.get(at).map_or((&[][..], &[][..]), |(asked, _)| asked.split_at(cut.min(asked.len())));
    stream.write_all(split(0).0).unwrap();
    for (at, (_, answer)) in frames.iter().enumerate() {
        stream.write_all(&[split(at).1, split(at + 1).0].concat()).unwrap();
        expect(&mut stream, answer);
    }
}

/// A frame that cannot be ends its own connection.
fn malformed(server: &Server) {
    for bytes in [&[0, 0, 1, 0][..], &[255, 255, 1, 0], &[3, 0, 1], &frame(77, b"what")] {
        let mut stream = server.connect();
        stream.write_all(&frame(ECHO, b"good")).unwrap();
        expect(&mut stream, &frame(ECHOED, b"good"));
        stream.write_all(bytes).unwrap();
        // The end, or a reset.
        assert_eq!(stream.read(&mut [0; 10]).unwrap_or(0), 0, "{bytes:?}");
    }
}

fn check_framed(path: &str, args: &[&str]) {
    raise_file_limit().unwrap();
    let server = &Server::start(path, args);
    thread::scope(|scope| {
        for seed in 0..4 {
            scope.spawn(move || {
                let (asked, answered) = conversation(seed, 1 << 20);
                let stream = if seed < 2 { server.connect() } else { server.connect_narrow() };
                pipelined(stream, &asked, &answered);
            });
        }
        for cut in [1, 2, 3, 4, 5, 300] {
            scope.spawn(move || in_parts(server.connect(), cut));
        }
        scope.spawn(|| malformed(server));
        for _ in 0..20 {
            let mut stream = server.connect();
            stream.write_all(&conversation(1, 10_000).0[..9_999]).unwrap();
            reset(stream);
        }
    });
    check_pushes(server);
    check_rest(server);
}

/// A session that the producer sends to.
struct Member {
    stream: TcpStream,
    number: u32,
    assembler: Assembler,
    /// Pushes that came.
    count: u32,
}

impl Member {
    fn join(server: &Server, number: u32) -> Self {
        let mut stream = server.connect();
        stream.write_all(&frame(JOIN, &number.to_le_bytes())).unwrap();
        expect(&mut stream, &frame(JOINED, &number.to_le_bytes()));
        stream.set_nonblocking(true).unwrap();
        Self { stream, number, assembler: Assembler::default(), count: 0 }
    }

    /// Takes what is there: pushes for this session, none missing and in order.
    fn take(&mut self) {
        let mut bytes = [0; 4096];
        while let Ok(length) = self.stream.read(&mut bytes) {
            assert!(length > 0, "session {} has ended", self.number);
            let check = |frame: &[u8]| {
                assert!(frame == push(self.number, self.count), "session {}, push {}", self.number, self.count);
                self.count += 1;
                Ok(())
            };
            self.assembler.feed(&bytes[..length], check).unwrap();
        }
    }
}

fn wait_for(members: &mut [Member], total: u32) {
    wait_until("all pushes have come", || {
        members.iter_mut().for_each(Member::take);
        members.iter().map(|member| member.count).sum::<u32>() >= total
    });
}

/// All that the producer may send arrives, in order at each session; sessions that go do not disturb the others.
fn check_pushes(server: &Server) {
    const SESSIONS: u32 = 300;
    let grant = |count: u32| frame(GRANT, &[count.to_le_bytes(), SESSIONS.to_le_bytes()].concat());
    let mut members: Vec<_> = (0..SESSIONS).map(|number| Member::join(server, number)).collect();
    let mut control = server.connect();
    control.write_all(&[grant(1), grant(29_999), grant(10_000)].concat()).unwrap();
    wait_for(&mut members, 40_000);
    assert!(members.iter().all(|member| member.count > 0));
    let total: u32 = members[..150].iter().map(|member| member.count).sum();
    members.drain(150..).for_each(|member| reset(member.stream));
    control.write_all(&grant(10_000)).unwrap();
    // Half of them, as chance has it.
    wait_for(&mut members, total + 4000);
    control.write_all(&frame(ECHO, b"and on")).unwrap();
    expect(&mut control, &frame(ECHOED, b"and on"));
}

/// Many at once; then all is served by one thread beside the producer, and no connection is left.
fn check_rest(server: &Server) {
    let mut streams: Vec<_> = (0..1200).map(|_| server.connect()).collect();
    for (seed, stream) in streams.iter_mut().enumerate() {
        stream.write_all(&frame(ECHO, &pattern(seed, 60))).unwrap();
    }
    for (seed, stream) in streams.iter_mut().enumerate() {
        expect(stream, &frame(ECHOED, &pattern(seed, 60)));
    }
    drop(streams);
    assert_eq!(server.threads(), 2);
    wait_until("no socket but the listener is left", || server.sockets() <= 1);
}

macro_rules! servers {
    ($($test:ident = $name:literal $(, $arg:literal)*;)*) => {$(
        #[test]
        fn $test() {
            check_framed(env!(concat!("CARGO_BIN_EXE_", $name)), &[$($arg),*]);
        }
    )*};
}

servers! {
    framed_floor = "framed_floor";
    framed_floor_small = "framed_floor", "--ring-entries", "64", "--buffer-bytes", "256", "--sq-entries", "8";
    framed_epoll = "framed_epoll";
    framed_epoll_small = "framed_epoll", "--buffer-bytes", "100";
    framed_tokio = "framed_tokio";
    framed_tokio_tuned = "framed_tokio", "--tuned";
    framed_tokio_per_session_buffer = "framed_tokio", "--per-session-buffer";
}
