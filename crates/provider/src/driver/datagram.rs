//! Datagram sockets: each datagram is an operation of its own, several may be under way, and none waits for another.
//!
//! 1. `send_to` puts payload, address and span list into the operation and hands it over at once, with the next turn.
//! 2. The kernel takes it, or has no room: then it is asked again, this time waiting for room.
//! 3. A receive stream reports one datagram at a time. What the network says about earlier sends is reported in between.

use std::net::SocketAddr;

use crate::base::address::destination;
use crate::base::error::{Error, ErrorKind, Refused};
use crate::base::id::{OperationId, SocketId};
use crate::base::index::{OperationIndex, SocketIndex};
use crate::config::Config;
use crate::contract::stats::LatencyKind;
use crate::contract::{Action, CompletionMode, DATAGRAM_OVERHEAD_BYTES};
use crate::driver::backlog::{Backlogs, Outgoing, has_room, refused};
use crate::driver::completion::Outcome;
use crate::driver::core::{After, Core};
use crate::driver::operation::Payload;
use crate::driver::queued::{Body, Envelope, Queued};
use crate::driver::receive::Receives;
use crate::driver::socket::Owed;
use crate::memory::buffer::{Buffer, Section};
use crate::memory::{SpanList, Target};

/// The datagrams of all sockets.
#[derive(Default)]
pub(super) struct Datagrams {
    /// Empty ones, to be used again: as many as datagrams were ever under way at once.
    #[allow(clippy::vec_box, reason = "an envelope stays in its place while the kernel looks at it")]
    envelopes: Vec<Box<Envelope>>,
}

impl Datagrams {
    /// Hands a datagram over, on a datagram socket. `to` of `None`: to the socket's own peer.
    pub(super) fn queue_datagram(
        &mut self,
        core: &mut Core,
        backlogs: &mut Backlogs,
        index: SocketIndex,
        to: Option<SocketAddr>,
        send: Outgoing,
    ) -> Result<(OperationId, After), Refused<Payload>> {
        let Outgoing { payload, is_quiet, token } = send;
        let datagram = core.sockets[index].datagram();
        if to.is_none() && !datagram.has_peer {
            return Err(refused(core, ErrorKind::NotConnected, payload));
        }
        let Some(length) = payload.datagram_length() else {
            return Err(refused(core, ErrorKind::InvalidInput, payload));
        };
        if !has_room(core, &datagram.backlog, length) {
            backlogs.owe_writable(core, index, Owed::Room, token);
            return Err(refused(core, ErrorKind::Busy, payload));
        }
        let is_v6 = datagram.is_v6;
        let mut envelope = self.envelopes.pop().unwrap_or_default();
        let to = to.map(|to| destination(to, is_v6)).transpose();
        envelope.address = to.unwrap_or_default().map(Into::into);
        payload.append_spans(0, &mut envelope.spans, usize::MAX);
        envelope.payload = Some(payload);
        let mut operation = Queued::new(token, Some(index), Body::SendDatagram(envelope));
        (operation.is_quiet, operation.length) = (is_quiet, length);
        let operation = core.insert(operation);
        let backlog = &mut core.sockets[index].datagram_mut().backlog;
        (backlog.bytes, backlog.count) = (backlog.bytes + length, backlog.count + 1);
        let mode =
            if is_quiet && backlog.owed == Owed::Nothing { CompletionMode::OnError } else { CompletionMode::Always };
        let id = core.id_of(operation);
        // Systems answer to such an address in many ways, and some only after they have tried to send to it with others.
        if let Err(error) = to {
            return Ok((id, self.end_datagram(core, operation, Err(error))));
        }
        hand_over_datagram(core, operation, mode);
        Ok((id, After::Nothing))
    }

    /// A datagram has gone, or found no room at all: then again, waiting for room.
    pub(super) fn on_datagram_sent(&mut self, core: &mut Core, operation: OperationIndex, bytes: usize) -> After {
        core.taken_back(operation);
        let Queued { length, is_cancelled, submitted_ns, .. } = core.operations[operation];
        let index = core.operations[operation].socket();
        if bytes < length as usize {
            if is_cancelled || core.sockets[index].is_aborting() {
                return self.end_datagram(core, operation, Err(Error::new(ErrorKind::Cancelled)));
            }
            hand_over_datagram(core, operation, CompletionMode::Always);
            return After::Nothing;
        }
        core.counters.totals.sent_bytes += bytes as u64;
        core.counters.latency(LatencyKind::Send, core.now_ns.saturating_sub(submitted_ns));
        self.end_datagram(core, operation, Ok(()))
    }

    pub(super) fn on_datagram_failed(&mut self, core: &mut Core, operation: OperationIndex, error: Error) -> After {
        core.taken_back(operation);
        let is_abort = core.sockets[core.operations[operation].socket()].is_aborting();
        self.end_datagram(core, operation, Err(if is_abort { Error::new(ErrorKind::Cancelled) } else { error }))
    }

    fn end_datagram(&mut self, core: &mut Core, operation: OperationIndex, result: Result<(), Error>) -> After {
        let (index, length) = (core.operations[operation].socket(), core.operations[operation].length);
        let body = std::mem::replace(&mut core.operations[operation].body, Body::Receive);
        let Body::SendDatagram(mut envelope) = body else { unreachable!("only datagrams come here") };
        let payload = envelope.payload.take().expect("taken once");
        envelope.spans.clear();
        self.envelopes.push(envelope);
        let backlog = &mut core.sockets[index].datagram_mut().backlog;
        (backlog.bytes, backlog.count) = (backlog.bytes - length, backlog.count - 1);
        core.complete(
            operation,
            match result {
                Ok(()) => Outcome::Sent(payload),
                Err(error) => Outcome::Failed { error, payload: Some(payload), transferred: 0 },
            },
        );
        After::Sent(index)
    }
}

/// The datagram socket of this id. Errors: `Stale`, `InvalidInput` (another role).
pub(super) fn resolve_datagram(core: &Core, socket: SocketId) -> Result<SocketIndex, Error> {
    let index = core.resolve(socket)?;
    if core.sockets[index].is_datagram() { Ok(index) } else { Err(Error::new(ErrorKind::InvalidInput)) }
}

/// The longest datagram that every back end can put into a buffer of the section, in bytes.
pub(super) fn datagram_limit(config: &Config, section: Section) -> u32 {
    let pool = &config.pool;
    let bytes = if section == Section::Bulk { pool.bulk_bytes } else { pool.buffer_bytes };
    bytes - DATAGRAM_OVERHEAD_BYTES
}

//= DGRAM-1
pub(super) fn on_datagram(
    core: &mut Core,
    receives: &mut Receives,
    operation: OperationIndex,
    bytes: Buffer,
    from: SocketAddr,
    more: bool,
) -> After {
    let index = core.operations[operation].socket();
    let section = core.sockets[index].receiving().section;
    core.counters.totals.received_bytes += bytes.len() as u64;
    receives.note_delivery(core, index, bytes.len());
    let fits = bytes.len() <= datagram_limit(&core.config, section) as usize;
    let outcome = if fits { Outcome::Datagram { bytes, from } } else { Outcome::Truncated { from } };
    receives.on_datagram_item(core, operation, outcome, more)
}

/// Several that the system has merged: each becomes a report of its own, on its own part of the buffer.
//= DGRAM-1
pub(super) fn on_merged_datagrams(
    core: &mut Core,
    receives: &mut Receives,
    operation: OperationIndex,
    mut bytes: Buffer,
    from: SocketAddr,
    segment_bytes: u16,
    more: bool,
) -> After {
    let segment_bytes = usize::from(segment_bytes.max(1));
    while bytes.len() > segment_bytes {
        let rest = bytes.split_off(segment_bytes);
        let datagram = std::mem::replace(&mut bytes, rest);
        core.counters.totals.merged_received += 1;
        // The stream goes on: nothing follows.
        let _ = on_datagram(core, receives, operation, datagram, from, true);
    }
    core.counters.totals.merged_received += 1;
    on_datagram(core, receives, operation, bytes, from, more)
}

/// Aborting: the rare case, and the only one in which somebody asks which datagrams a socket has under way.
pub(super) fn cancel_datagrams(core: &mut Core, index: SocketIndex) {
    let is_its_own = |at: &OperationIndex| {
        let operation = &core.operations[*at];
        operation.socket == Some(index) && matches!(operation.body, Body::SendDatagram(..))
    };
    let under_way: Vec<OperationIndex> = core.operations.indices().filter(is_its_own).collect();
    under_way.into_iter().for_each(|operation| core.cancel_in_kernel(operation));
}

fn hand_over_datagram(core: &mut Core, operation: OperationIndex, mode: CompletionMode) {
    let Queued { body, length, .. } = &core.operations[operation];
    let Body::SendDatagram(envelope) = body else { unreachable!("only datagrams come here") };
    let list = SpanList::of(&envelope.spans, *length as usize);
    let target = Target::of(envelope.address.as_ref());
    core.hand_over(operation, Action::SendDatagram(list, target, mode));
}
