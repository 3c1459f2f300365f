//! The end of a socket.
//!
//! A graceful close: 1. the id is stale, the caller's receives end; 2. queued sends finish; 3. the write side is shut;
//! 4. input is discarded, from 1 on, until the peer's end; 5. `Closed`, detach, close the handle. Its deadline, and every abort, cancel
//! what is left at 2 to 4 and set linger 0, so that the peer sees a reset.

use std::time::Duration;

use crate::base::id::OperationId;
use crate::base::index::SocketIndex;
use crate::base::time;
use crate::base::timer::Due;
use crate::driver::accept::cancel_accept;
use crate::driver::completion::{Completion, Outcome};
use crate::driver::connect::cancel_connect;
use crate::driver::core::Core;
use crate::driver::datagram::cancel_datagrams;
use crate::driver::operation::CloseMode;
use crate::driver::parts::Parts;
use crate::driver::send::abort_sends;
use crate::driver::socket::{Closing, Connecting, Listener, Role, WriteSide};

/// Turns that a graceful close waits after its deadline for the peer's end to come out of what had arrived. A thousand
/// flooding sockets leave a quiet one waiting for no more (STARVE-1).
const PUT_OFF_TURNS_MAX: u8 = 128;

impl Parts {
    /// Begins the end of an open socket.
    pub(super) fn begin_close(&mut self, core: &mut Core, index: SocketIndex, mode: CloseMode, token: u64) {
        match (mode, &core.sockets[index].role) {
            //= CLOSE-2
            (CloseMode::Graceful { deadline }, Role::Stream(_) | Role::Datagram(_)) => {
                self.close_gracefully(core, index, deadline, token);
            }
            _ => self.abort(core, index, token),
        }
    }

    /// Cancels everything of a socket, also of one that is closing gracefully.
    pub(super) fn abort(&mut self, core: &mut Core, index: SocketIndex, token: u64) {
        if let Closing::Graceful { deadline, .. } = core.sockets[index].closing {
            core.timers.remove(deadline);
        }
        self.abort_in_time(core, index, token);
    }

    //= TIME-2
    pub(super) fn close_deadline_passed(&mut self, core: &mut Core, index: SocketIndex) {
        let entry = &mut core.sockets[index];
        let has_ended = entry.receiving().has_ended;
        let Closing::Graceful { token, deadline, put_off } = &mut entry.closing else {
            unreachable!("only a graceful close has a deadline")
        };
        if *put_off < PUT_OFF_TURNS_MAX && !has_ended && entry.endpoint.has_input() {
            *put_off += 1;
            *deadline = core.timers.insert(core.now_ns.saturating_add(1), Due::Close(index));
            return;
        }
        let token = *token;
        self.abort_in_time(core, index, token);
    }

    /// The next step of a close, whenever something of it has ended.
    pub(super) fn go_on_closing(&mut self, core: &mut Core, index: SocketIndex) {
        let entry = &core.sockets[index];
        let stream = match &entry.role {
            Role::Stream(stream) if !entry.is_aborting() => stream,
            _ => {
                if entry.is_quiet() {
                    self.finish_close(core, index);
                }
                return;
            }
        };
        // From the start, not only after the last send: a peer that waits for us to read may not read either.
        if stream.receiving.input.head().is_none() && !stream.receiving.has_ended {
            self.receives.discard_input(core, index);
        }
        let entry = &mut core.sockets[index];
        let sending = entry.sending_mut();
        if sending.head.is_some() {
            return;
        }
        if sending.write != WriteSide::FinSent {
            sending.write = WriteSide::FinSent;
            // An error means that the connection is gone already: the receive side will say so.
            let _ = entry.endpoint.shut_write();
        }
        if entry.receiving().has_ended && entry.is_quiet() {
            self.finish_close(core, index);
        }
    }

    /// The socket leaves the back end, its handle is closed, its slot may be used again.
    pub(super) fn release(&mut self, core: &mut Core, index: SocketIndex) {
        let entry = &core.sockets[index];
        debug_assert!(entry.is_quiet() && entry.find_receiving().is_none_or(|receiving| receiving.held.is_none()));
        core.detach(index);
        self.backlogs.forget_owed(core, index);
        self.receives.forget_stream(core, index);
        core.sockets.remove(index);
    }

    fn close_gracefully(&mut self, core: &mut Core, index: SocketIndex, deadline: Duration, token: u64) {
        let deadline_ns = time::after(core.profile.clock.now_ns(), deadline);
        let deadline = core.timers.insert(deadline_ns, Due::Close(index));
        let entry = &mut core.sockets[index];
        entry.closing = Closing::Graceful { token, deadline, put_off: 0 };
        if entry.is_datagram() {
            // Datagrams that are under way go out; nothing is received any more.
            self.receives.abort_receives(core, index);
        } else {
            self.receives.close_receives(core, index);
        }
        self.go_on_closing(core, index);
    }

    /// Aborts a socket whose deadline, if it had one, is over. What follows from each end is done once, at its end.
    fn abort_in_time(&mut self, core: &mut Core, index: SocketIndex, token: u64) {
        let entry = &mut core.sockets[index];
        entry.closing = Closing::Aborting { token };
        match entry.role {
            Role::Listener(Listener { accepting, .. }) => {
                let _ = accepting.operation().map(|operation| cancel_accept(core, operation));
            }
            Role::Connecting(Connecting { attempt, .. }) => {
                let _ = attempt.operation().map(|operation| cancel_connect(core, operation));
            }
            Role::Stream(_) => {
                abort_sends(core, index);
                self.receives.abort_receives(core, index);
            }
            Role::Datagram(_) => {
                cancel_datagrams(core, index);
                self.receives.abort_receives(core, index);
            }
        }
        self.go_on_closing(core, index);
    }

    fn finish_close(&mut self, core: &mut Core, index: SocketIndex) {
        self.receives.discard_held(core, index);
        let socket = core.socket_id(index);
        let entry = &mut core.sockets[index];
        let token = match entry.closing {
            Closing::No => unreachable!("it is closing"),
            Closing::Graceful { token, deadline, .. } => {
                core.timers.remove(deadline);
                token
            }
            Closing::Aborting { token } => {
                if matches!(entry.role, Role::Stream(_) | Role::Connecting(_)) {
                    entry.endpoint.reset_on_close();
                }
                token
            }
        };
        let operation = OperationId::NONE;
        core.push(Completion { token, operation, socket, more: false, outcome: Outcome::Closed });
        self.release(core, index);
    }
}
