//! Requests from another thread.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use raon_provider::{Completions, Config, Driver, Error, Operation};

use super::{Effort, Step, summary};

const BATCH: u64 = 1000;

pub(super) fn measure(effort: Effort) -> Result<Vec<Step>, Error> {
    Ok(vec![busy(effort)?, asleep(effort)?])
}

fn open() -> Result<(Driver, Completions), Error> {
    Ok((Driver::open(&Config::default())?, Completions::with_capacity(1024)))
}

/// What the submitting thread pays while the owner never sleeps.
fn busy(effort: Effort) -> Result<Step, Error> {
    let (mut driver, mut completions) = open()?;
    let submitter = driver.submitter();
    let (done, taken_out) = (AtomicBool::new(false), AtomicU64::new(0));
    let samples = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let round = |_| {
                let (mut spent, mut count) = (Duration::ZERO, 0);
                while spent < effort.window {
                    let before = taken_out.load(Ordering::Acquire);
                    let start = Instant::now();
                    for token in 0..BATCH {
                        let timer = Operation::Timer { after: Duration::ZERO };
                        submitter.submit(timer, token).expect("the mailbox holds a batch");
                    }
                    spent += start.elapsed();
                    count += BATCH;
                    // Not timed: else a full mailbox, and so the owner's speed, would be measured.
                    while taken_out.load(Ordering::Acquire) < before + BATCH {
                        std::hint::spin_loop();
                    }
                }
                spent.as_nanos() as f64 / count as f64
            };
            let samples = (0..effort.rounds).map(round).collect();
            done.store(true, Ordering::Relaxed);
            samples
        });
        while !done.load(Ordering::Relaxed) {
            driver.poll(Some(Duration::ZERO), &mut completions).expect("polls");
            let count = completions.drain().map(drop).count();
            taken_out.fetch_add(count as u64, Ordering::Release);
        }
        thread.join().expect("does not panic")
    });
    Ok(summary("submit from another thread, owner busy", samples))
}

/// From the submit that wakes a sleeping owner until its completion is in the owner's hands.
fn asleep(effort: Effort) -> Result<Step, Error> {
    let (mut driver, mut completions) = open()?;
    let submitter = driver.submitter();
    let (ready, told) = std::sync::mpsc::channel::<()>();
    let (posted, post) = std::sync::mpsc::channel::<Instant>();
    let count = effort.rounds * 20;
    let samples = std::thread::scope(|scope| {
        scope.spawn(move || {
            while told.recv().is_ok() {
                // The owner is on its way into the kernel: give it time to fall asleep there.
                std::thread::sleep(Duration::from_micros(200));
                let start = Instant::now();
                let submitted = submitter.submit(Operation::Timer { after: Duration::ZERO }, 0);
                if submitted.is_err() || posted.send(start).is_err() {
                    return;
                }
            }
        });
        let mut samples = Vec::with_capacity(count);
        for _ in 0..count {
            ready.send(()).expect("the thread lives");
            driver.poll(None, &mut completions).expect("polls");
            let end = Instant::now();
            completions.drain().for_each(drop);
            samples.push((end - post.recv().expect("it was posted")).as_nanos() as f64);
        }
        drop(ready);
        samples
    });
    Ok(summary("submit from another thread to completion, owner asleep", samples))
}
