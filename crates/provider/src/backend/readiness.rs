//! Completion emulated over readiness: try, wait for the edge on EAGAIN, try again. What is about one selector (epoll,
//! kqueue) lies behind [`Selector`].
//!
//! A socket is registered once, edge-triggered, for both directions. From then on two flags say what is known:
//! 1. The queue of inputs knows it as readable: set by an edge and cleared by EAGAIN or by a short read: after that only a new edge can bring bytes.
//!    A short read proves nothing (`may_have_gap`) once the peer's end was seen, for its edge may lie behind us, nor where
//!    something else than bytes can stand between them: descriptors on Unix sockets, an urgent mark on TCP.
//! 2. `writable` starts true, is cleared by EAGAIN and set by an edge.
//!
//! Requests: `start.rs`; input: `contract/input.rs`; datagrams to send: `outbox.rs`; system calls: `calls.rs`. On detach nothing
//! is pending.

pub(super) mod calls;
mod outbox;
mod start;
#[cfg(test)]
mod tests;

use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

use socket2::Socket;

pub(crate) use self::outbox::Message;
use self::outbox::Outbox;
use crate::base::attempt::Attempt;
use crate::base::capacity;
use crate::base::error::Error;
use crate::base::kind::Kind;
use crate::base::setting::Setting;
use crate::base::wake::Waker;
use crate::config::Config;
use crate::contract::input::{BATCH_MAX, InputQueue, Label, Received, Source};
use crate::contract::merge::{self, Merging, MergingProbe};
use crate::contract::{Event, FeatureState, Opened, Origin, Profile, Provider, ProviderCounters, Request, RequestKey};
use crate::memory::buffer::BufferPool;
use crate::memory::{Span, SpanList, SpanMut};
use crate::platform::{self, RawHandle};
use crate::socket::{AcceptedSocket, AnySocket};

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
    pub may_have_gap: bool,
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

    /// Takes one waiting connection, in non-blocking mode.
    fn accept(handle: RawHandle) -> Attempt<Socket>;
    /// Receives datagrams, one per span, and says how many came.
    fn receive_datagrams(handle: RawHandle, spans: &[SpanMut], labels: &mut [Label; BATCH_MAX]) -> Attempt<usize>;
    /// Sends messages, whose spans lie in a row, and says how many went, from the first on.
    fn send_messages(handle: RawHandle, messages: &[Message], spans: &[Span]) -> Attempt<usize>;
    /// Whether merged messages can be sent, and received.
    fn probe_merging() -> MergingProbe;
}

#[derive(Clone, Copy)]
enum Output {
    Connect,
    Send(Span),
    SendList(SpanList),
}

/// State of one socket.
#[derive(Clone, Copy)]
struct State {
    handle: RawHandle,
    writable: bool,
    /// Read until EAGAIN or the end: a short read does not mean that the socket is drained.
    may_have_gap: bool,
    /// Datagrams of this socket that wait for room.
    parked: u32,
    output: Option<(RequestKey, Output)>,
}

/// Sockets of a back end, by index.
struct Sockets<S> {
    states: Vec<State>,
    counters: Rc<ProviderCounters>,
    selector: PhantomData<S>,
}

/// A back end over a readiness interface.
pub(crate) struct Readiness<S: Selector> {
    selector: S,
    sockets: Sockets<S>,
    inputs: InputQueue,
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
        sockets: Sockets {
            states: capacity::vector(config.sockets_max as usize, Setting::SocketsMax)?,
            counters: profile.counters.clone(),
            selector: PhantomData,
        },
        inputs: InputQueue::new(config.turn_bytes_max, &profile.counters),
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
        let handle = platform::raw_handle(socket);
        // Descriptors sent along cut a read short, see unix(7).
        let may_have_gap = !platform::is_internet(socket)?;
        let state = State { handle, writable: true, may_have_gap, parked: 0, output: None };
        self.selector.add(index, handle)?;
        self.inputs.forget(index);
        let states = &mut self.sockets.states;
        states.resize(states.len().max(index as usize + 1), state);
        states[index as usize] = state;
        Ok(())
    }

    fn detach(&mut self, index: u32) {
        let state = &self.sockets.states[index as usize];
        debug_assert!(state.output.is_none() && state.parked == 0);
        self.inputs.forget(index);
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
        let wait = if events.is_empty() && self.inputs.is_idle() { wait } else { Some(Duration::ZERO) };
        self.edges.clear();
        self.counters.kernel_entries.add(1);
        let waited = self.selector.wait(wait, &mut self.edges);
        for position in 0..self.edges.len() {
            self.take_edge(self.edges[position], events);
        }
        self.inputs.run(&mut self.sockets, pool, events);
        waited
    }
}

/// Edges taken per wait; the rest comes with the next turn.
pub(crate) const EDGES_PER_TURN: usize = 1024;

impl<S: Selector> Readiness<S> {
    fn take_edge(&mut self, edge: Edge, events: &mut Vec<Event>) {
        let state = &mut self.sockets.states[edge.socket as usize];
        state.may_have_gap |= edge.may_have_gap;
        state.writable |= edge.writable;
        if edge.writable && state.parked > 0 {
            self.retry_parked(edge.socket, events);
        } else if edge.writable && state.output.is_some() {
            self.try_output(edge.socket, events);
        }
        if edge.readable {
            self.inputs.readable(edge.socket);
        }
    }
}

impl<S: Selector> Source for Sockets<S> {
    fn accept(&mut self, socket: u32, is_first: bool) -> Attempt<AcceptedSocket> {
        self.counters.kernel_entries.add(1);
        let handle = self.states[socket as usize].handle;
        if is_first {
            calls::never_block(handle);
        }
        S::accept(handle).map(|socket| AcceptedSocket::fresh(AnySocket::Os(socket), true))
    }

    #[inline]
    fn receive(&mut self, socket: u32, span: SpanMut) -> Attempt<Received> {
        self.counters.kernel_entries.add(1);
        let State { handle, may_have_gap, .. } = self.states[socket as usize];
        let received = |bytes| Received { bytes, is_drained: bytes < span.length && !may_have_gap };
        calls::receive(handle, span).map(received)
    }

    fn receive_datagrams(&mut self, socket: u32, spans: &[SpanMut], labels: &mut [Label; BATCH_MAX]) -> Attempt<usize> {
        self.counters.kernel_entries.add(1);
        S::receive_datagrams(self.states[socket as usize].handle, spans, labels)
    }
}
