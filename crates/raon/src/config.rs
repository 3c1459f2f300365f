//! Everything that can be set, with units in the names, from TOML and from the environment; all errors at once.

mod check;
mod profile;
mod source;

use std::fmt;

pub(crate) use check::{Listen, SESSIONS_PER_SHARD_MAX};
pub use profile::Profile;
use serde::{Deserialize, Serialize};

/// Policy for the shard when a callback of the application panics. The session that it was about is closed either way.
///
/// ```
/// use raon::{ServerConfig, OnPanic};
/// assert_eq!(ServerConfig::default().on_panic, OnPanic::Continue);
/// assert_eq!(ServerConfig::from_toml("on_panic = \"stop_shard\"")?.on_panic, OnPanic::StopShard);
/// # Ok::<(), raon::ConfigErrors>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnPanic {
    /// The other sessions go on.
    #[default]
    Continue,
    /// The shard closes its sessions and stops: its state cannot be trusted any more. What the server does then is said by
    /// [`OnShardFailure`].
    StopShard,
}

/// Policy for the server when a shard ends, however it ends, before the server is stopped.
///
/// ```
/// use raon::{ServerConfig, OnShardFailure};
/// assert_eq!(ServerConfig::default().on_shard_failure, OnShardFailure::StopServer);
/// assert_eq!(ServerConfig::from_toml("on_shard_failure = \"go_on\"")?.on_shard_failure, OnShardFailure::GoOn);
/// # Ok::<(), raon::ConfigErrors>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnShardFailure {
    /// The server stops in order, with `close_timeout_ms` as its grace: whoever watches the process starts it again.
    #[default]
    StopServer,
    /// The other shards go on. If it was the one that accepts, another takes its listener over.
    GoOn,
}

impl fmt::Display for OnShardFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OnShardFailure::StopServer => "the server stops (on_shard_failure)",
            OnShardFailure::GoOn => "the other shards go on (on_shard_failure)",
        })
    }
}

/// Policy for a session whose peer does not read as fast as is sent to it. At the bound of its outbox:
///
/// ```
/// use raon::{ServerConfig, SlowConsumerPolicy};
/// let config = ServerConfig::from_toml("slow_consumer = \"disconnect\"\nslow_consumer_grace_ms = 5000")?;
/// assert_eq!(config.slow_consumer, SlowConsumerPolicy::Disconnect);
/// # Ok::<(), raon::ConfigErrors>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SlowConsumerPolicy {
    /// Messages are refused and counted.
    #[default]
    Refuse,
    /// The oldest droppable messages make room.
    DropOldestDroppable,
    /// As `refuse`, and a session that stays over its high watermark for `slow_consumer_grace_ms` is closed.
    Disconnect,
}

macro_rules! config {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $default:expr,)*) => {
        /// The configuration of a server. Each field is also a key of the TOML file, and in capitals behind `RAON_` a
        /// variable of the environment, which has the last word. `RAON_BACKEND` replaces `auto` and only that. The key
        /// `profile` (`public` or `lan`) sets several of them at once, before all others: see [`Profile`].
        ///
        /// ```
        /// use raon::ServerConfig;
        /// let config = ServerConfig::from_toml("sessions_max = 500\ntick_ms = 50")?;
        /// assert_eq!((config.sessions_max, config.handshake_timeout_ms), (500, 10_000));
        /// let errors = ServerConfig::from_toml("sessions_max = -1\ntick = 50\nworkers = 1000").unwrap_err();
        /// assert_eq!(errors.iter().count(), 3);
        /// # Ok::<(), raon::ConfigErrors>(())
        /// ```
        #[derive(Clone, PartialEq, Eq, Debug, Serialize)]
        #[non_exhaustive]
        pub struct ServerConfig {
            /// Set by [`ServerConfig::apply_profile`], which sets what belongs to it too.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub(crate) profile: Option<Profile>,
            $($(#[$doc])* pub $name: $type,)*
        }

        impl Default for ServerConfig {
            fn default() -> Self {
                ServerConfig { profile: None, $($name: $default,)* }
            }
        }

        impl ServerConfig {
            const NAMES: &[&str] = &[$(stringify!($name),)*];

            /// Sets one field from a value of TOML. `None`: there is no such field.
            fn set(&mut self, name: &str, value: toml::Value) -> Option<Result<(), String>> {
                match name {
                    // Applied before all fields.
                    "profile" => Some(Ok(())),
                    $(stringify!($name) => Some(value.try_into().map(|value| self.$name = value).map_err(one_line)),)*
                    _ => None,
                }
            }
        }
    };
}

fn one_line(error: toml::de::Error) -> String {
    error.message().trim().replace('\n', " ")
}

config! {
    /// Where to listen: `ADDRESS:PORT`, `unix:/PATH`, `unix:@NAME`, or `inherit` for the listener of LISTEN_FDS.
    listen: String = "127.0.0.1:9000".into(),
    /// The back end: `auto`, `io_uring` or `epoll`.
    backend: String = "auto".into(),
    /// Shards, each with a thread of its own, 1 to 128; 0: one per core.
    workers: u32 = 0,
    /// Each shard listens by itself and the system spreads connections (SO_REUSEPORT); otherwise the first shard accepts
    /// and hands each connection to the least loaded one.
    reuse_port: bool = false,
    /// Each shard's thread stays on a core of its own.
    pin_shards: bool = false,
    /// Connections that wait to be accepted.
    backlog: u32 = 4096,
    /// Most sessions of the server, at most 131,072 for each shard; beyond it connections are closed at once. The default is
    /// lowered to what the process may have descriptors for.
    sessions_max: u32 = 65_536,
    /// Most sessions from one IP address, or from one IPv6 network (`address_prefix_v6_bits`); 0: no limit.
    sessions_per_address_max: u32 = 0,
    /// Leading bits by which IPv6 addresses count as one, 1 to 128. The default is the network that a customer has at least, all
    /// of whose addresses are his. IPv4 addresses and link-local ones count whole.
    address_prefix_v6_bits: u32 = 64,
    /// Memory that begun frames and outboxes of all sessions may take together, in bytes, beside the drivers' pools: at least
    /// 1 MiB, and 128 KiB for each shard. What many sessions share is charged once. When it is used up, the sessions that
    /// hold most are reset for those that need little (`MemoryBudget`).
    memory_bytes_max: u64 = 1 << 30,
    /// Most bytes that wait in one session's outbox.
    outbox_bytes_max: u32 = 256 * 1024,
    /// Most messages that wait in one session's outbox.
    outbox_messages_max: u32 = 4096,
    /// A session with more bytes left in its outbox is under high pressure.
    watermark_high_bytes: u32 = 64 * 1024,
    /// And with at most so many it no longer is.
    watermark_low_bytes: u32 = 16 * 1024,
    /// A session under high pressure is not read from: its peer gets no answers that it does not fetch.
    pause_receiving: bool = true,
    /// Policy at the bound of an outbox: `refuse`, `drop_oldest_droppable` or `disconnect`.
    slow_consumer: SlowConsumerPolicy = SlowConsumerPolicy::Refuse,
    /// With `disconnect`: how long a session may stay under high pressure, in milliseconds.
    slow_consumer_grace_ms: u32 = 5_000,
    /// A session must have finished its handshake within this time; 0: no limit.
    handshake_timeout_ms: u32 = 10_000,
    /// A session whose peer has ended its side goes on one way until the application closes it; otherwise it ends then, and
    /// what is queued still leaves.
    keep_half_closed: bool = false,
    /// The first message ends the handshake; otherwise only `Context::establish` does.
    handshake_ends_with_message: bool = true,
    /// A session from which nothing has come for so long is closed; 0: never.
    idle_timeout_ms: u32 = 0,
    /// After a silence of this length `on_heartbeat` is called; 0: never.
    heartbeat_every_ms: u32 = 0,
    /// A session that sends nothing for so long after that is closed; 0: a heartbeat needs no answer.
    heartbeat_answer_ms: u32 = 0,
    /// Messages per second that one session may send; 0: no limit.
    messages_per_second_max: u32 = 0,
    /// Messages that may come at once; 0: those of one second.
    messages_burst: u32 = 0,
    /// Bytes of messages per second that one session may send; 0: no limit.
    bytes_per_second_max: u32 = 0,
    /// Bytes that may come at once; 0: those of one second.
    bytes_burst: u32 = 0,
    /// Period of `on_tick`, in milliseconds; 0: never.
    tick_ms: u32 = 0,
    /// Timers of the application on one shard, at most 130,048.
    timers_max: u32 = 4096,
    /// Most bytes that wait in one shard's mailbox for its next turn.
    mailbox_bytes_max: u32 = 16 * 1024 * 1024,
    /// Most commands that wait there.
    mailbox_commands_max: u32 = 262_144,
    /// Time that a session may take that is closed in order, in milliseconds: to deliver what waits, and then to see its
    /// peer's end.
    close_timeout_ms: u32 = 5_000,
    /// Policy when a callback or the framing panics: `continue` or `stop_shard`.
    on_panic: OnPanic = OnPanic::Continue,
    /// Policy when a shard has ended, by a panic or because its driver fails, or when a listener has: `stop_server` or
    /// `go_on`.
    on_shard_failure: OnShardFailure = OnShardFailure::StopServer,
    /// Receive buffers of 4 KiB per shard, 1 to 32,768: at least as many as sessions have bytes at the same moment.
    receive_buffers: u32 = 1024,
    /// Send buffers of 4 KiB per shard, at most as many as receive buffers. What finds none goes by the heap.
    send_buffers: u32 = 1024,
}

/// One thing that is wrong with a configuration.
///
/// ```
/// let errors = raon::ServerConfig::from_toml("workers = 'many'").unwrap_err();
/// assert_eq!(errors.iter().next().unwrap().field, "workers");
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ConfigError {
    /// The field; empty if it is about the text as a whole.
    pub field: String,
    /// Where its value comes from, for example `RAON_WORKERS`.
    pub source: String,
    /// Problem, and the remedy.
    pub problem: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, source, problem } = self;
        match (field.is_empty(), source.is_empty()) {
            (true, _) => write!(f, "{source}: {problem}"),
            (false, true) => write!(f, "{field}: {problem}"),
            (false, false) => write!(f, "{field} ({source}): {problem}"),
        }
    }
}

/// All that is wrong with a configuration, at least one thing.
///
/// ```
/// let errors = raon::ServerConfig::from_toml("workers = 1000\nbackend = 'magic'").unwrap_err();
/// assert_eq!(errors.to_string().lines().count(), 2);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }

    /// `Err` if there are any.
    pub(crate) fn check(errors: Vec<ConfigError>) -> Result<(), Self> {
        if errors.is_empty() { Ok(()) } else { Err(ConfigErrors(errors)) }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, error) in self.0.iter().enumerate() {
            if place > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
