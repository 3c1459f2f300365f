//! Registered I/O: a request queue per socket in memory that is shared with the system, and one completion queue per driver.
//! Bytes go this way. Connections are accepted and made by the completion port, whose back end is a part of this one;
//! the wait is there, too.
//!
//! Life of a socket:
//! 1. `attach` joins it to the port and reserves room in the completion queue for its quotas, or refuses it.
//! 2. With its first bytes it gets its request queue, a [`RequestQueue`]: by then it is connected.
//! 3. A receive posts one slice of registered memory. What arrives is copied into pool buffers, and the slice is posted
//!    again. A send is copied into slices, several of which may be under way.
//! 4. A request cannot be taken back. A cancel ends it at once as far as the driver is concerned: a slice that is posted
//!    stays so, and what arrives there goes to the next receive; what is under way as a send counts as sent.
//! 5. `detach`: the handle is closed right after, and that ends what is under way. The line stays behind, without a
//!    socket, until the last of its completions is dequeued; only then its slices and its room are free.
//!
//! A turn: what has ended is dequeued; requests are posted, deferred; one commit per queue and direction that has any;
//! a notification is asked for, and the port is waited at; what has ended is dequeued until there is no more.
//!
//! A socket that others have made and that has no flag for registered I/O is served by the completion port altogether.
//!
//! On drop: sockets are closed by then. What is outstanding is dequeued, for a bounded time; what is not is given up for
//! good, with the memory.

mod calls;
mod datagram;
mod finish;
pub(crate) mod forms;
mod line;
mod memory;
mod receive;
mod send;
mod start;

use std::rc::Rc;
use std::time::{Duration, Instant};

use socket2::Type;
use windows_sys::Win32::Networking::WinSock::RIORESULT;

use self::calls::{Queues, RESULTS_PER_CALL, Side};
use self::line::RequestQueue;
use self::memory::Slices;
use super::iocp::Iocp;
use crate::base::capacity;
use crate::base::error::{Error, ErrorKind, Feature};
use crate::base::kind::Kind;
use crate::base::setting::Setting;
use crate::base::slots::{CAPACITY_MAX, Key, Slots};
use crate::base::time::DRAIN_MAX;
use crate::config::{Config, RioConfig};
use crate::contract::stats;
use crate::contract::{Event, FeatureState, Opened, Origin, Provider, ProviderCounters, Request};
use crate::memory::buffer::BufferPool;
use crate::platform::RawHandle;
use crate::platform::rio::RioFunctions;
use crate::socket::AnySocket;

/// How long the system gets before a request that it had no memory for is posted again.
const AGAIN_AFTER: Duration = Duration::from_millis(1);

/// What is known of a socket.
#[derive(Clone, Copy, Default)]
struct Member {
    handle: RawHandle,
    is_datagram: bool,
    /// Its bytes go through registered I/O, and this is reserved for them.
    quotas: Option<[u32; 2]>,
    /// Whoever made it may not have given it the flag.
    is_foreign: bool,
    line: Option<Key>,
}

/// The back end of Windows' registered I/O.
pub(crate) struct Rio {
    /// Accepts, connects, wakes, waits; and sockets without the flag.
    control: Iocp,
    control_requests: Vec<Request>,
    queues: Queues,
    /// Where streams are received.
    receives: Slices,
    /// Where streams are sent from.
    sends: Slices,
    /// Datagrams with their addresses, in either direction: ordinary ones, and those of bulk length.
    datagrams: [Slices; 2],
    members: Vec<Member>,
    lines: Slots<RequestQueue>,
    /// Directions of lines that have deferred requests, each once.
    dirty: Vec<(Key, Side)>,
    /// Lines that something has happened to, each once.
    touched: Vec<Key>,
    /// Lines for whose requests the system had no memory.
    again: Vec<Key>,
    results: Vec<RIORESULT>,
    config: RioConfig,
    drain_deadline: Duration,
    /// The completion queue is lost.
    fatal: Option<Error>,
    counters: Rc<ProviderCounters>,
}

/// Opens registered I/O and the completion port that it is a part of. Errors: the system's, or that it has none.
pub(crate) fn open(config: &Config, _: &mut BufferPool) -> Result<Opened, Error> {
    let functions = match config.rio.functions {
        Some(functions) if functions.is_complete() => functions,
        Some(_) => return Err(Error::new(ErrorKind::InvalidInput)),
        None => RioFunctions::of_system()?,
    };
    let (mut profile, control) = Iocp::open(config)?;
    profile.kind = Kind::Rio;
    profile.features.insert(0, FeatureState { feature: Feature::RegisteredIo, in_use: true, reason: "" });
    let rio = config.rio;
    let queues = Queues::open(functions, control.port(), rio.completions_first, rio.completions_max)?;
    // Lines outlive their sockets until the system has let go.
    let lines_max = (2 * config.sockets_max as usize).min(CAPACITY_MAX);
    //= LIMIT-1
    // One slice per line for receiving, and as many as it may have under way for sending.
    let slices =
        |bytes: u32, per_line: u32| Slices::new(functions, bytes as usize, (lines_max as u32).saturating_mul(per_line));
    let per_line = rio.datagrams_ahead + rio.sends_ahead;
    let datagrams = [config.pool.buffer_bytes, config.pool.bulk_bytes]
        .map(|bytes| slices(bytes + datagram::ADDRESS_BYTES as u32, per_line));
    let rio = Rio {
        control,
        control_requests: Vec::with_capacity(64),
        queues,
        receives: slices(rio.receive_bytes, 1),
        sends: slices(rio.send_bytes, rio.sends_ahead),
        datagrams,
        members: Vec::new(),
        lines: capacity::table(lines_max, 1, Setting::SocketsMax)?,
        dirty: Vec::with_capacity(1024),
        touched: Vec::with_capacity(1024),
        again: Vec::new(),
        results: Vec::with_capacity(RESULTS_PER_CALL),
        config: rio,
        drain_deadline: config.drain_deadline,
        fatal: None,
        counters: profile.counters.clone(),
    };
    Ok(Opened { profile, provider: Box::new(rio) })
}

impl Provider for Rio {
    fn attach(&mut self, index: u32, socket: &AnySocket, origin: Origin) -> Result<(), Error> {
        let handle = socket.handle();
        let is_foreign = origin == Origin::Foreign;
        let ahead = if socket.system()?.r#type()? == Type::DGRAM { self.config.datagrams_ahead } else { 1 };
        let quotas = (!is_foreign || self.queues.may_have_queue(handle)).then_some([ahead, self.config.sends_ahead]);
        // First: who is refused here belongs to no port yet and may try again.
        quotas.map_or(Ok(()), |quotas| self.queues.reserve(quotas))?;
        if let Err(error) = self.control.attach(index, socket, origin) {
            quotas.into_iter().for_each(|quotas| self.queues.release(quotas));
            return Err(error);
        }
        let facts = self.control.facts(index);
        if self.members.len() <= index as usize {
            self.members.resize(index as usize + 1, Member::default());
        }
        let is_datagram = facts.is_datagram;
        self.members[index as usize] = Member { handle, is_datagram, quotas, is_foreign, line: None };
        Ok(())
    }

    fn detach(&mut self, index: u32) {
        let member = std::mem::take(&mut self.members[index as usize]);
        if let Some(line) = member.line {
            self.abandon(line);
        } else if let Some(quotas) = member.quotas {
            self.queues.release(quotas);
        }
        self.queues.closing(member.handle);
        self.control.detach(index);
    }

    fn turn(
        &mut self,
        requests: &mut Vec<Request>,
        wait: Option<Duration>,
        pool: &mut BufferPool,
        events: &mut Vec<Event>,
    ) -> Result<(), Error> {
        let was_sound = self.fatal.is_none();
        self.try_again();
        self.advance(pool, events);
        for request in requests.drain(..) {
            self.start(request, pool, events);
        }
        self.commit();
        let wait = self.prepare_wait(wait, pool, events);
        let waited = self.control.turn(&mut self.control_requests, wait, pool, events);
        if self.control.take_notice() {
            self.queues.disarmed();
        }
        self.advance(pool, events);
        self.commit();
        // Told once; from then on each request fails with it.
        self.fatal.filter(|_| was_sound).map_or(waited, Err)
    }
}

impl Rio {
    /// How long to wait at the port; with something to wait for, the completion queue tells there.
    fn prepare_wait(
        &mut self,
        wait: Option<Duration>,
        pool: &mut BufferPool,
        events: &mut Vec<Event>,
    ) -> Option<Duration> {
        let is_idle = |events: &Vec<Event>| events.is_empty();
        if wait == Some(Duration::ZERO) || self.fatal.is_some() || self.queues.outstanding() == 0 {
            return wait.filter(|_| is_idle(events)).or(if is_idle(events) { wait } else { Some(Duration::ZERO) });
        }
        self.poll(wait, pool, events);
        if !is_idle(events) || self.queues.arm().is_err() {
            return Some(Duration::ZERO);
        }
        if self.again.is_empty() { wait } else { Some(wait.map_or(AGAIN_AFTER, |wait| wait.min(AGAIN_AFTER))) }
    }

    /// Looks again and again, if so configured, before it sleeps.
    fn poll(&mut self, wait: Option<Duration>, pool: &mut BufferPool, events: &mut Vec<Event>) {
        if self.config.poll.is_zero() {
            return;
        }
        let until = Instant::now() + wait.map_or(self.config.poll, |wait| wait.min(self.config.poll));
        while events.is_empty() && Instant::now() < until {
            std::hint::spin_loop();
            self.advance(pool, events);
            self.commit();
        }
    }
}

impl Drop for Rio {
    //= DROP-1
    fn drop(&mut self) {
        let (start, deadline) = (Instant::now(), self.drain_deadline.min(DRAIN_MAX));
        // Those that the driver's drain has left: its sockets are closed after this, and their operations it has counted.
        let left: Vec<Member> = self.members.iter().copied().filter(|member| member.line.is_some()).collect();
        let counted = left.iter().filter_map(|member| self.lines.resolve(member.line?));
        let counted: u32 = counted.map(|index| self.lines[index].in_flight).sum();
        for member in left {
            member.line.into_iter().for_each(|line| self.abandon(line));
            self.queues.closing(member.handle);
        }
        self.collect();
        while self.queues.outstanding() > 0 && self.fatal.is_none() && start.elapsed() < deadline {
            std::thread::sleep(AGAIN_AFTER);
            self.collect();
        }
        stats::count_leaked((self.queues.outstanding() as u64).saturating_sub(u64::from(counted)));
    }
}
