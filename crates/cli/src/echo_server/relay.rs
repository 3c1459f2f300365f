//! Relay: what came in goes out in order, in the same buffer. A client that does not read is paused; only then is anything kept
//! for it here.

use std::collections::{HashMap, VecDeque};

use raon_provider::{Buffer, Driver, ErrorKind, Payload, SocketId};

/// The clients that do not read fast enough.
pub(crate) struct Relay {
    blocked: HashMap<u64, Blocked>,
    /// Receive buffers that may sit in queues of clients that do not read; beyond it bytes are copied.
    buffers_queued_max: usize,
    /// Clients that do not read hold so many buffers that the others may soon find none.
    is_scarce: bool,
}

/// What one blocked client is owed, in order.
#[derive(Default)]
struct Blocked {
    owed: VecDeque<Payload>,
    /// It has ended its side: close it once it has all.
    has_ended: bool,
}

impl Relay {
    /// For a driver with so many receive buffers.
    pub(crate) fn new(receive_buffers: usize) -> Self {
        Relay { blocked: HashMap::new(), buffers_queued_max: receive_buffers / 2, is_scarce: false }
    }

    /// Once per turn: how many buffers are lent, beside those that have just come.
    pub(crate) fn look_at_pool(&mut self, driver: &mut Driver, just_come: usize) {
        let queued = driver.pool_state().lent.saturating_sub(just_come);
        self.is_scarce = queued > self.buffers_queued_max;
    }

    /// Sends received bytes back, or keeps them until the client has room.
    pub(crate) fn echo(&mut self, driver: &mut Driver, token: u64, socket: SocketId, bytes: Buffer) {
        let payload = if self.is_scarce { Payload::Vec(bytes.to_vec()) } else { Payload::Buffer(bytes) };
        if !self.blocked.is_empty() {
            // They were taken from the kernel before the pause.
            if let Some(blocked) = self.blocked.get_mut(&token) {
                return blocked.owed.push_back(payload);
            }
        }
        if let Some(payload) = send(driver, token, socket, payload) {
            // Its socket is open, as Busy says.
            let _ = driver.pause(socket);
            self.blocked.insert(token, Blocked { owed: VecDeque::from([payload]), has_ended: false });
        }
    }

    /// A blocked client has room again. True if it has ended its side and all is on its way to it now.
    pub(crate) fn on_writable(&mut self, driver: &mut Driver, token: u64, socket: SocketId) -> bool {
        let Some(blocked) = self.blocked.get_mut(&token) else { return false };
        while let Some(payload) = blocked.owed.pop_front() {
            if let Some(payload) = send(driver, token, socket, payload) {
                blocked.owed.push_front(payload);
                return false;
            }
        }
        let has_ended = blocked.has_ended;
        self.blocked.remove(&token);
        if !has_ended {
            // Stale if it failed meanwhile: nothing to resume then.
            let _ = driver.resume(socket);
        }
        has_ended
    }

    /// The client has ended its side. True if it is owed bytes yet, so that [`on_writable`](Self::on_writable) will tell.
    pub(crate) fn ends_later(&mut self, token: u64) -> bool {
        let blocked = self.blocked.get_mut(&token);
        blocked.map(|blocked| blocked.has_ended = true).is_some()
    }

    /// The client is gone.
    pub(crate) fn forget(&mut self, token: u64) {
        if !self.blocked.is_empty() {
            self.blocked.remove(&token);
        }
    }
}

/// Queues a send. The payload comes back if the client has no room; if the socket is closing it goes nowhere.
fn send(driver: &mut Driver, token: u64, socket: SocketId, payload: Payload) -> Option<Payload> {
    match driver.send_quiet(socket, payload, token) {
        Err(refused) if refused.error.kind() == ErrorKind::Busy => Some(refused.value),
        _ => None,
    }
}
