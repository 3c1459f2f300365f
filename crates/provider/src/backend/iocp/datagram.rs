//! Streams of datagrams. A receive of no bytes would cut the datagram off that ends it, so here one receive waits with
//! memory of the socket's own, as long as a buffer of its section. What arrives in it is copied into a pool buffer, and
//! what has queued up behind it is received straight into pool buffers. So an idle socket holds no pool buffer, and sockets
//! that wait for datagrams take none away from those that have some.

use super::blocks::{Job, Started, Use};
use super::message::{self, Label, Posted};
use super::{Awaited, Iocp};
use crate::base::attempt::Attempt;
use crate::base::error::{Error, ErrorKind};
use crate::contract::is_about_the_past;
use crate::contract::{Event, EventResult, RequestKey};
use crate::memory::SpanMut;
use crate::memory::buffer::{Buffer, BufferPool, Section};

/// Where datagrams of one socket arrive, one at a time.
pub(super) struct Stash {
    bytes: Box<[u8]>,
    /// One that has arrived and was not delivered yet.
    filled: Option<Label>,
}

impl Iocp {
    /// Lets the next datagram arrive in the socket's own memory, which holds none.
    fn post_datagram(&mut self, socket: u32, length: usize, events: &mut Vec<Event>) {
        let state = &mut self.sockets[socket as usize];
        let Some(awaited) = &mut state.awaited else { return };
        awaited.is_armed = true;
        let (handle, skips) = (state.handle, state.facts.skips);
        let empty = || Box::new(Stash { bytes: Box::default(), filled: None });
        let stash = state.stash.get_or_insert_with(empty);
        if stash.bytes.len() != length {
            stash.bytes = vec![0; length].into();
        }
        let span = SpanMut::of(&mut stash.bytes);
        let user = Use { key: awaited.key, socket, handle, job: Job::Datagram };
        let id = self.blocks.take(user);
        self.counters.kernel_entries.add(1);
        match message::receive(&self.extensions, &self.blocks, id.index, handle, span, skips) {
            Posted::Ordinary(Started::Pending) => {}
            Posted::Ordinary(Started::Done(bytes)) => self.datagram_arrived(id.index, user, Ok(bytes), events),
            Posted::Ordinary(Started::Failed(error)) => {
                self.blocks.settle(id.index, &self.port);
                self.stash_filled(socket, Err(error), events);
            }
            Posted::Truncated(label) => {
                self.blocks.settle(id.index, &self.port);
                self.stash_filled(socket, Ok(label), events);
            }
        }
    }

    /// The receive that waited has ended.
    pub(super) fn datagram_arrived(
        &mut self,
        index: u32,
        user: Use,
        result: Result<u32, Error>,
        events: &mut Vec<Event>,
    ) {
        let received = message::received(&self.blocks, index, result);
        self.blocks.release(index);
        self.stash_filled(user.socket, received, events);
    }

    fn stash_filled(&mut self, socket: u32, received: Result<Label, Error>, events: &mut Vec<Event>) {
        let state = &mut self.sockets[socket as usize];
        let Some(Awaited { key, is_cancelled, .. }) = state.awaited else { return };
        state.awaited.as_mut().into_iter().for_each(|awaited| awaited.is_armed = false);
        match (received, &mut state.stash) {
            (Ok(label), Some(stash)) => stash.filled = Some(label),
            (Ok(_), None) => {}
            (Err(error), _) if is_about_the_past(error) => {
                events.push(Event { key, more: true, result: EventResult::Failed(error) });
            }
            (Err(error), _) => return self.end_input(socket, EventResult::Failed(error), events),
        }
        if is_cancelled {
            // What has arrived is the first thing that the socket's next stream delivers.
            self.end_cancelled(socket, events);
        } else {
            self.enqueue(socket);
        }
    }

    /// Delivers what has arrived, then what has queued up, until there is no more or the socket has had its share.
    //= STARVE-1
    pub(super) fn try_datagrams(
        &mut self,
        socket: u32,
        key: RequestKey,
        section: Section,
        pool: &mut BufferPool,
        events: &mut Vec<Event>,
    ) {
        let handle = self.sockets[socket as usize].handle;
        let mut share = self.queue.share_bytes();
        while share > 0 {
            let Some(mut buffer) = pool.lend_receive(section) else {
                self.counters.no_buffers.add(1);
                return self.end_input(socket, EventResult::Failed(Error::new(ErrorKind::NoBuffers)), events);
            };
            let tried = match self.take_stashed(socket, &mut buffer) {
                Some(label) => Attempt::Done(label),
                None => {
                    self.counters.kernel_entries.add(1);
                    message::receive_now(&self.extensions, handle, SpanMut::of(&mut buffer))
                }
            };
            match tried {
                Attempt::Done(label) => {
                    share = share.saturating_sub(label.length.max(1));
                    self.queue.used(label.length.max(1));
                    events.push(Event { key, more: true, result: datagram(buffer, label) });
                }
                Attempt::Later => {
                    let length = buffer.len();
                    drop(buffer);
                    return self.post_datagram(socket, length, events);
                }
                Attempt::Failed(error) if is_about_the_past(error) => {
                    share = share.saturating_sub(1);
                    events.push(Event { key, more: true, result: EventResult::Failed(error) });
                }
                Attempt::Failed(error) => return self.end_input(socket, EventResult::Failed(error), events),
            }
        }
        self.enqueue_busy(socket);
    }

    fn take_stashed(&mut self, socket: u32, buffer: &mut Buffer) -> Option<Label> {
        let stash = self.sockets[socket as usize].stash.as_mut()?;
        let label = stash.filled.take()?;
        let length = label.length.min(buffer.len());
        buffer[..length].copy_from_slice(&stash.bytes[..length]);
        // A socket keeps its section: only then is one buffer as long as another.
        let is_truncated = label.is_truncated || length < label.length;
        Some(Label { length, is_truncated, ..label })
    }
}

fn datagram(mut buffer: Buffer, label: Label) -> EventResult {
    if label.is_truncated {
        return EventResult::Truncated(label.from);
    }
    buffer.set_len(label.length);
    EventResult::Datagram(buffer, label.from)
}
