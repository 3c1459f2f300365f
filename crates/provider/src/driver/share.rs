//! Shares of a turn: which streams are armed when the buffers do not suffice for all of them.
//!
//! 1. A stream that asked for bytes and found no buffer is *starved*. Starved streams are armed first, in the order in
//!    which they starved.
//! 2. A stream that was starved, or that has delivered more than its share of a turn, is *rationed*. It receives one buffer
//!    at a time. Rationed streams come after the starved ones, and get at most half of the buffers and
//!    `RATION_BYTES_PER_TURN` in one turn. So a stream that was silent finds a buffer at once, or is starved, and comes first.
//! 3. A rationed stream that does not fill its buffer has nothing more to say for now. It is armed like any other again.
//! 4. While anybody waits, a stream that was served in this turn joins the queue too, behind the rationed ones.
//! 5. Streams with bulk buffers receive one at a time while there are more such streams than bulk buffers. A stream that
//!    floods would otherwise bring megabytes in the turn in which its reader has had enough.
//!
//! The share is `turn_bytes_max`. In the turn after one that ran out of buffers it is an equal part of all receive buffers,
//! at least one buffer.
//!
//! The queues hold keys: a socket that closes leaves its place behind, which is skipped, and cleared away when such places
//! are the majority.

use std::collections::VecDeque;

use crate::base::index::{OperationIndex, SocketIndex, Table};
use crate::base::slots::Key;
use crate::config::Config;
use crate::contract::{Action, Arrival, Shots};
use crate::driver::core::Core;
use crate::driver::socket::{Entry, Flow, Receiving, Role, WaitQueue};
use crate::memory::buffer::Section;

/// Memory of the buffers that rationed streams may fill in one turn: what a readiness back end receives of one socket in a
/// turn by default. Work on it takes some milliseconds, which is what everybody else then waits.
const RATION_BYTES_PER_TURN: usize = 256 * 1024;
/// Times in a row that a kernel may deny having the buffers that it was given. A back end that only fails now and then is
/// believed: it must not wait for a buffer that nobody has.
const DENIALS_MAX: u32 = 256;
/// Places of closed sockets that a queue may keep whatever its length.
const STALE_PLACES_MAX: usize = 64;

const SECTIONS: [Section; 2] = [Section::Receive, Section::Bulk];

/// Queues of streams, by section, and the size of a share.
pub(super) struct Shares {
    starved: [VecDeque<Key>; 2],
    rationed: [VecDeque<Key>; 2],
    /// Bytes that a stream may deliver in this turn before it is rationed.
    bytes_max: u32,
    /// Streams that have delivered something in this turn.
    served: u32,
    has_run_out: bool,
    /// Buffers that the kernel had ever got before this turn, and before the turn in which it last said that it had none.
    given: [u64; 2],
    given_when_denied: [u64; 2],
    /// Times that it has said so since it got one.
    denials: [u32; 2],
    /// Streams were left for the next turn although buffers are there.
    is_behind: bool,
    /// Streams that receive into bulk buffers.
    bulk_streams: u32,
}

impl Shares {
    pub(super) fn new(config: &Config) -> Self {
        Shares {
            starved: Default::default(),
            rationed: Default::default(),
            bytes_max: config.turn_bytes_max,
            served: 0,
            has_run_out: false,
            given: [0; 2],
            given_when_denied: [0; 2],
            denials: [0; 2],
            is_behind: false,
            bulk_streams: 0,
        }
    }

    /// Arms the streams that wait in a queue, as far as there are buffers. This is the one place where they are armed, and it
    /// follows the return of buffers: no timer, no spinning.
    //= STARVE-1
    pub(super) fn serve_queues(&mut self, core: &mut Core) {
        self.is_behind = false;
        let mut ration_bytes = RATION_BYTES_PER_TURN;
        for section in SECTIONS {
            if self.waiting(section) > 0 {
                let available = self.available(core, section);
                let left = self.serve_starved(core, section, available);
                self.serve_rationed(core, section, left, &mut ration_bytes);
                // Who was armed may have no bytes and use no buffer, and then nothing would come of it that starts a turn.
                self.is_behind |= available > 0 && self.waiting(section) > 0;
            }
            self.given[section as usize] = core.pool.given(section);
        }
    }

    /// Asks the kernel for bytes, unless the stream is armed, paused, or waits in a queue. A rationed one joins its queue, and so
    /// does one that was served in this turn while others wait.
    pub(super) fn arm_stream(&mut self, core: &mut Core, index: SocketIndex) {
        let receiving = core.sockets[index].receiving();
        let is_served = receiving.turn == core.turn_number() && self.waiting(receiving.section) > 0;
        if is_served || receiving.is_rationed {
            self.join_rationed(core, index);
        } else {
            self.ask(core, index, Shots::Many);
        }
    }

    /// The kernel had no buffer for the stream.
    //= STARVE-1
    pub(super) fn starve(&mut self, core: &mut Core, index: SocketIndex) {
        let turn = core.turn_number();
        let receiving = core.sockets[index].receiving_mut();
        let place = receiving.section as usize;
        let is_first = self.given_when_denied[place] != self.given[place];
        self.given_when_denied[place] = self.given[place];
        self.denials[place] = if is_first { 1 } else { self.denials[place].saturating_add(1) };
        if receiving.turn == turn {
            // It has used buffers in this very turn: who has used none is served before it.
            return self.join_rationed(core, index);
        }
        if receiving.queue == WaitQueue::None {
            receiving.queue = WaitQueue::Starved;
            enqueue(&mut self.starved[place], &core.sockets, index);
        }
    }

    /// Counts what a stream has delivered in this turn. True if that is more than its share.
    #[inline]
    pub(super) fn use_share(&mut self, receiving: &mut Receiving, turn: u32, bytes: usize) -> bool {
        if receiving.turn != turn {
            (receiving.turn, receiving.turn_bytes) = (turn, 0);
            self.served += 1;
        }
        receiving.turn_bytes = receiving.turn_bytes.saturating_add(bytes as u32);
        receiving.turn_bytes > self.bytes_max
    }

    /// Gives a stream bulk buffers, or takes them from it.
    pub(super) fn set_section(&mut self, core: &mut Core, index: SocketIndex, section: Section) {
        let Role::Stream(stream) = &mut core.sockets[index].role else { return };
        if std::mem::replace(&mut stream.receiving.section, section) != section {
            let count = &mut self.bulk_streams;
            *count = if section == Section::Bulk { *count + 1 } else { *count - 1 };
        }
    }

    /// A buffer ran out: the next turn divides what there is.
    pub(super) fn note_shortage(&mut self) {
        self.has_run_out = true;
    }

    /// The turn is over: what a share of the next one is.
    pub(super) fn settle_shares(&mut self, core: &Core) {
        let Shares { served, has_run_out, .. } = *self;
        (self.served, self.has_run_out) = (0, false);
        self.bytes_max = core.config.turn_bytes_max;
        if has_run_out {
            let pool = &core.config.pool;
            let waiting: usize = SECTIONS.iter().map(|section| self.waiting(*section)).sum();
            let all = u64::from(pool.receive_count) * u64::from(pool.buffer_bytes);
            let part = (all / (u64::from(served) + waiting as u64).max(1)).max(u64::from(pool.buffer_bytes));
            self.bytes_max = self.bytes_max.min(part.min(u64::from(u32::MAX)) as u32);
        }
    }

    /// True if the next turn has streams to arm, without anything happening before.
    pub(super) fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// True if streams wait for a buffer to come back.
    pub(super) fn is_short_of_buffers(&self) -> bool {
        SECTIONS.iter().any(|section| self.waiting(*section) > 0)
    }

    /// Buffers that streams in a queue can be armed for.
    fn available(&mut self, core: &mut Core, section: Section) -> usize {
        let place = section as usize;
        // The kernel has buffers and says again and again that it has none: it has bound them to receives that wait. Only
        // another one helps.
        let is_new = core.pool.free(section) > 0 || core.pool.given(section) != self.given_when_denied[place];
        if !is_new && self.denials[place] >= DENIALS_MAX {
            return 0;
        }
        core.pool.available(section)
    }

    /// Returns how many buffers are left for others.
    fn serve_starved(&mut self, core: &mut Core, section: Section, mut available: usize) -> usize {
        let place = section as usize;
        while available > 0 {
            let Some(key) = self.starved[place].pop_front() else { break };
            let Some(index) = leave_queue(core, key, WaitQueue::Starved) else { continue };
            if let Role::Stream(stream) = &mut core.sockets[index].role {
                stream.receiving.is_rationed = true;
            }
            available -= usize::from(self.ask(core, index, Shots::One));
        }
        available
    }

    /// Arms rationed streams with at most half of the available buffers, and as far as `ration_bytes` suffices, but one at
    /// least.
    fn serve_rationed(&mut self, core: &mut Core, section: Section, available: usize, ration_bytes: &mut usize) {
        let place = section as usize;
        let pool = &core.config.pool;
        let bytes = if section == Section::Bulk { pool.bulk_bytes } else { pool.buffer_bytes } as usize;
        let mut rations = if available > 0 { (available / 2).min(*ration_bytes / bytes).max(1) } else { 0 };
        while rations > 0 {
            let Some(key) = self.rationed[place].pop_front() else { return };
            let Some(index) = leave_queue(core, key, WaitQueue::Rationed) else { continue };
            let is_rationed = core.sockets[index].receiving().is_rationed;
            let shots = if is_rationed { Shots::One } else { Shots::Many };
            if self.ask(core, index, shots) {
                rations -= 1;
                *ration_bytes = ration_bytes.saturating_sub(bytes);
            }
        }
    }

    /// True if the request is on its way.
    fn ask(&mut self, core: &mut Core, index: SocketIndex, shots: Shots) -> bool {
        let Some(operation) = to_be_armed(core, index) else { return false };
        let entry = &core.sockets[index];
        let section = entry.receiving().section;
        let is_crowded = section == Section::Bulk && self.bulk_streams > core.config.pool.bulk_count;
        let shots = if is_crowded { Shots::One } else { shots };
        let action = match &entry.role {
            Role::Datagram(datagram) => {
                let arrival = if datagram.is_coalescing { Arrival::Merged } else { Arrival::Single };
                Action::ReceiveDatagrams(section, arrival)
            }
            _ => Action::Receive(section, shots),
        };
        core.hand_over(operation, action);
        true
    }

    fn join_rationed(&mut self, core: &mut Core, index: SocketIndex) {
        if to_be_armed(core, index).is_some() {
            let receiving = core.sockets[index].receiving_mut();
            receiving.queue = WaitQueue::Rationed;
            let place = receiving.section as usize;
            enqueue(&mut self.rationed[place], &core.sockets, index);
        }
    }

    fn waiting(&self, section: Section) -> usize {
        self.starved[section as usize].len() + self.rationed[section as usize].len()
    }
}

/// The socket whose place in a queue this is, unless it has left the queue meanwhile.
fn leave_queue(core: &mut Core, key: Key, queue: WaitQueue) -> Option<SocketIndex> {
    let index = core.sockets.resolve(key)?;
    let receiving = core.sockets[index].find_receiving_mut().filter(|receiving| receiving.queue == queue)?;
    receiving.queue = WaitQueue::None;
    Some(index)
}

/// The stream, if nothing keeps it from being armed.
fn to_be_armed(core: &Core, index: SocketIndex) -> Option<OperationIndex> {
    let receiving = core.sockets[index].receiving();
    let waits = receiving.flow != Flow::Open || receiving.queue != WaitQueue::None;
    let stream = receiving.input.stream()?;
    (!waits && !core.operations[stream].is_armed).then_some(stream)
}

fn enqueue(queue: &mut VecDeque<Key>, sockets: &Table<SocketIndex, Entry>, index: SocketIndex) {
    if queue.len() > 2 * sockets.len() + STALE_PLACES_MAX {
        queue.retain(|key| sockets.resolve(*key).is_some());
    }
    queue.push_back(sockets.key(index));
}

#[cfg(test)]
mod tests;
