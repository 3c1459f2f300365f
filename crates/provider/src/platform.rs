//! The facts about operating systems that the common part needs. Which file they come from is chosen here; which back ends
//! there are, in `backend.rs`. No other file of this crate asks for the platform.

use std::io;

use crate::base::error::{Error, ErrorKind};

#[cfg(not(any(target_os = "linux", windows, target_vendor = "apple", target_os = "freebsd")))]
compile_error!("raon-provider runs on Linux, Windows, macOS and FreeBSD");

mod address;
#[cfg(target_vendor = "apple")]
mod apple;
#[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
mod bsd;
#[cfg(target_os = "freebsd")]
mod freebsd;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) mod option;
#[cfg(not(windows))]
#[path = "platform/no_rio.rs"]
pub(crate) mod rio;
#[cfg(windows)]
pub(crate) mod rio;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
pub(crate) use self::{linux::*, unix::*};

#[cfg(target_vendor = "apple")]
pub(crate) use self::{apple::*, bsd::*, unix::*};

#[cfg(target_os = "freebsd")]
pub(crate) use self::{bsd::*, freebsd::*, unix::*};

#[cfg(windows)]
pub(crate) use self::windows::*;

#[cfg(unix)]
pub use self::unix::OwnedSocket;
#[cfg(windows)]
pub use self::windows::OwnedSocket;

impl Error {
    /// The error that the operating system reports by this code.
    pub(crate) fn from_os(code: i32) -> Self {
        Error::new(error_kind(code)).with_os_code(code)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(code) => Error::from_os(code),
            None if error.kind() == io::ErrorKind::OutOfMemory => Error::new(ErrorKind::OutOfMemory),
            None => Error::new(ErrorKind::InvalidInput),
        }
    }
}

/// Verdict of a failed message on the merging of its datagrams.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MergeRefusal {
    /// Nothing: it is about an earlier datagram and would have come without it.
    None,
    /// Nothing that holds for the next message, but this one may have failed for being merged.
    Once,
    /// Segments of this length perhaps cannot be merged on this route.
    Length,
    /// Perhaps nothing can.
    Always,
}
