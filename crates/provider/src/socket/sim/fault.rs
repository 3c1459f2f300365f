//! Faults of a simulated network: what goes wrong, and how often.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::base::random::Random;
use crate::base::time::nanoseconds;
use crate::base::with::with;

with!(FaultPlan);

/// How a simulated network behaves: its wires, and what goes wrong. Rates are probabilities from 0 to 1; what is less is
/// never, what is more always. `short_writes`, `no_buffers` and `full_queues` count as 0.9 at most, so that there is always a
/// way out. Times may be of any length: what would happen after the end of the clock, in 584 years, does not.
///
/// The default is a perfect network: no latency, no limit but that of the buffers, nothing ever goes wrong.
///
/// ```
/// use raon_provider::FaultPlan;
/// use std::time::Duration;
/// let plan = FaultPlan::default().with(|plan| { plan.latency_max = Duration::from_millis(80); plan.lost_segments = 0.02; });
/// assert_ne!(plan, FaultPlan::stormy());
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub struct FaultPlan {
    /// Shortest latency, one way.
    pub latency_min: Duration,
    /// Longest latency, one way; each direction of a connection draws its own.
    pub latency_max: Duration,
    /// What a segment may take longer than its connection's latency. It delays what follows: streams keep their order.
    pub jitter_max: Duration,
    /// Bytes per second and direction of a connection; 0: no limit.
    pub bandwidth_bytes: u64,
    /// Bytes that a sender's end holds until they have arrived.
    pub send_buffer_bytes: u32,
    /// Bytes that a receiver's end holds until they are read. A peer that never reads fills both buffers, then sends wait.
    pub receive_buffer_bytes: u32,
    /// Segments that are lost once and sent again after `retransmit_after`.
    pub lost_segments: f64,
    /// How long until a lost segment is sent again, and a connect that found the backlog full tries again.
    pub retransmit_after: Duration,
    /// Datagrams that are lost.
    pub lost_datagrams: f64,
    /// Datagrams that arrive twice. Reordered they are by `jitter_max`, and by a latency that each draws for itself.
    pub duplicated_datagrams: f64,
    /// Segments in whose place the connection is reset, for both ends.
    pub resets: f64,
    /// Segments at which the two hosts are cut off from each other for up to `partition_max`.
    pub partitions: f64,
    /// The longest of those partitions.
    pub partition_max: Duration,
    /// Connections of which one direction never opens its window again: a peer that does not read.
    pub deaf_peers: f64,
    /// Connects that are refused although somebody listens.
    pub refused_connects: f64,
    /// Connects that take up to `slow_connect_max` longer.
    pub slow_connects: f64,
    /// The longest delay of those connects.
    pub slow_connect_max: Duration,
    /// Connects that get no answer.
    pub unanswered_connects: f64,
    /// When a connect without an answer ends, unless its `user_timeout` is set.
    pub connect_timeout: Duration,
    /// Receives that bring less than there is.
    pub short_reads: f64,
    /// Sends that take less than there is room for, also nothing.
    pub short_writes: f64,
    /// Items at which the back end ends the request of a stream that goes on, as a kernel may with its multishots.
    pub stream_ends: f64,
    /// Receives that find no buffer although some are free.
    pub no_buffers: f64,
    /// Accepts that find no descriptor although some are free.
    pub failed_accepts: f64,
    /// Completions that come up to `late_max` later than they could.
    pub late_completions: f64,
    /// The latest of those completions.
    pub late_max: Duration,
    /// Turns in which sockets complete in another order than they became ready.
    pub reordered_turns: f64,
    /// Turns in which the back end takes only some of the requests; the others follow in the next one.
    pub full_queues: f64,
    /// Most sockets that the drivers of this network may have open together; beyond it `DescriptorLimit`.
    pub descriptors_max: u32,
}

impl Default for FaultPlan {
    fn default() -> Self {
        let none = Duration::ZERO;
        FaultPlan {
            latency_min: none,
            latency_max: none,
            jitter_max: none,
            bandwidth_bytes: 0,
            send_buffer_bytes: 128 * 1024,
            receive_buffer_bytes: 128 * 1024,
            lost_segments: 0.0,
            lost_datagrams: 0.0,
            duplicated_datagrams: 0.0,
            retransmit_after: Duration::from_millis(200),
            resets: 0.0,
            partitions: 0.0,
            partition_max: none,
            deaf_peers: 0.0,
            refused_connects: 0.0,
            slow_connects: 0.0,
            slow_connect_max: none,
            unanswered_connects: 0.0,
            connect_timeout: Duration::from_secs(20),
            short_reads: 0.0,
            short_writes: 0.0,
            stream_ends: 0.0,
            no_buffers: 0.0,
            failed_accepts: 0.0,
            late_completions: 0.0,
            late_max: none,
            reordered_turns: 0.0,
            full_queues: 0.0,
            descriptors_max: u32::MAX,
        }
    }
}

impl FaultPlan {
    /// A network with latency and a back end at its worst, in which nothing is lost for good: no reset, no refusal.
    pub fn rough() -> Self {
        FaultPlan::default().with(|plan| {
            plan.latency_min = Duration::from_micros(10);
            plan.latency_max = Duration::from_micros(200);
            plan.jitter_max = Duration::from_micros(50);
            plan.bandwidth_bytes = 1 << 30;
            plan.slow_connects = 0.1;
            plan.slow_connect_max = Duration::from_millis(2);
            plan.short_reads = 0.2;
            plan.short_writes = 0.2;
            plan.stream_ends = 0.2;
            plan.no_buffers = 0.1;
            plan.late_completions = 0.1;
            plan.late_max = Duration::from_micros(300);
            plan.reordered_turns = 0.3;
            plan.full_queues = 0.1;
        })
    }

    /// Everything that the clauses allow, at moderate rates: connections break, are refused or get no answer as well.
    pub fn stormy() -> Self {
        FaultPlan::rough().with(|plan| {
            plan.latency_min = Duration::from_millis(1);
            plan.latency_max = Duration::from_millis(80);
            plan.jitter_max = Duration::from_millis(10);
            plan.bandwidth_bytes = 4 << 20;
            plan.send_buffer_bytes = 32 * 1024;
            plan.receive_buffer_bytes = 32 * 1024;
            plan.lost_segments = 0.02;
            plan.lost_datagrams = 0.05;
            plan.duplicated_datagrams = 0.02;
            plan.resets = 0.005;
            plan.partitions = 0.002;
            plan.partition_max = Duration::from_secs(2);
            plan.deaf_peers = 0.02;
            plan.refused_connects = 0.05;
            plan.slow_connect_max = Duration::from_millis(500);
            plan.unanswered_connects = 0.02;
            plan.failed_accepts = 0.05;
            plan.late_max = Duration::from_millis(20);
        })
    }
}

impl Random {
    /// Some time between the two, in nanoseconds.
    pub(crate) fn between_ns(&mut self, min: Duration, max: Duration) -> u64 {
        let (min_ns, max_ns) = (nanoseconds(min), nanoseconds(max));
        let range = max_ns.saturating_sub(min_ns);
        if range == 0 { min_ns } else { min_ns + self.below(range as usize + 1) as u64 }
    }
}

/// The rate of a fault that would stop everything if it were certain: at most nine in ten.
pub(crate) fn escapable(rate: f64) -> f64 {
    if rate > 0.9 { 0.9 } else { rate }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_lie_between_their_bounds() {
        let mut random = Random::new(1);
        let (min, max) = (Duration::from_nanos(5), Duration::from_nanos(8));
        assert!((0..100).all(|_| (5..=8).contains(&random.between_ns(min, max))));
        assert_eq!(random.between_ns(max, min), 8);
    }
}
