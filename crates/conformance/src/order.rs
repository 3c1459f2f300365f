//! Order within a socket and direction, and what may not be mixed there.

//= ORDER-1

use bytes::Bytes;
use raon_provider::{ErrorKind, OperationId, Outcome, Payload, Refused};

use crate::random::{Random, assert_pattern, pattern};
use crate::rig::{PATIENCE, Rig, refusal};
use crate::setup::Setup;

/// The next bytes of a stream, in any form, of an odd size.
fn odd_payload(rig: &mut Rig, random: &mut Random, start: usize) -> Payload {
    let length = 1 + random.below(701);
    let bytes = pattern(start, length);
    match random.below(4) {
        0 => bytes.into(),
        1 => Bytes::from(bytes).into(),
        2 => match rig.driver.buffer() {
            Some(mut buffer) => {
                buffer.fill_from(&bytes);
                buffer.into()
            }
            None => bytes.into(),
        },
        _ => bytes.chunks(1 + random.below(97)).map(|piece| piece.to_vec().into()).collect::<Vec<Payload>>().into(),
    }
}

/// Sends, reading at the peer whenever the queue is full.
fn send_patiently(
    rig: &mut Rig,
    mut payload: Payload,
    mut send: impl FnMut(&mut Rig, Payload) -> Result<OperationId, Refused<Payload>>,
    mut read: impl FnMut(&mut Rig),
) {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        match send(rig, payload) {
            Ok(_) => return,
            Err(refused) => {
                assert_eq!(refused.error.kind(), ErrorKind::Busy);
                assert!(std::time::Instant::now() < deadline, "the queue stays full");
                payload = refused.value;
            }
        }
        read(rig);
        rig.turns(1);
    }
}

pub fn many_odd_sends_arrive_in_order(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer_with_buffers(16_384, 16_384);
    let mut random = Random::new(11);
    let (mut sent, mut received, mut chunk) = (0, 0, vec![0; 65_536]);
    for token in 0..2000 {
        let payload = odd_payload(&mut rig, &mut random, sent);
        sent += payload.len();
        let send = |rig: &mut Rig, payload| rig.try_send(socket, payload, token);
        send_patiently(&mut rig, payload, send, |_| {
            let length = peer.read_some(&mut chunk).unwrap().unwrap_or(0);
            assert_pattern(received, &chunk[..length]);
            received += length;
        });
    }
    assert_pattern(received, &peer.read(&mut rig, sent - received));
    rig.until("all sends to end", |rig| rig.driver.stats().pending == 0);
    let tokens = rig.seen().filter(|each| matches!(each.outcome, Outcome::Sent(_))).map(|each| each.token);
    assert!(tokens.eq(0..2000), "completions come in order of submission");
}

/// Quiet sends leave the kernel's answer out; one that did not go out whole must not be forgotten.
pub fn quiet_sends_keep_their_order_past_a_full_socket(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer_with_buffers(8192, 8192);
    let (mut sent, mut received, mut chunk) = (0, 0, vec![0; 65_536]);
    for round in 0..600 {
        let length = 1 + round * 37 % 2999;
        let payload = if round % 3 == 0 {
            Payload::Gather(vec![pattern(sent, 1).into(), pattern(sent + 1, length).into()])
        } else {
            pattern(sent, length + 1).into()
        };
        sent += length + 1;
        let send = |rig: &mut Rig, payload| rig.try_send_quiet(socket, payload, 1);
        send_patiently(&mut rig, payload, send, |_| {
            let length = peer.read_some(&mut chunk).unwrap().unwrap_or(0);
            assert_pattern(received, &chunk[..length]);
            received += length;
        });
        rig.turns(round % 2);
    }
    assert_pattern(received, &peer.read(&mut rig, sent - received));
    rig.until("quiet sends to be forgotten", |rig| rig.driver.stats().pending == 0);
    assert!(rig.seen().all(|each| matches!(each.outcome, Outcome::Writable)), "quiet sends that succeed are silent");
}

/// More pieces than one `writev` takes (IOV_MAX), spread over sends of very different counts.
pub fn more_pieces_than_one_request_takes(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer();
    let mut start = 0;
    for (token, pieces) in [1000, 1, 1024, 30, 1023, 2, 1024].into_iter().enumerate() {
        let payload: Vec<Payload> = (0..pieces)
            .map(|piece| {
                let length = 1 + piece % 5;
                start += length;
                pattern(start - length, length).into()
            })
            .collect();
        rig.send(socket, payload, token as u64);
    }
    assert_pattern(0, &peer.read(&mut rig, start));
    for token in 0..7 {
        assert_eq!(rig.next_completion().token, token);
    }
}

pub fn single_receives_are_first_in_first_out(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer();
    for token in 0..12 {
        rig.receive_into(socket, 10 + token as usize, token);
    }
    rig.turns(2);
    let total: usize = (10..22).sum();
    peer.write(&mut rig, &pattern(0, total));
    let mut received = 0;
    for token in 0..12 {
        let completion = rig.next_completion();
        assert_eq!(completion.token, token, "{completion:?}");
        match completion.outcome {
            Outcome::ReceivedInto(room) => {
                let bytes = Payload::from(room).to_vec();
                assert_pattern(received, &bytes);
                received += bytes.len();
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(received, total, "all was there, so every room was filled");
}

pub fn one_kind_of_receive_at_a_time(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer();
    let stream = rig.receive(socket, 1);
    assert_eq!(refusal(rig.driver.receive(socket, 2)), ErrorKind::ReceiveActive);
    assert_eq!(refusal(rig.driver.receive_into(socket, vec![0; 8], 2)), ErrorKind::ReceiveActive);
    rig.cancel(stream);
    assert_eq!(rig.wait_failure(1).0, ErrorKind::Cancelled);
    let single = rig.receive_into(socket, 8, 3);
    assert_eq!(refusal(rig.driver.receive(socket, 4)), ErrorKind::ReceiveActive);
    rig.turns(1);
    rig.cancel(single);
    assert_eq!(rig.wait_failure(3).0, ErrorKind::Cancelled);
    rig.receive(socket, 5);
    peer.write(&mut rig, &pattern(0, 20));
    assert_pattern(0, &rig.wait_bytes(5, 20));

    let (listener, _) = rig.listen();
    assert_eq!(refusal(rig.driver.receive(listener, 6)), ErrorKind::InvalidInput);
    assert_eq!(refusal(rig.driver.receive_into(listener, vec![0; 8], 6)), ErrorKind::InvalidInput);
    assert_eq!(refusal(rig.try_send(listener, vec![1], 6)), ErrorKind::InvalidInput);
    assert_eq!(refusal(rig.driver.accept(socket, 6)), ErrorKind::InvalidInput);
    rig.accept(listener, 7);
    assert_eq!(refusal(rig.driver.accept(listener, 8)), ErrorKind::ReceiveActive);
}
