//! The way into a driver from other threads: a bounded queue and one coalesced wake.
//!
//! Who sleeps and who wakes:
//! 1. The owner, about to wait: `state = ASLEEP`, full fence, looks into the queue once more; something there: no wait.
//! 2. A submitter: pushes, full fence, looks at `state`. ASLEEP: whoever swaps it to AWAKE wakes, so N submits make one
//!    wake. AWAKE: the owner is in its turn and looks into the queue before it next waits.
//!
//! On close: `closed` is set, pushes under way are waited for (`entering`), then the queue is emptied. So every value was
//! either refused or is found there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};

use crossbeam_queue::ArrayQueue;
use crossbeam_utils::{Backoff, CachePadded};

use crate::error::{ErrorKind, Refused};
use crate::operation::Operation;
use crate::provider::Waker;

/// What the mailbox carries.
pub(crate) enum Message {
    Submit(Operation, u64),
    Cancel(u64),
}

/// Shared between a driver and its submitters.
pub(crate) struct Mailbox {
    queue: ArrayQueue<Message>,
    is_asleep: CachePadded<AtomicBool>,
    entering: CachePadded<AtomicUsize>,
    closed: AtomicBool,
    wakes: AtomicU64,
    waker: Waker,
}

impl Mailbox {
    pub(crate) fn new(capacity: usize, waker: Waker) -> Arc<Self> {
        Arc::new(Mailbox {
            queue: ArrayQueue::new(capacity),
            is_asleep: CachePadded::new(AtomicBool::new(false)),
            entering: CachePadded::new(AtomicUsize::new(0)),
            closed: AtomicBool::new(false),
            wakes: AtomicU64::new(0),
            waker,
        })
    }

    /// Any thread: puts a message in, or gives it back.
    pub(crate) fn push(&self, message: Message) -> Result<(), Refused<Message>> {
        self.entering.fetch_add(1, Ordering::SeqCst);
        let pushed = if self.closed.load(Ordering::SeqCst) {
            Err(Refused::new(ErrorKind::Closed, message))
        } else {
            self.queue.push(message).map_err(|message| Refused::new(ErrorKind::Busy, message))
        };
        self.entering.fetch_sub(1, Ordering::SeqCst);
        if pushed.is_ok() {
            fence(Ordering::SeqCst);
            if self.is_asleep.load(Ordering::Relaxed) && self.is_asleep.swap(false, Ordering::AcqRel) {
                self.wakes.fetch_add(1, Ordering::Relaxed);
                self.waker.wake();
            }
        }
        pushed
    }

    /// Owner: the next message.
    pub(crate) fn pop(&self) -> Option<Message> {
        self.queue.pop()
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Owner: about to wait. False if there is something to do first.
    pub(crate) fn fall_asleep(&self) -> bool {
        self.is_asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.queue.is_empty() {
            return true;
        }
        self.awake();
        false
    }

    /// Owner: back from the wait.
    pub(crate) fn awake(&self) {
        if self.is_asleep.load(Ordering::Relaxed) {
            self.is_asleep.store(false, Ordering::Relaxed);
        }
    }

    /// Owner: refuses everything from now on. What is inside can still be popped, and nothing comes after it.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let backoff = Backoff::new();
        while self.entering.load(Ordering::SeqCst) > 0 {
            backoff.snooze();
        }
    }

    pub(crate) fn wakes(&self) -> u64 {
        self.wakes.load(Ordering::Relaxed)
    }
}
