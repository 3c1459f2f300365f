//! Input of one session that waits because the answers to what came before it have not left, see `core/held.rs`.

/// Most bytes of one session's held input that one step gives to the application.
const PORTION_BYTES_MAX: usize = 64 * 1024;

/// See the module.
#[derive(Default)]
pub(crate) struct HeldInput {
    bytes: Vec<u8>,
    /// Bytes from the front that the application has got.
    given: usize,
    /// Bytes that it is charged for.
    pub(crate) charged_bytes: usize,
    /// The turn in which reading stopped, or some of it was given last.
    pub(crate) stopped_in_turn: u64,
    /// The peer has ended its side behind these bytes.
    pub(crate) is_ended: bool,
    /// In the list of those that are worked off.
    pub(crate) is_listed: bool,
}

impl HeldInput {
    /// Bytes that the application has not got yet.
    pub(crate) fn waiting(&self) -> &[u8] {
        &self.bytes[self.given..]
    }

    /// The part of them that one step gives to the application.
    pub(crate) fn portion(&self) -> &[u8] {
        let waiting = self.waiting();
        &waiting[..waiting.len().min(PORTION_BYTES_MAX)]
    }

    /// The application has got so many bytes more.
    pub(crate) fn note_given(&mut self, bytes: usize) {
        self.given += bytes;
    }

    /// Memory that it takes, in bytes.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) {
        if self.given > self.bytes.len() / 2 {
            self.bytes.drain(..self.given);
            self.given = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// As new, but for its memory.
    pub(crate) fn clear(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        *self = HeldInput { bytes, ..HeldInput::default() };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    #[test]
    fn what_was_given_makes_room_for_what_comes() {
        let mut held = HeldInput::default();
        let mut expected = VecDeque::new();
        for round in 0..1000usize {
            let bytes = vec![round as u8; 100];
            held.append(&bytes);
            expected.extend(bytes);
            for _ in 0..(round % 3 * 100).min(expected.len()) {
                assert_eq!(held.waiting().first().copied(), expected.pop_front());
                held.note_given(1);
            }
        }
        assert_eq!(held.waiting().len(), expected.len());
        assert!(held.bytes.len() <= 2 * expected.len() + 300, "{} bytes for {}", held.bytes.len(), expected.len());
    }
}
