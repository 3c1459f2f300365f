//! Contract of a back end: a handful of functions, called once per turn with a batch of requests.
//!
//! A back end knows neither queues nor order nor close: it starts a request, ends it with exactly one final [`Event`],
//! and stops it on `Cancel`. Everything that users see is built from that in `driver/`, once for all.

pub(crate) mod form;
pub(crate) mod input;
pub(crate) mod merge;
pub(crate) mod ready_queue;
pub(crate) mod stats;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::base::error::{Error, ErrorKind, Feature};
use crate::base::kind::Kind;
use crate::base::slots::Key;
use crate::base::wake::Waker;
use crate::memory::buffer::{Buffer, BufferPool, Section};
use crate::memory::{Span, SpanList, SpanMut, Target};
use crate::platform::RawHandle;
use crate::socket::sim::network::SimNetwork;
use crate::socket::{AcceptedSocket, AnyNetwork, AnySocket};

/// One request to the operating system. Spans stay valid until the request's final event (OWN-1).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// Names the request in events and in `Cancel`.
    pub key: RequestKey,
    /// Index of the socket that it is about.
    pub socket: u32,
    /// The operating system's handle of that socket.
    pub handle: RawHandle,
    /// What to do.
    pub action: Action,
}

/// Name of a request: unique among those that are in the kernel.
pub(crate) type RequestKey = Key;

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    /// Accept connections until cancelled.
    Accept,
    /// Connect to the address that the span holds in the system's form.
    Connect(Span),
    /// Receive into pool buffers of the section, until the shots are used up, or cancelled or ended.
    Receive(Section, Shots),
    /// Receive once into the span.
    ReceiveInto(SpanMut),
    /// Send the span.
    Send(Span, CompletionMode),
    /// Send the spans in order, as one.
    SendList(SpanList, CompletionMode),
    /// Receive datagrams into pool buffers of the section, until cancelled.
    ReceiveDatagrams(Section, Arrival),
    /// Send the spans as one datagram. Several of a socket may be under way.
    SendDatagram(SpanList, Target, CompletionMode),
    /// End the request of this key: its final event follows, `Cancelled` or its true result.
    Cancel,
}

/// Report that the driver wants of a send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CompletionMode {
    /// Its end, whatever it is: something waits for it.
    Always,
    /// A failure. All of it is quiet and nothing is queued behind it: success is reported with whatever comes next, and a wait
    /// need not end for it.
    OnError,
}

/// Number of buffers that a receive stream delivers before its request ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shots {
    /// One buffer: its event is the request's last.
    One,
    /// Any number.
    Many,
}

/// How datagrams come out of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arrival {
    /// One at a time.
    Single,
    /// Perhaps several as one, up to [`MERGED_BYTES_MAX`](crate::contract::merge::MERGED_BYTES_MAX) together, with their common length
    /// beside them.
    Merged,
}

/// What a request has come to.
#[derive(Debug)]
pub(crate) struct Event {
    /// Which request.
    pub key: RequestKey,
    /// False: the request has ended and its spans are free.
    pub more: bool,
    /// What happened.
    pub result: EventResult,
}

impl Event {
    /// Event of a request that goes on.
    pub(crate) fn more(key: RequestKey, result: EventResult) -> Self {
        Event { key, more: true, result }
    }

    /// Final event of a request.
    pub(crate) fn last(key: RequestKey, result: EventResult) -> Self {
        Event { key, more: false, result }
    }
}

/// The result in an event.
#[derive(Debug)]
pub(crate) enum EventResult {
    /// A connection.
    Accepted(AcceptedSocket),
    /// Connected.
    Connected,
    /// Bytes; an empty buffer is the peer's end.
    Received(Buffer),
    /// So many bytes are in the span; 0 is the peer's end.
    ReceivedInto(usize),
    /// One datagram, perhaps empty, and where it came from.
    Datagram(Buffer, SocketAddr),
    /// Datagrams in a row, each so many bytes long, the last perhaps shorter, and where all of them came from.
    Datagrams(Buffer, SocketAddr, u16),
    /// A datagram from there did not fit into a buffer of the section and is gone.
    Truncated(SocketAddr),
    /// Number of bytes that went out, perhaps fewer than asked, also 0; the rest is to be asked for again, as `Always`.
    Sent(usize),
    /// It failed; `NoBuffers` on a receive means: again when buffers are back, `Busy` on a connect: again after a while.
    /// With `more`, on datagrams: it goes on.
    Failed(Error),
}

/// Counters that only the back end can know.
#[derive(Debug, Default)]
pub(crate) struct ProviderCounters {
    /// System calls made to submit, wait, or transfer.
    pub(crate) kernel_entries: Count,
    /// Receives ended for want of a buffer.
    pub(crate) no_buffers: Count,
    /// Multishot requests that the kernel ended and that were armed again.
    pub(crate) rearms: Count,
    /// Datagrams that left together with others, as one message.
    pub(crate) merged_sent: Count,
}

/// A number that the back end adds to and the driver reads, both on one thread.
#[derive(Debug, Default)]
pub(crate) struct Count(Cell<u64>);

impl Count {
    pub(crate) fn add(&self, count: u64) {
        self.0.set(self.0.get() + count);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.get()
    }
}

/// State of one feature, for `Info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FeatureState {
    /// Which.
    pub feature: Feature,
    /// True if it is in use.
    pub in_use: bool,
    /// Why not, if not.
    pub reason: &'static str,
}

/// The contract between the driver and a back end, which its `open` hands over as a part of [`Opened`].
///
/// The driver promises: all calls come from the thread that called `open`; at most one receive-like and, of streams, one
/// send-like request per socket is in the kernel at a time; spans live until the final event; `detach` comes after the last event.
pub(crate) trait Provider {
    /// A socket joins. Its index stays its own until `detach`. Errors: the system's.
    fn attach(&mut self, index: u32, socket: &AnySocket, origin: Origin) -> Result<(), Error>;

    /// A socket leaves; its handle is closed right after.
    fn detach(&mut self, index: u32);

    /// One turn: hands over all requests, waits at most `wait` (`None`: no limit) unless something is there already, and
    /// appends what has happened. Requests are taken out of the vector, also when an error is returned.
    fn turn(
        &mut self,
        requests: &mut Vec<Request>,
        wait: Option<Duration>,
        pool: &mut BufferPool,
        events: &mut Vec<Event>,
    ) -> Result<(), Error>;
}

/// A test keeps a hand on the back end that its driver owns.
#[cfg(test)]
impl<P: Provider> Provider for Rc<std::cell::RefCell<P>> {
    fn attach(&mut self, index: u32, socket: &AnySocket, origin: Origin) -> Result<(), Error> {
        self.borrow_mut().attach(index, socket, origin)
    }

    fn detach(&mut self, index: u32) {
        self.borrow_mut().detach(index);
    }

    fn turn(
        &mut self,
        requests: &mut Vec<Request>,
        wait: Option<Duration>,
        pool: &mut BufferPool,
        events: &mut Vec<Event>,
    ) -> Result<(), Error> {
        self.borrow_mut().turn(requests, wait, pool, events)
    }
}

/// Maker of a socket that joins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    /// This crate, which has made it as the back ends need it.
    Own,
    /// The caller, who may have left out a flag that a back end needs.
    Foreign,
}

/// A back end, opened on the calling thread.
pub(crate) struct Opened {
    pub(crate) profile: Profile,
    pub(crate) provider: Box<dyn Provider>,
}

/// Properties of an open back end that do not change.
pub(crate) struct Profile {
    pub(crate) kind: Kind,
    /// Place in which its sockets are made.
    pub(crate) network: AnyNetwork,
    pub(crate) clock: Clock,
    /// Ends the wait of a `turn`, from any thread.
    pub(crate) waker: Waker,
    /// Features in use, and those that are not, with the reason.
    pub(crate) features: Vec<FeatureState>,
    /// Requests handed over per kernel entry, at most.
    pub(crate) depth: u32,
    /// True if accepted and adopted sockets are to be in non-blocking mode.
    pub(crate) is_nonblocking: bool,
    /// True if the system tells only one of those that accept on a shared listener that a connection has come.
    pub(crate) is_told_alone: bool,
    /// Counters that the back end adds to.
    pub(crate) counters: Rc<ProviderCounters>,
    /// Better back ends that were tried first, and why they were not taken.
    pub(crate) passed_over: Vec<(Kind, Error)>,
}

impl Profile {
    /// Profile of a back end on the operating system's sockets and clock, which are in non-blocking mode, and which are
    /// served by one system call per request.
    pub(crate) fn system(kind: Kind, waker: Waker, features: Vec<FeatureState>) -> Self {
        Profile {
            kind,
            network: AnyNetwork::Os,
            clock: Clock::system(),
            waker,
            features,
            depth: 1,
            is_nonblocking: true,
            is_told_alone: false,
            counters: Rc::default(),
            passed_over: Vec::new(),
        }
    }
}

/// Monotonic clock of a driver.
pub(crate) enum Clock {
    /// Time of the operating system since the driver was opened.
    System(Instant),
    /// Time of a simulated network.
    Simulated(SimNetwork),
}

impl Clock {
    pub(crate) fn system() -> Self {
        Clock::System(Instant::now())
    }

    /// Time now, in nanoseconds since some start.
    //= TIME-1
    pub(crate) fn now_ns(&self) -> u64 {
        match self {
            Clock::System(start) => start.elapsed().as_nanos() as u64,
            Clock::Simulated(network) => network.now_ns(),
        }
    }
}

/// Room that a back end may need in a receive buffer beside the datagram, in bytes: io_uring puts a header, the sender's address and
/// control data in front of it (16 + 28 + 32 bytes).
pub(crate) const DATAGRAM_OVERHEAD_BYTES: u32 = 128;

/// True if an error on a datagram socket is about a datagram of the past: the socket goes on.
pub(crate) fn is_about_the_past(error: Error) -> bool {
    use ErrorKind::{ConnectionRefused, ConnectionReset, MessageTooLong, TimedOut, Unreachable};
    matches!(error.kind(), ConnectionRefused | ConnectionReset | MessageTooLong | TimedOut | Unreachable)
}

/// Pieces of one send at most: IOV_MAX of Linux, see limits.h(0p) and writev(2).
pub(crate) const GATHER_PIECES_MAX: usize = 1024;
