//! A server engine for games: sessions over any framing, on io_uring, epoll, or a simulated network.
//!
//! The smallest server is a closure:
//!
#![doc = concat!("```no_run\n", include_str!("../examples/echo.rs"), "\n```")]
//!
//! A game is an [`Application`]: one instance per shard, a state per session, and a [`Context`] in every callback to reply,
//! send, join groups, post to other shards and set timers. Game threads reach it by a [`ServerHandle`]. A [`Simulation`]
//! runs the same application on a network that is as bad as the test wants, and the same in every run.
//!
//! # The life of a message
//!
//! 1. A shard's turn brings a receive buffer of a connection. The framing finds the messages in it, and the application gets
//!    each where it lies.
//! 2. What the application sends is framed into the tail of the receiver's outbox.
//! 3. When all that has come in this turn has been dealt with, each session that has anything queued hands it to the driver,
//!    as one send. If its peer is slow it stays in the outbox, which is bounded, until the driver has room again.
//!
//! Nothing is allocated on this way once the tables have grown to the load.

#![forbid(unsafe_code)]

mod application;
mod base;
mod config;
mod core;
mod error;
mod memory;
mod platform;
mod routing;
mod server;
mod sessions;
mod shard;
mod simulation;

pub use self::core::BroadcastOutcome;
pub use application::broadcast::Group;
pub use application::context::Context;
pub use application::{Application, Head, ShardInfo};
pub use base::id::{SHARDS_MAX, SessionId};
pub use base::metrics::ServerStats;
pub use config::{ConfigError, ConfigErrors, OnPanic, OnShardFailure, Profile, ServerConfig, SlowConsumerPolicy};
pub use error::{MailboxError, MailboxRefusal, ServerError, ShardFailure};
pub use memory::budget::ChargedBytes;
pub use raon_provider::{Address, FaultPlan, Kind, SimNetwork, SimPeer};
pub use raon_session::{
    BodyWriter, ByteOrder, CloseReason, Decoded, Delimiter, EncodeError, Fixed, Framing, FramingError, LengthPrefix,
    LengthWidth, Message, Packet, PacketHead, Pressure, RateLimit, Raw, Refusal, SendOutcome, TransportFailure,
};
pub use routing::router::ServerState;
pub use server::closures::{ClosureBuilder, ClosureContext, Closures};
pub use server::handle::ServerHandle;
pub use server::{Builder, RunningServer, Server, ServerBuilder};
pub use sessions::group::GroupKey;
pub use simulation::Simulation;

/// The guide's examples are tested like those of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide.md")]
struct Guide;

/// And so is the README's.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
