//! Calls that Linux, macOS and FreeBSD have in common: limits of descriptors, and Unix sockets.

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, rlim_t, setrlimit};

use super::Limit;

/// A connection to a socket of this machine that has a name instead of a port.
pub(crate) use std::os::unix::net::UnixStream as LocalStream;

/// Raises the soft limit of descriptors to the hard one. Returns what then counts.
pub(crate) fn raise_descriptor_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return u64::MAX };
    let is_raised = soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    finite(if is_raised { hard } else { soft }).unwrap_or(u64::MAX)
}

pub(super) fn limit(resource: Resource) -> Limit {
    // getrlimit(2) fails for unknown resources and bad pointers only.
    let (soft, hard) = getrlimit(resource).unwrap_or((RLIM_INFINITY, RLIM_INFINITY));
    Limit { soft: finite(soft), hard: finite(hard) }
}

/// A limit as a number; the systems have different types for it.
fn finite(value: rlim_t) -> Option<u64> {
    (value != RLIM_INFINITY).then(|| u64::try_from(i128::from(value)).unwrap_or(0))
}
