//! Contents of a datagram: who sent it, which one it is, and a pattern that no other datagram has.

use super::super::pattern::{Pattern, STEP};

/// Of the peer's number and of the sequence number.
const PEER_BYTES: usize = 4;
const HEADER_BYTES: usize = PEER_BYTES + 8;
/// The least that holds the header and a pattern that shows a mix-up.
pub(crate) const BYTES_MIN: usize = HEADER_BYTES + 4;

/// The datagrams of one peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contents {
    seed: u64,
    peer: u32,
}

impl Contents {
    /// Of the peer with that number in this run.
    pub(super) fn new(seed: u64, peer: u32) -> Self {
        Contents { seed, peer }
    }

    /// Writes a datagram of at least [`BYTES_MIN`].
    pub(super) fn fill(self, sequence: u64, bytes: &mut [u8]) {
        let (header, body) = bytes.split_at_mut(HEADER_BYTES);
        header[..PEER_BYTES].copy_from_slice(&self.peer.to_le_bytes());
        header[PEER_BYTES..].copy_from_slice(&sequence.to_le_bytes());
        self.pattern(sequence).fill(0, body);
    }

    /// The sequence number of a datagram of this peer. Errors: how many bytes are wrong, all of them if it has not the
    /// length that was sent or is another peer's.
    pub(super) fn check(self, bytes: &[u8], size_bytes: usize) -> Result<u64, u64> {
        let all = bytes.len().max(1) as u64;
        if bytes.len() != size_bytes {
            return Err(all);
        }
        let (header, body) = bytes.split_at(HEADER_BYTES);
        let (peer, sequence) = header.split_at(PEER_BYTES);
        let sequence = sequence.try_into().map(u64::from_le_bytes).map_err(|_| all)?;
        if peer != self.peer.to_le_bytes() {
            return Err(all);
        }
        match self.pattern(sequence).count_wrong(0, body) {
            0 => Ok(sequence),
            wrong => Err(wrong),
        }
    }

    fn pattern(self, sequence: u64) -> Pattern {
        Pattern::new(self.seed.wrapping_add(sequence.wrapping_mul(STEP).rotate_left(32)), u64::from(self.peer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(contents: Contents, sequence: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        contents.fill(sequence, &mut bytes);
        bytes
    }

    #[test]
    fn what_was_sent_is_known_again() {
        let contents = Contents::new(7, 3);
        for length in [BYTES_MIN, BYTES_MIN + 1, 64, 1472, 65_000] {
            for sequence in [0, 1, 1 << 40, u64::MAX] {
                assert_eq!(contents.check(&datagram(contents, sequence, length), length), Ok(sequence));
            }
        }
    }

    #[test]
    fn any_other_byte_shows() {
        let contents = Contents::new(7, 3);
        for length in [BYTES_MIN, 64] {
            for index in 0..length {
                let mut bytes = datagram(contents, 5, length);
                bytes[index] ^= 1;
                assert!(contents.check(&bytes, length).is_err(), "byte {index} of {length}");
            }
        }
    }

    #[test]
    fn others_datagrams_and_other_lengths_show() {
        let contents = Contents::new(7, 3);
        for other in [Contents::new(7, 4), Contents::new(8, 3)] {
            assert!(contents.check(&datagram(other, 5, 64), 64).is_err());
        }
        assert_eq!(contents.check(&datagram(contents, 5, 64), 65), Err(64));
        assert_eq!(contents.check(&[], 64), Err(1));
    }
}
