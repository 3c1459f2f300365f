//! Receives on streams: one slice per socket is posted, what arrives is copied out of it.

use super::Rio;
use super::calls::Side;
use super::line::{Asked, Context, Inlet};
use super::start::ended;
use crate::base::error::{Error, ErrorKind};
use crate::contract::{Event, EventResult, Shots};
use crate::memory::buffer::{Buffer, BufferPool, Section};

impl Rio {
    pub(super) fn ask(&mut self, index: u32, asked: Asked, pool: &mut BufferPool, events: &mut Vec<Event>) {
        self.lines[index].inlet.asked = Some(asked);
        self.deliver(index, pool, events);
    }

    /// Gives the driver what has arrived, and posts the slice again if more is wanted.
    //= STARVE-1
    pub(super) fn deliver(&mut self, index: u32, pool: &mut BufferPool, events: &mut Vec<Event>) {
        while let Some(asked) = self.lines[index].inlet.asked {
            let inlet = &mut self.lines[index].inlet;
            let result = if inlet.start < inlet.end {
                match self.hand_out(index, asked, pool) {
                    Ok(buffer) => buffer,
                    Err(error) => EventResult::Failed(error),
                }
            } else if let Some(last) = inlet.last {
                // Nothing more will arrive.
                inlet.slice.take().into_iter().for_each(|slice| self.receives.put(slice));
                end_of(asked, last)
            } else {
                if let Some(Err(error)) = (!inlet.is_posted).then(|| self.post_receive(index)) {
                    self.post_failed(index, error, events);
                }
                return;
            };
            let goes_on = matches!(asked, Asked::Stream(_, Shots::Many));
            let more = goes_on && matches!(result, EventResult::Received(ref buffer) if !buffer.is_empty());
            if !more {
                self.lines[index].inlet.asked = None;
            }
            events.push(Event { key: asked.key(), more, result });
        }
    }

    /// Copies what has arrived to where it is wanted, as much as fits.
    fn hand_out(&mut self, index: u32, asked: Asked, pool: &mut BufferPool) -> Result<EventResult, Error> {
        let inlet = &mut self.lines[index].inlet;
        let Some(slice) = inlet.slice else { return Err(Error::new(ErrorKind::InvalidInput)) };
        let bytes = &self.receives.bytes(slice)[inlet.start..inlet.end];
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
        inlet.start += count;
        Ok(result)
    }

    fn post_receive(&mut self, index: u32) -> Result<(), Error> {
        let line = &mut self.lines[index];
        let slice = match line.inlet.slice {
            Some(slice) => slice,
            None => *line.inlet.slice.insert(self.receives.take()?),
        };
        self.receives.lend(slice);
        let data = self.receives.part(slice, 0, self.receives.slice_bytes());
        let queue = self.lines[index].queue;
        let context = Context::new(Side::Receive, 0, slice).bits();
        if let Err(error) = self.queues.post(queue, Side::Receive, data, None, context) {
            self.receives.taken_back(slice);
            return Err(error);
        }
        self.lines[index].inlet.is_posted = true;
        self.mark_dirty(index, Side::Receive);
        Ok(())
    }

    /// The system had no memory for a request: later. Any other error is the end.
    fn post_failed(&mut self, index: u32, error: Error, events: &mut Vec<Event>) {
        if is_passing(error) {
            return self.again.push(self.lines.key(index));
        }
        let inlet = &mut self.lines[index].inlet;
        inlet.last = Some(Err(error));
        if let Some(asked) = inlet.asked.take() {
            events.push(ended(asked.key(), EventResult::Failed(error)));
        }
    }

    /// The slice that was posted is ours again.
    pub(super) fn received(&mut self, index: u32, slice: u32, result: Result<u32, Error>) {
        self.receives.taken_back(slice);
        let line = &mut self.lines[index];
        line.inlet.is_posted = false;
        if line.socket.is_none() {
            line.inlet.slice = None;
            return self.receives.put(slice);
        }
        match result {
            Ok(0) => line.inlet.last = Some(Ok(())),
            Ok(count) => (line.inlet.start, line.inlet.end) = (0, count as usize),
            Err(error) => line.inlet.last = Some(Err(error)),
        }
    }

    /// The socket goes: what has arrived and was not delivered goes with it.
    pub(super) fn give_up_inlet(&mut self, index: u32) {
        let inlet = &mut self.lines[index].inlet;
        if inlet.is_posted {
            return;
        }
        let Inlet { slice, .. } = std::mem::take(inlet);
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
