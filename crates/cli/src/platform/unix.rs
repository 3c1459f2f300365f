//! What Linux, macOS and FreeBSD have in common: limits of descriptors, and Unix sockets.

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use super::Limit;

/// A connection to a socket of this machine that has a name instead of a port.
pub(crate) use std::os::unix::net::UnixStream as LocalStream;

/// Raises the soft limit of descriptors to the hard one. Returns what then counts.
pub(crate) fn raise_descriptor_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return u64::MAX };
    let is_raised = soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    if is_raised { hard } else { soft }
}

pub(super) fn limit(resource: Resource) -> Limit {
    let finite = |value| (value != RLIM_INFINITY).then_some(value);
    // getrlimit(2) fails for unknown resources and bad pointers only.
    let (soft, hard) = getrlimit(resource).unwrap_or((RLIM_INFINITY, RLIM_INFINITY));
    Limit { soft: finite(soft), hard: finite(hard) }
}
