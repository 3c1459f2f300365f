//! Ends of drivers, and what outlives them.

//= DROP-1

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use raon_provider::{Completions, Config, Driver, ErrorKind};

use crate::child;
use crate::ownership::tracked;
use crate::random::{assert_pattern, pattern};
use crate::rig::{PATIENCE, Rig, refusal};
use crate::setup::Setup;
use crate::simulated::Moment;

pub fn a_drop_with_a_thousand_operations_in_flight(setup: &Setup) {
    let leaked = raon_provider::leaked_operations();
    let mut driver = setup.open();
    let dropped = Arc::new(AtomicUsize::new(0));
    let mut peers = Vec::new();
    for place in 0..200 {
        let (near, peer) = crate::peer::connection(setup, 8192, 8192);
        peers.push(peer);
        let socket = driver.adopt(near).unwrap();
        if place % 2 == 0 {
            driver.receive(socket, 1).unwrap();
        } else {
            driver.receive_into(socket, vec![0; 100], 1).unwrap();
        }
        driver.send(socket, tracked(vec![1; 200_000], &dropped), 1).unwrap();
        driver.send(socket, tracked(vec![1; 100], &dropped), 1).unwrap();
        driver.send_quiet(socket, tracked(vec![1; 100], &dropped), 1).unwrap();
        driver.timer(Duration::from_secs(60), 1).unwrap();
    }
    let listener = driver.listen(setup.address(), &Default::default()).unwrap();
    driver.accept(listener, 1).unwrap();
    let mut completions = Completions::with_capacity(64);
    for _ in 0..3 {
        driver.poll(Some(Duration::from_millis(1)), &mut completions).unwrap();
    }
    let pending = driver.stats().pending;
    assert!(pending >= 1000, "{pending}");
    let start = Instant::now();
    drop(driver);
    assert!(start.elapsed() < Duration::from_secs(1), "no peer is waited for: {:?}", start.elapsed());
    assert_eq!(dropped.load(Ordering::SeqCst), 600, "every payload was let go of");
    assert_eq!(raon_provider::leaked_operations(), leaked);
    let deadline = Instant::now() + PATIENCE;
    for peer in &mut peers {
        let mut chunk = vec![0; 65_536];
        // What is still on its way comes before the end.
        while matches!(peer.read_some(&mut chunk), Ok(None | Some(1..))) {
            assert!(Instant::now() < deadline, "every connection has ended, in one way or the other");
        }
    }
}

/// What is leaked is leaked for good, so this runs in a child.
pub fn a_passed_drain_deadline_leaks_and_counts(setup: &Setup) {
    child::run("leak", setup.name, &[]);
}

/// The child's part: with no time to drain, what the kernel may still hold is not freed.
pub fn leak(setup: Setup) {
    let leaked = raon_provider::leaked_operations();
    let config = setup.config().with(|config| config.drain_deadline = Duration::ZERO);
    let mut driver = Driver::open(&config).unwrap();
    let dropped = Arc::new(AtomicUsize::new(0));
    let (near, _peer) = crate::peer::connection(&setup, 8192, 8192);
    let socket = driver.adopt(near).unwrap();
    driver.receive_into(socket, vec![0; 100], 1).unwrap();
    driver.send(socket, tracked(vec![1; 1 << 20], &dropped), 1).unwrap();
    // The second turn finds the socket full and leaves the send with the back end.
    for _ in 0..3 {
        driver.poll(Some(Duration::ZERO), &mut Completions::with_capacity(1)).unwrap();
    }
    drop(driver);
    assert_eq!(raon_provider::leaked_operations() - leaked, 2);
    assert_eq!(dropped.load(Ordering::SeqCst), 0, "the payload was given up, not freed");
    assert_eq!(setup.open().stats().leaked, leaked + 2);
    assert!(
        crate::platform::descriptors().values().all(|what| !what.contains("eventfd")),
        "memory is leaked, nothing else"
    );
}

pub fn a_shut_driver_refuses_everything(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (near, far) = rig.pair();
    rig.receive(near, 1);
    rig.timer(Duration::from_secs(60), 2);
    rig.turns(1);
    let mut completions = Completions::with_capacity(1);
    rig.driver.shutdown(&mut completions);
    let ended: Vec<_> = completions.drain().collect();
    ended.iter().for_each(|completion| rig.ledger.book(completion));
    assert_eq!(ended.len(), 4, "the stream, the timer, and Closed for either socket: {ended:?}");
    let address = setup.address();
    let driver = &mut rig.driver;
    assert_eq!(refusal(driver.listen(&address, &Default::default())), ErrorKind::Closed);
    assert_eq!(refusal(driver.connect(&address, &Default::default(), 1)), ErrorKind::Closed);
    assert_eq!(refusal(driver.timer(Duration::ZERO, 1)), ErrorKind::Closed);
    assert_eq!(refusal(driver.adopt(crate::peer::connection(setup, 0, 0).0)), ErrorKind::Closed);
    assert_eq!(refusal(driver.send(far, vec![1], 1)), ErrorKind::Stale);
    driver.shutdown(&mut completions);
    assert_eq!(driver.poll(Some(Duration::ZERO), &mut completions).unwrap(), 0);
}

pub fn buffers_outlive_their_driver(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (near, far) = rig.pair();
    rig.receive(far, 1);
    rig.send(near, pattern(0, 200), 2);
    let received = match rig.wait(1).outcome {
        raon_provider::Outcome::Received(bytes) => bytes,
        other => panic!("{other:?}"),
    };
    rig.wait(2);
    let mut lent = setup.open();
    let mut own = lent.buffer().unwrap();
    let away = lent.buffer().unwrap();
    drop(lent);
    own.fill_from(&pattern(200, 100));
    std::thread::spawn(move || drop(away)).join().unwrap();
    // A buffer of a driver that is gone can still be sent by another.
    rig.send_quiet(near, own, 3);
    assert_pattern(200, &rig.wait_bytes(1, 100));
    assert_pattern(0, &received);
}

fn small(config: &mut Config) {
    config.sockets_max = 16;
    config.operations_max = 64;
    config.pool.receive_count = 8;
    config.pool.send_count = 4;
    config.pool.bulk_count = 1;
}

fn assert_works(rig: &mut Rig) {
    let (near, far) = rig.pair();
    rig.receive_into(far, 10, 1);
    rig.send(near, b"raon".as_slice(), 2);
    rig.wait(1);
    rig.wait(2);
    rig.abort(near, 3);
    rig.abort(far, 3);
    rig.wait_closed(3);
    rig.wait_closed(3);
}

/// More at once than a thread can register ring descriptors (16), and more in a row.
pub fn drivers_come_and_go_in_one_thread(setup: &Setup) {
    let mut rigs: Vec<_> = (0..20).map(|_| Rig::with(setup, small)).collect();
    rigs.iter_mut().for_each(assert_works);
    for place in [3, 0, 10, 5] {
        drop(rigs.swap_remove(place));
    }
    rigs.iter_mut().for_each(assert_works);
    drop(rigs);
    for _ in 0..10 {
        assert_works(&mut Rig::with(setup, small));
    }
}

/// Setting up and closing a ring interrupts the thread's waits without any signal (EINTR).
pub fn rings_that_come_and_go_do_not_disturb_a_wait(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer();
    rig.receive(socket, 1);
    for round in 0..5 {
        let other = Rig::with(&crate::platform::RIVAL.map_or(*setup, Setup::by_name), small);
        let start = Moment::now();
        if round % 2 == 0 {
            drop(other);
        }
        assert_eq!(rig.poll(Some(Duration::from_millis(10))), 0);
        assert!(start.elapsed() >= Duration::from_millis(10));
        assert_eq!(peer.write_some(b"raon"), 4);
        assert_eq!(rig.wait_bytes(1, 4), b"raon");
    }
}
