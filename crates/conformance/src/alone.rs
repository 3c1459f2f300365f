//! One test at a time in the process, and no descriptor left behind.

use std::io::Write;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::platform::{self, descriptors};
use crate::setup::Setup;
use crate::simulated;

static ALONE: Mutex<()> = Mutex::new(());

/// Runs a test of one set-up alone, unless it cannot run there.
pub fn run(setup: &Setup, name: &str, test: fn(&Setup)) {
    if let Some(reason) = platform::reason(Some(setup), name).or_else(|| simulated::reason(setup, name)) {
        return println!("not on {}: {reason}", setup.name);
    }
    run_with(|| {
        simulated::enter(setup.plan);
        test(setup);
    });
}

/// Runs a test about the choice of a back end alone, unless it cannot run on this system.
pub fn run_choice(name: &str, test: fn()) {
    match platform::reason(None, name) {
        Some(reason) => println!("not on {}: {reason}", std::env::consts::OS),
        None => run_with(test),
    }
}

/// Runs anything alone: descriptors can be counted, limits and switches of the process or the system changed.
pub fn run_with(test: impl FnOnce()) {
    run_as(thread::current().name().unwrap_or("a test"), test);
}

/// The same under a name of one's own, for the report of a test that hangs.
pub fn run_as(name: &str, test: impl FnOnce()) {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let _watch = watch(name.to_owned());
    let before = descriptors();
    test();
    let deadline = Instant::now() + Duration::from_secs(5);
    while descriptors().len() > before.len() {
        let left: Vec<_> = descriptors().into_iter().filter(|(number, _)| !before.contains_key(number)).collect();
        assert!(Instant::now() < deadline, "descriptors left behind: {left:?}");
        // tidy: sleep — the kernel closes what a ring held some time after the ring's end, and tells nobody.
        thread::sleep(Duration::from_millis(1));
    }
}

/// Ends the process if the test hangs; drop it when the test has ended.
fn watch(name: String) -> mpsc::Sender<()> {
    let (alive, ended) = mpsc::channel();
    thread::spawn(move || {
        if ended.recv_timeout(platform::HANGS_AFTER) == Err(mpsc::RecvTimeoutError::Timeout) {
            // Past the capture of output, which nobody would read any more.
            let _ = writeln!(std::io::stderr(), "{name} hangs");
            std::process::abort();
        }
    });
    alive
}
