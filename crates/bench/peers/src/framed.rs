//! The protocol of the framed servers, and the thread that sends to their sessions. README.md describes both.

use std::io;
use std::sync::mpsc::{self, Sender};
use std::thread;

/// {u16 size with this header, u16 id}, little endian, in front of every body.
pub const HEADER: usize = 4;
/// The size, in front of the message: id and body.
pub const SIZE_BYTES: usize = 2;
/// The longest frame, header included. A longer or impossible one ends its connection.
pub const FRAME_MAX: usize = 4096;

/// Numbers of sessions are below this.
pub const SESSIONS_MAX: u32 = 1 << 20;

/// To be answered with the same body.
pub const ECHO: u16 = 1;
pub const ECHOED: u16 = 2;
/// Body: u32, the number of this session from now on. Answered with the same body.
pub const JOIN: u16 = 3;
pub const JOINED: u16 = 4;
/// From the producer. Body: u32 number of the session, u32 sequence number in it from 0 on, filler.
pub const PUSH: u16 = 5;
/// Body: u32 count, u32 sessions. The producer may send so many more, to sessions below that number.
pub const GRANT: u16 = 6;

/// The bytes of a pushed frame.
pub const PUSH_BYTES: usize = 64;
pub type Push = [u8; PUSH_BYTES];

/// What a frame asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To be sent back under this id.
    Answer(u16),
    /// Likewise, and this session has that number.
    Join(u32),
    /// Nothing to the session itself.
    Grant { count: u32, sessions: u32 },
}

/// Why a connection ends.
pub fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no frame of this protocol")
}

/// Reads a message: a frame without its size.
#[inline]
pub fn asked(message: &[u8]) -> io::Result<Asked> {
    let (id, body) = message.split_first_chunk().ok_or_else(malformed)?;
    let number = |at: usize| body.get(at..at + 4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap()));
    match u16::from_le_bytes(*id) {
        ECHO => Ok(Asked::Answer(ECHOED)),
        JOIN => number(0).filter(|number| *number < SESSIONS_MAX).map(Asked::Join).ok_or_else(malformed),
        GRANT => {
            let sessions = number(4).filter(|sessions| (1..=SESSIONS_MAX).contains(sessions));
            number(0).zip(sessions).map(|(count, sessions)| Asked::Grant { count, sessions }).ok_or_else(malformed)
        }
        _ => Err(malformed()),
    }
}

/// Appends the answer to a frame.
#[inline]
pub fn answer(frame: &[u8], id: u16, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(frame);
    out[start + 2..start + HEADER].copy_from_slice(&id.to_le_bytes());
}

/// The frame at the start of `bytes`, if it is whole.
#[inline]
fn first(bytes: &[u8]) -> io::Result<Option<&[u8]>> {
    let Some(size) = bytes.first_chunk::<2>() else { return Ok(None) };
    match usize::from(u16::from_le_bytes(*size)) {
        HEADER..=FRAME_MAX => Ok(bytes.get(..usize::from(u16::from_le_bytes(*size)))),
        _ => Err(malformed()),
    }
}

/// Cuts the byte stream of one connection into frames.
#[derive(Debug, Default)]
pub struct Assembler {
    /// The beginning of a frame that has not come whole.
    partial: Vec<u8>,
}

impl Assembler {
    /// Calls `on_frame` for each frame that is whole with `bytes`; where they lie, unless they came in pieces.
    #[inline]
    pub fn feed(&mut self, mut bytes: &[u8], mut on_frame: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        while !self.partial.is_empty() {
            let goal = match self.partial.first_chunk::<2>() {
                Some(size) => usize::from(u16::from_le_bytes(*size)),
                None => HEADER,
            };
            let (now, rest) = bytes.split_at(goal.saturating_sub(self.partial.len()).min(bytes.len()));
            self.partial.extend_from_slice(now);
            bytes = rest;
            match first(&self.partial)? {
                Some(frame) => {
                    on_frame(frame)?;
                    self.partial.clear();
                }
                None if bytes.is_empty() => return Ok(()),
                None => {}
            }
        }
        while let Some(frame) = first(bytes)? {
            on_frame(frame)?;
            bytes = &bytes[frame.len()..];
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }
}

/// A session has this number from now on. `sessions` says by number which connection that is.
pub fn join(sessions: &mut Vec<Option<usize>>, number: u32, connection: usize) {
    let number = number as usize;
    if sessions.len() <= number {
        sessions.resize(number + 1, None);
    }
    sessions[number] = Some(connection);
}

/// A connection is gone, and with it whatever session it was.
pub fn leave(sessions: &mut [Option<usize>], connection: usize) {
    sessions.iter_mut().filter(|session| **session == Some(connection)).for_each(|session| *session = None);
}

/// The frame with this sequence number for this session.
#[inline]
pub fn push(number: u32, sequence: u32) -> Push {
    const FILLED: Push = {
        let mut frame = [0; PUSH_BYTES];
        let mut at = 0;
        while at < PUSH_BYTES {
            frame[at] = at as u8;
            at += 1;
        }
        [frame[0], frame[1], frame[2], frame[3]] = {
            let ([a, b], [c, d]) = ((PUSH_BYTES as u16).to_le_bytes(), PUSH.to_le_bytes());
            [a, b, c, d]
        };
        frame
    };
    let mut frame = FILLED;
    frame[4..8].copy_from_slice(&number.to_le_bytes());
    frame[8..12].copy_from_slice(&sequence.to_le_bytes());
    frame
}

/// The thread that sends to random sessions, as a game's own thread would. It is called `producer`, by which its processor
/// time is found, and sends only what it was granted.
#[derive(Clone, Debug)]
pub struct Producer {
    grants: Sender<(u32, u32)>,
}

impl Producer {
    /// Starts it; `send` is called on it, with the number of a session and a frame for that.
    pub fn spawn(mut send: impl FnMut(u32, Push) + Send + 'static) -> io::Result<Self> {
        let (grants, granted) = mpsc::channel();
        let run = move || {
            let mut sequences: Vec<u32> = Vec::new();
            let mut random = 0x9E37_79B9_7F4A_7C15_u64;
            for (count, sessions) in granted {
                sequences.resize(sequences.len().max(sessions as usize), 0);
                for _ in 0..count {
                    let number = next(&mut random) % u64::from(sessions);
                    let sequence = &mut sequences[number as usize];
                    send(number as u32, push(number as u32, *sequence));
                    *sequence += 1;
                }
            }
        };
        thread::Builder::new().name("producer".to_owned()).spawn(run)?;
        Ok(Self { grants })
    }

    /// Lets it send so many more.
    pub fn grant(&self, count: u32, sessions: u32) -> io::Result<()> {
        self.grants.send((count, sessions)).map_err(io::Error::other)
    }
}

/// xorshift64*, the upper half.
fn next(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(id: u16, body: &[u8]) -> Vec<u8> {
        [&((HEADER + body.len()) as u16).to_le_bytes()[..], &id.to_le_bytes(), body].concat()
    }

    #[test]
    fn any_split_gives_the_same_frames() {
        let frames: Vec<_> = (0..5).map(|len| frame(ECHO, &vec![len as u8; len * 3])).collect();
        let bytes = frames.concat();
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let (mut assembler, mut found) = (Assembler::default(), Vec::new());
                for part in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                    let found = |frame: &[u8]| {
                        found.push(frame.to_vec());
                        Ok(())
                    };
                    assembler.feed(part, found).unwrap();
                }
                assert!(found == frames && assembler.partial.is_empty(), "split at {first} and {second}");
            }
        }
    }

    #[test]
    fn impossible_sizes_end_a_connection() {
        for size in [0u16, 3, 4097, u16::MAX] {
            let bytes = [size.to_le_bytes(), [1, 0]].concat();
            assert!(Assembler::default().feed(&bytes, |_| Ok(())).is_err(), "{size}");
            let mut assembler = Assembler::default();
            assembler.feed(&bytes[..1], |_| Ok(())).unwrap();
            assert!(assembler.feed(&bytes[1..], |_| Ok(())).is_err(), "{size}, in two parts");
        }
    }

    #[test]
    fn frames_are_read() {
        let asked = |id, body: &[u8]| asked(&frame(id, body)[SIZE_BYTES..]);
        assert_eq!(asked(ECHO, b"x").unwrap(), Asked::Answer(ECHOED));
        assert_eq!(asked(JOIN, &7u32.to_le_bytes()).unwrap(), Asked::Join(7));
        assert_eq!(asked(GRANT, &[5, 0, 0, 0, 6, 0, 0, 0]).unwrap(), Asked::Grant { count: 5, sessions: 6 });
        for (id, body) in
            [(0, &b""[..]), (PUSH, b""), (JOIN, b"123"), (JOIN, &[255; 4]), (GRANT, &[1, 0, 0, 0, 0, 0, 0, 0])]
        {
            assert!(asked(id, body).is_err(), "{id} {body:?}");
        }
        assert!(super::asked(b"1").is_err());
    }

    #[test]
    fn a_producer_sends_what_it_may_in_order() {
        let (sender, pushes) = mpsc::channel();
        let producer = Producer::spawn(move |number, push| sender.send((number, push)).unwrap()).unwrap();
        producer.grant(60, 3).unwrap();
        producer.grant(40, 5).unwrap();
        drop(producer);
        let mut counts = [0; 5];
        for (number, frame) in pushes {
            assert_eq!(frame, push(number, counts[number as usize]));
            counts[number as usize] += 1;
        }
        assert_eq!(counts.iter().sum::<u32>(), 100);
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    }
}
