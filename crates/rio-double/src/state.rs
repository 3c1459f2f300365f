//! Everything that exists, behind one lock; sockets, and how they begin and end.

use std::collections::{BTreeMap, HashMap};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use windows_sys::Win32::Networking::WinSock::{
    RIO_CQ, RIO_RQ, SOCKET, WSA_FLAG_OVERLAPPED, WSA_FLAG_REGISTERED_IO, WSAEINVAL, WSAENOBUFS, WSAENOTSOCK,
};

use super::completions::{CompletionQueue, Ready};
use super::fault;
use super::memory::Regions;
use super::overlapped::{is_datagram, thread_number};
use super::requests::{Direction, RequestQueue};
use super::rule::{Rule, refuse, violated};

/// All that was created and has not ended, of all threads.
#[derive(Default)]
pub(crate) struct Double {
    ids: isize,
    pub(crate) regions: Regions,
    /// In the order of creation, so that what is dequeued does not depend on a hash.
    pub(crate) request_queues: BTreeMap<RIO_RQ, RequestQueue>,
    pub(crate) completion_queues: HashMap<RIO_CQ, CompletionQueue>,
    /// Completions of closed sockets that are to come late.
    pub(crate) late: Vec<Ready>,
    sockets: HashMap<SOCKET, SocketRecord>,
}

struct SocketRecord {
    is_flagged: bool,
    queue: Option<RIO_RQ>,
}

/// What is left of this thread's: 0 of each when all has been given back.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Remains {
    /// Completion queues that this thread owns.
    pub completion_queues: usize,
    /// Request queues whose completions come there.
    pub request_queues: usize,
    /// Requests whose completions have not been dequeued.
    pub requests: usize,
}

/// Counts what this thread has not given back.
pub fn remains() -> Remains {
    let double = lock();
    let thread = std::thread::current().id();
    let own = || double.completion_queues.iter().filter(move |(_, queue)| queue.owner == Some(thread));
    let is_own = |queue: &&RequestQueue| own().any(|(id, _)| queue.sides.iter().any(|side| side.completions == *id));
    Remains {
        completion_queues: own().count(),
        request_queues: double.request_queues.values().filter(is_own).count(),
        requests: own().map(|(_, queue)| queue.outstanding as usize).sum(),
    }
}

/// A socket was made, with these flags of `WSASocketW`. To be called for every socket that may get a request queue.
pub fn socket_made(socket: SOCKET, flags: u32) {
    let wanted = WSA_FLAG_OVERLAPPED | WSA_FLAG_REGISTERED_IO;
    let record = SocketRecord { is_flagged: flags & wanted == wanted, queue: None };
    let mut double = lock();
    let before = double.sockets.insert(socket, record);
    if let Some(queue) = before.and_then(|before| before.queue) {
        violated(Rule::CloseUnannounced, format!("socket {socket} is new, but has queue {queue}"));
        double.close_requests(queue);
    }
}

/// What the system would say if it were asked for a request queue: whether the socket was made with the flags.
pub fn is_registered(socket: SOCKET) -> bool {
    lock().sockets.get(&socket).is_some_and(|record| record.is_flagged)
}

/// A socket is about to be closed: `closesocket` follows. Ends its requests and waits until the system has let go.
pub fn socket_closing(socket: SOCKET) {
    let mut double = lock();
    if let Some(queue) = double.sockets.remove(&socket).and_then(|record| record.queue) {
        double.close_requests(queue);
    }
}

/// The thread that has the lock, by its number; 0: none.
static INSIDE: AtomicU32 = AtomicU32::new(0);

/// True if this thread is inside the double, for whoever counts what a thread does apart from that. Asks for no memory.
pub fn is_inside() -> bool {
    INSIDE.load(Ordering::Relaxed) == thread_number()
}

/// The one of the process, locked.
pub(crate) struct Locked(MutexGuard<'static, Double>);

/// Takes the lock.
pub(crate) fn lock() -> Locked {
    static DOUBLE: OnceLock<Mutex<Double>> = OnceLock::new();
    let guard = DOUBLE.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    INSIDE.store(thread_number(), Ordering::Relaxed);
    Locked(guard)
}

impl Drop for Locked {
    fn drop(&mut self) {
        INSIDE.store(0, Ordering::Relaxed);
    }
}

impl Deref for Locked {
    type Target = Double;

    fn deref(&self) -> &Double {
        &self.0
    }
}

impl DerefMut for Locked {
    fn deref_mut(&mut self) -> &mut Double {
        &mut self.0
    }
}

impl Double {
    /// A number that nothing had before, so that what is gone is never taken for what came after.
    pub(crate) fn next_id(&mut self) -> isize {
        self.ids += 1;
        self.ids
    }

    /// RIOCreateRequestQueue. `quotas` and `data_buffers` are of receives and of sends.
    pub(crate) fn create_requests(
        &mut self,
        socket: SOCKET,
        quotas: [u32; 2],
        data_buffers: [u32; 2],
        completions: [RIO_CQ; 2],
        context: u64,
    ) -> Result<RIO_RQ, i32> {
        match self.sockets.get(&socket) {
            Some(SocketRecord { is_flagged: true, queue: None }) => {}
            Some(SocketRecord { is_flagged: true, queue: Some(queue) }) => {
                return refuse(Rule::SecondQueue, WSAEINVAL, format!("socket {socket} has queue {queue}"));
            }
            known => {
                let detail = if known.is_some() { "made without a flag" } else { "not made by the caller's one way" };
                return refuse(Rule::SocketUnflagged, WSAENOTSOCK, format!("socket {socket} was {detail}"));
            }
        }
        if data_buffers != [1, 1] {
            return refuse(Rule::SliceCount, WSAEINVAL, format!("a queue for {data_buffers:?} data buffers"));
        }
        if fault::refuses_queue() {
            return Err(WSAENOBUFS);
        }
        self.reserve(completions[0], quotas[0])?;
        if let Err(code) = self.reserve(completions[1], quotas[1]) {
            self.completion(completions[0]).reserved -= quotas[0];
            return Err(code);
        }
        let id = self.next_id();
        let [receive, send] = [0, 1].map(|side| Direction::new(quotas[side], completions[side]));
        let sides = [receive, send];
        let is_datagram = is_datagram(socket);
        let queue = RequestQueue { socket, is_datagram, context, is_closed: false, late_dequeues: 0, sides };
        self.request_queues.insert(id, queue);
        self.sockets.insert(socket, SocketRecord { is_flagged: true, queue: Some(id) });
        Ok(id)
    }

    /// RIOResizeRequestQueue.
    pub(crate) fn resize_requests(&mut self, id: RIO_RQ, quotas: [u32; 2]) -> Result<(), i32> {
        let Some(queue) = self.request_queues.get(&id).filter(|queue| !queue.is_closed) else {
            return refuse(Rule::UnknownHandle, WSAEINVAL, format!("there is no request queue {id}"));
        };
        let sides = [0, 1].map(|side| (queue.sides[side].completions, queue.sides[side].quota));
        let outstanding = [0, 1].map(|side| queue.sides[side].outstanding);
        if quotas[0] < outstanding[0] || quotas[1] < outstanding[1] {
            return refuse(Rule::QuotaExceeded, WSAEINVAL, format!("{quotas:?}, with {outstanding:?} outstanding"));
        }
        for side in [0, 1] {
            let (completions, before) = sides[side];
            self.reserve(completions, quotas[side].saturating_sub(before))?;
            self.completion(completions).reserved -= before.saturating_sub(quotas[side]);
            if let Some(queue) = self.request_queues.get_mut(&id) {
                queue.sides[side].quota = quotas[side];
            }
        }
        Ok(())
    }

    /// The socket of a request queue closes: its requests end, and wait to be dequeued.
    fn close_requests(&mut self, id: RIO_RQ) {
        let Some(queue) = self.request_queues.get(&id) else { return };
        let completions = queue.sides.each_ref().map(|side| side.completions);
        if completions.into_iter().any(|completions| self.check_owner(completions).is_err()) {
            return;
        }
        let Some(queue) = self.request_queues.get_mut(&id) else { return };
        let (is_let_go, ended) = queue.close();
        assert!(is_let_go, "the system does not let go of what was cancelled on socket {}", queue.socket);
        let is_late = queue.late_dequeues > 0;
        for (side, request, ended) in ended {
            let ready = Ready { queue: id, side, request, ended };
            if is_late {
                self.late.push(ready);
            } else {
                self.completion(completions[side as usize]).ready.push_back(ready);
            }
        }
        self.forget_closed(id);
        completions.into_iter().for_each(|completions| self.look(completions));
    }
}
