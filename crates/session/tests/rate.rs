//! Rates: exact to the nanosecond, with a burst, and nothing taken of what is refused.

mod support;

use proptest::collection::vec;
use proptest::prelude::*;
use raon_session::{CloseReason, Rate, RateLimit, RateLimits, Session, SessionConfig};

const SECOND: u64 = 1_000_000_000;

fn both() -> RateLimits {
    RateLimits::default().with(|rates| {
        rates.messages_per_second = 10;
        rates.messages_burst = 3;
        rates.bytes_per_second = 1000;
        rates.bytes_burst = 200;
    })
}

//= RATE-1
#[test]
fn a_burst_and_then_the_rate() {
    let limits = both();
    let mut rate = Rate::new(&limits, 0);
    for _ in 0..3 {
        assert_eq!(rate.charge(&limits, 0, 1, 10), Ok(()));
    }
    assert_eq!(rate.charge(&limits, 99_999_999, 1, 10), Err(RateLimit::Messages));
    assert_eq!(rate.charge(&limits, 100_000_000, 1, 10), Ok(()));
    assert_eq!(rate.charge(&limits, 100_000_000, 1, 10), Err(RateLimit::Messages));
    // However long the silence, the burst is all there is.
    assert_eq!(rate.charge(&limits, 1000 * SECOND, 3, 10), Ok(()));
    assert_eq!(rate.charge(&limits, 1000 * SECOND, 1, 10), Err(RateLimit::Messages));
}

//= RATE-1
#[test]
fn bytes_have_a_bucket_of_their_own() {
    let limits = both();
    let mut rate = Rate::new(&limits, 0);
    assert_eq!(rate.charge(&limits, 0, 1, 201), Err(RateLimit::Bytes));
    assert_eq!(rate.charge(&limits, 0, 3, 200), Ok(()), "what was refused has taken nothing of either");
    assert_eq!(rate.charge(&limits, SECOND / 10, 1, 101), Err(RateLimit::Bytes));
    assert_eq!(rate.charge(&limits, SECOND / 10, 1, 100), Ok(()));
}

#[test]
fn no_burst_means_one_second_and_no_rate_no_limit() {
    let limits = RateLimits::default().with(|rates| rates.bytes_per_second = 500);
    let mut rate = Rate::new(&limits, 7);
    assert_eq!(rate.charge(&limits, 7, u32::MAX, 500), Ok(()));
    assert_eq!(rate.charge(&limits, 7, 0, 1), Err(RateLimit::Bytes));
    let largest = RateLimits::default().with(|rates| {
        rates.bytes_per_second = u32::MAX;
        rates.bytes_burst = u32::MAX;
    });
    let mut rate = Rate::new(&largest, 0);
    assert_eq!(rate.charge(&largest, u64::MAX, 1, u32::MAX), Ok(()));
    assert_eq!(rate.charge(&largest, u64::MAX, 1, 1), Err(RateLimit::Bytes));
    assert_eq!(rate.charge(&largest, 0, 1, 1), Err(RateLimit::Bytes), "a clock that goes back gives nothing");
}

//= RATE-1
#[test]
fn a_session_over_its_rate_has_a_reason_to_close() {
    let config = SessionConfig::default().with(|config| config.rate = both());
    let mut session = Session::<Vec<u8>>::new(&config, 0);
    assert_eq!(session.received(&config, 1, 3, 10), Ok(()));
    let error = session.received(&config, 2, 1, 10).unwrap_err();
    session.close(&config, 2, error.into());
    assert_eq!(session.reason(), Some(CloseReason::RateLimit(RateLimit::Messages)));
    assert_eq!(session.received(&config, 3, 99, 10), Ok(()), "what comes later is not counted");
    // Also in the handshake, which such a peer may never end.
    let mut session = Session::<Vec<u8>>::new(&config, 0);
    assert_eq!(session.received(&config, 1, 4, 10), Err(RateLimit::Messages));
}

proptest! {
    #![proptest_config(support::config())]

    //= RATE-1
    #[test]
    fn over_any_time_no_more_than_burst_and_rate(
        per_second in 1..2000u32,
        burst in 1..50u32,
        charges in vec((0..200_000_000u64, 1..20u32), 1..200),
    ) {
        let limits = RateLimits::default().with(|rates| { rates.messages_per_second = per_second; rates.messages_burst = burst; });
        let mut rate = Rate::new(&limits, 0);
        // The oracle: tokens as a fraction with denominator 10⁹, written out.
        let (mut now_ns, mut tokens) = (0u64, u128::from(burst) * u128::from(SECOND));
        for (pause_ns, messages) in charges {
            now_ns += pause_ns;
            tokens = (tokens + u128::from(pause_ns) * u128::from(per_second)).min(u128::from(burst) * u128::from(SECOND));
            let wanted = u128::from(messages) * u128::from(SECOND);
            let fits = wanted <= tokens;
            prop_assert_eq!(rate.charge(&limits, now_ns, messages, 0).is_ok(), fits);
            if fits {
                tokens -= wanted;
            }
        }
    }

    /// A peer that keeps to the rate sends while the reader stands still now and then, and is read late.
    //= RATE-1
    #[test]
    fn within_the_rate_when_it_was_sent_is_within_it_when_it_is_read(
        per_second in 1..2000u32,
        burst in 1..50u32,
        tries in vec((0..300_000_000u64, 0..4u32), 1..300),
    ) {
        let limits = RateLimits::default().with(|rates| { rates.messages_per_second = per_second; rates.messages_burst = burst; });
        let (mut peer, mut reader) = (Rate::new(&limits, 0), Rate::new(&limits, 0));
        let (mut now_ns, mut unread, mut still_since_ns) = (0, 0, None);
        for (pause_ns, act) in tries {
            now_ns += pause_ns;
            unread += u32::from(peer.charge(&limits, now_ns, 1, 0).is_ok());
            match (act, still_since_ns) {
                (0, None) => still_since_ns = Some(now_ns),
                (1, Some(since_ns)) => {
                    reader.forgive(&limits, now_ns, now_ns - since_ns);
                    still_since_ns = None;
                }
                _ => {}
            }
            while still_since_ns.is_none() && unread > 0 {
                prop_assert_eq!(reader.charge(&limits, now_ns, 1, 0), Ok(()));
                unread -= 1;
            }
        }
    }
}

//= RATE-1
#[test]
fn what_is_forgiven_is_bounded_and_ends() {
    let limits = RateLimits::default().with(|rates| {
        rates.messages_per_second = 5;
        rates.messages_burst = 6;
    });
    let mut rate = Rate::new(&limits, 0);
    // Nobody has read for two seconds: the burst, and the rate's ten.
    rate.forgive(&limits, 2 * SECOND, 2 * SECOND);
    assert_eq!(rate.charge(&limits, 2 * SECOND, 16, 0), Ok(()));
    assert_eq!(rate.charge(&limits, 2 * SECOND, 1, 0), Err(RateLimit::Messages));
    rate.forgive(&limits, 4 * SECOND, 2 * SECOND);
    assert_eq!(rate.charge(&limits, 6 * SECOND + 1, 7, 0), Err(RateLimit::Messages), "its time is over");
    assert_eq!(rate.charge(&limits, 6 * SECOND + 1, 6, 0), Ok(()));
}
