//! Bounds of what a socket has to send, and the `Writable` that is owed to who was refused.
//!
//! Streams and datagram sockets keep the same account. A socket that was refused though nothing of its own is queued wants a
//! slot in the table of operations: no end of its own will tell it, so it waits in a queue for any slot that becomes free.

use std::collections::VecDeque;

use crate::base::error::{ErrorKind, Refused};
use crate::base::id::{OperationId, SocketId};
use crate::base::index::SocketIndex;
use crate::driver::completion::{Completion, Outcome};
use crate::driver::core::Core;
use crate::driver::operation::Payload;
use crate::driver::socket::{Backlog, Owed};

/// A send as its caller gave it.
pub(super) struct Outgoing {
    pub(super) payload: Payload,
    pub(super) is_quiet: bool,
    pub(super) token: u64,
}

/// Queue of the sockets that wait for a slot in the table of operations.
#[derive(Default)]
pub(super) struct Backlogs {
    waiting_for_slot: VecDeque<SocketId>,
}

impl Backlogs {
    /// From now on a `Writable` with this token is owed, for the strictest of the reasons given so far.
    pub(super) fn owe_writable(&mut self, core: &mut Core, index: SocketIndex, owed: Owed, token: u64) {
        let id = core.socket_id(index);
        let Some(backlog) = core.sockets[index].backlog_mut() else { return };
        backlog.writable_token = token;
        if backlog.owed == Owed::Nothing && backlog.count == 0 {
            self.waiting_for_slot.push_back(id);
        }
        if backlog.owed != Owed::Emptiness {
            backlog.owed = owed;
        }
    }

    /// Tells sockets that wait for a slot in the table of operations, while slots are free.
    pub(super) fn tell_waiting(&mut self, core: &mut Core) {
        while !self.waiting_for_slot.is_empty() && core.check_operations().is_ok() {
            let id = self.waiting_for_slot.pop_front().unwrap_or(SocketId::NONE);
            if let Ok(index) = core.resolve(id) {
                tell_writable(core, index);
            }
        }
    }

    /// The socket is about to leave: it is owed nothing any more.
    pub(super) fn forget_owed(&mut self, core: &mut Core, index: SocketIndex) {
        let backlog = core.sockets[index].backlog_mut();
        if backlog.is_some_and(|backlog| backlog.owed != Owed::Nothing) {
            let id = core.socket_id(index);
            self.waiting_for_slot.retain(|waiting| *waiting != id);
        }
    }
}

/// True if one more send of so many bytes fits.
//= LIMIT-1
pub(super) fn has_room(core: &Core, backlog: &Backlog, length: u32) -> bool {
    // An empty queue takes one send of any size: otherwise a large message could never go.
    let fits = backlog.bytes.checked_add(length).is_some_and(|bytes| bytes <= core.config.send_queue_bytes_max);
    let has_bytes = fits || backlog.count == 0;
    has_bytes && backlog.count < core.config.send_queue_count_max && core.check_operations().is_ok()
}

/// A send that is not taken, whole.
pub(super) fn refused(core: &mut Core, kind: ErrorKind, payload: Payload) -> Refused<Payload> {
    core.counters.totals.refused += 1;
    Refused::new(kind, payload)
}

/// Tells a socket that is owed a `Writable`, if it is time.
pub(super) fn tell_writable(core: &mut Core, index: SocketIndex) {
    let (bytes_max, count_max) = (core.config.send_queue_bytes_max, core.config.send_queue_count_max);
    let entry = &mut core.sockets[index];
    let is_closing = entry.is_closing();
    let Some(backlog) = entry.backlog_mut() else { return };
    let is_time = match backlog.owed {
        Owed::Nothing => false,
        Owed::Room => backlog.bytes <= bytes_max / 2 && backlog.count <= count_max / 2,
        Owed::Emptiness => backlog.count == 0,
    };
    if is_closing || !is_time {
        return;
    }
    backlog.owed = Owed::Nothing;
    let token = backlog.writable_token;
    let socket = core.socket_id(index);
    let (operation, outcome) = (OperationId::NONE, Outcome::Writable);
    core.push(Completion { token, operation, socket, more: false, outcome });
}
