//! The bytes of a connection: words of 64 bits, each of which tells the connection and the place in its stream, so that
//! loss, duplication, reordering and delivery to another connection all show.

/// Odd, so that no word comes twice in a stream; its bits are spread, so that neighbours differ in every byte.
pub(super) const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
const WORD_BYTES: usize = 8;

/// The endless stream of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pattern {
    key: u64,
}

impl Pattern {
    /// The stream of a connection, by its number in this run.
    pub(crate) fn new(seed: u64, connection: u64) -> Self {
        Pattern { key: mix(seed.wrapping_add(connection.wrapping_mul(STEP))) }
    }

    fn word(self, index: u64) -> u64 {
        self.key.wrapping_add(index.wrapping_mul(STEP))
    }

    /// Writes the bytes of the stream from `offset` on.
    pub(crate) fn fill(self, offset: u64, bytes: &mut [u8]) {
        let (head, body) = bytes.split_at_mut(head_bytes(offset, bytes.len()));
        let skipped = (offset % WORD_BYTES as u64) as usize;
        head.copy_from_slice(&self.word(offset / WORD_BYTES as u64).to_le_bytes()[skipped..skipped + head.len()]);
        let mut word = self.word(offset.div_ceil(WORD_BYTES as u64));
        let mut words = body.chunks_exact_mut(WORD_BYTES);
        for chunk in &mut words {
            chunk.copy_from_slice(&word.to_le_bytes());
            word = word.wrapping_add(STEP);
        }
        let tail = words.into_remainder();
        tail.copy_from_slice(&word.to_le_bytes()[..tail.len()]);
    }

    /// How many of these bytes are not those of the stream from `offset` on.
    pub(crate) fn count_wrong(self, offset: u64, bytes: &[u8]) -> u64 {
        let (head, body) = bytes.split_at(head_bytes(offset, bytes.len()));
        let (words, tail) = body.as_chunks::<WORD_BYTES>();
        let mut word = self.word(offset.div_ceil(WORD_BYTES as u64));
        let mut difference = 0;
        for chunk in words {
            difference |= u64::from_le_bytes(*chunk) ^ word;
            word = word.wrapping_add(STEP);
        }
        let tail_offset = offset + (head.len() + words.len() * WORD_BYTES) as u64;
        let ends = self.count_wrong_slowly(offset, head) + self.count_wrong_slowly(tail_offset, tail);
        let middle =
            if difference == 0 { 0 } else { self.count_wrong_slowly(offset + head.len() as u64, words.as_flattened()) };
        ends + middle
    }

    fn count_wrong_slowly(self, offset: u64, bytes: &[u8]) -> u64 {
        const PIECE_BYTES: usize = 64;
        let mut expected = [0; PIECE_BYTES];
        let mut wrong = 0;
        for (index, piece) in bytes.chunks(PIECE_BYTES).enumerate() {
            let expected = &mut expected[..piece.len()];
            self.fill(offset + (index * PIECE_BYTES) as u64, expected);
            wrong += piece.iter().zip(expected.iter()).filter(|(is, should)| is != should).count() as u64;
        }
        wrong
    }
}

/// SplitMix64: neighbouring numbers become unrelated ones.
pub(super) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

/// Bytes up to the next whole word.
fn head_bytes(offset: u64, length: usize) -> usize {
    ((WORD_BYTES - (offset % WORD_BYTES as u64) as usize) % WORD_BYTES).min(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(pattern: Pattern, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        pattern.fill(offset, &mut bytes);
        bytes
    }

    #[test]
    fn any_cut_of_the_stream_is_the_same_stream() {
        let pattern = Pattern::new(1, 2);
        let whole = stream(pattern, 0, 200);
        for from in 0..40 {
            for length in 0..60 {
                let cut = stream(pattern, from as u64, length);
                assert_eq!(cut, whole[from..from + length]);
                assert_eq!(pattern.count_wrong(from as u64, &cut), 0);
            }
        }
    }

    #[test]
    fn every_wrong_byte_counts() {
        let pattern = Pattern::new(1, 2);
        for index in 0..100 {
            let mut bytes = stream(pattern, 3, 100);
            bytes[index] ^= 0x10;
            assert_eq!(pattern.count_wrong(3, &bytes), 1);
        }
    }

    #[test]
    fn displaced_bytes_show() {
        let (pattern, other) = (Pattern::new(1, 2), Pattern::new(1, 3));
        for shift in 1..200 {
            assert!(pattern.count_wrong(0, &stream(pattern, shift, 64)) > 32, "shifted by {shift}");
            assert!(pattern.count_wrong(shift, &stream(other, shift, 64)) > 32, "of another connection");
        }
    }
}
