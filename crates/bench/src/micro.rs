//! Costs of single steps, in nanoseconds: medians of short rounds, all in this process.

mod driver;
mod engine;
mod mapping;
mod pool;
mod submitter;

use std::hint::black_box;
use std::time::{Duration, Instant};

use raon_provider::Error;
use serde::{Deserialize, Serialize};

use crate::statistics::quantile;

/// Cost of one step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) name: String,
    /// Median over the rounds.
    pub(crate) ns: f64,
    /// Quartiles.
    pub(crate) ns_low: f64,
    pub(crate) ns_high: f64,
}

/// How long and how often each step is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    pub(crate) window: Duration,
}

/// All steps.
pub(crate) fn measure(effort: Effort, mut progress: impl FnMut(&str)) -> Result<Vec<Step>, Error> {
    let mut timed = |name: &str, per_batch: u64, batch: &mut dyn FnMut()| {
        progress(name);
        step(name, effort, per_batch, batch)
    };
    let mut steps = Vec::new();
    each(|name, per_batch, batch| steps.push(timed(name, per_batch, batch)))?;
    steps.extend(submitter::measure(effort)?);
    Ok(steps)
}

/// Runs one step, chosen by its name, for exactly so many batches: for tools that count instructions. Prints how many
/// steps that were.
pub(crate) fn count(only: &str, batches: u64) -> Result<(), Error> {
    each(|name, per_batch, batch| {
        if name == only {
            (0..batches).for_each(|_| batch());
            println!("{}", batches * per_batch);
        }
    })
}

/// Names and batches of all steps that need one thread only, or whose other thread only waits.
fn each(mut visit: impl FnMut(&str, u64, &mut dyn FnMut())) -> Result<(), Error> {
    driver::each(&mut visit)?;
    pool::each(&mut visit)?;
    mapping::each(&mut visit);
    engine::each(&mut visit);
    Ok(())
}

/// What is called with a step's name, how many steps a batch is, and the batch.
type Visit<'a> = &'a mut dyn FnMut(&str, u64, &mut dyn FnMut());

/// Calls `batch`, which does `per_batch` steps, until each round's time is over.
fn step(name: &str, effort: Effort, per_batch: u64, batch: &mut dyn FnMut()) -> Step {
    batch();
    let round = |_| {
        let (start, mut batches) = (Instant::now(), 0u64);
        while start.elapsed() < effort.window {
            batch();
            batches += 1;
        }
        start.elapsed().as_nanos() as f64 / (batches * per_batch) as f64
    };
    summary(name, (0..effort.rounds).map(round).collect())
}

fn summary(name: &str, samples: Vec<f64>) -> Step {
    let of = |share| quantile(samples.clone(), share);
    Step { name: name.into(), ns: of(0.5), ns_low: of(0.25), ns_high: of(0.75) }
}

fn keep<T>(value: T) {
    black_box(value);
}
