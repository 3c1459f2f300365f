//! Starts every server and talks to it.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::Duration;

use raon_bench_peers::raise_file_limit;
use support::{Server, pattern, pipelined, reset, wait_until};

fn ping_pong(mut stream: TcpStream, data: &[u8]) {
    let mut echo = [0; 1500];
    for part in data.chunks(1500) {
        stream.write_all(part).unwrap();
        stream.read_exact(&mut echo[..part.len()]).unwrap();
        assert!(echo[..part.len()] == *part);
    }
}

fn check_echo(path: &str, args: &[&str]) {
    let server = Server::start(path, args);
    thread::scope(|scope| {
        for seed in 0..8 {
            let server = &server;
            scope.spawn(move || {
                let data = pattern(seed, 1 << 20);
                match seed {
                    0..4 => ping_pong(server.connect(), &data),
                    4..6 => pipelined(server.connect(), &data, &data),
                    _ => pipelined(server.connect_narrow(), &data, &data),
                }
            });
        }
        // Peers that reset: at once, with echoes on the way, and with the server unable to send.
        for _ in 0..20 {
            reset(server.connect());
            let mut stream = server.connect_narrow();
            stream.write_all(&pattern(9, 10_000)).unwrap();
            reset(stream);
            let mut stream = server.connect_narrow();
            stream.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
            let error = (0..10_000).find_map(|_| stream.write(&[7; 4096]).err()).unwrap();
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            reset(stream);
        }
    });
    raise_file_limit().unwrap();
    check_buffers_pass_on(&server);
    // Many connections at once.
    let mut streams: Vec<_> = (0..1200).map(|_| server.connect()).collect();
    for (seed, stream) in streams.iter_mut().enumerate() {
        stream.write_all(&pattern(seed, 100)).unwrap();
    }
    for (seed, stream) in streams.iter_mut().enumerate() {
        let mut echo = [0; 100];
        stream.read_exact(&mut echo).unwrap();
        assert!(echo[..] == pattern(seed, 100));
    }
    drop(streams);
    ping_pong(server.connect(), &pattern(0, 5000));
    check_rest(&server);
}

/// A peer that does not read holds all buffers that it can. When it goes, quiet connections that have waited for one do not
/// keep them from one that has something to say.
fn check_buffers_pass_on(server: &Server) {
    wait_until("no socket but the listener is left", || server.sockets() <= 1);
    let mut holder = server.connect_narrow();
    holder.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
    (0..10_000).find_map(|_| holder.write(&[7; 4096]).err()).unwrap();
    let quiet: Vec<_> = (0..1000).map(|_| server.connect()).collect();
    let mut last = server.connect();
    last.write_all(&pattern(1, 100)).unwrap();
    wait_until("all are accepted", || server.sockets() == quiet.len() + 3);
    reset(holder);
    let mut echo = [0; 100];
    last.read_exact(&mut echo).unwrap();
    assert!(echo[..] == pattern(1, 100));
}

/// All is served by one thread, and no connection is left.
fn check_rest(server: &Server) {
    assert_eq!(server.threads(), 1);
    wait_until("no socket but the listener is left", || server.sockets() <= 1);
}

fn message(number: u32) -> [u8; 64] {
    let mut message = [number as u8; 64];
    message[0] = 1;
    message[1..5].copy_from_slice(&number.to_le_bytes());
    message
}

fn expect(stream: &mut TcpStream, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let mut received = [0; 64];
        stream.read_exact(&mut received).unwrap();
        assert_eq!(received, message(number));
    }
}

fn check_broadcast(path: &str, args: &[&str]) {
    raise_file_limit().unwrap();
    let server = Server::start(path, args);
    let mut narrow = server.connect_narrow();
    let mut members: Vec<_> = (0..1100).map(|_| server.connect()).collect();
    // The member accepted last speaks first, so that everyone is there.
    let mut speaker = server.connect();
    for number in 0..20 {
        speaker.write_all(&message(number)).unwrap();
        expect(&mut speaker, number..number + 1);
    }
    members.iter_mut().for_each(|member| expect(member, 0..20));
    // Not for everyone, and a message in two parts.
    let part = message(20);
    speaker.write_all(&[2; 128]).unwrap();
    speaker.write_all(&part[..10]).unwrap();
    wait_until("the first part is read", || server.has_read(&speaker));
    speaker.write_all(&part[10..]).unwrap();
    members.iter_mut().for_each(|member| expect(member, 20..21));
    expect(&mut speaker, 20..21);
    // Members that go in the middle of it.
    members.drain(500..).for_each(reset);
    for number in 21..40 {
        speaker.write_all(&message(number)).unwrap();
        expect(&mut speaker, number..number + 1);
    }
    members.iter_mut().for_each(|member| expect(member, 21..40));
    members.truncate(3);
    // Many messages at once, with a member that does not read until the end.
    let last = 30_000;
    thread::scope(|scope| {
        let mut writer = speaker.try_clone().unwrap();
        scope.spawn(move || (40..last).for_each(|number| writer.write_all(&message(number)).unwrap()));
        members.iter_mut().for_each(|member| expect(member, 40..last));
        expect(&mut speaker, 40..last);
    });
    expect(&mut narrow, 0..last);
    drop((speaker, members, narrow));
    check_rest(&server);
}

macro_rules! servers {
    ($check:ident: $($test:ident = $name:literal $(, $arg:literal)*;)*) => {$(
        #[test]
        fn $test() {
            $check(env!(concat!("CARGO_BIN_EXE_", $name)), &[$($arg),*]);
        }
    )*};
}

servers! { check_echo:
    floor_single = "floor_single";
    floor_single_poll_first = "floor_single", "--poll-first";
    floor_single_small = "floor_single", "--sq-entries", "8", "--buffer-bytes", "100";
    floor_single_fixed = "floor_single", "--fixed";
    floor_single_fixed_small = "floor_single", "--fixed", "--sq-entries", "8", "--buffer-bytes", "100";
    floor_multishot = "floor_multishot";
    floor_multishot_skip = "floor_multishot", "--skip";
    floor_multishot_small = "floor_multishot", "--ring-entries", "64", "--buffer-bytes", "256", "--sq-entries", "8";
    floor_multishot_skip_small =
        "floor_multishot", "--skip", "--ring-entries", "64", "--buffer-bytes", "256", "--sq-entries", "8";
    epoll_raw = "epoll_raw";
    mio_echo = "mio_echo";
    tokio_echo = "tokio_echo";
    monoio_echo = "monoio_echo";
    monoio_echo_default_flags = "monoio_echo", "--default-flags";
    compio_echo = "compio_echo";
    compio_echo_defer = "compio_echo", "--taskrun", "defer";
    compio_echo_default = "compio_echo", "--taskrun", "default";
}

servers! { check_broadcast:
    floor_broadcast = "floor_broadcast";
    floor_broadcast_skip = "floor_broadcast", "--skip";
    floor_broadcast_skip_small = "floor_broadcast", "--skip", "--sq-entries", "8";
    epoll_broadcast = "epoll_broadcast";
    tokio_broadcast = "tokio_broadcast";
    tokio_broadcast_direct = "tokio_broadcast", "--direct";
}

#[test]
fn what_sockets_do_not_take_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_epoll_raw")).args(["--congestion", "abacus"]).output().unwrap();
    assert!(!output.status.success());
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("congestion control abacus cannot be set on a socket"), "{words}");
}

#[test]
fn a_ring_for_polled_devices_takes_no_socket() {
    let output = Command::new(env!("CARGO_BIN_EXE_iopoll_socket")).output().unwrap();
    let words = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{words}");
    for line in ["plain recv: 5", "plain read: 5", "plain send: 5"] {
        assert!(words.contains(line), "{words}");
    }
    let answers: Vec<_> = words.lines().filter(|line| line.starts_with("iopoll ")).collect();
    assert!(answers.len() == 4 && answers.iter().all(|answer| answer.contains("os error")), "{words}");
}
