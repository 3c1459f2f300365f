//! Request queue of a socket: what it is used for, and how far that is.

use std::collections::VecDeque;

use windows_sys::Win32::Networking::WinSock::RIO_RQ;

use super::calls::Side;
use crate::base::error::Error;
use crate::contract::{Event, RequestKey, Shots};
use crate::memory::buffer::Section;
use crate::memory::{Span, SpanList, SpanMut, Target};

/// A request queue and its socket; without a socket, once that is closed and completions are still to come.
pub(super) struct RequestQueue {
    pub(super) queue: RIO_RQ,
    /// `None`: detached.
    pub(super) socket: Option<u32>,
    pub(super) quotas: [u32; 2],
    /// Requests whose completions have not been dequeued.
    pub(super) in_flight: u32,
    /// Directions with deferred requests.
    pub(super) is_dirty: [bool; 2],
    pub(super) is_touched: bool,
    pub(super) receive_side: ReceiveSide,
    pub(super) send_side: SendSide,
    /// Of datagrams, in place of the two.
    pub(super) datagrams: Option<Box<Datagrams>>,
}

/// The receiving side of a stream.
#[derive(Default)]
pub(super) struct ReceiveSide {
    pub(super) asked: Option<Asked>,
    /// Where bytes arrive, or have arrived.
    pub(super) slice: Option<u32>,
    pub(super) is_posted: bool,
    /// What has arrived and was not delivered: from here to there in the slice.
    pub(super) start: usize,
    pub(super) end: usize,
    /// After that: the peer's end, or why there is no more.
    pub(super) last: Option<Result<(), Error>>,
}

/// What the driver wants to receive.
#[derive(Clone, Copy)]
pub(super) enum Asked {
    Stream(RequestKey, Shots),
    Into(RequestKey, SpanMut),
}

impl Asked {
    pub(super) fn key(self) -> RequestKey {
        match self {
            Asked::Stream(key, _) | Asked::Into(key, _) => key,
        }
    }
}

/// The sending side of a stream.
#[derive(Default)]
pub(super) struct SendSide {
    pub(super) asked: Option<Sending>,
    /// How many there were.
    pub(super) count: u64,
    /// What is under way, in order, also of sends that were cancelled.
    pub(super) under_way: VecDeque<Piece>,
    /// Why nothing goes out any more.
    pub(super) failed: Option<Error>,
}

/// A send, as far as it is.
#[derive(Clone, Copy)]
pub(super) struct Sending {
    pub(super) key: RequestKey,
    /// Its own: the rest of a send that was cancelled half-way may come again under the same key.
    pub(super) number: u64,
    pub(super) source: Source,
    pub(super) bytes: usize,
    /// Copied into slices that are, or were, under way.
    pub(super) posted: usize,
    /// Of those, what has gone out.
    pub(super) sent: usize,
}

/// A slice under way.
pub(super) struct Piece {
    pub(super) slice: u32,
    /// Of which send.
    pub(super) number: u64,
}

/// Bytes to send, where the driver keeps them until the request's final event.
#[derive(Clone, Copy)]
pub(super) enum Source {
    One(Span),
    List(SpanList),
}

impl Source {
    pub(super) fn bytes(self) -> usize {
        match self {
            Source::One(span) => span.length,
            Source::List(list) => list.bytes,
        }
    }

    /// Copies from `offset` on, as much as there is room for, and says how much that was.
    pub(super) fn copy(self, offset: usize, into: &mut [u8]) -> usize {
        match self {
            Source::One(span) => copy(&[span], offset, into),
            Source::List(list) => list.with(|spans| copy(spans, offset, into)),
        }
    }
}

fn copy(spans: &[Span], mut offset: usize, into: &mut [u8]) -> usize {
    let mut filled = 0;
    for span in spans {
        if filled == into.len() {
            break;
        }
        if offset >= span.length {
            offset -= span.length;
            continue;
        }
        let count = (span.length - offset).min(into.len() - filled);
        span.with(|bytes| into[filled..filled + count].copy_from_slice(&bytes[offset..offset + count]));
        (filled, offset) = (filled + count, 0);
    }
    filled
}

/// Both directions of a datagram socket.
#[derive(Default)]
pub(super) struct Datagrams {
    pub(super) asked: Option<(RequestKey, Section)>,
    /// Slices that wait for a datagram.
    pub(super) posted: u32,
    /// What has come and was not delivered.
    pub(super) arrived: VecDeque<Arrived>,
    /// Sends that wait for a place among those under way.
    pub(super) pending: VecDeque<Pending>,
    pub(super) under_way: Vec<Departed>,
    /// Ends that are to be told.
    pub(super) gone: Vec<Event>,
}

/// A datagram that has come, or an error instead.
pub(super) struct Arrived {
    pub(super) place: Place,
    pub(super) result: Result<u32, Error>,
}

/// A datagram to send.
#[derive(Clone, Copy)]
pub(super) struct Pending {
    pub(super) key: RequestKey,
    pub(super) list: SpanList,
    pub(super) target: Target,
}

/// A datagram under way; without a key if that was cancelled.
pub(super) struct Departed {
    pub(super) place: Place,
    pub(super) key: Option<RequestKey>,
    pub(super) bytes: usize,
}

/// A slice of datagrams: of which of the two sizes, and its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) size: usize,
    pub(super) slice: u32,
}

/// What a request is known by: its direction and its slice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Context {
    pub(super) side: Side,
    pub(super) place: Place,
}

impl Context {
    pub(super) fn new(side: Side, size: usize, slice: u32) -> Self {
        Context { side, place: Place { size, slice } }
    }

    pub(super) fn bits(self) -> u64 {
        u64::from(self.place.slice) << 2 | (self.place.size as u64) << 1 | self.side as u64
    }

    pub(super) fn from_bits(bits: u64) -> Self {
        let side = if bits & 1 == 0 { Side::Receive } else { Side::Send };
        Context::new(side, (bits >> 1 & 1) as usize, (bits >> 2) as u32)
    }
}

impl RequestQueue {
    pub(super) fn new(queue: RIO_RQ, socket: u32, quotas: [u32; 2], is_datagram: bool) -> Self {
        RequestQueue {
            queue,
            socket: Some(socket),
            quotas,
            in_flight: 0,
            is_dirty: [false; 2],
            is_touched: false,
            receive_side: ReceiveSide::default(),
            send_side: SendSide::default(),
            datagrams: is_datagram.then(Box::default),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_copied_piece_by_piece() {
        let parts: [&[u8]; 4] = [b"abc", b"", b"defgh", b"i"];
        let spans = parts.map(Span::of);
        let source = Source::List(SpanList::of(&spans, 9));
        for room in 1..=10 {
            let (mut whole, mut piece) = (Vec::new(), vec![0; room]);
            while whole.len() < source.bytes() {
                let count = source.copy(whole.len(), &mut piece);
                assert!(count > 0 && (count == room || whole.len() + count == 9));
                whole.extend_from_slice(&piece[..count]);
            }
            assert_eq!(whole, b"abcdefghi");
        }
    }

    #[test]
    fn a_context_says_direction_and_slice() {
        for context in [Context::new(Side::Receive, 0, 0), Context::new(Side::Send, 1, u32::MAX >> 2)] {
            assert_eq!(Context::from_bits(context.bits()), context);
        }
    }
}
