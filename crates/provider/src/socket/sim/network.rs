//! A simulated network as its users hold it: the clock to move, the faults to set, peers to script.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::fault::FaultPlan;
use super::world::World;
use crate::base::error::{Error, ErrorKind};
use crate::base::time;

/// A network in memory, with a clock of its own, that drivers and scripted peers share.
///
/// Everything in it is decided by its seed: two runs of one thread with the same seed and the same calls are the same,
/// byte for byte ([`trace`](Self::trace)). Time passes when a driver waits, or when you [`advance`](Self::advance) it:
/// an hour of time-outs takes milliseconds.
///
#[doc = concat!("```\n", include_str!("../../../examples/bad_network.rs"), "\n```")]
///
/// Hosts are told apart by their IP address, of which every one exists (but for 203.0.113.0/24, which belongs to nobody).
/// A connect without [`ConnectOptions::bind`](crate::ConnectOptions::bind) comes from the address it goes to, as within one machine: bind it where partitions
/// matter. The name of a Unix socket goes with its listener.
///
/// A clone is another handle to the same network. It may be used from several threads, but then their order, and with it
/// the trace, is the operating system's.
#[derive(Clone)]
pub struct SimNetwork {
    world: Arc<Mutex<World>>,
}

impl SimNetwork {
    /// A perfect network: whatever is sent is there.
    pub fn new(seed: u64) -> Self {
        SimNetwork::with_faults(seed, FaultPlan::default())
    }

    /// A network in which this goes wrong.
    pub fn with_faults(seed: u64, plan: FaultPlan) -> Self {
        SimNetwork { world: Arc::new(Mutex::new(World::new(seed, plan))) }
    }

    /// From now on this goes wrong; connections keep the latency and the buffers that they have.
    pub fn set_faults(&self, plan: FaultPlan) {
        self.world().plan = plan;
    }

    // Time.

    /// The clock, in nanoseconds since the network was made.
    pub fn now_ns(&self) -> u64 {
        self.world().now_ns
    }

    /// When the next thing happens in the network, if anything will. The timers of drivers are their own, see
    /// [`Driver::next_deadline_ns`](crate::Driver::next_deadline_ns).
    pub fn next_event_ns(&self) -> Option<u64> {
        self.world().next_ns()
    }

    /// Moves the clock on.
    pub fn advance(&self, by: Duration) {
        let mut world = self.world();
        let at_ns = time::after(world.now_ns, by);
        world.advance_to(at_ns);
    }

    /// Moves the clock to the next thing that happens; false if nothing will.
    pub fn advance_to_next(&self) -> bool {
        let mut world = self.world();
        let Some(next_ns) = world.next_ns() else { return false };
        world.advance_to(next_ns);
        true
    }

    /// Cuts two hosts off from each other for some time: what is on its way arrives when they no longer are.
    pub fn partition(&self, first: IpAddr, second: IpAddr, duration: Duration) {
        let mut world = self.world();
        let until_ns = time::after(world.now_ns, duration);
        world.cut(first, second, until_ns);
    }

    // The trace.

    /// From now on everything that happens is recorded.
    pub fn record(&self) {
        self.world().record();
    }

    /// What was recorded: a line each, with its time in nanoseconds and the number of the socket.
    pub fn trace(&self) -> String {
        self.world().trace().to_owned()
    }

    pub(crate) fn is(&self, other: &SimNetwork) -> bool {
        Arc::ptr_eq(&self.world, &other.world)
    }

    /// The network itself. No [`SimSocket`](crate::SimSocket) may be dropped while this is held: it would wait for it.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SimNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimNetwork(at {} ns)", self.now_ns())
    }
}

/// The guide's examples are tested like those of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../../../../../docs/simulation.md")]
struct Guide;

/// What is refused to a handle that is not of the network it was given to.
pub(crate) fn gone() -> Error {
    Error::new(ErrorKind::InvalidInput)
}
