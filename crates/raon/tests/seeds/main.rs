//! A game with everything in it, many clients, a bad network, and a stop at any moment: under many seeds.
//!
//! What must hold, whatever happens (`judge.rs`): no message is lost, duplicated, reordered or given to another session as
//! long as its session lives; every open has exactly one close; memory stays within the budget and comes back.
//!
//! ```text
//! RAON_SEED=17 cargo test -p raon --test seeds replay -- --nocapture
//! RAON_SEEDS=5000..9000 cargo test -p raon --test seeds every
//! ```

mod client;
mod game;
mod judge;
mod play;
mod random;

use std::ops::Range;
use std::panic::catch_unwind;

/// Seeds that the gate plays.
const SEEDS: Range<u64> = 0..2000;

fn play_all(seeds: Range<u64>) {
    let failed: Vec<u64> = seeds.filter(|seed| catch_unwind(|| play::play(*seed, false)).is_err()).take(3).collect();
    if let Some(seed) = failed.first() {
        panic!("seeds {failed:?}: RAON_SEED={seed} cargo test -p raon --test seeds replay -- --nocapture");
    }
}

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("RAON_SEEDS") else { return SEEDS };
    let (first, last) = text.split_once("..").expect("RAON_SEEDS=FIRST..LAST");
    first.parse().expect("a number")..last.parse().expect("a number")
}

/// In two halves, for machines with more than one core.
#[test]
fn every_seed_of_the_first_half_holds() {
    let Range { start, end } = seeds();
    play_all(start..start + (end - start) / 2);
}

#[test]
fn every_seed_of_the_second_half_holds() {
    let Range { start, end } = seeds();
    play_all(start + (end - start) / 2..end);
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [3, 50, 1234] {
        assert_eq!(play::play(seed, false), play::play(seed, false), "seed {seed}");
    }
}

/// What every seed together must have seen: otherwise the runs show less than they seem to.
#[test]
fn the_runs_see_what_they_are_there_for() {
    let mut sum = play::Summary::default();
    (0..200).for_each(|seed| sum.add(&play::play(seed, false)));
    let play::Summary { opened, received, delivered, resets, superseded, pauses, refused, late, posts, .. } = sum;
    assert!(opened > 500 && received > 10_000 && delivered > 10_000, "{sum:?}");
    assert!(resets > 50 && superseded > 50 && pauses > 50 && refused > 0 && late > 20 && posts > 200, "{sum:?}");
}

#[test]
fn replay() {
    if let Ok(seed) = std::env::var("RAON_SEED") {
        let seed = seed.parse().expect("RAON_SEED is a number");
        println!("{:?}", play::play(seed, true));
    }
}
