//! The names of the back ends.

use std::fmt;
use std::str::FromStr;

use crate::base::error::{Error, ErrorKind, Feature};

macro_rules! kinds {
    ($([$condition:meta] $doc:literal $kind:ident $name:literal $module:ident, $lacking:expr;)*) => {
        /// Mechanism of an operating system that Raon runs on. All have their names everywhere; to open one of another system
        /// fails with `BackendUnavailable`, naming that system.
        ///
        /// ```
        /// use raon_provider::{Config, Driver, ErrorKind, Kind};
        /// // No system has both.
        /// let error = [Kind::Epoll, Kind::Iocp].into_iter().find_map(|kind| Driver::open(&Config::named(kind)).err());
        /// assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::BackendUnavailable));
        /// ```
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum Kind {
            $(#[doc = $doc] $kind,)*
        }

        impl Kind {
            /// Every back end that has a name, of this platform or not.
            const EVERY: &[Kind] = &[$(Kind::$kind,)*];

            /// The name that commands and configuration use.
            pub fn name(self) -> &'static str {
                match self {
                    $(Kind::$kind => $name,)*
                }
            }

            /// System that has the back end; `None`: every one.
            fn system(self) -> Option<Feature> {
                match self {
                    $(Kind::$kind => $lacking,)*
                }
            }
        }
    };
}
for_each_backend!(kinds);

impl Kind {
    /// Error of opening the back end on a system that does not have it.
    pub(crate) fn foreign(self) -> Error {
        let unavailable = Error::new(ErrorKind::BackendUnavailable);
        self.system().map_or(unavailable, |system| unavailable.with_feature(system))
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
