//! A receive stream at rest: nothing is delivered, nothing is lost.

//= PAUSE-1, PAUSE-2

use std::time::Duration;

use raon_provider::{ErrorKind, Outcome};

use crate::random::{assert_pattern, pattern};
use crate::rig::{Rig, refusal};
use crate::setup::Setup;
use crate::simulated;

pub fn nothing_comes_while_paused(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer();
    rig.receive(socket, 1);
    peer.write(&mut rig, &pattern(0, 100));
    assert_pattern(0, &rig.wait_bytes(1, 100));
    rig.driver.pause(socket).unwrap();
    assert_eq!(peer.write_some(&pattern(100, 50_000)), 50_000);
    rig.settle();
    rig.assert_nothing_seen();
    rig.driver.pause(socket).unwrap();
    rig.settle();
    rig.assert_nothing_seen();
    rig.driver.resume(socket).unwrap();
    assert_pattern(100, &rig.wait_bytes(1, 50_000));
    // A stream can also start at rest.
    let (socket, mut peer) = rig.peer();
    rig.driver.pause(socket).unwrap();
    rig.receive(socket, 2);
    assert_eq!(peer.write_some(b"raon"), 4);
    rig.settle();
    rig.assert_nothing_seen();
    rig.driver.resume(socket).unwrap();
    assert_eq!(rig.wait_bytes(2, 4), b"raon");
}

/// The kernel hands bytes out in the very turn in which the pause is handed over.
pub fn what_was_taken_is_held(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer();
    rig.receive(socket, 1);
    rig.turns(2);
    assert_eq!(peer.write_some(&pattern(0, 9000)), 9000);
    rig.driver.pause(socket).unwrap();
    rig.settle();
    rig.assert_nothing_seen();
    assert_eq!(peer.write_some(&pattern(9000, 1000)), 1000);
    rig.settle();
    rig.assert_nothing_seen();
    rig.driver.resume(socket).unwrap();
    assert_pattern(0, &rig.wait_bytes(1, 10_000));
}

/// A completion that `poll` has not delivered yet is no more delivered after a pause than one that has not come yet.
pub fn what_waits_for_delivery_is_held(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer();
    rig.receive(socket, 1);
    rig.turns(2);
    assert_eq!(peer.write_some(&pattern(0, 9000)), 9000);
    rig.flush();
    rig.flush();
    rig.driver.pause(socket).unwrap();
    rig.settle();
    rig.assert_nothing_seen();
    rig.driver.resume(socket).unwrap();
    assert_pattern(0, &rig.wait_bytes(1, 9000));

    rig.set_capacity(1);
    assert_eq!(peer.write_some(&pattern(0, 30_000)), 30_000);
    let mut received = match rig.wait(1).outcome {
        Outcome::Received(bytes) => bytes.len(),
        other => panic!("{other:?}"),
    };
    rig.driver.pause(socket).unwrap();
    rig.settle();
    rig.assert_nothing_seen();
    rig.driver.resume(socket).unwrap();
    let rest = rig.wait_bytes(1, 30_000 - received);
    assert_pattern(received, &rest);
    received += rest.len();
    assert_eq!(received, 30_000);
}

pub fn the_end_waits_for_resume(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer();
    rig.receive(socket, 1);
    rig.turns(2);
    assert_eq!(peer.write_some(&pattern(0, 3000)), 3000);
    peer.shut_write();
    rig.driver.pause(socket).unwrap();
    rig.settle();
    rig.assert_nothing_seen();
    rig.driver.resume(socket).unwrap();
    assert_pattern(0, &rig.wait_bytes(1, 3000));
    rig.wait_end(1);
}

pub fn a_reset_waits_for_resume(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, peer) = rig.peer();
    rig.receive(socket, 1);
    rig.turns(2);
    rig.provoke_reset(socket);
    rig.driver.pause(socket).unwrap();
    peer.reset();
    rig.settle();
    rig.assert_nothing_seen();
    rig.driver.resume(socket).unwrap();
    assert_eq!(rig.wait_failure(1).0, ErrorKind::ConnectionReset);
}

/// An end that has come and was not polled is the stream's completion like any other.
pub fn a_reset_that_waits_for_delivery_is_held(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, peer) = rig.peer();
    rig.receive(socket, 1);
    rig.turns(2);
    rig.provoke_reset(socket);
    peer.reset();
    rig.timer(Duration::from_millis(3), 2);
    while rig.driver.stats().pending > 0 {
        rig.flush();
    }
    rig.driver.pause(socket).unwrap();
    rig.wait(2);
    rig.turns(2);
    rig.assert_nothing_seen();
    rig.driver.resume(socket).unwrap();
    assert_eq!(rig.wait_failure(1).0, ErrorKind::ConnectionReset);
}

/// A stream is active until its last completion is delivered.
pub fn nothing_overtakes_the_end_of_a_paused_stream(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer();
    rig.receive(socket, 1);
    rig.turns(2);
    rig.driver.pause(socket).unwrap();
    peer.shut_write();
    rig.settle();
    for _ in 0..2 {
        assert_eq!(refusal(rig.driver.receive(socket, 2)), ErrorKind::ReceiveActive);
        assert_eq!(refusal(rig.driver.receive_into(socket, vec![0; 8], 2)), ErrorKind::ReceiveActive);
        // The second time it is on its way.
        rig.driver.resume(socket).unwrap();
    }
    rig.wait_end(1);
    rig.receive_into(socket, 8, 3);
    assert!(matches!(rig.wait(3).outcome, Outcome::ReceivedInto(room) if room.is_empty()));
}

pub fn cancelling_a_paused_stream_delivers_what_is_held(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer();
    let stream = rig.receive(socket, 1);
    rig.turns(2);
    assert_eq!(peer.write_some(&pattern(0, 3000)), 3000);
    rig.driver.pause(socket).unwrap();
    rig.settle();
    rig.cancel(stream);
    let mut received = 0;
    loop {
        let completion = rig.wait(1);
        match completion.outcome {
            Outcome::Received(bytes) => {
                assert_pattern(received, &bytes);
                received += bytes.len();
            }
            Outcome::Failed { error, .. } => {
                assert!(error.kind() == ErrorKind::Cancelled && !completion.more);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    // What had not been taken is still there for another receive.
    rig.driver.resume(socket).unwrap();
    rig.receive(socket, 2);
    assert_eq!(peer.write_some(&pattern(3000, 10)), 10);
    let rest = rig.wait_bytes(2, 3010 - received);
    assert_pattern(received, &rest);
}

pub fn closing_a_paused_socket_ends_it(setup: &Setup) {
    let mut rig = Rig::new(setup);
    for token in 0..6 {
        let (socket, mut peer) = rig.peer();
        rig.receive(socket, token);
        rig.turns(2);
        assert_eq!(peer.write_some(&pattern(0, 5000)), 5000);
        rig.turns((token % 3) as usize);
        rig.driver.pause(socket).unwrap();
        rig.turns((token % 2) as usize);
        if token < 3 {
            rig.close(socket, Duration::from_secs(5), 100);
            drop(peer);
        } else {
            rig.abort(socket, 100);
        }
        let end = rig.wait_for("the stream's end", |each| each.token == token && !each.more);
        assert_eq!(end.outcome.error().map(|error| error.kind()), Some(ErrorKind::Cancelled), "{end:?}");
        rig.wait_closed(100);
        rig.seen().for_each(drop);
    }
}

/// What a close discards was not delivered: the end of its stream does not say that all was.
pub fn a_closed_stream_claims_nothing_that_was_held(setup: &Setup) {
    for way in 0..3 {
        let mut rig = Rig::new(setup);
        let (socket, mut peer) = rig.peer();
        assert_eq!(peer.write_some(&pattern(0, 3000)), 3000);
        peer.shut_write();
        rig.settle();
        rig.receive(socket, 1);
        for _ in 0..4 {
            simulated::pass_time();
            rig.flush();
        }
        rig.driver.pause(socket).unwrap();
        match way {
            0 => rig.abort(socket, 2),
            1 => rig.close(socket, Duration::from_secs(5), 2),
            _ => rig.shut_down(),
        }
        let mut received = 0;
        loop {
            match rig.next_completion().outcome {
                Outcome::Received(bytes) if bytes.is_empty() => assert_eq!(received, 3000, "the end comes after all"),
                Outcome::Received(bytes) => received += bytes.len(),
                Outcome::Failed { error, .. } => assert_eq!(error.kind(), ErrorKind::Cancelled),
                Outcome::Closed => break,
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Pause and resume at every moment, while bytes come without a break.
pub fn a_stream_paused_a_hundred_times_loses_nothing(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer();
    rig.receive(socket, 1);
    let (mut sent, mut received, mut is_paused) = (0, 0, false);
    for round in 0..200 {
        sent += peer.write_some(&pattern(sent, 1 + round * 131 % 7001));
        if round % 2 == 0 {
            rig.driver.pause(socket).unwrap();
        } else {
            rig.driver.resume(socket).unwrap();
        }
        is_paused = !is_paused;
        rig.turns(round % 4);
        let seen: Vec<_> = rig.seen().collect();
        assert!(!is_paused || seen.is_empty(), "delivered while paused: {seen:?}");
        for completion in seen {
            let Outcome::Received(bytes) = completion.outcome else { panic!("{completion:?}") };
            assert_pattern(received, &bytes);
            received += bytes.len();
        }
    }
    rig.driver.resume(socket).unwrap();
    assert_pattern(received, &rig.wait_bytes(1, sent - received));
}

/// More streams stand still than there are buffers, each with bytes on their way: none of them keeps a buffer, none loses a
/// byte, and others are served.
pub fn streams_without_intake_keep_no_buffer(setup: &Setup) {
    let mut rig = Rig::with(setup, |config| {
        config.pool.receive_count = 8;
        config.pool.send_count = 8;
        config.pool.bulk_count = 1;
    });
    let mut streams: Vec<_> = (0..20).map(|_| rig.peer()).collect();
    for (place, (socket, peer)) in streams.iter_mut().enumerate() {
        rig.receive(*socket, place as u64);
        rig.turns(2);
        assert_eq!(peer.write_some(&pattern(0, 6000)), 6000);
        if place % 2 == 1 {
            // It is taken, and not polled yet.
            simulated::pass_time();
            rig.flush();
            rig.flush();
        }
        rig.driver.pause_intake(*socket).unwrap();
    }
    rig.settle();
    let mut received = [0; 20];
    take_parts(&mut rig, &mut received);
    let pool = rig.driver.pool_state();
    assert_eq!(pool.lent, 0, "{pool:?}");
    let (other, mut peer) = rig.peer();
    rig.receive(other, 100);
    assert_eq!(peer.write_some(&pattern(0, 20_000)), 20_000);
    assert_pattern(0, &rig.wait_bytes(100, 20_000));
    // The kernel keeps the rest for as long as nobody asks for it.
    assert!(received.iter().all(|received| *received <= 6000));
    for (socket, peer) in &mut streams {
        assert_eq!(peer.write_some(&pattern(6000, 50_000)), 50_000);
        rig.driver.pause_intake(*socket).unwrap();
    }
    rig.settle();
    take_parts(&mut rig, &mut received);
    assert!(received.iter().all(|received| *received < 56_000), "{received:?}");
    for (socket, _) in &streams {
        rig.driver.resume(*socket).unwrap();
    }
    rig.until("all bytes", |rig| {
        take_parts(rig, &mut received);
        received.iter().all(|received| *received == 56_000)
    });
}

fn take_parts(rig: &mut Rig, received: &mut [usize]) {
    for completion in rig.seen() {
        let Outcome::Received(bytes) = completion.outcome else { panic!("bytes were due: {completion:?}") };
        let received = &mut received[completion.token as usize];
        assert_pattern(*received, &bytes);
        *received += bytes.len();
    }
}

/// One kind of pause follows the other: what was held comes, in order, and what comes is held again.
pub fn either_pause_takes_the_place_of_the_other(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer();
    rig.receive(socket, 1);
    rig.turns(2);
    assert_eq!(peer.write_some(&pattern(0, 9000)), 9000);
    rig.driver.pause(socket).unwrap();
    rig.settle();
    rig.assert_nothing_seen();
    rig.driver.pause_intake(socket).unwrap();
    rig.turns(2);
    let mut received = 0;
    for completion in rig.seen().collect::<Vec<_>>() {
        let Outcome::Received(bytes) = completion.outcome else { panic!("{completion:?}") };
        assert_pattern(received, &bytes);
        received += bytes.len();
    }
    let pool = rig.driver.pool_state();
    assert_eq!(pool.lent, 0, "{pool:?}");
    rig.driver.pause(socket).unwrap();
    peer.shut_write();
    rig.settle();
    rig.assert_nothing_seen();
    rig.driver.resume(socket).unwrap();
    assert_pattern(received, &rig.wait_bytes(1, 9000 - received));
    rig.wait_end(1);
}
