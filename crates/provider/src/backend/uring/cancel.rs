//! Cancels, by the number of the request.
//!
//! A request that the kernel is just about to try again is in none of the places where a cancel looks: the answer is
//! ENOENT, as if it had ended. A send to a peer that has ended its own direction is in that state most of the time, for
//! the socket then counts as ready though it has no room. So a cancel that finds nothing is repeated with the next turn
//! as long as the request has not ended. After 128 tries at the latest the request is in a thread, where it is found.

use super::Uring;
use super::entries::{self, Tag};
use crate::base::capacity;
use crate::base::error::Error;
use crate::base::setting::Setting;
use crate::contract::RequestKey;

/// What the kernel has of each operation slot, and the cancels that have not found it.
pub(super) struct UnderWay {
    /// The request's user data; 0: none.
    requests: Vec<u64>,
    again: Vec<RequestKey>,
}

impl UnderWay {
    /// For so many slots. Errors: `OutOfMemory`.
    pub(super) fn new(slots: usize) -> Result<Self, Error> {
        Ok(UnderWay { requests: capacity::vector(slots, Setting::OperationsMax)?, again: Vec::new() })
    }

    /// The request of this key is in the kernel, under this tag.
    pub(super) fn add(&mut self, tag: Tag, key: RequestKey) {
        let index = key.index() as usize;
        if self.requests.len() <= index {
            self.requests.resize(index + 1, 0);
        }
        self.requests[index] = entries::user_data(tag, key);
    }

    /// It has ended, or can no longer be stopped.
    pub(super) fn remove(&mut self, key: RequestKey) {
        // A slot has no next tenant before this one's end is delivered.
        self.requests[key.index() as usize] = 0;
    }

    fn find(&self, key: RequestKey) -> Option<u64> {
        let request = self.requests.get(key.index() as usize).copied()?;
        (request != 0 && entries::split(request).1 == key).then_some(request)
    }
}

impl Uring {
    /// False: the queue has no room for it in this turn.
    pub(super) fn start_cancel(&mut self, key: RequestKey) -> bool {
        let Some(target) = self.under_way.find(key) else { return true };
        self.push_entry(entries::cancel(target).user_data(entries::user_data(Tag::Cancel, key)))
    }

    /// Those that have found nothing in the turn before.
    pub(super) fn cancel_again(&mut self) {
        let mut again = std::mem::take(&mut self.under_way.again);
        again.retain(|key| !self.start_cancel(*key));
        self.under_way.again = again;
    }

    /// The answer of a cancel.
    pub(super) fn cancelled(&mut self, key: RequestKey, result: i32) {
        if result == -libc::ENOENT {
            self.under_way.again.push(key);
        }
    }
}
