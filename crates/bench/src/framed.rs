//! F1, F2 and F5, and their protocol: {u16 size with this header, u16 id}, little endian, in front of every body. The peers'
//! README.md describes it too.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::generator::Window;
use crate::push::Push;
use crate::rounds::Load;
use crate::workload::{FRAMED_ECHO, Workload};

/// A load of frames.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Framed {
    Echo(Workload),
    Push(Push),
}

/// All of them.
pub(crate) const FRAMED: [Framed; 3] =
    [Framed::Echo(FRAMED_ECHO[0]), Framed::Echo(FRAMED_ECHO[1]), Framed::Push(Push { sessions: 1000 })];

impl Load for Framed {
    fn name(&self) -> &'static str {
        match self {
            Framed::Echo(echo) => echo.name(),
            Framed::Push(push) => push.name(),
        }
    }

    fn description(&self) -> String {
        match self {
            Framed::Echo(echo) => echo.description(),
            Framed::Push(push) => push.description(),
        }
    }

    fn connections(&self) -> usize {
        match self {
            Framed::Echo(echo) => echo.connections(),
            Framed::Push(push) => push.connections(),
        }
    }

    fn buffer_bytes(&self) -> u32 {
        match self {
            Framed::Echo(echo) => echo.buffer_bytes(),
            Framed::Push(push) => push.buffer_bytes(),
        }
    }

    fn has_producer(&self) -> bool {
        matches!(self, Framed::Push(_))
    }

    fn smoke(self) -> Self {
        match self {
            Framed::Echo(echo) => Framed::Echo(echo.smoke()),
            Framed::Push(push) => Framed::Push(push.smoke()),
        }
    }

    fn start(&self, address: SocketAddr) -> io::Result<impl FnMut(Duration) -> io::Result<Window>> {
        let load: Box<dyn FnMut(Duration) -> io::Result<Window> + '_> = match self {
            Framed::Echo(echo) => Box::new(echo.start(address)?),
            Framed::Push(push) => Box::new(push.start(address)?),
        };
        Ok(load)
    }
}

/// Bytes of the header.
pub(crate) const HEADER_BYTES: usize = 4;
/// To be answered with the same body.
pub(crate) const ECHO: u16 = 1;
pub(crate) const ECHOED: u16 = 2;
/// Body: u32, the number of this session. Answered with the same body.
pub(crate) const JOIN: u16 = 3;
pub(crate) const JOINED: u16 = 4;
/// From the producer. Body: u32 number of the session, u32 sequence number in it from 0 on, filler.
pub(crate) const PUSH: u16 = 5;
/// Body: u32 count, u32 sessions. The producer may send so many more, to sessions below that number.
pub(crate) const GRANT: u16 = 6;

/// A whole frame.
pub(crate) fn frame(id: u16, body: &[u8]) -> Vec<u8> {
    let size = u16::try_from(HEADER_BYTES + body.len()).expect("a frame is shorter than 64 KiB");
    [&size.to_le_bytes()[..], &id.to_le_bytes(), body].concat()
}

/// What one connection sends and what it is to receive: as many different frames as are in flight, and the same ones again,
/// so that any run of so many is a slice. Each is told from all others by its body.
pub(crate) fn streams(block: &[u8], index: usize, workload: Workload) -> [Vec<u8>; 2] {
    let body_bytes = workload.size_bytes - HEADER_BYTES;
    let places = block.len() - body_bytes;
    let stream = |id: u16| {
        let one = |at: usize| frame(id, &block[(index * 61 + at * 7) % places..][..body_bytes]);
        (0..workload.in_flight).flat_map(one).collect::<Vec<u8>>().repeat(2)
    };
    [stream(ECHO), stream(ECHOED)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_counts_its_header() {
        assert_eq!(frame(ECHO, b"abc"), [7, 0, 1, 0, b'a', b'b', b'c']);
    }

    #[test]
    fn frames_in_flight_differ_and_their_answers_have_the_other_id() {
        let block: Vec<u8> = (0..70_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let workload = FRAMED_ECHO[0];
        let [sent, expected] = streams(&block, 5, workload);
        assert_eq!((sent.len(), expected.len()), (64 * 32, 64 * 32));
        let frames: Vec<&[u8]> = sent.chunks(64).collect();
        assert!((1..16).all(|at| frames[at] != frames[0] && frames[at] == frames[at + 16]));
        for (sent, expected) in frames.iter().zip(expected.chunks(64)) {
            assert_eq!((&sent[..4], &expected[..4]), (&[64, 0, 1, 0][..], &[64, 0, 2, 0][..]));
            assert_eq!(sent[4..], expected[4..]);
        }
    }
}
