//! Whose buffer it is: the driver's from acceptance to completion, then the caller's again.

//= OWN-1, OWN-2

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use raon_provider::{CloseMode, ErrorKind, Operation, Outcome, Payload, ReceiveBuffer, SocketId};

use crate::random::{assert_pattern, pattern};
use crate::rig::Rig;
use crate::setup::Setup;

/// Bytes that count their own end.
pub struct Tracked {
    bytes: Vec<u8>,
    dropped: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Tracked {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

/// Shared bytes that add 1 to `dropped` when the last reference has gone.
pub fn tracked(bytes: Vec<u8>, dropped: &Arc<AtomicUsize>) -> Bytes {
    Bytes::from_owner(Tracked { bytes, dropped: dropped.clone() })
}

pub fn every_payload_form_comes_back(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer();
    let bytes = pattern(0, 700);
    let mut buffer = rig.driver.buffer().unwrap();
    buffer.fill_from(&bytes[300..400]);
    let vector = bytes[..100].to_vec();
    let address = vector.as_ptr();
    rig.send(socket, vector, 1);
    rig.send(socket, Bytes::copy_from_slice(&bytes[100..300]), 2);
    rig.send(socket, buffer, 3);
    let pieces: Vec<Payload> = vec![bytes[400..401].to_vec().into(), Bytes::copy_from_slice(&bytes[401..700]).into()];
    rig.send(socket, pieces, 4);
    assert_pattern(0, &peer.read(&mut rig, 700));
    let forms: Vec<Payload> = (1..=4)
        .map(|token| match rig.wait(token).outcome {
            Outcome::Sent(payload) => payload,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(matches!(&forms[0], Payload::Vec(vector) if vector.as_ptr() == address), "the same memory comes back");
    assert!(matches!((&forms[1], &forms[2], &forms[3]), (Payload::Bytes(_), Payload::Buffer(_), Payload::Gather(_))));
    assert_eq!(forms.iter().flat_map(Payload::to_vec).collect::<Vec<_>>(), bytes);
}

pub fn a_failed_send_brings_its_payload_and_its_count(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, _peer) = rig.peer_with_buffers(16_384, 16_384);
    let payload = pattern(0, 8 << 20);
    let address = payload.as_ptr();
    rig.send(socket, payload, 1);
    rig.settle();
    rig.assert_nothing_seen();
    rig.abort(socket, 2);
    let (kind, payload, transferred) = rig.wait_failure(1);
    assert_eq!(kind, ErrorKind::Cancelled);
    assert!((1..8 << 20).contains(&transferred), "some of it went out: {transferred}");
    assert!(matches!(&payload, Some(Payload::Vec(vector)) if vector.as_ptr() == address && vector.len() == 8 << 20));
    rig.wait_closed(2);
}

//= OWN-3
pub fn a_buffer_never_shows_what_others_left(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer();
    // All slots hold somebody's bytes, those of the send section and those that are received into.
    let mut used: Vec<_> = std::iter::from_fn(|| rig.driver.buffer()).collect();
    for buffer in &mut used {
        let secret = vec![0xA5; buffer.capacity()];
        assert_eq!((buffer.put(&secret), buffer.put(&secret)), (secret.len(), 0));
    }
    drop(used);
    let mut buffer = rig.driver.buffer().expect("all are back");
    assert_eq!(buffer.put(b"own"), 3);
    buffer.set_len(1000);
    assert!(buffer.starts_with(b"own") && buffer[3..].iter().all(|byte| *byte == 0), "no stranger's bytes");
    // What is cut off is gone, too.
    buffer.set_len(1);
    buffer.set_len(3);
    assert_eq!(&buffer[..], b"o\0\0");
    rig.send(socket, buffer, 1);
    rig.wait(1);
    assert_eq!(peer.read(&mut rig, 3), b"o\0\0");
    let mut room = rig.driver.buffer().expect("one was given back");
    room.set_len(10);
    rig.submit(Operation::ReceiveInto { socket, buffer: room.into() }, 2);
    peer.write(&mut rig, b"raon");
    let Outcome::ReceivedInto(ReceiveBuffer::Buffer(mut room)) = rig.wait(2).outcome else {
        panic!("the room was due")
    };
    room.set_len(10);
    assert_eq!(&room[..], b"raon\0\0\0\0\0\0");
    rig.receive(socket, 3);
    peer.write(&mut rig, &[0x5A; 100]);
    let Outcome::Received(mut buffer) = rig.wait(3).outcome else { panic!("bytes were due") };
    let length = buffer.len();
    buffer.set_len(usize::MAX);
    assert!(buffer[..length].iter().all(|byte| *byte == 0x5A) && buffer[length..].iter().all(|byte| *byte == 0));
}

pub fn a_room_comes_back_from_success_and_from_failure(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer();
    rig.receive_into(socket, 100, 1);
    let mut buffer = rig.driver.buffer().unwrap();
    buffer.set_len(64);
    let second = rig.submit(Operation::ReceiveInto { socket, buffer: ReceiveBuffer::Buffer(buffer) }, 2);
    peer.write(&mut rig, b"raon");
    match rig.wait(1).outcome {
        Outcome::ReceivedInto(ReceiveBuffer::Vec(bytes)) => assert_eq!(bytes, b"raon"),
        other => panic!("{other:?}"),
    }
    rig.turns(2);
    rig.cancel(second);
    let (kind, payload, transferred) = rig.wait_failure(2);
    assert_eq!((kind, transferred), (ErrorKind::Cancelled, 0));
    assert!(matches!(payload, Some(Payload::Buffer(buffer)) if buffer.len() == 64));
}

pub fn a_quiet_payload_is_dropped_after_use(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer();
    let dropped = Arc::new(AtomicUsize::new(0));
    for round in 0..10 {
        rig.send_quiet(socket, tracked(pattern(round * 100, 100), &dropped), 1);
    }
    assert_eq!(dropped.load(Ordering::SeqCst), 0, "nothing has been handed over yet");
    assert_pattern(0, &peer.read(&mut rig, 1000));
    rig.until("all payloads to be dropped", |_| dropped.load(Ordering::SeqCst) == 10);
    rig.assert_nothing_seen();
}

pub fn a_refused_operation_comes_back_whole(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let none = SocketId::NONE;
    let payload = vec![7u8; 32];
    let address = payload.as_ptr();
    let refused = rig.try_send(none, payload, 1).unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::Stale);
    assert!(matches!(&refused.value, Payload::Vec(vector) if vector.as_ptr() == address && vector.len() == 32));
    let room = ReceiveBuffer::Vec(vec![1; 8]);
    let refused = rig.driver.receive_into(none, room, 1).unwrap_err();
    assert_eq!((refused.error.kind(), refused.value.len()), (ErrorKind::Stale, 8));
    for operation in [
        Operation::Accept { socket: none },
        Operation::Receive { socket: none },
        Operation::ReceiveInto { socket: none, buffer: ReceiveBuffer::Vec(vec![1; 8]) },
        Operation::Send { socket: none, payload: refused.value.into(), quiet: true },
        Operation::ShutdownWrite { socket: none },
        Operation::Close { socket: none, mode: CloseMode::Abort },
    ] {
        let before = format!("{operation:?}");
        let refused = rig.try_submit(operation, 1).unwrap_err();
        assert_eq!((refused.error.kind(), format!("{:?}", refused.value)), (ErrorKind::Stale, before));
    }
    rig.turns(3);
    rig.assert_nothing_seen();
}

pub fn a_late_refusal_brings_the_payload(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, _peer) = rig.peer();
    rig.shutdown_write(socket, 1);
    let submitter = rig.driver.submitter();
    rig.ledger.expect_mailed(2, 1);
    submitter.submit(Operation::Send { socket, payload: vec![9u8; 5].into(), quiet: false }, 2).unwrap();
    rig.ledger.expect_mailed(3, 1);
    submitter.submit(Operation::Send { socket: SocketId::NONE, payload: vec![9u8; 6].into(), quiet: true }, 3).unwrap();
    for (token, kind, length) in [(2, ErrorKind::WriteClosed, 5), (3, ErrorKind::Stale, 6)] {
        match rig.wait(token).outcome {
            Outcome::Refused { error, value } => {
                assert_eq!(error.kind(), kind);
                assert!(matches!(*value, Operation::Send { payload, .. } if payload.to_vec() == vec![9; length]));
            }
            other => panic!("{other:?}"),
        }
    }
    rig.close(socket, Duration::ZERO, 4);
    rig.wait_closed(4);
}
