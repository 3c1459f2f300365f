//! Messages out of a stream. Taken apart by hand, not by the engine's framings: what checks a server should not share its
//! mistakes.

/// The beginning of a message of which the rest has not come.
#[derive(Default)]
pub(super) struct Pieces {
    rest: Vec<u8>,
}

impl Pieces {
    /// Gives each whole message to `take`, until that says false. `length` says how long the first one is, as soon as it
    /// can be known; it is asked about bytes that are there, at least one. False if `take` did.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        length: impl Fn(&[u8]) -> Option<usize>,
        mut take: impl FnMut(&[u8]) -> bool,
    ) -> bool {
        let mut whole = std::mem::take(&mut self.rest);
        let mut input = bytes;
        if !whole.is_empty() {
            whole.extend_from_slice(bytes);
            input = &whole;
        }
        while let Some(length) = Some(input).filter(|input| !input.is_empty()).and_then(&length)
            && length <= input.len()
        {
            let (message, behind) = input.split_at(length);
            if !take(message) {
                return false;
            }
            input = behind;
        }
        self.rest = input.to_vec();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_cut_gives_the_same_messages() {
        let stream = b"one\ntwo\n\nthree\n";
        let line = |bytes: &[u8]| bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let (mut pieces, mut lines) = (Pieces::default(), Vec::new());
                for cut in [&stream[..first], &stream[first..second], &stream[second..]] {
                    pieces.take(cut, line, |message| {
                        lines.push(message.to_vec());
                        true
                    });
                }
                assert_eq!(lines.concat(), stream);
                assert_eq!(lines.len(), 4, "cut at {first} and {second}");
            }
        }
    }
}
