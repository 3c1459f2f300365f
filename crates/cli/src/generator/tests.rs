//! Tests on a server that stalls, in either loop.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use raon_provider::Backend;

use super::{Arrivals, Crew, Language, Load, Mode, Offer, Phase, Plan, Tally};
use crate::arguments::Threads;
use crate::stop::Stop;

const CONNECTIONS: u32 = 4;
const PER_SECOND: u32 = 1000;
const DURATION: Duration = Duration::from_secs(3);
const STALL_START: Duration = Duration::from_millis(1000);
const STALL: Duration = Duration::from_secs(1);

/// An echo server that does nothing at all for some time, which is counted from the first byte that comes.
fn stalling_server(stall_start: Duration, stall: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let first = Arc::new(Mutex::new(None));
    thread::spawn(move || {
        for client in listener.incoming() {
            let first = first.clone();
            thread::spawn(move || echo(client.unwrap(), &first, stall_start, stall));
        }
    });
    address
}

fn echo(mut client: TcpStream, first: &Mutex<Option<Instant>>, stall_start: Duration, stall: Duration) {
    let mut bytes = [0; 65_536];
    while let Ok(length) = client.read(&mut bytes)
        && length > 0
    {
        let since = first.lock().unwrap().get_or_insert_with(Instant::now).elapsed();
        if since >= stall_start && since < stall_start + stall {
            thread::sleep(stall_start + stall - since); // tidy: sleep — the stall is what is tested
        }
        if client.write_all(&bytes[..length]).is_err() {
            return;
        }
    }
}

fn plan(address: SocketAddr, worker: u32, workers: u32) -> Plan {
    Plan {
        address: address.into(),
        worker,
        workers,
        connections_of_all: CONNECTIONS,
        connections: CONNECTIONS / workers,
        idle: 0,
        size_bytes: 32,
        language: Language::Echo,
        answer_wait: Duration::from_millis(500),
        datagram_timeout: None,
        connects_per_second: None,
        connects_under_way_max: 16,
        seed: 1,
    }
}

/// Runs the loads one after the other on the same connections.
fn measure(address: SocketAddr, workers: u32, loads: &[Load]) -> Vec<Tally> {
    let stop = Arc::new(Stop::default());
    let threads = Threads {
        backend: Some(Backend::Auto),
        workers: Some(workers as u16),
        pin: None,
        with_parent: false,
        rio: None,
    };
    let plans = (0..workers).map(|worker| plan(address, worker, workers)).collect();
    let crew = Crew::start(plans, &threads, &stop).unwrap();
    let tallies = loads
        .iter()
        .map(|load| {
            let opened = crew.perform(Phase::OpenActive, |_| ()).unwrap();
            assert_eq!(opened.connections, u64::from(CONNECTIONS));
            crew.perform(Phase::Run(*load), |_| ()).unwrap()
        })
        .collect();
    crew.perform(Phase::Close, |_| ()).unwrap();
    crew.finish().unwrap();
    tallies
}

fn open(duration: Duration, arrivals: Arrivals, in_flight_max: u32) -> Load {
    Load { duration, mode: Mode::Open(Offer { per_second: PER_SECOND, arrivals, in_flight_max }) }
}

/// The share of latencies of at least so much.
fn share_from(tally: &Tally, latency: Duration) -> f64 {
    let (from_ns, all) = (latency.as_nanos() as u64, &tally.latency_ns);
    all.count_between(from_ns, all.high()) as f64 / all.len() as f64
}

fn assert_accounted_for(tally: &Tally) {
    assert_eq!(tally.open.scheduled, tally.messages + tally.open.unanswered + tally.open.unsent);
}

/// Messages due in the stall wait for its end: of 3 s, one, with waits from 0 to 1 s.
fn assert_shows_the_stall(tally: &Tally) {
    assert_accounted_for(tally);
    assert_eq!(tally.messages, tally.open.scheduled, "all came back in the end");
    let max_s = tally.latency_ns.max() as f64 / 1e9;
    assert!((0.9..2.0).contains(&max_s), "the first one waits for the whole stall: {max_s} s");
    let (half, most) = (share_from(tally, Duration::from_millis(500)), share_from(tally, Duration::from_millis(100)));
    assert!((0.12..0.30).contains(&half), "a sixth waits for half of it or more: {half}");
    assert!((0.25..0.45).contains(&most), "three tenths wait for a tenth of it or more: {most}");
}

#[test]
fn an_open_loop_is_charged_for_a_stall() {
    let address = stalling_server(STALL_START, STALL);
    let tally = &measure(address, 1, &[open(DURATION, Arrivals::Even, 1024)])[0];
    assert_eq!((tally.open.scheduled, tally.open.backlogged, tally.errors), (3000, 0, 0));
    assert_shows_the_stall(tally);
}

#[test]
fn what_may_not_leave_is_charged_just_the_same() {
    let address = stalling_server(STALL_START, STALL);
    let tally = &measure(address, 2, &[open(DURATION, Arrivals::Even, 2)])[0];
    assert_eq!((tally.open.scheduled, tally.errors), (3000, 0));
    assert!((900..1500).contains(&tally.open.backlogged), "all of the stall but eight: {}", tally.open.backlogged);
    assert_shows_the_stall(tally);
}

#[test]
fn random_arrivals_are_charged_just_the_same() {
    let address = stalling_server(STALL_START, STALL);
    let tally = &measure(address, 1, &[open(DURATION, Arrivals::Poisson { seed: 1 }, 1024)])[0];
    assert!((2800..3200).contains(&tally.open.scheduled), "{}", tally.open.scheduled);
    assert_shows_the_stall(tally);
}

#[test]
fn a_closed_loop_sees_one_slow_message_per_connection() {
    let address = stalling_server(STALL_START, STALL);
    let load = Load { duration: DURATION, mode: Mode::Closed { pipeline: 1 } };
    let tally = &measure(address, 1, &[load])[0];
    let slow = tally.latency_ns.count_between(500_000_000, tally.latency_ns.high());
    assert_eq!(slow, u64::from(CONNECTIONS), "of {}", tally.messages);
}

#[test]
fn what_never_comes_back_is_told_and_spoils_no_later_load() {
    // The first load gives up 1.4 s after its start; the second one outlasts the stall.
    let address = stalling_server(Duration::from_millis(200), Duration::from_millis(2800));
    let (short, long) = (Duration::from_millis(400), Duration::from_secs(3));
    let tallies = measure(address, 1, &[open(short, Arrivals::Even, 3), open(long, Arrivals::Even, 3)]);
    let first = &tallies[0];
    assert_accounted_for(first);
    assert!(first.open.unsent > 100 && first.open.unanswered > 0, "{} {}", first.open.unsent, first.open.unanswered);
    assert_eq!(first.errors, first.open.unanswered);
    assert_eq!(first.latency_ns.len(), first.open.scheduled, "those that never came back have waited too");
    assert!(share_from(first, Duration::from_millis(500)) > 0.3);
    // Its connections are new: no late answer of the first load is taken for one of this.
    let second = &tallies[1];
    assert_accounted_for(second);
    assert_eq!((second.messages, second.corrupt_bytes, second.errors), (second.open.scheduled, 0, 0));
    assert!(second.latency_ns.max() > 1_000_000_000);
}
