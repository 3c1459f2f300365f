//! Common part of server and load where they speak UDP: how long datagrams may be, and where they are kept.

use raon_provider::{Address, BindOptions, PoolConfig};

/// The longest datagram that `raon` sends or takes, in bytes. IPv4 takes 65,507.
pub(crate) const BYTES_MAX: u32 = 65_000;
/// The longest one that a buffer of the ordinary size takes, in bytes.
pub(crate) const BYTES_ORDINARY: u32 = BUFFER_BYTES - OVERHEAD_BYTES;

const BUFFER_BYTES: u32 = 4096;
/// What the provider needs beside a datagram in its buffer.
const OVERHEAD_BYTES: u32 = 128;
/// Asked of the system for either direction of a socket; it gives at most net.core.rmem_max and wmem_max.
const QUEUE_BYTES: u32 = 4 << 20;

/// Ordinary buffers that take datagrams of so many bytes, at most 16 MiB for receiving. Bulk buffers are few and meant
/// for streams: a burst of datagrams would find none.
pub(crate) fn pool(datagram_bytes_max: u32) -> PoolConfig {
    const RECEIVE_BYTES_MAX: u32 = 16 << 20;
    let default = PoolConfig::default();
    let buffer_bytes = (datagram_bytes_max + OVERHEAD_BYTES).next_multiple_of(BUFFER_BYTES);
    let count = (RECEIVE_BYTES_MAX / buffer_bytes).min(default.receive_count);
    default.with(|pool| {
        pool.buffer_bytes = buffer_bytes;
        pool.receive_count = count;
        pool.send_count = count;
        pool.bulk_count = 1;
    })
}

/// A socket for datagrams of so many bytes.
pub(crate) fn bind_options(datagram_bytes_max: u32) -> BindOptions {
    let queue_bytes = Some(QUEUE_BYTES);
    let default = BindOptions::default();
    default.with(|options| {
        options.datagram_bytes_max = datagram_bytes_max;
        options.receive_queue_bytes = queue_bytes;
        options.send_queue_bytes = queue_bytes;
    })
}

/// Why datagrams do not go to a Unix socket, and what to do.
pub(crate) fn no_names(address: &Address, option: &str) -> String {
    format!("--udp is between IP addresses, not {address}: write {option} ADDRESS:PORT, or drop --udp")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_fit_the_datagrams() {
        for bytes in [1, BYTES_ORDINARY, BYTES_ORDINARY + 1, BYTES_MAX] {
            let pool = pool(bytes);
            assert!(pool.buffer_bytes - OVERHEAD_BYTES >= bytes && pool.buffer_bytes <= 65_536);
            assert!(pool.receive_count >= 256 && pool.receive_count * pool.buffer_bytes <= 16 << 20);
        }
        assert_eq!(pool(BYTES_ORDINARY).receive_count, PoolConfig::default().receive_count);
    }
}
