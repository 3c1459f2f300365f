//! Receives on streams: one slice per socket is posted, what arrives is copied out of it.

use super::Rio;
use super::calls::Side;
use super::line::{Asked, Context, ReceiveSide};
use crate::base::error::{Error, ErrorKind};
use crate::contract::{Event, EventResult, Shots};
use crate::memory::buffer::{Buffer, BufferPool, Section};

impl Rio {
    pub(super) fn ask(&mut self, index: u32, asked: Asked, pool: &mut BufferPool, events: &mut Vec<Event>) {
        self.lines[index].receive_side.asked = Some(asked);
        self.deliver(index, pool, events);
    }

    /// Gives the driver what has arrived, and posts the slice again if more is wanted.
    //= STARVE-1
    pub(super) fn deliver(&mut self, index: u32, pool: &mut BufferPool, events: &mut Vec<Event>) {
        while let Some(asked) = self.lines[index].receive_side.asked {
            let receive_side = &mut self.lines[index].receive_side;
            let result = if receive_side.start < receive_side.end {
                match self.hand_out(index, asked, pool) {
                    Ok(buffer) => buffer,
                    Err(error) => EventResult::Failed(error),
                }
            } else if let Some(last) = receive_side.last {
                // Nothing more will arrive.
                receive_side.slice.take().into_iter().for_each(|slice| self.receives.put(slice));
                end_of(asked, last)
            } else {
                if let Some(Err(error)) = (!receive_side.is_posted).then(|| self.post_receive(index)) {
                    self.post_failed(index, error, events);
                }
                return;
            };
            let goes_on = matches!(asked, Asked::Stream(_, Shots::Many));
            let more = goes_on && matches!(result, EventResult::Received(ref buffer) if !buffer.is_empty());
            if !more {
                self.lines[index].receive_side.asked = None;
            }
            events.push(Event { key: asked.key(), more, result });
        }
    }

    /// Copies what has arrived to where it is wanted, as much as fits.
    fn hand_out(&mut self, index: u32, asked: Asked, pool: &mut BufferPool) -> Result<EventResult, Error> {
        let receive_side = &mut self.lines[index].receive_side;
        let Some(slice) = receive_side.slice else { return Err(Error::new(ErrorKind::InvalidInput)) };
        let bytes = &self.receives.bytes(slice)[receive_side.start..receive_side.end];
        let (count, result) = match asked {
            Asked::Stream(..) => {
                let Some(mut buffer) = pool.lend_receive(Section::Receive) else {
                    self.counters.no_buffers.add(1);
                    return Err(Error::new(ErrorKind::NoBuffers));
                };
                let count = buffer.fill_from(bytes);
                (count, EventResult::Received(buffer))
            }
            Asked::Into(_, span) => {
                let count = span.with(|room| {
                    let count = room.len().min(bytes.len());
                    room[..count].copy_from_slice(&bytes[..count]);
                    count
                });
                (count, EventResult::ReceivedInto(count))
            }
        };
        receive_side.start += count;
        Ok(result)
    }

    fn post_receive(&mut self, index: u32) -> Result<(), Error> {
        let line = &mut self.lines[index];
        let slice = match line.receive_side.slice {
            Some(slice) => slice,
            None => *line.receive_side.slice.insert(self.receives.take()?),
        };
        self.receives.lend(slice);
        let data = self.receives.part(slice, 0, self.receives.slice_bytes());
        let queue = self.lines[index].queue;
        let context = Context::new(Side::Receive, 0, slice).bits();
        if let Err(error) = self.queues.post(queue, Side::Receive, data, None, context) {
            self.receives.taken_back(slice);
            return Err(error);
        }
        self.lines[index].receive_side.is_posted = true;
        self.mark_dirty(index, Side::Receive);
        Ok(())
    }

    /// The system had no memory for a request: later. Any other error is the end.
    fn post_failed(&mut self, index: u32, error: Error, events: &mut Vec<Event>) {
        if is_passing(error) {
            return self.again.push(self.lines.key(index));
        }
        let receive_side = &mut self.lines[index].receive_side;
        receive_side.last = Some(Err(error));
        if let Some(asked) = receive_side.asked.take() {
            events.push(Event::last(asked.key(), EventResult::Failed(error)));
        }
    }

    /// The slice that was posted is ours again.
    pub(super) fn received(&mut self, index: u32, slice: u32, result: Result<u32, Error>) {
        self.receives.taken_back(slice);
        let line = &mut self.lines[index];
        line.receive_side.is_posted = false;
        if line.socket.is_none() {
            line.receive_side.slice = None;
            return self.receives.put(slice);
        }
        match result {
            Ok(0) => line.receive_side.last = Some(Ok(())),
            Ok(count) => (line.receive_side.start, line.receive_side.end) = (0, count as usize),
            Err(error) => line.receive_side.last = Some(Err(error)),
        }
    }

    /// The socket goes: what has arrived and was not delivered goes with it.
    pub(super) fn give_up_receive_side(&mut self, index: u32) {
        let receive_side = &mut self.lines[index].receive_side;
        if receive_side.is_posted {
            return;
        }
        let ReceiveSide { slice, .. } = std::mem::take(receive_side);
        slice.into_iter().for_each(|slice| self.receives.put(slice));
    }
}

//= EOF-1
fn end_of(asked: Asked, last: Result<(), Error>) -> EventResult {
    match (asked, last) {
        (Asked::Stream(..), Ok(())) => EventResult::Received(Buffer::empty()),
        (Asked::Into(..), Ok(())) => EventResult::ReceivedInto(0),
        (_, Err(error)) => EventResult::Failed(error),
    }
}

/// True if the request can be posted later.
pub(super) fn is_passing(error: Error) -> bool {
    matches!(error.kind(), ErrorKind::OutOfMemory | ErrorKind::Busy)
}
