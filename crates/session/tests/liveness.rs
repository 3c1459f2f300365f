//! Deadlines: the handshake, silence, heartbeats, slow consumers, and the one timer that they share.

use raon_session::{
    ChunkAllocator, CloseReason, HalfClosePolicy, HandshakeEnd, HeapAllocator, LivenessLimits, OutboxLimits, Pressure,
    Raw, Session, SessionConfig, SlowConsumer, State, TimerAction,
};

const MS: u64 = 1_000_000;

fn config(liveness: LivenessLimits) -> SessionConfig {
    SessionConfig::default().with(|config| config.liveness = liveness)
}

/// No handshake; the session is open from its first message.
fn silent(idle_ms: u32, heartbeat_every_ms: u32, heartbeat_answer_ms: u32) -> SessionConfig {
    config(LivenessLimits::default().with(|liveness| {
        liveness.handshake_ms = 0;
        liveness.idle_ms = idle_ms;
        liveness.heartbeat_every_ms = heartbeat_every_ms;
        liveness.heartbeat_answer_ms = heartbeat_answer_ms;
    }))
}

fn opened(config: &SessionConfig, now_ns: u64) -> Session<Vec<u8>> {
    Session::new(config, now_ns)
}

fn hear(session: &mut Session<Vec<u8>>, config: &SessionConfig, now_ns: u64) {
    session.received(config, now_ns, 1, 10).expect("no rate is set");
}

/// Plays the timer from its first deadline until it is not set again; what it brought, and when, in milliseconds.
fn play_timer(
    session: &mut Session<Vec<u8>>,
    config: &SessionConfig,
    mut heard_ms: Vec<u64>,
) -> Vec<(u64, TimerAction)> {
    let mut actions = Vec::new();
    let mut timer = session.arm(config);
    while let Some(at_ns) = timer {
        while heard_ms.first().is_some_and(|heard| heard * MS <= at_ns) {
            hear(session, config, heard_ms.remove(0) * MS);
        }
        let action = session.timer_fired(config, at_ns);
        actions.push((at_ns / MS, action));
        timer = match action {
            TimerAction::Rearm { at_ns } | TimerAction::Heartbeat { at_ns } => Some(at_ns),
            TimerAction::Nothing | TimerAction::Close(_) | TimerAction::Abort => None,
        };
        assert!(actions.len() < 1000, "the timer does not come to rest");
    }
    actions
}

//= LIVE-1
#[test]
fn a_handshake_that_is_not_done_in_time_closes() {
    let config = SessionConfig::default();
    let mut session = opened(&config, 3 * MS);
    assert_eq!(session.arm(&config), Some(10_003 * MS));
    assert_eq!(session.timer_fired(&config, 10_003 * MS), TimerAction::Close(CloseReason::HandshakeTimeout));
    let step = session.close(&config, 10_003 * MS, CloseReason::HandshakeTimeout);
    assert!(step.has_ended);
}

//= LIVE-1
#[test]
fn the_first_message_ends_the_handshake() {
    let config = SessionConfig::default();
    let mut session = opened(&config, 0);
    let timer = session.arm(&config).expect("the handshake has a deadline");
    hear(&mut session, &config, 9_999 * MS);
    assert_eq!(session.state(), State::Open);
    assert_eq!(session.timer_fired(&config, timer), TimerAction::Nothing, "no other deadline is on by default");
    assert_eq!(session.arm(&config), None);
}

//= LIVE-1
#[test]
fn an_explicit_handshake_ends_when_it_is_said() {
    let limits = LivenessLimits::default().with(|liveness| liveness.handshake_end = HandshakeEnd::Explicit);
    let config = config(limits);
    for is_said in [false, true] {
        let mut session = opened(&config, 0);
        let timer = session.arm(&config).expect("a deadline");
        hear(&mut session, &config, 5 * MS);
        assert_eq!(session.state(), State::Opening);
        if is_said {
            session.establish();
            assert_eq!(session.state(), State::Open);
        }
        let expected = if is_said { TimerAction::Nothing } else { TimerAction::Close(CloseReason::HandshakeTimeout) };
        assert_eq!(session.timer_fired(&config, timer), expected);
    }
}

//= LIVE-2
#[test]
fn idle_counts_from_the_last_message() {
    let config = silent(100, 0, 0);
    let mut session = opened(&config, 0);
    let actions = play_timer(&mut session, &config, vec![30, 60, 150]);
    assert_eq!(
        actions,
        [
            (100, TimerAction::Rearm { at_ns: 160 * MS }),
            (160, TimerAction::Rearm { at_ns: 250 * MS }),
            (250, TimerAction::Close(CloseReason::IdleTimeout)),
        ]
    );
}

//= LIVE-2
#[test]
fn silence_calls_for_a_heartbeat_and_no_answer_closes() {
    let config = silent(0, 100, 40);
    let mut session = opened(&config, 0);
    let actions = play_timer(&mut session, &config, vec![120]);
    assert_eq!(
        actions,
        [
            (100, TimerAction::Heartbeat { at_ns: 140 * MS }),
            // Answered at 120: the next silence counts from there.
            (140, TimerAction::Rearm { at_ns: 220 * MS }),
            (220, TimerAction::Heartbeat { at_ns: 260 * MS }),
            (260, TimerAction::Close(CloseReason::HeartbeatTimeout)),
        ]
    );
}

//= LIVE-2
#[test]
fn an_answer_at_the_same_moment_is_one() {
    let config = silent(0, 100, 40);
    let mut session = opened(&config, 0);
    let timer = session.arm(&config).expect("a deadline");
    assert_eq!(session.timer_fired(&config, timer), TimerAction::Heartbeat { at_ns: 140 * MS });
    hear(&mut session, &config, timer);
    assert_eq!(session.timer_fired(&config, 140 * MS), TimerAction::Rearm { at_ns: 200 * MS });
}

//= LIVE-2
#[test]
fn heartbeats_without_a_deadline_go_on() {
    let config = silent(350, 100, 0);
    let mut session = opened(&config, 0);
    let actions = play_timer(&mut session, &config, vec![]);
    assert_eq!(
        actions,
        [
            (100, TimerAction::Heartbeat { at_ns: 200 * MS }),
            (200, TimerAction::Heartbeat { at_ns: 300 * MS }),
            (300, TimerAction::Heartbeat { at_ns: 350 * MS }),
            (350, TimerAction::Close(CloseReason::IdleTimeout)),
        ]
    );
}

//= LIVE-2
#[test]
fn bytes_that_are_no_message_keep_nobody_alive() {
    let config = silent(100, 0, 0);
    let (mut session, mut allocator) = (opened(&config, 0), HeapAllocator::default());
    let (framing, mut inbox) = (raon_session::Packet::new(), raon_session::Inbox::default());
    assert!(inbox.next(&framing, &mut &[200, 0, 1][..], allocator.free_lists()).expect("good so far").is_none());
    let timer = session.arm(&config).expect("a deadline");
    assert_eq!(session.timer_fired(&config, timer), TimerAction::Close(CloseReason::IdleTimeout));
}

//= LIVE-1
#[test]
fn a_handshake_has_no_heartbeats_and_the_first_one_after_it_is_in_time() {
    let limits = LivenessLimits::default().with(|liveness| {
        liveness.heartbeat_every_ms = 4000;
        liveness.heartbeat_answer_ms = 10;
    });
    let config = config(limits);
    let actions = play_timer(&mut opened(&config, 0), &config, vec![]);
    assert_eq!(
        actions,
        [
            (4000, TimerAction::Rearm { at_ns: 8000 * MS }),
            (8000, TimerAction::Rearm { at_ns: 10_000 * MS }),
            (10_000, TimerAction::Close(CloseReason::HandshakeTimeout)),
        ]
    );
    let actions = play_timer(&mut opened(&config, 0), &config, vec![1500]);
    assert_eq!(
        actions,
        [
            (4000, TimerAction::Rearm { at_ns: 5500 * MS }),
            (5500, TimerAction::Heartbeat { at_ns: 5510 * MS }),
            (5510, TimerAction::Close(CloseReason::HeartbeatTimeout)),
        ]
    );
}

//= LIVE-2
#[test]
fn a_peer_that_reads_is_alive_though_nobody_listens() {
    let config = silent(100, 60, 30);
    let mut session = opened(&config, 0);
    let timer = session.arm(&config).expect("a deadline");
    assert_eq!(session.timer_fired(&config, timer), TimerAction::Heartbeat { at_ns: 90 * MS });
    session.alive(80 * MS);
    assert_eq!(session.state(), State::Opening, "that is no handshake");
    assert_eq!(session.timer_fired(&config, 90 * MS), TimerAction::Rearm { at_ns: 140 * MS });
    let keep = config.with(|config| config.half_close = HalfClosePolicy::KeepOpen);
    session.peer_ended(&keep, 100 * MS);
    session.alive(110 * MS);
    assert_eq!(session.timer_fired(&keep, 140 * MS), TimerAction::Nothing, "its silence does not matter any more");
}

#[test]
fn nothing_on_means_no_timer() {
    let config = silent(0, 0, 0);
    assert_eq!(opened(&config, 0).arm(&config), None);
}

/// A session whose outbox is over its high watermark since 50 ms.
fn pressed(config: &SessionConfig) -> Session<Vec<u8>> {
    let (mut session, mut allocator) = (opened(config, 0), HeapAllocator::default());
    hear(&mut session, config, MS);
    session.outbox.append(&Raw, (), &[1; 100], &config.outbox, &mut allocator);
    let settled = session.settle(config, 50 * MS, allocator.free_lists());
    assert_eq!(settled.pressure, Some(Pressure::High));
    session
}

fn impatient(grace_ms: u32, handshake_ms: u32) -> SessionConfig {
    let outbox = OutboxLimits::default().with(|outbox| {
        outbox.watermark_high_bytes = 99;
        outbox.watermark_low_bytes = 10;
        outbox.slow_consumer = SlowConsumer::DisconnectAfter { grace_ms };
    });
    let liveness = LivenessLimits::default().with(|liveness| liveness.handshake_ms = handshake_ms);
    SessionConfig::default().with(|config| {
        config.outbox = outbox;
        config.liveness = liveness;
    })
}

//= OUTBOX-4
#[test]
fn a_slow_consumer_is_closed_after_its_grace() {
    for (grace_ms, at_ms) in [(200, 250), (0, 51)] {
        let config = impatient(grace_ms, 0);
        let mut session = pressed(&config);
        let timer = session.arm(&config).expect("the grace");
        assert_eq!(timer, at_ms * MS);
        assert_eq!(session.timer_fired(&config, timer), TimerAction::Close(CloseReason::SlowConsumer));
    }
}

//= OUTBOX-4
#[test]
fn a_slow_consumer_that_catches_up_stays() {
    let config = impatient(200, 0);
    let mut session = pressed(&config);
    let timer = session.arm(&config).expect("the grace");
    session.outbox.take();
    let mut free_lists = raon_session::FreeLists::default();
    assert_eq!(session.settle(&config, 200 * MS, &mut free_lists).pressure, Some(Pressure::Low));
    assert_eq!(session.timer_fired(&config, timer), TimerAction::Nothing);
    assert_eq!(session.arm(&config), None);
}

#[test]
fn without_that_policy_pressure_has_no_deadline() {
    let mut config = impatient(200, 0);
    config.outbox.slow_consumer = SlowConsumer::Refuse;
    assert_eq!(pressed(&config).arm(&config), None);
}

#[test]
fn an_earlier_deadline_is_armed_and_the_old_timer_does_nothing() {
    let limits = LivenessLimits::default().with(|liveness| {
        liveness.handshake_ms = 0;
        liveness.idle_ms = 10_000;
    });
    let config = impatient(200, 0).with(|config| config.liveness = limits);
    let (mut session, mut allocator) = (opened(&config, 0), HeapAllocator::default());
    assert_eq!(session.arm(&config), Some(10_000 * MS));
    hear(&mut session, &config, 9_000 * MS);
    session.outbox.append(&Raw, (), &[1; 100], &config.outbox, &mut allocator);
    session.settle(&config, 9_900 * MS, allocator.free_lists());
    assert_eq!(session.arm(&config), None, "10,100 is later than what is set");
    assert_eq!(session.timer_fired(&config, 10_000 * MS), TimerAction::Rearm { at_ns: 10_100 * MS });
    session.outbox.take();
    session.settle(&config, 10_050 * MS, allocator.free_lists());
    assert_eq!(session.timer_fired(&config, 10_060 * MS), TimerAction::Nothing, "too early: an old one");
    assert_eq!(session.timer_fired(&config, 10_100 * MS), TimerAction::Rearm { at_ns: 19_000 * MS });
}

#[test]
fn a_closing_session_is_armed_earlier_than_its_silence_was() {
    let config = silent(10_000, 0, 0).with(|config| config.drain_ms = 100);
    let mut session = opened(&config, 0);
    assert_eq!(session.arm(&config), Some(10_000 * MS));
    session.close(&config, 500 * MS, CloseReason::Application(1));
    assert_eq!(session.arm(&config), Some(600 * MS));
    assert_eq!(session.timer_fired(&config, 600 * MS), TimerAction::Abort);
    assert_eq!(session.timer_fired(&config, 10_000 * MS), TimerAction::Nothing, "the old one, which was left");
}

//= CLOSE-5
#[test]
fn a_peer_that_has_ended_may_be_silent() {
    let config = silent(100, 50, 10).with(|config| config.half_close = HalfClosePolicy::KeepOpen);
    let mut session = opened(&config, 0);
    let timer = session.arm(&config).expect("a deadline");
    session.peer_ended(&config, 20 * MS);
    assert_eq!(session.state(), State::HalfClosed);
    assert_eq!(session.timer_fired(&config, timer), TimerAction::Nothing);
    assert_eq!(session.arm(&config), None);
}

//= LIVE-3
#[test]
fn no_deadline_counts_time_in_which_nobody_looked() {
    // Idle, the handshake, and the drain: each is due at 3 s, and two of them were lost.
    let idle = silent(3000, 0, 0);
    let handshake = config(LivenessLimits::default().with(|liveness| liveness.handshake_ms = 3000));
    let drain = silent(0, 0, 0).with(|config| config.drain_ms = 3000);
    for config in [idle, handshake, drain] {
        let mut session = opened(&config, 0);
        if config.drain_ms == 3000 {
            assert!(session.close(&config, 0, CloseReason::Shutdown).has_ended);
        }
        assert_eq!(session.arm(&config), Some(3000 * MS));
        session.forgive(&config, 3500 * MS, 2000 * MS);
        assert_eq!(session.timer_fired(&config, 3500 * MS), TimerAction::Rearm { at_ns: 5000 * MS });
        assert!(matches!(session.timer_fired(&config, 5000 * MS), TimerAction::Close(_) | TimerAction::Abort));
    }
}

/// A close that was put off is asked for again, and what was heard meanwhile counts.
//= LIVE-3
#[test]
fn a_close_that_was_put_off_can_be_asked_for_again() {
    let config = silent(1000, 0, 0);
    let mut session = opened(&config, 0);
    session.arm(&config);
    let due = TimerAction::Close(CloseReason::IdleTimeout);
    assert_eq!(
        (session.timer_fired(&config, 1000 * MS), session.timer_fired(&config, 1001 * MS)),
        (due, TimerAction::Nothing)
    );
    assert_eq!(session.check_deadlines(&config, 1002 * MS), due);
    hear(&mut session, &config, 1003 * MS);
    assert_eq!(session.check_deadlines(&config, 1004 * MS), TimerAction::Rearm { at_ns: 2003 * MS });
    assert_eq!(session.timer_fired(&config, 2003 * MS), due);
}
