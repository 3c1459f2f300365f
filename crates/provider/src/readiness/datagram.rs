//! Datagrams over readiness: batches of one socket leave by one system call, and what finds no room is parked until the
//! socket is writable again.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{Readiness, Selector, Tried, event};
use crate::buffer::{Buffer, BufferPool, Section};
use crate::driver::datagram::is_about_the_past;
use crate::error::{Error, ErrorKind};
use crate::memory::{SpanList, SpanMut, Target};
use crate::provider::{Event, EventResult, RequestKey};
use crate::slots::NONE;

/// Datagrams per system call.
pub(crate) const BATCH_MAX: usize = 32;
const BATCH_MIN: usize = 4;

/// What came with one datagram.
#[derive(Clone, Copy)]
pub struct Label {
    /// Bytes in its buffer.
    pub(crate) length: usize,
    /// The sender.
    pub(crate) from: SocketAddr,
    /// It was longer than its buffer.
    pub(crate) is_truncated: bool,
}

impl Label {
    pub(crate) const NONE: Label = Label { length: 0, from: UNSPECIFIED, is_truncated: false };
}

/// Where a datagram without a sender comes from.
pub(crate) const UNSPECIFIED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
/// Buffers lent for one system call; those that it leaves empty go back by themselves.
struct Batch {
    buffers: [Buffer; BATCH_MAX],
    spans: [SpanMut; BATCH_MAX],
    count: usize,
}

impl Batch {
    /// As many as are wanted and free; `None` if there are none.
    fn lend(pool: &mut BufferPool, section: Section, wanted: usize) -> Option<Self> {
        let buffers = std::array::from_fn(|_| Buffer::empty());
        let mut batch = Batch { buffers, spans: [SpanMut::none(); BATCH_MAX], count: 0 };
        while let Some(buffer) = if batch.count < wanted { pool.lend_receive(section) } else { None } {
            batch.buffers[batch.count] = buffer;
            batch.spans[batch.count] = SpanMut::of(&mut batch.buffers[batch.count]);
            batch.count += 1;
        }
        (batch.count > 0).then_some(batch)
    }

    fn spans(&self) -> &[SpanMut] {
        &self.spans[..self.count]
    }

    /// What the call has filled, as results.
    fn filled(self, labels: [Label; BATCH_MAX], came: usize) -> impl Iterator<Item = EventResult> {
        self.buffers.into_iter().zip(labels).take(came).map(|(mut buffer, label)| {
            buffer.set_len(label.length);
            if label.is_truncated {
                EventResult::Truncated(label.from)
            } else {
                EventResult::Datagram(buffer, label.from)
            }
        })
    }
}

/// Sends in a row of one socket, and those of all sockets that wait for room.
pub(super) struct Outbox {
    pub(super) socket: u32,
    pub(super) keys: Vec<RequestKey>,
    datagrams: Vec<(SpanList, Target)>,
    parked: Vec<(u32, RequestKey, SpanList, Target)>,
    spare: Vec<(u32, RequestKey, SpanList, Target)>,
}

impl Default for Outbox {
    fn default() -> Self {
        let (keys, datagrams) = (Vec::with_capacity(BATCH_MAX), Vec::with_capacity(BATCH_MAX));
        Outbox { socket: NONE, keys, datagrams, parked: Vec::new(), spare: Vec::new() }
    }
}

impl Outbox {
    pub(super) fn put(&mut self, socket: u32, key: RequestKey, list: SpanList, target: Target) {
        self.socket = socket;
        self.keys.push(key);
        self.datagrams.push((list, target));
    }

    pub(super) fn unpark(&mut self, key: RequestKey) -> bool {
        let place = self.parked.iter().position(|(_, parked, ..)| *parked == key);
        place.map(|place| self.parked.remove(place)).is_some()
    }
}

impl<S: Selector> Readiness<S> {
    /// Sends what is in the outbox. A datagram that fails is no reason to keep the next one.
    pub(super) fn send_outbox(&mut self, events: &mut Vec<Event>) {
        let socket = self.outbox.socket;
        let mut done = 0;
        while done < self.outbox.keys.len() {
            let state = &mut self.sockets[socket as usize];
            let tried = if state.writable && state.parked == 0 {
                self.counters.kernel_entries += 1;
                S::send_datagrams(state.handle, &self.outbox.datagrams[done..])
            } else {
                Tried::Later
            };
            match tried {
                Tried::Done(count) => {
                    for at in done..done + count {
                        let sent = EventResult::Sent(self.outbox.datagrams[at].0.bytes);
                        events.push(event(self.outbox.keys[at], false, sent));
                    }
                    done += count;
                }
                Tried::Failed(error) => {
                    events.push(event(self.outbox.keys[done], false, EventResult::Failed(error)));
                    done += 1;
                }
                Tried::Later => {
                    state.writable = false;
                    for at in done..self.outbox.keys.len() {
                        let (list, target) = self.outbox.datagrams[at];
                        self.outbox.parked.push((socket, self.outbox.keys[at], list, target));
                        state.parked += 1;
                    }
                    break;
                }
            }
        }
        self.outbox.keys.clear();
        self.outbox.datagrams.clear();
    }

    /// The socket has room again: its parked datagrams, in order, in batches.
    pub(super) fn retry_parked(&mut self, socket: u32, events: &mut Vec<Event>) {
        let mut parked = std::mem::take(&mut self.outbox.parked);
        std::mem::swap(&mut self.outbox.parked, &mut self.outbox.spare);
        self.sockets[socket as usize].parked = 0;
        for one in parked.drain(..) {
            let (owner, key, list, target) = one;
            if owner != socket {
                self.outbox.parked.push(one);
                continue;
            }
            if self.outbox.keys.len() == BATCH_MAX {
                self.send_outbox(events);
            }
            self.outbox.put(socket, key, list, target);
        }
        self.outbox.spare = parked;
        self.send_outbox(events);
    }

    /// Receives until the socket is drained or has had its share of this turn.
    pub(super) fn try_datagrams(
        &mut self,
        socket: u32,
        key: RequestKey,
        section: Section,
        pool: &mut BufferPool,
        events: &mut Vec<Event>,
    ) {
        // A socket with one datagram should not pay for a batch, one with a thousand should not pay per datagram.
        let mut wanted = BATCH_MIN;
        let mut share = self.turn_bytes_max;
        while share > 0 {
            let state = &mut self.sockets[socket as usize];
            let Some(batch) = Batch::lend(pool, section, wanted) else {
                self.counters.no_buffers += 1;
                state.input = None;
                let none = Error::new(ErrorKind::NoBuffers);
                return events.push(event(key, false, EventResult::Failed(none)));
            };
            self.counters.kernel_entries += 1;
            let mut labels = [Label::NONE; BATCH_MAX];
            match S::receive_datagrams(state.handle, batch.spans(), &mut labels) {
                Tried::Done(came) => {
                    wanted = if came == wanted { BATCH_MAX.min(wanted * 2) } else { 1 };
                    let bytes: usize = labels[..came].iter().map(|label| label.length.max(1)).sum();
                    share = share.saturating_sub(bytes);
                    self.turn_bytes += bytes;
                    events.extend(batch.filled(labels, came).map(|result| event(key, true, result)));
                }
                Tried::Later => {
                    state.readable = false;
                    return;
                }
                Tried::Failed(error) if is_about_the_past(error) => {
                    share = share.saturating_sub(1);
                    events.push(event(key, true, EventResult::Failed(error)));
                }
                Tried::Failed(error) => {
                    state.input = None;
                    return events.push(event(key, false, EventResult::Failed(error)));
                }
            }
        }
    }
}
