//! Completions of streams that are paused, kept back in order: one ring per socket, all in one table. Bounded by the pool (a
//! completion with bytes holds a buffer, or one of the few parts of a buffer) and one end per socket.

use crate::base::error::{Error, ErrorKind};
use crate::base::index::{Index, SocketIndex};
use crate::driver::completion::{Completion, Outcome};
use crate::driver::core::Core;
use crate::driver::socket::{HeldIndex, Receiving};

/// The table of all that is held.
#[derive(Default)]
pub(super) struct HeldCompletions {
    nodes: Vec<Node>,
    free: Vec<HeldIndex>,
}

/// One completion, and the place of the one behind it: behind the last is the first.
struct Node {
    completion: Option<Completion>,
    next: HeldIndex,
}

impl HeldCompletions {
    pub(super) fn hold(&mut self, core: &mut Core, index: SocketIndex, completion: Completion) {
        core.count(&completion);
        self.push(core.sockets[index].receiving_mut(), completion);
    }

    /// What has come for the socket's stream and was not polled yet: held from now on.
    pub(super) fn hold_undelivered(&mut self, core: &mut Core, index: SocketIndex) {
        // Bytes and the end of one stream: they carry its id.
        let stream = core.sockets[index].receiving().input.last_stream();
        let Some(stream) = stream.filter(|stream| core.has_undelivered(*stream)) else { return };
        let id = core.stream_id(stream);
        for _ in 0..core.ready.len() {
            match core.ready.pop_front() {
                Some(completion) if completion.operation == id => {
                    self.push(core.sockets[index].receiving_mut(), completion);
                }
                Some(other) => core.ready.push_back(other),
                None => {}
            }
        }
    }

    /// What is held is delivered by the next poll.
    pub(super) fn release_held(&mut self, core: &mut Core, index: SocketIndex) {
        while let Some(completion) = self.pop(core.sockets[index].receiving_mut()) {
            core.ready.push_back(completion);
        }
    }

    /// The socket closes: its bytes are discarded, the end of its stream is told all the same. An orderly end would say
    /// that all bytes have been delivered: without them it is a cancelled stream.
    //= EOF-1
    pub(super) fn discard_held(&mut self, core: &mut Core, index: SocketIndex) {
        let Some(receiving) = core.sockets[index].find_receiving_mut() else { return };
        let mut has_discarded = false;
        while let Some(mut completion) = self.pop(receiving) {
            if completion.more {
                has_discarded = true;
                continue;
            }
            if has_discarded && matches!(completion.outcome, Outcome::Received(_)) {
                let error = Error::new(ErrorKind::Cancelled);
                completion.outcome = Outcome::Failed { error, payload: None, transferred: 0 };
            }
            core.ready.push_back(completion);
        }
    }

    fn push(&mut self, receiving: &mut Receiving, completion: Completion) {
        let place = self.free.pop().unwrap_or(HeldIndex::of(self.nodes.len() as u32));
        let next = match receiving.held.replace(place) {
            Some(last) => std::mem::replace(&mut self.nodes[last.number() as usize].next, place),
            None => place,
        };
        let node = Node { completion: Some(completion), next };
        match self.nodes.get_mut(place.number() as usize) {
            Some(used) => *used = node,
            None => self.nodes.push(node),
        }
    }

    fn pop(&mut self, receiving: &mut Receiving) -> Option<Completion> {
        let last = receiving.held?;
        let first = self.nodes[last.number() as usize].next;
        let Node { completion, next } = &mut self.nodes[first.number() as usize];
        let (completion, next) = (completion.take(), *next);
        self.free.push(first);
        if first == last {
            receiving.held = None;
        } else {
            self.nodes[last.number() as usize].next = next;
        }
        completion
    }
}
