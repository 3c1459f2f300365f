//! Settings of I/O completion ports.

use crate::base::error::Error;
use crate::base::range::in_range;
use crate::base::setting::Setting;
use crate::base::with::with;

with!(IocpConfig);

/// Settings of I/O completion ports, and to what else waits at them. The switches turn features off that the system
/// has, to play one that lacks them.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct IocpConfig {
    /// Sockets made ahead for each listener, 1 to 1,024: so many connections can come in between two turns without waiting
    /// for a socket.
    pub accepts_ahead: u32,
    /// Let operations that end at once leave no completion.
    pub skip_on_success: bool,
    /// Let a high-resolution timer end short waits.
    pub precise_waits: bool,
}

impl Default for IocpConfig {
    fn default() -> Self {
        IocpConfig { accepts_ahead: 16, skip_on_success: true, precise_waits: true }
    }
}

impl IocpConfig {
    /// Checks all values. Errors: `InvalidInput` with the first setting that is out of range.
    pub(crate) fn check(&self) -> Result<(), Error> {
        in_range(Setting::AcceptsAhead, self.accepts_ahead)
    }
}
