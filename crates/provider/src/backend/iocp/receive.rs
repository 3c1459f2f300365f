//! Receive streams: a receive of no bytes tells when there is something, then it is read into pool buffers.

use super::Iocp;
use super::blocks::{Job, Started, Use};
use super::transfer;
use crate::base::attempt::Attempt;
use crate::base::error::{Error, ErrorKind};
use crate::contract::ready_queue::SHARE_BYTES_MIN;
use crate::contract::{Event, EventResult, RequestKey, Shots};
use crate::memory::SpanMut;
use crate::memory::buffer::{Buffer, BufferPool, Section};

impl Iocp {
    /// Waits until the socket has something; a socket that has is tried in this turn or the next.
    pub(super) fn arm(&mut self, socket: u32, events: &mut Vec<Event>) {
        let state = &mut self.sockets[socket as usize];
        let Some(awaited) = &mut state.awaited else { return };
        awaited.is_armed = true;
        let (handle, skips) = (state.handle, state.facts.skips);
        let id = self.blocks.take(Use { key: awaited.key, socket, handle, job: Job::Ready });
        self.counters.kernel_entries.add(1);
        match transfer::receive(handle, SpanMut::none(), self.blocks.overlapped(id.index), skips) {
            Started::Pending => {}
            Started::Done(_) => {
                self.blocks.release(id.index);
                self.became_ready(socket, Ok(0), events);
            }
            Started::Failed(error) => {
                self.blocks.settle(id.index, &self.port);
                self.became_ready(socket, Err(error), events);
            }
        }
    }

    /// There is something, or the peer's end, or an error instead.
    pub(super) fn became_ready(&mut self, socket: u32, result: Result<u32, Error>, events: &mut Vec<Event>) {
        let Some(awaited) = &mut self.sockets[socket as usize].awaited else { return };
        awaited.is_armed = false;
        match result {
            // Nothing was taken, so nothing is lost: what is there comes with the next stream.
            Ok(_) if awaited.is_cancelled => self.end_cancelled(socket, events),
            Ok(_) => self.enqueue(socket),
            Err(error) => self.end_input(socket, EventResult::Failed(error), events),
        }
    }

    /// Receives until the socket is drained or has had its share of this turn.
    //= STARVE-1
    pub(super) fn try_stream(
        &mut self,
        socket: u32,
        key: RequestKey,
        (section, shots): (Section, Shots),
        pool: &mut BufferPool,
        events: &mut Vec<Event>,
    ) {
        let handle = self.sockets[socket as usize].handle;
        let mut share = self.queue.share_bytes();
        let end = loop {
            if share == 0 {
                return self.enqueue_busy(socket);
            }
            let Some(mut buffer) = pool.lend_receive(section) else {
                self.counters.no_buffers.add(1);
                break EventResult::Failed(Error::new(ErrorKind::NoBuffers));
            };
            self.counters.kernel_entries.add(1);
            let room = buffer.len().min(share.max(SHARE_BYTES_MIN));
            let length = match transfer::receive_now(handle, SpanMut::of(&mut buffer[..room])) {
                Attempt::Done(0) => break EventResult::Received(Buffer::empty()),
                Attempt::Done(length) => length,
                Attempt::Later => return self.arm(socket, events),
                Attempt::Failed(error) => break EventResult::Failed(error),
            };
            let is_drained = length < room;
            buffer.set_len(length);
            share = share.saturating_sub(length);
            self.queue.used(length);
            if shots == Shots::One {
                break EventResult::Received(buffer);
            }
            events.push(Event { key, more: true, result: EventResult::Received(buffer) });
            if is_drained {
                // What has come meanwhile ends the wait at once.
                return self.arm(socket, events);
            }
        };
        self.end_input(socket, end, events);
    }
}
