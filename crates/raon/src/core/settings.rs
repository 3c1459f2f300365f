//! Settings of a shard: the configuration in the form in which the shard needs it.

use std::time::Duration;

use raon_provider::{self as provider, Backend, SimNetwork};
use raon_session::{HalfClosePolicy, HandshakeEnd, SessionConfig, SlowConsumer};

use super::flush::{GATHER_PIECES_MAX, HAND_OVER_BYTES_MAX, SENDS_PER_FLUSH};
use crate::config::{OnPanic, OnShardFailure, SESSIONS_PER_SHARD_MAX, ServerConfig, SlowConsumerPolicy};

/// Sends of a hand-over beside those of `flush.rs`: the one of a callback that finds its outbox full while the driver is busy.
const SENDS_OF_RELIEF: u32 = 1;
/// The accept, the tick, and the three timers of a shutdown, each twice while one is cancelled.
const OPERATIONS_OF_THE_SHARD: u32 = 16;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) session: SessionConfig,
    /// Most sessions of the shard.
    pub(crate) sessions_max: u32,
    pub(crate) tick: Option<Duration>,
    pub(crate) timers_max: usize,
    pub(crate) posts_max: usize,
    pub(crate) on_panic: OnPanic,
    pub(crate) on_shard_failure: OnShardFailure,
    /// The grace of a server that stops because a shard has failed.
    pub(crate) failure_grace_ns: u64,
    pub(crate) pause_receiving: bool,
    /// Sessions have rates, or deadlines that a shard makes them miss when it stands still.
    pub(crate) is_watched: bool,
    pub(crate) mark: Mark,
}

/// Mark up to which the outbox of a session may be full when the application gets its next message. One hand-over takes all
/// of it, so that the whole bound can be made free for the answers of one callback.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    /// Half of the high watermark: input that comes in bursts is no pressure as long as the peer reads.
    pub(crate) bytes_max: u32,
    pub(crate) messages_max: u32,
    pub(crate) pieces_max: u32,
}

impl Mark {
    fn new(config: &ServerConfig) -> Self {
        Mark {
            bytes_max: (config.watermark_high_bytes / 2).min(HAND_OVER_BYTES_MAX as u32),
            messages_max: config.outbox_messages_max / 2,
            pieces_max: GATHER_PIECES_MAX as u32 - 1,
        }
    }
}

impl Settings {
    pub(crate) fn new(config: &ServerConfig) -> Self {
        let milliseconds = |milliseconds: u32| Duration::from_millis(u64::from(milliseconds));
        Settings {
            session: session_config(config),
            sessions_max: sessions_max(config),
            tick: (config.tick_ms > 0).then(|| milliseconds(config.tick_ms)),
            timers_max: config.timers_max as usize,
            posts_max: config.mailbox_commands_max as usize,
            on_panic: config.on_panic,
            on_shard_failure: config.on_shard_failure,
            failure_grace_ns: u64::from(config.close_timeout_ms) * 1_000_000,
            pause_receiving: config.pause_receiving,
            mark: Mark::new(config),
            is_watched: config.slow_consumer == SlowConsumerPolicy::Disconnect || session_config(config).rate.is_on(),
        }
    }
}

fn session_config(config: &ServerConfig) -> SessionConfig {
    let slow_consumer = match config.slow_consumer {
        SlowConsumerPolicy::Refuse => SlowConsumer::Refuse,
        SlowConsumerPolicy::DropOldestDroppable => SlowConsumer::DropOldestDroppable,
        SlowConsumerPolicy::Disconnect => SlowConsumer::DisconnectAfter { grace_ms: config.slow_consumer_grace_ms },
    };
    let handshake_end =
        if config.handshake_ends_with_message { HandshakeEnd::FirstMessage } else { HandshakeEnd::Explicit };
    SessionConfig::default().with(|own| {
        own.outbox.bytes_max = config.outbox_bytes_max;
        own.outbox.messages_max = config.outbox_messages_max;
        own.outbox.watermark_high_bytes = config.watermark_high_bytes;
        own.outbox.watermark_low_bytes = config.watermark_low_bytes;
        own.outbox.slow_consumer = slow_consumer;
        own.liveness.handshake_ms = config.handshake_timeout_ms;
        own.liveness.handshake_end = handshake_end;
        own.liveness.idle_ms = config.idle_timeout_ms;
        own.liveness.heartbeat_every_ms = config.heartbeat_every_ms;
        own.liveness.heartbeat_answer_ms = config.heartbeat_answer_ms;
        own.rate.messages_per_second = config.messages_per_second_max;
        own.rate.messages_burst = config.messages_burst;
        own.rate.bytes_per_second = config.bytes_per_second_max;
        own.rate.bytes_burst = config.bytes_burst;
        own.half_close = if config.keep_half_closed { HalfClosePolicy::KeepOpen } else { HalfClosePolicy::Close };
        own.drain_ms = config.close_timeout_ms.max(1);
    })
}

/// Most sessions of one shard.
fn sessions_max(config: &ServerConfig) -> u32 {
    config.sessions_max.min(SESSIONS_PER_SHARD_MAX)
}

/// The configuration of a shard's driver: everything that its sessions may need at once has a place.
pub(crate) fn driver_config(config: &ServerConfig, network: Option<&SimNetwork>) -> provider::Config {
    let sessions = sessions_max(config);
    // A session: its stream of input, its timer, and the sends of one hand-over and of a relief.
    let operations_max =
        sessions * (2 + SENDS_PER_FLUSH + SENDS_OF_RELIEF) + config.timers_max + OPERATIONS_OF_THE_SHARD;
    let base = match network {
        Some(network) => provider::Config::simulated(network),
        None => provider::Config::default(),
    };
    let backend: Backend = match network {
        Some(_) => base.backend,
        None => config.backend.parse().unwrap_or_default(),
    };
    base.with(|driver| {
        driver.backend = backend;
        driver.sockets_max = sessions + 1;
        driver.operations_max = operations_max;
        // The outbox is the queue that has a bound; the driver gets no more than two hand-overs.
        driver.send_queue_bytes_max = u32::MAX;
        driver.pool.receive_count = config.receive_buffers;
        driver.pool.send_count = config.send_buffers;
    })
}

#[cfg(test)]
mod tests {
    use raon_provider::Driver;

    use super::*;

    #[test]
    fn a_driver_opens_at_the_bounds_of_the_configuration() {
        let network = SimNetwork::new(1);
        for sessions_max in [1, 65_536, SESSIONS_PER_SHARD_MAX * 128] {
            let config = ServerConfig { sessions_max, timers_max: (1 << 17) - 1024, ..ServerConfig::default() };
            assert_eq!(config.validate(), Ok(()));
            let opened = Driver::open(&driver_config(&config, Some(&network)));
            assert!(opened.is_ok(), "{sessions_max}: {:?}", opened.err());
        }
    }
}
