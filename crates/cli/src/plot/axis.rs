//! Axes: where they have their lines, and what stands beside them.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use crate::report;

/// The places on an axis and their labels.
pub(super) struct Axis {
    range: Range<f64>,
    /// Places with a line and a label.
    bold: Vec<f64>,
    /// Places with a line only.
    light: Vec<f64>,
    label: fn(f64) -> String,
}

impl Axis {
    /// Times on a logarithmic scale, as their decimal logarithm, so that all of `low_ns..=high_ns` is on it.
    pub(super) fn times(low_ns: u64, high_ns: u64) -> Self {
        const STEPS: [u64; 3] = [1, 2, 5];
        let (low_ns, high_ns) = (low_ns.max(1), high_ns.max(low_ns).max(1));
        let all: Vec<u64> = (0..18).flat_map(|power| STEPS.map(|step| step * 10_u64.pow(power))).collect();
        let first = all.iter().rposition(|tick| *tick <= low_ns).unwrap_or(0);
        // One more than the curve needs, so that it does not end at the edge.
        let last = all.iter().position(|tick| *tick > high_ns).unwrap_or(all.len() - 1);
        let ticks = &all[first..=last];
        let is_long = last - first > 3 * STEPS.len();
        let is_bold = |tick: &u64| !is_long || tick.ilog10() != (tick - 1).checked_ilog10().unwrap_or(u32::MAX);
        let (bold, light): (Vec<u64>, Vec<u64>) = ticks.iter().partition(|tick| is_bold(tick));
        let logarithms = |ticks: Vec<u64>| ticks.into_iter().map(logarithm).collect();
        let range = logarithm(ticks[0])..logarithm(ticks[ticks.len() - 1]);
        Axis { range, bold: logarithms(bold), light: logarithms(light), label: time_label }
    }

    /// Rates from zero, in steps that are easy to read.
    pub(super) fn rates(highest_per_s: f64) -> Self {
        const LINES_MAX: f64 = 8.0;
        let rough = highest_per_s.max(1.0) / LINES_MAX;
        let unit = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * unit).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(10.0 * unit).max(1.0);
        let end = highest_per_s.max(1.0) * 1.03;
        let bold = (0..).map(|index| f64::from(index) * step).take_while(|rate| *rate <= end).collect();
        Axis { range: 0.0..end, bold, light: Vec::new(), label: rate_label }
    }

    /// Percentiles of so many values, as the negative logarithm of what lies above them: each nine is as wide as another.
    pub(super) fn percentiles(count: u64) -> Self {
        let end = (count.max(10) as f64).log10();
        let nines = (1..=end.floor() as u32).map(f64::from);
        let bold = [0.0, place_of(0.5)].into_iter().chain(nines).collect();
        Axis { range: 0.0..end, bold, light: Vec::new(), label: percentile_label }
    }

    /// Its last place.
    pub(super) fn end(&self) -> f64 {
        self.range.end
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, (from, to): (i32, i32)) -> i32 {
        let share = (place - self.range.start) / (self.range.end - self.range.start);
        from + (share * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { self.light.clone() } else { self.bold.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, place: &f64) -> String {
        (self.label)(*place)
    }
}

/// The place of a time on its axis.
pub(super) fn logarithm(ns: u64) -> f64 {
    (ns.max(1) as f64).log10()
}

/// The place of a quantile on its axis.
pub(super) fn place_of(quantile: f64) -> f64 {
    -(1.0 - quantile).log10()
}

/// The quantile at a place.
pub(super) fn quantile_at(place: f64) -> f64 {
    1.0 - 10_f64.powf(-place)
}

/// A round time, by its place.
fn time_label(place: f64) -> String {
    let ns = 10_f64.powf(place).round() as u64;
    let (unit_ns, unit) = match ns {
        0..1_000 => (1, "ns"),
        1_000..1_000_000 => (1_000, "µs"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    format!("{} {unit}", report::grouped(ns / unit_ns))
}

fn rate_label(per_s: f64) -> String {
    report::grouped(per_s.round() as u64)
}

/// 0 %, 50 %, 90 %, 99 %, 99.9 % and so on, by its place.
fn percentile_label(place: f64) -> String {
    let decimals = (place.round() as usize).saturating_sub(2);
    format!("{:.decimals$} %", 100.0 * quantile_at(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.bold.iter().map(|place| axis.format_ext(place)).collect()
    }

    #[test]
    fn times_are_labelled_by_the_decade_if_there_are_many() {
        let axis = Axis::times(21_000, 90_000_000);
        assert_eq!(labels(&axis), ["100 µs", "1 ms", "10 ms", "100 ms"]);
        assert_eq!((time_label(axis.range.start), time_label(axis.range.end)), ("20 µs".into(), "100 ms".into()));
        let axis = Axis::times(21_000, 90_000);
        assert_eq!(labels(&axis), ["20 µs", "50 µs", "100 µs"]);
        assert_eq!(labels(&Axis::times(0, 0)), ["1 ns", "2 ns"]);
    }

    #[test]
    fn rates_are_round() {
        assert_eq!(labels(&Axis::rates(130_000.0))[..3], ["0", "20,000", "40,000"]);
        assert_eq!(labels(&Axis::rates(5.0)), ["0", "1", "2", "3", "4", "5"]);
        assert_eq!(labels(&Axis::rates(0.0)), ["0", "1"]);
    }

    #[test]
    fn every_nine_has_its_place() {
        let axis = Axis::percentiles(200_000);
        assert_eq!(labels(&axis), ["0 %", "50 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"]);
        assert!((axis.range.end - 5.301).abs() < 0.001);
        assert!((quantile_at(place_of(0.995)) - 0.995).abs() < 1e-12);
    }
}
