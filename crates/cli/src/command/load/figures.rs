//! The figures that one load and each step of a sweep have in common. The names in JSON are stable.

use serde::Serialize;

use crate::generator::{Arrivals, Offer, Tally};
use crate::report;

/// Lag from which the generator may be the limit.
const LAG_NS_MIN: u64 = 1_000_000;
/// Share of the offered rate below which the server did not keep up.
const KEPT_UP: f64 = 0.95;

#[derive(Serialize)]
pub(super) struct Latency {
    pub(super) p50: u64,
    pub(super) p90: u64,
    pub(super) p99: u64,
    pub(super) p999: u64,
    pub(super) max: u64,
}

#[derive(Serialize)]
pub(super) struct Lag {
    pub(super) p50: u64,
    pub(super) p99: u64,
    pub(super) max: u64,
}

/// Who did not keep up with the schedule.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Limit {
    Generator,
    Server,
}

/// How messages are spread.
#[derive(Serialize)]
pub(super) struct Spread {
    pub(super) arrivals: &'static str,
    pub(super) seed: Option<u64>,
    pub(super) in_flight_max: u32,
}

/// What an open loop has beside the figures of a closed one.
#[derive(Serialize)]
pub(super) struct Open {
    /// What was asked for.
    pub(super) rate_per_s: u32,
    /// What was due, which is answered, unanswered or unsent.
    pub(super) offered_per_s: f64,
    pub(super) scheduled: u64,
    /// Left later than they were due, or not at all, because too many were in flight.
    pub(super) backlogged: u64,
    pub(super) unsent: u64,
    pub(super) unanswered: u64,
    /// How late the generator was.
    pub(super) lag_ns: Lag,
    pub(super) limited_by: Option<Limit>,
}

impl Latency {
    pub(super) fn of(tally: &Tally) -> Self {
        let percentile = |percentile: f64| tally.latency_ns.value_at_quantile(percentile / 100.0);
        Latency {
            p50: percentile(50.0),
            p90: percentile(90.0),
            p99: percentile(99.0),
            p999: percentile(99.9),
            max: tally.latency_ns.max(),
        }
    }
}

impl Spread {
    pub(super) fn of(offer: &Offer) -> Self {
        let (arrivals, seed) = match offer.arrivals {
            Arrivals::Even => ("even", None),
            Arrivals::Poisson { seed } => ("poisson", Some(seed)),
        };
        Spread { arrivals, seed, in_flight_max: offer.in_flight_max }
    }

    /// In words.
    pub(super) fn text(&self) -> String {
        self.seed.map_or("evenly spread".into(), |seed| format!("at random (seed {seed})"))
    }
}

impl Open {
    pub(super) fn of(rate_per_s: u32, tally: &Tally) -> Self {
        let open = &tally.open;
        let lag = |percentile: f64| open.lag_ns.value_at_quantile(percentile / 100.0);
        let lag_ns = Lag { p50: lag(50.0), p99: lag(99.0), max: open.lag_ns.max() };
        let latency_p99_ns = tally.latency_ns.value_at_quantile(0.99);
        let kept_up = open.unsent == 0 && tally.per_second() >= KEPT_UP * open.offered_per_second();
        Open {
            rate_per_s,
            offered_per_s: rounded(open.offered_per_second()),
            scheduled: open.scheduled,
            backlogged: open.backlogged,
            unsent: open.unsent,
            unanswered: open.unanswered,
            limited_by: limit(lag_ns.p99, latency_p99_ns, kept_up),
            lag_ns,
        }
    }
}

/// The generator, if its lag is a good part of the latency; the server, if it is not and answers were missing.
fn limit(lag_p99_ns: u64, latency_p99_ns: u64, kept_up: bool) -> Option<Limit> {
    if lag_p99_ns >= LAG_NS_MIN && lag_p99_ns >= latency_p99_ns / 4 {
        Some(Limit::Generator)
    } else {
        (!kept_up).then_some(Limit::Server)
    }
}

/// To one digit behind the point.
pub(super) fn rounded(figure: f64) -> f64 {
    (figure * 10.0).round() / 10.0
}

/// A count, with the reason of the first.
pub(super) fn because(count: u64, reason: Option<&String>) -> String {
    match reason {
        Some(reason) => format!("{} (first: {reason})", report::grouped(count)),
        None => report::grouped(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn the_limit_is_whoever_was_late() {
        assert_eq!(limit(MS / 10, MS / 5, true), None, "a lag too small to matter");
        assert_eq!(limit(5 * MS, 6 * MS, true), Some(Limit::Generator));
        assert_eq!(limit(5 * MS, 6 * MS, false), Some(Limit::Generator));
        assert_eq!(limit(5 * MS, 900 * MS, false), Some(Limit::Server), "the latency is not the lag's");
        assert_eq!(limit(5 * MS, 900 * MS, true), None);
    }
}
