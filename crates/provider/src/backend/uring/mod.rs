//! io_uring: one enter per turn, multishot accepts and receives over buffer rings, sends that leave no completion.
//!
//! How a send for which nobody waits goes out without a completion entry (`SendSkip`): it is issued inside the enter, does not wait, and leaves
//! an entry only if not all of it went out. So once the enter has returned and the queue has been reaped, every such send
//! without an entry has gone out whole, and its memory is free. The others are handed over again by the driver, as
//! ordinary sends for which the kernel waits.

mod calls;
mod cancel;
mod datagram;
mod entries;
mod features;
mod finish;
pub(crate) mod forms;
mod level;
mod run;
mod start;
mod trials;

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use socket2::Domain;

use self::calls::{Reaped, Ring, Setup};
use self::cancel::UnderWay;
use self::entries::Tag;
use self::features::Features;
use self::level::{LEVEL_MIN, LEVEL_MIN_BULK, Level};
use self::run::Runs;
use super::event_fd::EventFd;
use crate::base::capacity;
use crate::base::error::Error;
use crate::base::kind::Kind;
use crate::base::setting::Setting;
use crate::base::slots::Key;
use crate::config::{Config, SetupTier};
use crate::contract::{Action, Event, Opened, Origin, Profile, Provider, ProviderCounters, Request, RequestKey};
use crate::memory::buffer::BufferPool;
use crate::platform::RawHandle;
use crate::socket::AnySocket;

/// Completions that deferred work yields per enter, IO_LOCAL_TW_DEFAULT_MAX: if there are as many, there may be more.
const DEFERRED_PER_ENTER: usize = 20;
/// Completions after which a turn asks for no more of them. With ordinary buffers 256 KiB, as a readiness back end
/// receives in one turn.
const COMPLETIONS_PER_TURN: usize = 64;
/// Enters in a row that may find no room for a request before the request waits for the next turn.
const ROOM_TRIES_MAX: u32 = 64;
/// Longest wait of a turn that has left requests behind.
const BEHIND_WAIT: Duration = Duration::from_millis(1);
/// The kernel's own limit, IORING_MAX_CQ_ENTRIES.
const COMPLETION_ENTRIES_MAX: u32 = 65_536;

/// The io_uring back end.
pub(crate) struct Uring {
    ring: Ring,
    features: Features,
    waker: Arc<EventFd>,
    is_wake_armed: bool,
    reaped: Vec<Reaped>,
    /// Sends in the queue that may leave no entry, with their place in the order of submission: tag and key, and length.
    skipping: VecDeque<(u64, u64, usize)>,
    /// Those of them that did leave one, in this turn.
    answered: Vec<(u64, i32)>,
    pushed: u64,
    /// Datagrams that are under way together.
    runs: Runs,
    under_way: UnderWay,
    /// Results of sends without a copy whose memory the network still reads.
    zero_copy: Vec<(RequestKey, i32)>,
    zero_copy_bytes_min: usize,
    /// Per socket: its family cannot send without a copy. Empty unless that is wanted at all.
    copies: Vec<bool>,
    accept_errors: u32,
    /// Accepts that are under way, with their listeners: as many as the driver has listeners.
    accepting: Vec<(RequestKey, RawHandle)>,
    /// Requests that found no room in the queue: first in the next turn.
    postponed: Vec<Request>,
    /// The ring cannot be entered any more. Nothing is asked of it after that.
    fatal: Option<Error>,
    buffer_bytes: [u32; 2],
    /// Of ordinary and bulk buffers.
    levels: [Level; 2],
    counters: Rc<ProviderCounters>,
}

/// Opens a ring on the calling thread. Errors: the feature that is missing, or memory.
pub(crate) fn open(config: &Config, pool: &mut BufferPool) -> Result<Opened, Error> {
    let (profile, uring) = Uring::open(config, pool)?;
    Ok(Opened { profile, provider: Box::new(uring) })
}

impl Provider for Uring {
    fn attach(&mut self, index: u32, socket: &AnySocket, _: Origin) -> Result<(), Error> {
        if self.features.zero_copy {
            let index = index as usize;
            if self.copies.len() <= index {
                self.copies.resize(index + 1, false);
            }
            // Unix sockets cannot send without a copy.
            self.copies[index] = !matches!(socket.system()?.domain(), Ok(Domain::IPV4 | Domain::IPV6));
        }
        Ok(())
    }

    fn detach(&mut self, _: u32) {}

    fn turn(
        &mut self,
        requests: &mut Vec<Request>,
        wait: Option<Duration>,
        pool: &mut BufferPool,
        events: &mut Vec<Event>,
    ) -> Result<(), Error> {
        // Sends that an enter without memory has left in the queue: they leave no entry, so nothing would end the wait.
        let is_behind = !self.skipping.is_empty();
        self.refill(pool);
        self.arm_wake();
        self.start_all(requests);
        self.cancel_again();
        // What was taken out to make room has happened, though the kernel's queue knows of it no more.
        let wait = match wait {
            _ if is_behind || !self.reaped.is_empty() => Some(Duration::ZERO),
            wait if self.postponed.is_empty() && self.runs.is_settled() => wait,
            wait => Some(wait.map_or(BEHIND_WAIT, |wait| wait.min(BEHIND_WAIT))),
        };
        self.enter(wait);
        self.gather();
        let mut reaped = std::mem::take(&mut self.reaped);
        for entry in reaped.drain(..) {
            self.finish(entry, pool, events);
        }
        self.reaped = reaped;
        self.conclude_skipping(events);
        match self.fatal {
            None => Ok(()),
            Some(error) => {
                self.give_up_postponed(error, events);
                Err(error)
            }
        }
    }
}

/// Everything that may be in flight at once gets a place, so that the queue does not overflow: the end of one receive or
/// accept per socket, a completion per receive buffer (each waits until its buffer is back), a send per socket in the
/// queue, and the waker.
fn completion_entries(config: &Config) -> u32 {
    let pool = &config.pool;
    // Each is at most 2^20.
    let sum = config.sockets_max + pool.receive_count + pool.bulk_count + submission_entries(config) + 1;
    sum.min(COMPLETION_ENTRIES_MAX).next_power_of_two()
}

/// What is asked for, as far as a ring can have it.
fn submission_entries(config: &Config) -> u32 {
    let (least, most) = Setting::SubmissionEntries.range();
    config.uring.submission_entries.clamp(least as u32, most as u32)
}

impl Uring {
    fn open(config: &Config, pool: &mut BufferPool) -> Result<(Profile, Self), Error> {
        let mut features = features::probe(config)?;
        let setup = Setup {
            submission_entries: submission_entries(config),
            completion_entries: completion_entries(config),
            ..features.setup
        };
        let mut ring = Ring::new(setup).map_err(|error| {
            let bytes = setup.submission_entries as usize * 64 + setup.completion_entries as usize * 16;
            features::memory_error(error, bytes, Setting::SubmissionEntries)
        })?;
        features.register(&mut ring);
        if features.buffer_ring {
            for (count, setting) in
                [(config.pool.receive_count, Setting::ReceiveCount), (config.pool.bulk_count, Setting::BulkCount)]
            {
                let refused = |error| features::memory_error(error, count as usize * 16, setting);
                ring.add_buffer_ring(count).map_err(refused)?;
            }
        }
        let waker = EventFd::new()?;
        let profile = Profile {
            depth: ring.parameters().sq_entries(),
            // The kernel waits for us; a non-blocking file would make old kernels answer EAGAIN instead.
            is_nonblocking: false,
            // An accept that waits is an exclusive waiter (io_uring's poll with EPOLLEXCLUSIVE, see epoll_ctl(2)).
            is_told_alone: true,
            ..Profile::system(Kind::IoUring, waker.clone(), features.states())
        };
        let mut uring = Uring {
            ring,
            waker,
            is_wake_armed: false,
            reaped: capacity::vector(setup.submission_entries as usize, Setting::SubmissionEntries)?,
            skipping: capacity::queue(setup.submission_entries as usize, Setting::SubmissionEntries)?,
            answered: Vec::with_capacity(64),
            pushed: 0,
            runs: Runs::default(),
            under_way: UnderWay::new((config.operations_max + config.sockets_max) as usize)?,
            zero_copy: Vec::new(),
            zero_copy_bytes_min: config.uring.zero_copy_bytes_min.map_or(usize::MAX, |bytes| bytes as usize),
            copies: Vec::new(),
            accept_errors: 0,
            accepting: Vec::new(),
            postponed: Vec::new(),
            fatal: None,
            buffer_bytes: [config.pool.buffer_bytes, config.pool.bulk_bytes],
            levels: [
                Level::new(LEVEL_MIN, config.pool.receive_count),
                Level::new(LEVEL_MIN_BULK, config.pool.bulk_count),
            ],
            counters: profile.counters.clone(),
            features,
        };
        uring.refill(pool);
        Ok((profile, uring))
    }

    /// The queue is full in the middle of a turn: one more enter, and completions are taken out to keep theirs from
    /// filling up. False: there is no room, and more tries would bring none.
    fn make_room(&mut self, tries: &mut u32) -> bool {
        *tries += 1;
        self.enter(Some(Duration::ZERO));
        self.ring.reap(&mut self.reaped);
        self.fatal.is_none() && *tries < ROOM_TRIES_MAX
    }

    /// Queues by `push`, which says whether there was room. False: there is none in this turn.
    fn queue(&mut self, mut push: impl FnMut(&mut Self) -> bool) -> bool {
        let mut tries = 0;
        while !push(self) {
            if self.fatal.is_some() || !self.make_room(&mut tries) {
                return false;
            }
        }
        self.pushed += 1;
        true
    }

    /// Enters until all that is queued has been taken, the last time with the wait. An error that comes again each time is
    /// kept: the ring is of no use any more.
    fn enter(&mut self, wait: Option<Duration>) {
        while self.fatal.is_none() {
            self.counters.kernel_entries.add(1);
            match self.ring.enter(wait) {
                Ok(_) if self.ring.queued() == 0 => return,
                Ok(_) => {}
                // EINTR comes without any signal too. EBUSY: completions must be taken out first. EAGAIN: no memory for
                // requests now; they stay queued for the next turn.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)) => return,
                Err(error) => self.fatal = Some(features::enter_error(error)),
            }
        }
    }

    /// Takes completions out: what the kernel kept back for want of room, and of the deferred work, of which it does a
    /// little per enter, as much as a turn takes.
    fn gather(&mut self) {
        loop {
            let before = self.reaped.len();
            self.ring.reap(&mut self.reaped);
            let came = self.reaped.len() - before;
            let is_cut = self.is_deferred() && came >= DEFERRED_PER_ENTER && self.reaped.len() < COMPLETIONS_PER_TURN;
            if self.fatal.is_some() || !(is_cut || self.ring.has_overflow()) {
                return;
            }
            self.enter(Some(Duration::ZERO));
        }
    }

    fn is_deferred(&self) -> bool {
        self.features.setup.tier == SetupTier::Defer
    }

    /// The ring is of no use: requests that never reached it end. The others are with the kernel, or in the queue, for
    /// good; a drop counts them (DROP-1).
    fn give_up_postponed(&mut self, error: Error, events: &mut Vec<Event>) {
        let postponed = self.take_postponed();
        for request in postponed.into_iter().filter(|request| !matches!(request.action, Action::Cancel)) {
            self.under_way.remove(request.key);
            events.push(Event { key: request.key, more: false, result: finish::failed(error) });
        }
    }

    fn arm_wake(&mut self) {
        if !self.is_wake_armed {
            let entry = entries::poll_in(self.waker.as_fd().as_raw_fd());
            self.is_wake_armed = self.push_entry(entry.user_data(entries::user_data(Tag::Wake, Key::from_bits(0))));
        }
    }
}
