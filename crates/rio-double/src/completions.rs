//! Completion queues: what has ended and waits to be dequeued, who owns them, and the one notification.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::ThreadId;

use windows_sys::Win32::Networking::WinSock::{
    RIO_CORRUPT_CQ, RIO_CQ, RIO_MAX_CQ_SIZE, RIO_RQ, RIORESULT, WSAEALREADY, WSAEINVAL, WSAENOBUFS,
};

use super::bell::{Bell, Event, Notification};
use super::fault;
use super::overlapped::Ended;
use super::requests::{Request, SIDES, Side};
use super::rule::{Rule, refuse, violated};
use super::state::Double;

/// A completion that waits to be dequeued.
pub(crate) struct Ready {
    pub(crate) queue: RIO_RQ,
    pub(crate) side: Side,
    pub(crate) request: Request,
    pub(crate) ended: Ended,
}

/// A completion queue.
pub(crate) struct CompletionQueue {
    pub(crate) size: u32,
    /// Sum of the quotas of its request queues, also of closed ones while they have completions to come.
    pub(crate) reserved: u32,
    /// Posted, and their completions not dequeued.
    pub(crate) outstanding: u32,
    /// The thread that first used it after its creation.
    pub(crate) owner: Option<ThreadId>,
    pub(crate) ready: VecDeque<Ready>,
    pub(crate) event: Arc<Event>,
    notification: Option<Notification>,
    bell: Option<Bell>,
    is_armed: bool,
    is_corrupt: bool,
}

impl Double {
    /// RIOCreateCompletionQueue, up to the thread that waits: [`ring_by`](Self::ring_by).
    pub(crate) fn create_completions(&mut self, size: u32, notification: Option<Notification>) -> Result<RIO_CQ, i32> {
        if size == 0 || size > RIO_MAX_CQ_SIZE {
            return refuse(Rule::QueueSize, WSAEINVAL, format!("a queue of {size}"));
        }
        let id = self.next_id();
        let queue = CompletionQueue {
            size,
            reserved: 0,
            outstanding: 0,
            owner: None,
            ready: VecDeque::new(),
            event: Arc::new(Event::new()),
            notification,
            bell: None,
            is_armed: false,
            is_corrupt: false,
        };
        self.completion_queues.insert(id, queue);
        Ok(id)
    }

    /// Starts the thread that looks after the queue whenever an operation has ended.
    pub(crate) fn ring_by(&mut self, id: RIO_CQ, look: impl Fn() + Send + 'static) {
        let queue = self.completion(id);
        if queue.notification.is_some() {
            queue.bell = Some(Bell::new(queue.event.clone(), look));
        }
    }

    /// RIOResizeCompletionQueue.
    pub(crate) fn resize_completions(&mut self, id: RIO_CQ, size: u32) -> Result<(), i32> {
        self.check_usable(id)?;
        let queue = self.completion(id);
        if size < queue.reserved.max(1) || size > RIO_MAX_CQ_SIZE {
            let detail = format!("to {size}, with {} reserved", queue.reserved);
            return refuse(Rule::QueueSize, WSAEINVAL, detail);
        }
        queue.size = size;
        Ok(())
    }

    /// RIOCloseCompletionQueue. What it returns is to be stopped without the lock.
    pub(crate) fn close_completions(&mut self, id: RIO_CQ) -> Option<Bell> {
        self.check_owner(id).ok()?;
        let queue = self.completion_queues.remove(&id)?;
        if queue.outstanding > 0 && !queue.is_corrupt {
            violated(Rule::QueueHeld, format!("{} requests of queue {id} are outstanding", queue.outstanding));
        }
        self.request_queues.retain(|_, requests| requests.sides.iter().all(|side| side.completions != id));
        queue.bell
    }

    /// RIONotify.
    pub(crate) fn notify(&mut self, id: RIO_CQ) -> Result<(), i32> {
        self.check_usable(id)?;
        let queue = self.completion(id);
        let Some(notification) = queue.notification else {
            return refuse(Rule::NotificationMissing, WSAEINVAL, format!("queue {id}"));
        };
        if queue.is_armed {
            return refuse(Rule::NotifiedTwice, WSAEALREADY, format!("queue {id}"));
        }
        for (request_queue, side) in self.sides_of(id) {
            let deferred = self.request_queues[&request_queue].sides[side as usize].deferred.len();
            if deferred > 0 {
                let detail =
                    format!("{deferred} requests of queue {request_queue}, {side:?}, would be waited for in vain");
                violated(Rule::Uncommitted, detail);
            }
        }
        notification.prepare();
        let is_late = self.sides_of(id).any(|(queue, _)| self.request_queues[&queue].late_dequeues > 0);
        let queue = self.completion(id);
        queue.is_armed = true;
        if is_late || !queue.ready.is_empty() {
            queue.fire();
        }
        self.look(id);
        let queue = self.completion(id);
        if let (true, Some(bell)) = (queue.is_armed, &queue.bell) {
            // What has ended in between has set the event.
            bell.listen(true);
        }
        Ok(())
    }

    /// RIODequeueCompletion, at most `room` of them.
    pub(crate) fn dequeue(&mut self, id: RIO_CQ, room: usize) -> Result<Vec<RIORESULT>, u32> {
        if self.check_usable(id).is_err() {
            return Err(RIO_CORRUPT_CQ);
        }
        if fault::corrupts() {
            self.completion(id).is_corrupt = true;
            return Err(RIO_CORRUPT_CQ);
        }
        self.collect(id);
        let count = room.min(self.completion(id).ready.len());
        let ready: Vec<Ready> = self.completion(id).ready.drain(..count).collect();
        Ok(ready.into_iter().map(|ready| self.let_go(ready)).collect())
    }

    /// Tells the caller if he wants to know and something has ended. Called from the queue's thread, too: it moves
    /// nothing else.
    pub(crate) fn look(&mut self, id: RIO_CQ) {
        let Some(queue) = self.completion_queues.get(&id) else { return };
        if !queue.is_armed {
            return;
        }
        let has_ended = queue.ready.iter().any(|ready| !ready.request.is_silent)
            || self.sides_of(id).any(|(queue, side)| {
                let mut started = self.request_queues[&queue].sides[side as usize].started.iter();
                started.next().is_some_and(|first| first.operation.is_done() && !first.request.is_silent)
            });
        if has_ended {
            self.completion(id).fire();
        }
    }

    /// The first user is the owner.
    pub(crate) fn check_owner(&mut self, id: RIO_CQ) -> Result<(), i32> {
        let thread = std::thread::current();
        let Some(queue) = self.completion_queues.get_mut(&id) else {
            return refuse(Rule::UnknownHandle, WSAEINVAL, format!("there is no completion queue {id}"));
        };
        if *queue.owner.get_or_insert(thread.id()) != thread.id() {
            let detail = format!("thread '{}' uses queue {id} of another", thread.name().unwrap_or("?"));
            return refuse(Rule::ForeignThread, WSAEINVAL, detail);
        }
        Ok(())
    }

    /// A queue that exists; the caller has checked that.
    pub(crate) fn completion(&mut self, id: RIO_CQ) -> &mut CompletionQueue {
        self.completion_queues.get_mut(&id).expect("checked by the caller")
    }

    /// Takes room for the quotas of a request queue.
    pub(crate) fn reserve(&mut self, id: RIO_CQ, quota: u32) -> Result<(), i32> {
        self.check_usable(id)?;
        let queue = self.completion(id);
        let wanted = u64::from(queue.reserved) + u64::from(quota);
        if wanted > u64::from(queue.size) {
            let detail = format!("{quota} more than {} in a queue of {}", queue.reserved, queue.size);
            return refuse(Rule::QuotasOverflow, WSAENOBUFS, detail);
        }
        queue.reserved += quota;
        Ok(())
    }

    fn check_usable(&mut self, id: RIO_CQ) -> Result<(), i32> {
        self.check_owner(id)?;
        if self.completion(id).is_corrupt {
            return refuse(Rule::UsedCorrupt, WSAEINVAL, format!("queue {id}"));
        }
        Ok(())
    }

    /// Moves what has ended into the queue, in the order of each direction.
    fn collect(&mut self, id: RIO_CQ) {
        let sides: Vec<_> = self.sides_of(id).collect();
        for (queue, side) in sides {
            let Some(requests) = self.request_queues.get_mut(&queue) else { continue };
            if side == Side::Receive && requests.late_dequeues > 0 {
                requests.late_dequeues -= 1;
            }
            for (request, ended) in requests.harvest(side) {
                self.completion(id).ready.push_back(Ready { queue, side, request, ended });
            }
        }
        self.bring_late(id);
    }

    /// What came late after a close is there when its dequeues are over.
    fn bring_late(&mut self, id: RIO_CQ) {
        let mut late = std::mem::take(&mut self.late);
        for ready in late.drain(..) {
            let requests = self.request_queues.get(&ready.queue);
            let is_mine = requests.is_some_and(|requests| requests.sides[ready.side as usize].completions == id);
            let is_due = requests.is_none_or(|requests| requests.late_dequeues == 0);
            if is_mine && is_due {
                self.completion(id).ready.push_back(ready);
            } else if requests.is_some() {
                self.late.push(ready);
            }
        }
    }

    /// A completion is dequeued: only now received bytes appear, and the slices are the caller's again.
    fn let_go(&mut self, ready: Ready) -> RIORESULT {
        let Ready { queue: id, side, request, ended } = ready;
        if side == Side::Receive {
            self.regions.write(request.data, &ended.bytes[..(ended.count as usize).min(ended.bytes.len())]);
            request.remote.iter().for_each(|remote| self.regions.write(*remote, &ended.from));
        } else if self.regions.read(request.data) != ended.bytes {
            violated(Rule::SliceTouched, format!("a send of queue {id}, context {}", request.context));
        }
        self.regions.release(request.data);
        request.remote.iter().for_each(|remote| self.regions.release(*remote));
        let mut socket_context = 0;
        if let Some(queue) = self.request_queues.get_mut(&id) {
            socket_context = queue.context;
            let direction = &mut queue.sides[side as usize];
            direction.outstanding -= 1;
            let completions = direction.completions;
            self.completion(completions).outstanding -= 1;
            self.forget_closed(id);
        }
        RIORESULT {
            Status: ended.code,
            BytesTransferred: ended.count,
            SocketContext: socket_context,
            RequestContext: request.context,
        }
    }

    /// The queue of a closed socket is gone with its last completion, and its quotas are free.
    pub(crate) fn forget_closed(&mut self, id: RIO_RQ) {
        let is_over = |side: &super::requests::Direction| side.outstanding == 0;
        if self.request_queues.get(&id).is_some_and(|queue| queue.is_closed && queue.sides.iter().all(is_over)) {
            let Some(queue) = self.request_queues.remove(&id) else { return };
            for side in queue.sides {
                if let Some(completions) = self.completion_queues.get_mut(&side.completions) {
                    completions.reserved -= side.quota;
                }
            }
        }
    }

    /// The directions whose requests end in this queue.
    fn sides_of(&self, id: RIO_CQ) -> impl Iterator<Item = (RIO_RQ, Side)> {
        let all = self.request_queues.iter().flat_map(|(queue, requests)| SIDES.map(|side| (*queue, side, requests)));
        all.filter(move |(_, side, requests)| requests.sides[*side as usize].completions == id)
            .map(|(queue, side, _)| (queue, side))
    }
}

impl CompletionQueue {
    fn fire(&mut self) {
        if self.is_armed
            && let Some(notification) = self.notification
        {
            self.is_armed = false;
            self.bell.iter().for_each(|bell| bell.listen(false));
            notification.fire();
        }
    }
}
