//! Ends of requests: they are dequeued, and serve the request queues that they belong to.

use super::Rio;
use super::calls::{Side, status};
use super::line::Context;
use crate::base::error::Error;
use crate::base::slots::Key;
use crate::contract::{Event, EventResult};
use crate::memory::buffer::BufferPool;

impl Rio {
    /// Dequeues until there is no more, and goes on with all lines that something has happened to.
    pub(super) fn advance(&mut self, pool: &mut BufferPool, events: &mut Vec<Event>) {
        let was_sound = self.fatal.is_none();
        self.collect();
        let mut touched = std::mem::take(&mut self.touched);
        for key in touched.drain(..) {
            let Some(index) = self.lines.resolve(key) else { continue };
            self.lines[index].is_touched = false;
            if self.lines[index].socket.is_none() {
                continue;
            }
            if self.lines[index].datagrams.is_some() {
                self.datagrams_on(index, pool, events);
            } else {
                self.deliver(index, pool, events);
                self.send_on(index, events);
            }
        }
        self.touched = touched;
        if let (true, Some(error)) = (was_sound, self.fatal) {
            self.fail_all(error, events);
        }
    }

    /// Takes out of the completion queue all there is.
    pub(super) fn collect(&mut self) {
        let mut results = std::mem::take(&mut self.results);
        while self.fatal.is_none() {
            if let Err(error) = self.queues.dequeue(&mut results) {
                self.fatal = Some(error);
            }
            if results.is_empty() {
                break;
            }
            for result in results.drain(..) {
                let context = Context::from_bits(result.RequestContext);
                self.completed(Key::from_bits(result.SocketContext), context, status(&result));
            }
        }
        self.results = results;
    }

    fn completed(&mut self, key: Key, context: Context, result: Result<u32, Error>) {
        // A line stays until its last completion.
        let Some(index) = self.lines.resolve(key) else { return debug_assert!(false, "a completion of no line") };
        let Context { side, place } = context;
        match (side, self.lines[index].datagrams.is_some()) {
            (Side::Receive, false) => self.received(index, place.slice, result),
            (Side::Send, false) => self.sent(index, place.slice, result),
            (side, true) => self.datagram_moved(index, side, place, result),
        }
        let line = &mut self.lines[index];
        line.in_flight -= 1;
        if line.socket.is_none() {
            return self.retire(index);
        }
        if !std::mem::replace(&mut line.is_touched, true) {
            self.touched.push(key);
        }
    }

    /// The system had no memory for these.
    pub(super) fn try_again(&mut self) {
        for key in self.again.drain(..) {
            let Some(index) = self.lines.resolve(key) else { continue };
            if !std::mem::replace(&mut self.lines[index].is_touched, true) {
                self.touched.push(key);
            }
        }
    }

    /// The socket leaves, its line stays until all its completions are dequeued.
    //= CLOSE-1
    pub(super) fn abandon(&mut self, key: Key) {
        let Some(index) = self.lines.resolve(key) else { return };
        self.give_up_receive_side(index);
        self.give_up_datagrams(index);
        self.lines[index].socket = None;
        self.retire(index);
    }

    fn retire(&mut self, index: u32) {
        if self.lines[index].in_flight == 0 {
            self.queues.release(self.lines[index].quotas);
            // With this the line's generation moves on.
            self.lines.remove(index);
        }
    }

    /// The completion queue is lost: everything that is asked for ends with that.
    fn fail_all(&mut self, error: Error, events: &mut Vec<Event>) {
        let lines: Vec<u32> = self.lines.indices().collect();
        for index in lines {
            let line = &mut self.lines[index];
            let receive = line.receive_side.asked.take().map(|asked| asked.key());
            let send = line.send_side.asked.take().map(|sending| sending.key);
            let datagrams = line.datagrams.iter_mut().flat_map(|datagrams| datagrams.take_keys());
            let keys = receive.into_iter().chain(send).chain(datagrams);
            events.extend(keys.map(|key| Event::last(key, EventResult::Failed(error))));
        }
    }
}
