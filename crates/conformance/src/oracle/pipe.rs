//! One direction of one connection: which bytes went in, in which order, and which have come out.
//!
//! The bytes of a send are a function of its token and the position, so a byte says where it belongs. A send that may be
//! cut short (cancelled, or its socket is ending) says only at its end how much of it went out: what has come out behind
//! its start is kept and compared then.

use std::collections::{BTreeMap, VecDeque};

use crate::random::pattern;

/// The first `length` bytes of what this token sends.
pub(super) fn content(token: u64, length: usize) -> Vec<u8> {
    part(token, 0, length)
}

fn part(token: u64, start: usize, length: usize) -> Vec<u8> {
    pattern(token as usize % 65_521 * 7_919 + start, length)
}

struct Segment {
    token: u64,
    length: usize,
    /// How much went out, once that is known.
    count: Option<usize>,
    /// It may go out in part.
    is_doubtful: bool,
    /// How much of it has come out.
    taken: usize,
}

/// One direction.
#[derive(Default)]
pub(super) struct Pipe {
    segments: VecDeque<Segment>,
    /// Whole at the other end before their completion was seen.
    arrived: BTreeMap<u64, usize>,
    /// Came out and not compared yet.
    raw: VecDeque<u8>,
    /// Bytes may be lost: somebody has reset the connection.
    pub is_lossy: bool,
    /// The writing end may have ended its direction.
    pub has_end: bool,
    /// The connection may be broken in a way that looks like an orderly end.
    may_end: bool,
    /// The reading end has seen the end.
    pub is_ended: bool,
    /// The reading end was told that the connection is broken; the system says so once.
    pub(super) is_reset: bool,
    /// The reading end discards what comes.
    pub is_discarded: bool,
}

impl Pipe {
    /// These bytes may come out from now on, after all earlier ones.
    pub(super) fn accept(&mut self, token: u64, length: usize, is_doubtful: bool) {
        let is_doubtful = is_doubtful || self.is_lossy;
        self.segments.push_back(Segment { token, length, count: None, is_doubtful, taken: 0 });
    }

    /// They may be cut short.
    pub(super) fn doubt(&mut self, token: u64) {
        if let Some(segment) = self.find(token) {
            segment.is_doubtful = true;
        }
    }

    /// Exactly so many of them went in.
    pub(super) fn resolve(&mut self, token: u64, count: usize) {
        if let Some(length) = self.arrived.remove(&token) {
            assert_eq!(count, length, "all {length} bytes of {token} have arrived, {count} were reported as sent");
        } else if let Some(segment) = self.find(token) {
            segment.count = Some(count);
            assert!(segment.taken <= count, "{} bytes of {token} arrived, {count} went out", segment.taken);
        }
        self.compare();
    }

    /// Somebody has reset the connection, or may have; `is_end_like`: where there are no resets, that is an end.
    pub(super) fn lose(&mut self, is_end_like: bool) {
        self.is_lossy = true;
        self.may_end |= is_end_like;
        self.segments
            .iter_mut()
            .filter(|segment| segment.count.is_none())
            .for_each(|segment| segment.is_doubtful = true);
    }

    /// These bytes came out.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        assert!(!self.is_ended, "{} bytes after the end", bytes.len());
        self.raw.extend(bytes);
        self.compare();
    }

    /// The reading end was told the orderly end.
    //= EOF-1
    pub(super) fn end(&mut self) {
        assert!(self.has_end || self.may_end, "the end was reported, and the other side has not ended");
        self.is_ended = true;
        self.compare();
    }

    /// What has not arrived although it must have, if the reader has read all.
    pub(super) fn missing(&self) -> Option<String> {
        if self.is_lossy || self.is_discarded {
            return None;
        }
        // How much of a doubtful one must arrive is known only when it has ended.
        let segment = self.segments.front().filter(|segment| !segment.is_doubtful || segment.count.is_some())?;
        let length = segment.count.unwrap_or(segment.length);
        (segment.taken < length)
            .then(|| format!("{} of {length} bytes of {} have arrived", segment.taken, segment.token))
    }

    fn find(&mut self, token: u64) -> Option<&mut Segment> {
        self.segments.iter_mut().find(|segment| segment.token == token)
    }

    fn compare(&mut self) {
        while let Some(segment) = self.segments.front_mut() {
            if segment.is_doubtful && segment.count.is_none() {
                return;
            }
            let length = segment.count.unwrap_or(segment.length);
            let fits = self.raw.len().min(length - segment.taken);
            let expected = part(segment.token, segment.taken, fits);
            let wrong = self.raw.drain(..fits).zip(&expected).position(|(byte, right)| byte != *right);
            if let Some(wrong) = wrong {
                panic!("byte {} of what {} sent is another", segment.taken + wrong, segment.token);
            }
            segment.taken += fits;
            if segment.taken < length {
                let (taken, token) = (segment.taken, segment.token);
                let may_lack = !self.is_ended || self.is_discarded;
                assert!(may_lack, "the end came after {taken} of {length} bytes of {token}");
                return;
            }
            if segment.count.is_none() {
                self.arrived.insert(segment.token, segment.length);
            }
            self.segments.pop_front();
        }
        assert!(self.raw.is_empty(), "{} bytes that nobody sent", self.raw.len());
    }
}
