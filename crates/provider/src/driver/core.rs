//! Core of a driver: what all its parts share. Its tables, and the few ways in which an operation is begun, handed to the
//! back end, taken back and ended.

use std::collections::VecDeque;

use crate::base::error::{Error, ErrorKind, Refused};
use crate::base::id::{DriverNumber, OperationId, SocketId};
use crate::base::index::{Index, OperationIndex, SocketIndex, Table};
use crate::base::slots::Key;
use crate::base::timer::Timers;
use crate::config::Config;
use crate::contract::stats::Counters;
use crate::contract::{Action, Origin, Profile, Provider, Request};
use crate::driver::completion::{Completion, Outcome};
use crate::driver::queued::Queued;
use crate::driver::socket::{Entry, Role, StreamName};
use crate::memory::buffer::BufferPool;
use crate::socket::AnySocket;

/// Consequence for a socket of which something has ended. It is done by the caller above, who sees all parts: they do
/// not know each other.
#[must_use]
#[derive(Clone, Copy)]
pub(super) enum After {
    Nothing,
    /// A send has ended: who waits for room may be told, and a close may go on.
    Sent(SocketIndex),
    /// An operation of another kind has ended: a close may go on.
    Ended(SocketIndex),
    /// Its connect has failed, and nobody is to hear of the socket again.
    Abandoned(SocketIndex),
}

/// State that all parts of a driver share.
pub(super) struct Core {
    pub(super) provider: Box<dyn Provider>,
    pub(super) profile: Profile,
    pub(super) pool: BufferPool,
    pub(super) config: Config,
    pub(super) number: DriverNumber,
    pub(super) sockets: Table<SocketIndex, Entry>,
    pub(super) operations: Table<OperationIndex, Queued>,
    /// Requests that the next turn hands over.
    pub(super) requests: Vec<Request>,
    /// Completions that the next `poll` delivers.
    pub(super) ready: VecDeque<Completion>,
    pub(super) timers: Timers,
    pub(super) counters: Counters,
    /// Time of the last turn.
    pub(super) now_ns: u64,
    /// Operations of callers, without the driver's own.
    pub(super) user_operations: usize,
    pub(super) in_kernel: usize,
    /// Nothing is accepted any more.
    pub(super) is_shut: bool,
}

impl Core {
    //= STALE-1
    pub(super) fn resolve(&self, socket: SocketId) -> Result<SocketIndex, Error> {
        let stale = Error::new(ErrorKind::Stale);
        if socket.driver() != self.number.number {
            return Err(stale);
        }
        let index = self.sockets.resolve(socket.key()).ok_or(stale)?;
        if self.sockets[index].is_closing() { Err(stale) } else { Ok(index) }
    }

    pub(super) fn resolve_operation(&self, operation: OperationId) -> Option<OperationIndex> {
        let is_own = operation.driver() == self.number.number;
        let index = is_own.then(|| self.operations.resolve(operation.key())).flatten();
        index.filter(|index| !self.operations[*index].is_internal)
    }

    pub(super) fn socket_id(&self, index: SocketIndex) -> SocketId {
        SocketId::new(self.number.number, self.sockets.key(index))
    }

    pub(super) fn id_of(&self, index: OperationIndex) -> OperationId {
        OperationId::new(self.number.number, self.operations.key(index))
    }

    /// The number of this turn, as sockets remember it.
    #[inline]
    pub(super) fn turn_number(&self) -> u32 {
        self.counters.totals.turns as u32
    }

    pub(super) fn stream_name(&self, operation: OperationIndex) -> StreamName {
        StreamName { operation, generation: self.operations.key(operation).generation() }
    }

    pub(super) fn stream_id(&self, stream: StreamName) -> OperationId {
        OperationId::new(self.number.number, Key::new(stream.operation.number(), stream.generation))
    }

    /// True if something of this stream waits for the next `poll`.
    pub(super) fn has_undelivered(&self, stream: StreamName) -> bool {
        let id = self.stream_id(stream);
        self.ready.iter().any(|completion| completion.operation == id)
    }

    pub(super) fn check_open(&self) -> Result<(), Error> {
        if self.is_shut { Err(Error::new(ErrorKind::Closed)) } else { Ok(()) }
    }

    //= LIMIT-1
    pub(super) fn check_operations(&self) -> Result<(), Error> {
        let is_full = self.user_operations >= self.config.operations_max as usize;
        if is_full { Err(Error::new(ErrorKind::Busy)) } else { Ok(()) }
    }

    /// A new socket, in its table and with the back end. Errors, with the socket: `Busy`, what the system says.
    pub(super) fn attach(
        &mut self,
        endpoint: AnySocket,
        role: Role,
        origin: Origin,
    ) -> Result<SocketIndex, Refused<AnySocket>> {
        let index = match self.sockets.insert(Entry::new(endpoint, role)) {
            Ok(index) => index,
            Err(entry) => return Err(Refused::new(ErrorKind::Busy, entry.endpoint)),
        };
        let endpoint = &self.sockets[index].endpoint;
        match self.provider.attach(index.number(), endpoint, origin) {
            Ok(()) => Ok(index),
            Err(error) => {
                let entry = self.sockets.remove(index).expect("inserted above");
                Err(Refused { error, value: entry.endpoint })
            }
        }
    }

    /// The back end forgets a socket, which is about to leave its table.
    pub(super) fn detach(&mut self, index: SocketIndex) {
        self.provider.detach(index.number());
    }

    /// Puts an operation into its table, after `check_operations`.
    // What is made for every message is made in its place: a call would copy it twice.
    #[inline(always)]
    pub(super) fn insert(&mut self, mut operation: Queued) -> OperationIndex {
        operation.submitted_ns = self.now_ns;
        if !operation.is_internal {
            self.user_operations += 1;
            self.counters.totals.requests += 1;
        }
        let inserted = self.operations.insert(operation);
        inserted.unwrap_or_else(|_| unreachable!("operations_max + one per socket are provided for"))
    }

    /// Gives an operation's request to the back end, at the next turn.
    pub(super) fn hand_over(&mut self, index: OperationIndex, action: Action) {
        let operation = &mut self.operations[index];
        operation.is_armed = true;
        let socket = operation.socket();
        self.in_kernel += 1;
        let handle = self.sockets[socket].endpoint.handle();
        self.requests.push(Request { key: self.operations.key(index), socket: socket.number(), handle, action });
    }

    /// True if the next turn hands sends over, of bytes or of datagrams: they may bring buffers back within it, and the end of a
    /// quiet one does not end its wait.
    //= STARVE-1
    pub(super) fn is_about_to_send(&self) -> bool {
        let is_send = |action| matches!(action, Action::Send(..) | Action::SendList(..) | Action::SendDatagram(..));
        self.requests.iter().any(|request| is_send(request.action))
    }

    /// The kernel no longer holds an operation's request.
    pub(super) fn taken_back(&mut self, index: OperationIndex) {
        self.operations[index].is_armed = false;
        self.in_kernel -= 1;
    }

    pub(super) fn request_cancel(&mut self, index: OperationIndex) {
        let socket = self.operations[index].socket();
        let handle = self.sockets[socket].endpoint.handle();
        let key = self.operations.key(index);
        self.requests.push(Request { key, socket: socket.number(), handle, action: Action::Cancel });
    }

    /// Asks the back end, once, to end the request of an operation.
    pub(super) fn cancel_in_kernel(&mut self, index: OperationIndex) {
        let operation = &mut self.operations[index];
        if !std::mem::replace(&mut operation.is_cancelled, true) && operation.is_armed {
            self.request_cancel(index);
        }
    }

    /// A report about an operation that goes on.
    // As `insert`.
    #[inline(always)]
    pub(super) fn item(&self, index: OperationIndex, outcome: Outcome) -> Completion {
        let operation = &self.operations[index];
        let (id, socket) = (self.id_of(index), self.socket_id(operation.socket()));
        Completion { token: operation.token, operation: id, socket, more: true, outcome }
    }

    pub(super) fn report(&mut self, index: OperationIndex, outcome: Outcome) {
        let completion = self.item(index, outcome);
        self.push(completion);
    }

    /// Ends an operation: its slot is free, and its one last completion is on its way.
    pub(super) fn complete(&mut self, index: OperationIndex, outcome: Outcome) {
        if let Some(completion) = self.end(index, outcome) {
            self.push(completion);
        }
    }

    /// The operation is the driver's own from now on. Returns the token that its caller had given.
    pub(super) fn disown(&mut self, index: OperationIndex) -> u64 {
        let operation = &mut self.operations[index];
        (operation.is_internal, operation.is_cancelled) = (true, false);
        self.user_operations -= 1;
        operation.token
    }

    /// Frees the slot of a caller's operation that the kernel had, without a word.
    #[inline]
    pub(super) fn clear_armed(&mut self, index: OperationIndex) {
        self.operations.clear(index);
        self.user_operations -= 1;
        self.in_kernel -= 1;
    }

    /// Frees an operation's slot and makes its last completion, unless nobody is to hear of it.
    //= ONCE-1
    pub(super) fn end(&mut self, index: OperationIndex, outcome: Outcome) -> Option<Completion> {
        let id = self.id_of(index);
        let operation = self.operations.remove(index).expect("an operation ends once");
        if operation.is_internal {
            return None;
        }
        self.user_operations -= 1;
        if operation.is_quiet && outcome.error().is_none() {
            return None;
        }
        let socket = operation.socket.map_or(SocketId::NONE, |socket| self.socket_id(socket));
        Some(Completion { token: operation.token, operation: id, socket, more: false, outcome })
    }

    /// Ends an operation that failed, with the buffer it carried.
    pub(super) fn fail(&mut self, index: OperationIndex, error: Error) {
        let operation = &mut self.operations[index];
        let (payload, transferred) = (operation.take_payload(), operation.done);
        self.complete(index, Outcome::Failed { error, payload, transferred });
    }

    #[inline]
    pub(super) fn push(&mut self, completion: Completion) {
        self.count(&completion);
        self.ready.push_back(completion);
    }

    /// Counts a completion, once.
    #[inline]
    pub(super) fn count(&mut self, completion: &Completion) {
        self.counters.totals.completions += 1;
        self.counters.totals.errors += u64::from(completion.outcome.error().is_some());
    }
}
