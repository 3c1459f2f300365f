//! States, the one end, and its reason.

use raon_session::{
    Action, CloseReason, Event, HalfClosePolicy, HeapAllocator, Inbox, RateLimit, Raw, Session, SessionConfig, State,
    Step, TimerAction, TransportFailure,
};

const MS: u64 = 1_000_000;

fn session(config: &SessionConfig) -> Session<Vec<u8>> {
    Session::new(config, 0)
}

fn with_queue(config: &SessionConfig) -> Session<Vec<u8>> {
    let (mut session, mut allocator) = (session(config), HeapAllocator::default());
    session.outbox.append(&Raw, (), b"farewell", &config.outbox, &mut allocator);
    session
}

/// Every cell: rows are states, columns events, as `State::ALL` and `Event::ALL` list them.
#[test]
fn the_table_cell_by_cell() {
    const DRAIN: Option<Action> = Some(Action::Drain);
    const GRACEFUL: Option<Action> = Some(Action::CloseGracefully);
    const ABRUPT: Option<Action> = Some(Action::CloseAbruptly);
    use State::{Closed, Closing, HalfClosed, Open, Opening};
    let table = [
        // Established, PeerEnd, PeerEndKept, Close, Abort, Drained, SocketClosed
        [
            (Open, None),
            (Closing, DRAIN),
            (HalfClosed, None),
            (Closing, DRAIN),
            (Closed, ABRUPT),
            (Opening, None),
            (Closed, None),
        ],
        [
            (Open, None),
            (Closing, DRAIN),
            (HalfClosed, None),
            (Closing, DRAIN),
            (Closed, ABRUPT),
            (Open, None),
            (Closed, None),
        ],
        [
            (HalfClosed, None),
            (HalfClosed, None),
            (HalfClosed, None),
            (Closing, DRAIN),
            (Closed, ABRUPT),
            (HalfClosed, None),
            (Closed, None),
        ],
        [
            (Closing, None),
            (Closing, None),
            (Closing, None),
            (Closing, None),
            (Closed, ABRUPT),
            (Closed, GRACEFUL),
            (Closed, None),
        ],
        [
            (Closed, None),
            (Closed, None),
            (Closed, None),
            (Closed, None),
            (Closed, None),
            (Closed, None),
            (Closed, None),
        ],
    ];
    for (state, row) in State::ALL.into_iter().zip(table) {
        for (event, expected) in Event::ALL.into_iter().zip(row) {
            assert_eq!(state.on(event), expected, "{state:?} on {event:?}");
        }
    }
}

#[test]
fn the_states_say_what_may_be_done() {
    assert_eq!(State::ALL.map(State::is_live), [true, true, true, false, false]);
    assert_eq!(State::ALL.map(State::receives), [true, true, false, false, false]);
}

//= CLOSE-3
#[test]
fn every_sequence_of_events_ends_once_with_the_first_reason() {
    let config = SessionConfig::default();
    // All sequences of six calls out of six, with a reason of its own each: 46,656 lives.
    for number in 0..6usize.pow(6) {
        let (mut session, mut ends, mut rest) = (session(&config), 0, number);
        let mut expected = None;
        for place in 0..6u16 {
            let was_live = session.is_live();
            let (step, reason) = match rest % 6 {
                0 => (session.peer_ended(&config, MS), CloseReason::PeerClosed),
                1 => (session.close(&config, MS, CloseReason::Application(place)), CloseReason::Application(place)),
                2 => (session.abort(CloseReason::Application(100 + place)), CloseReason::Application(100 + place)),
                3 => (session.close(&config, MS, CloseReason::PeerReset), CloseReason::PeerReset),
                4 => (session.drained(), CloseReason::PeerClosed),
                _ => (session.socket_closed(), CloseReason::Transport(TransportFailure::Other)),
            };
            rest /= 6;
            if was_live && !session.is_live() {
                assert!(step.has_ended);
                expected = Some(reason);
            } else {
                assert!(!step.has_ended);
            }
            ends += u32::from(step.has_ended);
        }
        assert_eq!((session.reason(), ends), (expected, u32::from(expected.is_some())), "sequence {number}");
    }
}

//= CLOSE-4
#[test]
fn an_orderly_end_lets_the_queue_leave() {
    let config = SessionConfig::default();
    let mut session = with_queue(&config);
    let step = session.close(&config, MS, CloseReason::Application(3));
    assert_eq!(step, Step { action: Some(Action::Drain), has_ended: true });
    assert_eq!(session.drained(), Step::NOTHING, "something waits");
    assert!(session.outbox.take().is_some());
    assert_eq!(session.drained(), Step { action: Some(Action::CloseGracefully), has_ended: false });
    assert_eq!(session.socket_closed(), Step::NOTHING, "the end was told");
}

//= CLOSE-4
#[test]
fn a_queue_that_does_not_leave_is_given_up_at_the_deadline() {
    let config = SessionConfig::default().with(|config| config.drain_ms = 200);
    let mut session = with_queue(&config);
    session.close(&config, 10 * MS, CloseReason::Shutdown);
    let timer = session.arm(&config).expect("the drain's deadline");
    assert_eq!(timer, 210 * MS);
    // Another close, later, does not move it.
    assert_eq!(session.close(&config, 100 * MS, CloseReason::Application(1)), Step::NOTHING);
    assert_eq!(session.timer_fired(&config, timer), TimerAction::Abort);
    let step = session.abort(CloseReason::ShutdownForced);
    assert_eq!(step, Step { action: Some(Action::CloseAbruptly), has_ended: false });
    assert_eq!(session.reason(), Some(CloseReason::Shutdown), "the first reason stays");
    assert_eq!(session.timer_fired(&config, 300 * MS), TimerAction::Nothing);
}

#[test]
fn an_abrupt_reason_ends_the_waiting_of_a_closing_session() {
    let config = SessionConfig::default();
    let mut session = with_queue(&config);
    session.close(&config, MS, CloseReason::Application(3));
    assert_eq!(session.close(&config, MS, CloseReason::ShutdownForced).action, Some(Action::CloseAbruptly));
    assert_eq!(session.reason(), Some(CloseReason::Application(3)));
}

//= CLOSE-4
#[test]
fn reasons_are_abrupt_where_waiting_is_vain() {
    let config = SessionConfig::default();
    for reason in all_reasons() {
        let mut session = with_queue(&config);
        let expected = if reason.is_abrupt() { Action::CloseAbruptly } else { Action::Drain };
        assert_eq!(session.close(&config, MS, reason), Step { action: Some(expected), has_ended: true }, "{reason:?}");
        assert_eq!(session.reason(), Some(reason));
    }
    let abrupt: Vec<_> = all_reasons().into_iter().filter(|reason| reason.is_abrupt()).map(CloseReason::name).collect();
    assert_eq!(
        abrupt,
        ["peer_reset", "transport", "heartbeat_timeout", "slow_consumer", "memory_budget", "shutdown_forced"]
    );
}

//= CLOSE-5
#[test]
fn the_peers_end_closes_after_what_is_queued() {
    let config = SessionConfig::default();
    let mut session = with_queue(&config);
    assert_eq!(session.peer_ended(&config, MS), Step { action: Some(Action::Drain), has_ended: true });
    assert_eq!((session.state(), session.reason()), (State::Closing, Some(CloseReason::PeerClosed)));
    session.outbox.take();
    assert_eq!(session.drained().action, Some(Action::CloseGracefully));
}

//= CLOSE-5
#[test]
fn a_session_may_go_on_one_way() {
    let config = SessionConfig::default().with(|config| config.half_close = HalfClosePolicy::KeepOpen);
    let mut session = session(&config);
    assert_eq!(session.peer_ended(&config, MS), Step::NOTHING);
    assert!(session.is_live() && session.reason().is_none());
    assert_eq!(session.peer_ended(&config, MS), Step::NOTHING, "nor the second time");
    assert_eq!(session.peer_ended(&SessionConfig::default(), MS), Step::NOTHING, "nor by another rule");
    assert_eq!(session.reason(), None);
    assert_eq!(
        session.timer_fired(&config, 20_000 * MS),
        TimerAction::Nothing,
        "nor does the handshake matter any more"
    );
    assert_eq!(session.close(&config, MS, CloseReason::Application(0)).action, Some(Action::Drain));
    assert_eq!(session.reason(), Some(CloseReason::Application(0)));
}

/// What a server pays for each idle session, with a chunk as large as a buffer of the driver's pool is.
#[test]
fn a_session_is_small() {
    const { assert!(size_of::<Session<[u64; 4]>>() + size_of::<Inbox>() <= 160) };
    const { assert!(size_of::<CloseReason>() <= 4) };
    const { assert!(size_of::<Step>() <= 2) };
}

#[test]
fn the_configuration_says_what_is_wrong_with_it() {
    assert_eq!(SessionConfig::default().validate(), Ok(()));
    let mut wrong = SessionConfig::default().with(|config| config.drain_ms = 0);
    wrong.liveness.heartbeat_answer_ms = 5;
    wrong.outbox.bytes_max = 0;
    let problems = wrong.validate().unwrap_err();
    assert_eq!(problems.len(), 4, "{problems:?}");
}

#[test]
fn every_reason_has_a_name_a_number_and_a_sentence() {
    let reasons = all_reasons();
    assert_eq!(reasons.len(), CloseReason::COUNT);
    let mut sentences: Vec<String> = Vec::new();
    for (number, reason) in reasons.into_iter().enumerate() {
        assert_eq!((reason.index(), reason.name()), (number, CloseReason::names().nth(number).unwrap()));
        assert!(reason.name().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
        let sentence = reason.to_string();
        assert!(sentence.contains(' ') && !sentences.contains(&sentence), "{sentence}");
        sentences.push(sentence);
    }
    let failures = [
        TransportFailure::TimedOut,
        TransportFailure::Unreachable,
        TransportFailure::Aborted,
        TransportFailure::NoResources,
        TransportFailure::Other,
    ];
    let texts: std::collections::BTreeSet<String> = failures.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), failures.len());
}

#[test]
fn what_is_wrong_with_a_frame_becomes_a_reason() {
    use raon_session::FramingError;
    let too_long =
        [FramingError::TooLong { announced_bytes: 9, limit_bytes: 8 }, FramingError::Unended { limit_bytes: 8 }];
    assert!(too_long.into_iter().all(|error| CloseReason::from(error) == CloseReason::FrameTooLong));
    let malformed = [
        FramingError::TooShort { announced_bytes: 1, header_bytes: 4 },
        FramingError::Malformed { code: 1 },
        FramingError::Inconsistent,
    ];
    assert!(malformed.into_iter().all(|error| CloseReason::from(error) == CloseReason::FrameMalformed));
}

fn all_reasons() -> Vec<CloseReason> {
    vec![
        CloseReason::PeerClosed,
        CloseReason::PeerReset,
        CloseReason::Transport(TransportFailure::TimedOut),
        CloseReason::Application(7),
        CloseReason::ApplicationPanic,
        CloseReason::HandshakeTimeout,
        CloseReason::IdleTimeout,
        CloseReason::HeartbeatTimeout,
        CloseReason::FrameTooLong,
        CloseReason::FrameMalformed,
        CloseReason::RateLimit(RateLimit::Bytes),
        CloseReason::SlowConsumer,
        CloseReason::MemoryBudget,
        CloseReason::ServerFull,
        CloseReason::AddressLimit,
        CloseReason::Shutdown,
        CloseReason::ShutdownForced,
    ]
}
