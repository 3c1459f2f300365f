//! A scripted client: it writes in pieces, reads as fast or slowly as it likes, ends as it likes, and checks what it reads.

use std::collections::BTreeMap;

use raon::{SessionId, SimPeer};

use crate::game;
use crate::random::Random;

/// How a client ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    /// It never does.
    Never,
    /// It ends its side and reads to the end.
    HalfClose,
    /// It is gone at once.
    Drop,
    /// With a reset.
    Reset,
    /// It sends what is no frame, and reads to the end.
    Garbage,
    /// In the middle of a frame it says nothing any more, and reads.
    Silence,
}

pub(crate) const ENDINGS: [Ending; 7] = [
    Ending::Never,
    Ending::HalfClose,
    Ending::HalfClose,
    Ending::Drop,
    Ending::Reset,
    Ending::Garbage,
    Ending::Silence,
];

/// See the module.
pub(crate) struct Client {
    number: u32,
    peer: Option<SimPeer>,
    pub(crate) ending: Ending,
    /// In how many of a hundred steps it reads.
    reads_percent: usize,
    messages_left: usize,
    /// Framed, not yet written.
    output: Vec<u8>,
    pub(crate) sent: u32,
    /// Read, not yet a whole frame.
    input: Vec<u8>,
    pub(crate) id: Option<SessionId>,
    /// Messages that came.
    pub(crate) received: u64,
    /// Of those, its own session's.
    pub(crate) replies: u64,
    /// The last count per kind and origin.
    last: BTreeMap<(u16, u64), u64>,
    pub(crate) faults: Vec<String>,
    /// The server's orderly end was read: everything that it had queued has come.
    pub(crate) has_ended: bool,
    pub(crate) is_broken: bool,
    has_finished: bool,
}

impl Client {
    pub(crate) fn new(number: u32, peer: SimPeer, random: &mut Random) -> Self {
        Client {
            number,
            peer: Some(peer),
            ending: random.one_of(&ENDINGS),
            reads_percent: random.one_of(&[100, 100, 80, 20, 2]),
            messages_left: random.below(40),
            output: Vec::new(),
            sent: 0,
            input: Vec::new(),
            id: None,
            received: 0,
            replies: 0,
            last: BTreeMap::new(),
            faults: Vec::new(),
            has_ended: false,
            is_broken: false,
            has_finished: false,
        }
    }

    /// One step: perhaps something new to say, a piece of it written, some of what came read.
    pub(crate) fn step(&mut self, random: &mut Random) {
        if self.peer.as_ref().is_none_or(|peer| !peer.is_connected() && self.received == 0) {
            return;
        }
        if self.messages_left > 0 && random.percent(30) {
            let burst = if random.percent(10) { 12 } else { 1 };
            for _ in 0..burst.min(self.messages_left) {
                self.messages_left -= 1;
                self.say(random);
            }
        }
        self.write(random);
        if random.percent(self.reads_percent) {
            self.read(random.one_of(&[64, 1000, 65_536]));
        }
        if self.messages_left == 0 && self.output.is_empty() && !self.has_finished && random.percent(20) {
            self.finish(random);
        }
    }

    /// Reads all that is there.
    pub(crate) fn read_all(&mut self) {
        while self.peer.is_some() && self.read(65_536) {}
    }

    fn say(&mut self, random: &mut Random) {
        let kinds = [
            game::ECHO,
            game::ECHO,
            game::ECHO,
            game::TO_ANOTHER,
            game::SHOUT,
            game::SNAPSHOT,
            game::SNAPSHOT,
            game::POST,
            game::TIMER,
            game::LARGE,
        ];
        let rare = [game::CLOSE_ME, game::CLOSE_ANOTHER, game::PANIC];
        let kind = if random.percent(2) { random.one_of(&rare) } else { random.one_of(&kinds) };
        let filler = if random.percent(10) { random.below(3000) } else { random.below(60) };
        self.output.extend_from_slice(&((4 + 8 + filler) as u16).to_le_bytes());
        self.output.extend_from_slice(&kind.to_le_bytes());
        self.output.extend_from_slice(&self.number.to_le_bytes());
        self.output.extend_from_slice(&self.sent.to_le_bytes());
        self.output.resize(self.output.len() + filler, 7);
        self.sent += 1;
    }

    /// A piece that may end anywhere in a frame.
    fn write(&mut self, random: &mut Random) {
        let length = if random.percent(50) { self.output.len() } else { random.below(self.output.len() + 1) };
        if let (Some(peer), true) = (&mut self.peer, length > 0) {
            match peer.write(&self.output[..length]) {
                Ok(written) => drop(self.output.drain(..written)),
                Err(_) => self.give_up(),
            }
        }
    }

    /// False if there was nothing.
    fn read(&mut self, bytes_max: usize) -> bool {
        let mut bytes = vec![0; bytes_max];
        let Some(peer) = &mut self.peer else { return false };
        match peer.read(&mut bytes) {
            Ok(Some(0)) => {
                self.has_ended = true;
                self.peer = None;
            }
            Ok(Some(length)) => self.take(&bytes[..length]),
            Ok(None) => return false,
            Err(_) => {
                self.is_broken = true;
                self.peer = None;
            }
        }
        true
    }

    fn take(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(size) = self.input.get(at..at + 2) {
            let size = usize::from(u16::from_le_bytes(size.try_into().unwrap()));
            let Some(frame) = self.input.get(at..at + size) else { break };
            let kind = u16::from_le_bytes(frame[2..4].try_into().unwrap());
            let words: Vec<u64> =
                frame[4..28].chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
            let is_filler_whole = frame[28..].iter().all(|byte| *byte == words[2] as u8);
            at += size;
            if !is_filler_whole {
                self.faults.push(format!("client {}: a message of kind {kind} is damaged", self.number));
            }
            self.check(kind, SessionId::from_bits(words[0]), words[1], words[2]);
        }
        self.input.drain(..at);
    }

    fn check(&mut self, kind: u16, to: SessionId, origin: u64, count: u64) {
        self.received += 1;
        if kind == game::WELCOME {
            self.id = Some(to);
        }
        let is_for_me = match kind {
            game::SHOUTED | game::SNAPPED => to == SessionId::NONE,
            game::SHOUTED_TO_OTHERS => Some(to) != self.id,
            _ => Some(to) == self.id,
        };
        if !is_for_me {
            self.faults.push(format!("client {}, session {:?}: got a message for {to}", self.number, self.id));
        }
        let is_own = [game::WELCOME, game::REPLY].contains(&kind);
        self.replies += u64::from(is_own);
        let last = self.last.insert((if is_own { game::REPLY } else { kind }, origin), count).unwrap_or(0);
        if if is_own { count != last + 1 } else { count <= last } {
            self.faults.push(format!("client {}: kind {kind} of {origin} came as {count} after {last}", self.number));
        }
    }

    fn finish(&mut self, random: &mut Random) {
        self.has_finished = true;
        let Some(peer) = &mut self.peer else { return };
        match self.ending {
            Ending::Never => {}
            Ending::HalfClose => drop(peer.shut_write()),
            Ending::Garbage => drop(peer.write(&[3, 0, 1, 0, 9])),
            Ending::Silence => drop(peer.write(&[200, 0, 1, 0, 9])),
            Ending::Drop => self.give_up(),
            Ending::Reset => {
                self.is_broken = true;
                if let Some(peer) = self.peer.take() {
                    peer.reset();
                }
            }
        }
        // From here on it reads as fast as it can, or not much.
        self.reads_percent = random.one_of(&[100, 30]);
    }

    fn give_up(&mut self) {
        self.is_broken = true;
        self.peer = None;
    }
}
