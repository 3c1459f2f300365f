//! Numbers that look random and are the same in every run, and bytes that say where they belong.

use std::sync::LazyLock;

/// A generator: xorshift64*.
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.bits() >> 11) as usize % bound
    }
}

/// A prime, so that no power of two of bytes lost or doubled goes unseen.
const PERIOD: usize = 65_521;

static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Random::new(1);
    (0..PERIOD).map(|_| random.bits() as u8).collect()
});

/// The bytes of an endless stream from `start` on: a lost, doubled or exchanged byte shows.
pub fn pattern(start: usize, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let rest = &BYTES[(start + bytes.len()) % PERIOD..];
        bytes.extend_from_slice(&rest[..rest.len().min(length - bytes.len())]);
    }
    bytes
}

/// Fails at the first byte that is not the stream's.
pub fn assert_pattern(start: usize, bytes: &[u8]) {
    let expected = pattern(start, bytes.len());
    if bytes != expected {
        let wrong = bytes.iter().zip(&expected).position(|(byte, right)| byte != right);
        panic!("byte {} of the stream is wrong", start + wrong.unwrap_or(0));
    }
}
