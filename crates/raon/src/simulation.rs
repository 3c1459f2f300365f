//! A server, its clients and the network between them in one thread, decided by one seed.

use std::fmt;
use std::time::Duration;

use raon_provider::{Address, FaultPlan, SimNetwork, SimPeer};

use crate::application::AppRouter;
use crate::application::Application;
use crate::base::boundary;
use crate::error::ServerError;
use crate::server::handle::ServerHandle;
use crate::server::{ServerBuilder, listen_at};
use crate::shard::{Progress, Shard, ShardParts};

/// Servers in a simulated network: all shards and timers are stepped in this thread, in an order that the seed decides, and
/// time passes only here. The same seed and the same calls give the same run, so a failure can be played again.
///
/// Scripted clients are [`SimPeer`]s: they write, read, reset, or do nothing, whenever the test wants.
///
/// ```
/// use std::time::Duration;
/// use raon::{Raw, Server, Simulation};
/// let mut simulation = Simulation::new(7);
/// let server = Server::builder().framing(Raw).on_message(|ctx, message| ctx.reply(message)).build();
/// let handle = simulation.serve(server)?;
/// let mut client = simulation.connect();
/// simulation.run_until(Duration::from_secs(1), || client.is_connected());
/// client.write(b"hello").unwrap();
/// let mut bytes = [0; 16];
/// let mut length = None;
/// simulation.run_until(Duration::from_secs(1), || {
///     length = client.read(&mut bytes).unwrap();
///     length.is_some()
/// });
/// assert_eq!(&bytes[..length.unwrap()], b"hello");
/// handle.stop(Duration::from_secs(1));
/// drop(client);
/// assert!(simulation.run_to_end(Duration::from_secs(5))?);
/// # Ok::<(), raon::ServerError>(())
/// ```
///
/// Things that take the repetition away: a second thread, and a clock, a random source or the order of a `HashMap` in the
/// application.
pub struct Simulation {
    network: SimNetwork,
    random: Random,
    shards: Vec<Box<dyn Stepped>>,
    order: Vec<usize>,
    address: Option<Address>,
    idle_rounds: u32,
    first_error: Option<ServerError>,
}

/// Stride of the clock while something may still be under way that is due at no time, such as the rest of a send
/// that was cut short.
const STRIDE: Duration = Duration::from_millis(10);
/// While no client can do anything either, with each round in which nothing happens twice as far, up to so many doublings:
/// about ten seconds.
const DOUBLINGS_MAX: u32 = 10;

impl Simulation {
    /// An empty perfect network.
    pub fn new(seed: u64) -> Self {
        Simulation::with_faults(seed, FaultPlan::default())
    }

    /// An empty network in which this goes wrong.
    pub fn with_faults(seed: u64, faults: FaultPlan) -> Self {
        Simulation {
            network: SimNetwork::with_faults(seed, faults),
            random: Random(seed ^ 0x5348_4152_4453),
            shards: Vec::new(),
            order: Vec::new(),
            address: None,
            idle_rounds: 0,
            first_error: None,
        }
    }

    /// Adds a server. Its configuration's back end has no meaning here, and 0 workers are one.
    ///
    /// Errors: as [`ServerBuilder::start`].
    pub fn serve<A: Application>(&mut self, server: ServerBuilder<A>) -> Result<ServerHandle<A>, ServerError> {
        // A listener of the system has no place in a simulated network.
        let ServerBuilder { config, framing, factory, listener: _ } = server;
        config.validate()?;
        let count = config.workers.max(1) as usize;
        let router = AppRouter::<A>::new(&config, count);
        let mut address = None;
        for number in 0..count {
            let parts = ShardParts {
                number,
                listen: listen_at(&config, number, address.as_ref())?,
                config: config.clone(),
                network: Some(self.network.clone()),
                framing: framing.clone(),
                factory: factory.clone(),
                router: router.clone(),
            };
            // Those that run already are not left behind.
            let (shard, own) = Shard::open(parts).inspect_err(|_| router.stop(0))?;
            address = address.or(own);
            self.shards.push(Box::new(shard));
        }
        self.address = address.clone().or(self.address.take());
        Ok(ServerHandle::new(router, address))
    }

    /// The network: its clock, its faults, its trace, more peers.
    pub fn network(&self) -> &SimNetwork {
        &self.network
    }

    /// A client of the server that was added last; connected some steps later.
    ///
    /// # Panics
    ///
    /// If there is no server yet.
    pub fn connect(&self) -> SimPeer {
        self.network.connect(self.address.as_ref().expect("a client needs a server: call `serve` first"))
    }

    /// One step of every shard, in some order, then the clock goes on to what is due next.
    pub fn step(&mut self) {
        self.idle_rounds = 0;
        self.step_within(Duration::MAX);
    }

    /// Steps until this much time has passed in the network.
    pub fn run_for(&mut self, duration: Duration) {
        let end_ns = self.network.now_ns().saturating_add(nanoseconds(duration));
        self.idle_rounds = 0;
        while self.network.now_ns() < end_ns {
            self.step_within(Duration::from_nanos(end_ns - self.network.now_ns()));
        }
    }

    /// Steps until the condition holds, which is asked before each step, or until this much time has passed. True if it
    /// holds.
    pub fn run_until(&mut self, limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
        let end_ns = self.network.now_ns().saturating_add(nanoseconds(limit));
        loop {
            if condition() {
                return true;
            }
            let now_ns = self.network.now_ns();
            if now_ns >= end_ns {
                return false;
            }
            // What the condition does to a client may be something that no shard hears of yet.
            self.idle_rounds = 0;
            self.step_within(Duration::from_nanos(end_ns - now_ns));
        }
    }

    /// Steps until all servers have ended, after a stop, or until this much time has passed. True if they have.
    ///
    /// Errors: as [`RunningServer::join`](crate::RunningServer::join).
    pub fn run_to_end(&mut self, limit: Duration) -> Result<bool, ServerError> {
        let end_ns = self.network.now_ns().saturating_add(nanoseconds(limit));
        self.idle_rounds = 0;
        while !self.shards.is_empty() && self.network.now_ns() < end_ns {
            self.step_within(Duration::from_nanos(end_ns - self.network.now_ns()));
        }
        self.first_error.take().map_or(Ok(self.shards.is_empty()), Err)
    }

    /// The servers stand still for this long, as a stopped process does, while the network and the clients go on. What
    /// arrives meanwhile is there when they go on.
    pub fn stand_still(&mut self, duration: Duration) {
        self.network.advance(duration);
        self.shards.iter_mut().for_each(|shard| shard.stand_still(nanoseconds(duration)));
    }

    /// Receive buffers of the pools that anybody holds.
    #[cfg(test)]
    pub(crate) fn buffers_lent(&mut self) -> usize {
        self.shards.iter_mut().map(|shard| shard.buffers_lent()).sum()
    }

    fn step_within(&mut self, limit: Duration) {
        self.order.clear();
        self.order.extend(0..self.shards.len());
        self.random.shuffle(&mut self.order);
        let (mut is_busy, mut ended) = (false, Vec::new());
        for place in &self.order {
            match self.shards[*place].step() {
                Ok(Progress::Busy) => is_busy = true,
                Ok(Progress::Idle) => {}
                Ok(Progress::Over) => ended.push(*place),
                Err(error) => {
                    self.first_error.get_or_insert(error);
                    ended.push(*place);
                }
            }
        }
        ended.sort_unstable();
        // What an application keeps may panic when it is dropped.
        for place in ended.into_iter().rev() {
            let _ = boundary::contain(|| drop(self.shards.remove(place)));
        }
        self.idle_rounds = if is_busy { 0 } else { (self.idle_rounds + 1).min(DOUBLINGS_MAX) };
        self.pass_time(limit);
    }

    fn pass_time(&mut self, limit: Duration) {
        let now_ns = self.network.now_ns();
        let deadlines = self.shards.iter().filter_map(|shard| shard.next_deadline_ns());
        let next_ns = deadlines.chain(self.network.next_event_ns()).min().unwrap_or(u64::MAX);
        let wait = Duration::from_nanos(next_ns.saturating_sub(now_ns));
        self.network.advance(wait.min(STRIDE * (1 << self.idle_rounds)).min(limit));
    }
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Simulation({} shards at {} ns)", self.shards.len(), self.network.now_ns())
    }
}

/// A shard of whatever application.
trait Stepped {
    fn step(&mut self) -> Result<Progress, ServerError>;
    fn next_deadline_ns(&self) -> Option<u64>;
    fn stand_still(&mut self, stall_ns: u64);
    #[cfg(test)]
    fn buffers_lent(&mut self) -> usize;
}

impl<A: Application> Stepped for Shard<A> {
    fn step(&mut self) -> Result<Progress, ServerError> {
        self.advance(Some(Duration::ZERO))
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        Shard::next_deadline_ns(self)
    }

    fn stand_still(&mut self, stall_ns: u64) {
        Shard::stand_still(self, stall_ns);
    }

    #[cfg(test)]
    fn buffers_lent(&mut self) -> usize {
        Shard::buffers_lent(self)
    }
}

/// splitmix64: small, and the same on every machine.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn shuffle(&mut self, items: &mut [usize]) {
        for place in (1..items.len()).rev() {
            let other = ((u128::from(self.bits()) * (place as u128 + 1)) >> 64) as usize;
            items.swap(place, other);
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos().min(u128::from(u64::MAX >> 1)) as u64
}
