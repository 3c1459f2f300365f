//! Connects: one request each, asked for again as long as the listener has no room.

use std::time::Duration;

use socket2::SockAddr;

use crate::base::error::{Error, ErrorKind};
use crate::base::id::OperationId;
use crate::base::index::{OperationIndex, SocketIndex};
use crate::base::time;
use crate::base::timer::Due;
use crate::contract::Action;
use crate::contract::stats::LatencyKind;
use crate::driver::completion::Outcome;
use crate::driver::core::{After, Core};
use crate::driver::queued::{Body, Queued};
use crate::driver::socket::{Attempt, Connecting, Role, Stream};
use crate::memory::Span;

/// First and longest pause before a listener without room is asked again, in milliseconds; it doubles in between.
const PAUSE_MS_MIN: u16 = 1;
const PAUSE_MS_MAX: u16 = 64;

/// Starts the connect of a socket that was attached for it, to this address in the system's form.
pub(super) fn start_connect(core: &mut Core, index: SocketIndex, address: SockAddr, token: u64) -> OperationId {
    let operation = core.insert(Queued::new(token, Some(index), Body::Connect(Box::new(address))));
    hand_over_connect(core, index, operation);
    core.id_of(operation)
}

pub(super) fn on_connect_ended(core: &mut Core, operation: OperationIndex, result: Result<(), Error>) -> After {
    core.taken_back(operation);
    match result {
        Err(error) if error.kind() == ErrorKind::Busy && !core.operations[operation].is_cancelled => {
            connect_later(core, operation);
            After::Nothing
        }
        Err(error) if error.kind() == ErrorKind::Busy => {
            end_connect(core, operation, Err(Error::new(ErrorKind::Cancelled)))
        }
        result => end_connect(core, operation, result),
    }
}

/// The pause of a connect is over.
pub(super) fn connect_again(core: &mut Core, index: SocketIndex) {
    if let Attempt::Pausing(operation, _) = connecting(core, index).attempt {
        hand_over_connect(core, index, operation);
    }
}

pub(super) fn cancel_connect(core: &mut Core, operation: OperationIndex) -> After {
    let index = core.operations[operation].socket();
    if let Attempt::Pausing(_, timer) = connecting(core, index).attempt {
        core.timers.remove(timer);
        return end_connect(core, operation, Err(Error::new(ErrorKind::Cancelled)));
    }
    core.cancel_in_kernel(operation);
    After::Nothing
}

fn hand_over_connect(core: &mut Core, index: SocketIndex, operation: OperationIndex) {
    if let Body::Connect(address) = &core.operations[operation].body {
        let span = Span { pointer: address.as_ptr().cast(), length: address.len() as usize };
        connecting(core, index).attempt = Attempt::InKernel(operation);
        core.hand_over(operation, Action::Connect(span));
    }
}

/// Nothing tells when a Unix listener has room again, see connect(2) on EAGAIN.
fn connect_later(core: &mut Core, operation: OperationIndex) {
    let index = core.operations[operation].socket();
    let pause_ms = (connecting(core, index).pause_ms * 2).clamp(PAUSE_MS_MIN, PAUSE_MS_MAX);
    let due_ns = time::after(core.now_ns, Duration::from_millis(u64::from(pause_ms)));
    let timer = core.timers.insert(due_ns, Due::Connect(index));
    *connecting(core, index) = Connecting { attempt: Attempt::Pausing(operation, timer), pause_ms };
}

/// From here on in the mode of all others.
fn restore_mode(core: &Core, index: SocketIndex) -> Result<(), Error> {
    core.sockets[index].endpoint.set_nonblocking(core.profile.is_nonblocking)
}

fn end_connect(core: &mut Core, operation: OperationIndex, result: Result<(), Error>) -> After {
    let index = core.operations[operation].socket();
    connecting(core, index).attempt = Attempt::None;
    let is_unix = matches!(&core.operations[operation].body, Body::Connect(address) if address.is_unix());
    let result = if is_unix { result.and_then(|()| restore_mode(core, index)) } else { result };
    match result {
        Ok(()) => {
            core.sockets[index].role = Role::Stream(Stream::default());
            let waited_ns = core.now_ns.saturating_sub(core.operations[operation].submitted_ns);
            core.counters.latency(LatencyKind::Connect, waited_ns);
            core.complete(operation, Outcome::Connected);
        }
        Err(error) => {
            core.complete(operation, Outcome::Failed { error, payload: None, transferred: 0 });
            if !core.sockets[index].is_closing() {
                // The caller never had this socket: there is nothing to report about its end.
                return After::Abandoned(index);
            }
        }
    }
    After::Ended(index)
}

fn connecting(core: &mut Core, index: SocketIndex) -> &mut Connecting {
    let Role::Connecting(connecting) = &mut core.sockets[index].role else {
        unreachable!("only a socket that connects has a connect")
    };
    connecting
}
