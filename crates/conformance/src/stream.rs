//! Streams of bytes: whole sends, the end, half-close, resets.

//= SEND-1, EOF-1, HALF-1

use raon_provider::{ErrorKind, Outcome, Payload, ReceiveBuffer};

use crate::random::{assert_pattern, pattern};
use crate::rig::{Rig, refusal};
use crate::setup::Setup;

pub fn a_large_send_is_finished_inside(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer_with_buffers(32_768, 32_768);
    let length = 3 << 20;
    rig.send(socket, pattern(0, length), 1);
    assert_pattern(0, &peer.read(&mut rig, length));
    let completion = rig.wait(1);
    assert!(matches!(&completion.outcome, Outcome::Sent(payload) if payload.len() == length), "{completion:?}");
    let pieces: Vec<Payload> = (0..64).map(|place| pattern(length + place * 9999, 9999).into()).collect();
    rig.send(socket, pieces, 2);
    assert_pattern(length, &peer.read(&mut rig, 64 * 9999));
    assert!(matches!(rig.wait(2).outcome, Outcome::Sent(payload) if payload.len() == 64 * 9999));
}

/// A quiet send that is alone is ended on the shortest way, unless the socket took only a part of it.
pub fn a_large_quiet_send_is_finished_inside(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer_with_buffers(32_768, 32_768);
    let length = 3 << 20;
    for round in 0..2 {
        rig.send_quiet(socket, pattern(round * length, length), 1);
        assert_pattern(round * length, &peer.read(&mut rig, length));
        rig.until("the send to be forgotten", |rig| rig.driver.stats().pending == 0);
    }
    assert_eq!(rig.driver.stats().sent_bytes, 2 * length as u64);
    rig.assert_nothing_seen();
}

fn empty() -> Payload {
    Vec::<u8>::new().into()
}

pub fn nothing_empty_is_accepted(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer();
    let nested: Payload = vec![Payload::Gather(vec![vec![1u8].into()])].into();
    let too_many: Vec<Payload> = (0..1025).map(|_| vec![1u8].into()).collect();
    let empties: Vec<Payload> = vec![empty(), empty()];
    for payload in [Vec::<u8>::new().into(), Payload::Gather(Vec::new()), empties.into(), nested, too_many.into()] {
        assert_eq!(refusal(rig.try_send(socket, payload, 1)), ErrorKind::InvalidInput);
    }
    let buffer = rig.driver.buffer().unwrap();
    assert_eq!(refusal(rig.try_send_quiet(socket, buffer, 1)), ErrorKind::InvalidInput);
    assert_eq!(refusal(rig.driver.receive_into(socket, Vec::new(), 1)), ErrorKind::InvalidInput);
    // An empty piece among others is no harm.
    let pieces: Vec<Payload> = vec![empty(), vec![5u8; 3].into(), empty()];
    rig.send(socket, pieces, 2);
    assert_eq!(peer.read(&mut rig, 3), [5; 3]);
    rig.wait(2);
}

pub fn the_end_comes_once_on_a_stream(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer();
    rig.receive(socket, 1);
    peer.write(&mut rig, &pattern(0, 10));
    assert_pattern(0, &rig.wait_bytes(1, 10));
    peer.shut_write();
    rig.wait_end(1);
    rig.settle();
    rig.assert_nothing_seen();
    // The other direction goes on.
    rig.send_quiet(socket, b"raon".as_slice(), 2);
    assert_eq!(peer.read(&mut rig, 4), b"raon");
}

pub fn the_end_comes_again_and_again_to_receive_into(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer();
    peer.write(&mut rig, b"raon");
    peer.shut_write();
    let mut lengths = Vec::new();
    for token in 0..5 {
        rig.receive_into(socket, 3, token);
        match rig.wait(token).outcome {
            Outcome::ReceivedInto(room) => lengths.push(room.len()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(lengths, [3, 1, 0, 0, 0]);
}

pub fn bytes_before_the_end_come_first(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer();
    peer.write(&mut rig, &pattern(0, 30_000));
    drop(peer);
    rig.receive(socket, 1);
    assert_pattern(0, &rig.wait_bytes(1, 30_000));
    rig.wait_end(1);
}

pub fn half_close_in_both_directions(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (near, far) = rig.pair();
    rig.receive(near, 1);
    rig.receive(far, 2);
    rig.send(near, pattern(0, 500), 3);
    rig.shutdown_write(near, 4);
    assert_eq!(refusal(rig.try_send(near, vec![1], 5)), ErrorKind::WriteClosed);
    assert_eq!(refusal(rig.driver.shutdown_write(near, 5)), ErrorKind::WriteClosed);
    assert_pattern(0, &rig.wait_bytes(2, 500));
    rig.wait_end(2);
    assert!(matches!(rig.wait(3).outcome, Outcome::Sent(_)));
    assert!(matches!(rig.wait(4).outcome, Outcome::WriteShut));
    rig.send(far, pattern(0, 700), 6);
    assert_pattern(0, &rig.wait_bytes(1, 700));
    rig.shutdown_write(far, 7);
    rig.wait_end(1);
}

pub fn the_write_side_ends_after_what_is_queued(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer_with_buffers(8192, 8192);
    for place in 0..20 {
        rig.send(socket, pattern(place * 12_000, 12_000), place as u64);
    }
    rig.shutdown_write(socket, 20);
    let bytes = peer.read_to_end(&mut rig);
    assert_eq!(bytes.len(), 240_000);
    assert_pattern(0, &bytes);
    for token in 0..=20 {
        assert_eq!(rig.next_completion().token, token, "completions come in order of submission, the end last");
    }
}

/// Where an urgent byte stands among the others a receive is cut short, although more bytes lie behind it.
pub fn an_urgent_byte_holds_nothing_up(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer();
    rig.receive(socket, 1);
    rig.turns(2);
    for _ in 0..5 {
        assert_eq!(peer.write_some(b"before"), 6);
        peer.send_urgent(b'!').unwrap();
        assert_eq!(peer.write_some(b"behind"), 6);
        assert_eq!(rig.wait_bytes(1, 12), b"beforebehind");
    }
}

pub fn a_reset_is_a_typed_error(setup: &Setup) {
    let mut rig = Rig::with(setup, |config| config.send_queue_bytes_max = 4 << 20);
    let (socket, peer) = rig.peer();
    rig.receive(socket, 1);
    rig.turns(1);
    rig.provoke_reset(socket);
    peer.reset();
    let (kind, payload, _) = rig.wait_failure(1);
    assert_eq!(kind, ErrorKind::ConnectionReset);
    assert!(payload.is_none());
    rig.send(socket, vec![1; 9], 2);
    let (kind, payload, _) = rig.wait_failure(2);
    assert!(matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{kind:?}");
    assert_eq!(payload.unwrap().to_vec(), [1; 9]);

    let (socket, peer) = rig.peer_with_buffers(8192, 8192);
    rig.receive_into(socket, 10, 3);
    rig.send(socket, vec![2; 1 << 20], 4);
    rig.send(socket, vec![3; 10], 5);
    rig.settle();
    peer.reset();
    let (kind, room, _) = rig.wait_failure(3);
    assert!(kind == ErrorKind::ConnectionReset && room.is_some(), "{kind:?}");
    for (token, length) in [(4, 1 << 20), (5, 10)] {
        let (kind, payload, transferred) = rig.wait_failure(token);
        // The receive has taken the socket's one error, see socket(7) on SO_ERROR: the send may see its aftermath.
        assert!(matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{kind:?}");
        assert_eq!(payload.unwrap().len(), length);
        assert!((transferred as usize) < length);
    }
}

/// The system tells of a reset once; whoever asks again must not take that for an orderly end.
pub fn a_reset_is_never_an_orderly_end(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, peer) = rig.peer();
    rig.provoke_reset(socket);
    peer.reset();
    rig.settle();
    for token in 1..4 {
        rig.receive(socket, token);
        assert_eq!(rig.wait_failure(token).0, ErrorKind::ConnectionReset);
    }
    rig.receive_into(socket, 10, 4);
    assert_eq!(rig.wait_failure(4).0, ErrorKind::ConnectionReset);

    // A send hears of it first, and the write side is shut before anyone receives.
    let (socket, peer) = rig.peer();
    rig.turns(1);
    rig.provoke_reset(socket);
    peer.reset();
    rig.settle();
    rig.send(socket, vec![1; 10], 5);
    // On a Unix socket it is told of the peer that is gone, and the reset is left for the receive.
    let kind = if setup.is_unix { ErrorKind::BrokenPipe } else { ErrorKind::ConnectionReset };
    assert_eq!(rig.wait_failure(5).0, kind);
    rig.shutdown_write(socket, 6);
    rig.wait(6);
    rig.receive(socket, 7);
    assert_eq!(rig.wait_failure(7).0, ErrorKind::ConnectionReset);
}

/// Messages that fill their buffers make a socket change to larger ones and back; no byte may go astray on the way.
pub fn bulk_bytes_arrive_exact(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (near, far) = rig.pair();
    rig.receive(far, 1);
    let (mut sent, mut received) = (0, 0);
    for round in 0..60 {
        let length = if round / 15 % 2 == 0 { 100_000 } else { 300 };
        rig.send(near, pattern(sent, length), 2);
        sent += length;
        while received < sent {
            let bytes = match rig.wait(1).outcome {
                Outcome::Received(bytes) => bytes,
                other => panic!("{other:?}"),
            };
            assert_pattern(received, &bytes);
            received += bytes.len();
        }
        rig.wait(2);
    }
    // A room of one's own is filled only as far as bytes are there.
    let (near, far) = rig.pair();
    rig.receive_into(far, 1 << 20, 3);
    rig.send(near, pattern(0, 5), 4);
    let Outcome::ReceivedInto(ReceiveBuffer::Vec(bytes)) = rig.wait(3).outcome else { panic!("bytes were due") };
    assert!((1..=5).contains(&bytes.len()), "{} bytes", bytes.len());
    assert_pattern(0, &bytes);
}
