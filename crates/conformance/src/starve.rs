//! Buffers for receiving run out, and come back.

//= STARVE-1

use std::time::Duration;

use raon_provider::{BindOptions, Buffer, Completions, Config, Driver, Outcome, SocketId};

use crate::peer::Peer;
use crate::platform::Thread;
use crate::random::{assert_pattern, pattern};
use crate::rig::{PATIENCE, Rig};
use crate::setup::Setup;

fn small_pool(config: &mut Config) {
    config.pool.receive_count = 8;
    config.pool.send_count = 8;
    config.pool.bulk_count = 1;
}

/// Sockets with a receive stream each, whose token is their place.
fn streams(rig: &mut Rig, count: usize) -> Vec<(SocketId, Peer)> {
    let streams: Vec<_> = (0..count).map(|_| rig.peer()).collect();
    for (place, (socket, _)) in streams.iter().enumerate() {
        rig.receive(*socket, place as u64);
    }
    streams
}

/// Takes what has come; keeps the buffers.
fn hold(rig: &mut Rig, received: &mut [usize], held: &mut Vec<Buffer>) {
    for completion in rig.seen() {
        let Outcome::Received(bytes) = completion.outcome else { panic!("bytes were due: {completion:?}") };
        let place = completion.token as usize;
        assert_pattern(received[place], &bytes);
        received[place] += bytes.len();
        held.push(bytes);
    }
}

/// Takes what comes, gives the buffers back, until each stream has so many bytes.
fn take_all(rig: &mut Rig, received: &mut [usize], goal: usize) {
    rig.until("all bytes", |rig| {
        hold(rig, received, &mut Vec::new());
        received.iter().all(|received| *received == goal)
    });
}

pub fn an_exhausted_pool_recovers(setup: &Setup) {
    let mut rig = Rig::with(setup, small_pool);
    let mut streams = streams(&mut rig, 30);
    // Senders hold their whole quota all the while.
    let quota: Vec<_> = std::iter::from_fn(|| rig.driver.buffer()).collect();
    assert_eq!(quota.len(), 8);
    let (mut sent, mut received) = (0, [0; 30]);
    for _ in 0..5 {
        for (_, peer) in &mut streams {
            peer.write(&mut rig, &pattern(sent, 5000));
        }
        sent += 5000;
        let mut held = Vec::new();
        rig.until("the pool to be exhausted", |rig| {
            hold(rig, &mut received, &mut held);
            held.len() >= 8
        });
        assert!(received.iter().any(|received| *received < sent), "8 buffers cannot hold it all");
        drop(held);
        take_all(&mut rig, &mut received, sent);
    }
    drop(quota);
    assert!(rig.driver.stats().no_buffers > 0);
}

/// Quiet datagrams that carry receive buffers bring them back: nothing else would end the wait of a driver that has none left.
pub fn quiet_datagrams_pass_buffers_on(setup: &Setup) {
    const COUNT: usize = 48;
    let mut driver = Driver::open(&setup.config().with(small_pool)).unwrap();
    let bind = |driver: &mut Driver| driver.bind(([127, 0, 0, 1], 0), &BindOptions::default()).unwrap();
    let (near, far) = (bind(&mut driver), bind(&mut driver));
    let to = driver.local_address(far).unwrap().ip().unwrap();
    let mut completions = Completions::with_capacity(256);
    for number in 0..COUNT {
        driver.send_to(near, to, vec![number as u8; 8], 1).unwrap();
    }
    let mut sent = 0;
    while sent < COUNT {
        driver.poll(Some(PATIENCE), &mut completions).unwrap();
        sent += completions.drain().count();
    }
    driver.receive(far, 2).unwrap();
    let mut echoed = 0;
    while echoed < COUNT {
        driver.poll(Some(PATIENCE), &mut completions).unwrap();
        assert!(!completions.is_empty(), "asleep with {echoed} of {COUNT} datagrams echoed");
        for completion in completions.drain() {
            let Outcome::Datagram { bytes, from } = completion.outcome else { panic!("{completion:?}") };
            driver.send_to_quiet(far, from, bytes, 3).unwrap();
            echoed += 1;
        }
    }
}

/// The owner sleeps without a limit; the first buffer that another thread drops wakes it, and the bytes come.
pub fn buffers_from_another_thread_wake_a_sleeping_owner(setup: &Setup) {
    let mut rig = Rig::with(setup, small_pool);
    let mut streams = streams(&mut rig, 12);
    let owner = Thread::current();
    let (mut sent, mut received) = (0, [0; 12]);
    for round in 0..10 {
        for (_, peer) in &mut streams {
            assert_eq!(peer.write_some(&pattern(sent, 1000)), 1000);
        }
        sent += 1000;
        let mut held = Vec::new();
        rig.until("the pool to be exhausted", |rig| {
            hold(rig, &mut received, &mut held);
            rig.driver.pool_state().lent >= 8 && held.len() >= 8
        });
        let dropper = std::thread::spawn(move || {
            if round % 2 == 0 {
                owner.await_sleep();
            }
            drop(held);
        });
        // In virtual time a limit would be over at once.
        let patience = if setup.is_simulated() { None } else { Some(PATIENCE) };
        assert!(rig.poll(patience) > 0, "the owner was not woken");
        take_all(&mut rig, &mut received, sent);
        dropper.join().unwrap();
    }
}

/// A socket that closes while it waits for a buffer leaves its place to the others.
pub fn a_waiter_that_closed_takes_nobodys_turn(setup: &Setup) {
    let mut rig = Rig::with(setup, |config| {
        small_pool(config);
        config.pool.receive_count = 1;
        config.pool.send_count = 1;
    });
    let (holder, mut holder_peer) = rig.peer();
    rig.receive(holder, 1);
    assert_eq!(holder_peer.write_some(b"held"), 4);
    let Outcome::Received(held) = rig.wait(1).outcome else { panic!("bytes were due") };
    rig.driver.pause(holder).unwrap();
    rig.turns(2);
    let (waiter, mut waiter_peer) = rig.peer();
    let (other, mut other_peer) = rig.peer();
    for (socket, peer, token) in [(waiter, &mut waiter_peer, 2), (other, &mut other_peer, 3)] {
        rig.receive(socket, token);
        assert_eq!(peer.write_some(b"raon"), 4);
        rig.turns(3);
    }
    rig.settle();
    rig.abort(waiter, 4);
    rig.wait_closed(4);
    rig.wait(2);
    drop(held);
    // If it were forgotten it would sleep until this timer.
    rig.timer(Duration::from_secs(2), 5);
    while rig.poll(None) == 0 {}
    let first = rig.next_completion();
    assert!(matches!(&first.outcome, Outcome::Received(bytes) if **bytes == *b"raon"), "{first:?}");
}

/// Streams that wait for a buffer and have no bytes pass it on: a stream that has bytes gets it, although nothing happens once
/// the buffers are back.
pub fn streams_without_bytes_pass_buffers_on(setup: &Setup) {
    let mut rig = Rig::with(setup, small_pool);
    let mut holders = streams(&mut rig, 8);
    holders.iter_mut().for_each(|(_, peer)| assert_eq!(peer.write_some(b"held"), 4));
    let mut held = Vec::new();
    rig.until("the pool to be exhausted", |rig| {
        held.extend(rig.seen());
        held.len() == 8
    });
    let mut streams = streams(&mut rig, 40);
    rig.settle();
    assert_eq!(streams[39].1.write_some(b"raon"), 4);
    rig.settle();
    drop(held);
    // If it were forgotten the driver would sleep until this timer.
    rig.timer(Duration::from_secs(2), 100);
    while rig.poll(None) == 0 {}
    let first = rig.next_completion();
    assert!(matches!(&first.outcome, Outcome::Received(bytes) if **bytes == *b"raon"), "{first:?}");
}

pub fn a_starved_driver_does_not_spin(setup: &Setup) {
    let mut rig = Rig::with(setup, small_pool);
    let mut streams = streams(&mut rig, 20);
    for (_, peer) in &mut streams {
        assert_eq!(peer.write_some(&pattern(0, 1000)), 1000);
    }
    let mut held = Vec::new();
    let mut received = [0; 20];
    rig.until("the pool to be exhausted", |rig| {
        hold(rig, &mut received, &mut held);
        held.len() >= 8
    });
    let refused = rig.driver.stats().no_buffers;
    rig.settle();
    let before = rig.driver.stats();
    rig.timer(Duration::from_millis(100), 100);
    while rig.poll(None) == 0 {}
    let after = rig.driver.stats();
    assert!(after.turns - before.turns < 20, "{} turns in 100 ms", after.turns - before.turns);
    assert!(after.no_buffers - refused < 40, "armed again and again without a buffer");
    assert!(rig.seen().all(|each| each.token == 100));
    drop(held);
    take_all(&mut rig, &mut received, 1000);
}

pub fn senders_have_their_own_quota(setup: &Setup) {
    let mut rig = Rig::with(setup, small_pool);
    let (near, far) = rig.pair();
    let mut quota: Vec<_> = std::iter::from_fn(|| rig.driver.buffer()).collect();
    assert_eq!((quota.len(), rig.driver.pool_state().send_free), (8, 0));
    rig.receive(far, 1);
    for round in 0..100 {
        rig.send_quiet(near, pattern(round * 4096, 4096), 2);
        assert_pattern(round * 4096, &rig.wait_bytes(1, 4096));
    }
    // What is lent out for sending can be sent, and comes back.
    let mut buffer = quota.pop().unwrap();
    buffer.fill_from(&pattern(409_600, 100));
    rig.send_quiet(near, buffer, 2);
    assert_pattern(409_600, &rig.wait_bytes(1, 100));
    rig.until("the buffer to be back", |rig| rig.driver.pool_state().send_free == 1);
}

/// One socket always has bytes; each of a hundred others must be served within a bounded number of turns.
pub fn one_busy_socket_does_not_starve_the_others(setup: &Setup) {
    const TURNS_MAX: usize = 12;
    let mut rig = Rig::with(setup, |config| config.turn_bytes_max = 65_536);
    let mut quiet = streams(&mut rig, 100);
    let (firehose, mut flood) = rig.peer();
    rig.receive(firehose, 1000);
    let chunk = vec![0; 1 << 20];
    let mut worst = 0;
    for (place, (_, peer)) in quiet.iter_mut().enumerate() {
        flood.write_some(&chunk);
        rig.turns(1);
        assert_eq!(peer.write_some(b"x"), 1);
        let mut turns = 0;
        loop {
            flood.write_some(&chunk);
            rig.turns(1);
            turns += 1;
            if rig.seen().any(|each| each.token == place as u64) {
                break;
            }
            assert!(turns < TURNS_MAX, "socket {place} was not served within {turns} turns");
        }
        worst = worst.max(turns);
    }
    assert!(rig.driver.stats().received_bytes > 1 << 20, "the busy one was served as well");
}

/// Sockets that always have more bytes than there are buffers, and one that has a byte now and then, `bytes` in all. The quiet
/// one must be served within `turns_max` turns each time.
fn flood(setup: &Setup, count: usize, (bytes, turns_max): (u8, usize), configure: fn(&mut Config)) {
    const QUIET: u64 = 1_000_000;
    let mut rig = Rig::with(setup, configure);
    let mut flooding = streams(&mut rig, count);
    let (quiet, mut peer) = rig.peer();
    rig.receive(quiet, QUIET);
    let chunk = vec![7; 64 * 1024];
    let mut served = vec![0; count];
    for byte in 0..bytes {
        assert_eq!(peer.write_some(&[byte]), 1);
        let mut turns = 0;
        let mut has_come = false;
        while !has_come {
            assert!(turns < turns_max, "byte {byte} of the quiet socket was not served within {turns} turns");
            flooding.iter_mut().for_each(|(_, peer)| {
                peer.write_some(&chunk);
            });
            rig.turns(1);
            turns += 1;
            for completion in rig.seen() {
                let Outcome::Received(bytes) = completion.outcome else { panic!("bytes were due: {completion:?}") };
                match completion.token {
                    QUIET => has_come = true,
                    token => served[token as usize] += bytes.len(),
                }
            }
        }
    }
    // Nor do the flooding ones starve each other.
    rig.until("each of the flooding sockets to be served", |rig| {
        flooding.iter_mut().for_each(|(_, peer)| {
            peer.write_some(&chunk);
        });
        for completion in rig.seen() {
            served[completion.token as usize] += 1;
        }
        served.iter().all(|bytes| *bytes > 0)
    });
}

/// Every socket may take its turn before the quiet one, with half of the buffers at a time.
pub fn a_quiet_socket_among_a_hundred_flooding_ones_is_served(setup: &Setup) {
    flood(setup, 100, (20, 24), |_| {});
}

pub fn a_quiet_socket_is_served_when_buffers_run_out(setup: &Setup) {
    flood(setup, 100, (20, 30), small_pool);
}

pub fn a_quiet_socket_among_a_thousand_flooding_ones_is_served(setup: &Setup) {
    flood(setup, 1000, (3, 72), |_| {});
}

pub fn an_idle_connection_holds_no_buffer(setup: &Setup) {
    let mut rig = Rig::with(setup, small_pool);
    let mut streams = streams(&mut rig, 50);
    rig.turns(3);
    assert_eq!(rig.driver.pool_state().lent, 0);
    for (place, (_, peer)) in streams.iter_mut().enumerate() {
        assert_eq!(peer.write_some(b"raon"), 4);
        assert_eq!(rig.wait_bytes(place as u64, 4), b"raon");
    }
    assert_eq!(rig.driver.pool_state().lent, 0);
}
