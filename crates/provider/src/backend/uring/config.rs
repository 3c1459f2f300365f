//! Settings of io_uring.

use crate::base::with::with;

with!(UringConfig);

/// Set-up flags of a ring, best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum SetupTier {
    /// SINGLE_ISSUER + DEFER_TASKRUN (Linux 6.1).
    Defer,
    /// COOP_TASKRUN (5.19).
    Coop,
    /// Nothing special (5.11).
    Plain,
}

/// Settings of io_uring. The switches turn features off that the kernel has, to play an older one.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct UringConfig {
    /// The best tier to try.
    pub tier_first: SetupTier,
    /// Entries of the submission queue, 8 to 32,768; a value outside counts as the nearest of these. More requests than this per turn cost one more kernel entry each time.
    pub submission_entries: u32,
    /// Let one accept request serve many connections.
    pub multishot_accept: bool,
    /// Let one receive request serve many messages.
    pub multishot_receive: bool,
    /// Send datagrams by a plain send with an address; off, by a message.
    pub send_address: bool,
    /// Give the kernel receive buffers through a ring; off, by a request each.
    pub buffer_ring: bool,
    /// Let sends that go out at once leave no completion entry.
    pub skip_success: bool,
    /// Sends of at least this many bytes go without a copy; `None`: never. On loopback the kernel copies anyway.
    pub zero_copy_bytes_min: Option<u32>,
}

impl Default for UringConfig {
    fn default() -> Self {
        UringConfig {
            tier_first: SetupTier::Defer,
            submission_entries: 1024,
            multishot_accept: true,
            multishot_receive: true,
            send_address: true,
            buffer_ring: true,
            skip_success: true,
            zero_copy_bytes_min: None,
        }
    }
}
