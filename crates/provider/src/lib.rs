//! One completion interface over the I/O mechanisms of operating systems, io_uring and epoll on Linux, and over a simulated
//! network ([`SimNetwork`]) for tests.
//!
//! [`Driver`] is where to start: it owns one back end on one thread. Operations go in with their buffers and come back in
//! [`Completion`]s, once each. What can be relied on is written down, clause by clause, in `docs/semantics.md`.
//!
//! ```
//! use raon_provider::{Completions, Config, Driver, ListenOptions, Outcome};
//! let mut driver = Driver::open(&Config::default())?;
//! let listener = driver.listen(([127, 0, 0, 1], 0), &ListenOptions::default())?;
//! driver.accept(listener, 1)?;
//! let address = driver.local_address(listener)?;
//! driver.connect(address, &Default::default(), 2)?;
//! let mut completions = Completions::with_capacity(64);
//! let mut tokens = Vec::new();
//! while tokens.len() < 2 {
//!     driver.poll(None, &mut completions)?;
//!     tokens.extend(completions.drain().map(|completion| completion.token));
//! }
//! # Ok::<(), raon_provider::Error>(())
//! ```

// What only the back ends of other systems use; Linux has the most of them, and there nothing may be left over.
#![cfg_attr(not(target_os = "linux"), allow(dead_code, unreachable_pub, reason = "used by back ends of Linux"))]

#[macro_use]
mod any;
mod backend;
mod base;
mod config;
mod contract;
mod driver;
mod faulty;
mod memory;
mod platform;
mod socket;

pub use any::Availability;
#[doc(hidden)]
pub use any::forms;
pub use base::address::Address;
pub use base::error::{Error, ErrorKind, Feature, Refused};
pub use base::id::{OperationId, SocketId};
pub use base::kind::Kind;
pub use base::setting::Setting;
pub use config::{
    Backend, Config, DatagramConfig, FaultRates, Faults, IocpConfig, RioConfig, SetupTier, SimConfig, UringConfig,
};
pub use contract::FeatureState;
#[doc(hidden)]
pub use contract::form::Form;
pub use contract::stats::{Latency, Stats, leaked_operations};
pub use driver::Driver;
pub use driver::completion::{Completion, Completions, Outcome};
pub use driver::info::Info;
pub use driver::operation::{CloseMode, Operation, Payload, ReceiveBuffer};
pub use driver::submitter::Submitter;
pub use memory::buffer::{Buffer, PoolState};
pub use memory::config::PoolConfig;
pub use platform::OwnedSocket;
// The double of registered I/O, and its parts, are on Windows only.
pub use platform::rio::*;
pub use socket::sim::fault::FaultPlan;
pub use socket::sim::network::SimNetwork;
pub use socket::sim::peer::{SimListener, SimPeer};
pub use socket::sim::socket::SimSocket;
pub use socket::{AcceptedSocket, BindOptions, ConnectOptions, ListenOptions};
