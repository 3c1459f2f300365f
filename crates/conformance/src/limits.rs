//! Bounds, what is said at the bound, and that the bound is kept.

//= LIMIT-1

use std::time::Duration;

use raon_provider::{Config, Driver, ErrorKind, Outcome};

use crate::random::{assert_pattern, pattern};
use crate::rig::{Rig, refusal};
use crate::setup::Setup;

const FULL: u64 = 1 << 40;

pub fn a_peer_that_never_reads_makes_busy(setup: &Setup) {
    const BOUND: usize = 100_000;
    let mut rig = Rig::with(setup, |config| {
        config.send_queue_bytes_max = BOUND as u32;
        config.send_queue_count_max = 64;
    });
    let (socket, mut peer) = rig.peer_with_buffers(65_536, 262_144);
    let writable = |each: &raon_provider::Completion| matches!(each.outcome, Outcome::Writable);
    let (mut accepted, mut token, mut refused, mut is_full) = (0, 0, 0, false);
    while !is_full {
        for _ in 0..100 {
            token += 1;
            match rig.try_send(socket, pattern(accepted, 3000), token) {
                Ok(_) => accepted += 3000,
                Err(back) => {
                    assert_eq!((back.error.kind(), back.value.len()), (ErrorKind::Busy, 3000));
                    refused = token;
                }
            }
            rig.turns(1);
            let stats = rig.driver.stats();
            let held = accepted - stats.sent_bytes as usize;
            assert!(held <= BOUND && stats.pending <= 64, "{held} bytes are held");
        }
        // The window of the peer still grows for a while, as acknowledgements come; the last refusal may be made good then.
        let told = rig.seen().filter(writable).count();
        rig.timer(Duration::from_millis(60), FULL);
        rig.wait(FULL);
        is_full = told + rig.seen().count() == 0 && refused == token;
    }
    assert_pattern(0, &peer.read(&mut rig, accepted));
    let completion = rig.wait_for("Writable", writable);
    assert_eq!((completion.token, completion.socket), (refused, socket));
    rig.until("all sends to end", |rig| rig.driver.stats().pending == 0);
    assert!(!rig.seen().any(|each| writable(&each)), "Writable comes once");
    rig.send(socket, vec![1; 3000], 5000);
    assert!(matches!(rig.wait(5000).outcome, Outcome::Sent(_)));
    assert!(!rig.seen().any(|each| writable(&each)), "what was told is owed no longer");
    // A message larger than the whole bound goes into an empty queue: else it could never be sent.
    rig.send(socket, pattern(0, 3 * BOUND), 6000);
    assert_eq!(refusal(rig.try_send(socket, vec![1], 6001)), ErrorKind::Busy);
    peer.read(&mut rig, 3000);
    assert_pattern(0, &peer.read(&mut rig, 3 * BOUND));
}

/// Who keeps a queue of his own has at most one send in the driver, and hears when it has ended.
pub fn writable_comes_when_nothing_is_queued(setup: &Setup) {
    const LENGTH: usize = 2_000_000;
    const EACH: usize = LENGTH / 20;
    let mut rig = Rig::with(setup, |config| config.send_queue_bytes_max = 3_000_000);
    let (socket, mut peer) = rig.peer_with_buffers(65_536, 65_536);
    assert!(rig.driver.writable(socket, 1).unwrap());
    rig.send_quiet(socket, pattern(0, 100), 2);
    rig.until("a small send to end by itself", |rig| rig.driver.stats().pending == 0);
    assert!(rig.driver.writable(socket, 3).unwrap());
    for place in 0..20 {
        rig.send_quiet(socket, pattern(100 + place * EACH, EACH), 4);
    }
    assert!(!rig.driver.writable(socket, 5).unwrap(), "it is queued");
    rig.turns(3);
    assert!(!rig.driver.writable(socket, 6).unwrap(), "the kernel does not take so much at once");
    let mut received = peer.read(&mut rig, LENGTH / 2);
    rig.assert_nothing_seen();
    received.extend(peer.read(&mut rig, 100 + LENGTH / 2));
    assert_pattern(0, &received);
    let completion = rig.next_completion();
    assert!(matches!(completion.outcome, Outcome::Writable), "{completion:?}");
    assert_eq!((completion.token, completion.socket), (6, socket), "the last question counts");
    assert!(rig.driver.writable(socket, 7).unwrap());
    rig.settle();
    rig.assert_nothing_seen();
    // A queue that is emptied by a cancel, or by a failure, is empty too.
    let send = rig.send(socket, vec![1; 10], 8);
    assert!(!rig.driver.writable(socket, 9).unwrap());
    rig.cancel(send);
    assert!(matches!(rig.wait(9).outcome, Outcome::Writable));
    rig.wait(8);
    rig.shutdown_write(socket, 10);
    assert_eq!(refusal(rig.driver.writable(socket, 11)), ErrorKind::WriteClosed);
    rig.wait(10);
    rig.abort(socket, 12);
    assert_eq!(refusal(rig.driver.writable(socket, 13)), ErrorKind::Stale);
    rig.wait_closed(12);
    let (listener, _) = rig.listen();
    assert_eq!(refusal(rig.driver.writable(listener, 14)), ErrorKind::InvalidInput);
}

pub fn the_table_of_sockets_is_bounded(setup: &Setup) {
    let mut rig = Rig::with(setup, |config| config.sockets_max = 3);
    let (first, _first_peer) = rig.peer();
    let (_second, _second_peer) = rig.peer();
    let (_listener, address) = rig.listen();
    let (near, mut peer) = crate::peer::connection(setup, 0, 0);
    let refused = rig.driver.adopt(near).unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::Busy);
    assert_eq!(refusal(rig.driver.connect(&address, &Default::default(), 1)), ErrorKind::Busy);
    assert_eq!(refusal(rig.driver.listen(address, &Default::default())), ErrorKind::AddressInUse);
    assert_eq!(refusal(rig.driver.listen(setup.address(), &Default::default())), ErrorKind::Busy);
    rig.abort(first, 2);
    rig.wait_closed(2);
    let socket = rig.adopt(refused.value);
    rig.send_quiet(socket, b"raon".as_slice(), 3);
    assert_eq!(peer.read(&mut rig, 4), b"raon");
}

pub fn the_table_of_operations_is_bounded(setup: &Setup) {
    let mut rig = Rig::with(setup, |config| config.operations_max = 10);
    let (socket, mut peer) = rig.peer();
    let (listener, address) = rig.listen();
    let timers: Vec<_> = (0..10).map(|_| rig.timer(Duration::from_secs(60), 1)).collect();
    let driver = &mut rig.driver;
    assert_eq!(refusal(driver.timer(Duration::ZERO, 2)), ErrorKind::Busy);
    assert_eq!(refusal(driver.accept(listener, 2)), ErrorKind::Busy);
    assert_eq!(refusal(driver.receive(socket, 2)), ErrorKind::Busy);
    assert_eq!(refusal(driver.receive_into(socket, vec![1], 2)), ErrorKind::Busy);
    assert_eq!(refusal(driver.shutdown_write(socket, 2)), ErrorKind::Busy);
    assert_eq!(refusal(driver.connect(address, &Default::default(), 2)), ErrorKind::Busy);
    rig.cancel(timers[3]);
    rig.wait(1);
    rig.receive(socket, 3);
    peer.write(&mut rig, b"raon");
    assert_eq!(rig.wait_bytes(3, 4), b"raon");
    // A close needs no room.
    rig.close(socket, Duration::from_secs(20), 4);
    drop(peer);
    rig.wait_closed(4);
}

pub fn a_socket_refused_for_want_of_operations_is_told(setup: &Setup) {
    let mut rig = Rig::with(setup, |config| config.operations_max = 4);
    let (first, _first_peer) = rig.peer();
    let (second, _second_peer) = rig.peer();
    let timers: Vec<_> = (0..4).map(|_| rig.timer(Duration::from_secs(60), 1)).collect();
    assert_eq!(refusal(rig.try_send(first, vec![1], 5)), ErrorKind::Busy);
    assert_eq!(refusal(rig.try_send(second, vec![1], 6)), ErrorKind::Busy);
    rig.turns(3);
    rig.assert_nothing_seen();
    rig.cancel(timers[0]);
    for (token, socket) in [(5, first), (6, second)] {
        let completion = rig.wait(token);
        assert!(matches!(completion.outcome, Outcome::Writable) && completion.socket == socket, "{completion:?}");
    }
}

pub fn a_wrong_configuration_is_refused(setup: &Setup) {
    let changes: [fn(&mut Config); 16] = [
        |config| config.sockets_max = 0,
        |config| config.sockets_max = 1 << 20,
        |config| config.operations_max = 0,
        |config| config.operations_max = u32::MAX,
        |config| config.mailbox_capacity = 0,
        |config| config.send_queue_bytes_max = 0,
        |config| config.send_queue_count_max = 0,
        |config| config.turn_bytes_max = 0,
        |config| config.pool.receive_count = 0,
        |config| config.pool.receive_count = 32_769,
        |config| config.pool.bulk_count = 0,
        |config| config.pool.send_count = config.pool.receive_count + 1,
        |config| config.pool.buffer_bytes = 0,
        |config| config.pool.buffer_bytes = 4095,
        |config| config.pool.bulk_bytes = 4097,
        |config| config.pool.bulk_bytes = 1 << 25,
    ];
    for (place, change) in changes.iter().enumerate() {
        let mut config = setup.config();
        change(&mut config);
        let opened = Driver::open(&config);
        assert_eq!(opened.err().map(|error| error.kind()), Some(ErrorKind::InvalidInput), "change {place}");
    }
    let mut rig = Rig::with(setup, |config| {
        config.pool.send_count = 0;
        config.pool.receive_count = 1;
        config.uring.submission_entries = 0;
    });
    assert!(rig.driver.buffer().is_none());
}

pub fn statistics_count_what_happened(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (listener, address) = rig.listen();
    rig.accept(listener, 1);
    rig.connect(address, 2);
    let connected = rig.wait(2).socket;
    let Outcome::Accepted(accepted) = rig.wait(1).outcome else { panic!("a connection was due") };
    let accepted = rig.adopt(accepted);
    rig.receive_into(accepted, 100, 3);
    rig.send(connected, vec![1; 60], 4);
    rig.wait(3);
    rig.wait(4);
    assert_eq!(refusal(rig.try_send(connected, b"".as_slice(), 5)), ErrorKind::InvalidInput);
    let timer = rig.timer(Duration::from_secs(60), 6);
    rig.cancel(timer);
    rig.wait(6);
    let stats = rig.driver.stats();
    assert_eq!((stats.requests, stats.completions, stats.pending, stats.errors), (5, 5, 1, 1), "{stats:?}");
    assert_eq!((stats.sent_bytes, stats.received_bytes, stats.accepted), (60, 60, 1), "{stats:?}");
    assert_eq!((stats.sockets, stats.refused, stats.accept_pauses, stats.shed), (3, 1, 0, 0), "{stats:?}");
    assert!(stats.turns > 0 && stats.kernel_entries > 0);
}
