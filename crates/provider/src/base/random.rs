//! Numbers that look random and are the same for the same seed, on every machine: splitmix64. It is small and fast, and any
//! seed will do.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the state moves on by.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// A generator.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// True at this rate. What never happens takes no number out of the sequence.
    pub(crate) fn chance(&mut self, rate: f64) -> bool {
        rate > 0.0 && ((self.bits() >> 11) as f64) < rate * (1u64 << 53) as f64
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for place in (1..items.len()).rev() {
            let other = self.below(place + 1);
            items.swap(place, other);
        }
    }
}

/// A generator that several threads draw from: each draw is one of its own.
pub(crate) struct SharedRandom(AtomicU64);

impl SharedRandom {
    pub(crate) fn new(seed: u64) -> Self {
        SharedRandom(AtomicU64::new(seed))
    }

    pub(crate) fn draw(&self) -> Random {
        Random(self.0.fetch_add(STEP, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        let mut random = Random::new(1_234_567);
        assert_eq!([random.bits(), random.bits()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
        let shared = SharedRandom::new(1_234_567);
        assert_eq!(
            [shared.draw().bits(), shared.draw().bits()],
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]
        );
    }

    #[test]
    fn rates_hold_and_nothing_is_lost_in_a_shuffle() {
        let mut random = Random::new(1);
        let hits = (0..10_000).filter(|_| random.chance(0.25)).count();
        assert!((2300..2700).contains(&hits), "{hits}");
        assert!((0..100).all(|_| !random.chance(0.0)) && (0..100).all(|_| random.chance(1.0)));
        assert!((0..100).all(|_| random.below(3) < 3));
        let mut items: Vec<u32> = (0..100).collect();
        random.shuffle(&mut items);
        assert!(!items.is_sorted());
        items.sort_unstable();
        assert!(items.iter().copied().eq(0..100));
    }
}
