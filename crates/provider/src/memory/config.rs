//! Size of the buffer pool.

use crate::base::error::Error;
use crate::base::range::{holds, in_range};
use crate::base::setting::Setting;
use crate::base::with::with;

with!(PoolConfig);

/// Size of the buffer pool. Memory is reserved at start and touched when it is first used.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PoolConfig {
    /// Bytes per ordinary buffer, a multiple of 4,096, at most 2^24.
    pub buffer_bytes: u32,
    /// Buffers for receiving, 1 to 32,768: at least the number of sockets that have bytes at the same moment.
    pub receive_count: u32,
    /// Buffers for the application's sends, at most as many as for receiving.
    pub send_count: u32,
    /// Bytes per bulk buffer, a multiple of 4,096, at most 2^24, for sockets whose receives fill an ordinary one twice in a row.
    pub bulk_bytes: u32,
    /// Number of bulk buffers, 1 to 32,768.
    pub bulk_count: u32,
}

impl Default for PoolConfig {
    /// 1,024 × 4 KiB for receiving: measured best between 64 and 1,000 busy sockets; larger rings fall out of the L2 cache.
    /// Bulk buffers hold 64 KiB and what a kernel writes in front of a datagram: with less, merged datagrams would have to be
    /// received one message at a time.
    fn default() -> Self {
        PoolConfig { buffer_bytes: 4096, receive_count: 1024, send_count: 1024, bulk_bytes: 69_632, bulk_count: 64 }
    }
}

impl PoolConfig {
    /// Checks all values. Errors: `InvalidInput` with the first setting that is out of range.
    pub(crate) fn check(&self) -> Result<(), Error> {
        for (setting, bytes) in [(Setting::BufferBytes, self.buffer_bytes), (Setting::BulkBytes, self.bulk_bytes)] {
            in_range(setting, bytes)?;
            holds(setting, bytes % 4096 == 0)?;
        }
        in_range(Setting::ReceiveCount, self.receive_count)?;
        in_range(Setting::BulkCount, self.bulk_count)?;
        in_range(Setting::SendCount, self.send_count)?;
        // At least half of the pool is for receiving.
        holds(Setting::SendCount, self.send_count <= self.receive_count)
    }
}
