//! Completions: the report that an operation has ended, with its typed result.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::base::error::Error;
use crate::base::id::{OperationId, SocketId};
use crate::driver::operation::{Operation, Payload, ReceiveBuffer};
use crate::memory::buffer::Buffer;
use crate::socket::AcceptedSocket;

/// The report on one operation (or one item of a stream operation), at most 96 bytes.
#[derive(Debug)]
pub struct Completion {
    /// What the caller gave on submit.
    pub token: u64,
    /// Which operation; [`OperationId::NONE`] for `Closed`, `Writable`, and what was refused after the mailbox took it.
    pub operation: OperationId,
    /// On which socket; [`SocketId::NONE`] for timers and refusals.
    pub socket: SocketId,
    /// True if further completions of this operation follow. Exactly one comes without it, the last.
    //= ONCE-1
    pub more: bool,
    /// The result.
    pub outcome: Outcome,
}

/// The typed result of an operation.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// A connection was accepted; adopt it here or on another driver, or drop it to close it.
    Accepted(AcceptedSocket),
    /// The socket of this completion is connected.
    Connected,
    /// The socket of this completion is now this driver's.
    Adopted,
    /// Bytes of a receive stream. Empty and without `more`: the peer's orderly end.
    //= EOF-1
    Received(Buffer),
    /// One datagram, whole, perhaps empty, of a receive stream (`more` is set), and who sent it.
    //= DGRAM-1
    Datagram {
        /// Its bytes.
        bytes: Buffer,
        /// The sender.
        from: SocketAddr,
    },
    /// A datagram was longer than `BindOptions::datagram_bytes_max` and is lost (`more` is set).
    Truncated {
        /// The sender.
        from: SocketAddr,
    },
    /// The network says that an earlier datagram did not reach its peer (ICMP); the stream goes on (`more` is set).
    Undelivered(Error),
    /// The caller's buffer, cut to the bytes received; empty at the peer's orderly end.
    ReceivedInto(ReceiveBuffer),
    /// All bytes of the payload were sent.
    Sent(Payload),
    /// The write side is shut, after all that was queued.
    WriteShut,
    /// The timer's time has come.
    Expired,
    /// The socket is gone: its last completion.
    Closed,
    /// A socket that answered Busy has room again, or one that was asked whether it is
    /// [`writable`](crate::Driver::writable) has nothing queued any more; the token is that of the refused send or of the
    /// question, whichever was last.
    Writable,
    /// An accept stream lacks descriptors or memory, backs off and goes on (`more` is set).
    AcceptPaused(Error),
    /// The operation failed.
    Failed {
        /// Why.
        error: Error,
        /// The buffer, if the operation had one.
        payload: Option<Payload>,
        /// How many bytes were transferred all the same, in bytes.
        transferred: u32,
    },
    /// What a mailbox had taken and the driver then refused, whole.
    Refused {
        /// Why.
        error: Error,
        /// The operation, untouched.
        value: Box<Operation>,
    },
}

impl Outcome {
    /// The error, if this is one.
    #[inline]
    pub fn error(&self) -> Option<Error> {
        match self {
            Outcome::Failed { error, .. }
            | Outcome::Refused { error, .. }
            | Outcome::AcceptPaused(error)
            | Outcome::Undelivered(error) => Some(*error),
            _ => None,
        }
    }
}

/// Completions that memory is taken for before they come.
const RESERVED_MAX: usize = 16_384;

/// Where [`Driver::poll`](crate::Driver::poll) puts what has ended. Kept by the caller, so that draining it does not
/// borrow the driver; its capacity bounds how much one turn delivers.
#[derive(Debug)]
pub struct Completions {
    pub(crate) queue: VecDeque<Completion>,
    capacity: usize,
}

impl Completions {
    /// Room for `capacity` completions per turn, at least 1; 256 to 1,024 suits a busy server. Memory is taken for the first
    /// 16,384 of them, if it can be had, and for more when so many come.
    pub fn with_capacity(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        let mut queue = VecDeque::new();
        // Without memory now it is asked for again when a completion comes.
        let _ = queue.try_reserve(capacity.min(RESERVED_MAX));
        Completions { queue, capacity }
    }

    /// The most that one turn delivers.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many wait to be looked at.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// True if none waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The next one.
    pub fn pop(&mut self) -> Option<Completion> {
        self.queue.pop_front()
    }

    /// All of them, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Completion> + '_ {
        self.queue.drain(..)
    }
}

const _: () = assert!(size_of::<Completion>() <= 96);
