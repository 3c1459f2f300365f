//! What a load worker has measured.

use hdrhistogram::Histogram;

/// Longest latency told apart: 10 minutes.
const LATENCY_NS_MAX: u64 = 600_000_000_000;

/// What a load worker has measured so far.
pub(crate) struct Tally {
    pub(crate) messages: u64,
    pub(crate) corrupt_bytes: u64,
    /// Connections that failed and messages that never came back.
    pub(crate) errors: u64,
    pub(crate) connect_errors: u64,
    pub(crate) first_error: Option<String>,
    pub(crate) first_connect_error: Option<String>,
    /// Open and exchanging messages at the start of the measurement.
    pub(crate) connections: u64,
    pub(crate) idle_connections: u64,
    /// From the first message to the last answer.
    pub(crate) duration_ns: u64,
    pub(crate) latency_ns: Histogram<u64>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Tally {
            messages: 0,
            corrupt_bytes: 0,
            errors: 0,
            connect_errors: 0,
            first_error: None,
            first_connect_error: None,
            connections: 0,
            idle_connections: 0,
            duration_ns: 0,
            latency_ns: Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("constant bounds are valid"),
        }
    }

    /// Adds what another worker has measured at the same time.
    pub(crate) fn add(&mut self, other: Tally) {
        self.messages += other.messages;
        self.corrupt_bytes += other.corrupt_bytes;
        self.errors += other.errors;
        self.connect_errors += other.connect_errors;
        self.first_error = self.first_error.take().or(other.first_error);
        self.first_connect_error = self.first_connect_error.take().or(other.first_connect_error);
        self.connections += other.connections;
        self.idle_connections += other.idle_connections;
        self.duration_ns = self.duration_ns.max(other.duration_ns);
        self.latency_ns += other.latency_ns;
    }

    pub(super) fn count_error(&mut self, errors: u64, reason: impl FnOnce() -> String) {
        if errors > 0 {
            self.errors += errors;
            self.first_error.get_or_insert_with(reason);
        }
    }

    pub(super) fn count_connect_error(&mut self, reason: impl FnOnce() -> String) {
        self.connect_errors += 1;
        self.first_connect_error.get_or_insert_with(reason);
    }

    /// Percentile of the latency, in nanoseconds.
    pub(crate) fn percentile_ns(&self, percentile: f64) -> u64 {
        self.latency_ns.value_at_quantile(percentile / 100.0)
    }
}

/// Records latencies that mostly come in runs of the same: a turn's messages have the turn's clock.
#[derive(Default)]
pub(super) struct Recorder {
    run_ns: u64,
    run_count: u64,
}

impl Recorder {
    pub(super) fn record(&mut self, histogram: &mut Histogram<u64>, latency_ns: u64, count: u32) {
        if latency_ns != self.run_ns {
            self.flush(histogram);
            self.run_ns = latency_ns;
        }
        self.run_count += u64::from(count);
    }

    pub(super) fn flush(&mut self, histogram: &mut Histogram<u64>) {
        if self.run_count > 0 {
            histogram.saturating_record_n(self.run_ns.max(1), self.run_count);
            self.run_count = 0;
        }
    }
}
