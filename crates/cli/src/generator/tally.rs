//! Figures that a load worker has measured.

use hdrhistogram::Histogram;
use raon_provider::Error;

/// Longest latency told apart: 10 minutes.
const LATENCY_NS_MAX: u64 = 600_000_000_000;

/// What a load worker has measured in a phase.
pub(crate) struct Tally {
    /// Messages that have come back.
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
    pub(crate) open: OpenTally,
    pub(crate) datagrams: DatagramTally,
    pub(crate) talk: TalkTally,
}

/// What only pings and chats have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct TalkTally {
    /// Answers to pings that were those to others, or to none.
    pub(crate) wrong_answers: u64,
    /// Lines that have come to a member of their room.
    pub(crate) deliveries: u64,
    /// Those that should have, and have not.
    pub(crate) lost: u64,
    pub(crate) duplicates: u64,
    pub(crate) misordered: u64,
    /// Lines that nobody in the room has written.
    pub(crate) corrupt: u64,
}

/// What only datagrams have. Every one that was sent was answered in time or is `lost`.
#[derive(Default)]
pub(crate) struct DatagramTally {
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    /// Answers to lost ones.
    pub(crate) late: u64,
    pub(crate) duplicates: u64,
    /// Datagrams with wrong contents; they answer nothing.
    pub(crate) corrupt: u64,
    /// What the network, or this system, says that it did not deliver.
    pub(crate) undelivered: u64,
    pub(crate) first_undelivered: Option<Error>,
}

/// What only an open loop has. Every message that was due came back, is `unanswered`, or is `unsent`.
pub(crate) struct OpenTally {
    /// Messages that were due.
    pub(crate) scheduled: u64,
    /// For how long messages became due.
    pub(crate) scheduled_ns: u64,
    /// Messages that could not leave when they were due, because too many were in flight.
    pub(crate) backlogged: u64,
    /// Messages that have not left at all.
    pub(crate) unsent: u64,
    /// Messages that have left, and whose answers have not come.
    pub(crate) unanswered: u64,
    /// How long after they were due the generator got round to its messages.
    pub(crate) lag_ns: Histogram<u64>,
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
            latency_ns: histogram(),
            open: OpenTally {
                scheduled: 0,
                scheduled_ns: 0,
                backlogged: 0,
                unsent: 0,
                unanswered: 0,
                lag_ns: histogram(),
            },
            datagrams: DatagramTally::default(),
            talk: TalkTally::default(),
        }
    }

    /// Adds what another worker has measured at the same time, or the same one in another phase.
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
        self.open.add(other.open);
        self.datagrams.add(other.datagrams);
        self.talk.add(other.talk);
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

    /// Messages per second, from the first message to the last answer.
    pub(crate) fn per_second(&self) -> f64 {
        per_second(self.messages, self.duration_ns)
    }
}

impl OpenTally {
    fn add(&mut self, other: OpenTally) {
        self.scheduled += other.scheduled;
        self.scheduled_ns = self.scheduled_ns.max(other.scheduled_ns);
        self.backlogged += other.backlogged;
        self.unsent += other.unsent;
        self.unanswered += other.unanswered;
        self.lag_ns += other.lag_ns;
    }

    /// Messages that were due per second.
    pub(crate) fn offered_per_second(&self) -> f64 {
        per_second(self.scheduled, self.scheduled_ns)
    }
}

impl TalkTally {
    fn add(&mut self, other: TalkTally) {
        self.wrong_answers += other.wrong_answers;
        self.deliveries += other.deliveries;
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.misordered += other.misordered;
        self.corrupt += other.corrupt;
    }
}

impl DatagramTally {
    fn add(&mut self, other: DatagramTally) {
        self.sent += other.sent;
        self.lost += other.lost;
        self.late += other.late;
        self.duplicates += other.duplicates;
        self.corrupt += other.corrupt;
        self.undelivered += other.undelivered;
        self.first_undelivered = self.first_undelivered.or(other.first_undelivered);
    }

    pub(super) fn count_undelivered(&mut self, error: Error) {
        self.undelivered += 1;
        self.first_undelivered.get_or_insert(error);
    }
}

fn per_second(messages: u64, duration_ns: u64) -> f64 {
    if messages == 0 { 0.0 } else { messages as f64 / (duration_ns.max(1) as f64 / 1e9) }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("constant bounds are valid")
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
