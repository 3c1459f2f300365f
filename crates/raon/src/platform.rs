//! Platform: what depends on the operating system, which is threads, cores, descriptors, and listeners that were inherited.

use std::io;
use std::thread::JoinHandle;

use raon_provider::AcceptedSocket;

/// Number of cores that there are for us.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A thread's stack, that of the standard library, and what a thread needs besides before it can say that it lacks memory.
const THREAD_BYTES: u64 = (2 << 20) + (1 << 20);

/// Runs a shard on a thread of its own, on the core of its number if that is wanted. Errors: the system has no thread, or no
/// memory for its stack.
pub(crate) fn spawn<T: Send + 'static>(
    shard: usize,
    is_pinned: bool,
    run: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let named = |error: io::Error| {
        let problem =
            format!("the thread of shard {shard} cannot be had ({error}); lower workers, or raise the limits");
        io::Error::new(error.kind(), problem)
    };
    // A thread that finds no memory for its own start ends the process.
    if !has_room(THREAD_BYTES) {
        return Err(named(io::ErrorKind::OutOfMemory.into()));
    }
    let thread = std::thread::Builder::new().name(format!("raon-{shard}")).spawn(move || {
        if is_pinned {
            pin(shard);
        }
        run()
    });
    thread.map_err(named)
}

/// Whether this process may map so many bytes more, see RLIMIT_AS in getrlimit(2). Asked of the system and not tried, for a
/// trial may be answered out of memory that is mapped already, and stacks are not.
#[cfg(target_os = "linux")]
fn has_room(bytes: u64) -> bool {
    let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::As).current else { return true };
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').next().and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
    let used = pages.saturating_mul(rustix::param::page_size() as u64);
    used.saturating_add(bytes) <= limit
}

#[cfg(not(target_os = "linux"))]
fn has_room(_bytes: u64) -> bool {
    true
}

/// Keeps this thread on one of the cores that it may use. Where that is refused it stays as it is.
#[cfg(target_os = "linux")]
fn pin(shard: usize) {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let Ok(allowed) = sched_getaffinity(None) else { return };
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    let Some(core) = cores.get(shard % cores.len().max(1)) else { return };
    let mut own = CpuSet::new();
    own.set(*core);
    // An error means that a container forbids it: the shard runs all the same.
    let _ = sched_setaffinity(None, &own);
}

#[cfg(not(target_os = "linux"))]
fn pin(_shard: usize) {}

/// Raises the number of descriptors that this process may have as far as it may, and says how many those are; `None`: the
/// system has no such number, or does not say.
#[cfg(unix)]
pub(crate) fn raise_descriptor_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // Refused where the system has a lower bound of its own: then it stays as it is.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
    getrlimit(Resource::Nofile).current
}

#[cfg(not(unix))]
pub(crate) fn raise_descriptor_limit() -> Option<u64> {
    None
}

/// The first listener that LISTEN_FDS and LISTEN_PID name, see sd_listen_fds(3). It comes once.
pub(crate) fn inherited_listener() -> io::Result<AcceptedSocket> {
    let mut inherited = listenfd::ListenFd::from_env();
    if let Ok(Some(listener)) = inherited.take_tcp_listener(0) {
        return Ok(AcceptedSocket::from(listener));
    }
    #[cfg(unix)]
    if let Ok(Some(listener)) = inherited.take_unix_listener(0) {
        return Ok(AcceptedSocket::from(listener));
    }
    let problem = "no listener is inherited: start the server by a manager that sets LISTEN_FDS and LISTEN_PID";
    Err(io::Error::new(io::ErrorKind::NotFound, problem))
}
