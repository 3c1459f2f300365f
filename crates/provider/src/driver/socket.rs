//! The driver's record of one socket: a FIFO of operations per direction, and how far its end has come.
//!
//! Life of a socket:
//! 1. `listen`, `connect` or `adopt` fills a slot and attaches the handle to the back end.
//! 2. Operations are linked into the receive or the send queue. The head of each queue, and no other, is in the kernel
//!    (of the sends, a batch from the head on that leaves as one).
//! 3. `close` sets CLOSING: the id is stale for callers, the slot stays.
//! 4. When nothing is in the kernel and both queues are empty, `Closed` is reported, the handle is detached and closed,
//!    and the slot's generation moves on.
//!
//! On drop of the driver every socket is aborted and goes through 4, see `driver/close.rs`.

use socket2::SockAddr;

use crate::base::id::OperationId;
use crate::base::index::{OperationIndex, SocketIndex, index};
use crate::base::timer::TimerHandle;
use crate::driver::operation::{Payload, Room};
use crate::memory::Span;
use crate::socket::AnySocket;

/// States of a socket, one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Flags(u32);

impl Flags {
    pub(crate) const LISTENER: Flags = Flags(1);
    pub(crate) const CONNECTING: Flags = Flags(1 << 1);
    /// The caller does not want bytes now.
    pub(crate) const PAUSED: Flags = Flags(1 << 2);
    /// In the line of sockets that wait for a receive buffer.
    pub(crate) const STARVED: Flags = Flags(1 << 3);
    /// The peer has ended its direction, or receiving has failed for good.
    pub(crate) const ENDED: Flags = Flags(1 << 4);
    /// `shutdown_write` was accepted: no more sends.
    pub(crate) const WRITE_CLOSED: Flags = Flags(1 << 5);
    /// A send was refused: `Writable` is owed.
    pub(crate) const WRITABLE_OWED: Flags = Flags(1 << 6);
    /// In the list of sockets with sends to hand over.
    pub(crate) const DIRTY: Flags = Flags(1 << 7);
    /// The last send was short: the end of the next one is waited for.
    pub(crate) const PROMPT: Flags = Flags(1 << 8);
    pub(crate) const CLOSING: Flags = Flags(1 << 9);
    /// Cancel everything, linger 0.
    pub(crate) const ABORT: Flags = Flags(1 << 10);
    /// Bytes come in bulk: receive into larger buffers.
    pub(crate) const BULK: Flags = Flags(1 << 11);
    /// The armed receive is being cancelled by the driver itself (pause, or change of section).
    pub(crate) const DISARMING: Flags = Flags(1 << 12);
    /// An accept stream backs off.
    pub(crate) const BACKING_OFF: Flags = Flags(1 << 13);
    /// A cancel for the sends in the kernel is on its way.
    pub(crate) const SEND_CANCELLING: Flags = Flags(1 << 14);
    /// Shut for writing by a graceful close.
    pub(crate) const FIN_SENT: Flags = Flags(1 << 15);
    /// Datagrams instead of a stream.
    pub(crate) const DATAGRAM: Flags = Flags(1 << 16);
    /// Sends need no address.
    pub(crate) const HAS_PEER: Flags = Flags(1 << 17);
    /// It was told of a reset: its input has no orderly end any more.
    pub(crate) const BROKEN: Flags = Flags(1 << 18);
    /// Its datagrams may come merged.
    pub(crate) const COALESCE: Flags = Flags(1 << 19);
    /// `Writable` is owed when no send is queued any more, not before.
    pub(crate) const EMPTY_AWAITED: Flags = Flags(1 << 20);
    /// Its stream has used more than its share of a turn: it receives one buffer at a time.
    pub(crate) const RATIONED: Flags = Flags(1 << 21);
    /// In the line of streams that have had their share.
    pub(crate) const IN_LINE: Flags = Flags(1 << 22);
    /// Datagrams of IPv6: IPv4 addresses are given to the system in IPv6 form.
    pub(crate) const V6: Flags = Flags(1 << 23);
    /// Input that still comes while the stream is paused is delivered, not held.
    pub(crate) const PASSING: Flags = Flags(1 << 24);
    /// Any of those for which no send is taken.
    pub(crate) const NOT_SENDING: Flags =
        Flags(Self::LISTENER.0 | Self::CONNECTING.0 | Self::WRITE_CLOSED.0 | Self::DATAGRAM.0);
    /// Any of those for which the end of a send is more than that.
    pub(crate) const SEND_END_WATCHED: Flags =
        Flags(Self::WRITABLE_OWED.0 | Self::CLOSING.0 | Self::ABORT.0 | Self::SEND_CANCELLING.0 | Self::DATAGRAM.0);

    pub(crate) fn is(self, flag: Flags) -> bool {
        self.0 & flag.0 != 0
    }

    pub(crate) fn set_if(&mut self, flag: Flags, condition: bool) {
        if condition {
            self.0 |= flag.0;
        }
    }
}

index!(
    /// Index of a list of spans.
    pub(crate) GatherIndex
);
index!(
    /// Index of a completion that is held.
    pub(crate) HeldIndex
);

/// One socket of the table.
pub(crate) struct Entry {
    pub(crate) endpoint: AnySocket,
    flags: Flags,
    /// Full receives in a row, then small ones in a row: when to change the section.
    pub(crate) streak: u8,
    /// Turns by which the deadline of a graceful close was put off because input was there.
    pub(crate) put_off: u8,
    /// The turn in which its stream last delivered, and the bytes that it delivered in that turn.
    pub(crate) turn: u32,
    pub(crate) turn_bytes: u32,
    /// Requests in the kernel: at most as many as there are operations.
    pub(crate) in_kernel: u32,
    /// Sends in the kernel, from the head of the queue on: each has a piece, of which a batch has at most 1,024.
    pub(crate) batch_count: u16,
    pub(crate) batch_bytes: u32,
    /// Which span list the batch uses.
    pub(crate) gather: Option<GatherIndex>,
    pub(crate) receive_head: Option<OperationIndex>,
    pub(crate) receive_tail: Option<OperationIndex>,
    pub(crate) send_head: Option<OperationIndex>,
    pub(crate) send_tail: Option<OperationIndex>,
    pub(crate) send_bytes: u32,
    pub(crate) send_count: u32,
    pub(crate) held_head: Option<HeldIndex>,
    pub(crate) held_tail: Option<HeldIndex>,
    /// Deadline of a graceful close, or of the pause of an accept or a connect.
    pub(crate) timer: Option<TimerHandle>,
    pub(crate) backoff_ms: u16,
    pub(crate) writable_token: u64,
    pub(crate) close_token: u64,
    /// The last receive stream, which may have ended.
    pub(crate) stream: OperationId,
}

impl Entry {
    pub(crate) fn new(endpoint: AnySocket, flags: Flags) -> Self {
        Entry {
            endpoint,
            flags,
            streak: 0,
            put_off: 0,
            turn: 0,
            turn_bytes: 0,
            in_kernel: 0,
            batch_count: 0,
            batch_bytes: 0,
            gather: None,
            receive_head: None,
            receive_tail: None,
            send_head: None,
            send_tail: None,
            send_bytes: 0,
            send_count: 0,
            held_head: None,
            held_tail: None,
            timer: None,
            backoff_ms: 0,
            writable_token: 0,
            close_token: 0,
            stream: OperationId::NONE,
        }
    }

    /// True if the flag, or any of several, is set.
    pub(crate) fn is(&self, flag: Flags) -> bool {
        self.flags.is(flag)
    }

    pub(crate) fn set(&mut self, flag: Flags, value: bool) {
        if value {
            self.flags.0 |= flag.0;
        } else {
            self.flags.0 &= !flag.0;
        }
    }

    /// Input of its receive stream is held until the stream is resumed.
    pub(crate) fn is_holding(&self) -> bool {
        self.is(Flags::PAUSED) && !self.is(Flags::PASSING)
    }

    /// The one send that was queued, and in the kernel, is gone.
    pub(crate) fn forget_last_send(&mut self) {
        self.in_kernel -= 1;
        self.batch_count = 0;
        (self.send_head, self.send_tail) = (None, None);
        (self.send_bytes, self.send_count) = (0, 0);
        self.set(Flags::PROMPT, false);
    }

    /// Nothing is queued and nothing is in the kernel.
    pub(crate) fn is_quiet(&self) -> bool {
        self.in_kernel == 0 && self.receive_head.is_none() && self.send_head.is_none()
    }
}

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
    Connect(Box<socket2::SockAddr>),
    Receive,
    ReceiveInto(Room),
    Send(Payload),
    SendDatagram(Box<Envelope>),
    ShutdownWrite,
    Timer {
        handle: Option<TimerHandle>,
        deadline_ns: u64,
    },
}

/// One accepted operation.
pub(crate) struct Operation {
    pub(crate) token: u64,
    pub(crate) submitted_ns: u64,
    /// None for a timer.
    pub(crate) socket: Option<SocketIndex>,
    /// The operation behind it in its queue.
    pub(crate) next: Option<OperationIndex>,
    /// Length of the payload or room, in bytes.
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

impl Operation {
    pub(crate) fn new(token: u64, socket: Option<SocketIndex>, body: Body) -> Self {
        Operation {
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
            Body::ReceiveInto(room) => Some(room.into()),
            other => {
                self.body = other;
                None
            }
        }
    }
}

const _: () = assert!(size_of::<Entry>() <= 112 && size_of::<Operation>() <= 80);
