//! Acceptor: it gives each connection to the worker that has the fewest.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use raon_provider::{AcceptedSocket, Operation, SocketId, Submitter};

use super::HANDED_OVER;

/// Connections per worker, those on their way to it included.
pub(crate) struct Loads(Vec<AtomicUsize>);

impl Loads {
    /// None yet.
    pub(crate) fn new(workers: usize) -> Self {
        Loads((0..workers).map(|_| AtomicUsize::new(0)).collect())
    }

    /// A worker has one connection less.
    pub(crate) fn leave(&self, worker: usize) {
        self.0[worker].fetch_sub(1, Ordering::Relaxed);
    }

    fn join(&self, worker: usize) {
        self.0[worker].fetch_add(1, Ordering::Relaxed);
    }

    fn least(&self) -> usize {
        let loads = self.0.iter().enumerate();
        loads.min_by_key(|(_, load)| load.load(Ordering::Relaxed)).map_or(0, |(worker, _)| worker)
    }
}

/// Where a connection went.
pub(crate) enum Place {
    /// To this worker: adopt it. It is counted already.
    Here(AcceptedSocket),
    /// To another, through its submitter.
    Elsewhere,
}

/// The accepting worker's view of the others.
pub(crate) struct Acceptor {
    listener: SocketId,
    loads: Arc<Loads>,
    /// Of workers 1 and up.
    colleagues: Vec<Submitter>,
}

impl Acceptor {
    /// Accepts for worker 0 and its colleagues, workers 1 and up.
    pub(crate) fn new(listener: SocketId, loads: Arc<Loads>, colleagues: Vec<Submitter>) -> Self {
        Acceptor { listener, loads, colleagues }
    }

    /// What connections come from.
    pub(crate) fn listener(&self) -> SocketId {
        self.listener
    }

    /// Gives a connection to the least loaded worker; to this one if that one's mailbox is full.
    pub(crate) fn place(&self, connection: AcceptedSocket) -> Place {
        let worker = self.loads.least();
        let Some(colleague) = worker.checked_sub(1).and_then(|index| self.colleagues.get(index)) else {
            self.loads.join(0);
            return Place::Here(connection);
        };
        self.loads.join(worker);
        match colleague.submit(Operation::Adopt { socket: connection }, HANDED_OVER) {
            Ok(()) => Place::Elsewhere,
            Err(refused) => {
                self.loads.leave(worker);
                self.loads.join(0);
                let Operation::Adopt { socket } = refused.value else {
                    unreachable!("what comes back is what went in")
                };
                Place::Here(socket)
            }
        }
    }
}
