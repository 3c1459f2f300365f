//! Pace at which connections are opened: a bound on those under way, and on those per second.

use std::time::Duration;

/// Connects that are to be started, of one worker in one phase.
#[derive(Default)]
pub(super) struct Pace {
    total: u32,
    started: u32,
    under_way: u32,
    under_way_max: u32,
    per_second: Option<f64>,
    since_ns: u64,
}

impl Pace {
    pub(super) fn new(total: u32, under_way_max: u32, per_second: Option<f64>, since_ns: u64) -> Self {
        Pace { total, started: 0, under_way: 0, under_way_max, per_second, since_ns }
    }

    /// How many may start now.
    pub(super) fn allowance(&self, now_ns: u64) -> u32 {
        let room = self.under_way_max.saturating_sub(self.under_way);
        let by_rate = self.per_second.map_or(u32::MAX, |per_second| {
            let elapsed_s = now_ns.saturating_sub(self.since_ns) as f64 / 1e9;
            (elapsed_s * per_second) as u32 + 1
        });
        let by_now = by_rate.min(self.total);
        by_now.saturating_sub(self.started).min(room)
    }

    /// When to look again, if it is the rate that holds the next one back.
    pub(super) fn wait(&self, now_ns: u64) -> Option<Duration> {
        let per_second = self.per_second?;
        let is_held_back = self.started < self.total && self.under_way < self.under_way_max;
        let due_s = f64::from(self.started) / per_second - now_ns.saturating_sub(self.since_ns) as f64 / 1e9;
        is_held_back.then(|| Duration::from_secs_f64(due_s.max(0.000_1)))
    }

    pub(super) fn start(&mut self) {
        self.started += 1;
        self.under_way += 1;
    }

    pub(super) fn end(&mut self) {
        self.under_way -= 1;
    }

    pub(super) fn is_done(&self) -> bool {
        self.started == self.total && self.under_way == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_so_many_are_under_way() {
        let mut pace = Pace::new(3, 2, None, 0);
        assert_eq!(pace.allowance(0), 2);
        pace.start();
        pace.start();
        assert_eq!((pace.allowance(0), pace.wait(0)), (0, None));
        pace.end();
        assert_eq!(pace.allowance(0), 1);
        pace.start();
        pace.end();
        pace.end();
        assert!(pace.is_done());
    }

    #[test]
    fn the_rate_spreads_them_out() {
        let mut pace = Pace::new(100, 512, Some(10.0), 0);
        assert_eq!(pace.allowance(0), 1);
        pace.start();
        assert_eq!(pace.allowance(99_000_000), 0);
        assert_eq!(pace.wait(50_000_000), Some(Duration::from_millis(50)));
        assert_eq!(pace.allowance(1_000_000_000), 10);
    }
}
