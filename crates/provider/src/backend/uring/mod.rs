//! io_uring: one enter per turn, multishot accepts and receives over buffer rings, sends that leave no completion.
//!
//! How a send for which nobody waits goes out without a completion entry (`SendSkip`): it is issued inside the enter, does not wait, and leaves
//! an entry only if not all of it went out. So once the enter has returned and the queue has been reaped, every such send
//! without an entry has gone out whole, and its memory is free. The others are handed over again by the driver, as
//! ordinary sends for which the kernel waits.

mod datagram;
mod entries;
mod probe;
mod ring;
mod run;

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::squeue;
use socket2::{Domain, Socket};

use self::entries::{Patience, Tag};
use self::probe::Features;
use self::ring::{Reaped, Ring, Setup};
use self::run::Runs;
use super::event_fd::EventFd;
use super::{Kind, RawHandle};
use crate::buffer::{Buffer, BufferPool, Section};
use crate::config::Config;
use crate::endpoint::{AcceptedSocket, AnySocket};
use crate::error::{Error, ErrorKind};
use crate::memory::{Span, SpanList, Target};
use crate::provider::{
    Action, Event, EventResult, FeatureState, Notice, Provider, ProviderCounters, Request, RequestKey, Waker,
};
use crate::slots::Key;

/// Errors in a row after which accepts are asked for one by one.
const ACCEPT_ERRORS_MAX: u32 = 8;
/// The kernel's own limit, IORING_MAX_CQ_ENTRIES.
const COMPLETION_ENTRIES_MAX: u32 = 65_536;

/// The io_uring back end.
pub struct Uring {
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
    /// Per operation slot: under which tag its request is in the kernel, for cancels.
    tags: Vec<u8>,
    /// Results of sends without a copy whose memory the network still reads.
    zero_copy: Vec<(RequestKey, i32)>,
    zero_copy_bytes_min: usize,
    /// Per socket: its family cannot send without a copy. Empty unless that is wanted at all.
    copies: Vec<bool>,
    accept_errors: u32,
    buffer_bytes: [u32; 2],
    /// Of ordinary and bulk buffers.
    levels: [Level; 2],
    counters: ProviderCounters,
    start: Instant,
}

impl Provider for Uring {
    type Endpoint = Socket;

    fn network(&self) -> &() {
        &()
    }

    fn kind(&self) -> Kind {
        Kind::IoUring
    }

    fn open(config: &Config, pool: &mut BufferPool) -> Result<Self, Error> {
        let mut features = probe::probe(config)?;
        let setup = Setup {
            submission_entries: config.uring.submission_entries.clamp(8, 32_768),
            completion_entries: completion_entries(config),
            ..features.setup
        };
        let mut ring = Ring::new(setup)?;
        // A task has 16 places for registered rings: one driver more goes without.
        features.registered_ring = features.registered_ring && ring.register_descriptor();
        if features.buffer_ring {
            ring.add_buffer_ring(config.pool.receive_count)?;
            ring.add_buffer_ring(config.pool.bulk_count)?;
        }
        let mut uring = Uring {
            ring,
            waker: EventFd::new()?,
            is_wake_armed: false,
            reaped: Vec::with_capacity(setup.submission_entries as usize),
            skipping: VecDeque::with_capacity(setup.submission_entries as usize),
            answered: Vec::with_capacity(64),
            pushed: 0,
            runs: Runs::default(),
            tags: Vec::with_capacity(config.operations_max as usize),
            zero_copy: Vec::new(),
            zero_copy_bytes_min: config.uring.zero_copy_bytes_min.map_or(usize::MAX, |bytes| bytes as usize),
            copies: Vec::new(),
            accept_errors: 0,
            buffer_bytes: [config.pool.buffer_bytes, config.pool.bulk_bytes],
            levels: [
                Level::new(LEVEL_MIN, config.pool.receive_count),
                Level::new(LEVEL_MIN_BULK, config.pool.bulk_count),
            ],
            counters: ProviderCounters::default(),
            start: Instant::now(),
            features,
        };
        uring.refill(pool);
        Ok(uring)
    }

    fn is_nonblocking(&self) -> bool {
        // The kernel waits for us; a non-blocking file would make old kernels answer EAGAIN instead.
        false
    }

    fn attach(&mut self, index: u32, socket: &Socket) -> Result<(), Error> {
        if self.features.zero_copy {
            let index = index as usize;
            if self.copies.len() <= index {
                self.copies.resize(index + 1, false);
            }
            // Unix sockets cannot send without a copy.
            self.copies[index] = !matches!(socket.domain(), Ok(Domain::IPV4 | Domain::IPV6));
        }
        Ok(())
    }

    fn detach(&mut self, _index: u32, _socket: &Socket) {}

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
        requests.clear();
        // What was taken out to make room has happened, though the kernel's queue knows of it no more.
        let entered = self.enter(if is_behind || !self.reaped.is_empty() { Some(Duration::ZERO) } else { wait });
        loop {
            self.ring.reap(&mut self.reaped);
            if !self.ring.has_overflow() {
                break;
            }
            // The kernel kept completions back: an enter moves them into the queue, now that it has room.
            self.enter(Some(Duration::ZERO))?;
        }
        let mut reaped = std::mem::take(&mut self.reaped);
        for entry in reaped.drain(..) {
            self.finish(entry, pool, events);
        }
        self.reaped = reaped;
        self.conclude_skipping(events);
        entered
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn features(&self) -> Vec<FeatureState> {
        self.features.states()
    }

    fn counters(&self) -> ProviderCounters {
        self.counters
    }

    fn depth(&self) -> u32 {
        self.ring.parameters().sq_entries()
    }
}

/// Everything that may be in flight at once gets a place, so that the queue does not overflow: the end of one receive or
/// accept per socket, a completion per receive buffer (each waits until its buffer is back), a send per socket in the
/// queue, and the waker.
fn completion_entries(config: &Config) -> u32 {
    let pool = &config.pool;
    let sum = config.sockets_max + pool.receive_count + pool.bulk_count + config.uring.submission_entries + 1;
    sum.min(COMPLETION_ENTRIES_MAX).next_power_of_two()
}

/// How many buffers of a section the kernel has at a time. It uses them in turn, first in first out: the more it has, the
/// colder each is when its turn comes. So it gets four times what a turn has used, from the pool's hot end.
struct Level {
    wanted: u32,
    maximum: u32,
    with_kernel: u32,
    /// Since the last refill.
    used: u32,
    has_run_out: bool,
}

/// 1 MiB each with the default sizes: what an L2 cache holds.
const LEVEL_MIN: u32 = 256;
const LEVEL_MIN_BULK: u32 = 16;

impl Level {
    fn new(minimum: u32, maximum: u32) -> Self {
        Level { wanted: minimum.min(maximum), maximum, with_kernel: 0, used: 0, has_run_out: false }
    }

    /// Grows at once when a turn used more than a quarter, or found nothing. What it has needed once it keeps.
    fn adapt(&mut self) {
        let is_low = self.used.saturating_mul(4) > self.wanted || self.has_run_out;
        if is_low {
            self.wanted = (self.wanted * 2).max(self.used * 4).min(self.maximum);
        }
        (self.used, self.has_run_out) = (0, false);
    }
}

impl Uring {
    fn start(&mut self, request: Request) {
        let Request { key, socket, handle, action } = request;
        match action {
            Action::Accept => self.push(Tag::Accept, key, &entries::accept(handle, self.features.multishot_accept)),
            Action::Connect(address) => self.push(Tag::Connect, key, &entries::connect(handle, address)),
            Action::Receive(section) => self.start_receive(key, handle, section),
            Action::ReceiveInto(span) => self.push(Tag::ReceiveInto, key, &entries::receive_into(handle, span)),
            Action::ReceiveDatagrams(section, arrival) => {
                self.start_receive_datagrams(key, handle, section, arrival);
            }
            Action::SendDatagram(list, target, notice) => self.start_datagram(key, handle, list, target, notice),
            Action::Send(span, _) if self.goes_without_copy(socket, span) => {
                self.push(Tag::SendZeroCopy, key, &entries::send_zero_copy(handle, span));
            }
            Action::Send(span, notice) => self.start_send(key, handle, span, notice),
            Action::SendList(list, notice) => {
                self.start_send_list(key, handle, list, Target::of(None), notice);
            }
            Action::Cancel => {
                let tag = self.tags.get(key.index() as usize).map_or(Tag::Ignore, |tag| Tag::from_number(*tag));
                let target = entries::user_data(tag, key);
                self.push_entry(entries::cancel(target).user_data(Tag::Ignore as u64));
            }
        }
    }

    fn start_receive(&mut self, key: RequestKey, handle: RawHandle, section: Section) {
        let group = section as u16;
        let tag = if section == Section::Bulk { Tag::ReceiveBulk } else { Tag::Receive };
        let entry = if self.features.multishot_receive {
            entries::receive_multishot(handle, group)
        } else {
            entries::receive_selected(handle, group, self.buffer_bytes[section as usize])
        };
        self.push(tag, key, &entry);
    }

    fn goes_without_copy(&self, socket: u32, span: Span) -> bool {
        self.features.zero_copy && span.length >= self.zero_copy_bytes_min && !self.copies[socket as usize]
    }

    fn start_send(&mut self, key: RequestKey, handle: RawHandle, span: Span, notice: Notice) {
        if notice == Notice::Prompt || !self.features.skip_success {
            return self.push(Tag::Send, key, &entries::send(handle, span, Patience::Wait));
        }
        let entry = entries::send(handle, span, Patience::Answer).flags(squeue::Flags::SKIP_SUCCESS);
        self.push(Tag::SendSkip, key, &entry);
        self.skipping.push_back((self.pushed, entries::user_data(Tag::SendSkip, key), span.length));
    }

    fn start_send_list(&mut self, key: RequestKey, handle: RawHandle, list: SpanList, target: Target, notice: Notice) {
        let skips = self.features.skip_success && notice == Notice::Lazy;
        let (tag, patience) = if skips { (Tag::SendSkip, Patience::Answer) } else { (Tag::Send, Patience::Wait) };
        let flags = if skips { squeue::Flags::SKIP_SUCCESS } else { squeue::Flags::empty() };
        let data = entries::user_data(tag, key);
        self.remember(tag, key);
        while !self.ring.push_list(handle, list, target, patience, |entry| entry.flags(flags).user_data(data)) {
            self.make_room();
        }
        self.pushed += 1;
        if skips {
            self.skipping.push_back((self.pushed, data, list.bytes));
        }
    }

    fn push(&mut self, tag: Tag, key: RequestKey, entry: &squeue::Entry) {
        self.remember(tag, key);
        self.push_entry(entry.clone().user_data(entries::user_data(tag, key)));
    }

    fn remember(&mut self, tag: Tag, key: RequestKey) {
        let index = key.index() as usize;
        if self.tags.len() <= index {
            self.tags.resize(index + 1, 0);
        }
        self.tags[index] = tag as u8;
    }

    fn push_entry(&mut self, entry: squeue::Entry) {
        while !self.ring.push(&entry) {
            self.make_room();
        }
        self.pushed += 1;
    }

    /// The queue is full in the middle of a turn: one more enter, and completions are taken out to keep theirs from
    /// filling up.
    fn make_room(&mut self) {
        // An error leaves the entries queued; the loop around us tries again, and completions were taken out meanwhile.
        let _ = self.enter(Some(Duration::ZERO));
        self.ring.reap(&mut self.reaped);
    }

    /// Enters until all that is queued has been taken, the last time with the wait.
    fn enter(&mut self, wait: Option<Duration>) -> Result<(), Error> {
        loop {
            self.counters.kernel_entries += 1;
            match self.ring.enter(wait) {
                Ok(_) if self.ring.queued() == 0 => return Ok(()),
                Ok(_) => {}
                // EINTR comes without any signal too. EBUSY: completions must be taken out first. EAGAIN: no memory for
                // requests now; they stay queued for the next turn.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)) => {
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn arm_wake(&mut self) {
        if !self.is_wake_armed {
            self.is_wake_armed = true;
            let entry = entries::poll_in(self.waker.as_fd().as_raw_fd());
            self.push_entry(entry.user_data(entries::user_data(Tag::Wake, Key::from_bits(0))));
        }
    }

    /// Gives the kernel receive buffers up to the section's level: through the ring, or by a request each where there is
    /// none.
    fn refill(&mut self, pool: &mut BufferPool) {
        for section in [Section::Receive, Section::Bulk] {
            let level = &mut self.levels[section as usize];
            level.adapt();
            let missing = level.wanted.saturating_sub(level.with_kernel).min(pool.free(section) as u32);
            level.with_kernel += missing;
            if missing == 0 {
                continue;
            }
            for _ in 0..missing {
                let Some((number, span)) = pool.give_kernel(section) else { break };
                if self.features.buffer_ring {
                    self.ring.provide_buffer(section as u16, number as u16, span);
                } else {
                    let data = entries::user_data(Tag::Provide, Key::new(number, section as u32));
                    self.push_entry(entries::provide(section as u16, number as u16, span).user_data(data));
                }
            }
            if self.features.buffer_ring {
                self.ring.publish_buffers(section as u16);
            }
        }
    }

    fn finish(&mut self, entry: Reaped, pool: &mut BufferPool, events: &mut Vec<Event>) {
        let (tag, key) = entries::split(entry.user_data);
        let (result, more) = match tag {
            Tag::Ignore => return,
            Tag::Wake => {
                self.waker.clear();
                self.is_wake_armed = false;
                return;
            }
            Tag::Provide => {
                if entry.result < 0 {
                    // Not taken for want of memory: it is free again, and offered again.
                    let section =
                        if key.generation() == Section::Bulk as u32 { Section::Bulk } else { Section::Receive };
                    pool.take_unused(section, key.index());
                    self.levels[section as usize].with_kernel -= 1;
                }
                return;
            }
            Tag::Accept => (self.accepted(entry), entry.more()),
            Tag::Connect => (connected(entry.result), false),
            Tag::Receive => (self.received(entry, Section::Receive, pool), entry.more()),
            Tag::ReceiveBulk => (self.received(entry, Section::Bulk, pool), entry.more()),
            Tag::ReceiveInto => (check(entry.result).map_or_else(failed, EventResult::ReceivedInto), false),
            Tag::Send => (sent(check(entry.result)), false),
            Tag::SendSkip | Tag::SendRunSkip => return self.answered.push((entry.user_data, entry.result)),
            Tag::SendRun => return self.conclude_run(key.index(), check(entry.result), events),
            Tag::ReceiveDatagrams => (self.received_datagram(entry, Section::Receive, pool), entry.more()),
            Tag::ReceiveDatagramsBulk => (self.received_datagram(entry, Section::Bulk, pool), entry.more()),
            Tag::ReceiveDatagram => (self.received_one_datagram(entry, Section::Receive, pool), false),
            Tag::ReceiveDatagramBulk => (self.received_one_datagram(entry, Section::Bulk, pool), false),
            Tag::SendZeroCopy => match self.zero_copied(entry, key) {
                Some(result) => (result, false),
                None => return,
            },
        };
        events.push(Event { key, more, result });
    }

    fn accepted(&mut self, entry: Reaped) -> EventResult {
        match check(entry.result) {
            Ok(descriptor) => {
                self.accept_errors = 0;
                if !entry.more() && self.features.multishot_accept {
                    self.counters.rearms += 1;
                }
                let socket = ring::own_descriptor(descriptor as i32).into();
                EventResult::Accepted(AcceptedSocket::fresh(AnySocket::Os(socket), false))
            }
            Err(error) => {
                self.accept_errors += u32::from(error.kind() != ErrorKind::Cancelled);
                if self.accept_errors >= ACCEPT_ERRORS_MAX {
                    self.features.multishot_accept = false;
                    self.features.accepts_one_by_one = true;
                }
                failed(error)
            }
        }
    }

    fn received(&mut self, entry: Reaped, section: Section, pool: &mut BufferPool) -> EventResult {
        let taken = self.take_received(entry, section, pool);
        taken.map_or_else(failed, |buffer| EventResult::Received(buffer.unwrap_or_default()))
    }

    /// The buffer that a receive has filled. A failed or empty one may hold a buffer all the same: it goes back.
    fn take_received(
        &mut self,
        entry: Reaped,
        section: Section,
        pool: &mut BufferPool,
    ) -> Result<Option<Buffer>, Error> {
        let number = entry.buffer().map(u32::from);
        let level = &mut self.levels[section as usize];
        level.with_kernel -= u32::from(number.is_some());
        level.used += u32::from(number.is_some());
        match (check(entry.result), number) {
            (Ok(length @ 1..), Some(number)) => {
                if !entry.more() && self.features.multishot_receive {
                    self.counters.rearms += 1;
                }
                Ok(Some(pool.take_kernel(section, number, length)))
            }
            (result, number) => {
                if let Some(number) = number {
                    pool.take_unused(section, number);
                }
                match result {
                    Ok(_) => Ok(None),
                    Err(error) if error.os_code() == libc::ENOBUFS => {
                        self.counters.no_buffers += 1;
                        self.levels[section as usize].has_run_out = true;
                        Err(error.with_kind(ErrorKind::NoBuffers))
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// The first entry has the result, the second says that the memory is free; without F_MORE there is no second.
    fn zero_copied(&mut self, entry: Reaped, key: RequestKey) -> Option<EventResult> {
        if entry.is_notification() {
            let place = self.zero_copy.iter().position(|(waiting, _)| *waiting == key)?;
            return Some(sent(check(self.zero_copy.swap_remove(place).1)));
        }
        if entry.more() {
            self.zero_copy.push((key, entry.result));
            return None;
        }
        Some(sent(check(entry.result)))
    }

    /// Ends the sends of this turn that may leave no entry: those that left one with its result, the others as sent.
    fn conclude_skipping(&mut self, events: &mut Vec<Event>) {
        let taken = self.pushed - self.ring.queued() as u64;
        self.answered.sort_unstable();
        while let Some((place, data, length)) = self.skipping.front().copied() {
            if place > taken {
                break;
            }
            self.skipping.pop_front();
            let answer = self.answered.binary_search_by_key(&data, |(answered, _)| *answered);
            let result = answer.map_or(Ok(length), |found| check(self.answered[found].1));
            let (tag, key) = entries::split(data);
            if tag == Tag::SendRunSkip {
                self.conclude_run(key.index(), result, events);
            } else {
                events.push(Event { key, more: false, result: sent(result) });
            }
        }
        self.answered.clear();
    }
}

fn check(result: i32) -> Result<usize, Error> {
    match -result {
        ..=0 => Ok(result as usize),
        // A request that went to a worker thread was interrupted there: that is how the kernel cancels it.
        libc::EINTR => Err(Error::from_os(libc::EINTR).with_kind(ErrorKind::Cancelled)),
        code => Err(Error::from_os(code)),
    }
}

fn failed(error: Error) -> EventResult {
    EventResult::Failed(error)
}

fn connected(result: i32) -> EventResult {
    match check(result) {
        Ok(_) => EventResult::Connected,
        Err(error) if error.os_code() == libc::EAGAIN => failed(error.with_kind(ErrorKind::Busy)),
        Err(error) => failed(error),
    }
}

fn sent(result: Result<usize, Error>) -> EventResult {
    match result {
        Ok(bytes) => EventResult::Sent(bytes),
        Err(error) if error.os_code() == libc::EAGAIN => EventResult::Sent(0),
        Err(error) => failed(error),
    }
}
