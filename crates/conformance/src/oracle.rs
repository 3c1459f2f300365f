//! The oracle: random sequences of operations, played on a driver and on a plain model of the clauses, and compared.
//!
//! 1. `plan` makes a sequence: steps of four numbers each, under one of the configurations of `shape`.
//! 2. `play` does each step on the driver. Every answer to a submit and every completion goes to the model (`model`,
//!    `answer`, `judge`), which fails unless the clauses allow it now; every byte goes through a `pipe`, which knows what it must be.
//! 3. `end` lets everything happen that is under way and fails if something is missing: nothing is lost in silence. Or the
//!    driver is shut down, or dropped, in the middle of it.
//!
//! What fails is cut down to a short sequence and printed as one line that plays it again.

mod answer;
mod connections;
mod datagram;
mod end;
mod judge;
mod material;
mod model;
mod pipe;
mod plan;
mod play;
mod shape;
mod verb;

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use crate::setup::Setup;
use crate::{alone, simulated};

use plan::{Plan, Verbs};

/// Plans per set-up, unless `ORACLE_CASES` says another number.
const CASES: u32 = 40;
const STEPS_MAX: usize = 60;

/// Plays random plans on the set-up. The same seed (`ORACLE_SEED`, a number) makes the same plans. What fails is cut down
/// for at most a minute, or `ORACLE_SHRINK_MS`.
pub fn explore(setup: &Setup) {
    explore_all::<verb::Verb>(setup);
}

/// The same with datagrams.
pub fn explore_datagrams(setup: &Setup) {
    explore_all::<datagram::Verb>(setup);
}

/// Plays one plan, telling what happens.
pub fn replay(setup: &Setup, plan: &str) {
    match plan.strip_prefix(datagram::Verb::PREFIX) {
        Some(plan) => replay_one::<datagram::Verb>(setup, plan),
        None => replay_one::<verb::Verb>(setup, plan),
    }
}

fn explore_all<V: Verbs>(setup: &Setup) {
    let seed: u64 = number("ORACLE_SEED").unwrap_or(0);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(
        &setup.name.bytes().fold(0u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte))).to_le_bytes(),
    );
    let config = Config {
        cases: number("ORACLE_CASES").map_or(CASES, |cases| cases as u32),
        failure_persistence: None,
        max_shrink_time: number("ORACLE_SHRINK_MS").map_or(60_000, |time| time as u32),
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let (played, failed_at) = (Cell::new(0), Cell::new(None));
    let result = runner.run(&plan::plans::<V>(STEPS_MAX), |plan| {
        played.set(played.get() + 1);
        quietly(|| play_alone(setup, &plan, false)).map_err(|reason| {
            failed_at.set(failed_at.get().or(Some(played.get())));
            TestCaseError::fail(reason)
        })
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, plan)) => {
            let (at, line) = (failed_at.get().unwrap_or(0), replay_line(setup, &plan));
            panic!("{reason}\nplan {at} has failed; cut down to {} steps:\n{line}", plan.steps.len())
        }
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}

fn replay_one<V: Verbs>(setup: &Setup, plan: &str) {
    let plan: Plan<V> = plan.parse().unwrap_or_else(|error| panic!("{error}"));
    play_alone(setup, &plan, true);
}

fn replay_line<V: Verbs>(setup: &Setup, plan: &Plan<V>) -> String {
    let what = format!("{} {}{plan}", setup.name, V::PREFIX);
    format!("ORACLE_REPLAY='{what}' cargo test -p raon-conformance --test oracle replay -- --nocapture")
}

fn play_alone<V: Verbs>(setup: &Setup, plan: &Plan<V>, is_verbose: bool) {
    alone::run_with(|| {
        simulated::enter(setup.plan);
        V::play(setup, plan, is_verbose);
    });
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not `{text}`")))
}

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
    static MESSAGE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The message of a panic with its place, kept instead of printed: cutting a plan down fails many times.
fn quietly(work: impl FnOnce()) -> Result<(), String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if IS_QUIET.get() {
                MESSAGE.set(info.to_string());
            } else {
                loud(info);
            }
        }));
    });
    IS_QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    IS_QUIET.set(false);
    result.map_err(|_| MESSAGE.take())
}
