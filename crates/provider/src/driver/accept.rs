//! Accept streams: connections until cancelled, with a back-off when descriptors or memory run out.

use std::time::Duration;

use super::Driver;
use crate::base::error::{Error, ErrorKind};
use crate::base::id::{OperationId, SocketId};
use crate::base::index::{OperationIndex, SocketIndex};
use crate::base::time;
use crate::base::timer::Due;
use crate::contract::Action;
use crate::driver::completion::Outcome;
use crate::driver::queued::{Body, Queued};
use crate::driver::socket::{Attempt, Listener, Role, Trouble};
use crate::socket::AcceptedSocket;

/// First and longest pause of an accept stream that fails, in milliseconds; it doubles from one to the other.
const PAUSE_MS_MIN: u16 = 10;
const PAUSE_MS_MAX: u16 = 1000;
/// Connections that are taken out of a listener at once, at most: the largest backlog that Linux gives by default
/// (net.core.somaxconn).
const WAITING_MAX: u32 = 4096;

impl Driver {
    /// Starts a stream of accepted connections. Each comes unattached: adopt it here or on another driver.
    ///
    /// When descriptors or memory run out the stream says [`Outcome::AcceptPaused`], backs off and goes on.
    ///
    /// Errors: `Stale`, `InvalidInput` (not a listener), `ReceiveActive` (there is one already), `Busy`.
    pub fn accept(&mut self, listener: SocketId, token: u64) -> Result<OperationId, Error> {
        let index = self.core.resolve(listener)?;
        self.core.check_operations()?;
        let Role::Listener(Listener { accepting, .. }) = &self.core.sockets[index].role else {
            return Err(Error::new(ErrorKind::InvalidInput));
        };
        if accepting.operation().is_some() {
            return Err(Error::new(ErrorKind::ReceiveActive));
        }
        let operation = self.core.insert(Queued::new(token, Some(index), Body::Accept));
        self.ask_for_connections(index, operation);
        Ok(self.core.operation_id(self.core.operations.key(operation)))
    }

    /// Another handle of a listener, for another driver: both accept on it, and it listens until both are closed.
    ///
    /// Errors: `Stale`; `InvalidInput` if it is no listener, or one of a simulated network; what the system says, for example
    /// `DescriptorLimit`.
    pub fn clone_listener(&self, listener: SocketId) -> Result<AcceptedSocket, Error> {
        let index = self.core.resolve(listener)?;
        if !self.core.sockets[index].is_listener() {
            return Err(Error::new(ErrorKind::InvalidInput));
        }
        let socket = self.core.sockets[index].endpoint.try_clone()?;
        Ok(AcceptedSocket { socket, nonblocking: None, is_fresh: false })
    }

    /// Times that accept streams have paused, and connections that were closed at once because descriptors ran out, so
    /// far: those of [`Stats`](crate::Stats), for whoever looks at them in each turn.
    pub fn accept_troubles(&self) -> (u64, u64) {
        (self.core.counters.totals.accept_pauses, self.core.counters.totals.shed)
    }

    pub(super) fn on_accepted(&mut self, operation: OperationIndex, socket: AcceptedSocket, more: bool) {
        let index = self.core.operations[operation].socket();
        self.core.counters.totals.accepted += 1;
        self.listener(index).trouble = Trouble::None;
        self.core.report(operation, Outcome::Accepted(socket));
        if !more {
            self.core.taken_back(operation);
            self.accept_disarmed(index, operation);
        }
    }

    pub(super) fn on_accept_failed(&mut self, operation: OperationIndex, error: Error) {
        self.core.taken_back(operation);
        let index = self.core.operations[operation].socket();
        match error.kind() {
            ErrorKind::Cancelled => self.accept_disarmed(index, operation),
            ErrorKind::InvalidInput => self.end_accept(index, operation, error),
            // The connection ended while it waited to be accepted, or the network under it failed (accept(2)): next one.
            ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::TimedOut
                if self.listener(index).trouble == Trouble::None =>
            {
                self.listener(index).trouble = Trouble::Skipped;
                self.accept_disarmed(index, operation);
            }
            _ if self.core.operations[operation].is_cancelled => self.end_cancelled_accept(index, operation),
            _ => self.back_off(index, operation, error),
        }
    }

    fn accept_disarmed(&mut self, index: SocketIndex, operation: OperationIndex) {
        if self.core.operations[operation].is_cancelled {
            self.end_cancelled_accept(index, operation);
        } else {
            self.ask_for_connections(index, operation);
        }
    }

    fn ask_for_connections(&mut self, index: SocketIndex, operation: OperationIndex) {
        self.listener(index).accepting = Attempt::InKernel(operation);
        self.core.hand_over(operation, Action::Accept);
    }

    fn end_cancelled_accept(&mut self, index: SocketIndex, operation: OperationIndex) {
        self.accept_left_over(index, operation);
        self.end_accept(index, operation, Error::new(ErrorKind::Cancelled));
    }

    /// Takes what this stream was told of and could not take before it was cancelled: nobody else who accepts on the
    /// listener, such as the process that takes it over, would hear of it until the next connection comes.
    //= CANCEL-1
    fn accept_left_over(&mut self, index: SocketIndex, operation: OperationIndex) {
        if self.core.sockets[index].is_closing() || !self.core.profile.is_told_alone {
            return;
        }
        for _ in 0..WAITING_MAX {
            let waiting = self.core.sockets[index].endpoint.accept_waiting();
            let Some(endpoint) = waiting else { return };
            self.core.counters.totals.accepted += 1;
            let socket = AcceptedSocket { socket: endpoint, nonblocking: None, is_fresh: true };
            self.core.report(operation, Outcome::Accepted(socket));
        }
    }

    fn end_accept(&mut self, index: SocketIndex, operation: OperationIndex, error: Error) {
        self.listener(index).accepting = Attempt::None;
        self.core.fail(operation, error);
        if self.core.sockets[index].is_closing() {
            self.go_on_closing(index);
        }
    }

    fn back_off(&mut self, index: SocketIndex, operation: OperationIndex, error: Error) {
        self.core.counters.totals.accept_pauses += 1;
        let last_ms = match self.listener(index).trouble {
            Trouble::Paused { ms } => ms,
            Trouble::None | Trouble::Skipped => {
                self.core.report(operation, Outcome::AcceptPaused(error));
                0
            }
        };
        if matches!(error.kind(), ErrorKind::DescriptorLimit | ErrorKind::SystemDescriptorLimit) {
            self.accept_and_close(index);
        }
        let ms = (last_ms * 2).clamp(PAUSE_MS_MIN, PAUSE_MS_MAX);
        let due_ns = time::after(self.core.now_ns, Duration::from_millis(u64::from(ms)));
        let timer = self.core.timers.insert(due_ns, Due::Accept(index));
        let listener = self.listener(index);
        (listener.accepting, listener.trouble) = (Attempt::Pausing(operation, timer), Trouble::Paused { ms });
    }

    /// Gives the reserve descriptor up to take the waiting connections, one after the other, and close them: their peers
    /// learn at once that there is no place, instead of hanging in the backlog.
    fn accept_and_close(&mut self, index: SocketIndex) {
        if self.reserve.take().is_none() {
            return;
        }
        for _ in 0..WAITING_MAX {
            if self.core.sockets[index].endpoint.accept_waiting().is_none() {
                break;
            }
            self.core.counters.totals.shed += 1;
        }
        self.reserve = self.core.profile.network.reserve();
    }

    pub(super) fn accept_again(&mut self, index: SocketIndex) {
        if self.reserve.is_none() {
            self.reserve = self.core.profile.network.reserve();
        }
        if let Attempt::Pausing(operation, _) = self.listener(index).accepting {
            self.ask_for_connections(index, operation);
        }
    }

    pub(super) fn cancel_accept(&mut self, operation: OperationIndex) {
        let index = self.core.operations[operation].socket();
        if let Attempt::Pausing(_, timer) = self.listener(index).accepting {
            self.core.timers.remove(timer);
            self.end_cancelled_accept(index, operation);
        } else {
            self.core.cancel_in_kernel(operation);
        }
    }

    fn listener(&mut self, index: SocketIndex) -> &mut Listener {
        let Role::Listener(listener) = &mut self.core.sockets[index].role else {
            unreachable!("only listeners accept")
        };
        listener
    }
}
