//! Everything that can be set, with its bound and its reason.

mod check;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::base::error::Error;
use crate::base::kind::Kind;
use crate::base::with::with;
use crate::memory::config::PoolConfig;
use crate::platform::rio::RioFunctions;
use crate::socket::sim::network::SimNetwork;

with!(Config, DatagramConfig, UringConfig, IocpConfig, RioConfig, SimConfig, Faults, FaultRates);

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
    /// What is particular to io_uring.
    pub uring: UringConfig,
    /// What is particular to I/O completion ports.
    pub iocp: IocpConfig,
    /// What is particular to registered I/O, beside what it has of completion ports.
    pub rio: RioConfig,
    /// What is particular to the simulated back end.
    pub sim: SimConfig,
    /// For tests: everything goes wrong that may, see [`Faulty`](crate::Faulty). `None`: nothing is made worse than it is.
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

impl Faults {
    /// Faults at these rates, as this seed decides.
    pub fn new(seed: u64, rates: FaultRates) -> Self {
        Faults { seed, rates }
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

/// Set-up flags of a ring, best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum Rung {
    /// SINGLE_ISSUER + DEFER_TASKRUN (Linux 6.1).
    Defer,
    /// COOP_TASKRUN (5.19).
    Coop,
    /// Nothing special (5.11).
    Plain,
}

/// What is particular to io_uring. The switches turn features off that the kernel has, to play an older one.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct UringConfig {
    /// The best rung to try.
    pub rung_first: Rung,
    /// Entries of the submission queue, 8 to 32,768; a value outside counts as the nearest of these. More requests than this per turn cost one more kernel entry each time.
    pub submission_entries: u32,
    /// Let one accept request serve many connections.
    pub multishot_accept: bool,
    /// Let one receive request serve many messages.
    pub multishot_receive: bool,
    /// Send datagrams by a plain send with an address; off, by a message.
    pub send_address: bool,
    /// Give the kernel receive buffers through a ring; off, by a request each.
    pub buffer_ring: bool,
    /// Let sends that go out at once leave no completion entry.
    pub skip_success: bool,
    /// Sends of at least this many bytes go without a copy; `None`: never. On loopback the kernel copies anyway.
    pub zero_copy_bytes_min: Option<u32>,
}

impl Default for UringConfig {
    fn default() -> Self {
        UringConfig {
            rung_first: Rung::Defer,
            submission_entries: 1024,
            multishot_accept: true,
            multishot_receive: true,
            send_address: true,
            buffer_ring: true,
            skip_success: true,
            zero_copy_bytes_min: None,
        }
    }
}

/// What is particular to I/O completion ports, and to what else waits at them. The switches turn features off that the system
/// has, to play one that lacks them.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct IocpConfig {
    /// Sockets made ahead for each listener, 1 to 1,024: so many connections can come in between two turns without waiting
    /// for a socket.
    pub accepts_ahead: u32,
    /// Let operations that end at once leave no completion.
    pub skip_on_success: bool,
    /// Let a high-resolution timer end short waits.
    pub precise_waits: bool,
}

impl Default for IocpConfig {
    fn default() -> Self {
        IocpConfig { accepts_ahead: 16, skip_on_success: true, precise_waits: true }
    }
}

/// What is particular to registered I/O. Its memory is locked: registered when the first socket needs it, never given back
/// before the driver ends.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RioConfig {
    /// For tests: functions that take the place of the system's. `None`: the system is asked.
    pub functions: Option<RioFunctions>,
    /// Bytes that one receive of a stream brings at most, 512 to 2^20. Each socket that receives holds so many.
    pub receive_bytes: u32,
    /// Bytes that one send takes at most, 512 to 2^20; longer ones leave in several.
    pub send_bytes: u32,
    /// Sends of one socket under way at once, 1 to 64: together with `send_bytes` the most that can be on its way to a peer
    /// that has not confirmed it.
    pub sends_ahead: u32,
    /// Datagrams of one socket that can arrive between two turns, 1 to 1,024; the system's own queue holds more.
    pub datagrams_ahead: u32,
    /// Places in the completion queue at first, 1 to 2^27; it grows by half when sockets need more.
    pub completions_first: u32,
    /// Places in the completion queue at most, 1 to 2^27. A socket whose requests have no place is `Busy`.
    pub completions_max: u32,
    /// How long a turn looks again and again before it sleeps, at most a second. A wake from another thread is heard after that.
    pub poll: Duration,
}

impl Default for RioConfig {
    /// 64 KiB under way per socket are enough for 10 Mbit/s at 50 ms.
    fn default() -> Self {
        RioConfig {
            functions: None,
            receive_bytes: 4096,
            send_bytes: 16 * 1024,
            sends_ahead: 4,
            datagrams_ahead: 4,
            completions_first: 1024,
            completions_max: 1 << 27,
            poll: Duration::ZERO,
        }
    }
}

/// What is particular to the simulated back end.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SimConfig {
    /// The network that the driver is in; `None`: a perfect one of its own.
    pub network: Option<SimNetwork>,
    /// The seed of that network of its own.
    pub seed: u64,
    /// How long, in real time, a wait without a limit sleeps for another thread when nothing is due in the network; then
    /// it fails with `NothingToWaitFor`. The one use of a real clock; it decides nothing in the network.
    pub patience: Duration,
}

impl Default for SimConfig {
    fn default() -> Self {
        SimConfig { network: None, seed: 0, patience: Duration::from_secs(10) }
    }
}

/// Faults that a test asks for. The same seed decides the same at every step; what the system does in between is its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Faults {
    /// Of the generator that decides.
    pub seed: u64,
    /// How often.
    pub rates: FaultRates,
}

/// In how many of a thousand cases something goes wrong, at most 900, and for how long. The default is never.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct FaultRates {
    /// A send takes a part of its bytes.
    pub send_short: u16,
    /// A send takes none, as a full socket.
    pub send_refused: u16,
    /// A single receive gets a part of its room.
    pub receive_short: u16,
    /// A receive stream finds no buffer.
    pub no_buffers: u16,
    /// So many more then find none either, at most.
    pub no_buffers_run_max: u16,
    /// A stream of receives or accepts ends in the kernel though it could go on.
    pub stream_ended: u16,
    /// An accept fails for a moment.
    pub accept_fails: u16,
    /// An accept finds no descriptor: the driver then sheds a connection.
    pub accept_without_descriptor: u16,
    /// A connect finds no room at the listener.
    pub connect_refused: u16,
    /// A socket cannot be attached for want of descriptors.
    pub attach_refused: u16,
    /// A request reaches the back end late.
    pub request_late: u16,
    /// An event reaches the driver late.
    pub event_late: u16,
    /// By so many turns at most.
    pub turns_late_max: u16,
    /// Two events that follow each other change places, unless they are of one request.
    pub events_exchanged: u16,
    /// A turn ends at once, with nothing.
    pub turn_interrupted: u16,
    /// A turn ends at once, with an error.
    pub turn_fails: u16,
    /// A wake is not heard.
    pub wake_lost: u16,
    /// A wake comes twice, or without a cause.
    pub wake_doubled: u16,
}
