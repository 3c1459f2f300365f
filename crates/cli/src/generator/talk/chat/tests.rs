//! The books about a room, kept by hand.

use super::*;

const SIZE_BYTES: usize = 40;

/// A room of three.
struct Stage {
    chat: Chat,
    heard: Vec<Heard>,
}

impl Stage {
    fn new() -> Self {
        let mut stage = Stage { chat: Chat::new(1, 2, 77, SIZE_BYTES), heard: Vec::new() };
        (0..3).for_each(|token| stage.enter(token));
        stage
    }

    fn enter(&mut self, token: u64) {
        let room = room_name(77, 0);
        let words = self.chat.greet(token, State::Active);
        assert_eq!(String::from_utf8(words).unwrap(), format!("/name load-2.{token}\n/join {room}\n"));
        self.chat.hear(token, format!("* welcome\n* load-2.{token} has joined {room}\n").as_bytes(), &mut self.heard);
        assert_eq!(std::mem::take(&mut self.heard), [Heard::Ready]);
    }

    /// Somebody writes lines. As they come to members.
    fn write(&mut self, token: u64, count: usize) -> Vec<Vec<u8>> {
        let mut bytes = vec![0; count * SIZE_BYTES];
        self.chat.fill(token, &mut bytes);
        self.chat.sent(token, bytes.len());
        bytes.chunks(SIZE_BYTES).map(|line| [format!("load-2.{token}: ").as_bytes(), line].concat()).collect()
    }

    fn hear(&mut self, token: u64, lines: &[&Vec<u8>]) -> Vec<Heard> {
        lines.iter().for_each(|line| self.chat.hear(token, line, &mut self.heard));
        std::mem::take(&mut self.heard)
    }
}

fn answered(token: u64) -> Heard {
    Heard::Answered { token, messages: 1 }
}

#[test]
fn a_line_is_answered_when_everybody_has_it() {
    let mut stage = Stage::new();
    let lines = stage.write(1, 2);
    assert_eq!(stage.hear(0, &[&lines[0], &lines[1]]), []);
    assert_eq!(stage.hear(1, &[&lines[0]]), []);
    assert_eq!(stage.hear(2, &[&lines[0]]), [answered(1)]);
    assert_eq!(stage.hear(2, &[&lines[1]]), []);
    assert_eq!(stage.hear(1, &[&lines[1]]), [answered(1)]);
    assert_eq!(stage.chat.tally, TalkTally { deliveries: 6, ..TalkTally::default() });
}

#[test]
fn what_one_member_lost_damages_the_line() {
    let mut stage = Stage::new();
    let lines = stage.write(0, 2);
    for token in [0, 1] {
        assert_eq!(stage.hear(token, &[&lines[0], &lines[1]]), []);
    }
    assert_eq!(stage.hear(2, &[&lines[1]]), [Heard::Damaged { token: 0 }, answered(0)]);
    assert_eq!((stage.chat.tally.lost, stage.chat.tally.deliveries), (1, 5));
    // It comes after all: not lost, but not in order either.
    assert!(matches!(stage.hear(2, &[&lines[0]])[..], [Heard::Wrong(_)]));
    assert_eq!((stage.chat.tally.lost, stage.chat.tally.misordered, stage.chat.tally.duplicates), (0, 1, 0));
    assert!(matches!(stage.hear(2, &[&lines[0]])[..], [Heard::Wrong(_)]));
    assert_eq!(stage.chat.tally.duplicates, 1);
}

#[test]
fn lines_that_nobody_wrote_are_found() {
    let mut stage = Stage::new();
    let line = stage.write(0, 1).remove(0);
    let mut cases = vec![b"hello\n".to_vec(), b"load-2.0: hello\n".to_vec(), b"load-2.1: 1 0 abc\n".to_vec()];
    for at in [5, 7, 12, 20, line.len() - 2] {
        let mut changed = line.clone();
        changed[at] ^= 1;
        cases.push(changed);
    }
    for (number, case) in cases.iter().enumerate() {
        assert!(matches!(stage.hear(1, &[case])[..], [Heard::Wrong(_)]), "{}", String::from_utf8_lossy(case));
        assert_eq!(stage.chat.tally.corrupt, number as u64 + 1);
    }
    assert_eq!(stage.hear(1, &[&line]), []);
    assert_eq!((stage.chat.tally.deliveries, stage.chat.tally.lost), (1, 0));
}

#[test]
fn a_member_that_is_gone_has_lost_the_rest() {
    let mut stage = Stage::new();
    let lines = stage.write(0, 2);
    stage.hear(0, &[&lines[0], &lines[1]]);
    stage.hear(1, &[&lines[0], &lines[1]]);
    let own = stage.write(2, 1);
    stage.hear(2, &[&lines[0]]);
    stage.chat.end(2, &mut stage.heard);
    assert_eq!(std::mem::take(&mut stage.heard), [Heard::Damaged { token: 0 }]);
    // The second line, and its own, which nobody had.
    assert_eq!(stage.chat.tally.lost, 1 + 3);
    assert_eq!(stage.hear(0, &[&own[0]]), [], "too late to count");
    // Two are left, and one who comes now is not owed what was before.
    let lines = stage.write(0, 1);
    stage.hear(0, &[&lines[0]]);
    assert_eq!(stage.hear(1, &[&lines[0]]), [answered(0)]);
    stage.enter(3);
    let lines = stage.write(0, 1);
    stage.hear(0, &[&lines[0]]);
    stage.hear(1, &[&lines[0]]);
    assert_eq!(stage.hear(3, &[&lines[0]]), [answered(0)]);
    assert_eq!(stage.chat.tally.lost, 4);
}
