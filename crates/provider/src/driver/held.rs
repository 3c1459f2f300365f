//! Completions of paused streams, kept back in order: one linked list per socket in one table. Bounded by the pool (a
//! completion with bytes holds a buffer, or one of the few parts of a buffer) and one end per socket.

use super::Driver;
use crate::base::error::{Error, ErrorKind};
use crate::base::id::OperationId;
use crate::base::index::{Index, SocketIndex};
use crate::driver::completion::{Completion, Outcome};
use crate::driver::socket::{Entry, HeldIndex};

#[derive(Default)]
pub(super) struct Held {
    nodes: Vec<(Option<Completion>, Option<HeldIndex>)>,
    free: Vec<HeldIndex>,
}

impl Held {
    fn push(&mut self, entry: &mut Entry, completion: Completion) {
        let node = self.free.pop().unwrap_or_else(|| {
            self.nodes.push((None, None));
            HeldIndex::of(self.nodes.len() as u32 - 1)
        });
        self.nodes[node.number() as usize] = (Some(completion), None);
        match entry.held_tail.replace(node) {
            None => entry.held_head = Some(node),
            Some(tail) => self.nodes[tail.number() as usize].1 = Some(node),
        }
    }

    fn pop(&mut self, entry: &mut Entry) -> Option<Completion> {
        let head = entry.held_head?;
        let (completion, next) = std::mem::take(&mut self.nodes[head.number() as usize]);
        self.free.push(head);
        entry.held_head = next;
        if next.is_none() {
            entry.held_tail = None;
        }
        completion
    }
}

impl Driver {
    pub(super) fn hold(&mut self, index: SocketIndex, completion: Completion) {
        self.core.counters.totals.completions += 1;
        self.core.counters.totals.errors += u64::from(completion.outcome.error().is_some());
        self.held.push(&mut self.core.sockets[index], completion);
    }

    /// What has come for the socket's stream and was not polled yet: held from now on.
    pub(super) fn hold_undelivered(&mut self, index: SocketIndex) {
        // Bytes and the end of one stream: they carry its id.
        let stream = self.core.sockets[index].stream;
        if !self.has_undelivered(stream) {
            return;
        }
        for _ in 0..self.core.ready.len() {
            match self.core.ready.pop_front() {
                Some(completion) if completion.operation == stream => {
                    self.held.push(&mut self.core.sockets[index], completion);
                }
                Some(other) => self.core.ready.push_back(other),
                None => {}
            }
        }
    }

    pub(super) fn has_undelivered(&self, stream: OperationId) -> bool {
        stream != OperationId::NONE && self.core.ready.iter().any(|completion| completion.operation == stream)
    }

    /// What is held is delivered by the next poll.
    pub(super) fn release_held(&mut self, index: SocketIndex) {
        while let Some(completion) = self.held.pop(&mut self.core.sockets[index]) {
            self.core.ready.push_back(completion);
        }
    }

    /// The socket closes: its bytes are discarded, the end of its stream is told all the same. An orderly end would say
    /// that all bytes have been delivered: without them it is a cancelled stream.
    //= EOF-1
    pub(super) fn discard_held(&mut self, index: SocketIndex) {
        let mut has_discarded = false;
        while let Some(mut completion) = self.held.pop(&mut self.core.sockets[index]) {
            if completion.more {
                has_discarded = true;
                continue;
            }
            if has_discarded && matches!(completion.outcome, Outcome::Received(_)) {
                let error = Error::new(ErrorKind::Cancelled);
                completion.outcome = Outcome::Failed { error, payload: None, transferred: 0 };
            }
            self.core.ready.push_back(completion);
        }
    }
}
