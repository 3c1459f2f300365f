//! Deadlines and clocks.

//= TIME-1

use std::time::Duration;

use raon_provider::{ErrorKind, Outcome};

use crate::random::Random;
use crate::rig::Rig;
use crate::setup::Setup;
use crate::simulated::{Moment, idle};

pub fn timers_fire_in_order_and_not_early(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let start = Moment::now();
    for after in [30, 5, 20, 0, 10, 25, 15] {
        rig.timer(Duration::from_millis(after), after);
    }
    for after in [0, 5, 10, 15, 20, 25, 30] {
        let completion = rig.next_completion();
        assert!(completion.token == after && matches!(completion.outcome, Outcome::Expired), "{completion:?}");
        assert!(start.elapsed() >= Duration::from_millis(after), "{after} ms fired early: {:?}", start.elapsed());
    }
    assert!(start.elapsed() < Duration::from_secs(5));
    // The clock of the last turn may be old: a timer counts from its submission.
    idle(Duration::from_millis(15));
    let submitted = Moment::now();
    rig.timer(Duration::from_millis(10), 1);
    while rig.poll(None) == 0 {}
    assert!(submitted.elapsed() >= Duration::from_millis(10));
}

pub fn ten_thousand_timers(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let mut random = Random::new(5);
    let start = Moment::now();
    let timers: Vec<_> = (0..10_000)
        .map(|_| {
            let after = random.below(30_000) as u64;
            (after, rig.timer(Duration::from_micros(after), after))
        })
        .collect();
    for (_, timer) in timers.iter().step_by(3) {
        // One that has fired is not cancelled any more: none has, without a turn.
        rig.cancel(*timer);
    }
    let (mut fired, mut cancelled) = (Vec::new(), 0);
    while fired.len() + cancelled < 10_000 {
        let completion = rig.next_completion();
        match completion.outcome {
            Outcome::Expired => fired.push(completion.token),
            Outcome::Failed { error, .. } if error.kind() == ErrorKind::Cancelled => cancelled += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(cancelled, 3334);
    // Deadlines lie microseconds after their submission, which takes as long itself: order holds where they are far apart.
    let mut highest = 0;
    for after in fired {
        assert!(after + 30_000 + start.elapsed().as_micros() as u64 > highest);
        highest = highest.max(after);
    }
}

pub fn a_cancelled_timer_does_not_fire(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let cancelled = rig.timer(Duration::from_millis(5), 1);
    rig.timer(Duration::from_millis(10), 2);
    rig.cancel(cancelled);
    assert_eq!(rig.wait_failure(1).0, ErrorKind::Cancelled);
    rig.wait(2);
    rig.settle();
    rig.assert_nothing_seen();
}

pub fn a_poll_ends_at_its_timeout(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, mut peer) = rig.peer();
    rig.receive(socket, 1);
    let start = Moment::now();
    assert_eq!(rig.poll(Some(Duration::from_millis(20))), 0);
    let elapsed = start.elapsed();
    assert!((Duration::from_millis(20)..Duration::from_secs(5)).contains(&elapsed), "{elapsed:?}");
    let start = Moment::now();
    assert_eq!(rig.poll(Some(Duration::ZERO)), 0);
    assert!(start.elapsed() < Duration::from_millis(500), "no wait");
    // An end of the wait and a completion at the same moment: the completion counts.
    for _ in 0..50 {
        assert_eq!(peer.write_some(b"x"), 1);
        let start = Moment::now();
        while rig.poll(Some(Duration::from_nanos(1))) == 0 {
            assert!(start.elapsed() < Duration::from_secs(5));
        }
        assert_eq!(rig.wait_bytes(1, 1), b"x");
    }
    assert!(rig.driver.now_ns() > 0);
    // What is due later, here the next try at a full backlog, is not waited for. Virtual time says so to the nanosecond.
    let full = crate::endpoints::FullBacklog::new(setup);
    rig.connect(&full.address, 2);
    rig.turns(2);
    let limit = if setup.is_simulated() { Duration::from_micros(100) } else { Duration::from_secs(5) };
    for _ in 0..20 {
        let start = Moment::now();
        assert_eq!(rig.poll(Some(Duration::from_micros(100))), 0);
        assert!(start.elapsed() <= limit, "{:?}", start.elapsed());
    }
}

pub fn latencies_are_counted(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (listener, address) = rig.listen();
    rig.accept(listener, 1);
    rig.connect(address, 2);
    let connected = rig.wait(2).socket;
    let Outcome::Accepted(accepted) = rig.wait(1).outcome else { panic!("a connection was due") };
    let accepted = rig.adopt(accepted);
    for _ in 0..20 {
        rig.receive_into(accepted, 10, 3);
        rig.send(connected, vec![1; 10], 4);
        rig.wait(3);
        rig.wait(4);
        rig.timer(Duration::from_millis(1), 5);
        rig.wait(5);
    }
    let stats = rig.driver.stats();
    for (latency, count) in [(stats.connect, 1), (stats.receive_into, 20), (stats.send, 20), (stats.timer_lag, 20)] {
        assert_eq!(latency.count, count, "{stats:?}");
        assert!(latency.p50_ns <= latency.p99_ns && latency.p99_ns <= latency.p999_ns, "{latency:?}");
        assert!(latency.average_ns >= 0.0 && latency.p999_ns < 10_000_000_000, "{latency:?}");
    }
}
