//! The end of a driver: everything is cancelled, and the back end is turned until it holds nothing, at most until
//! `Config::drain_deadline`. What it still holds then is leaked and counted, never freed.

use std::time::{Duration, Instant};

use super::Driver;
use crate::base::index::{OperationIndex, SocketIndex, Table};
use crate::base::slots::Slots;
use crate::base::time;
use crate::contract::stats;
use crate::driver::completion::Completions;
use crate::driver::mailbox::Message;
use crate::driver::queued::Body;
use crate::driver::socket::Closing;
use crate::driver::timer::cancel_timer;

/// Pause of a drain whose turns fail.
const DRAIN_RETRY: Duration = Duration::from_millis(1);

impl Driver {
    /// Ends everything: refuses what comes, cancels what is there, waits (at most `Config::drain_deadline`) until the
    /// kernel has let go, and adds all that ended to `completions`, whose capacity does not bound it here. Whatever was
    /// accepted, also by submitters, is then reported there. A peer is never waited for.
    //= DROP-1
    pub fn shutdown(&mut self, completions: &mut Completions) {
        self.shut_down();
        completions.queue.append(&mut self.core.ready);
    }

    fn shut_down(&mut self) {
        if std::mem::replace(&mut self.core.is_shut, true) {
            return;
        }
        self.mailbox.close();
        while let Some(message) = self.mailbox.pop() {
            if let Message::Submit(operation, token) = message {
                self.submit_mailed(operation, token);
            }
        }
        let timers: Vec<OperationIndex> = self
            .core
            .operations
            .indices()
            .filter(|index| matches!(self.core.operations[*index].body, Body::Timer { .. }))
            .collect();
        timers.into_iter().for_each(|index| cancel_timer(&mut self.core, index));
        let sockets: Vec<SocketIndex> = self.core.sockets.indices().collect();
        for index in sockets {
            if let Some(entry) = self.core.sockets.get(index).filter(|entry| !entry.is_aborting()) {
                let token = if let Closing::Graceful { token, .. } = entry.closing { token } else { 0 };
                self.parts.abort(&mut self.core, index, token);
            }
        }
        self.drain();
    }

    /// Turns the back end until it holds nothing of ours, or the deadline has passed.
    fn drain(&mut self) {
        let deadline = self.core.config.drain_deadline.min(time::DRAIN_MAX);
        let start = Instant::now();
        while self.core.in_kernel > 0 && start.elapsed() < deadline {
            let wait = Some(Duration::from_millis(10).min(deadline));
            // An error here is no reason to free what the kernel may still hold: try again until the deadline.
            if self.core.provider.turn(&mut self.core.requests, wait, &mut self.core.pool, &mut self.events).is_err() {
                std::thread::sleep(DRAIN_RETRY);
            }
            self.core.now_ns = self.core.profile.clock.now_ns();
            self.events.drain(..).for_each(|event| self.parts.dispatch(&mut self.core, event));
        }
    }
}

impl Drop for Driver {
    //= DROP-1
    fn drop(&mut self) {
        self.shut_down();
        if self.core.in_kernel > 0 {
            stats::count_leaked(self.core.in_kernel as u64);
            let empty = Table::of(Slots::new(0, 1));
            std::mem::forget(std::mem::replace(&mut self.core.operations, empty));
            self.parts.sends.leak();
            self.core.pool.leak();
        }
    }
}
