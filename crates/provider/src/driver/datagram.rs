//! Datagram sockets: each datagram is an operation of its own, several may be under way, and none waits for another.
//!
//! 1. `send_to` puts payload, address and span list into the operation and hands it over at once, with the next turn.
//! 2. The kernel takes it, or has no room: then it is asked again, this time waiting for room.
//! 3. A receive stream reports one datagram at a time. What the network says about earlier sends is reported in between.

use std::net::{IpAddr, SocketAddr};

use super::Driver;
use crate::base::address::{Address, destination};
use crate::base::error::{Error, ErrorKind, Refused};
use crate::base::id::{OperationId, SocketId};
use crate::base::index::{OperationIndex, SocketIndex};
use crate::base::range::holds;
use crate::base::setting::Setting;
use crate::contract::merge::MERGED_BYTES_MAX;
use crate::contract::stats::LatencyKind;
use crate::contract::{Action, DATAGRAM_OVERHEAD_BYTES, Notice};
use crate::driver::completion::Outcome;
use crate::driver::operation::Payload;
use crate::driver::queued::{Body, Queued};
use crate::driver::socket::{Datagram, Flow, Owed, Receiving, Role};
use crate::memory::buffer::{Buffer, Section};
use crate::memory::{SpanList, Target};
use crate::socket::BindOptions;

impl Driver {
    /// Opens a datagram (UDP) socket, with a peer of its own if the options name one.
    ///
    /// Errors: `AddressInUse`, `AddressNotAvailable`, `PermissionDenied`, `DescriptorLimit`, `Busy` (`sockets_max`),
    /// `InvalidInput` (no IP address, a peer of another family or with port 0, or `datagram_bytes_max` above what a bulk buffer holds, or `coalesce` with bulk
    /// buffers below 64 KiB), or what the system says.
    pub fn bind(&mut self, address: impl Into<Address>, options: &BindOptions) -> Result<SocketId, Error> {
        self.core.check_open()?;
        let is_large_enough = self.core.config.pool.bulk_bytes as usize >= MERGED_BYTES_MAX;
        holds(Setting::Coalesce, !options.coalesce || is_large_enough)?;
        holds(Setting::DatagramBytesMax, options.datagram_bytes_max <= self.datagram_limit(Section::Bulk))?;
        let coalesce = options.coalesce && self.core.config.datagrams.coalesce;
        let address = address.into().unmapped();
        let is_v6 = address.ip().is_some_and(|ip| ip.is_ipv6());
        let peer = options.peer.map(|peer| destination(peer, is_v6)).transpose()?;
        let is_small = options.datagram_bytes_max <= self.datagram_limit(Section::Receive) && !options.coalesce;
        let role = Datagram {
            receiving: Receiving {
                section: if is_small { Section::Receive } else { Section::Bulk },
                ..Receiving::default()
            },
            has_peer: peer.is_some(),
            is_v6,
            is_coalescing: options.coalesce,
            ..Datagram::default()
        };
        let options = &BindOptions { coalesce, peer, ..*options };
        let endpoint = self.core.profile.network.datagram(&address, options)?;
        self.attach_new(endpoint, Role::Datagram(role))
    }

    /// Sends one datagram, which may be empty, to an address. It goes out whole or not at all. One to port 0, or from an
    /// IPv4 socket to an IPv6 address, completes with `InvalidInput`.
    ///
    /// Errors, with the payload: `Stale`, `InvalidInput` (not a datagram socket, too many pieces, 2 GiB or more), `Busy` (a `Writable`
    /// completion with this token follows when there is room again).
    pub fn send_to(
        &mut self,
        socket: SocketId,
        to: SocketAddr,
        payload: impl Into<Payload>,
        token: u64,
    ) -> Result<OperationId, Refused<Payload>> {
        self.queue_datagram(socket, Some(to), payload.into(), false, token)
    }

    /// As [`send_to`](Self::send_to), but completes only if it fails.
    pub fn send_to_quiet(
        &mut self,
        socket: SocketId,
        to: SocketAddr,
        payload: impl Into<Payload>,
        token: u64,
    ) -> Result<OperationId, Refused<Payload>> {
        self.queue_datagram(socket, Some(to), payload.into(), true, token)
    }

    /// Receives what is sent to a multicast group, on the interface of that index (0: the system's choice).
    ///
    /// Errors: `Stale`, `InvalidInput` (not a datagram socket, no multicast address, wrong family), or what the system says.
    pub fn join_multicast(&mut self, socket: SocketId, group: IpAddr, interface: u32) -> Result<(), Error> {
        let index = self.resolve_datagram(socket)?;
        self.core.sockets[index].endpoint.set_membership(group, interface, true)
    }

    /// Undoes [`join_multicast`](Self::join_multicast). Errors: the same.
    pub fn leave_multicast(&mut self, socket: SocketId, group: IpAddr, interface: u32) -> Result<(), Error> {
        let index = self.resolve_datagram(socket)?;
        self.core.sockets[index].endpoint.set_membership(group, interface, false)
    }

    pub(super) fn is_datagram(&self, socket: SocketId) -> bool {
        self.resolve_datagram(socket).is_ok()
    }

    fn resolve_datagram(&self, socket: SocketId) -> Result<SocketIndex, Error> {
        let index = self.core.resolve(socket)?;
        let is_datagram = self.core.sockets[index].is_datagram();
        if is_datagram { Ok(index) } else { Err(Error::new(ErrorKind::InvalidInput)) }
    }

    /// The longest datagram that every back end can put into a buffer of the section, in bytes.
    fn datagram_limit(&self, section: Section) -> u32 {
        let pool = &self.core.config.pool;
        let bytes = if section == Section::Bulk { pool.bulk_bytes } else { pool.buffer_bytes };
        bytes - DATAGRAM_OVERHEAD_BYTES
    }

    /// `to` of `None`: to the socket's own peer.
    pub(super) fn queue_datagram(
        &mut self,
        socket: SocketId,
        to: Option<SocketAddr>,
        payload: Payload,
        is_quiet: bool,
        token: u64,
    ) -> Result<OperationId, Refused<Payload>> {
        let index = match self.resolve_datagram(socket) {
            Ok(index) => index,
            Err(error) => return Err(self.refused(error.kind(), payload)),
        };
        let datagram = self.core.sockets[index].datagram();
        if to.is_none() && !datagram.has_peer {
            return Err(self.refused(ErrorKind::NotConnected, payload));
        }
        let Some(length) = payload.datagram_length() else {
            return Err(self.refused(ErrorKind::InvalidInput, payload));
        };
        if !self.has_room(&datagram.backlog, length) {
            self.owe_writable(index, Owed::Room, token);
            return Err(self.refused(ErrorKind::Busy, payload));
        }
        let is_v6 = datagram.is_v6;
        let mut envelope = self.envelopes.pop().unwrap_or_default();
        let to = to.map(|to| destination(to, is_v6)).transpose();
        envelope.address = to.unwrap_or_default().map(Into::into);
        payload.append_spans(0, &mut envelope.spans, usize::MAX);
        envelope.payload = Some(payload);
        let mut operation = Queued::new(token, Some(index), Body::SendDatagram(envelope));
        (operation.is_quiet, operation.length) = (is_quiet, length);
        let operation = self.core.insert(operation);
        let backlog = &mut self.core.sockets[index].datagram_mut().backlog;
        (backlog.bytes, backlog.count) = (backlog.bytes + length, backlog.count + 1);
        let notice = if is_quiet && backlog.owed == Owed::Nothing { Notice::Lazy } else { Notice::Prompt };
        let id = self.core.operation_id(self.core.operations.key(operation));
        match to {
            Ok(_) => self.hand_over_datagram(operation, notice),
            // Systems answer in many ways, and some only after they have tried to send it together with others.
            Err(error) => self.end_datagram(operation, Err(error)),
        }
        Ok(id)
    }

    fn hand_over_datagram(&mut self, operation: OperationIndex, notice: Notice) {
        let Queued { body, length, .. } = &self.core.operations[operation];
        let Body::SendDatagram(envelope) = body else { unreachable!("only datagrams come here") };
        let list = SpanList::of(&envelope.spans, *length as usize);
        let target = Target::of(envelope.address.as_ref());
        self.batches += 1;
        self.core.hand_over(operation, Action::SendDatagram(list, target, notice));
    }

    /// A datagram has gone, or found no room at all: then again, waiting for room.
    pub(super) fn on_datagram_sent(&mut self, operation: OperationIndex, bytes: usize) {
        self.core.taken_back(operation);
        let Queued { length, is_cancelled, submitted_ns, .. } = self.core.operations[operation];
        let index = self.core.operations[operation].socket();
        if bytes < length as usize {
            if is_cancelled || self.core.sockets[index].is_aborting() {
                return self.end_datagram(operation, Err(Error::new(ErrorKind::Cancelled)));
            }
            return self.hand_over_datagram(operation, Notice::Prompt);
        }
        self.core.counters.totals.sent_bytes += bytes as u64;
        self.core.counters.latency(LatencyKind::Send, self.core.now_ns.saturating_sub(submitted_ns));
        self.end_datagram(operation, Ok(()));
    }

    pub(super) fn on_datagram_failed(&mut self, operation: OperationIndex, error: Error) {
        self.core.taken_back(operation);
        let is_abort = self.core.sockets[self.core.operations[operation].socket()].is_aborting();
        self.end_datagram(operation, Err(if is_abort { Error::new(ErrorKind::Cancelled) } else { error }));
    }

    fn end_datagram(&mut self, operation: OperationIndex, result: Result<(), Error>) {
        let (index, length) = (self.core.operations[operation].socket(), self.core.operations[operation].length);
        let body = std::mem::replace(&mut self.core.operations[operation].body, Body::Receive);
        let Body::SendDatagram(mut envelope) = body else { unreachable!("only datagrams come here") };
        let payload = envelope.payload.take().expect("taken once");
        envelope.spans.clear();
        self.envelopes.push(envelope);
        let backlog = &mut self.core.sockets[index].datagram_mut().backlog;
        (backlog.bytes, backlog.count) = (backlog.bytes - length, backlog.count - 1);
        self.core.complete(
            operation,
            match result {
                Ok(()) => Outcome::Sent(payload),
                Err(error) => Outcome::Failed { error, payload: Some(payload), transferred: 0 },
            },
        );
        self.tell_writable(index);
        if self.core.sockets[index].is_closing() {
            self.go_on_closing(index);
        }
    }

    //= DGRAM-1
    pub(super) fn on_datagram(&mut self, operation: OperationIndex, bytes: Buffer, from: SocketAddr, more: bool) {
        let index = self.core.operations[operation].socket();
        let section = self.core.sockets[index].receiving().section;
        self.core.counters.totals.received_bytes += bytes.len() as u64;
        // A datagram socket is not rationed, one datagram at a time would lose the others. It only takes its place in line.
        self.use_share(index, bytes.len());
        let fits = bytes.len() <= self.datagram_limit(section) as usize;
        let outcome = if fits { Outcome::Datagram { bytes, from } } else { Outcome::Truncated { from } };
        self.on_datagram_item(operation, outcome, more);
    }

    /// Several that the system has merged: each becomes a report of its own, on its own part of the buffer.
    //= DGRAM-1
    pub(super) fn on_merged_datagrams(
        &mut self,
        operation: OperationIndex,
        mut bytes: Buffer,
        from: SocketAddr,
        segment_bytes: u16,
        more: bool,
    ) {
        let segment_bytes = usize::from(segment_bytes.max(1));
        while bytes.len() > segment_bytes {
            let rest = bytes.split_off(segment_bytes);
            let datagram = std::mem::replace(&mut bytes, rest);
            self.core.counters.totals.merged_received += 1;
            self.on_datagram(operation, datagram, from, true);
        }
        self.core.counters.totals.merged_received += 1;
        self.on_datagram(operation, bytes, from, more);
    }

    /// One report of a stream of datagrams.
    pub(super) fn on_datagram_item(&mut self, operation: OperationIndex, outcome: Outcome, more: bool) {
        let index = self.core.operations[operation].socket();
        if !more {
            self.core.taken_back(operation);
            self.core.sockets[index].receiving_mut().is_disarming = false;
        }
        if !self.core.sockets[index].is_closing() {
            let item = self.core.item(operation, outcome);
            if self.core.sockets[index].receiving().is_holding() {
                self.hold(index, item)
            } else {
                self.core.push(item)
            }
        }
        if !more {
            self.stream_disarmed(operation);
        }
    }

    /// Datagrams that are under way go out; nothing is received any more.
    pub(super) fn close_datagrams(&mut self, index: SocketIndex) {
        let receiving = self.core.sockets[index].receiving_mut();
        receiving.flow = Flow::Open;
        if let Some(head) = receiving.input.head() {
            self.cancel_receive(head);
        }
        self.go_on_closing(index);
    }

    /// Aborting: the rare case, and the only one in which somebody asks which datagrams a socket has under way.
    pub(super) fn cancel_datagrams(&mut self, index: SocketIndex) {
        let is_its_own = |at: &OperationIndex| {
            let operation = &self.core.operations[*at];
            operation.socket == Some(index) && matches!(operation.body, Body::SendDatagram(..))
        };
        let under_way: Vec<OperationIndex> = self.core.operations.indices().filter(is_its_own).collect();
        under_way.into_iter().for_each(|operation| self.core.cancel_in_kernel(operation));
    }
}
