//! Socket options of Linux that no library offers.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;

/// Asks for merged messages or for none. Errors: an old kernel does not know the option.
pub(crate) fn set_coalescing(handle: RawFd, is_wanted: bool) -> io::Result<()> {
    set_option(handle, libc::SOL_UDP, libc::UDP_GRO, i32::from(is_wanted))
}

/// Sets an option of a socket, whatever its kind, that is an int.
pub(crate) fn set_option(handle: RawFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    let bytes = size_of::<i32>() as libc::socklen_t;
    // SAFETY: setsockopt(2) — the value is an int on this stack.
    let result = unsafe { libc::setsockopt(handle, level, option, (&raw const value).cast(), bytes) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
