//! Input of the back ends that read by themselves: what each socket waits for, which sockets can be read now, and what one turn
//! reads of each (STARVE-1). The reading itself is the back end's, see [`Source`].
//!
//! Life of an input:
//! 1. `start` notes the request. A socket that is known to be readable joins the queue at once.
//! 2. `readable` says that something may have come: bytes, a connection, a datagram, the peer's end, an error.
//! 3. `run` reads the sockets of the queue, each at most its share. One that is drained waits for the next `readable`, one that
//!    has more comes again in the next turn.
//! 4. The request ends with its final event: at the peer's end, with an error, for want of a buffer, or after one shot. `cancel`
//!    ends it at once.
//!
//! On drop nothing is left to do: what waits here has not reached the system.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use crate::base::attempt::Attempt;
use crate::base::error::{Error, ErrorKind};
use crate::contract::ready_queue::{ReadyQueue, SHARE_BYTES_MIN};
use crate::contract::{Action, Event, EventResult, ProviderCounters, RequestKey, Shots, is_about_the_past};
use crate::memory::SpanMut;
use crate::memory::buffer::{Buffer, BufferPool, Section};
use crate::socket::AcceptedSocket;

/// Datagrams that one call of a back end receives at most.
pub(crate) const BATCH_MAX: usize = 32;
const BATCH_MIN: usize = 4;
/// Connections accepted from one listener per turn, before others get theirs.
pub(crate) const ACCEPTS_PER_TURN: usize = 64;
/// Sender of a datagram that comes without one.
pub(crate) const UNSPECIFIED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Input that a socket waits for.
#[derive(Clone, Copy)]
pub(crate) enum Input {
    Accept,
    Stream(Section, Shots),
    Datagrams(Section),
    Into(SpanMut),
}

impl Input {
    /// Input that the request asks for, if it asks for any.
    pub(crate) fn of(action: Action) -> Option<Self> {
        match action {
            Action::Accept => Some(Input::Accept),
            Action::Receive(section, shots) => Some(Input::Stream(section, shots)),
            Action::ReceiveDatagrams(section, _) => Some(Input::Datagrams(section)),
            Action::ReceiveInto(span) => Some(Input::Into(span)),
            _ => None,
        }
    }
}

/// Description of one datagram that has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Label {
    /// Bytes in its buffer.
    pub(crate) length: usize,
    /// The sender.
    pub(crate) from: SocketAddr,
    /// It was longer than its buffer.
    pub(crate) is_truncated: bool,
    /// Several datagrams of this length each, the last perhaps shorter; 0: one.
    pub(crate) segment_bytes: u16,
}

impl Label {
    pub(crate) const NONE: Label = Label { length: 0, from: UNSPECIFIED, is_truncated: false, segment_bytes: 0 };
}

/// Bytes that a call has received.
pub(crate) struct Received {
    pub(crate) bytes: usize,
    /// Nothing more is there: only `readable` can bring more.
    pub(crate) is_drained: bool,
}

/// Sockets of a back end, from which the queue reads. No call waits.
pub(crate) trait Source {
    /// Datagrams that one call receives at most.
    const DATAGRAMS_PER_CALL: usize = BATCH_MAX;

    /// Takes one waiting connection. `is_first`: it is the first of this turn.
    fn accept(&mut self, socket: u32, is_first: bool) -> Attempt<AcceptedSocket>;

    /// Receives bytes of a stream; 0 bytes are the peer's end.
    fn receive(&mut self, socket: u32, span: SpanMut) -> Attempt<Received>;

    /// Receives datagrams, at most one per span, and says how many came.
    fn receive_datagrams(&mut self, socket: u32, spans: &[SpanMut], labels: &mut [Label; BATCH_MAX]) -> Attempt<usize>;

    /// Sees to it that `readable` is called when the drained socket has something again; true: it has already.
    ///
    /// Errors: the input ends with it.
    fn await_more(&mut self, _socket: u32, _request: (RequestKey, Input), _: &mut Vec<Event>) -> Result<bool, Error> {
        Ok(false)
    }

    /// False if the pool is to be taken for empty: a fault of the simulated network.
    fn may_lend(&mut self) -> bool {
        true
    }

    /// False if a stream is to end that could go on: a fault of the simulated network.
    fn goes_on(&mut self) -> bool {
        true
    }
}

#[derive(Clone, Copy, Default)]
struct Waiting {
    request: Option<(RequestKey, Input)>,
    /// Something may be there: no call has shown that nothing is.
    is_readable: bool,
    is_queued: bool,
}

/// State of a socket after its share of a turn.
enum Tried {
    /// Nothing more is there.
    Drained,
    /// It has had its share.
    Busy,
    /// The request ends.
    Ended(EventResult),
}

/// Inputs of all sockets of a back end.
pub(crate) struct InputQueue {
    sockets: Vec<Waiting>,
    ready: ReadyQueue,
    /// Buffers lent for one call, and views of them.
    buffers: Vec<Buffer>,
    spans: Vec<SpanMut>,
    counters: Rc<ProviderCounters>,
}

impl InputQueue {
    /// An empty queue. One socket may read `share_bytes_max` per turn at most, in bytes.
    pub(crate) fn new(share_bytes_max: u32, counters: &Rc<ProviderCounters>) -> Self {
        InputQueue {
            sockets: Vec::new(),
            ready: ReadyQueue::new(share_bytes_max),
            buffers: Vec::with_capacity(BATCH_MAX),
            spans: Vec::with_capacity(BATCH_MAX),
            counters: counters.clone(),
        }
    }

    /// A socket joins under this index, or leaves: nothing is known of it.
    pub(crate) fn forget(&mut self, socket: u32) {
        let socket = socket as usize;
        if self.sockets.len() <= socket {
            self.sockets.resize(socket + 1, Waiting::default());
        }
        let waiting = &mut self.sockets[socket];
        debug_assert!(waiting.request.is_none(), "a socket leaves after its last event");
        // The queue may still have the number.
        *waiting = Waiting { is_queued: waiting.is_queued, ..Waiting::default() };
    }

    /// The socket waits for this. False: it is not known to be readable, so somebody has to wait for that.
    pub(crate) fn start(&mut self, socket: u32, key: RequestKey, input: Input) -> bool {
        self.sockets[socket as usize].request = Some((key, input));
        self.enqueue(socket);
        self.sockets[socket as usize].is_readable
    }

    /// The socket may have something.
    pub(crate) fn readable(&mut self, socket: u32) {
        self.sockets[socket as usize].is_readable = true;
        self.enqueue(socket);
    }

    /// Request that the socket waits with.
    pub(crate) fn request(&self, socket: u32) -> Option<(RequestKey, Input)> {
        self.sockets[socket as usize].request
    }

    /// Ends the request of this key with this result, if it has not ended.
    //= CANCEL-1
    pub(crate) fn end(&mut self, socket: u32, key: RequestKey, result: EventResult) -> Option<Event> {
        let request = self.sockets[socket as usize].request.take_if(|(pending, _)| *pending == key);
        request.map(|_| Event::last(key, result))
    }

    /// Takes the request of this key back, if it has not ended.
    pub(crate) fn cancel(&mut self, socket: u32, key: RequestKey) -> Option<Event> {
        self.end(socket, key, EventResult::Failed(Error::new(ErrorKind::Cancelled)))
    }

    /// True if no socket can be read now.
    pub(crate) fn is_idle(&self) -> bool {
        self.ready.is_empty()
    }

    /// Reads what one turn may.
    //= STARVE-1
    pub(crate) fn run(&mut self, source: &mut impl Source, pool: &mut BufferPool, events: &mut Vec<Event>) {
        self.ready.begin();
        while let Some(socket) = self.ready.next() {
            let waiting = &mut self.sockets[socket as usize];
            waiting.is_queued = false;
            let (Some((key, input)), true) = (waiting.request, waiting.is_readable) else { continue };
            let tried = match input {
                Input::Accept => self.accept(source, socket, key, events),
                Input::Stream(section, shots) => self.read(source, (socket, key), (section, shots), pool, events),
                Input::Datagrams(section) => self.read_datagrams(source, (socket, key), section, pool, events),
                Input::Into(span) => self.read_into(source, socket, span),
            };
            match tried {
                Tried::Drained => self.drained(source, socket, (key, input), events),
                Tried::Busy => {
                    self.sockets[socket as usize].is_queued = true;
                    self.ready.push_busy(socket);
                }
                Tried::Ended(result) => events.extend(self.end(socket, key, result)),
            }
        }
    }

    fn enqueue(&mut self, socket: u32) {
        let waiting = &mut self.sockets[socket as usize];
        if waiting.is_readable && waiting.request.is_some() && !std::mem::replace(&mut waiting.is_queued, true) {
            self.ready.push_fresh(socket);
        }
    }

    #[inline]
    fn drained(
        &mut self,
        source: &mut impl Source,
        socket: u32,
        request: (RequestKey, Input),
        events: &mut Vec<Event>,
    ) {
        self.sockets[socket as usize].is_readable = false;
        match source.await_more(socket, request, events) {
            Ok(false) => {}
            Ok(true) => self.readable(socket),
            Err(error) => events.extend(self.end(socket, request.0, EventResult::Failed(error))),
        }
    }

    fn accept(&mut self, source: &mut impl Source, socket: u32, key: RequestKey, events: &mut Vec<Event>) -> Tried {
        for count in 0..ACCEPTS_PER_TURN {
            match source.accept(socket, count == 0) {
                Attempt::Done(accepted) if source.goes_on() => {
                    events.push(Event::more(key, EventResult::Accepted(accepted)));
                }
                Attempt::Done(accepted) => return Tried::Ended(EventResult::Accepted(accepted)),
                Attempt::Later => return Tried::Drained,
                Attempt::Failed(error) => return Tried::Ended(EventResult::Failed(error)),
            }
        }
        Tried::Busy
    }

    #[inline]
    fn read(
        &mut self,
        source: &mut impl Source,
        (socket, key): (u32, RequestKey),
        (section, shots): (Section, Shots),
        pool: &mut BufferPool,
        events: &mut Vec<Event>,
    ) -> Tried {
        let mut share = self.ready.share_bytes();
        loop {
            let Some(mut buffer) = self.lend(source, section, pool) else { return Tried::Ended(NO_BUFFERS) };
            let room = buffer.len().min(share.max(SHARE_BYTES_MIN));
            let Received { bytes, is_drained } = match source.receive(socket, SpanMut::of(&mut buffer[..room])) {
                Attempt::Done(Received { bytes: 0, .. }) => {
                    return Tried::Ended(EventResult::Received(Buffer::empty()));
                }
                Attempt::Done(received) => received,
                Attempt::Later => return Tried::Drained,
                Attempt::Failed(error) => return Tried::Ended(EventResult::Failed(error)),
            };
            buffer.set_len(bytes);
            share = share.saturating_sub(bytes);
            self.ready.used(bytes);
            let goes_on = shots == Shots::Many && source.goes_on();
            if !goes_on {
                self.sockets[socket as usize].is_readable = !is_drained;
                return Tried::Ended(EventResult::Received(buffer));
            }
            events.push(Event::more(key, EventResult::Received(buffer)));
            if is_drained {
                return Tried::Drained;
            }
            if share == 0 {
                return Tried::Busy;
            }
        }
    }

    //= DGRAM-1
    fn read_datagrams<S: Source>(
        &mut self,
        source: &mut S,
        (socket, key): (u32, RequestKey),
        section: Section,
        pool: &mut BufferPool,
        events: &mut Vec<Event>,
    ) -> Tried {
        // A socket with one datagram should not pay for a batch, one with a thousand should not pay per datagram.
        let mut wanted = BATCH_MIN.min(S::DATAGRAMS_PER_CALL);
        let mut share = self.ready.share_bytes();
        while share > 0 {
            if !self.lend_batch(source, section, wanted, pool) {
                return Tried::Ended(NO_BUFFERS);
            }
            let mut labels = [Label::NONE; BATCH_MAX];
            let received = source.receive_datagrams(socket, &self.spans, &mut labels);
            let used = match received {
                Attempt::Done(came) => {
                    wanted = if came == wanted { S::DATAGRAMS_PER_CALL.min(wanted * 2) } else { 1 };
                    let filled =
                        self.buffers.drain(..).zip(labels).take(came).map(|(buffer, label)| filled(buffer, label));
                    events.extend(filled.map(|result| Event::more(key, result)));
                    if !source.goes_on() {
                        self.buffers.clear();
                        let last = events.pop().expect("at least one came");
                        return Tried::Ended(last.result);
                    }
                    labels[..came].iter().map(|label| label.length.max(1)).sum()
                }
                Attempt::Later => {
                    self.buffers.clear();
                    return Tried::Drained;
                }
                Attempt::Failed(error) if is_about_the_past(error) => {
                    events.push(Event::more(key, EventResult::Failed(error)));
                    1
                }
                Attempt::Failed(error) => {
                    self.buffers.clear();
                    return Tried::Ended(EventResult::Failed(error));
                }
            };
            self.buffers.clear();
            share = share.saturating_sub(used);
            self.ready.used(used);
        }
        Tried::Busy
    }

    fn read_into(&mut self, source: &mut impl Source, socket: u32, span: SpanMut) -> Tried {
        match source.receive(socket, span) {
            Attempt::Done(Received { bytes, is_drained }) => {
                self.sockets[socket as usize].is_readable = !is_drained;
                Tried::Ended(EventResult::ReceivedInto(bytes))
            }
            Attempt::Later => Tried::Drained,
            Attempt::Failed(error) => Tried::Ended(EventResult::Failed(error)),
        }
    }

    #[inline]
    fn lend(&self, source: &mut impl Source, section: Section, pool: &mut BufferPool) -> Option<Buffer> {
        let buffer = if source.may_lend() { pool.lend_receive(section) } else { None };
        if buffer.is_none() {
            self.counters.no_buffers.add(1);
        }
        buffer
    }

    /// Lends as many buffers as are wanted and free. False: there is none.
    fn lend_batch(&mut self, source: &mut impl Source, section: Section, wanted: usize, pool: &mut BufferPool) -> bool {
        self.buffers.extend(self.lend(source, section, pool));
        while !self.buffers.is_empty() && self.buffers.len() < wanted {
            let Some(buffer) = pool.lend_receive(section) else { break };
            self.buffers.push(buffer);
        }
        self.spans.clear();
        self.spans.extend(self.buffers.iter_mut().map(|buffer| SpanMut::of(buffer)));
        !self.buffers.is_empty()
    }
}

const NO_BUFFERS: EventResult = EventResult::Failed(Error::new(ErrorKind::NoBuffers));

fn filled(mut buffer: Buffer, label: Label) -> EventResult {
    buffer.set_len(label.length);
    match label {
        Label { is_truncated: true, from, .. } => EventResult::Truncated(from),
        Label { segment_bytes: 0, from, .. } => EventResult::Datagram(buffer, from),
        Label { segment_bytes, from, .. } => EventResult::Datagrams(buffer, from, segment_bytes),
    }
}
