//! Settings of registered I/O.

use std::time::Duration;

use crate::base::error::Error;
use crate::base::range::{holds, in_range};
use crate::base::setting::Setting;
use crate::base::with::with;
use crate::platform::rio::RioFunctions;

with!(RioConfig);

/// Settings of registered I/O. Its memory is locked: registered when the first socket needs it, never given back
/// before the driver ends.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RioConfig {
    /// For tests: functions that take the place of the system's. `None`: the system is asked.
    pub functions: Option<RioFunctions>,
    /// Bytes that one receive of a stream brings at most, 512 to 2^20. Each socket that receives holds so many.
    pub receive_bytes: u32,
    /// Bytes that one send takes at most, 512 to 2^20; longer ones leave in several.
    pub send_bytes: u32,
    /// Sends of one socket under way at once, 1 to 64: together with `send_bytes` the most that can be on its way to a peer
    /// that has not confirmed it.
    pub sends_ahead: u32,
    /// Datagrams of one socket that can arrive between two turns, 1 to 1,024; the system's own queue holds more.
    pub datagrams_ahead: u32,
    /// Places in the completion queue at first, 1 to 2^27; it grows by half when sockets need more.
    pub completions_first: u32,
    /// Places in the completion queue at most, 1 to 2^27. A socket whose requests have no place is `Busy`.
    pub completions_max: u32,
    /// Time for which a turn looks again and again before it sleeps, at most a second. A wake from another thread is heard after that.
    pub poll: Duration,
}

impl Default for RioConfig {
    /// 64 KiB under way per socket are enough for 10 Mbit/s at 50 ms.
    fn default() -> Self {
        RioConfig {
            functions: None,
            receive_bytes: 4096,
            send_bytes: 16 * 1024,
            sends_ahead: 4,
            datagrams_ahead: 4,
            completions_first: 1024,
            completions_max: 1 << 27,
            poll: Duration::ZERO,
        }
    }
}

impl RioConfig {
    /// Checks all values. Errors: `InvalidInput` with the first setting that is out of range.
    pub(crate) fn check(&self) -> Result<(), Error> {
        in_range(Setting::RioReceiveBytes, self.receive_bytes)?;
        in_range(Setting::RioSendBytes, self.send_bytes)?;
        in_range(Setting::RioSendsAhead, self.sends_ahead)?;
        in_range(Setting::RioDatagramsAhead, self.datagrams_ahead)?;
        in_range(Setting::RioCompletionsFirst, self.completions_first)?;
        in_range(Setting::RioCompletionsMax, self.completions_max)?;
        holds(Setting::RioPoll, self.poll <= Duration::from_secs(1))
    }
}
