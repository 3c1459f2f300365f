//! Completions of paused streams, kept back in order: one linked list per socket in one table. Bounded by the pool (a
//! completion with bytes holds a buffer, or one of the few parts of a buffer) and one end per socket.

use super::Driver;
use crate::base::error::{Error, ErrorKind};
use crate::base::id::OperationId;
use crate::base::slots::NONE;
use crate::driver::completion::{Completion, Outcome};
use crate::driver::socket::Entry;

#[derive(Default)]
pub(super) struct Held {
    nodes: Vec<(Option<Completion>, u32)>,
    free: Vec<u32>,
}

impl Held {
    fn push(&mut self, entry: &mut Entry, completion: Completion) {
        let node = self.free.pop().unwrap_or_else(|| {
            self.nodes.push((None, NONE));
            self.nodes.len() as u32 - 1
        });
        self.nodes[node as usize] = (Some(completion), NONE);
        if entry.held_tail == NONE {
            entry.held_head = node;
        } else {
            self.nodes[entry.held_tail as usize].1 = node;
        }
        entry.held_tail = node;
    }

    fn pop(&mut self, entry: &mut Entry) -> Option<Completion> {
        let (completion, next) = self.nodes.get_mut(entry.held_head as usize).map(std::mem::take)?;
        self.free.push(entry.held_head);
        entry.held_head = if entry.held_head == entry.held_tail { NONE } else { next };
        if entry.held_head == NONE {
            entry.held_tail = NONE;
        }
        completion
    }
}

impl Driver {
    pub(super) fn hold(&mut self, index: u32, completion: Completion) {
        self.counters.totals.completions += 1;
        self.counters.totals.errors += u64::from(completion.outcome.error().is_some());
        self.held.push(&mut self.sockets[index], completion);
    }

    /// What has come for the socket's stream and was not polled yet: held from now on.
    pub(super) fn hold_undelivered(&mut self, index: u32) {
        // Bytes and the end of one stream: they carry its id.
        let stream = self.sockets[index].stream;
        if !self.has_undelivered(stream) {
            return;
        }
        for _ in 0..self.ready.len() {
            match self.ready.pop_front() {
                Some(completion) if completion.operation == stream => {
                    self.held.push(&mut self.sockets[index], completion);
                }
                Some(other) => self.ready.push_back(other),
                None => {}
            }
        }
    }

    pub(super) fn has_undelivered(&self, stream: OperationId) -> bool {
        stream != OperationId::NONE && self.ready.iter().any(|completion| completion.operation == stream)
    }

    /// What is held is delivered by the next poll.
    pub(super) fn release_held(&mut self, index: u32) {
        while let Some(completion) = self.held.pop(&mut self.sockets[index]) {
            self.ready.push_back(completion);
        }
    }

    /// The socket closes: its bytes are discarded, the end of its stream is told all the same. An orderly end would say
    /// that all bytes have been delivered: without them it is a cancelled stream.
    //= EOF-1
    pub(super) fn discard_held(&mut self, index: u32) {
        let mut has_discarded = false;
        while let Some(mut completion) = self.held.pop(&mut self.sockets[index]) {
            if completion.more {
                has_discarded = true;
                continue;
            }
            if has_discarded && matches!(completion.outcome, Outcome::Received(_)) {
                let error = Error::new(ErrorKind::Cancelled);
                completion.outcome = Outcome::Failed { error, payload: None, transferred: 0 };
            }
            self.ready.push_back(completion);
        }
    }
}
