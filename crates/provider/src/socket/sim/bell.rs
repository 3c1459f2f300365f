//! Bell of a simulated driver, which sleeps on it when nothing will ever happen in its network by itself.
#![forbid(unsafe_code)]

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::wake::Wake;

/// SetupTier by the network when something changes for a driver, and by whoever wakes it.
#[derive(Default)]
pub(crate) struct Bell {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Something has changed in the network.
    is_rung: bool,
    /// The wait is to end.
    is_woken: bool,
}

impl Bell {
    /// Something has changed: look again.
    pub(crate) fn ring(&self) {
        self.state().is_rung = true;
        self.changed.notify_one();
    }

    /// True, once, if a wake has come.
    pub(crate) fn take_wake(&self) -> bool {
        std::mem::take(&mut self.state().is_woken)
    }

    /// Sleeps until it is rung or woken; false if that has not come within `patience` of real time.
    pub(crate) fn sleep(&self, patience: Duration) -> bool {
        let is_quiet = |state: &mut State| !state.is_rung && !state.is_woken;
        let slept = self.changed.wait_timeout_while(self.state(), patience, is_quiet);
        let (mut state, timeout) = slept.unwrap_or_else(PoisonError::into_inner);
        state.is_rung = false;
        !timeout.timed_out()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Bell {
    fn wake(&self) {
        self.state().is_woken = true;
        self.changed.notify_one();
    }
}
