//! Servers that were held up: nobody who went on talking is blamed for it (LIVE-3).

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::frames::packet;
use raon::{CloseReason, Packet, RateLimit, Server, ServerConfig, ServerStats, Simulation, SlowConsumerPolicy};

const STALL: u16 = 2;
const LIMIT: Duration = Duration::from_secs(60);

/// An echo whose application stands still for 1.5 s at a packet of id [`STALL`]; clients that talk before, meanwhile and after. Its
/// statistics at the end.
fn stall(backend: &str, count: usize, configure: impl FnOnce(&mut ServerConfig)) -> ServerStats {
    let server = Server::builder()
        .listen("127.0.0.1:0")
        .workers(1)
        .configure(|config| config.backend = backend.into())
        .configure(configure)
        .framing(Packet::new())
        .on_message(|ctx, message| {
            if message.head().id == STALL {
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_millis(1500) {
                    std::hint::spin_loop();
                }
            }
            ctx.reply(message)
        })
        .start()
        .unwrap();
    let address = common::address_of(server.handle());
    let mut clients: Vec<TcpStream> = (0..count).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut said = vec![0; count];
    let say = |clients: &mut Vec<TcpStream>, said: &mut Vec<usize>| {
        for (client, said) in clients.iter_mut().zip(said) {
            client.write_all(&packet(1, b"hello")).unwrap();
            *said += packet(1, b"hello").len();
        }
    };
    say(&mut clients, &mut said);
    clients[0].write_all(&packet(STALL, b"")).unwrap();
    said[0] += packet(STALL, b"").len();
    // Three more words in the time in which nobody listens: more than a bucket for two holds when they are read.
    for _ in 0..3 {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(450) {
            std::thread::yield_now();
        }
        say(&mut clients, &mut said);
    }
    for (place, (mut client, said)) in clients.into_iter().zip(said).enumerate() {
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut bytes = vec![0; said];
        client.read_exact(&mut bytes).unwrap_or_else(|error| panic!("client {place} on {backend}: {error}"));
    }
    let stats = server.handle().stats();
    server.handle().stop(Duration::from_secs(5));
    server.join().unwrap();
    stats
}

fn assert_nobody_closed(stats: &ServerStats, reasons: &[CloseReason]) {
    for reason in reasons {
        assert_eq!(stats.closed_for(*reason), 0, "{stats}");
    }
}

//= LIVE-3
#[test]
fn a_long_callback_makes_nobody_silent() {
    for backend in common::BACKENDS {
        let stats = stall(backend, 300, |config| config.idle_timeout_ms = 1000);
        assert_nobody_closed(&stats, &[CloseReason::IdleTimeout]);
        let stats = stall(backend, 300, |config| {
            (config.heartbeat_every_ms, config.heartbeat_answer_ms) = (600, 300);
        });
        assert_nobody_closed(&stats, &[CloseReason::HeartbeatTimeout]);
        let stats = stall(backend, 300, |config| config.handshake_timeout_ms = 1000);
        assert_nobody_closed(&stats, &[CloseReason::HandshakeTimeout]);
    }
}

//= LIVE-3, RATE-1
#[test]
fn a_long_callback_makes_nobody_too_fast() {
    for backend in common::BACKENDS {
        let stats = stall(backend, 40, |config| {
            (config.messages_per_second_max, config.messages_burst) = (3, 2);
        });
        assert_nobody_closed(&stats, &[CloseReason::RateLimit(RateLimit::Messages)]);
    }
}

/// A server that stands still for six seconds, in which its client talks as before.
fn stand_still(configure: impl FnOnce(&mut ServerConfig)) -> ServerStats {
    let server = Server::builder()
        .configure(configure)
        .framing(Packet::new())
        .on_message(|ctx, message| ctx.reply(message))
        .build();
    let mut simulation = Simulation::new(3);
    let handle = simulation.serve(server).unwrap();
    let mut client = simulation.connect();
    assert!(simulation.run_until(LIMIT, || client.is_connected()));
    for second in 0..12 {
        client.write(&packet(1, b"hello")).unwrap();
        if (3..9).contains(&second) {
            simulation.stand_still(Duration::from_secs(1));
        } else {
            simulation.run_for(Duration::from_secs(1));
        }
    }
    handle.stats()
}

//= LIVE-3
#[test]
fn a_stopped_server_ends_nobody_in_simulation() {
    assert_eq!(stand_still(|config| config.idle_timeout_ms = 3000).sessions, 1);
    assert_eq!(stand_still(|config| (config.messages_per_second_max, config.messages_burst) = (1, 2)).sessions, 1);
    assert_eq!(
        stand_still(|config| {
            config.slow_consumer = SlowConsumerPolicy::Disconnect;
            config.slow_consumer_grace_ms = 1000;
        })
        .sessions,
        1
    );
}

/// Silence is still silence, also after a stall.
//= LIVE-2, LIVE-3
#[test]
fn who_is_silent_ends_all_the_same() {
    let server = Server::builder()
        .configure(|config| config.idle_timeout_ms = 3000)
        .framing(Packet::new())
        .on_message(|ctx, message| ctx.reply(message))
        .build();
    let mut simulation = Simulation::new(4);
    let handle = simulation.serve(server).unwrap();
    let client = simulation.connect();
    assert!(simulation.run_until(LIMIT, || client.is_connected()));
    simulation.run_for(Duration::from_secs(1));
    simulation.stand_still(Duration::from_secs(6));
    simulation.run_for(Duration::from_millis(1900));
    assert_eq!(handle.stats().sessions, 1, "one second of its three was over");
    simulation.run_for(Duration::from_millis(200));
    let stats = handle.stats();
    assert_eq!((stats.sessions, stats.closed_for(CloseReason::IdleTimeout)), (0, 1), "{stats}");
}
