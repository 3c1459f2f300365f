//! The back ends of each platform, in order of preference, and the choice among them. The facts about operating systems that
//! the common part needs are in `platform.rs`.

use std::time::Duration;

use crate::base::error::{Error, ErrorKind};
use crate::base::kind::Kind;
use crate::base::wake::Waker;
use crate::config::{Backend, Config};
use crate::contract::{Event, FeatureState, Provider, ProviderCounters, Request};
use crate::faulty::Faulty;
use crate::memory::buffer::BufferPool;
use crate::socket::{AnyNetwork, AnySocket, Endpoint};

#[cfg(target_os = "linux")]
mod absence;
#[cfg(target_os = "linux")]
pub(crate) mod datagram;
#[cfg(target_os = "linux")]
mod epoll;
#[cfg(target_os = "linux")]
mod event_fd;
#[cfg(windows)]
mod iocp;
#[cfg(any(target_vendor = "apple", target_os = "freebsd", raon_kqueue_shim))]
mod kqueue;
#[cfg(windows)]
mod rio;
#[cfg(target_os = "linux")]
mod uring;

pub(crate) mod readiness;
/// In memory, on every platform.
mod sim;

#[cfg(windows)]
pub use self::iocp::Iocp;
#[cfg(any(target_vendor = "apple", target_os = "freebsd", raon_kqueue_shim))]
pub use self::kqueue::Kqueue;
#[cfg(windows)]
pub use self::rio::Rio;
pub use self::sim::Sim;
#[cfg(target_os = "linux")]
pub use self::{epoll::Epoll, uring::Uring};
#[cfg(windows)]
pub use crate::platform::rio::RioHooks;

/// Calls a macro with all back ends of this platform, best first and the simulated one last: variant, kind, type.
#[cfg(all(target_os = "linux", not(raon_kqueue_shim)))]
#[macro_export]
macro_rules! for_each_backend {
    ($macro:ident) => {
        $macro! { IoUring => $crate::Uring, Epoll => $crate::Epoll, Sim => $crate::Sim, }
    };
}

/// Calls a macro with all back ends of this platform, best first and the simulated one last: variant, kind, type.
#[cfg(windows)]
#[macro_export]
macro_rules! for_each_backend {
    ($macro:ident) => {
        $macro! { Rio => $crate::Rio, Iocp => $crate::Iocp, Sim => $crate::Sim, }
    };
}

/// Calls a macro with all back ends of this platform, best first and the simulated one last: variant, kind, type.
#[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
#[macro_export]
macro_rules! for_each_backend {
    ($macro:ident) => {
        $macro! { Kqueue => $crate::Kqueue, Sim => $crate::Sim, }
    };
}

/// Calls a macro with all back ends, and with kqueue played on epoll: a build for tests, see `docs/backends/kqueue.md`.
#[cfg(all(target_os = "linux", raon_kqueue_shim))]
#[macro_export]
macro_rules! for_each_backend {
    ($macro:ident) => {
        $macro! { IoUring => $crate::Uring, Epoll => $crate::Epoll, Kqueue => $crate::Kqueue, Sim => $crate::Sim, }
    };
}

macro_rules! any_provider {
    ($($kind:ident => $provider:ty,)*) => {
        /// All back ends of this platform, best first, the simulated one last.
        const KINDS: &[Kind] = &[$(Kind::$kind,)*];

        /// Any back end of this platform, chosen when it is opened.
        pub struct AnyProvider {
            inner: Inner,
            network: AnyNetwork,
            passed_over: Vec<(Kind, Error)>,
        }

        #[allow(clippy::large_enum_variant, reason = "one per driver, never moved on the hot path")]
        enum Inner {
            $($kind($provider),)*
            /// One of the others, made worse for a test.
            Faulty(Box<Faulty<AnyProvider>>),
        }

        impl AnyProvider {
            fn open_kind(kind: Kind, config: &Config, pool: &mut BufferPool) -> Result<Inner, Error> {
                match kind {
                    $(Kind::$kind => <$provider>::open(config, pool).map(Inner::$kind),)*
                    other => Err(other.foreign()),
                }
            }
        }

        impl Inner {
            fn network(&self) -> AnyNetwork {
                match self {
                    $(Inner::$kind(inner) => inner.network().into(),)*
                    Inner::Faulty(inner) => inner.network().clone(),
                }
            }

            fn kind(&self) -> Kind {
                match self {
                    $(Inner::$kind(inner) => inner.kind(),)*
                    Inner::Faulty(inner) => inner.kind(),
                }
            }
        }

        macro_rules! each {
            ($self:ident, $inner:ident => $body:expr) => {
                match &$self.inner { $(Inner::$kind($inner) => $body,)* Inner::Faulty($inner) => $body, }
            };
            (mut $self:ident, $inner:ident => $body:expr) => {
                match &mut $self.inner { $(Inner::$kind($inner) => $body,)* Inner::Faulty($inner) => $body, }
            };
        }
    };
}
for_each_backend!(any_provider);

/// Whether a back end can be had here.
#[derive(Clone, Debug)]
pub struct Availability {
    /// Which.
    pub kind: Kind,
    /// Why not, or `None` if it can.
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
        KINDS.iter().copied().filter(|kind| *kind != Kind::Sim)
    }

    fn probe(self) -> Availability {
        let config = Config::named(self);
        let opened = BufferPool::new(&config.pool).and_then(|mut pool| AnyProvider::open(&config, &mut pool));
        match opened {
            Ok(provider) => Availability { kind: self, error: None, features: provider.features() },
            Err(error) => Availability { kind: self, error: Some(error), features: Vec::new() },
        }
    }
}

/// The variable that replaces `auto`, and only that: a back end named in the configuration stays.
const ENVIRONMENT: &str = "RAON_BACKEND";

impl Provider for AnyProvider {
    type Endpoint = AnySocket;

    fn network(&self) -> &AnyNetwork {
        &self.network
    }

    fn kind(&self) -> Kind {
        each!(self, inner => inner.kind())
    }

    /// Opens the named back end or fails; `auto` takes the first that works and remembers why others did not.
    //= FALL-1
    fn open(config: &Config, pool: &mut BufferPool) -> Result<Self, Error> {
        if config.faults.is_some() {
            let faulty = Faulty::<AnyProvider>::open(config, pool)?;
            let passed_over = faulty.passed_over().to_vec();
            return Ok(AnyProvider::new(Inner::Faulty(Box::new(faulty)), passed_over));
        }
        let wanted = match (config.backend, std::env::var(ENVIRONMENT)) {
            (Backend::Auto, Ok(name)) if !name.is_empty() => name.parse()?,
            (backend, _) => backend,
        };
        if let Backend::Named(kind) = wanted {
            return Ok(AnyProvider::new(Self::open_kind(kind, config, pool)?, Vec::new()));
        }
        let mut passed_over = Vec::new();
        for kind in Kind::real() {
            match Self::open_kind(kind, config, pool) {
                Ok(inner) => {
                    for (kind, error) in &passed_over {
                        tracing::warn!("using {} because {kind} is not available: {error}", inner.kind());
                    }
                    return Ok(AnyProvider::new(inner, passed_over));
                }
                Err(error) => passed_over.push((kind, error)),
            }
        }
        Err(passed_over.last().map_or(Error::new(ErrorKind::BackendUnavailable), |(_, error)| *error))
    }

    fn is_told_alone(&self) -> bool {
        each!(self, inner => inner.is_told_alone())
    }

    fn is_nonblocking(&self) -> bool {
        each!(self, inner => inner.is_nonblocking())
    }

    fn attach(&mut self, index: u32, socket: &AnySocket) -> Result<(), Error> {
        let foreign = Error::new(ErrorKind::ForeignSocket);
        each!(mut self, inner => Endpoint::of_any_ref(socket).map_or(Err(foreign), |own| inner.attach(index, own)))
    }

    fn attach_foreign(&mut self, index: u32, socket: &AnySocket) -> Result<(), Error> {
        let foreign = Error::new(ErrorKind::ForeignSocket);
        each!(mut self, inner => Endpoint::of_any_ref(socket).map_or(Err(foreign), |own| inner.attach_foreign(index, own)))
    }

    fn detach(&mut self, index: u32, socket: &AnySocket) {
        each!(mut self, inner => if let Some(own) = Endpoint::of_any_ref(socket) { inner.detach(index, own) });
    }

    fn turn(
        &mut self,
        requests: &mut Vec<Request>,
        wait: Option<Duration>,
        pool: &mut BufferPool,
        events: &mut Vec<Event>,
    ) -> Result<(), Error> {
        each!(mut self, inner => inner.turn(requests, wait, pool, events))
    }

    fn waker(&self) -> Waker {
        each!(self, inner => inner.waker())
    }

    fn now_ns(&self) -> u64 {
        each!(self, inner => inner.now_ns())
    }

    fn features(&self) -> Vec<FeatureState> {
        each!(self, inner => inner.features())
    }

    fn counters(&self) -> ProviderCounters {
        each!(self, inner => inner.counters())
    }

    fn depth(&self) -> u32 {
        each!(self, inner => inner.depth())
    }

    fn passed_over(&self) -> &[(Kind, Error)] {
        &self.passed_over
    }
}

impl AnyProvider {
    fn new(inner: Inner, passed_over: Vec<(Kind, Error)>) -> Self {
        let network = inner.network();
        AnyProvider { inner, network, passed_over }
    }
}
