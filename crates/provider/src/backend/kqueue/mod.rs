//! kqueue: edge-triggered (EV_CLEAR), two registrations per socket, one user event that wakes. All else is `readiness.rs`.
//!
//! The small trait [`Kernel`] has all that is asked of the kernel. `calls.rs` asks kqueue(2) of macOS and FreeBSD; with
//! `--cfg raon_kqueue_shim` it is `shim.rs`, which plays kqueue on Linux so that all else here is executed by the suite.

#[cfg(not(raon_kqueue_shim))]
mod calls;
pub(crate) mod forms;
#[cfg(raon_kqueue_shim)]
mod shim;
mod socket;

use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;

use crate::backend::readiness::{self, EDGES_PER_TURN, Edge, Message, Selector};
use crate::base::attempt::Attempt;
use crate::base::error::Error;
use crate::base::kind::Kind;
use crate::base::wake::{Wake, Waker};
use crate::config::Config;
use crate::contract::input::{BATCH_MAX, Label};
use crate::contract::merge::MergingProbe;
use crate::contract::{FeatureState, Opened};
use crate::memory::buffer::BufferPool;
use crate::memory::{Span, SpanMut};
use crate::platform::RawHandle;

#[cfg(not(raon_kqueue_shim))]
use self::calls::Queue;
#[cfg(raon_kqueue_shim)]
use self::shim::Queue;

/// Opens a kqueue. Errors: the system's.
pub(crate) fn open(config: &Config, _: &mut BufferPool) -> Result<Opened, Error> {
    readiness::open::<KqueueSelector<Queue>>(config)
}

/// What an event is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Filter {
    /// EVFILT_READ of a socket.
    Read,
    /// EVFILT_WRITE of a socket.
    Write,
    /// EVFILT_USER: somebody wakes.
    User,
}

/// An event that the kernel has reported.
#[derive(Clone, Copy, Debug)]
pub(super) struct Note {
    pub(super) filter: Filter,
    /// The socket's number.
    pub(super) socket: u32,
    /// EV_EOF: that direction has ended, in order or not.
    pub(super) is_ended: bool,
}

/// The few things that are asked of kqueue(2).
trait Kernel: Sized + Send + Sync + 'static {
    /// A queue with a user event in it, EV_ADD | EV_CLEAR.
    fn open() -> Result<Self, Error>;
    /// Adds both filters of a socket, EV_ADD | EV_CLEAR.
    fn add(&self, socket: u32, handle: RawHandle) -> Result<(), Error>;
    /// Deletes both, EV_DELETE.
    fn delete(&self, handle: RawHandle);
    /// Triggers the user event, from any thread: NOTE_TRIGGER.
    fn trigger(&self);
    /// Waits for events, at most `wait`, and appends at most `most` of them. An interrupted wait is one without events.
    fn wait(&self, wait: Option<Duration>, most: usize, notes: &mut Vec<Note>) -> Result<(), Error>;
}

/// A queue, and the notes of its last wait.
struct KqueueSelector<K> {
    kernel: Arc<KernelWaker<K>>,
    notes: Vec<Note>,
}

struct KernelWaker<K>(K);

impl<K: Kernel> Wake for KernelWaker<K> {
    fn wake(&self) {
        self.0.trigger();
    }
}

impl<K: Kernel> Selector for KqueueSelector<K> {
    const KIND: Kind = Kind::Kqueue;

    fn open() -> Result<Self, Error> {
        Ok(KqueueSelector { kernel: Arc::new(KernelWaker(K::open()?)), notes: Vec::with_capacity(EDGES_PER_TURN) })
    }

    fn add(&mut self, socket: u32, handle: RawHandle) -> Result<(), Error> {
        socket::raise_no_signal(handle);
        self.kernel.0.add(socket, handle)
    }

    fn remove(&mut self, handle: RawHandle) {
        self.kernel.0.delete(handle);
    }

    fn wait(&mut self, wait: Option<Duration>, edges: &mut Vec<Edge>) -> Result<(), Error> {
        self.notes.clear();
        self.kernel.0.wait(wait, EDGES_PER_TURN, &mut self.notes)?;
        edges.extend(self.notes.iter().filter_map(|note| edge(*note)));
        Ok(())
    }

    fn waker(&self) -> Waker {
        self.kernel.clone()
    }

    /// None of its own: kevent(2) waits by the nanosecond everywhere.
    fn features(&self) -> Vec<FeatureState> {
        Vec::new()
    }

    fn accept(handle: RawHandle) -> Attempt<Socket> {
        socket::accept(handle)
    }

    fn receive_datagrams(handle: RawHandle, spans: &[SpanMut], labels: &mut [Label; BATCH_MAX]) -> Attempt<usize> {
        socket::receive_datagrams(handle, spans, labels)
    }

    fn send_messages(handle: RawHandle, messages: &[Message], spans: &[Span]) -> Attempt<usize> {
        socket::send_messages(handle, messages, spans)
    }

    fn probe_merging() -> MergingProbe {
        let alone = Err("this back end sends and receives datagrams one by one");
        (alone, alone)
    }
}

/// A wake is no edge. What has come is always read to its end: a read may stop at an urgent byte, of which no event tells.
fn edge(note: Note) -> Option<Edge> {
    let Note { filter, socket, is_ended } = note;
    match filter {
        Filter::Read => Some(Edge { socket, readable: true, writable: false, may_have_gap: true }),
        // A connection that is broken ends both directions, whichever event is seen first.
        Filter::Write => Some(Edge { socket, readable: is_ended, writable: true, may_have_gap: is_ended }),
        Filter::User => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_become_edges() {
        let of = |filter, is_ended| edge(Note { filter, socket: 7, is_ended });
        let told = |edge: Option<Edge>| edge.map(|edge| (edge.socket, edge.readable, edge.writable, edge.may_have_gap));
        assert_eq!(told(of(Filter::Read, false)), Some((7, true, false, true)));
        assert_eq!(told(of(Filter::Write, false)), Some((7, false, true, false)));
        assert_eq!(told(of(Filter::Write, true)), Some((7, true, true, true)));
        assert_eq!(told(of(Filter::User, false)), None);
    }
}
