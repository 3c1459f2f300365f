//! Datagrams to send over readiness: batches of one socket leave by one system call, and what finds no room is parked until the
//! socket is writable again.

use super::{Readiness, Selector};
use crate::base::attempt::Attempt;
use crate::base::slots::NONE;
use crate::contract::input::BATCH_MAX;
use crate::contract::merge::{self, Merging, RUN_MAX, RUN_SPANS_MAX, Segment};
use crate::contract::{CompletionMode, Event, EventResult, RequestKey};
use crate::memory::{Span, SpanList, Target};

/// Datagrams per outbox: some full messages.
pub(super) const OUTBOX_MAX: usize = 4 * RUN_MAX;

/// What one entry of a batch to send says.
#[derive(Clone, Copy)]
pub(crate) struct Message {
    /// Datagrams in it.
    pub(crate) count: usize,
    /// Length of each, except that the last may be shorter.
    pub(crate) segment_bytes: usize,
    /// How many of the spans are its own.
    pub(crate) spans: usize,
    pub(crate) target: Target,
}

/// A datagram to send.
#[derive(Clone, Copy)]
struct Posted {
    key: RequestKey,
    list: SpanList,
    target: Target,
}

impl Posted {
    fn segment(&self, socket: u32) -> Segment {
        let Posted { list, target, .. } = *self;
        // All are reported when they have gone.
        Segment { socket, bytes: list.bytes, spans: list.count, target, mode: CompletionMode::Always }
    }
}

/// Sends in a row of one socket, and those of all sockets that wait for room.
pub(super) struct Outbox {
    pub(super) socket: u32,
    posted: Vec<Posted>,
    /// The next messages, and their spans in a row: bounded by one system call.
    messages: Vec<Message>,
    spans: Vec<Span>,
    parked: Vec<(u32, Posted)>,
    spare: Vec<(u32, Posted)>,
}

impl Default for Outbox {
    fn default() -> Self {
        let (posted, messages) = (Vec::with_capacity(OUTBOX_MAX), Vec::with_capacity(BATCH_MAX));
        let spans = Vec::with_capacity(OUTBOX_MAX);
        Outbox { socket: NONE, posted, messages, spans, parked: Vec::new(), spare: Vec::new() }
    }
}

impl Outbox {
    pub(super) fn put(&mut self, socket: u32, key: RequestKey, list: SpanList, target: Target) {
        self.socket = socket;
        self.posted.push(Posted { key, list, target });
    }

    pub(super) fn len(&self) -> usize {
        self.posted.len()
    }

    pub(super) fn unpark(&mut self, key: RequestKey) -> bool {
        let place = self.parked.iter().position(|(_, parked)| parked.key == key);
        place.map(|place| self.parked.remove(place)).is_some()
    }

    /// Makes messages of the datagrams from `first` on, for one system call; those before `alone_until` go alone.
    fn pack(&mut self, first: usize, alone_until: usize, merging: &mut Merging) {
        self.messages.clear();
        self.spans.clear();
        let mut rest = &self.posted[first..];
        while let ([head, ..], true) = (rest, self.messages.len() < BATCH_MAX && self.spans.len() < RUN_SPANS_MAX) {
            let is_alone = self.posted.len() - rest.len() < alone_until;
            let segments = rest.iter().map(|posted| Some(posted.segment(self.socket)));
            let count = if is_alone { 1 } else { merging.run(segments) };
            let (own, others) = rest.split_at(count);
            let before = self.spans.len();
            own.iter().for_each(|posted| posted.list.with(|spans| self.spans.extend_from_slice(spans)));
            let spans = self.spans.len() - before;
            self.messages.push(Message { count, segment_bytes: head.list.bytes, spans, target: head.target });
            rest = others;
        }
    }
}

impl<S: Selector> Readiness<S> {
    /// Sends what is in the outbox. A datagram that fails is no reason to keep the next one.
    pub(super) fn send_outbox(&mut self, events: &mut Vec<Event>) {
        let socket = self.outbox.socket;
        let mut done = 0;
        // The datagrams before this place go alone: they were refused together.
        let mut alone_until = 0;
        while done < self.outbox.len() {
            let state = &mut self.sockets.states[socket as usize];
            let tried = if state.writable && state.parked == 0 {
                self.counters.kernel_entries.add(1);
                self.outbox.pack(done, alone_until, &mut self.merging);
                S::send_messages(state.handle, &self.outbox.messages, &self.outbox.spans)
            } else {
                Attempt::Later
            };
            match tried {
                Attempt::Done(went) => done = self.posted_went(done, went, events),
                Attempt::Failed(error) => {
                    let (count, first) = (self.outbox.messages[0].count, self.outbox.posted[done]);
                    let is_merged = count > 1;
                    if is_merged && self.merging.refused(merge::refusal(error), first.key, &first.segment(socket)) {
                        alone_until = done + count;
                        continue;
                    }
                    self.merging.alone(first.key, false);
                    events.push(Event::last(first.key, EventResult::Failed(error)));
                    done += 1;
                }
                Attempt::Later => {
                    state.writable = false;
                    let parked = self.outbox.posted[done..].iter().map(|posted| (socket, *posted));
                    state.parked += parked.len() as u32;
                    self.outbox.parked.extend(parked);
                    break;
                }
            }
        }
        self.outbox.posted.clear();
    }

    /// So many messages have gone, each of them whole; says where the rest begins.
    fn posted_went(&mut self, first: usize, messages: usize, events: &mut Vec<Event>) -> usize {
        let mut next = first;
        for message in &self.outbox.messages[..messages] {
            match message.count {
                1 => self.merging.alone(self.outbox.posted[next].key, true),
                count => self.counters.merged_sent.add(count as u64),
            }
            let went = &self.outbox.posted[next..next + message.count];
            events.extend(went.iter().map(|posted| Event::last(posted.key, EventResult::Sent(posted.list.bytes))));
            next += message.count;
        }
        next
    }

    /// The socket has room again: its parked datagrams, in order, in batches.
    pub(super) fn retry_parked(&mut self, socket: u32, events: &mut Vec<Event>) {
        let mut parked = std::mem::take(&mut self.outbox.parked);
        std::mem::swap(&mut self.outbox.parked, &mut self.outbox.spare);
        self.sockets.states[socket as usize].parked = 0;
        for (owner, posted) in parked.drain(..) {
            if owner != socket {
                self.outbox.parked.push((owner, posted));
                continue;
            }
            if self.outbox.len() == OUTBOX_MAX {
                self.send_outbox(events);
            }
            self.outbox.put(socket, posted.key, posted.list, posted.target);
        }
        self.outbox.spare = parked;
        self.send_outbox(events);
    }
}
