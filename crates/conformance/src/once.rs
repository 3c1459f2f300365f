//! Exactly one end per operation, and completions out of `poll` alone. The rig's ledger checks the first in every test;
//! these are those that make it hard.

//= ONCE-1, TURN-1

use std::time::Duration;

use raon_provider::{Completions, Driver, ErrorKind, FaultRates, Faults, Outcome};

use crate::random::{Random, assert_pattern, pattern};
use crate::rig::{ANY, Rig, refusal};
use crate::setup::Setup;

pub fn nothing_completes_or_moves_inside_submit(setup: &Setup) {
    let mut driver = setup.open();
    let mut completions = Completions::with_capacity(64);
    let (near, mut peer) = crate::peer::connection(setup, 0, 0);
    let socket = driver.adopt(near).unwrap();
    driver.send(socket, b"raon".as_slice(), 1).unwrap();
    driver.timer(Duration::ZERO, 2).unwrap();
    assert_eq!((driver.stats().completions, driver.stats().turns), (0, 0));
    assert_eq!(peer.read_some(&mut [0; 8]).unwrap(), None, "nothing is on the wire before flush or poll");
    driver.flush().unwrap();
    driver.flush().unwrap();
    assert_eq!(peer.read_some(&mut [0; 8]).unwrap(), Some(4), "flush hands over");
    assert!(completions.is_empty(), "and delivers nothing");
    let mut tokens = Vec::new();
    while tokens.len() < 2 {
        driver.poll(None, &mut completions).unwrap();
        tokens.extend(completions.drain().map(|completion| completion.token));
    }
    tokens.sort_unstable();
    assert_eq!(tokens, [1, 2]);
}

/// Nine turns of ten fail. What has ended in one is delivered all the same, and the error comes with the next call.
pub fn a_failed_turn_delivers_what_has_ended_first(setup: &Setup) {
    const ROUNDS: u64 = 200;
    let faults = Faults::new(1, FaultRates::default().with(|rates| rates.turn_fails = 900));
    let config = setup.config().with(|config| config.faults = Some(faults));
    let mut driver = Driver::open(&config).unwrap();
    let mut completions = Completions::with_capacity(64);
    let mut told = 0;
    for token in 0..ROUNDS {
        driver.timer(Duration::ZERO, token).unwrap();
        assert_eq!(driver.poll(Some(Duration::ZERO), &mut completions).unwrap(), 1, "the timer is due");
        assert_eq!(completions.drain().next().map(|completion| completion.token), Some(token));
        let turns = driver.stats().turns;
        match driver.poll(Some(Duration::ZERO), &mut completions) {
            // Of the turn before, or of one of its own.
            Err(error) => assert_eq!(error.kind(), ErrorKind::OutOfMemory),
            Ok(count) => assert_eq!(count, 0),
        }
        told += u64::from(driver.stats().turns == turns);
    }
    assert!((ROUNDS * 8 / 10..ROUNDS).contains(&told), "{told} errors of {ROUNDS} turns were told by the next call");
}

/// Sends, quiet sends, receives, timers and cancels at random; the ledger judges, and the bytes.
pub fn a_mixed_load_completes_each_operation_once(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let mut random = Random::new(7);
    let pairs: Vec<_> = (0..8).map(|_| rig.pair()).collect();
    let (mut sent, mut received) = ([0; 8], [0; 8]);
    let mut operations = Vec::new();
    for step in 0..3000 {
        let place = random.below(8);
        let (near, far) = pairs[place];
        match random.below(6) {
            0 | 1 => {
                let length = 1 + random.below(900);
                let payload = pattern(sent[place], length);
                let quiet = random.below(2) == 0;
                let accepted =
                    if quiet { rig.try_send_quiet(near, payload, ANY) } else { rig.try_send(near, payload, ANY) };
                sent[place] += if accepted.is_ok() { length } else { 0 };
            }
            2 | 3 => operations.push(rig.receive_into(far, 1 + random.below(2000), place as u64)),
            4 => operations.push(rig.timer(Duration::from_micros(random.below(500) as u64), ANY)),
            // An operation that has ended is stale, which is one of its true answers.
            _ if operations.is_empty() => {}
            _ => drop(rig.driver.cancel(operations.swap_remove(random.below(operations.len())))),
        }
        if step % 7 == 0 {
            rig.poll(Some(Duration::ZERO));
        }
        take_received(&mut rig, &mut received);
    }
    rig.until("all bytes to arrive", |rig| {
        take_received(rig, &mut received);
        for place in (0..8).filter(|place| received[*place] < sent[*place]) {
            rig.receive_into(pairs[place].1, 4096, place as u64);
        }
        received == sent
    });
}

fn take_received(rig: &mut Rig, received: &mut [usize; 8]) {
    let seen: Vec<_> = rig.seen().collect();
    for completion in seen {
        if let Outcome::ReceivedInto(room) = completion.outcome {
            let place = completion.token as usize;
            let bytes = raon_provider::Payload::from(room).to_vec();
            assert_pattern(received[place], &bytes);
            received[place] += bytes.len();
        }
    }
}

pub fn quiet_sends_complete_only_if_they_fail(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer();
    for round in 0..100 {
        rig.send_quiet(socket, pattern(round * 10, 10), 1);
        rig.turns(round % 3);
    }
    assert_pattern(0, &peer.read(&mut rig, 1000));
    rig.settle();
    rig.assert_nothing_seen();
    rig.until("quiet sends to be forgotten", |rig| rig.driver.stats().pending == 0);
    peer.reset();
    rig.settle();
    rig.send_quiet(socket, vec![3; 30], 2);
    let (kind, payload, transferred) = rig.wait_failure(2);
    assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{kind:?}");
    assert_eq!((payload.unwrap().to_vec(), transferred), (vec![3; 30], 0));
}

pub fn one_poll_delivers_no_more_than_there_is_room_for(setup: &Setup) {
    let mut rig = Rig::new(setup);
    rig.set_capacity(3);
    for token in 0..10 {
        rig.timer(Duration::ZERO, token);
    }
    let mut counts = Vec::new();
    while counts.iter().sum::<usize>() < 10 {
        counts.push(rig.poll(None));
    }
    assert!(counts.iter().all(|count| (1..=3).contains(count)), "{counts:?}");
    let mut tokens: Vec<_> = rig.seen().map(|completion| completion.token).collect();
    tokens.sort_unstable();
    assert_eq!(tokens, (0..10).collect::<Vec<_>>());
}

/// More requests than a ring's queue holds: what ends while the first of them are handed over must end the wait as well.
pub fn what_ends_while_the_queue_is_full_ends_the_wait(setup: &Setup) {
    let mut rig = Rig::with(setup, |config| config.uring.submission_entries = 8);
    let mut peers: Vec<_> = (0..40).map(|_| rig.peer()).collect();
    rig.turns(1);
    for (place, (socket, peer)) in peers.iter_mut().enumerate() {
        if place < 20 {
            assert_eq!(peer.write_some(b"raon"), 4);
        }
        rig.receive_into(*socket, 4, place as u64);
    }
    let start = std::time::Instant::now();
    let mut received = 0;
    while received < 20 {
        received += rig.poll(Some(crate::rig::PATIENCE));
    }
    assert!(start.elapsed() < crate::rig::PATIENCE / 2, "it slept although bytes were there");
}

/// More requests, and more completions, in one turn than the queues of a ring have room for.
pub fn a_turn_larger_than_the_queues(setup: &Setup) {
    let mut rig = Rig::with(setup, |config| {
        config.uring.submission_entries = 8;
        config.sockets_max = 200;
        config.pool.receive_count = 32;
        config.pool.send_count = 32;
        config.pool.bulk_count = 1;
    });
    let mut peers: Vec<_> = (0..200).map(|_| rig.peer()).collect();
    for round in 0..3 {
        for (socket, _) in &peers {
            rig.send(*socket, pattern(0, 50), 1);
            let idle = rig.receive_into(*socket, 10, 2);
            rig.cancel(idle);
            rig.receive_into(*socket, 10, 3);
        }
        rig.turns(1);
        for (_, peer) in &mut peers {
            assert_eq!(peer.write_some(&[round; 10]), 10);
        }
        let mut received = 0;
        rig.until("all to end", |rig| {
            received += rig.seen().filter(|each| matches!(each.outcome, Outcome::ReceivedInto(_))).count();
            rig.driver.stats().pending == 0
        });
        received += rig.seen().filter(|each| matches!(each.outcome, Outcome::ReceivedInto(_))).count();
        assert!(received >= 200, "{received}");
        for (_, peer) in &mut peers {
            assert_pattern(0, &peer.read(&mut rig, 50));
        }
    }
    assert_eq!(refusal(rig.driver.adopt(crate::peer::connection(setup, 0, 0).0)), ErrorKind::Busy);
}
