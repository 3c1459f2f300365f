//! Sizes, counts and times at the ends of their types: each works, is clamped as it is documented, or is refused by name.

//= LIMIT-1

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raon_provider::{ErrorKind, Outcome, Payload};

use crate::platform::Thread;
use crate::rig::{ANY, Rig, refusal};
use crate::setup::Setup;

/// Whether a test runs on this set-up that takes seconds and is about what is decided above the back ends: one of each is
/// enough.
pub(crate) fn is_first_of_its_kind(setup: &Setup) -> bool {
    ["epoll", "io_uring_defer", "kqueue", "iocp", "rio", "sim"].contains(&setup.name)
}

/// 2⁶⁴ nanoseconds and five milliseconds: the latter is what 64 bits leave of it.
const WRAPPED: Duration = Duration::new(18_446_744_073, 714_551_616);
/// More nanoseconds than a signed count has.
const CENTURIES: Duration = Duration::from_secs(300 * 365 * 24 * 3600);

//= TIME-1, CLOSE-2, DROP-1
pub fn what_is_far_ahead_does_not_come_early(setup: &Setup) {
    let mut rig = Rig::with(setup, |config| config.drain_deadline = Duration::MAX);
    let (socket, mut peer) = rig.peer();
    let far = [WRAPPED, CENTURIES, Duration::MAX].map(|after| rig.timer(after, ANY));
    rig.close(socket, WRAPPED, 1);
    rig.timer(Duration::from_millis(25), 2);
    assert_eq!(rig.poll(Some(WRAPPED)), 1, "the wait was over before the timer");
    assert!(matches!(rig.wait(2).outcome, Outcome::Expired));
    rig.assert_nothing_seen();
    assert!(peer.read_to_end(&mut rig).is_empty(), "the close is graceful as long as its deadline is ahead");
    peer.shut_write();
    rig.wait_closed(1);
    for timer in far {
        rig.cancel(timer);
        assert_eq!(rig.wait_failure(ANY).0, ErrorKind::Cancelled);
    }
    // The drop of the rig has until the end of all days.
    let (open, _far) = rig.peer();
    rig.receive(open, ANY);
}

/// A wait that no kernel counts to its end is no reason to look again and again.
//= TIME-1, WAKE-1
pub fn a_wait_for_centuries_sleeps(setup: &Setup) {
    for wait in [CENTURIES, WRAPPED, Duration::MAX] {
        let mut rig = Rig::new(setup);
        if setup.is_simulated() {
            assert_eq!(rig.poll(Some(wait)), 0, "all that time passes at once");
            continue;
        }
        let (submitter, owner) = (rig.driver.submitter(), Thread::current());
        let waker = thread::spawn(move || {
            owner.await_sleep();
            submitter.wake();
        });
        let before = rig.driver.stats().turns;
        assert_eq!(rig.poll(Some(wait)), 0);
        let turns = rig.driver.stats().turns - before;
        assert!(setup.faults.is_some() || turns < 10, "{turns} turns for one wait of {wait:?}");
        waker.join().unwrap();
    }
}

const MANY: usize = 66_000;

/// Those of one socket that are under way at once, more than 16 bits count.
//= CLOSE-1, ONCE-1
pub fn sixty_six_thousand_sends_of_one_socket(setup: &Setup) {
    if !is_first_of_its_kind(setup) {
        return;
    }
    let mut rig = Rig::with(setup, |config| {
        (config.send_queue_bytes_max, config.send_queue_count_max) = (u32::MAX, u32::MAX);
        config.operations_max = 2 * MANY as u32;
    });
    let (near, _) = rig.bind(&Default::default());
    let (_far, address) = rig.bind(&Default::default());
    for token in 0..MANY {
        rig.send_to(near, address, vec![1; 8], token as u64);
    }
    rig.close(near, Duration::from_secs(20), ANY);
    rig.wait_closed(ANY);
    assert_eq!(rig.seen().filter(|each| matches!(each.outcome, Outcome::Sent(_))).count(), MANY);
    // The same number in a queue of which the head is in the kernel: the last ones are only queued.
    let (socket, _peer) = rig.peer();
    let sends: Vec<_> = (0..MANY).map(|_| rig.send(socket, vec![1; 1], ANY)).collect();
    rig.turns(1);
    for place in [MANY - 1, 65_536, 65_537] {
        rig.cancel(sends[place]);
    }
    rig.until("all sends to end", |rig| rig.driver.stats().pending == 0);
    let is_cancelled = |outcome: &Outcome| outcome.error().is_some_and(|error| error.kind() == ErrorKind::Cancelled);
    assert!(rig.seen().filter(|each| is_cancelled(&each.outcome)).count() <= 3);
}

/// A queue without a bound of its own has that of its type.
pub fn a_queue_of_gibibytes_does_not_wrap(setup: &Setup) {
    let mut rig = Rig::with(setup, |config| config.send_queue_bytes_max = u32::MAX);
    let (socket, _peer) = rig.peer();
    // Zeroes that are never touched take no memory.
    let payload = Bytes::from(vec![0; 3 << 30]);
    rig.send(socket, payload.clone(), 1);
    assert_eq!(refusal(rig.try_send(socket, payload.clone(), 2)), ErrorKind::Busy);
    rig.send(socket, payload.slice(..1 << 20), 3);
    let gather = Payload::Gather((0..4).map(|_| payload.clone().into()).collect());
    assert_eq!(refusal(rig.try_send(socket, gather, 4)), ErrorKind::InvalidInput, "12 GiB are more than one send has");
    let (datagrams, _) = rig.bind(&Default::default());
    let refused = rig.driver.send_to(datagrams, ([127, 0, 0, 1], 9).into(), payload, 5);
    assert_eq!(refusal(refused), ErrorKind::InvalidInput);
    rig.abort(socket, 6);
    for token in [1, 3] {
        assert_eq!(rig.wait_failure(token).0, ErrorKind::Cancelled);
    }
    rig.wait_closed(6);
}

/// More than a system moves in one call, in one piece and in two.
//= SEND-1
pub fn a_send_of_more_than_two_gibibytes(setup: &Setup) {
    const ALONE: usize = (2 << 30) + 12_345;
    const PIECE: usize = 600 << 20;
    if !is_first_of_its_kind(setup) {
        return;
    }
    let mut rig = Rig::with(setup, |config| config.send_queue_bytes_max = u32::MAX);
    let (socket, peer) = rig.peer();
    let payload = Bytes::from(vec![0; ALONE]);
    rig.send_quiet(socket, payload.clone(), ANY);
    discard(&mut rig, peer, ALONE);
    rig.until("the quiet send to end", |rig| rig.driver.stats().pending == 0);
    let (socket, peer) = rig.peer();
    rig.send(socket, vec![payload.slice(..PIECE).into(), payload.slice(..PIECE).into(), Payload::Vec(vec![1])], 1);
    discard(&mut rig, peer, 2 * PIECE + 1);
    assert!(matches!(rig.wait(1).outcome, Outcome::Sent(payload) if payload.len() == 2 * PIECE + 1));
}

/// A peer reads so many bytes, and no more come.
fn discard(rig: &mut Rig, mut peer: crate::peer::Peer, length: usize) {
    let mut sink = vec![0; 1 << 20];
    let mut left = length;
    while left > 0 {
        rig.until("some bytes", |_| {
            let room = sink.len().min(left);
            let read = peer.read_some(&mut sink[..room]).expect("the peer can read");
            assert_ne!(read, Some(0), "the end came {left} bytes early");
            left -= read.unwrap_or(0);
            read.is_some()
        });
    }
    rig.settle();
    assert!(matches!(peer.read_some(&mut sink), Ok(None)), "more came than was sent");
}

/// What of a quiet send did not fit into one request is waited for like any other.
//= SEND-1
pub fn quiet_sends_of_many_pieces_end_by_themselves(setup: &Setup) {
    const PIECES: usize = 600;
    if setup.is_simulated() {
        return;
    }
    let mut rig = Rig::new(setup);
    let (socket, peer) = rig.peer();
    let mut peer = peer.into_blocking();
    let (submitter, has_all) = (rig.driver.submitter(), Arc::new(AtomicBool::new(false)));
    let reader = {
        let has_all = has_all.clone();
        thread::spawn(move || {
            let mut bytes = [0; 2 * PIECES * 4];
            let is_whole = std::io::Read::read_exact(&mut peer, &mut bytes).is_ok();
            has_all.store(is_whole, Ordering::SeqCst);
            submitter.wake();
        })
    };
    for _ in 0..2 {
        let pieces = (0..PIECES).map(|_| Payload::from(vec![7; 4])).collect();
        rig.send_quiet(socket, Payload::Gather(pieces), ANY);
    }
    let start = Instant::now();
    while !has_all.load(Ordering::SeqCst) {
        rig.poll(Some(Duration::from_secs(20)));
        assert!(start.elapsed() < Duration::from_secs(15), "the second half waited for something else to happen");
    }
    reader.join().unwrap();
}
