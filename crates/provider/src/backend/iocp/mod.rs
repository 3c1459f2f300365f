//! I/O completion ports: overlapped operations on sockets, whose ends are taken out of one port per driver.
//!
//! How bytes come in without a buffer that waits for them: a receive of no bytes ends when there is something to receive
//! (`Job::Ready`). Then the socket is in the queue of inputs (`contract/input.rs`), and is read in non-blocking mode into pool
//! buffers until it is drained or has had its share of the turn. So an idle connection holds none. Datagrams: `datagram.rs`.
//!
//! An operation that ends at once leaves no completion, where that is allowed (`Facts::skips`): it is reported in the
//! turn that started it.
//!
//! A request's final event comes only when the system has let go of all that belongs to it. So at `detach` nothing is under
//! way on the socket, and its handle can be closed: a send that is pending then could end up in whatever the handle's
//! number names next.
//!
//! On drop: nothing is under way, unless the driver's drain deadline has passed. Then all is cancelled once more and waited
//! for, for a moment; what the system still has is given up for good, with the sockets that wait to be accepted.

pub(in crate::backend) mod accept;
pub(in crate::backend) mod associate;
pub(in crate::backend) mod blocks;
pub(in crate::backend) mod connect;
mod datagram;
pub(in crate::backend) mod extension;
mod features;
mod finish;
pub(crate) mod forms;
mod message;
pub(in crate::backend) mod port;
pub(in crate::backend) mod precise;
mod receive;
mod start;
#[cfg(test)]
mod tests;
mod transfer;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use windows_sys::Win32::System::IO::OVERLAPPED_ENTRY;

use self::accept::{Accepts, Surroundings};
use self::associate::Facts;
use self::blocks::Blocks;
use self::datagram::Stash;
use self::extension::Extensions;
use self::features::Features;
use self::port::{ENTRIES_PER_WAIT, Port, key};
use self::precise::{PRECISE_MAX, PreciseTimer};
use self::transfer::Pieces;
use crate::base::error::Error;
use crate::base::kind::Kind;
use crate::config::Config;
use crate::contract::GATHER_PIECES_MAX;
use crate::contract::input::InputQueue;
use crate::contract::{Event, Opened, Origin, Profile, Provider, ProviderCounters, Request};
use crate::memory::buffer::BufferPool;
use crate::platform::RawHandle;
use crate::socket::AnySocket;

/// Longest wait before a cancel that has found nothing is repeated. Mostly the completion is in the port and ends it at once.
const CANCEL_WAIT: Duration = Duration::from_millis(1);
/// How long a drop waits for cancelled operations that the driver's drain has left: they end at once, or not at all.
const DROP_WAIT: Duration = Duration::from_millis(200);

/// Operation that tells when a socket has input.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Arming {
    /// None is under way.
    #[default]
    Idle,
    /// It is under way.
    Armed,
    /// It is under way, and its request ends with it.
    Cancelled,
}

#[derive(Default)]
struct State {
    handle: RawHandle,
    facts: Facts,
    arming: Arming,
    /// Where its datagrams arrive.
    stash: Option<Box<Stash>>,
}

/// The back end of Windows' I/O completion ports.
pub(in crate::backend) struct Iocp {
    entries: Vec<OVERLAPPED_ENTRY>,
    accepts: Accepts,
    timer: Option<PreciseTimer>,
    features: Features,
    inputs: InputQueue,
    io: Io,
    pieces: Pieces,
    /// Something has happened that the caller must hear of at once.
    is_urgent: bool,
    /// Registered I/O has something.
    is_noticed: bool,
    counters: Rc<ProviderCounters>,
}

/// Sockets, and what their operations need.
struct Io {
    port: Arc<Port>,
    blocks: Blocks,
    extensions: Extensions,
    sockets: Vec<State>,
    /// Length of a buffer of each section.
    datagram_bytes: [usize; 2],
    counters: Rc<ProviderCounters>,
}

/// Opens a completion port. Errors: the system's.
pub(crate) fn open(config: &Config, _: &mut BufferPool) -> Result<Opened, Error> {
    let (profile, iocp) = Iocp::open(config)?;
    Ok(Opened { profile, provider: Box::new(iocp) })
}

impl Provider for Iocp {
    fn attach(&mut self, index: u32, socket: &AnySocket, _: Origin) -> Result<(), Error> {
        let handle = socket.handle();
        let facts = associate::associate(&self.io.port, handle, self.features.skips)?;
        while self.io.sockets.len() <= index as usize {
            self.io.sockets.push(State::default());
        }
        self.io.sockets[index as usize] = State { handle, facts, ..State::default() };
        self.inputs.forget(index);
        Ok(())
    }

    fn detach(&mut self, index: u32) {
        let state = &mut self.io.sockets[index as usize];
        debug_assert!(state.arming == Arming::Idle);
        state.stash = None;
        self.inputs.forget(index);
    }

    fn turn(
        &mut self,
        requests: &mut Vec<Request>,
        wait: Option<Duration>,
        pool: &mut BufferPool,
        events: &mut Vec<Event>,
    ) -> Result<(), Error> {
        self.is_urgent = !events.is_empty();
        self.io.blocks.cancel_again();
        for request in requests.drain(..) {
            self.start(request, events);
        }
        let is_busy = self.is_urgent || !self.inputs.is_idle() || self.accepts.is_due();
        let longest = match (is_busy, self.io.blocks.has_unheard()) {
            (true, _) => Some(Duration::ZERO),
            (false, true) => Some(wait.unwrap_or(CANCEL_WAIT).min(CANCEL_WAIT)),
            (false, false) => wait,
        };
        let waited = self.wait(longest);
        let mut entries = std::mem::take(&mut self.entries);
        for entry in entries.drain(..) {
            self.take(entry, events);
        }
        self.entries = entries;
        self.refill_accepts(events);
        self.inputs.run(&mut self.io, pool, events);
        waited
    }
}

impl Iocp {
    /// Opens a completion port of this kind, or one that registered I/O is a part of.
    pub(in crate::backend) fn open(config: &Config) -> Result<(Profile, Self), Error> {
        let (timer, features) = features::probe(config)?;
        let port = Port::new()?;
        let profile = Profile::system(Kind::Iocp, port.clone(), features.states());
        let io = Io {
            port,
            blocks: Blocks::new(),
            extensions: Extensions::load()?,
            sockets: Vec::new(),
            datagram_bytes: [config.pool.buffer_bytes as usize, config.pool.bulk_bytes as usize],
            counters: profile.counters.clone(),
        };
        let iocp = Iocp {
            entries: Vec::with_capacity(ENTRIES_PER_WAIT),
            accepts: Accepts::new(config.iocp.accepts_ahead as usize),
            timer,
            features,
            inputs: InputQueue::new(config.turn_bytes_max, &profile.counters),
            io,
            pieces: Pieces::with_capacity(GATHER_PIECES_MAX),
            is_urgent: false,
            is_noticed: false,
            counters: profile.counters.clone(),
        };
        Ok((profile, iocp))
    }

    /// Where the ends of operations arrive.
    pub(in crate::backend) fn port(&self) -> &Port {
        &self.io.port
    }

    /// What is known of a socket that has joined.
    pub(in crate::backend) fn facts(&self, index: u32) -> Facts {
        self.io.sockets[index as usize].facts
    }

    /// True once for each notice of registered I/O.
    pub(in crate::backend) fn take_notice(&mut self) -> bool {
        std::mem::take(&mut self.is_noticed)
    }

    fn wait(&mut self, wait: Option<Duration>) -> Result<(), Error> {
        self.counters.kernel_entries.add(1);
        let precise = wait.filter(|wait| !wait.is_zero() && *wait <= PRECISE_MAX);
        if let (Some(after), Some(timer)) = (precise, &mut self.timer) {
            self.counters.kernel_entries.add(3);
            // If it cannot be armed the wait ends by itself, a little later.
            timer.arm(after, &self.io.port);
        }
        let waited = self.io.port.wait(&mut self.entries, wait);
        if let Some(timer) = &mut self.timer {
            if self.entries.iter().any(|entry| entry.lpCompletionKey == key::TIMER) {
                timer.fired();
            }
            timer.disarm();
        }
        waited
    }

    fn take(&mut self, entry: OVERLAPPED_ENTRY, events: &mut Vec<Event>) {
        match entry.lpCompletionKey {
            key::SOCKET => self.finish(entry, events),
            key::WAKE => self.io.port.clear_wake(),
            key::SETTLED => self.io.blocks.settled(entry.lpOverlapped),
            key::RIO => self.is_noticed = true,
            _ => {}
        }
    }

    /// Lets the listeners that are due wait for connections again.
    fn refill_accepts(&mut self, events: &mut Vec<Event>) {
        self.accepts_with(events, Accepts::refill_due);
    }

    fn accepts_with<T>(
        &mut self,
        events: &mut Vec<Event>,
        act: impl FnOnce(&mut Accepts, &mut Surroundings<'_>) -> T,
    ) -> T {
        let mut around = Surroundings {
            port: &self.io.port,
            blocks: &mut self.io.blocks,
            extensions: &self.io.extensions,
            kernel_entries: &self.counters.kernel_entries,
            events,
        };
        act(&mut self.accepts, &mut around)
    }
}

impl Drop for Iocp {
    //= DROP-1
    fn drop(&mut self) {
        if self.io.blocks.used() == 0 {
            return;
        }
        let in_use: Vec<_> = self.io.blocks.in_use().collect();
        in_use.into_iter().for_each(|id| self.io.blocks.cancel(id));
        let deadline = Instant::now() + DROP_WAIT;
        while self.io.blocks.used() > 0 && Instant::now() < deadline {
            self.io.blocks.cancel_again();
            // What fails here fails until the deadline.
            let _ = self.io.port.wait(&mut self.entries, Some(DROP_WAIT / 20));
            for entry in self.entries.drain(..).filter(|entry| entry.lpCompletionKey == key::SOCKET) {
                if let Some((index, user)) = self.io.blocks.find(entry.lpOverlapped) {
                    self.io.blocks.release(index);
                    self.accepts.forget(user);
                }
            }
        }
        if self.io.blocks.used() > 0 {
            // The system may still write into them.
            self.io.sockets.drain(..).filter_map(|state| state.stash).for_each(std::mem::forget);
        }
    }
}
