//! Timers of callers: operations without a socket.

use std::time::Duration;

use crate::base::error::{Error, ErrorKind};
use crate::base::id::OperationId;
use crate::base::index::OperationIndex;
use crate::base::time;
use crate::base::timer::Due;
use crate::contract::stats::LatencyKind;
use crate::driver::completion::Outcome;
use crate::driver::core::Core;
use crate::driver::queued::{Body, Queued};

/// Starts a timer, after `check_operations`.
pub(super) fn start_timer(core: &mut Core, after: Duration, token: u64) -> OperationId {
    // The turn's clock may be old by the time the caller has worked: a timer must not fire early.
    let deadline_ns = time::after(core.profile.clock.now_ns(), after);
    let operation = core.insert(Queued::new(token, None, Body::Timer { handle: None, deadline_ns }));
    let handle = core.timers.insert(deadline_ns, Due::Operation(operation));
    core.operations[operation].body = Body::Timer { handle: Some(handle), deadline_ns };
    core.id_of(operation)
}

pub(super) fn cancel_timer(core: &mut Core, operation: OperationIndex) {
    if let Body::Timer { handle: Some(handle), .. } = core.operations[operation].body {
        core.timers.remove(handle);
    }
    core.fail(operation, Error::new(ErrorKind::Cancelled));
}

pub(super) fn expire(core: &mut Core, operation: OperationIndex) {
    if let Body::Timer { deadline_ns, .. } = core.operations[operation].body {
        core.counters.latency(LatencyKind::TimerLag, core.now_ns.saturating_sub(deadline_ns));
    }
    core.complete(operation, Outcome::Expired);
}
