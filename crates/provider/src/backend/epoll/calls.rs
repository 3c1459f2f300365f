//! Waits of the epoll back end.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

/// Time as epoll_pwait2(2) has it: 64 bits each, on every architecture.
#[repr(C)]
struct KernelTime {
    seconds: i64,
    nanoseconds: i64,
}

/// Waits to the nanosecond. Linux before 5.11 has no such call, and `rustix` makes it for long waits only.
pub(super) fn wait_precisely(
    epoll: &OwnedFd,
    events: &mut Vec<epoll::Event>,
    wait: Option<Duration>,
) -> Result<(), Errno> {
    let time = wait.map(|wait| KernelTime {
        seconds: wait.as_secs().min(WAIT_SECONDS_MAX) as i64,
        nanoseconds: wait.subsec_nanos().into(),
    });
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let room = events.spare_capacity_mut();
    // SAFETY: epoll_pwait2(2) — room for so many events, of the kernel's layout; the time lives through the call; no
    // signal mask.
    let came = unsafe {
        let (first, count) = (room.as_mut_ptr(), room.len() as libc::c_int);
        libc::syscall(libc::SYS_epoll_pwait2, epoll.as_raw_fd(), first, count, time, std::ptr::null::<u8>(), 0usize)
    };
    let came = usize::try_from(came).map_err(|_| last_errno())?;
    // SAFETY: epoll_pwait2(2) — the kernel has written so many events, and the vector was empty.
    unsafe { events.set_len(came) };
    Ok(())
}

/// Waits in whole milliseconds, rounded up, so that it is never too short; at most [`COARSE_MAX`].
pub(super) fn wait_coarsely(
    epoll: &OwnedFd,
    events: &mut Vec<epoll::Event>,
    wait: Option<Duration>,
) -> Result<(), Errno> {
    let time = wait.map(|wait| {
        let milliseconds = wait.min(COARSE_MAX).as_nanos().div_ceil(1_000_000);
        let wait = Duration::from_millis(milliseconds as u64).min(COARSE_MAX);
        Timespec { tv_sec: wait.as_secs() as _, tv_nsec: wait.subsec_nanos().into() }
    });
    epoll::wait(epoll, rustix::buffer::spare_capacity(events), time.as_ref()).map(drop)
}

/// Longest wait that the milliseconds of epoll_wait(2) hold: 24 days. A longer wait ends early, and the driver waits again.
const COARSE_MAX: Duration = Duration::from_millis(i32::MAX as u64);
/// Longer than any machine runs, and far below where the kernel's sum of times ends.
const WAIT_SECONDS_MAX: u64 = i32::MAX as u64;

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}
