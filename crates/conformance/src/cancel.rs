//! Early ends: each operation still completes once, and truly.

//= CANCEL-1

use std::time::Duration;

use raon_provider::{ErrorKind, Operation, Outcome, ReceiveBuffer};

use crate::peer::Peer;
use crate::random::{assert_pattern, pattern};
use crate::rig::Rig;
use crate::setup::Setup;

pub fn every_idle_operation_can_be_cancelled(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (listener, _) = rig.listen();
    let (first, _first_peer) = rig.peer();
    let (second, _second_peer) = rig.peer();
    let operations = [
        rig.accept(listener, 0),
        rig.receive(first, 1),
        rig.receive_into(second, 10, 2),
        rig.receive_into(second, 11, 3),
        rig.receive_into(second, 12, 4),
        rig.timer(Duration::from_secs(60), 5),
    ];
    rig.turns(3);
    rig.assert_nothing_seen();
    // The middle of a queue, then its head and tail.
    for place in [3, 2, 4, 0, 1, 5] {
        rig.cancel(operations[place]);
        let (kind, room, transferred) = rig.wait_failure(place as u64);
        assert_eq!((kind, transferred), (ErrorKind::Cancelled, 0));
        assert_eq!(room.map(|room| room.len()), (2..5).contains(&place).then_some(place + 8));
        assert_eq!(rig.driver.cancel(operations[place]).unwrap_err().kind(), ErrorKind::Stale);
    }
    // The same without a turn between submit and cancel.
    let operations =
        [rig.accept(listener, 0), rig.receive(first, 1), rig.receive_into(second, 10, 2), rig.timer(Duration::ZERO, 3)];
    operations.into_iter().for_each(|operation| rig.cancel(operation));
    for token in 0..4 {
        assert_eq!(rig.wait_failure(token).0, ErrorKind::Cancelled);
    }
}

pub fn what_is_only_queued_ends_within_a_turn(setup: &Setup) {
    let mut rig = Rig::with(setup, |config| config.send_queue_bytes_max = 4 << 20);
    let (socket, _peer) = rig.peer_with_buffers(8192, 8192);
    rig.send(socket, pattern(0, 1 << 20), 1);
    rig.settle();
    // The first is in the kernel, these wait behind it.
    let mut queued = vec![rig.send(socket, vec![1; 10], 2), rig.send(socket, vec![1; 10], 2)];
    queued.push(rig.shutdown_write(socket, 2));
    rig.receive_into(socket, 8, 3);
    queued.push(rig.receive_into(socket, 8, 2));
    queued.push(rig.timer(Duration::from_secs(60), 2));
    for operation in &queued {
        rig.cancel(*operation);
    }
    rig.turns(1);
    let ended: Vec<_> = rig.seen().filter(|each| each.token == 2).collect();
    let cancelled = |outcome: &Outcome| outcome.error().is_some_and(|error| error.kind() == ErrorKind::Cancelled);
    assert_eq!(ended.iter().filter(|each| cancelled(&each.outcome)).count(), queued.len(), "{ended:?}");
}

/// What the peer can read until nothing is pending.
fn read_until_settled(rig: &mut Rig, peer: &mut Peer) -> Vec<u8> {
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; 65_536]);
    rig.until("the kernel to let go", |rig| {
        let length = peer.read_some(&mut chunk).unwrap().unwrap_or(0);
        bytes.extend_from_slice(&chunk[..length]);
        rig.driver.stats().pending == 0
    });
    bytes
}

pub fn a_send_stuck_in_the_kernel_can_be_cancelled(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer_with_buffers(8192, 8192);
    let stuck = rig.send(socket, pattern(0, 1 << 20), 1);
    rig.settle();
    rig.cancel(stuck);
    let mut bytes = if setup.sends_without_copy() { read_until_settled(&mut rig, &mut peer) } else { Vec::new() };
    let (kind, payload, transferred) = rig.wait_failure(1);
    assert_eq!((kind, payload.unwrap().len()), (ErrorKind::Cancelled, 1 << 20));
    assert!(transferred < 1 << 20);
    // The count is true: exactly so many bytes arrive before what is sent next.
    rig.send(socket, vec![0xEE; 100], 2);
    bytes.extend(peer.read(&mut rig, transferred as usize + 100 - bytes.len()));
    assert_pattern(0, &bytes[..transferred as usize]);
    assert_eq!(bytes[transferred as usize..], [0xEE; 100]);
    rig.wait(2);
}

/// To a peer that has ended its own direction the kernel of io_uring tries to send all the time, and what is just being
/// tried is hard to find.
pub fn a_send_to_a_half_closed_peer_can_be_cancelled(setup: &Setup) {
    // More than is read until the cancel is heard of, where somebody has to read.
    let length = if setup.sends_without_copy() { 16 << 20 } else { 1 << 20 };
    for turns in 0..4 {
        let mut rig = Rig::new(setup);
        let (socket, mut peer) = rig.peer_with_buffers(8192, 8192);
        peer.shut_write();
        rig.settle();
        let stuck = rig.send(socket, vec![7; length], 1);
        rig.turns(turns);
        rig.cancel(stuck);
        if setup.sends_without_copy() {
            read_until_settled(&mut rig, &mut peer);
        }
        let (kind, payload, transferred) = rig.wait_failure(1);
        assert_eq!((kind, payload.unwrap().len()), (ErrorKind::Cancelled, length));
        assert!((transferred as usize) < length);
        // Nor does it keep a driver that ends.
        rig.send(socket, vec![7; length], 2);
        rig.turns(turns);
    }
}

/// A send that was woken again and again is waited for in another way than a fresh one (on io_uring by a thread).
pub fn a_send_of_many_small_steps_can_be_cancelled(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer_with_buffers(8192, 8192);
    let stuck = rig.send(socket, pattern(0, 16 << 20), 1);
    let (mut received, mut chunk, mut reads) = (0, vec![0; 16_384], 0);
    rig.until("many steps", |_| {
        // No further: a system that sends by itself would be done before this loop is.
        while reads < 300 {
            let Some(length) = peer.read_some(&mut chunk).unwrap() else { return false };
            assert_pattern(received, &chunk[..length]);
            received += length;
            reads += 1;
        }
        true
    });
    rig.cancel(stuck);
    let mut bytes = if setup.sends_without_copy() { read_until_settled(&mut rig, &mut peer) } else { Vec::new() };
    let (kind, payload, transferred) = rig.wait_failure(1);
    assert_eq!((kind, payload.unwrap().len()), (ErrorKind::Cancelled, 16 << 20));
    bytes.extend(peer.read(&mut rig, transferred as usize - received - bytes.len()));
    assert_pattern(received, &bytes);
}

pub fn a_cancelled_send_leaves_the_others_whole(setup: &Setup) {
    let mut rig = Rig::with(setup, |config| config.send_queue_bytes_max = 4 << 20);
    let (socket, mut peer) = rig.peer_with_buffers(8192, 8192);
    rig.send(socket, pattern(0, 200_000), 1);
    let one_batch = rig.send(socket, vec![0xEE; 50_000], 2);
    rig.send(socket, pattern(200_000, 70_000), 3);
    rig.send(socket, pattern(270_000, 300_000), 4);
    let behind = rig.send(socket, vec![0xEE; 1000], 5);
    rig.send(socket, pattern(570_000, 1000), 6);
    rig.settle();
    rig.cancel(one_batch);
    rig.cancel(behind);
    assert_eq!(rig.wait_failure(5).0, ErrorKind::Cancelled);
    assert_pattern(0, &peer.read(&mut rig, 571_000));
    assert_eq!(rig.wait_failure(2).0, ErrorKind::Cancelled);
    for token in [1, 3, 4, 6] {
        assert!(matches!(rig.wait(token).outcome, Outcome::Sent(_)));
    }
}

/// Also one that had not left the queue, whichever place it had there.
pub fn a_cancelled_send_brings_its_payload(setup: &Setup) {
    let mut rig = Rig::with(setup, |config| config.send_queue_bytes_max = 4 << 20);
    let (socket, mut peer) = rig.peer_with_buffers(8192, 8192);
    rig.send(socket, pattern(0, 1 << 20), 1);
    rig.settle();
    let queued: Vec<_> = (2..5).map(|token| rig.send(socket, vec![0xEE; token as usize * 10], token)).collect();
    let quiet = rig.send_quiet(socket, vec![0xEE; 50], 5);
    for operation in [queued[1], quiet, queued[0], queued[2]] {
        rig.cancel(operation);
    }
    for token in 2..6 {
        let (kind, payload, transferred) = rig.wait_failure(token);
        assert_eq!((kind, transferred), (ErrorKind::Cancelled, 0));
        assert_eq!(payload.map(|payload| payload.to_vec()), Some(vec![0xEE; token as usize * 10]));
    }
    // The queue goes on where the cancelled ones were.
    rig.send(socket, pattern(1 << 20, 100), 6);
    assert_pattern(0, &peer.read(&mut rig, (1 << 20) + 100));
    rig.wait(1);
    rig.wait(6);
}

pub fn a_cancelled_stream_delivers_what_had_arrived(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer();
    let mut received = 0;
    for round in 0..50 {
        let stream = rig.receive(socket, round);
        rig.turns((round % 3) as usize);
        assert_eq!(peer.write_some(&pattern(round as usize * 500, 500)), 500);
        if round % 2 == 0 {
            rig.flush();
        }
        rig.cancel(stream);
        loop {
            let completion = rig.wait(round);
            match completion.outcome {
                Outcome::Received(bytes) => {
                    assert_pattern(received, &bytes);
                    received += bytes.len();
                }
                Outcome::Failed { error, .. } => break assert_eq!(error.kind(), ErrorKind::Cancelled),
                other => panic!("{other:?}"),
            }
        }
    }
    if received < 25_000 {
        rig.receive(socket, 100);
        assert_pattern(received, &rig.wait_bytes(100, 25_000 - received));
    }
}

pub fn a_cancelled_accept_leaks_no_connection(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (listener, address) = rig.listen();
    let mut accepted = 0;
    let mut peers = Vec::new();
    for round in 0..30 {
        let operation = rig.accept(listener, 1);
        rig.turns(round % 2);
        peers.extend((0..3).map(|_| Peer::connect(&address)));
        if round % 3 == 0 {
            rig.flush();
        }
        rig.cancel(operation);
        loop {
            let completion = rig.wait(1);
            match completion.outcome {
                Outcome::Accepted(_) => accepted += 1,
                Outcome::Failed { error, .. } => break assert_eq!(error.kind(), ErrorKind::Cancelled),
                other => panic!("{other:?}"),
            }
        }
    }
    // Those that no accept took are still in the backlog.
    rig.accept(listener, 2);
    while accepted < peers.len() {
        assert!(matches!(rig.wait(2).outcome, Outcome::Accepted(_)));
        accepted += 1;
    }
    rig.settle();
    rig.assert_nothing_seen();
}

pub fn cancelling_by_token_ends_them_all(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (first, mut first_peer) = rig.peer_with_buffers(8192, 8192);
    let (second, _second_peer) = rig.peer();
    rig.receive(first, 7);
    rig.send(first, pattern(0, 1 << 20), 7);
    rig.receive_into(second, 10, 7);
    rig.submit(Operation::ReceiveInto { socket: second, buffer: ReceiveBuffer::Vec(vec![0; 5]) }, 7);
    rig.timer(Duration::from_secs(60), 7);
    let other = rig.timer(Duration::from_secs(60), 8);
    rig.settle();
    let submitter = rig.driver.submitter();
    std::thread::spawn(move || submitter.cancel(7).unwrap()).join().unwrap();
    if setup.sends_without_copy() {
        rig.until("the cancels to be taken", |rig| rig.driver.stats().pending <= 2);
        let mut chunk = vec![0; 65_536];
        rig.until("the kernel to let go", |rig| {
            let _ = first_peer.read_some(&mut chunk).unwrap();
            rig.driver.stats().pending == 1
        });
    }
    for _ in 0..5 {
        assert_eq!(rig.wait_failure(7).0, ErrorKind::Cancelled);
    }
    assert_eq!(rig.driver.stats().pending, 1, "the other timer goes on");
    rig.cancel(other);
}

pub fn a_connect_can_be_cancelled(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let full = crate::endpoints::FullBacklog::new(setup);
    let operation = rig.connect(&full.address, 1);
    rig.settle();
    rig.assert_nothing_seen();
    rig.cancel(operation);
    assert_eq!(rig.wait_failure(1).0, ErrorKind::Cancelled);
    assert_eq!(rig.driver.stats().sockets, 0, "a connect that failed leaves no socket behind");
}
