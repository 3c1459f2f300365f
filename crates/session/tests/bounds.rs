//! Sizes and times at the ends of their types, in any combination: no panic, no wrap, no loop without an end.

mod support;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::select;
use raon_session::{
    ChunkAllocator, CloseReason, HalfClosePolicy, HandshakeEnd, HeapAllocator, LivenessLimits, OutboxLimits,
    RateLimits, Raw, Session, SessionConfig, SlowConsumer, TimerAction,
};

fn number() -> impl Strategy<Value = u32> {
    select(vec![0, 1, 2, 1000, u32::MAX - 1, u32::MAX])
}

/// A clock that only goes on, and may stand at its end.
fn moments() -> impl Strategy<Value = Vec<u64>> {
    let ends = vec![0, 1, u64::from(u32::MAX) * 1_000_000, u64::MAX / 2, u64::MAX - 1, u64::MAX];
    proptest::collection::vec(select(ends), 6).prop_map(|mut moments| {
        moments.sort_unstable();
        moments
    })
}

fn config() -> impl Strategy<Value = SessionConfig> {
    let outbox = (number(), number(), number(), number(), 0..3u8, number());
    let liveness = (number(), number(), number(), number(), any::<bool>());
    let rate = (number(), number(), number(), number());
    (outbox, liveness, rate, any::<bool>(), number()).prop_map(|(outbox, liveness, rate, keeps_open, drain_ms)| {
        let (bytes_max, messages_max, watermark_high_bytes, watermark_low_bytes, policy, grace_ms) = outbox;
        let slow_consumer = match policy {
            0 => SlowConsumer::Refuse,
            1 => SlowConsumer::DropOldestDroppable,
            _ => SlowConsumer::DisconnectAfter { grace_ms },
        };
        let (handshake_ms, idle_ms, heartbeat_every_ms, heartbeat_answer_ms, is_explicit) = liveness;
        let (messages_per_second, messages_burst, bytes_per_second, bytes_burst) = rate;
        SessionConfig::default().with(|config| {
            config.outbox = OutboxLimits::default().with(|outbox| {
                outbox.bytes_max = bytes_max;
                outbox.messages_max = messages_max;
                outbox.watermark_high_bytes = watermark_high_bytes;
                outbox.watermark_low_bytes = watermark_low_bytes;
                outbox.slow_consumer = slow_consumer;
            });
            config.liveness = LivenessLimits::default().with(|liveness| {
                liveness.handshake_ms = handshake_ms;
                liveness.handshake_end = if is_explicit { HandshakeEnd::Explicit } else { HandshakeEnd::FirstMessage };
                liveness.idle_ms = idle_ms;
                liveness.heartbeat_every_ms = heartbeat_every_ms;
                liveness.heartbeat_answer_ms = heartbeat_answer_ms;
            });
            config.rate = RateLimits::default().with(|rates| {
                rates.messages_per_second = messages_per_second;
                rates.messages_burst = messages_burst;
                rates.bytes_per_second = bytes_per_second;
                rates.bytes_burst = bytes_burst;
            });
            config.half_close = if keeps_open { HalfClosePolicy::KeepOpen } else { HalfClosePolicy::Close };
            config.drain_ms = drain_ms;
        })
    })
}

proptest! {
    #![proptest_config(support::config())]

    //= LIVE-2, OUTBOX-2, RATE-1
    #[test]
    fn a_session_lives_with_any_limits_and_at_any_time(config in config(), moments in moments(), count in number()) {
        let (mut session, mut allocator) = (Session::<Vec<u8>>::new(&config, moments[0]), HeapAllocator::default());
        let shared = Bytes::from_static(&[7; 600]);
        for now_ns in moments {
            // What the limits take is theirs to say; what is taken is counted.
            let _ = session.received(&config, now_ns, count, count);
            session.establish();
            let before = (session.outbox.messages(), session.outbox.bytes());
            let is_queued = session.outbox.append(&Raw, (), b"raon", &config.outbox, &mut allocator).is_queued();
            let grown = (before.0 + usize::from(is_queued), before.1 + 4 * usize::from(is_queued));
            prop_assert_eq!((session.outbox.messages(), session.outbox.bytes()), grown);
            session.outbox.append_shared(&Raw, (), &shared, &config.outbox, &mut allocator);
            session.outbox.append_droppable(Some(1), &shared, &config.outbox, &mut allocator);
            prop_assert!(session.outbox.bytes() as u64 <= u64::from(config.outbox.bytes_max));
            session.settle(&config, now_ns, allocator.free_lists());
            session.arm(&config);
            match session.timer_fired(&config, now_ns) {
                TimerAction::Rearm { at_ns } | TimerAction::Heartbeat { at_ns } => prop_assert!(at_ns > now_ns),
                TimerAction::Nothing | TimerAction::Close(_) | TimerAction::Abort => {}
            }
        }
        session.close(&config, u64::MAX, CloseReason::Shutdown);
        session.arm(&config);
        session.timer_fired(&config, u64::MAX);
        session.outbox.clear(allocator.free_lists());
        prop_assert_eq!((session.outbox.messages(), session.outbox.bytes()), (0, 0));
    }
}
