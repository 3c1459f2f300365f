//! Contract of a back end: a handful of functions, called once per turn with a batch of requests.
//!
//! A back end knows neither queues nor order nor close: it starts a request, ends it with exactly one final [`Event`],
//! and stops it on `Cancel`. Everything that users see is built from that in `driver/`, once for all.

pub(crate) mod merge;
pub(crate) mod ready_queue;
pub(crate) mod stats;

use std::net::SocketAddr;
use std::time::Duration;

use crate::base::error::{Error, ErrorKind, Feature};
use crate::base::kind::Kind;
use crate::base::slots::Key;
use crate::base::wake::Waker;
use crate::config::Config;
use crate::memory::buffer::{Buffer, BufferPool, Section};
use crate::memory::{Span, SpanList, SpanMut, Target};
use crate::platform::RawHandle;
use crate::socket::{AcceptedSocket, Endpoint};

/// One request to the operating system. Spans stay valid until the request's final event (OWN-1).
#[derive(Clone, Copy, Debug)]
pub struct Request {
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
pub enum Action {
    /// Accept connections until cancelled.
    Accept,
    /// Connect to the address that the span holds in the system's form.
    Connect(Span),
    /// Receive into pool buffers of the section, until the shots are used up, or cancelled or ended.
    Receive(Section, Shots),
    /// Receive once into the span.
    ReceiveInto(SpanMut),
    /// Send the span.
    Send(Span, Notice),
    /// Send the spans in order, as one.
    SendList(SpanList, Notice),
    /// Receive datagrams into pool buffers of the section, until cancelled.
    ReceiveDatagrams(Section, Arrival),
    /// Send the spans as one datagram. Several of a socket may be under way.
    SendDatagram(SpanList, Target, Notice),
    /// End the request of this key: its final event follows, `Cancelled` or its true result.
    Cancel,
}

/// When the driver needs to know that a send has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice {
    /// As soon as it has: something waits for it.
    Prompt,
    /// With whatever is reported next: all of it is quiet, and nothing is queued behind it. A wait need not end for it.
    Lazy,
}

/// Number of buffers that a receive stream delivers before its request ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shots {
    /// One buffer: its event is the request's last.
    One,
    /// Any number.
    Many,
}

/// How datagrams come out of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// One at a time.
    Single,
    /// Perhaps several as one, up to [`MERGED_BYTES_MAX`](crate::contract::merge::MERGED_BYTES_MAX) together, with their common length
    /// beside them.
    Merged,
}

/// What a request has come to.
#[derive(Debug)]
pub struct Event {
    /// Which request.
    pub key: RequestKey,
    /// False: the request has ended and its spans are free.
    pub more: bool,
    /// What happened.
    pub result: EventResult,
}

/// The result in an event.
#[derive(Debug)]
pub enum EventResult {
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
    /// So many bytes went out, perhaps fewer than asked, also 0; the rest is to be asked for again, as `Prompt`.
    Sent(usize),
    /// It failed; `NoBuffers` on a receive means: again when buffers are back, `Busy` on a connect: again after a while.
    /// With `more`, on datagrams: it goes on.
    Failed(Error),
}

/// Counters that only the back end can know.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProviderCounters {
    /// System calls made to submit, wait, or transfer.
    pub kernel_entries: u64,
    /// Receives ended for want of a buffer.
    pub no_buffers: u64,
    /// Multishot requests that the kernel ended and that were armed again.
    pub rearms: u64,
    /// Datagrams that left together with others, as one message.
    pub merged_sent: u64,
}

/// State of one feature, for `Info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureState {
    /// Which.
    pub feature: Feature,
    /// True if it is in use.
    pub in_use: bool,
    /// Why not, if not.
    pub reason: &'static str,
}

/// The contract between the driver and a back end.
///
/// The driver promises: all calls come from the thread that called `open`; at most one receive-like and, of streams, one
/// send-like request per socket is in the kernel at a time; spans live until the final event; `detach` comes after the last event.
#[allow(private_interfaces, reason = "written by the back ends of this crate only")]
pub trait Provider: Sized {
    /// Its sockets.
    type Endpoint: Endpoint;

    /// Where they are made.
    fn network(&self) -> &<Self::Endpoint as Endpoint>::Network;

    /// Which back end this is.
    fn kind(&self) -> Kind;

    /// Sets it up on the calling thread.
    fn open(config: &Config, pool: &mut BufferPool) -> Result<Self, Error>;

    /// True if accepted and adopted sockets are to be in non-blocking mode.
    fn is_nonblocking(&self) -> bool;

    /// True if the system tells only one of those that accept on a shared listener that a connection has come.
    fn is_told_alone(&self) -> bool {
        false
    }

    /// A socket joins. Its index stays its own until `detach`.
    fn attach(&mut self, index: u32, socket: &Self::Endpoint) -> Result<(), Error>;

    /// A socket joins that was not made by this crate, so perhaps not as the back end would have it.
    fn attach_foreign(&mut self, index: u32, socket: &Self::Endpoint) -> Result<(), Error> {
        self.attach(index, socket)
    }

    /// A socket leaves; its handle is closed right after.
    fn detach(&mut self, index: u32, socket: &Self::Endpoint);

    /// One turn: hands over all requests, waits at most `wait` (`None`: no limit) unless something is there already, and
    /// appends what has happened. Requests are taken out of the vector, also when an error is returned.
    fn turn(
        &mut self,
        requests: &mut Vec<Request>,
        wait: Option<Duration>,
        pool: &mut BufferPool,
        events: &mut Vec<Event>,
    ) -> Result<(), Error>;

    /// What wakes a waiting `turn`.
    fn waker(&self) -> Waker;

    /// The monotonic clock, in nanoseconds since some start.
    //= TIME-1
    fn now_ns(&self) -> u64;

    /// Which features are in use, which are not and why.
    fn features(&self) -> Vec<FeatureState>;

    /// Its counters so far.
    fn counters(&self) -> ProviderCounters;

    /// Requests handed over per kernel entry, at most.
    fn depth(&self) -> u32;

    /// Better back ends that were tried first, and why they were not taken.
    fn passed_over(&self) -> &[(Kind, Error)] {
        &[]
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
