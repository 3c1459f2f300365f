//! Counters and latencies, cheap enough to be always on: sums per turn, one histogram entry per bucket and turn.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::contract::ProviderCounters;

/// Operations whose latency is measured, from submission to completion. Streams have none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LatencyKind {
    /// `connect`.
    Connect,
    /// `receive_into`.
    ReceiveInto,
    /// `send`, quiet or not.
    Send,
    /// How late timers fire after their deadline.
    TimerLag,
}

pub(crate) const LATENCY_KINDS: usize = 4;

/// Latency of one kind of operation, in nanoseconds, two significant digits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// Mean.
    pub average_ns: f64,
    /// Median.
    pub p50_ns: u64,
    /// 99 %.
    pub p99_ns: u64,
    /// 99.9 %.
    pub p999_ns: u64,
}

/// A snapshot of what a driver has done.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Operations accepted.
    pub requests: u64,
    /// Completions delivered or about to be.
    pub completions: u64,
    /// Operations accepted and not yet ended.
    pub pending: u64,
    /// Completions that report an error.
    pub errors: u64,
    /// Operations refused.
    pub refused: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections accepted and closed at once because descriptors ran out.
    pub shed: u64,
    /// Times an accept stream backed off.
    pub accept_pauses: u64,
    /// Turns.
    pub turns: u64,
    /// System calls made to submit, wait, or transfer.
    pub kernel_entries: u64,
    /// Wakes by submitters.
    pub wakes: u64,
    /// Receives that found no buffer.
    pub no_buffers: u64,
    /// Multishot requests armed again.
    pub rearms: u64,
    /// Datagrams that left together with others, as one message that the kernel takes apart.
    pub merged_sent: u64,
    /// Datagrams that came together with others, as one message that was taken apart here.
    pub merged_received: u64,
    /// Sockets open now.
    pub sockets: u64,
    /// Operations of this process whose memory was given up, see [`leaked_operations`].
    pub leaked: u64,
    /// Latency of connects.
    pub connect: Latency,
    /// Latency of single receives.
    pub receive_into: Latency,
    /// Latency of sends.
    pub send: Latency,
    /// How late timers fired.
    pub timer_lag: Latency,
}

static LEAKED: AtomicU64 = AtomicU64::new(0);

/// Operations whose memory was given up, in this process, because the kernel still held it when a drain deadline passed.
pub fn leaked_operations() -> u64 {
    LEAKED.load(Ordering::Relaxed)
}

pub(crate) fn count_leaked(operations: u64) {
    LEAKED.fetch_add(operations, Ordering::Relaxed);
}

struct Recorder {
    histogram: Histogram<u64>,
    run_ns: u64,
    run_count: u64,
}

impl Recorder {
    fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, HIGHEST_NS, 2).expect("constant bounds are valid");
        Recorder { histogram, run_ns: 0, run_count: 0 }
    }

    fn flush(&mut self) {
        if self.run_count > 0 {
            self.histogram.saturating_record_n(self.run_ns, self.run_count);
            self.run_count = 0;
        }
    }
}

/// Longest latency told apart: 10 minutes.
const HIGHEST_NS: u64 = 600_000_000_000;

/// The driver's own counters.
pub(crate) struct Counters {
    pub(crate) totals: Stats,
    recorders: [Recorder; LATENCY_KINDS],
}

impl Counters {
    pub(crate) fn new() -> Self {
        Counters { totals: Stats::default(), recorders: std::array::from_fn(|_| Recorder::new()) }
    }

    /// Counts one latency. Within a turn most are the same number, so equal ones in a row cost an addition.
    pub(crate) fn latency(&mut self, kind: LatencyKind, duration_ns: u64) {
        let recorder = &mut self.recorders[kind as usize];
        if recorder.run_ns != duration_ns {
            recorder.flush();
            recorder.run_ns = duration_ns;
        }
        recorder.run_count += 1;
    }

    pub(crate) fn snapshot(&mut self, provider: &ProviderCounters, pending: usize, sockets: usize) -> Stats {
        let mut stats = self.totals;
        stats.kernel_entries = provider.kernel_entries.get();
        stats.no_buffers = provider.no_buffers.get();
        stats.rearms = provider.rearms.get();
        stats.merged_sent = provider.merged_sent.get();
        stats.pending = pending as u64;
        stats.sockets = sockets as u64;
        stats.leaked = leaked_operations();
        for (index, latency) in
            [&mut stats.connect, &mut stats.receive_into, &mut stats.send, &mut stats.timer_lag].into_iter().enumerate()
        {
            let recorder = &mut self.recorders[index];
            recorder.flush();
            let histogram = &recorder.histogram;
            *latency = Latency {
                count: histogram.len(),
                average_ns: histogram.mean(),
                p50_ns: histogram.value_at_quantile(0.5),
                p99_ns: histogram.value_at_quantile(0.99),
                p999_ns: histogram.value_at_quantile(0.999),
            };
        }
        stats
    }
}

impl Latency {
    /// The median as a duration.
    pub fn p50(&self) -> Duration {
        Duration::from_nanos(self.p50_ns)
    }
}
