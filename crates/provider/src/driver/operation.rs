//! Operations that a driver can be asked for, with the buffers they own.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::base::address::Address;
use crate::base::id::SocketId;
use crate::contract::GATHER_PIECES_MAX;
use crate::memory::buffer::Buffer;
use crate::memory::{Span, SpanMut};
use crate::socket::{AcceptedSocket, ConnectOptions};

/// Bytes to send, owned by the driver from acceptance to completion.
//= OWN-1
pub enum Payload {
    /// A pool buffer: what was received can be sent as it is.
    Buffer(Buffer),
    /// Bytes of one's own.
    Vec(Vec<u8>),
    /// Shared bytes: one message to many sockets.
    Bytes(Bytes),
    /// Several pieces that leave in order as one send; at most 1,024 of them, none a gather list itself.
    Gather(Vec<Payload>),
}

impl Payload {
    /// Length of all pieces together, in bytes.
    pub fn len(&self) -> usize {
        match self {
            Payload::Buffer(buffer) => buffer.len(),
            Payload::Vec(bytes) => bytes.len(),
            Payload::Bytes(bytes) => bytes.len(),
            // Shared pieces can be more than the machine's memory together.
            Payload::Gather(pieces) => pieces.iter().map(Payload::len).fold(0, usize::saturating_add),
        }
    }

    /// True if there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies all bytes out, in order.
    pub fn to_vec(&self) -> Vec<u8> {
        match self.contiguous() {
            Some(bytes) => bytes.to_vec(),
            None => self.pieces().flat_map(|piece| piece.to_vec()).collect(),
        }
    }

    /// The bytes, unless they lie in several pieces.
    pub(crate) fn contiguous(&self) -> Option<&[u8]> {
        match self {
            Payload::Buffer(buffer) => Some(buffer),
            Payload::Vec(bytes) => Some(bytes),
            Payload::Bytes(bytes) => Some(bytes),
            Payload::Gather(_) => None,
        }
    }

    /// Appends the spans of what is left after `skip` bytes, until `spans` is as long as a request may be, and of at most
    /// `bytes_max` bytes; returns their bytes.
    pub(crate) fn append_spans(&self, mut skip: usize, spans: &mut Vec<Span>, bytes_max: usize) -> usize {
        let mut total = 0;
        let own = std::slice::from_ref(self);
        let pieces = if let Payload::Gather(pieces) = self { pieces.as_slice() } else { own };
        for bytes in pieces.iter().filter_map(Payload::contiguous) {
            let skipped = skip.min(bytes.len());
            skip -= skipped;
            let length = (bytes.len() - skipped).min(bytes_max - total);
            if length > 0 && spans.len() < GATHER_PIECES_MAX {
                spans.push(Span::of(&bytes[skipped..skipped + length]));
                total += length;
            }
        }
        total
    }

    /// Its length in bytes if the driver can send it: not empty, pieces flat and few enough, below 4 GiB.
    pub(crate) fn sendable_length(&self) -> Option<u32> {
        self.flat_length().filter(|length| *length > 0)
    }

    /// The same of a datagram, which may be empty and has less than 2 GiB: longer ones cannot even be offered to a system.
    pub(crate) fn datagram_length(&self) -> Option<u32> {
        self.flat_length().filter(|length| i32::try_from(*length).is_ok())
    }

    fn flat_length(&self) -> Option<u32> {
        let pieces = self.pieces();
        if pieces.len() > GATHER_PIECES_MAX || pieces.clone().any(|piece| piece.contiguous().is_none()) {
            return None;
        }
        u32::try_from(self.len()).ok()
    }

    fn pieces(&self) -> std::slice::Iter<'_, Payload> {
        if let Payload::Gather(pieces) = self { pieces.iter() } else { [].iter() }
    }
}

/// Most bytes that a request moves; longer sends leave in several. Systems count the bytes of a call in 31 bits, and Linux
/// moves 2 GiB less a page at most, see write(2).
pub(crate) const REQUEST_BYTES_MAX: usize = 1 << 30;

impl From<Buffer> for Payload {
    fn from(buffer: Buffer) -> Self {
        Payload::Buffer(buffer)
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Payload::Vec(bytes)
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Payload::Bytes(bytes)
    }
}

impl From<&'static [u8]> for Payload {
    fn from(bytes: &'static [u8]) -> Self {
        Payload::Bytes(Bytes::from_static(bytes))
    }
}

impl From<Vec<Payload>> for Payload {
    fn from(pieces: Vec<Payload>) -> Self {
        Payload::Gather(pieces)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = match self {
            Payload::Buffer(_) => "Buffer",
            Payload::Vec(_) => "Vec",
            Payload::Bytes(_) => "Bytes",
            Payload::Gather(_) => "Gather",
        };
        write!(f, "Payload::{form}({} bytes)", self.len())
    }
}

/// Memory to receive into, owned by the driver from acceptance to completion; its present length is what is asked for.
pub enum ReceiveBuffer {
    /// A pool buffer.
    Buffer(Buffer),
    /// A vector of one's own.
    Vec(Vec<u8>),
}

impl ReceiveBuffer {
    /// How many bytes may come, in bytes.
    pub fn len(&self) -> usize {
        match self {
            ReceiveBuffer::Buffer(buffer) => buffer.len(),
            ReceiveBuffer::Vec(bytes) => bytes.len(),
        }
    }

    /// True if nothing could be received.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn span(&mut self) -> SpanMut {
        match self {
            ReceiveBuffer::Buffer(buffer) => SpanMut::of(buffer),
            ReceiveBuffer::Vec(bytes) => SpanMut::of(bytes),
        }
    }

    /// Cuts it to what was received.
    pub(crate) fn truncate(&mut self, length: usize) {
        match self {
            ReceiveBuffer::Buffer(buffer) => buffer.set_len(length),
            ReceiveBuffer::Vec(bytes) => bytes.truncate(length),
        }
    }
}

impl From<Buffer> for ReceiveBuffer {
    fn from(buffer: Buffer) -> Self {
        ReceiveBuffer::Buffer(buffer)
    }
}

impl From<Vec<u8>> for ReceiveBuffer {
    fn from(bytes: Vec<u8>) -> Self {
        ReceiveBuffer::Vec(bytes)
    }
}

impl From<ReceiveBuffer> for Payload {
    fn from(buffer: ReceiveBuffer) -> Self {
        match buffer {
            ReceiveBuffer::Buffer(buffer) => Payload::Buffer(buffer),
            ReceiveBuffer::Vec(bytes) => Payload::Vec(bytes),
        }
    }
}

impl fmt::Debug for ReceiveBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReceiveBuffer({} bytes)", self.len())
    }
}

/// How a socket is closed.
//= CLOSE-2
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseMode {
    /// Queued sends finish, the write side is shut, received bytes are discarded until the peer's end; at the latest
    /// after `deadline` from now it becomes an abort.
    Graceful {
        /// How long the peer may take.
        deadline: Duration,
    },
    /// Everything is cancelled and the peer sees a reset.
    Abort,
}

/// An intention, with the buffer that it needs. Each is also a method of [`Driver`](crate::Driver), with the same fields.
#[derive(Debug)]
#[non_exhaustive]
pub enum Operation {
    /// A stream of accepted connections from a listener.
    Accept {
        /// The listener.
        socket: SocketId,
    },
    /// A connection to a peer.
    Connect {
        /// The peer.
        address: Address,
        /// Options of the new socket.
        options: ConnectOptions,
    },
    /// A stream of received bytes, or of datagrams, in pool buffers.
    Receive {
        /// The connection.
        socket: SocketId,
    },
    /// One receive into the caller's buffer.
    ReceiveInto {
        /// The connection.
        socket: SocketId,
        /// Where the bytes go.
        buffer: ReceiveBuffer,
    },
    /// All bytes of the payload, in order.
    Send {
        /// The connection.
        socket: SocketId,
        /// The bytes.
        payload: Payload,
        /// No completion on success; the payload is dropped.
        quiet: bool,
    },
    /// One datagram.
    SendTo {
        /// The datagram socket.
        socket: SocketId,
        /// Where it goes.
        to: SocketAddr,
        /// Its bytes, perhaps none.
        payload: Payload,
        /// No completion on success; the payload is dropped.
        quiet: bool,
    },
    /// The end of the write side, after what is queued.
    ShutdownWrite {
        /// The connection.
        socket: SocketId,
    },
    /// The end of the socket.
    Close {
        /// Connection or listener.
        socket: SocketId,
        /// In which way.
        mode: CloseMode,
    },
    /// A completion after some time.
    Timer {
        /// From now.
        after: Duration,
    },
    /// An unattached socket for this driver.
    Adopt {
        /// A connected socket or a listener.
        socket: AcceptedSocket,
    },
}
