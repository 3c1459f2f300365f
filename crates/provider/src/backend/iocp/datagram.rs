//! Streams of datagrams. A receive of no bytes would cut the datagram off that ends it, so here one receive waits with
//! memory of the socket's own, as long as a buffer of its section. What arrives in it is copied into a pool buffer, and
//! what has queued up behind it is received straight into pool buffers. So an idle socket holds no pool buffer, and sockets
//! that wait for datagrams take none away from those that have some.

use super::blocks::{Job, Started, Use};
use super::message::{self, Posted};
use super::{Arming, Io};
use crate::base::error::Error;
use crate::contract::input::Label;
use crate::contract::is_about_the_past;
use crate::contract::{Event, EventResult, RequestKey};
use crate::memory::SpanMut;
use crate::memory::buffer::Section;

/// Where datagrams of one socket arrive, one at a time.
pub(super) struct Stash {
    bytes: Box<[u8]>,
    /// One that has arrived and was not delivered yet.
    filled: Option<Label>,
}

impl Io {
    /// Lets the next datagram arrive in the socket's own memory, which holds none; true: one has. Errors: the system's.
    pub(super) fn post_datagram(
        &mut self,
        socket: u32,
        key: RequestKey,
        section: Section,
        events: &mut Vec<Event>,
    ) -> Result<bool, Error> {
        let state = &mut self.sockets[socket as usize];
        let (handle, skips) = (state.handle, state.facts.skips);
        let length = self.datagram_bytes[section as usize];
        let empty = || Box::new(Stash { bytes: Box::default(), filled: None });
        let stash = state.stash.get_or_insert_with(empty);
        if stash.bytes.len() != length {
            stash.bytes = vec![0; length].into();
        }
        let span = SpanMut::of(&mut stash.bytes);
        let user = Use { key, socket, handle, job: Job::Datagram };
        let id = self.blocks.take(user);
        self.counters.kernel_entries.add(1);
        match message::receive(&self.extensions, &self.blocks, id.index, handle, span, skips) {
            Posted::Ordinary(Started::Pending) => {
                state.arming = Arming::Armed;
                Ok(false)
            }
            Posted::Ordinary(Started::Done(bytes)) => self.datagram_arrived(id.index, user, Ok(bytes), events),
            Posted::Ordinary(Started::Failed(error)) => {
                self.blocks.settle(id.index, &self.port);
                self.stash_filled(user, Err(error), events)
            }
            Posted::Truncated(label) => {
                self.blocks.settle(id.index, &self.port);
                self.stash_filled(user, Ok(label), events)
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
    ) -> Result<bool, Error> {
        let received = message::received(&self.blocks, index, result);
        self.blocks.release(index);
        self.stash_filled(user, received, events)
    }

    fn stash_filled(
        &mut self,
        user: Use,
        received: Result<Label, Error>,
        events: &mut Vec<Event>,
    ) -> Result<bool, Error> {
        match (received, &mut self.sockets[user.socket as usize].stash) {
            (Ok(label), Some(stash)) => stash.filled = Some(label),
            (Ok(_), None) => {}
            (Err(error), _) if is_about_the_past(error) => {
                events.push(Event::more(user.key, EventResult::Failed(error)));
            }
            (Err(error), _) => return Err(error),
        }
        Ok(true)
    }

    /// Copies a datagram that has arrived in the socket's own memory.
    pub(super) fn take_stashed(&mut self, socket: u32, room: SpanMut) -> Option<Label> {
        let stash = self.sockets[socket as usize].stash.as_mut()?;
        let label = stash.filled.take()?;
        let length = label.length.min(room.length);
        room.with(|room| room[..length].copy_from_slice(&stash.bytes[..length]));
        // A socket keeps its section: only then is one buffer as long as another.
        let is_truncated = label.is_truncated || length < label.length;
        Some(Label { length, is_truncated, ..label })
    }
}
