//! The one list of back ends, and the choice among those of this platform.

use crate::backend;
use crate::base::error::{Error, ErrorKind};
use crate::base::kind::Kind;
use crate::config::{Backend, Config};
use crate::contract::form::Form;
use crate::contract::{FeatureState, Opened};
use crate::driver::Driver;
use crate::faulty;
use crate::memory::buffer::BufferPool;

/// Calls a macro with all back ends, best first and the simulated one last. Each line has the condition under which the back
/// end is there, its variant of [`Kind`] with its documentation and its name, its module, and what the system lacks that does
/// not have it.
macro_rules! for_each_backend {
    ($macro:ident) => {
        $macro! {
            [target_os = "linux"] "Linux io_uring." IoUring "io_uring" uring, Some(Feature::Linux);
            [target_os = "linux"] "Linux epoll." Epoll "epoll" epoll, Some(Feature::Linux);
            [windows] "Windows Registered I/O." Rio "rio" rio, Some(Feature::Windows);
            [windows] "Windows I/O completion ports." Iocp "iocp" iocp, Some(Feature::Windows);
            [any(target_vendor = "apple", target_os = "freebsd", raon_kqueue_shim)]
                "kqueue of macOS and FreeBSD." Kqueue "kqueue" kqueue, Some(Feature::Bsd);
            [all()] "In memory, with virtual time: for tests. Never chosen by `auto`, and not among [`Kind::available`]."
                Sim "sim" sim, None;
        }
    };
}
type Open = fn(&Config, &mut BufferPool) -> Result<Opened, Error>;

macro_rules! openers {
    ($([$condition:meta] $doc:literal $kind:ident $name:literal $module:ident, $lacking:expr;)*) => {
        /// All back ends of this platform, best first, the simulated one last.
        const OPENERS: &[(Kind, Open)] = &[$(#[cfg($condition)] (Kind::$kind, backend::$module::open),)*];
        const FORMS: &[&[Form]] = &[$(#[cfg($condition)] backend::$module::forms::FORMS,)*];
    };
}
for_each_backend!(openers);

/// The variable that replaces `auto`, and only that: a back end named in the configuration stays.
const ENVIRONMENT: &str = "RAON_BACKEND";

impl Driver {
    /// Opens the back end on the calling thread, which from then on owns the driver: the named one or none, or with `auto` the
    /// first that works.
    ///
    /// Errors: `InvalidInput` for a configuration out of bounds and `OutOfMemory` if memory cannot be had, each with the
    /// [`Setting`](crate::Setting); for a named back end that cannot be had, the cause
    /// (`DisabledBySysctl`, `BlockedBySeccomp`, `LockedMemoryLimit`, `KernelTooOld` with the feature).
    pub fn open(config: &Config) -> Result<Self, Error> {
        Driver::open_on(config, open)
    }
}

/// Opens what the configuration asks for, made worse if it asks for faults.
fn open(config: &Config, pool: &mut BufferPool) -> Result<Opened, Error> {
    let opened = open_chosen(config, pool)?;
    Ok(match config.faults {
        Some(faults) => faulty::around(opened, faults),
        None => opened,
    })
}

/// Opens the named back end or fails; `auto` takes the first that works and remembers why others did not.
//= FALL-1
fn open_chosen(config: &Config, pool: &mut BufferPool) -> Result<Opened, Error> {
    let wanted = match (config.backend, std::env::var(ENVIRONMENT)) {
        (Backend::Auto, Ok(name)) if !name.is_empty() => name.parse()?,
        (backend, _) => backend,
    };
    if let Backend::Named(kind) = wanted {
        return open_kind(kind, config, pool);
    }
    let mut passed_over = Vec::new();
    for kind in Kind::real() {
        match open_kind(kind, config, pool) {
            Ok(mut opened) => {
                for (passed, error) in &passed_over {
                    tracing::warn!("using {kind} because {passed} is not available: {error}");
                }
                opened.profile.passed_over = passed_over;
                return Ok(opened);
            }
            Err(error) => passed_over.push((kind, error)),
        }
    }
    Err(passed_over.last().map_or(Error::new(ErrorKind::BackendUnavailable), |(_, error)| *error))
}

fn open_kind(kind: Kind, config: &Config, pool: &mut BufferPool) -> Result<Opened, Error> {
    let opener = OPENERS.iter().find(|(each, _)| *each == kind);
    opener.map_or(Err(kind.foreign()), |(_, open)| open(config, pool))
}

/// Forms of all back ends of this platform, under each of which the conformance suite runs.
pub fn forms() -> impl Iterator<Item = &'static Form> {
    FORMS.iter().copied().flatten()
}

/// Answer to whether a back end can be had here.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Availability {
    /// The back end.
    pub kind: Kind,
    /// Reason why it cannot be had, or `None` if it can.
    pub error: Option<Error>,
    /// Its features, if it can.
    pub features: Vec<FeatureState>,
}

impl Kind {
    /// All back ends of this platform, best first, each tried for real. The simulated one, which is everywhere and serves
    /// nobody, is not listed.
    pub fn available() -> Vec<Availability> {
        Kind::real().map(Kind::probe).collect()
    }

    /// The best back end that can be had here. Errors: that of the last one tried.
    pub fn best() -> Result<Kind, Error> {
        let mut last = Error::new(ErrorKind::BackendUnavailable);
        for availability in Kind::available() {
            match availability.error {
                None => return Ok(availability.kind),
                Some(error) => last = error,
            }
        }
        Err(last)
    }

    fn real() -> impl Iterator<Item = Kind> {
        OPENERS.iter().map(|(kind, _)| *kind).filter(|kind| *kind != Kind::Sim)
    }

    fn probe(self) -> Availability {
        let config = Config::named(self);
        match BufferPool::new(&config.pool).and_then(|mut pool| open(&config, &mut pool)) {
            Ok(opened) => Availability { kind: self, error: None, features: opened.profile.features },
            Err(error) => Availability { kind: self, error: Some(error), features: Vec::new() },
        }
    }
}
