//! The end of a socket, in grace and at once.

//= CLOSE-1, CLOSE-2

use std::io::ErrorKind as IoErrorKind;
use std::time::Duration;

use raon_provider::{CloseMode, ErrorKind, Outcome, Payload};

use crate::peer::Peer;
use crate::platform;
use crate::random::{assert_pattern, pattern};
use crate::rig::{Rig, refusal};
use crate::setup::Setup;
use crate::simulated::{Moment, idle};

const LONG: Duration = Duration::from_secs(30);

pub fn a_goodbye_arrives_although_input_is_unread(setup: &Setup) {
    let mut rig = Rig::new(setup);
    for round in 0..6 {
        let (socket, mut peer) = rig.peer();
        peer.write(&mut rig, &pattern(0, 20_000));
        match round % 3 {
            0 => {}
            1 => drop(rig.receive(socket, 1)),
            _ => drop(rig.receive_into(socket, 100, 1)),
        }
        rig.turns(round % 2);
        rig.send(socket, b"goodbye".as_slice(), 2);
        rig.close(socket, LONG, 3);
        assert_eq!(peer.read_to_end(&mut rig), b"goodbye", "not a reset, although 20,000 bytes were never looked at");
        drop(peer);
        assert!(matches!(rig.wait(2).outcome, Outcome::Sent(_)));
        rig.wait_closed(3);
        rig.seen().for_each(drop);
    }
}

pub fn a_graceful_close_ends_at_its_deadline(setup: &Setup) {
    let mut rig = Rig::new(setup);
    // This peer never reads, so its sends never end; that one never ends its side.
    let (deaf, mut deaf_peer) = rig.peer_with_buffers(8192, 8192);
    let (idle, mut idle_peer) = rig.peer();
    rig.send(deaf, pattern(0, 1 << 20), 1);
    rig.receive(idle, 2);
    rig.settle();
    let start = Moment::now();
    rig.close(deaf, Duration::from_millis(120), 3);
    rig.close(idle, Duration::from_millis(60), 4);
    // Before the deadline passes and the reset takes the place of what was not read.
    assert_eq!(idle_peer.read_until_broken(&mut rig), None, "the orderly end of this side");
    rig.wait_closed(4);
    assert!(start.elapsed() >= Duration::from_millis(60));
    let (kind, payload, transferred) = rig.wait_failure(1);
    assert_eq!((kind, payload.unwrap().len()), (ErrorKind::Cancelled, 1 << 20));
    assert!(transferred > 0, "some of it went out");
    rig.wait_closed(3);
    let elapsed = start.elapsed();
    assert!((Duration::from_millis(120)..Duration::from_secs(5)).contains(&elapsed), "{elapsed:?}");
    assert_broken(setup, deaf_peer.read_until_broken(&mut rig), end_of_abort(setup));
}

pub fn a_graceful_close_waits_for_the_peer(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer_with_buffers(8192, 8192);
    for place in 0..10 {
        rig.send(socket, pattern(place * 10_000, 10_000), place as u64);
    }
    rig.close(socket, LONG, 10);
    let bytes = peer.read_to_end(&mut rig);
    assert_eq!(bytes.len(), 100_000);
    assert_pattern(0, &bytes);
    // Its input is discarded, however much it is, and no reset hits it.
    peer.write(&mut rig, &pattern(0, 2 << 20));
    rig.settle();
    assert!(rig.driver.stats().sockets == 1, "the peer has not ended");
    peer.shut_write();
    rig.wait_closed(10);
    assert_eq!(rig.seen().filter(|each| matches!(each.outcome, Outcome::Sent(_))).count(), 10);
    assert_eq!(peer.read_some(&mut [0; 8]).unwrap(), Some(0), "an orderly end");
}

/// The process stands still past the deadline, in which the last bytes and the end of more peers arrive than one turn can
/// read.
//= TIME-2
pub fn a_deadline_waits_for_what_has_arrived(setup: &Setup) {
    let deadline = Duration::from_millis(50);
    let mut rig = Rig::new(setup);
    let mut closing: Vec<_> = (0..200).map(|_| rig.peer()).collect();
    for (place, (socket, _)) in closing.iter().enumerate() {
        rig.close(*socket, deadline, place as u64);
    }
    rig.turns(2);
    for (_, peer) in &mut closing {
        assert_eq!(peer.write_some(&pattern(0, 4000)), 4000);
        peer.shut_write();
    }
    idle(2 * deadline);
    for (place, (_, mut peer)) in closing.into_iter().enumerate() {
        rig.wait_closed(place as u64);
        assert_eq!(peer.read_until_broken(&mut rig), None, "connection {place} was reset");
    }
}

//= TIME-2
pub fn unread_input_is_known(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer();
    let has_unread = |rig: &Rig| rig.driver.has_unread(socket).unwrap();
    rig.receive(socket, 1);
    rig.settle();
    assert!(!has_unread(&rig));
    assert_eq!(peer.write_some(b"raon"), 4);
    rig.until("the bytes to arrive", |rig| has_unread(rig) || rig.driver.stats().received_bytes == 4);
    assert_eq!(rig.wait_bytes(1, 4), b"raon");
    assert!(!has_unread(&rig));
    rig.driver.pause(socket).unwrap();
    assert_eq!(peer.write_some(b"held"), 4);
    rig.settle();
    assert!(has_unread(&rig), "held here, or not taken from the system");
    rig.driver.resume(socket).unwrap();
    assert_eq!(rig.wait_bytes(1, 4), b"held");
    peer.shut_write();
    rig.wait_end(1);
    assert!(!has_unread(&rig), "nothing comes after the end");
    rig.abort(socket, 2);
    assert_eq!(refusal(rig.driver.has_unread(socket)), ErrorKind::Stale);
    rig.wait_closed(2);
}

pub fn an_abort_is_a_reset(setup: &Setup) {
    let mut rig = Rig::new(setup);
    for round in 0..3 {
        let (socket, mut peer) = rig.peer();
        rig.receive(socket, 1);
        rig.turns(round);
        rig.abort(socket, 2);
        rig.wait_closed(2);
        assert_broken(setup, peer.read_until_broken(&mut rig), end_of_abort(setup));
        // What the peer has sent and nobody has read is lost with the connection, and on every kind of socket it is told.
        let (socket, mut peer) = rig.peer();
        peer.write(&mut rig, b"never read");
        rig.abort(socket, 2);
        rig.wait_closed(2);
        assert_broken(setup, peer.read_until_broken(&mut rig), Some(IoErrorKind::ConnectionReset));
    }
}

/// What a peer sees of an abort, or the end that some systems put in front of a reset.
fn assert_broken(setup: &Setup, seen: Option<IoErrorKind>, expected: Option<IoErrorKind>) {
    let is_early_end = seen.is_none() && platform::ENDS_BEFORE_A_RESET && !setup.is_simulated();
    assert!(seen == expected || is_early_end, "{seen:?} in place of {expected:?}");
}

/// How a peer of which everything was read sees an abort. A Unix socket has no reset of its own: linger means nothing there.
fn end_of_abort(setup: &Setup) -> Option<IoErrorKind> {
    (!setup.is_unix).then_some(IoErrorKind::ConnectionReset)
}

pub fn the_id_is_stale_at_once(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, peer) = rig.peer();
    rig.close(socket, LONG, 1);
    let driver = &mut rig.driver;
    assert_eq!(refusal(driver.send(socket, vec![1], 2)), ErrorKind::Stale);
    assert_eq!(refusal(driver.send_quiet(socket, vec![1], 2)), ErrorKind::Stale);
    assert_eq!(refusal(driver.receive(socket, 2)), ErrorKind::Stale);
    assert_eq!(refusal(driver.receive_into(socket, vec![1], 2)), ErrorKind::Stale);
    assert_eq!(refusal(driver.shutdown_write(socket, 2)), ErrorKind::Stale);
    assert_eq!(refusal(driver.pause(socket)), ErrorKind::Stale);
    assert_eq!(refusal(driver.resume(socket)), ErrorKind::Stale);
    assert_eq!(refusal(driver.local_address(socket)), ErrorKind::Stale);
    assert_eq!(refusal(driver.peer_address(socket)), ErrorKind::Stale);
    assert_eq!(refusal(driver.close(socket, CloseMode::Abort, 2)), ErrorKind::Stale);
    drop(peer);
    rig.wait_closed(1);
    assert_eq!(refusal(rig.driver.close(socket, CloseMode::Abort, 2)), ErrorKind::Stale);
}

pub fn what_is_pending_ends_before_closed(setup: &Setup) {
    let mut rig = Rig::with(setup, |config| config.send_queue_bytes_max = 4 << 20);
    for is_stream in [true, false] {
        let (socket, _peer) = rig.peer_with_buffers(8192, 8192);
        rig.send(socket, pattern(0, 1 << 20), 0);
        rig.send(socket, pattern(0, 100), 1);
        rig.shutdown_write(socket, 2);
        rig.settle();
        if is_stream {
            rig.receive(socket, 3);
        } else {
            rig.receive_into(socket, 10, 3);
            rig.receive_into(socket, 10, 3);
        }
        rig.abort(socket, 9);
        let mut tokens = Vec::new();
        while tokens.last() != Some(&9) {
            let completion = rig.next_completion();
            tokens.push(completion.token);
            if completion.token != 9 {
                assert_eq!(completion.outcome.error().unwrap().kind(), ErrorKind::Cancelled, "{completion:?}");
            }
        }
        let sends: Vec<_> = tokens.iter().filter(|token| **token < 3).collect();
        assert_eq!(sends, [&0, &1, &2], "in order");
        assert_eq!(tokens.len(), if is_stream { 5 } else { 6 }, "{tokens:?}");
    }
    rig.settle();
    rig.assert_nothing_seen();
}

/// Slots are used again at once; the ledger fails if anything of the past names the new tenant.
pub fn a_slot_used_again_hears_nothing_of_its_past(setup: &Setup) {
    let mut rig = Rig::with(setup, |config| config.sockets_max = 2);
    for round in 0..100 {
        let (socket, mut peer) = rig.peer_with_buffers(8192, 8192);
        rig.send(socket, pattern(0, 300_000), round);
        rig.receive(socket, round);
        rig.turns((round % 4) as usize);
        peer.write_some(&[0xDD; 50]);
        if round % 2 == 0 {
            rig.abort(socket, round);
        } else {
            rig.close(socket, Duration::ZERO, round);
        }
        rig.wait_closed(round);
        // The new tenant of the slot gets its own bytes and no other completion.
        let (next, mut next_peer) = rig.peer();
        rig.receive(next, 1000);
        next_peer.write(&mut rig, b"mine");
        assert_eq!(rig.wait_bytes(1000, 4), b"mine");
        let late = rig.seen().find(|each| each.socket == next);
        assert!(late.is_none(), "{late:?}");
        rig.abort(next, 1001);
        rig.wait_closed(1001);
        rig.seen().for_each(drop);
    }
}

pub fn a_listener_closes_with_its_accept(setup: &Setup) {
    let mut rig = Rig::new(setup);
    for graceful in [true, false] {
        let vacant = rig.unlisten(|rig, listener, address| {
            rig.accept(listener, 1);
            let _peer = Peer::connect(address);
            let accepted = rig.wait(1);
            assert!(matches!(accepted.outcome, Outcome::Accepted(_)) && accepted.more);
            if graceful {
                rig.close(listener, LONG, 2);
            } else {
                rig.abort(listener, 2);
            }
            assert_eq!(rig.wait_failure(1).0, ErrorKind::Cancelled);
            rig.wait_closed(2);
        });
        assert!(Peer::try_connect(vacant.address()).is_err(), "nobody listens any more");
    }
}

/// close(2) alone would leave the connection open as long as the kernel holds a receive for it.
pub fn a_close_with_a_pending_receive_reaches_the_peer(setup: &Setup) {
    let mut rig = Rig::new(setup);
    for round in 0..4 {
        let (socket, mut peer) = rig.peer();
        if round < 2 {
            rig.receive(socket, 1);
        } else {
            rig.receive_into(socket, 10, 1);
        }
        rig.turns(3);
        rig.close(socket, LONG, 2);
        assert_eq!(peer.read_until_broken(&mut rig), None, "the peer sees the end at once");
        if round % 2 == 0 {
            peer.shut_write();
        } else {
            peer.reset();
        }
        rig.wait_closed(2);
    }
}

pub fn a_connection_that_was_reset_still_closes(setup: &Setup) {
    let mut rig = Rig::new(setup);
    for round in 0..6 {
        let (socket, peer) = rig.peer_with_buffers(8192, 8192);
        rig.send(socket, pattern(0, 300_000), 1);
        if round % 2 == 0 {
            rig.receive(socket, 2);
        }
        rig.settle();
        peer.reset();
        if round < 3 {
            rig.settle();
        }
        rig.close(socket, LONG, 3);
        rig.wait_closed(3);
        let (_, payload, _) = rig.wait_failure(1);
        assert_eq!(payload.as_ref().map(Payload::len), Some(300_000));
        rig.seen().for_each(drop);
    }
}
