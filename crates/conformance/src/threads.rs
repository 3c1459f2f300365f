//! Values that go to other threads, and what comes from them.

//= THREAD-1, ORDER-2, OWN-2, LIMIT-1, WAKE-1

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use raon_provider::{AcceptedSocket, Buffer, Completions, Driver, ErrorKind, Operation, Outcome, SocketId, Submitter};

use crate::ownership::tracked;
use crate::peer::Peer;
use crate::platform::Thread;
use crate::random::{assert_pattern, pattern};
use crate::rig::Rig;
use crate::setup::Setup;

/// True for a type that implements neither of the traits: then, and only then, `none` names one method.
trait NotSend<Marker> {
    fn none() {}
}
impl<T: ?Sized> NotSend<()> for T {}
impl<T: ?Sized + Send> NotSend<u8> for T {}

pub fn what_may_go_anywhere_and_what_may_not(setup: &Setup) {
    fn anywhere<T: Send + 'static>() {}
    fn shared<T: Send + Sync + Clone + 'static>() {}
    shared::<Submitter>();
    anywhere::<Buffer>();
    anywhere::<AcceptedSocket>();
    anywhere::<Operation>();
    anywhere::<SocketId>();
    // Ambiguous, so no program, if a driver could be sent away.
    <Driver as NotSend<_>>::none();
    drop(Rig::new(setup));
}

/// Every value comes back, as a refusal at the door or in a completion, and every payload is dropped.
pub fn eight_threads_while_the_driver_shuts_down(setup: &Setup) {
    for round in 0..6 {
        let mut driver = setup.open();
        let (near, _peer) = crate::peer::connection(setup, 8192, 8192);
        let socket = driver.adopt(near).unwrap();
        let dropped = Arc::new(AtomicUsize::new(0));
        let (accepted, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (submitter, dropped) = (driver.submitter(), dropped.clone());
                let (accepted, refused) = (accepted.clone(), refused.clone());
                thread::spawn(move || submit_until_closed(&submitter, socket, &dropped, &accepted, &refused))
            })
            .collect();
        let mut completions = Completions::with_capacity(4096);
        let mut ended = 0;
        while ended < round * 300 {
            driver.poll(None, &mut completions).unwrap();
            ended += completions.drain().filter(carries_payload).count();
        }
        driver.shutdown(&mut completions);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        driver.shutdown(&mut completions);
        ended += completions.drain().filter(carries_payload).count();
        drop(driver);
        assert_eq!(ended, accepted.load(Ordering::SeqCst), "what was accepted has completed");
        assert_eq!(dropped.load(Ordering::SeqCst), ended + refused.load(Ordering::SeqCst), "and nothing is held");
    }
}

fn submit_until_closed(
    submitter: &Submitter,
    socket: SocketId,
    dropped: &Arc<AtomicUsize>,
    accepted: &AtomicUsize,
    refused: &AtomicUsize,
) {
    loop {
        let payload = tracked(vec![5; 100], dropped).into();
        match submitter.submit(Operation::Send { socket, payload, quiet: false }, 1) {
            Ok(()) => drop(accepted.fetch_add(1, Ordering::SeqCst)),
            Err(back) => {
                assert!(matches!(&back.value, Operation::Send { payload, .. } if payload.len() == 100));
                refused.fetch_add(1, Ordering::SeqCst);
                match back.error.kind() {
                    ErrorKind::Busy => thread::yield_now(),
                    ErrorKind::Closed => return,
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

fn carries_payload(completion: &raon_provider::Completion) -> bool {
    match &completion.outcome {
        Outcome::Sent(payload) => payload.len() == 100,
        Outcome::Failed { payload, .. } => payload.as_ref().is_some_and(|payload| payload.len() == 100),
        Outcome::Refused { value, .. } => {
            matches!(&**value, Operation::Send { payload, .. } if payload.len() == 100)
        }
        _ => false,
    }
}

pub fn each_submitter_keeps_its_order(setup: &Setup) {
    const EACH: usize = 2000;
    // A refusal at the bound of a socket's queue would break the order, as it should.
    let mut rig = Rig::with(setup, |config| config.send_queue_count_max = EACH as u32);
    let mut peers = Vec::new();
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (socket, peer) = rig.peer();
            peers.push(peer);
            let submitter = rig.driver.submitter();
            thread::spawn(move || {
                for place in 0..EACH {
                    let mut operation = Operation::Send { socket, payload: pattern(place * 3, 3).into(), quiet: true };
                    while let Err(back) = submitter.submit(operation, 0) {
                        assert_eq!(back.error.kind(), ErrorKind::Busy);
                        operation = back.value;
                        thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let mut received = [0; 3];
    let mut chunk = vec![0; 65_536];
    rig.until("all bytes", |_| {
        for (peer, received) in peers.iter_mut().zip(&mut received) {
            let length = peer.read_some(&mut chunk).unwrap().unwrap_or(0);
            assert_pattern(*received, &chunk[..length]);
            *received += length;
        }
        received == [EACH * 3; 3]
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    rig.assert_nothing_seen();
}

pub fn many_submits_are_one_wake(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let submitter = rig.driver.submitter();
    rig.ledger.expect_mailed(1, 100);
    for _ in 0..100 {
        submitter.submit(Operation::Timer { after: Duration::ZERO }, 1).unwrap();
    }
    for _ in 0..100 {
        rig.wait(1);
    }
    assert_eq!(rig.driver.stats().wakes, 0, "the owner was busy");
    let owner = Thread::current();
    let (ready, go) = mpsc::channel();
    let (done, all_submitted) = mpsc::channel();
    let sender = thread::spawn(move || {
        while let Ok(token) = go.recv() {
            owner.await_sleep();
            for _ in 0..100 {
                submitter.submit(Operation::Timer { after: Duration::ZERO }, token).unwrap();
            }
            done.send(()).unwrap();
        }
    });
    for round in 0..20 {
        rig.ledger.expect_mailed(round, 100);
        ready.send(round).unwrap();
        // The first timer ends this wait; from then on the owner is busy with waiting for the sender.
        while rig.poll(None) == 0 {}
        all_submitted.recv().unwrap();
        assert_eq!(rig.driver.stats().wakes, round + 1, "100 submits are one wake");
        for _ in 0..100 {
            rig.wait(round);
        }
    }
    drop(ready);
    sender.join().unwrap();
}

/// What is put elsewhere is found after the wake: the owner means to wait for ever, and looks once per poll.
pub fn a_wake_without_an_operation_ends_a_wait(setup: &Setup) {
    const WAKES: usize = 2000;
    let mut rig = Rig::new(setup);
    let submitter = rig.driver.submitter();
    submitter.wake();
    submitter.wake();
    assert_eq!(rig.poll(None), 0, "it came before the wait");
    let (left, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let other = {
        let (left, seen) = (left.clone(), seen.clone());
        thread::spawn(move || {
            for place in 1..=WAKES {
                left.store(place, Ordering::SeqCst);
                submitter.wake();
                // In one case of two the owner has looked before, so that it is on its way to sleep, or asleep.
                while place % 2 == 0 && seen.load(Ordering::SeqCst) < place {
                    thread::yield_now();
                }
            }
        })
    };
    while seen.load(Ordering::SeqCst) < WAKES {
        assert_eq!(rig.poll(None), 0);
        seen.store(left.load(Ordering::SeqCst), Ordering::SeqCst);
    }
    other.join().unwrap();
    rig.timer(Duration::from_millis(1), 7);
    rig.wait(7);
    rig.assert_nothing_seen();
}

pub fn a_full_mailbox_gives_the_value_back(setup: &Setup) {
    let mut rig = Rig::with(setup, |config| config.mailbox_capacity = 4);
    let submitter = rig.driver.submitter();
    let timer = || Operation::Timer { after: Duration::ZERO };
    rig.ledger.expect_mailed(1, 4);
    for _ in 0..4 {
        submitter.submit(timer(), 1).unwrap();
    }
    let payload = vec![8u8; 40].into();
    let refused = submitter.submit(Operation::Send { socket: SocketId::NONE, payload, quiet: false }, 2).unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::Busy);
    assert!(matches!(refused.value, Operation::Send { payload, .. } if payload.to_vec() == [8; 40]));
    assert_eq!(submitter.cancel(77).unwrap_err().value, 77);
    for _ in 0..4 {
        rig.wait(1);
    }
    drop(rig);
    let refused = submitter.submit(timer(), 3).unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::Closed);
    assert_eq!(submitter.cancel(3).unwrap_err().error.kind(), ErrorKind::Closed);
}

pub fn an_accepted_socket_goes_to_another_driver(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (listener, address) = rig.listen();
    rig.accept(listener, 1);
    let (hand_over, sockets) = mpsc::channel::<Submitter>();
    let (all_read, has_read_all) = mpsc::channel();
    let other_setup = *setup;
    let other = thread::spawn(move || {
        let mut other = Rig::new(&other_setup);
        hand_over.send(other.driver.submitter()).unwrap();
        other.ledger.expect_mailed(7, 5);
        for _ in 0..5 {
            let adopted = other.wait(7);
            assert!(matches!(adopted.outcome, Outcome::Adopted));
            let bytes = other.receive_exactly(adopted.socket, 4, 8);
            other.send(adopted.socket, bytes, 9);
            other.wait(9);
        }
        // The end of its driver is a reset, which takes with it what a peer has not read.
        has_read_all.recv().unwrap();
    });
    let submitter = sockets.recv().unwrap();
    for _ in 0..5 {
        let mut peer = Peer::connect(&address);
        let Outcome::Accepted(socket) = rig.wait(1).outcome else { panic!("a connection was due") };
        assert_eq!(socket.peer_address().unwrap(), peer.local_address());
        submitter.submit(Operation::Adopt { socket }, 7).unwrap();
        peer.write(&mut rig, b"raon");
        assert_eq!(peer.read(&mut rig, 4), b"raon");
    }
    all_read.send(()).unwrap();
    other.join().unwrap();
}

pub fn buffers_come_home_from_other_threads(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let before = rig.driver.pool_state();
    let (near, far) = rig.pair();
    rig.receive(far, 1);
    let (home, away) = mpsc::channel::<Buffer>();
    let other = thread::spawn(move || away.iter().map(|buffer| buffer.len()).sum::<usize>());
    let mut received = 0;
    for round in 0..200 {
        rig.until("buffers to come home", |rig| rig.driver.pool_state().send_free >= 2);
        let mut buffer = rig.driver.buffer().unwrap();
        buffer.fill_from(&pattern(round * 100, 100));
        rig.send_quiet(near, buffer, 2);
        while received < (round + 1) * 100 {
            let Outcome::Received(bytes) = rig.wait(1).outcome else { panic!("bytes were due") };
            assert_pattern(received, &bytes);
            received += bytes.len();
            home.send(bytes).unwrap();
        }
        home.send(rig.driver.buffer().unwrap()).unwrap();
    }
    drop(home);
    assert_eq!(other.join().unwrap(), 20_000);
    rig.abort(far, 3);
    rig.wait_closed(3);
    assert_eq!(rig.driver.pool_state(), before);
}
