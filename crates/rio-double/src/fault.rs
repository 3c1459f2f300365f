//! Faults on purpose, though the caller keeps every rule. They are set per thread: whoever calls next hears of them.

use std::cell::RefCell;

/// What is to fail on this thread from now on.
///
/// ```
/// # #[cfg(windows)]
/// rio_double::set_faults(rio_double::Faults { refused_requests: 1, ..Default::default() });
/// ```
#[derive(Clone, Copy, Default, Debug)]
pub struct Faults {
    /// So many sends and receives are refused with WSAENOBUFS, although their quota has room.
    pub refused_requests: u32,
    /// So many request queues are refused with WSAENOBUFS, although the completion queue has room.
    pub refused_queues: u32,
    /// The completions of a socket that closes come only after so many dequeues more.
    pub late_dequeues: u32,
    /// After so many dequeues more the completion queue is reported corrupt; 0: never.
    pub corrupt_dequeues: u32,
}

thread_local! {
    static FAULTS: RefCell<Faults> = RefCell::default();
}

/// Sets what fails on this thread, in place of what was set before.
pub fn set_faults(faults: Faults) {
    FAULTS.set(faults);
}

/// True if a request is to be refused.
pub(crate) fn refuses_request() -> bool {
    FAULTS.with_borrow_mut(|faults| count_down(&mut faults.refused_requests))
}

/// True if a queue is to be refused.
pub(crate) fn refuses_queue() -> bool {
    FAULTS.with_borrow_mut(|faults| count_down(&mut faults.refused_queues))
}

/// How many dequeues the completions of a closed socket are late.
pub(crate) fn late_dequeues() -> u32 {
    FAULTS.with_borrow(|faults| faults.late_dequeues)
}

/// True if this dequeue finds the queue corrupt.
pub(crate) fn corrupts() -> bool {
    FAULTS.with_borrow_mut(|faults| count_down(&mut faults.corrupt_dequeues) && faults.corrupt_dequeues == 0)
}

fn count_down(count: &mut u32) -> bool {
    let is_due = *count > 0;
    *count = count.saturating_sub(1);
    is_due
}
