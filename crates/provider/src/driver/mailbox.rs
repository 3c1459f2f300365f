//! The way into a driver from other threads: a bounded queue and one coalesced wake.
//!
//! Who sleeps and who wakes:
//! 1. The owner, about to wait: sets `is_asleep`, then looks into the queue once more; something there: no wait.
//! 2. A submitter: pushes, then looks at `is_asleep`. Set: whoever clears it wakes, so N submits make one wake. Clear: the
//!    owner is in its turn and looks into the queue before it next waits.
//!
//! 3. A wake without a message writes `is_woken` in place of the queue. It stays until a `poll` returns: whoever woke has
//!    left something elsewhere, and the caller of `poll` looks there next.
//!
//! Both write first and look second, in the one order of sequentially consistent operations (the queue moves its tail by
//! one of those), so at least one of them sees the other.
//!
//! On close: `closed` is set, pushes under way are waited for (`entering`), then the queue is emptied. So every value was
//! either refused or is found there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crossbeam_queue::ArrayQueue;
use crossbeam_utils::{Backoff, CachePadded};

use crate::base::capacity;
use crate::base::error::{Error, ErrorKind, Refused};
use crate::base::setting::Setting;
use crate::base::wake::Waker;
use crate::driver::operation::Operation;

/// What the mailbox carries.
pub(crate) enum Message {
    Submit(Operation, u64),
    Cancel(u64),
}

/// Shared between a driver and its submitters.
pub(crate) struct Mailbox {
    queue: ArrayQueue<Message>,
    is_asleep: CachePadded<AtomicBool>,
    is_woken: CachePadded<AtomicBool>,
    entering: CachePadded<AtomicUsize>,
    closed: AtomicBool,
    wakes: AtomicU64,
    waker: Waker,
}

impl Mailbox {
    /// With room for `capacity` messages. Errors: `OutOfMemory`.
    pub(crate) fn new(capacity: usize, waker: Waker) -> Result<Arc<Self>, Error> {
        // The queue's own allocation ends the process if it fails. A place has a message and the turn it belongs to.
        capacity::check(capacity::bytes_of::<(usize, Option<Message>)>(capacity), Setting::MailboxCapacity)?;
        Ok(Arc::new(Mailbox {
            queue: ArrayQueue::new(capacity),
            is_asleep: CachePadded::new(AtomicBool::new(false)),
            is_woken: CachePadded::new(AtomicBool::new(false)),
            entering: CachePadded::new(AtomicUsize::new(0)),
            closed: AtomicBool::new(false),
            wakes: AtomicU64::new(0),
            waker,
        }))
    }

    /// Any thread: puts a message in, or gives it back.
    #[allow(clippy::result_large_err, reason = "what is given back must not be allocated for")]
    pub(crate) fn push(&self, message: Message) -> Result<(), Refused<Message>> {
        self.entering.fetch_add(1, Ordering::SeqCst);
        let pushed = if self.closed.load(Ordering::SeqCst) {
            Err(Refused::new(ErrorKind::Closed, message))
        } else {
            self.queue.push(message).map_err(|message| Refused::new(ErrorKind::Busy, message))
        };
        self.entering.fetch_sub(1, Ordering::SeqCst);
        if pushed.is_ok() {
            self.rouse();
        }
        pushed
    }

    /// Any thread: the owner's present or next `poll` does not wait any longer.
    //= WAKE-1
    pub(crate) fn wake(&self) {
        self.is_woken.store(true, Ordering::SeqCst);
        self.rouse();
    }

    /// Wakes the owner if it sleeps and nobody else does so.
    fn rouse(&self) {
        if self.is_asleep.load(Ordering::SeqCst) && self.is_asleep.swap(false, Ordering::AcqRel) {
            self.wakes.fetch_add(1, Ordering::Relaxed);
            self.waker.wake();
        }
    }

    /// Owner: whether somebody woke it since the last call.
    pub(crate) fn take_wake(&self) -> bool {
        self.is_woken.load(Ordering::Relaxed) && self.is_woken.swap(false, Ordering::SeqCst)
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
        self.is_asleep.store(true, Ordering::SeqCst);
        if self.queue.is_empty() && !self.is_woken.load(Ordering::SeqCst) {
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

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};
    use std::time::Duration;

    use super::*;
    use crate::base::wake::Wake;

    #[derive(Default)]
    struct Bell(Mutex<bool>, Condvar);

    impl Wake for Bell {
        fn wake(&self) {
            *self.0.lock().unwrap() = true;
            self.1.notify_one();
        }
    }

    impl Bell {
        /// False if nobody rang for a long time.
        fn wait(&self) -> bool {
            let rung = self.0.lock().unwrap();
            let (mut rung, timeout) = self.1.wait_timeout_while(rung, Duration::from_secs(20), |rung| !*rung).unwrap();
            *rung = false;
            !timeout.timed_out()
        }
    }

    const PRODUCERS: u64 = 4;
    const EACH: u64 = 20_000;

    #[test]
    fn a_sleeping_owner_hears_of_every_message() {
        let bell = Arc::new(Bell::default());
        let mailbox = Mailbox::new(64, bell.clone()).unwrap();
        let producers: Vec<_> = (0..PRODUCERS).map(|_| std::thread::spawn(produce(mailbox.clone()))).collect();
        let mut received = 0;
        while received < PRODUCERS * EACH {
            if mailbox.fall_asleep() {
                assert!(bell.wait(), "a message came and nobody woke the owner: {received} received");
                mailbox.awake();
            }
            while mailbox.pop().is_some() {
                received += 1;
            }
        }
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        assert!(mailbox.wakes() <= received);
    }

    fn produce(mailbox: Arc<Mailbox>) -> impl FnOnce() {
        move || {
            for token in 0..EACH {
                while mailbox.push(Message::Cancel(token)).is_err() {
                    std::thread::yield_now();
                }
            }
        }
    }

    #[test]
    fn a_wake_is_heard_by_a_sleeper_and_by_one_that_has_not_lain_down_yet() {
        let mailbox = Mailbox::new(64, Arc::new(Bell::default())).unwrap();
        assert!(mailbox.fall_asleep());
        (0..10).for_each(|_| mailbox.wake());
        assert_eq!(mailbox.wakes(), 1, "ten wakes are one");
        assert!(mailbox.take_wake() && !mailbox.take_wake());
        mailbox.wake();
        assert!(!mailbox.fall_asleep(), "it came before the sleep");
        assert!(mailbox.take_wake());
        assert!(mailbox.fall_asleep());
    }

    #[test]
    fn after_close_a_message_was_refused_or_is_inside() {
        for _ in 0..200 {
            let mailbox = Mailbox::new(1 << 16, Arc::new(Bell::default())).unwrap();
            let producers: Vec<_> = (0..PRODUCERS)
                .map(|_| {
                    let mailbox = mailbox.clone();
                    std::thread::spawn(move || {
                        (0u64..).take_while(|n| mailbox.push(Message::Cancel(*n)).is_ok()).count()
                    })
                })
                .collect();
            while mailbox.len() < 100 {
                std::thread::yield_now();
            }
            mailbox.close();
            let inside = std::iter::from_fn(|| mailbox.pop()).count();
            let taken: usize = producers.into_iter().map(|producer| producer.join().unwrap()).sum();
            assert_eq!(taken, inside);
            assert!(mailbox.pop().is_none());
        }
    }

    #[test]
    fn many_messages_wake_a_sleeper_once() {
        let mailbox = Mailbox::new(64, Arc::new(Bell::default())).unwrap();
        assert!(mailbox.fall_asleep());
        (0..10).for_each(|token| assert!(mailbox.push(Message::Cancel(token)).is_ok()));
        assert_eq!(mailbox.wakes(), 1);
        assert!(!mailbox.fall_asleep(), "there is something to do first");
    }
}
