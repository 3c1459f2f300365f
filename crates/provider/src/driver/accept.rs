//! Accept streams: connections until cancelled, with a back-off when descriptors or memory run out.

use std::time::Duration;

use crate::base::error::{Error, ErrorKind};
use crate::base::id::OperationId;
use crate::base::index::{OperationIndex, SocketIndex};
use crate::base::time;
use crate::base::timer::Due;
use crate::contract::Action;
use crate::driver::completion::Outcome;
use crate::driver::core::{After, Core};
use crate::driver::queued::{Body, Queued};
use crate::driver::socket::{Attempt, Listener, Role, Trouble};
use crate::socket::{AcceptedSocket, AnySocket};

/// First and longest pause of an accept stream that fails, in milliseconds; it doubles from one to the other.
const PAUSE_MS_MIN: u16 = 10;
const PAUSE_MS_MAX: u16 = 1000;
/// Connections that are taken out of a listener at once, at most: the largest backlog that Linux gives by default
/// (net.core.somaxconn).
const WAITING_MAX: u32 = 4096;

/// The accept streams of all listeners.
pub(super) struct Accepts {
    /// Given up for a moment when descriptors run out, so that a waiting connection can be taken and closed.
    reserve: Option<AnySocket>,
}

impl Accepts {
    pub(super) fn new(reserve: Option<AnySocket>) -> Self {
        Accepts { reserve }
    }

    pub(super) fn on_accept_failed(&mut self, core: &mut Core, operation: OperationIndex, error: Error) -> After {
        core.taken_back(operation);
        let index = core.operations[operation].socket();
        match error.kind() {
            ErrorKind::Cancelled => accept_disarmed(core, index, operation),
            ErrorKind::InvalidInput => end_accept(core, index, operation, error),
            // The connection ended while it waited to be accepted, or the network under it failed (accept(2)): next one.
            ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::TimedOut
                if listener(core, index).trouble == Trouble::None =>
            {
                listener(core, index).trouble = Trouble::Skipped;
                accept_disarmed(core, index, operation)
            }
            _ if core.operations[operation].is_cancelled => end_cancelled_accept(core, index, operation),
            _ => {
                self.back_off(core, index, operation, error);
                After::Nothing
            }
        }
    }

    /// The pause of an accept stream is over.
    pub(super) fn accept_again(&mut self, core: &mut Core, index: SocketIndex) {
        if self.reserve.is_none() {
            self.reserve = core.profile.network.reserve();
        }
        if let Attempt::Pausing(operation, _) = listener(core, index).accepting {
            ask_for_connections(core, index, operation);
        }
    }

    fn back_off(&mut self, core: &mut Core, index: SocketIndex, operation: OperationIndex, error: Error) {
        core.counters.totals.accept_pauses += 1;
        let last_ms = match listener(core, index).trouble {
            Trouble::Paused { ms } => ms,
            Trouble::None | Trouble::Skipped => {
                core.report(operation, Outcome::AcceptPaused(error));
                0
            }
        };
        if matches!(error.kind(), ErrorKind::DescriptorLimit | ErrorKind::SystemDescriptorLimit) {
            self.accept_and_close(core, index);
        }
        let ms = (last_ms * 2).clamp(PAUSE_MS_MIN, PAUSE_MS_MAX);
        let due_ns = time::after(core.now_ns, Duration::from_millis(u64::from(ms)));
        let timer = core.timers.insert(due_ns, Due::Accept(index));
        *listener(core, index) =
            Listener { accepting: Attempt::Pausing(operation, timer), trouble: Trouble::Paused { ms } };
    }

    /// Gives the reserve descriptor up to take the waiting connections, one after the other, and close them: their peers
    /// learn at once that there is no place, instead of hanging in the backlog.
    fn accept_and_close(&mut self, core: &mut Core, index: SocketIndex) {
        if self.reserve.take().is_none() {
            return;
        }
        for _ in 0..WAITING_MAX {
            if core.sockets[index].endpoint.accept_waiting().is_none() {
                break;
            }
            core.counters.totals.shed += 1;
        }
        self.reserve = core.profile.network.reserve();
    }
}

/// Starts an accept stream, after `check_operations`. Errors: `InvalidInput` (no listener), `ReceiveActive`.
pub(super) fn start_accept(core: &mut Core, index: SocketIndex, token: u64) -> Result<OperationId, Error> {
    let Role::Listener(Listener { accepting, .. }) = &core.sockets[index].role else {
        return Err(Error::new(ErrorKind::InvalidInput));
    };
    if accepting.operation().is_some() {
        return Err(Error::new(ErrorKind::ReceiveActive));
    }
    let operation = core.insert(Queued::new(token, Some(index), Body::Accept));
    ask_for_connections(core, index, operation);
    Ok(core.id_of(operation))
}

pub(super) fn on_accepted(core: &mut Core, operation: OperationIndex, socket: AcceptedSocket, more: bool) -> After {
    let index = core.operations[operation].socket();
    core.counters.totals.accepted += 1;
    listener(core, index).trouble = Trouble::None;
    core.report(operation, Outcome::Accepted(socket));
    if more {
        return After::Nothing;
    }
    core.taken_back(operation);
    accept_disarmed(core, index, operation)
}

pub(super) fn cancel_accept(core: &mut Core, operation: OperationIndex) -> After {
    let index = core.operations[operation].socket();
    if let Attempt::Pausing(_, timer) = listener(core, index).accepting {
        core.timers.remove(timer);
        return end_cancelled_accept(core, index, operation);
    }
    core.cancel_in_kernel(operation);
    After::Nothing
}

/// The kernel has ended the request though the stream has not ended: ends it if the caller wants that, else goes on.
fn accept_disarmed(core: &mut Core, index: SocketIndex, operation: OperationIndex) -> After {
    if core.operations[operation].is_cancelled {
        return end_cancelled_accept(core, index, operation);
    }
    ask_for_connections(core, index, operation);
    After::Nothing
}

fn ask_for_connections(core: &mut Core, index: SocketIndex, operation: OperationIndex) {
    listener(core, index).accepting = Attempt::InKernel(operation);
    core.hand_over(operation, Action::Accept);
}

fn end_cancelled_accept(core: &mut Core, index: SocketIndex, operation: OperationIndex) -> After {
    accept_left_over(core, index, operation);
    end_accept(core, index, operation, Error::new(ErrorKind::Cancelled))
}

/// Takes what this stream was told of and could not take before it was cancelled: nobody else who accepts on the
/// listener, such as the process that takes it over, would hear of it until the next connection comes.
//= CANCEL-1
fn accept_left_over(core: &mut Core, index: SocketIndex, operation: OperationIndex) {
    if core.sockets[index].is_closing() || !core.profile.is_told_alone {
        return;
    }
    for _ in 0..WAITING_MAX {
        let waiting = core.sockets[index].endpoint.accept_waiting();
        let Some(endpoint) = waiting else { return };
        core.counters.totals.accepted += 1;
        let socket = AcceptedSocket { socket: endpoint, nonblocking: None, is_fresh: true };
        core.report(operation, Outcome::Accepted(socket));
    }
}

fn end_accept(core: &mut Core, index: SocketIndex, operation: OperationIndex, error: Error) -> After {
    listener(core, index).accepting = Attempt::None;
    core.fail(operation, error);
    After::Ended(index)
}

fn listener(core: &mut Core, index: SocketIndex) -> &mut Listener {
    let Role::Listener(listener) = &mut core.sockets[index].role else { unreachable!("only listeners accept") };
    listener
}
