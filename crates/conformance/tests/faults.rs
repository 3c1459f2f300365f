//! The suite under faults, seed by seed.
//!
//! The gate runs 220 seeds over four set-ups, each seed with its share of the tests. More, by hand:
//! `RAON_FAULT_SEEDS=0..50 cargo test -p raon-conformance --test faults every_test` runs each test under each seed, storms
//! included, on the set-ups named in `RAON_FAULT_SETUPS` (those of the gate), and lists at its end what failed.

use std::collections::BTreeMap;
use std::env;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use raon_conformance::faults;
use raon_conformance::setup::Setup;
use raon_conformance::{every_storm, every_test, platform};

type Test = (&'static str, fn(&Setup));

macro_rules! tests {
    ($setup:expr; $($group:ident: $($test:ident)*;)*) => {
        [$($((concat!(stringify!($group), "::", stringify!($test)), raon_conformance::$group::$test as fn(&Setup)),)*)*]
    };
}

/// With faults, and on this system.
fn can_run(setup: &Setup, name: &str) -> bool {
    faults::can_run(name) && platform::reason(Some(setup), name).is_none()
}

fn rotate(setup: &str, seeds: Range<u64>) {
    let setup = &Setup::by_name(setup);
    /// How many tests each seed runs in the gate.
    const TESTS_PER_SEED: u64 = 4;
    // Storms take seconds each; they run by hand.
    let tests: Vec<Test> = every_test!(tests, 0).into_iter().filter(|(name, _)| can_run(setup, name)).collect();
    for run in seeds.start * TESTS_PER_SEED..seeds.end * TESTS_PER_SEED {
        // A step that has no divisor in common with any number of tests below it: all have their turn.
        let (name, test) = tests[(run * 997) as usize % tests.len()];
        faults::run(setup, name, test, run / TESTS_PER_SEED);
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use super::rotate;

    #[test]
    fn epoll() {
        rotate("epoll", 0..70);
    }

    #[test]
    fn io_uring() {
        rotate("io_uring_defer", 70..140);
    }

    #[test]
    fn epoll_unix() {
        rotate("epoll_unix", 140..180);
    }

    #[test]
    fn io_uring_unix() {
        rotate("io_uring_defer_unix", 180..220);
    }
}

#[cfg(any(target_vendor = "apple", target_os = "freebsd", raon_kqueue_shim))]
#[test]
fn kqueue() {
    rotate("kqueue", 220..260);
}

#[cfg(windows)]
#[test]
fn iocp() {
    rotate("iocp", 260..300);
}

#[cfg(windows)]
#[test]
fn rio() {
    rotate("rio", 300..340);
}

fn all() -> Vec<Test> {
    [&every_test!(tests, 0)[..], &every_storm!(tests, 0)].concat()
}

#[test]
fn every_exception_is_about_a_test() {
    for exception in faults::EXCEPTIONS {
        assert!(all().iter().any(|(name, _)| *name == exception.test), "{} is no test", exception.test);
    }
}

#[test]
fn every_test() {
    let Ok(range) = env::var("RAON_FAULT_SEEDS") else { return };
    let (first, last) = range.split_once("..").expect("first..last");
    let seeds: Range<u64> = first.parse().expect("a number")..last.parse().expect("a number");
    let setups = env::var("RAON_FAULT_SETUPS").unwrap_or("epoll io_uring_defer epoll_unix io_uring_defer_unix".into());
    let mut failed = BTreeMap::<&str, Vec<String>>::new();
    for (seed, setup) in seeds.flat_map(|seed| setups.split(' ').map(move |setup| (seed, setup))) {
        let setup = Setup::by_name(setup);
        for (name, test) in all().into_iter().filter(|(name, _)| can_run(&setup, name)) {
            let run = || faults::run(&setup, name, test, seed);
            if catch_unwind(AssertUnwindSafe(run)).is_err() {
                failed.entry(name).or_default().push(format!("{}/{seed}", setup.name));
            }
        }
    }
    assert!(failed.is_empty(), "failed: {failed:#?}");
}

/// One run again, see `faults::run`. What the system does in between is its own, so it gets some tries.
#[test]
fn replay() {
    let Ok(wanted) = env::var(faults::REPLAY) else { return };
    let [setup, name, seed] = wanted.splitn(3, '/').collect::<Vec<_>>()[..] else {
        panic!("set-up/test/seed: {wanted}")
    };
    let (name, test) = all().into_iter().find(|(known, _)| *known == name).expect("a test's name");
    for _ in 0..20 {
        faults::run(&Setup::by_name(setup), name, test, seed.parse().expect("a number"));
    }
}
