//! The driver's record of one socket: the role that it has, with what only that role needs, and how far its end has come.
//!
//! Life of a socket:
//! 1. `listen`, `bind`, `connect` or `adopt` fills a slot and attaches the handle to the back end. A socket that connects
//!    becomes a stream; otherwise a role is for life.
//! 2. Operations are linked into the receive or the send queue. The head of each queue, and no other, is in the kernel
//!    (of the sends, a batch from the head on that leaves as one; of datagrams, all).
//! 3. `close` makes the id stale for callers; the slot stays.
//! 4. When both queues are empty, and so nothing is in the kernel, `Closed` is reported, the handle is detached and closed,
//!    and the slot's generation moves on.
//!
//! On drop of the driver every socket is aborted and goes through 4, see `driver/shutdown.rs`.

use crate::base::error::{Error, ErrorKind};
use crate::base::index::{OperationIndex, index};
use crate::base::timer::TimerHandle;
use crate::contract::CompletionMode;
use crate::memory::buffer::Section;
use crate::socket::AnySocket;

/// One socket of the table.
pub(crate) struct Entry {
    pub(crate) endpoint: AnySocket,
    pub(crate) closing: Closing,
    pub(crate) role: Role,
}

/// Progress of a socket's end.
pub(crate) enum Closing {
    /// The socket is open.
    No,
    /// The queued sends go out, and then the peer's end is waited for, until the deadline.
    Graceful {
        token: u64,
        deadline: TimerHandle,
        /// Turns by which the deadline was put off because input was there.
        put_off: u8,
    },
    /// Everything is cancelled, linger 0.
    Aborting { token: u64 },
}

/// Use of a socket.
pub(crate) enum Role {
    Listener(Listener),
    Connecting(Connecting),
    Stream(Stream),
    Datagram(Datagram),
}

/// A listening socket.
#[derive(Default)]
pub(crate) struct Listener {
    pub(crate) accepting: Attempt,
    pub(crate) trouble: Trouble,
}

/// Trouble of an accept stream since its last connection.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Trouble {
    #[default]
    None,
    /// A connection had ended while it waited, and the next one was asked for at once.
    Skipped,
    /// The stream has paused, the last time so long.
    Paused { ms: u16 },
}

/// A socket that is being connected.
#[derive(Default)]
pub(crate) struct Connecting {
    pub(crate) attempt: Attempt,
    /// Last pause before the listener was asked again.
    pub(crate) pause_ms: u16,
}

/// A request that is made again after a pause as long as it fails for the moment.
#[derive(Clone, Copy, Default)]
pub(crate) enum Attempt {
    /// Nothing is asked for.
    #[default]
    None,
    /// The kernel has it, or gets it with the next turn.
    InKernel(OperationIndex),
    /// It waits until its timer is due.
    Pausing(OperationIndex, TimerHandle),
}

/// A connection.
#[derive(Default)]
pub(crate) struct Stream {
    pub(crate) receiving: Receiving,
    pub(crate) sending: Sending,
}

/// A datagram socket.
#[derive(Default)]
pub(crate) struct Datagram {
    pub(crate) receiving: Receiving,
    /// Its datagrams are all in the kernel.
    pub(crate) backlog: Backlog,
    /// Sends need no address.
    pub(crate) has_peer: bool,
    /// IPv4 addresses are given to the system in IPv6 form.
    pub(crate) is_v6: bool,
    /// Its datagrams may come merged.
    pub(crate) is_coalescing: bool,
}

/// The receive side of a stream or of a datagram socket.
#[derive(Default)]
pub(crate) struct Receiving {
    pub(crate) input: Input,
    /// The last of the completions that are held; it leads to the first.
    pub(crate) held: Option<HeldIndex>,
    pub(crate) flow: Flow,
    pub(crate) queue: WaitQueue,
    /// Size of the buffers into which its stream receives.
    pub(crate) section: Section,
    /// Full receives in a row, then small ones in a row: when to change the section.
    pub(crate) streak: u8,
    /// The turn in which its stream last delivered, and the bytes that it delivered in that turn.
    pub(crate) turn: u32,
    pub(crate) turn_bytes: u32,
    /// Its stream has used more than its share of a turn: it receives one buffer at a time.
    pub(crate) is_rationed: bool,
    /// The request is being cancelled by the driver itself (pause, or change of section).
    pub(crate) is_disarming: bool,
    /// The peer has ended its direction, or receiving has failed for good.
    pub(crate) has_ended: bool,
    /// It was told of a reset: its input has no orderly end any more.
    pub(crate) is_broken: bool,
}

/// Receives that were asked for.
#[derive(Clone, Copy)]
pub(crate) enum Input {
    /// Nothing since the stream of that name, of which some completions may still wait for delivery.
    None(Option<StreamName>),
    /// A stream.
    Stream(StreamName),
    /// Single receives, of which the first one is in the kernel.
    Queue { head: OperationIndex, tail: OperationIndex },
}

/// Name of a receive stream, good also after its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamName {
    pub(crate) operation: OperationIndex,
    pub(crate) generation: u32,
}

/// Flow of a receive stream: does it take bytes from the kernel, and does it deliver them?
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Flow {
    #[default]
    Open,
    /// Nothing is taken, and what still comes is held.
    Holding,
    /// Nothing is taken, and what still comes is delivered.
    Passing,
}

/// The queue in which a receive stream waits to be armed.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum WaitQueue {
    #[default]
    None,
    /// Streams that found no buffer wait here.
    Starved,
    /// Streams that have had their share wait here.
    Rationed,
}

/// The send side of a stream.
#[derive(Default)]
pub(crate) struct Sending {
    pub(crate) head: Option<OperationIndex>,
    pub(crate) tail: Option<OperationIndex>,
    pub(crate) backlog: Backlog,
    pub(crate) batch: Batch,
    pub(crate) write: WriteSide,
}

/// Size of what is queued to be sent, and who waits for it to become less.
#[derive(Default)]
pub(crate) struct Backlog {
    /// Token of the `Writable` that is owed.
    pub(crate) writable_token: u64,
    pub(crate) bytes: u32,
    pub(crate) count: u32,
    pub(crate) owed: Owed,
}

/// Moment at which a `Writable` is to be told.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Owed {
    /// None is owed.
    #[default]
    Nothing,
    /// As soon as there is room: a send was refused.
    Room,
    /// As soon as no send is queued any more.
    Emptiness,
}

/// The request that sends, from the head of the queue on. At most one is in the kernel: two could reorder.
#[derive(Clone, Copy)]
pub(crate) enum Batch {
    /// None is in the kernel.
    None {
        /// The socket is in the list of those with sends to hand over.
        is_dirty: bool,
        /// The last one was short: the end of the next one is waited for.
        was_short: bool,
    },
    InKernel {
        /// Operations of the queue, from its head on: each has a piece, of which there are at most 1,024.
        count: u16,
        bytes: u32,
        /// The list of spans that it uses.
        gather: Option<GatherIndex>,
        /// A cancel of it is on its way.
        is_cancelling: bool,
    },
}

/// State of the direction to the peer.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum WriteSide {
    #[default]
    Open,
    /// `shutdown_write` was accepted: no more sends.
    Shut,
    /// A graceful close has shut it.
    FinSent,
}

index!(
    /// Index of a list of spans.
    pub(crate) GatherIndex
);
index!(
    /// Index of a completion that is held.
    pub(crate) HeldIndex
);

impl Entry {
    pub(crate) fn new(endpoint: AnySocket, role: Role) -> Self {
        Entry { endpoint, closing: Closing::No, role }
    }

    pub(crate) fn is_closing(&self) -> bool {
        !matches!(self.closing, Closing::No)
    }

    pub(crate) fn is_aborting(&self) -> bool {
        matches!(self.closing, Closing::Aborting { .. })
    }

    pub(crate) fn is_listener(&self) -> bool {
        matches!(self.role, Role::Listener(_))
    }

    pub(crate) fn is_datagram(&self) -> bool {
        matches!(self.role, Role::Datagram(_))
    }

    /// The receive side, if the role has one.
    #[inline]
    pub(crate) fn find_receiving(&self) -> Option<&Receiving> {
        match &self.role {
            Role::Stream(stream) => Some(&stream.receiving),
            Role::Datagram(datagram) => Some(&datagram.receiving),
            Role::Listener(_) | Role::Connecting(_) => None,
        }
    }

    #[inline]
    pub(crate) fn find_receiving_mut(&mut self) -> Option<&mut Receiving> {
        match &mut self.role {
            Role::Stream(stream) => Some(&mut stream.receiving),
            Role::Datagram(datagram) => Some(&mut datagram.receiving),
            Role::Listener(_) | Role::Connecting(_) => None,
        }
    }

    /// The receive side of a socket that receives.
    #[inline]
    pub(crate) fn receiving(&self) -> &Receiving {
        self.find_receiving().expect("only streams and datagram sockets receive")
    }

    #[inline]
    pub(crate) fn receiving_mut(&mut self) -> &mut Receiving {
        self.find_receiving_mut().expect("only streams and datagram sockets receive")
    }

    /// The send side of a stream.
    #[inline]
    pub(crate) fn sending(&self) -> &Sending {
        let Role::Stream(stream) = &self.role else { unreachable!("only streams queue their sends") };
        &stream.sending
    }

    #[inline]
    pub(crate) fn sending_mut(&mut self) -> &mut Sending {
        let Role::Stream(stream) = &mut self.role else { unreachable!("only streams queue their sends") };
        &mut stream.sending
    }

    pub(crate) fn datagram(&self) -> &Datagram {
        let Role::Datagram(datagram) = &self.role else { unreachable!("the socket was asked for its class") };
        datagram
    }

    pub(crate) fn datagram_mut(&mut self) -> &mut Datagram {
        let Role::Datagram(datagram) = &mut self.role else { unreachable!("the socket was asked for its class") };
        datagram
    }

    /// Size of what is queued to be sent, if the role sends.
    #[inline]
    pub(crate) fn backlog_mut(&mut self) -> Option<&mut Backlog> {
        match &mut self.role {
            Role::Stream(stream) => Some(&mut stream.sending.backlog),
            Role::Datagram(datagram) => Some(&mut datagram.backlog),
            Role::Listener(_) | Role::Connecting(_) => None,
        }
    }

    /// The batch is on its way to the kernel. `is_lazy`: it is all quiet, whole, and nothing is queued behind it.
    #[inline]
    pub(crate) fn start_batch(&mut self, batch: Batch, is_lazy: bool) -> CompletionMode {
        let is_closing = self.is_closing();
        let sending = self.sending_mut();
        let was_short = matches!(sending.batch, Batch::None { was_short: true, .. });
        let waits = was_short || is_closing || sending.backlog.owed != Owed::Nothing;
        sending.batch = batch;
        if is_lazy && !waits { CompletionMode::OnError } else { CompletionMode::Always }
    }

    /// The system tells of a reset once, to whichever operation asks first, or to a send that had made progress and keeps
    /// it to itself: then the next one hears of a broken pipe. The driver remembers.
    pub(crate) fn note_reset(&mut self, error: Error) {
        let is_broken = match error.kind() {
            ErrorKind::ConnectionReset => true,
            ErrorKind::BrokenPipe => !self.endpoint.has_peer(),
            _ => false,
        };
        self.receiving_mut().is_broken |= is_broken;
    }

    /// Meaning of a receive of 0 bytes: the peer's orderly end, or a reset of which a send was told before (the system
    /// tells it once, and a send that had made progress keeps it to itself). A reset connection has no peer any more.
    pub(crate) fn end_of_input(&mut self) -> Result<(), Error> {
        if self.is_aborting() {
            return Err(Error::new(ErrorKind::Cancelled));
        }
        let is_shut = matches!(&self.role, Role::Stream(stream) if stream.sending.write != WriteSide::Open);
        let had_ended = self.receiving().has_ended || is_shut;
        let is_broken = self.receiving().is_broken || !(had_ended || self.endpoint.has_peer());
        let receiving = self.receiving_mut();
        (receiving.has_ended, receiving.is_broken) = (true, is_broken);
        if is_broken { Err(Error::new(ErrorKind::ConnectionReset)) } else { Ok(()) }
    }

    /// No operation is left, so that nothing is in the kernel either.
    pub(crate) fn is_quiet(&self) -> bool {
        match &self.role {
            Role::Listener(listener) => listener.accepting.operation().is_none(),
            Role::Connecting(connecting) => connecting.attempt.operation().is_none(),
            Role::Stream(stream) => stream.receiving.input.head().is_none() && stream.sending.head.is_none(),
            Role::Datagram(datagram) => datagram.receiving.input.head().is_none() && datagram.backlog.count == 0,
        }
    }
}

impl Attempt {
    pub(crate) fn operation(self) -> Option<OperationIndex> {
        match self {
            Attempt::None => None,
            Attempt::InKernel(operation) | Attempt::Pausing(operation, _) => Some(operation),
        }
    }
}

impl Sending {
    /// True if one operation is queued, all in one piece, and its end is nothing more than that.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        let Sending { backlog, batch, .. } = self;
        let is_alone = matches!(batch, Batch::InKernel { gather: None, is_cancelling: false, .. });
        is_alone && backlog.count == 1 && backlog.owed == Owed::Nothing
    }

    /// The one send that was queued, and in the kernel, is gone.
    #[inline]
    pub(crate) fn forget_last(&mut self) {
        (self.head, self.tail, self.batch) = (None, None, Batch::default());
        (self.backlog.bytes, self.backlog.count) = (0, 0);
    }
}

impl Receiving {
    pub(crate) fn is_holding(&self) -> bool {
        self.flow == Flow::Holding
    }
}

impl Input {
    /// The operation that is in the kernel, or would be if the stream were armed.
    #[inline]
    pub(crate) fn head(self) -> Option<OperationIndex> {
        match self {
            Input::None(_) => None,
            Input::Stream(stream) => Some(stream.operation),
            Input::Queue { head, .. } => Some(head),
        }
    }

    /// The operation of a stream.
    #[inline]
    pub(crate) fn stream(self) -> Option<OperationIndex> {
        if let Input::Stream(stream) = self { Some(stream.operation) } else { None }
    }

    /// The last stream, which may have ended.
    pub(crate) fn last_stream(self) -> Option<StreamName> {
        match self {
            Input::None(stream) => stream,
            Input::Stream(stream) => Some(stream),
            Input::Queue { .. } => None,
        }
    }
}

impl Default for Input {
    fn default() -> Self {
        Input::None(None)
    }
}

impl Batch {
    pub(crate) fn count(self) -> u32 {
        if let Batch::InKernel { count, .. } = self { u32::from(count) } else { 0 }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Batch::None { is_dirty: false, was_short: false }
    }
}

// What an idle connection costs; see docs/performance.md.
const _: () = assert!(size_of::<Entry>() <= 112 && size_of::<Option<Entry>>() == size_of::<Entry>());
