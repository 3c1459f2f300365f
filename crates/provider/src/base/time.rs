//! Durations on a driver's clock, in nanoseconds. All of it saturates: what lies too far ahead to be counted comes at the end
//! of the clock, never early.

use std::time::Duration;

/// The end of every clock, 584 years after its start.
pub(crate) const LAST_NS: u64 = u64::MAX - 1;
/// The deadline of what has none.
pub(crate) const NEVER_NS: u64 = u64::MAX;
/// The longest wait that a back end is asked for: what epoll_wait(2) takes, 2³¹ - 1 ms or 24 days. Whoever waits longer asks
/// again.
pub(crate) const WAIT_NS_MAX: u64 = i32::MAX as u64 * 1_000_000;

/// The longest drain: a drop has an end, whatever is configured.
//= DROP-1
pub(crate) const DRAIN_MAX: Duration = Duration::from_secs(24 * 3600);

/// A duration in nanoseconds, at most the length of a clock.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(LAST_NS).min(LAST_NS)
}

/// The moment that comes a duration after another one, at the latest the end of the clock.
//= TIME-1
pub(crate) fn after(now_ns: u64, duration: Duration) -> u64 {
    now_ns.saturating_add(nanoseconds(duration)).min(LAST_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_far_ahead_comes_at_the_end() {
        assert_eq!(nanoseconds(Duration::from_secs(1)), 1_000_000_000);
        // 2⁶⁴ nanoseconds and 0.29 s.
        assert_eq!(nanoseconds(Duration::from_secs(18_446_744_074)), LAST_NS);
        assert_eq!(nanoseconds(Duration::MAX), LAST_NS);
        assert_eq!(after(5, Duration::from_nanos(6)), 11);
        assert_eq!(after(LAST_NS - 1, Duration::from_nanos(9)), LAST_NS);
        assert_eq!(after(5, Duration::MAX), LAST_NS);
    }
}
