//! Completion emulated over readiness: try, wait for the edge on EAGAIN, try again. What is about one selector (epoll,
//! kqueue) lies behind [`Selector`].
//!
//! A socket is registered once, edge-triggered, for both directions. From then on two flags say what is known:
//! 1. `readable` is set by an edge and cleared by EAGAIN or by a short read: after that only a new edge can bring bytes.
//!    A short read proves nothing (`is_broken_up`) once the peer's end was seen, for its edge may lie behind us, nor where
//!    something else than bytes can stand between them: descriptors on Unix sockets, an urgent mark on TCP.
//! 2. `writable` starts true, is cleared by EAGAIN and set by an edge.
//!
//! Datagrams: `readiness/datagram.rs`. A request is tried at once if its flag allows it, else it waits in its socket's state. On detach nothing is pending.

mod datagram;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use socket2::Socket;

pub(crate) use self::datagram::{BATCH_MAX, Label, Message};
use self::datagram::{OUTBOX_MAX, Outbox};
use crate::base::attempt::Attempt;
use crate::base::capacity;
use crate::base::error::{Error, ErrorKind};
use crate::base::kind::Kind;
use crate::base::setting::Setting;
use crate::base::wake::Waker;
use crate::config::Config;
use crate::contract::merge::{self, Merging, MergingProbe};
use crate::contract::ready_queue::{ReadyQueue, SHARE_BYTES_MIN};
use crate::contract::{
    Action, Event, EventResult, FeatureState, Opened, Origin, Profile, Provider, ProviderCounters, Request, RequestKey,
    Shots,
};
use crate::memory::buffer::{BufferPool, Section};
use crate::memory::{Span, SpanList, SpanMut};
use crate::platform::{self, RawHandle, raw_handle};
use crate::socket::{AcceptedSocket, AnySocket};

/// Where a datagram without a sender comes from.
pub(crate) const UNSPECIFIED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
/// Connections accepted from one listener per turn, before others get theirs.
const ACCEPTS_PER_TURN: usize = 64;

/// One edge.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Edge {
    /// Which socket.
    pub socket: u32,
    /// Bytes, a connection, an end or an error can be read.
    pub readable: bool,
    /// Bytes can be written.
    pub writable: bool,
    /// The peer has ended its direction, or the connection is broken, or something else than bytes is in between.
    pub is_broken_up: bool,
}

/// What differs between readiness interfaces.
pub(crate) trait Selector: Sized {
    /// The back end's kind.
    const KIND: Kind;

    /// Sets it up.
    fn open() -> Result<Self, Error>;
    /// Registers a socket for edges in both directions.
    fn add(&mut self, socket: u32, handle: RawHandle) -> Result<(), Error>;
    /// Ends its registration.
    fn remove(&mut self, handle: RawHandle);
    /// Waits for edges, at most `wait`, and appends them. An interrupted wait returns early without an error.
    fn wait(&mut self, wait: Option<Duration>, edges: &mut Vec<Edge>) -> Result<(), Error>;
    /// What wakes a wait.
    fn waker(&self) -> Waker;
    /// Features in use.
    fn features(&self) -> Vec<FeatureState>;

    /// Puts a listener into non-blocking mode again, if somebody who shares it has changed that.
    fn never_block(handle: RawHandle);
    /// Takes one waiting connection, in non-blocking mode.
    fn accept(handle: RawHandle) -> Attempt<Socket>;
    /// Starts to connect; `Later`: under way, the socket becomes writable; `Busy`: the listener has no room, and no edge
    /// will tell of it.
    fn connect(handle: RawHandle, address: Span) -> Attempt<()>;
    /// How a connect that was under way has ended.
    fn connect_result(handle: RawHandle) -> Attempt<()>;
    /// Receives into the span.
    fn receive(handle: RawHandle, span: SpanMut) -> Attempt<usize>;
    /// Sends from the span.
    fn send(handle: RawHandle, span: Span) -> Attempt<usize>;
    /// Sends from the spans, in order.
    fn send_list(handle: RawHandle, list: SpanList) -> Attempt<usize>;
    /// Receives datagrams, one per span, and says how many came.
    fn receive_datagrams(handle: RawHandle, spans: &[SpanMut], labels: &mut [Label; BATCH_MAX]) -> Attempt<usize>;
    /// Sends messages, whose spans lie in a row, and says how many went, from the first on.
    fn send_messages(handle: RawHandle, messages: &[Message], spans: &[Span]) -> Attempt<usize>;
    /// Whether merged messages can be sent, and received.
    fn probe_merging() -> MergingProbe;
}

#[derive(Clone, Copy)]
enum Input {
    Accept,
    Stream(Section, Shots),
    Datagrams(Section),
    Into(SpanMut),
}

#[derive(Clone, Copy)]
enum Output {
    Connect,
    Send(Span),
    SendList(SpanList),
}

#[derive(Clone, Copy)]
struct State {
    handle: RawHandle,
    readable: bool,
    writable: bool,
    /// Read until EAGAIN or the end: a short read does not mean that the socket is drained.
    is_broken_up: bool,
    /// In the queue of sockets to try.
    is_queued: bool,
    /// Datagrams of this socket that wait for room.
    parked: u32,
    input: Option<(RequestKey, Input)>,
    output: Option<(RequestKey, Output)>,
}

/// A back end over a readiness interface.
pub(crate) struct Readiness<S: Selector> {
    selector: S,
    sockets: Vec<State>,
    queue: ReadyQueue,
    edges: Vec<Edge>,
    outbox: Outbox,
    merging: Merging,
    counters: Rc<ProviderCounters>,
}

/// Opens a back end over the selector. Errors: the system's.
pub(crate) fn open<S: Selector + 'static>(config: &Config) -> Result<Opened, Error> {
    let selector = S::open()?;
    let (segments, coalesces) = S::probe_merging();
    let merging = Merging::new(config.datagrams.segment, segments);
    let mut features = selector.features();
    features.extend([merging.state(), merge::coalescing_state(config.datagrams.coalesce, coalesces)]);
    let profile = Profile::system(S::KIND, selector.waker(), features);
    let readiness = Readiness {
        selector,
        sockets: capacity::vector(config.sockets_max as usize, Setting::SocketsMax)?,
        queue: ReadyQueue::new(config.turn_bytes_max),
        edges: Vec::with_capacity(EDGES_PER_TURN),
        outbox: Outbox::default(),
        merging,
        counters: profile.counters.clone(),
    };
    Ok(Opened { profile, provider: Box::new(readiness) })
}

impl<S: Selector> Provider for Readiness<S> {
    fn attach(&mut self, index: u32, socket: &AnySocket, _: Origin) -> Result<(), Error> {
        let socket = socket.system()?;
        let handle = raw_handle(socket);
        let state = State {
            handle,
            readable: false,
            writable: true,
            // Descriptors sent along cut a read short, see unix(7).
            is_broken_up: !platform::is_internet(socket)?,
            is_queued: false,
            parked: 0,
            input: None,
            output: None,
        };
        self.selector.add(index, handle)?;
        while self.sockets.len() <= index as usize {
            self.sockets.push(state);
        }
        self.sockets[index as usize] = state;
        Ok(())
    }

    fn detach(&mut self, index: u32) {
        let state = &mut self.sockets[index as usize];
        debug_assert!(state.input.is_none() && state.output.is_none() && state.parked == 0);
        state.readable = false;
        self.selector.remove(state.handle);
    }

    fn turn(
        &mut self,
        requests: &mut Vec<Request>,
        wait: Option<Duration>,
        pool: &mut BufferPool,
        events: &mut Vec<Event>,
    ) -> Result<(), Error> {
        for request in requests.drain(..) {
            self.start(request, events);
        }
        self.send_outbox(events);
        let wait = if events.is_empty() && self.queue.is_empty() { wait } else { Some(Duration::ZERO) };
        self.edges.clear();
        self.counters.kernel_entries.add(1);
        let waited = self.selector.wait(wait, &mut self.edges);
        for position in 0..self.edges.len() {
            self.take_edge(self.edges[position], events);
        }
        self.queue.begin();
        while let Some(socket) = self.queue.next() {
            self.sockets[socket as usize].is_queued = false;
            self.try_input(socket, pool, events);
        }
        waited
    }
}

/// Edges taken per wait; the rest comes with the next turn.
pub(crate) const EDGES_PER_TURN: usize = 1024;

fn event(key: RequestKey, more: bool, result: EventResult) -> Event {
    Event { key, more, result }
}

impl<S: Selector> Readiness<S> {
    fn start(&mut self, request: Request, events: &mut Vec<Event>) {
        let Request { key, socket, handle, action } = request;
        match action {
            Action::Accept => self.await_input(socket, key, Input::Accept),
            Action::ReceiveDatagrams(section, _) => self.await_input(socket, key, Input::Datagrams(section)),
            Action::SendDatagram(list, target, _) => {
                if self.outbox.socket != socket || self.outbox.len() == OUTBOX_MAX {
                    self.send_outbox(events);
                }
                self.outbox.put(socket, key, list, target);
            }
            Action::Receive(section, shots) => self.await_input(socket, key, Input::Stream(section, shots)),
            Action::ReceiveInto(span) => self.await_input(socket, key, Input::Into(span)),
            Action::Send(span, _) => self.start_output(socket, key, Output::Send(span), events),
            Action::SendList(list, _) => self.start_output(socket, key, Output::SendList(list), events),
            Action::Connect(address) => {
                self.counters.kernel_entries.add(1);
                match S::connect(handle, address) {
                    Attempt::Done(()) => events.push(event(key, false, EventResult::Connected)),
                    Attempt::Later => {
                        let state = &mut self.sockets[socket as usize];
                        state.writable = false;
                        state.output = Some((key, Output::Connect));
                    }
                    Attempt::Failed(error) => events.push(event(key, false, EventResult::Failed(error))),
                }
            }
            Action::Cancel => {
                // What is asked to end must have been tried.
                self.send_outbox(events);
                self.cancel(socket, key, events);
            }
        }
    }

    fn await_input(&mut self, socket: u32, key: RequestKey, input: Input) {
        self.sockets[socket as usize].input = Some((key, input));
        self.queue_if_ready(socket);
    }

    fn queue_if_ready(&mut self, socket: u32) {
        let state = &mut self.sockets[socket as usize];
        if state.readable && state.input.is_some() && !state.is_queued {
            state.is_queued = true;
            self.queue.push_fresh(socket);
        }
    }

    fn start_output(&mut self, socket: u32, key: RequestKey, output: Output, events: &mut Vec<Event>) {
        self.sockets[socket as usize].output = Some((key, output));
        if self.sockets[socket as usize].writable {
            self.try_output(socket, events);
        }
    }

    fn cancel(&mut self, socket: u32, key: RequestKey, events: &mut Vec<Event>) {
        let state = &mut self.sockets[socket as usize];
        let is_input = state.input.is_some_and(|(pending, _)| pending == key);
        let is_output = state.output.is_some_and(|(pending, _)| pending == key);
        if is_input {
            state.input = None;
        }
        if is_output {
            state.output = None;
        }
        let is_parked = state.parked > 0 && self.outbox.unpark(key);
        if is_parked {
            self.sockets[socket as usize].parked -= 1;
        }
        if is_input || is_output || is_parked {
            let cancelled = Error::new(ErrorKind::Cancelled);
            events.push(event(key, false, EventResult::Failed(cancelled)));
        }
    }

    fn take_edge(&mut self, edge: Edge, events: &mut Vec<Event>) {
        let state = &mut self.sockets[edge.socket as usize];
        state.readable |= edge.readable;
        state.is_broken_up |= edge.is_broken_up;
        state.writable |= edge.writable;
        if edge.writable && state.parked > 0 {
            self.retry_parked(edge.socket, events);
        } else if edge.writable && state.output.is_some() {
            self.try_output(edge.socket, events);
        }
        self.queue_if_ready(edge.socket);
    }

    fn try_output(&mut self, socket: u32, events: &mut Vec<Event>) {
        let state = &mut self.sockets[socket as usize];
        let Some((key, output)) = state.output else { return };
        self.counters.kernel_entries.add(1);
        let (tried, is_connect) = match output {
            Output::Connect => (map(S::connect_result(state.handle), |()| 0), true),
            Output::Send(span) => (S::send(state.handle, span), false),
            Output::SendList(list) => (S::send_list(state.handle, list), false),
        };
        let result = match tried {
            Attempt::Done(_) if is_connect => EventResult::Connected,
            Attempt::Done(bytes) => EventResult::Sent(bytes),
            Attempt::Later => {
                state.writable = false;
                return;
            }
            Attempt::Failed(error) => EventResult::Failed(error),
        };
        state.output = None;
        events.push(event(key, false, result));
    }

    fn try_input(&mut self, socket: u32, pool: &mut BufferPool, events: &mut Vec<Event>) {
        let Some((key, input)) = self.sockets[socket as usize].input else { return };
        match input {
            Input::Accept => self.try_accept(socket, key, events),
            Input::Stream(section, shots) => self.try_stream(socket, key, (section, shots), pool, events),
            Input::Datagrams(section) => self.try_datagrams(socket, key, section, pool, events),
            Input::Into(span) => self.try_receive_into(socket, key, span, events),
        }
        let state = &mut self.sockets[socket as usize];
        if state.readable && state.input.is_some() && !state.is_queued {
            state.is_queued = true;
            self.queue.push_busy(socket);
        }
    }

    fn try_accept(&mut self, socket: u32, key: RequestKey, events: &mut Vec<Event>) {
        let state = &mut self.sockets[socket as usize];
        S::never_block(state.handle);
        for _ in 0..ACCEPTS_PER_TURN {
            self.counters.kernel_entries.add(1);
            match S::accept(state.handle) {
                Attempt::Done(accepted) => {
                    let accepted = AcceptedSocket::fresh(AnySocket::Os(accepted), true);
                    events.push(event(key, true, EventResult::Accepted(accepted)));
                }
                Attempt::Later => {
                    state.readable = false;
                    return;
                }
                Attempt::Failed(error) => {
                    state.input = None;
                    return events.push(event(key, false, EventResult::Failed(error)));
                }
            }
        }
    }

    /// Receives until the socket is drained or has had its share of this turn.
    //= STARVE-1
    fn try_stream(
        &mut self,
        socket: u32,
        key: RequestKey,
        (section, shots): (Section, Shots),
        pool: &mut BufferPool,
        events: &mut Vec<Event>,
    ) {
        let state = &mut self.sockets[socket as usize];
        let mut share = self.queue.share_bytes();
        let end = loop {
            let Some(mut buffer) = pool.lend_receive(section) else {
                self.counters.no_buffers.add(1);
                break EventResult::Failed(Error::new(ErrorKind::NoBuffers));
            };
            self.counters.kernel_entries.add(1);
            let room = buffer.len().min(share.max(SHARE_BYTES_MIN));
            let length = match S::receive(state.handle, SpanMut::of(&mut buffer[..room])) {
                Attempt::Done(0) => break EventResult::Received(crate::memory::buffer::Buffer::empty()),
                Attempt::Done(length) => length,
                Attempt::Later => {
                    state.readable = false;
                    return;
                }
                Attempt::Failed(error) => break EventResult::Failed(error),
            };
            let is_drained = length < room && !state.is_broken_up;
            buffer.set_len(length);
            share = share.saturating_sub(length);
            self.queue.used(length);
            if is_drained {
                state.readable = false;
            }
            if shots == Shots::One {
                break EventResult::Received(buffer);
            }
            events.push(event(key, true, EventResult::Received(buffer)));
            if is_drained || share == 0 {
                return;
            }
        };
        state.input = None;
        events.push(event(key, false, end));
    }

    fn try_receive_into(&mut self, socket: u32, key: RequestKey, span: SpanMut, events: &mut Vec<Event>) {
        let state = &mut self.sockets[socket as usize];
        self.counters.kernel_entries.add(1);
        let result = match S::receive(state.handle, span) {
            Attempt::Done(length) => {
                state.readable = length == span.length || state.is_broken_up;
                EventResult::ReceivedInto(length)
            }
            Attempt::Later => {
                state.readable = false;
                return;
            }
            Attempt::Failed(error) => EventResult::Failed(error),
        };
        state.input = None;
        events.push(event(key, false, result));
    }
}

fn map<T, U>(tried: Attempt<T>, change: impl FnOnce(T) -> U) -> Attempt<U> {
    match tried {
        Attempt::Done(value) => Attempt::Done(change(value)),
        Attempt::Later => Attempt::Later,
        Attempt::Failed(error) => Attempt::Failed(error),
    }
}
