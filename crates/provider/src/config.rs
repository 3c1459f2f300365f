//! Everything that can be set, with its bound and its reason.

mod check;
mod faults;
// A back end's own settings lie in its folder, and are there on every platform.
#[path = "backend/iocp/config.rs"]
mod iocp;
#[path = "backend/rio/config.rs"]
mod rio;
#[path = "backend/sim/config.rs"]
mod sim;
#[path = "backend/uring/config.rs"]
mod uring;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

pub use faults::{FaultRates, Faults};
pub use iocp::IocpConfig;
pub use rio::RioConfig;
pub use sim::SimConfig;
pub use uring::{SetupTier, UringConfig};

use crate::base::error::Error;
use crate::base::kind::Kind;
use crate::base::with::with;
use crate::memory::config::PoolConfig;
use crate::socket::sim::network::SimNetwork;

with!(Config, DatagramConfig);

/// Which back end to open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Backend {
    /// The best one that this machine allows; `RAON_BACKEND` may name another. What was chosen and why is in `Info`.
    #[default]
    Auto,
    /// This one or an error, never another in silence.
    Named(Kind),
}

impl FromStr for Backend {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        if name.eq_ignore_ascii_case("auto") { Ok(Backend::Auto) } else { name.parse().map(Backend::Named) }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Backend::Auto => f.pad("auto"),
            Backend::Named(kind) => kind.fmt(f),
        }
    }
}

/// Sizes and limits of a driver. `Config::default()` suits a server of some ten thousand connections.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Which back end.
    pub backend: Backend,
    /// Most sockets at once, at least 1; together with the operations at most 2^20.
    pub sockets_max: u32,
    /// Most operations at once, at least 1; together with the sockets at most 2^20. One receive stream per socket + sends in flight.
    pub operations_max: u32,
    /// Most bytes queued for sending on one socket, at least 1; beyond it `Busy`.
    pub send_queue_bytes_max: u32,
    /// Most sends queued on one socket, at least 1; beyond it `Busy`.
    pub send_queue_count_max: u32,
    /// Most operations waiting in the submitters' mailbox, 1 to 2^20; memory for all of them is taken at start.
    pub mailbox_capacity: u32,
    /// Most bytes, at least 1, that one socket may deliver per turn on a readiness back end before the others get theirs.
    pub turn_bytes_max: u32,
    /// How long a drop waits for the kernel to let go of buffers before it leaks and counts them. More than a day counts as
    /// a day.
    pub drain_deadline: Duration,
    /// The buffer pool.
    pub pool: PoolConfig,
    /// How datagrams are handed to the system and back.
    pub datagrams: DatagramConfig,
    /// Settings of io_uring.
    pub uring: UringConfig,
    /// Settings of I/O completion ports.
    pub iocp: IocpConfig,
    /// Settings of registered I/O, beside what it has of completion ports.
    pub rio: RioConfig,
    /// Settings of the simulated back end.
    pub sim: SimConfig,
    /// Faults that the driver adds around its back end, for tests. `None`: nothing is made worse than it is.
    pub faults: Option<Faults>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            backend: Backend::Auto,
            sockets_max: 65_536,
            operations_max: 131_072,
            send_queue_bytes_max: 256 * 1024,
            send_queue_count_max: 1024,
            mailbox_capacity: 8192,
            turn_bytes_max: 256 * 1024,
            drain_deadline: Duration::from_secs(2),
            pool: PoolConfig::default(),
            datagrams: DatagramConfig::default(),
            uring: UringConfig::default(),
            iocp: IocpConfig::default(),
            rio: RioConfig::default(),
            sim: SimConfig::default(),
            faults: None,
        }
    }
}

impl Config {
    /// The default with a named back end.
    pub fn named(kind: Kind) -> Self {
        Config { backend: Backend::Named(kind), ..Config::default() }
    }

    /// The default on the simulated back end, in this network.
    pub fn simulated(network: &SimNetwork) -> Self {
        let sim = SimConfig { network: Some(network.clone()), ..SimConfig::default() };
        Config { sim, ..Config::named(Kind::Sim) }
    }
}

/// What of the kernel's help with datagrams is used where it is there. The switches turn it off, to play an older kernel;
/// the simulated back end has no use for either.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct DatagramConfig {
    /// Let datagrams of one length from one socket to one address leave as one message (UDP_SEGMENT).
    pub segment: bool,
    /// Give sockets bound with [`BindOptions::coalesce`](crate::BindOptions::coalesce) what they ask for (UDP_GRO).
    pub coalesce: bool,
}

impl Default for DatagramConfig {
    fn default() -> Self {
        DatagramConfig { segment: true, coalesce: true }
    }
}
