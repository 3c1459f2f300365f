//! The names of the back ends.

use std::fmt;
use std::str::FromStr;

use crate::base::error::{Error, ErrorKind, Feature};

/// The mechanisms of operating systems that Raon runs on. All have their names everywhere; to open one of another system
/// fails with `BackendUnavailable`, naming that system.
///
/// ```
/// use raon_provider::{AnyProvider, Config, Driver, ErrorKind, Kind};
/// let open = |kind| Driver::<AnyProvider>::open(&Config::named(kind));
/// // No system has both.
/// let error = [Kind::Epoll, Kind::Iocp].into_iter().find_map(|kind| open(kind).err());
/// assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::BackendUnavailable));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// Linux io_uring.
    IoUring,
    /// Linux epoll.
    Epoll,
    /// Windows Registered I/O.
    Rio,
    /// Windows I/O completion ports.
    Iocp,
    /// kqueue of macOS and FreeBSD.
    Kqueue,
    /// In memory, with virtual time: for tests. Never chosen by `auto`, and not among [`Kind::available`].
    Sim,
}

impl Kind {
    /// The name that commands and configuration use.
    pub fn name(self) -> &'static str {
        match self {
            Kind::IoUring => "io_uring",
            Kind::Epoll => "epoll",
            Kind::Rio => "rio",
            Kind::Iocp => "iocp",
            Kind::Kqueue => "kqueue",
            Kind::Sim => "sim",
        }
    }

    /// Every name that is known, of this platform or not.
    const EVERY: [Kind; 6] = [Kind::IoUring, Kind::Epoll, Kind::Rio, Kind::Iocp, Kind::Kqueue, Kind::Sim];

    /// Error of opening the back end on a system that does not have it.
    pub(crate) fn foreign(self) -> Error {
        let unavailable = Error::new(ErrorKind::BackendUnavailable);
        match self {
            Kind::IoUring | Kind::Epoll => unavailable.with_feature(Feature::Linux),
            Kind::Rio | Kind::Iocp => unavailable.with_feature(Feature::Windows),
            Kind::Kqueue => unavailable.with_feature(Feature::Bsd),
            Kind::Sim => unavailable,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let found = Kind::EVERY.iter().find(|kind| kind.name().eq_ignore_ascii_case(name));
        found.copied().ok_or(Error::new(ErrorKind::UnknownBackend))
    }
}
