//! The driver's record of one operation, with all that it owns.

use socket2::SockAddr;

use crate::base::index::{OperationIndex, SocketIndex};
use crate::base::timer::TimerHandle;
use crate::driver::operation::{Payload, ReceiveBuffer};
use crate::memory::Span;

/// A datagram and what it needs to be sent, in a place of its own: the kernel looks at it until the send has ended.
#[derive(Default)]
pub(crate) struct Envelope {
    pub(crate) payload: Option<Payload>,
    pub(crate) address: Option<SockAddr>,
    pub(crate) spans: Vec<Span>,
}

/// Subject of an operation, with all that it owns.
pub(crate) enum Body {
    Accept,
    /// The peer's address in the system's form; boxed, so that it stays in place.
    Connect(Box<SockAddr>),
    Receive,
    ReceiveInto(ReceiveBuffer),
    Send(Payload),
    SendDatagram(Box<Envelope>),
    ShutdownWrite,
    Timer {
        handle: Option<TimerHandle>,
        deadline_ns: u64,
    },
}

/// An operation that was accepted, until it ends.
pub(crate) struct Queued {
    pub(crate) token: u64,
    pub(crate) submitted_ns: u64,
    /// None for a timer.
    pub(crate) socket: Option<SocketIndex>,
    /// The operation behind it in its queue.
    pub(crate) next: Option<OperationIndex>,
    /// Length of the payload or buffer, in bytes.
    pub(crate) length: u32,
    /// Bytes transferred so far.
    pub(crate) done: u32,
    /// No completion on success.
    pub(crate) is_quiet: bool,
    /// The kernel has it.
    pub(crate) is_armed: bool,
    /// The caller has cancelled it.
    pub(crate) is_cancelled: bool,
    /// The driver's own: it reports to nobody.
    pub(crate) is_internal: bool,
    pub(crate) body: Body,
}

impl Queued {
    pub(crate) fn new(token: u64, socket: Option<SocketIndex>, body: Body) -> Self {
        Queued {
            token,
            submitted_ns: 0,
            socket,
            next: None,
            length: 0,
            done: 0,
            is_quiet: false,
            is_armed: false,
            is_cancelled: false,
            is_internal: false,
            body,
        }
    }

    /// Its socket.
    #[inline]
    pub(crate) fn socket(&self) -> SocketIndex {
        self.socket.expect("only a timer has no socket")
    }

    /// The buffer it carries, to be handed back.
    pub(crate) fn take_payload(&mut self) -> Option<Payload> {
        match std::mem::replace(&mut self.body, Body::Accept) {
            Body::Send(payload) => Some(payload),
            Body::SendDatagram(envelope) => envelope.payload,
            Body::ReceiveInto(buffer) => Some(buffer.into()),
            other => {
                self.body = other;
                None
            }
        }
    }
}

const _: () = assert!(size_of::<Queued>() <= 80);
