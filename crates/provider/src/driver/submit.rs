//! The calls that queue an operation: checked here, handed over by the next turn.

use std::net::SocketAddr;
use std::time::Duration;

use super::Driver;
use crate::base::error::{Error, ErrorKind, Refused};
use crate::base::id::{OperationId, SocketId};
use crate::base::index::OperationIndex;
use crate::driver::accept::start_accept;
use crate::driver::backlog::{Outgoing, refused};
use crate::driver::completion::{Completion, Outcome};
use crate::driver::datagram::resolve_datagram;
use crate::driver::mailbox::Message;
use crate::driver::operation::{CloseMode, Operation, Payload, ReceiveBuffer};
use crate::driver::receive::check_receive;
use crate::driver::send::check_send;
use crate::driver::timer::start_timer;

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
            Operation::ReceiveInto { socket, buffer } => {
                let accepted = self.receive_into(socket, buffer, token);
                accepted.map_err(|refused| refused.map(|buffer| Operation::ReceiveInto { socket, buffer }))
            }
            Operation::Send { socket, payload, quiet } => {
                let accepted = self.send_payload(socket, payload, quiet, token);
                accepted.map_err(|refused| refused.map(|payload| Operation::Send { socket, payload, quiet }))
            }
            Operation::SendTo { socket, to, payload, quiet } => {
                let accepted = self.send_datagram(socket, to, payload, quiet, token);
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

    /// Starts a stream of accepted connections. Each comes unattached: adopt it here or on another driver.
    ///
    /// The stream says [`Outcome::AcceptPaused`] when descriptors or memory run out, backs off and goes on.
    ///
    /// Errors: `Stale`, `InvalidInput` (not a listener), `ReceiveActive` (there is one already), `Busy`.
    pub fn accept(&mut self, listener: SocketId, token: u64) -> Result<OperationId, Error> {
        let index = self.core.resolve(listener)?;
        self.core.check_operations()?;
        start_accept(&mut self.core, index, token)
    }

    /// Starts a stream of received bytes in pool buffers. It goes on until the peer's end, an error, or a cancel; an idle
    /// connection holds no buffer. On a datagram socket each report is one datagram, and only a cancel or a close ends it.
    ///
    /// Errors: `Stale`, `InvalidInput` (a listener), `NotConnected`, `ReceiveActive`, `Busy` (`operations_max`).
    pub fn receive(&mut self, socket: SocketId, token: u64) -> Result<OperationId, Error> {
        let index = check_receive(&self.core, socket)?;
        self.core.check_operations()?;
        self.parts.receives.start_stream(&mut self.core, index, token)
    }

    /// Receives once into the caller's buffer, at most its length. Several queue up in order.
    ///
    /// Errors, with the buffer: `Stale`, `InvalidInput` (empty), `NotConnected`, `ReceiveActive`, `Busy`.
    pub fn receive_into(
        &mut self,
        socket: SocketId,
        buffer: impl Into<ReceiveBuffer>,
        token: u64,
    ) -> Result<OperationId, Refused<ReceiveBuffer>> {
        let buffer = buffer.into();
        let checked = check_receive(&self.core, socket).and_then(|index| self.core.check_operations().map(|()| index));
        match checked {
            Ok(index) => self.parts.receives.queue_receive_into(&mut self.core, index, buffer, token),
            Err(error) => Err(Refused { error, value: buffer }),
        }
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
        self.send_payload(socket, payload.into(), false, token)
    }

    /// As [`send`](Self::send), but completes only if it fails; the payload is dropped once the kernel has let go of it.
    pub fn send_quiet(
        &mut self,
        socket: SocketId,
        payload: impl Into<Payload>,
        token: u64,
    ) -> Result<OperationId, Refused<Payload>> {
        self.send_payload(socket, payload.into(), true, token)
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
        self.send_datagram(socket, to, payload.into(), false, token)
    }

    /// As [`send_to`](Self::send_to), but completes only if it fails.
    pub fn send_to_quiet(
        &mut self,
        socket: SocketId,
        to: SocketAddr,
        payload: impl Into<Payload>,
        token: u64,
    ) -> Result<OperationId, Refused<Payload>> {
        self.send_datagram(socket, to, payload.into(), true, token)
    }

    /// Ends the write side once everything queued before has been sent; receiving goes on.
    ///
    /// Errors: `Stale`, `InvalidInput` (a listener), `NotConnected`, `WriteClosed`, `Busy` (`operations_max`).
    pub fn shutdown_write(&mut self, socket: SocketId, token: u64) -> Result<OperationId, Error> {
        let index = check_send(&self.core, socket)?;
        self.core.check_operations()?;
        Ok(self.parts.sends.queue_shutdown(&mut self.core, index, token))
    }

    /// A completion after some time. Errors: `Busy` (`operations_max`), `Closed`.
    pub fn timer(&mut self, after: Duration, token: u64) -> Result<OperationId, Error> {
        self.core.check_open()?;
        self.core.check_operations()?;
        Ok(start_timer(&mut self.core, after, token))
    }

    /// Asks for an operation to end early. It still completes once, with its true result or `Cancelled`.
    ///
    /// Errors: `Stale` if it has completed already.
    //= CANCEL-1
    pub fn cancel(&mut self, operation: OperationId) -> Result<(), Error> {
        let index = self.core.resolve_operation(operation).ok_or(Error::new(ErrorKind::Stale))?;
        self.parts.cancel_operation(&mut self.core, index);
        Ok(())
    }

    /// Closes a socket or listener. The id is stale at once; pending operations end first; then `Closed` comes with this
    /// token, the socket's last completion.
    ///
    /// Errors: `Stale` if it is closing or closed already.
    //= CLOSE-1
    pub fn close(&mut self, socket: SocketId, mode: CloseMode, token: u64) -> Result<(), Error> {
        let index = self.core.resolve(socket)?;
        self.parts.begin_close(&mut self.core, index, mode, token);
        Ok(())
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

    fn send_payload(
        &mut self,
        socket: SocketId,
        payload: Payload,
        is_quiet: bool,
        token: u64,
    ) -> Result<OperationId, Refused<Payload>> {
        let (core, parts) = (&mut self.core, &mut self.parts);
        let index = match core.resolve(socket) {
            Ok(index) => index,
            Err(error) => return Err(refused(core, error.kind(), payload)),
        };
        if !core.sockets[index].is_datagram() {
            return parts.sends.queue_send(core, &mut parts.backlogs, index, payload, is_quiet, token);
        }
        let send = Outgoing { payload, is_quiet, token };
        let (id, after) = parts.datagrams.queue_datagram(core, &mut parts.backlogs, index, None, send)?;
        parts.follow(core, after);
        Ok(id)
    }

    fn send_datagram(
        &mut self,
        socket: SocketId,
        to: SocketAddr,
        payload: Payload,
        is_quiet: bool,
        token: u64,
    ) -> Result<OperationId, Refused<Payload>> {
        let (core, parts) = (&mut self.core, &mut self.parts);
        let index = match resolve_datagram(&*core, socket) {
            Ok(index) => index,
            Err(error) => return Err(refused(core, error.kind(), payload)),
        };
        let send = Outgoing { payload, is_quiet, token };
        let (id, after) = parts.datagrams.queue_datagram(core, &mut parts.backlogs, index, Some(to), send)?;
        parts.follow(core, after);
        Ok(id)
    }

    fn cancel_token(&mut self, token: u64) {
        let matches: Vec<OperationIndex> =
            self.core.operations.indices().filter(|index| self.is_token(*index, token)).collect();
        for index in matches {
            // An earlier cancel of this round may have ended it.
            if self.core.operations.get(index).is_some() && self.is_token(index, token) {
                self.parts.cancel_operation(&mut self.core, index);
            }
        }
    }

    fn is_token(&self, index: OperationIndex, token: u64) -> bool {
        self.core.operations[index].token == token && !self.core.operations[index].is_internal
    }
}

fn refuse(
    accepted: Result<OperationId, Error>,
    operation: impl FnOnce() -> Operation,
) -> Result<OperationId, Refused<Operation>> {
    accepted.map_err(|error| Refused { error, value: operation() })
}
