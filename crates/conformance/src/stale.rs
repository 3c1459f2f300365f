//! Ids that are no longer, never were, or are somebody else's.

//= STALE-1

use std::time::Duration;

use raon_provider::{CloseMode, Driver, ErrorKind, OperationId, SocketId};

use crate::random::Random;
use crate::rig::{Rig, refusal};
use crate::setup::Setup;

/// Every call that takes a socket's id refuses this one.
fn assert_refused(driver: &mut Driver, id: SocketId) {
    assert_eq!(refusal(driver.send(id, vec![1], 99)), ErrorKind::Stale, "{id:?}");
    assert_eq!(refusal(driver.send_quiet(id, vec![1], 99)), ErrorKind::Stale, "{id:?}");
    assert_eq!(refusal(driver.receive(id, 99)), ErrorKind::Stale, "{id:?}");
    assert_eq!(refusal(driver.receive_into(id, vec![1], 99)), ErrorKind::Stale, "{id:?}");
    assert_eq!(refusal(driver.accept(id, 99)), ErrorKind::Stale, "{id:?}");
    assert_eq!(refusal(driver.shutdown_write(id, 99)), ErrorKind::Stale, "{id:?}");
    assert_eq!(refusal(driver.pause(id)), ErrorKind::Stale, "{id:?}");
    assert_eq!(refusal(driver.resume(id)), ErrorKind::Stale, "{id:?}");
    assert_eq!(refusal(driver.local_address(id)), ErrorKind::Stale, "{id:?}");
    assert_eq!(refusal(driver.peer_address(id)), ErrorKind::Stale, "{id:?}");
    assert_eq!(refusal(driver.close(id, CloseMode::Abort, 99)), ErrorKind::Stale, "{id:?}");
}

/// The pair works: what goes in at one end comes out at the other, and nothing else comes.
fn assert_untouched(rig: &mut Rig, near: SocketId, far: SocketId) {
    rig.turns(2);
    rig.assert_nothing_seen();
    rig.receive_into(far, 10, 1);
    rig.send(near, b"raon".as_slice(), 2);
    rig.wait(1);
    rig.wait(2);
    rig.assert_nothing_seen();
}

pub fn ids_of_closed_sockets_are_refused(setup: &Setup) {
    let mut rig = Rig::with(setup, |config| config.sockets_max = 2);
    let mut old = Vec::new();
    for round in 0..20 {
        let (near, far) = rig.pair();
        old.extend([near, far]);
        rig.abort(near, round);
        rig.abort(far, round);
        rig.wait_closed(round);
        rig.wait_closed(round);
    }
    let (near, far) = rig.pair();
    assert!(!old.contains(&near) && !old.contains(&far));
    for id in old {
        assert_refused(&mut rig.driver, id);
    }
    assert_untouched(&mut rig, near, far);
}

pub fn ids_of_another_driver_are_refused(setup: &Setup) {
    let (mut first, mut second) = (Rig::new(setup), Rig::new(setup));
    let (near, far) = first.pair();
    let (other_near, other_far) = second.pair();
    let timer = first.timer(Duration::from_secs(60), 5);
    let other_timer = second.timer(Duration::from_secs(60), 5);
    assert_refused(&mut first.driver, other_near);
    assert_refused(&mut second.driver, far);
    assert_eq!(refusal(first.driver.cancel(other_timer)), ErrorKind::Stale);
    assert_eq!(refusal(second.driver.cancel(timer)), ErrorKind::Stale);
    assert_untouched(&mut first, near, far);
    assert_untouched(&mut second, other_near, other_far);
    // Nor those of a driver that is gone.
    drop(second);
    let mut third = Rig::new(setup);
    let (near, far) = third.pair();
    assert_refused(&mut third.driver, other_near);
    assert_eq!(refusal(third.driver.cancel(other_timer)), ErrorKind::Stale);
    assert_untouched(&mut third, near, far);
}

pub fn forged_ids_are_refused(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (near, far) = rig.pair();
    let timer = rig.timer(Duration::from_secs(60), 5);
    let mut random = Random::new(3);
    for _ in 0..300 {
        let bits = random.bits();
        assert_refused(&mut rig.driver, SocketId::from_bits(bits));
        assert_eq!(refusal(rig.driver.cancel(OperationId::from_bits(bits))), ErrorKind::Stale);
    }
    for bit in 0..64 {
        let forged = SocketId::from_bits(near.to_bits() ^ 1 << bit);
        if forged != far {
            assert_refused(&mut rig.driver, forged);
        }
        let forged = OperationId::from_bits(timer.to_bits() ^ 1 << bit);
        assert_eq!(refusal(rig.driver.cancel(forged)), ErrorKind::Stale, "{forged:?}");
    }
    for bits in [0, 1, u64::MAX, u64::MAX >> 1, 1 << 63, 1 << 52, (1 << 52) - 1] {
        assert_refused(&mut rig.driver, SocketId::from_bits(bits));
        assert_eq!(refusal(rig.driver.cancel(OperationId::from_bits(bits))), ErrorKind::Stale);
    }
    assert_untouched(&mut rig, near, far);
}

pub fn ids_of_ended_operations_are_refused(setup: &Setup) {
    let mut rig = Rig::with(setup, |config| config.operations_max = 4);
    let (near, far) = rig.pair();
    let mut old = Vec::new();
    for _ in 0..20 {
        old.push(rig.receive_into(far, 10, 1));
        old.push(rig.send(near, b"raon".as_slice(), 2));
        old.push(rig.timer(Duration::ZERO, 3));
        (1..=3).for_each(|token| drop(rig.wait(token)));
    }
    let timer = rig.timer(Duration::from_secs(60), 4);
    assert!(!old.contains(&timer));
    for operation in old {
        assert_eq!(refusal(rig.driver.cancel(operation)), ErrorKind::Stale);
    }
    assert_untouched(&mut rig, near, far);
}

/// A graceful close goes on reading in the stream's place; the stream itself has ended and its id with it.
pub fn a_receive_ended_by_a_close_is_stale(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, peer) = rig.peer();
    let stream = rig.receive(socket, 1);
    rig.turns(2);
    rig.close(socket, Duration::from_secs(30), 2);
    assert_eq!(rig.wait_failure(1).0, ErrorKind::Cancelled);
    assert_eq!(refusal(rig.driver.cancel(stream)), ErrorKind::Stale);
    drop(peer);
    rig.wait_closed(2);
}
