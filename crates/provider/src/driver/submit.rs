//! The calls that queue an operation: checked here, handed over by the next turn.

use std::time::Duration;

use super::Driver;
use crate::base::address::Address;
use crate::base::error::{Error, ErrorKind, Refused};
use crate::base::id::{OperationId, SocketId};
use crate::base::index::{Index, OperationIndex, SocketIndex};
use crate::base::time;
use crate::base::timer::Due;
use crate::contract::Origin;
use crate::contract::stats::LatencyKind;
use crate::driver::completion::{Completion, Outcome};
use crate::driver::mailbox::Message;
use crate::driver::operation::{Operation, Payload, Room};
use crate::driver::queued::{Body, Queued};
use crate::driver::socket::{Connecting, Datagram, Entry, Listener, Role, Stream};
use crate::socket::{AcceptedSocket, AnySocket, Class, ConnectOptions, ListenOptions};

impl Driver {
    /// Hands over any operation; each is also a method of its own. `Close` and `Adopt` return [`OperationId::NONE`]:
    /// they report by socket and token.
    ///
    /// Errors: the operation comes back whole with the reason, see the method of that name.
    //= OWN-2
    pub fn submit(&mut self, operation: Operation, token: u64) -> Result<OperationId, Refused<Operation>> {
        match operation {
            Operation::Accept { socket } => refuse(self.accept(socket, token), || Operation::Accept { socket }),
            Operation::Connect { address, options } => {
                refuse(self.connect(address.clone(), &options, token), || Operation::Connect { address, options })
            }
            Operation::Receive { socket } => refuse(self.receive(socket, token), || Operation::Receive { socket }),
            Operation::ReceiveInto { socket, room } => {
                let accepted = self.receive_into(socket, room, token);
                accepted.map_err(|refused| refused.map(|room| Operation::ReceiveInto { socket, room }))
            }
            Operation::Send { socket, payload, quiet } => {
                let accepted = self.queue_send(socket, payload, quiet, token);
                accepted.map_err(|refused| refused.map(|payload| Operation::Send { socket, payload, quiet }))
            }
            Operation::SendTo { socket, to, payload, quiet } => {
                let accepted = self.queue_datagram(socket, Some(to), payload, quiet, token);
                accepted.map_err(|refused| refused.map(|payload| Operation::SendTo { socket, to, payload, quiet }))
            }
            Operation::ShutdownWrite { socket } => {
                refuse(self.shutdown_write(socket, token), || Operation::ShutdownWrite { socket })
            }
            Operation::Close { socket, mode } => {
                let closed = self.close(socket, mode, token).map(|()| OperationId::NONE);
                refuse(closed, || Operation::Close { socket, mode })
            }
            Operation::Timer { after } => refuse(self.timer(after, token), || Operation::Timer { after }),
            Operation::Adopt { socket } => match self.adopt(socket) {
                Ok(socket) => {
                    let outcome = Outcome::Adopted;
                    self.core.push(Completion { token, operation: OperationId::NONE, socket, more: false, outcome });
                    Ok(OperationId::NONE)
                }
                Err(refused) => Err(refused.map(|socket| Operation::Adopt { socket })),
            },
        }
    }

    /// Opens a listener, ready for [`accept`](Self::accept). Errors: `AddressInUse`, `PermissionDenied`,
    /// `DescriptorLimit`, `Busy` (`sockets_max`), `InvalidInput` with the [`Setting`](crate::Setting) for a time out of range,
    /// or what the system says.
    pub fn listen(&mut self, address: impl Into<Address>, options: &ListenOptions) -> Result<SocketId, Error> {
        self.core.check_open()?;
        let address = address.into().unmapped();
        options.check_for(&address)?;
        let endpoint = self.core.profile.network.listener(&address, options)?;
        self.attach_new(endpoint, Role::Listener(Listener::default()))
    }

    /// Makes an unattached socket this driver's own. It never moves again.
    ///
    /// Errors: `Busy` (`sockets_max`), `InvalidInput` for a socket of another type, `ForeignSocket` for one of another make
    /// or simulated network, or what the system says; the socket comes back.
    pub fn adopt(&mut self, socket: impl Into<AcceptedSocket>) -> Result<SocketId, Refused<AcceptedSocket>> {
        let AcceptedSocket { socket, nonblocking, is_fresh } = socket.into();
        let back = |socket| AcceptedSocket { socket, nonblocking, is_fresh };
        if !self.core.profile.network.has(&socket) {
            return Err(Refused::new(ErrorKind::ForeignSocket, back(socket)));
        }
        let origin = if is_fresh { Origin::Own } else { Origin::Foreign };
        let role = self.role_of(&socket, is_fresh);
        let attached = match role.and_then(|role| self.prepare(&socket, nonblocking, &role).map(|()| role)) {
            Ok(role) => self.attach(socket, role, origin),
            Err(error) => Err(Refused { error, value: socket }),
        };
        attached.map_err(|refused| refused.map(back))
    }

    /// Connects to a peer. The completion carries the new socket's id; a connect that fails leaves no socket behind. While
    /// a listener has no room for one more connection it waits; only TCP gives up by itself after some time.
    ///
    /// Errors: `Busy` (`sockets_max`, `operations_max`), `DescriptorLimit`, `InvalidInput` (port 0, `bind` of another family,
    /// or, with the [`Setting`](crate::Setting), a time out of range), or what the system says of the socket.
    pub fn connect(
        &mut self,
        address: impl Into<Address>,
        options: &ConnectOptions,
        token: u64,
    ) -> Result<OperationId, Error> {
        self.core.check_open()?;
        self.core.check_operations()?;
        let address = address.into().unmapped();
        let options = &options.checked_for(&address)?;
        let system_address = address.to_system()?;
        let endpoint = self.core.profile.network.connector(&address, options)?;
        let role = Role::Connecting(Connecting::default());
        self.prepare(&endpoint, None, &role)?;
        if system_address.is_unix() {
            // Asked again by our own timer: a kernel that waits for room at the listener takes a thread for it.
            endpoint.set_nonblocking(true)?;
        }
        let id = self.attach(endpoint, role, Origin::Own)?;
        let index = SocketIndex::of(id.key().index());
        let body = Body::Connect(Box::new(system_address));
        let operation = self.core.insert(Queued::new(token, Some(index), body));
        self.hand_over_connect(index, operation);
        Ok(self.core.operation_id(self.core.operations.key(operation)))
    }

    /// A completion after some time. Errors: `Busy` (`operations_max`), `Closed`.
    pub fn timer(&mut self, after: Duration, token: u64) -> Result<OperationId, Error> {
        self.core.check_open()?;
        self.core.check_operations()?;
        // The turn's clock may be old by the time the caller has worked: a timer must not fire early.
        let deadline_ns = time::after(self.core.profile.clock.now_ns(), after);
        let operation = self.core.insert(Queued::new(token, None, Body::Timer { handle: None, deadline_ns }));
        let handle = self.core.timers.insert(deadline_ns, Due::Operation(operation));
        self.core.operations[operation].body = Body::Timer { handle: Some(handle), deadline_ns };
        Ok(self.core.operation_id(self.core.operations.key(operation)))
    }

    /// Asks for an operation to end early. It still completes once, with its true result or `Cancelled`.
    ///
    /// Errors: `Stale` if it has completed already.
    //= CANCEL-1
    pub fn cancel(&mut self, operation: OperationId) -> Result<(), Error> {
        let index = self.core.resolve_operation(operation).ok_or(Error::new(ErrorKind::Stale))?;
        self.cancel_index(index);
        Ok(())
    }

    /// Sends all bytes of the payload, in order with the other sends of this socket; on a datagram socket that has a peer,
    /// one datagram. The payload comes back in the completion.
    ///
    /// Errors, with the payload: `Stale`, `InvalidInput` (empty, more than 1,024 pieces, or 4 GiB and more), `NotConnected`,
    /// `WriteClosed`, `Busy` (a `Writable` completion with this token follows when there is room again).
    pub fn send(
        &mut self,
        socket: SocketId,
        payload: impl Into<Payload>,
        token: u64,
    ) -> Result<OperationId, Refused<Payload>> {
        self.queue_send(socket, payload.into(), false, token)
    }

    /// As [`send`](Self::send), but completes only if it fails; the payload is dropped once the kernel has let go of it.
    pub fn send_quiet(
        &mut self,
        socket: SocketId,
        payload: impl Into<Payload>,
        token: u64,
    ) -> Result<OperationId, Refused<Payload>> {
        self.queue_send(socket, payload.into(), true, token)
    }

    /// Receives once into the caller's room, at most its length. Several queue up in order.
    ///
    /// Errors, with the room: `Stale`, `InvalidInput` (empty), `NotConnected`, `ReceiveActive`, `Busy`.
    pub fn receive_into(
        &mut self,
        socket: SocketId,
        room: impl Into<Room>,
        token: u64,
    ) -> Result<OperationId, Refused<Room>> {
        self.queue_receive_into(socket, room.into(), token)
    }

    /// In the order in which each submitter put it in.
    //= ORDER-2
    pub(super) fn take_mail(&mut self) {
        // At most what was there at the start, so that busy submitters cannot keep a turn from ending.
        for _ in 0..self.mailbox.len() {
            match self.mailbox.pop() {
                Some(Message::Submit(operation, token)) => self.submit_mailed(operation, token),
                Some(Message::Cancel(token)) => self.cancel_token(token),
                None => return,
            }
        }
    }

    pub(super) fn submit_mailed(&mut self, operation: Operation, token: u64) {
        if let Err(Refused { error, value }) = self.submit(operation, token) {
            let outcome = Outcome::Refused { error, value: Box::new(value) };
            let (operation, socket) = (OperationId::NONE, SocketId::NONE);
            self.core.push(Completion { token, operation, socket, more: false, outcome });
        }
    }

    fn cancel_token(&mut self, token: u64) {
        let matches: Vec<OperationIndex> =
            self.core.operations.indices().filter(|index| self.is_token(*index, token)).collect();
        for index in matches {
            // An earlier cancel of this round may have ended it.
            if self.core.operations.get(index).is_some() && self.is_token(index, token) {
                self.cancel_index(index);
            }
        }
    }

    fn is_token(&self, index: OperationIndex, token: u64) -> bool {
        self.core.operations[index].token == token && !self.core.operations[index].is_internal
    }

    pub(super) fn cancel_index(&mut self, index: OperationIndex) {
        match self.core.operations[index].body {
            Body::Timer { handle, .. } => {
                self.core.timers.remove(handle.expect("set with the timer"));
                self.core.fail(index, Error::new(ErrorKind::Cancelled));
            }
            Body::Send(_) | Body::ShutdownWrite => self.cancel_send(index),
            Body::Accept => self.cancel_accept(index),
            Body::Connect(_) => self.cancel_connect(index),
            Body::SendDatagram(..) => self.core.cancel_in_kernel(index),
            Body::Receive | Body::ReceiveInto(_) => self.cancel_receive(index),
        }
    }

    pub(super) fn expire(&mut self, index: OperationIndex) {
        if let Body::Timer { deadline_ns, .. } = self.core.operations[index].body {
            self.core.counters.latency(LatencyKind::TimerLag, self.core.now_ns.saturating_sub(deadline_ns));
        }
        self.core.complete(index, Outcome::Expired);
    }

    /// The role of a socket that somebody else has made: a fresh one is a connection.
    fn role_of(&self, endpoint: &AnySocket, is_fresh: bool) -> Result<Role, Error> {
        self.core.check_open()?;
        let class = if is_fresh { Class::Stream } else { endpoint.class()? };
        Ok(match class {
            Class::Listener => Role::Listener(Listener::default()),
            Class::Stream => Role::Stream(Stream::default()),
            Class::Datagram => {
                let (has_peer, is_v6) = (endpoint.has_peer(), endpoint.is_v6());
                Role::Datagram(Datagram { has_peer, is_v6, ..Datagram::default() })
            }
        })
    }

    /// Puts a socket into the mode that the back end needs.
    fn prepare(&self, endpoint: &AnySocket, nonblocking: Option<bool>, role: &Role) -> Result<(), Error> {
        // The mode belongs to the open file: others may share a listener, and none of them may block in accept.
        let wanted = matches!(role, Role::Listener(_)) || self.core.profile.is_nonblocking;
        if nonblocking != Some(wanted) {
            endpoint.set_nonblocking(wanted)?;
        }
        Ok(())
    }

    /// A socket that this driver has just made.
    pub(super) fn attach_new(&mut self, endpoint: AnySocket, role: Role) -> Result<SocketId, Error> {
        self.prepare(&endpoint, None, &role)?;
        Ok(self.attach(endpoint, role, Origin::Own)?)
    }

    fn attach(&mut self, endpoint: AnySocket, role: Role, origin: Origin) -> Result<SocketId, Refused<AnySocket>> {
        let index = match self.core.sockets.insert(Entry::new(endpoint, role)) {
            Ok(index) => index,
            Err(entry) => return Err(Refused::new(ErrorKind::Busy, entry.endpoint)),
        };
        let endpoint = &self.core.sockets[index].endpoint;
        match self.core.provider.attach(index.number(), endpoint, origin) {
            Ok(()) => Ok(self.core.socket_id(index)),
            Err(error) => {
                let entry = self.core.sockets.remove(index).expect("inserted above");
                Err(Refused { error, value: entry.endpoint })
            }
        }
    }
}

fn refuse(
    accepted: Result<OperationId, Error>,
    operation: impl FnOnce() -> Operation,
) -> Result<OperationId, Refused<Operation>> {
    accepted.map_err(|error| Refused { error, value: operation() })
}
