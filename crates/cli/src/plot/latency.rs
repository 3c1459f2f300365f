//! The distribution of latencies: how long by which share of the messages.

use hdrhistogram::Histogram;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::{self, Axis};
use super::{Area, Heading, INK, Wrong, chart, font, picture};
use crate::failure::Failure;
use crate::report;

const CURVE: RGBColor = RGBColor(0x1b, 0x6c, 0xa8);
/// Points of the curve.
const POINTS: u32 = 480;
const MARKED: [(f64, &str); 4] = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9")];

/// Draws it. `name` says what kind of latency it is.
pub(crate) fn latency(heading: &Heading, name: &str, latency_ns: &Histogram<u64>) -> Result<String, Failure> {
    picture(heading, |area| draw(area, name, latency_ns))
}

fn draw(area: &Area<'_>, name: &str, latency_ns: &Histogram<u64>) -> Result<(), Wrong> {
    let (x, y) = (Axis::percentiles(latency_ns.len()), Axis::times(latency_ns.min(), latency_ns.max()));
    let end = x.end();
    let mut chart = chart(area, x, y, "share of messages that took at most so long", name)?;
    if latency_ns.is_empty() {
        return Ok(());
    }
    let at = |place: f64| (place, axis::logarithm(latency_ns.value_at_quantile(axis::quantile_at(place))));
    let last = (end, axis::logarithm(latency_ns.max()));
    let curve = (0..POINTS).map(|index| at(end * f64::from(index) / f64::from(POINTS))).chain([last]);
    chart.draw_series(LineSeries::new(curve, CURVE.stroke_width(5)))?;
    let marked = MARKED.iter().map(|(quantile, name)| (at(axis::place_of(*quantile)), *name));
    for (mark, name) in marked.filter(|((place, _), _)| *place < end - 0.2).chain([(last, "max")]) {
        let label = format!("{name} {}", report::time(10_f64.powf(mark.1).round() as u64));
        // The curve rises: there is room above it to the left, but for the first one, whose left is the axis.
        let (anchor, offset) = match name {
            "p50" => (Pos::new(HPos::Left, VPos::Top), (12, 12)),
            _ => (Pos::new(HPos::Right, VPos::Bottom), (-12, -12)),
        };
        chart.draw_series([EmptyElement::at(mark)
            + Circle::new((0, 0), 9, CURVE.filled())
            + Text::new(label, offset, font(28, INK).pos(anchor))])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn svg(latencies_ns: &[u64]) -> String {
        let mut histogram = Histogram::new_with_bounds(1, 1_000_000_000_000, 3).unwrap();
        latencies_ns.iter().for_each(|ns| histogram.record(*ns).unwrap());
        let heading = Heading { title: "a < b".into(), subtitle: "here & there".into() };
        latency(&heading, "latency", &histogram).unwrap()
    }

    #[test]
    fn the_same_figures_give_the_same_picture() {
        let many: Vec<u64> = (1..10_000).map(|index| index * index).collect();
        let picture = svg(&many);
        assert_eq!(picture, svg(&many));
        for part in ["a &lt; b", "here &amp; there", "p99.9 ", "99.9 %", ">\n10 ms\n<", "polyline"] {
            assert!(picture.contains(part), "no {part:?} in {picture}");
        }
        assert!(picture.starts_with("<svg width=\"960\" height=\"540\" viewBox=\"0 0 1920 1080\""));
    }

    #[test]
    fn few_figures_can_be_drawn() {
        assert!(!svg(&[]).contains("p50"));
        assert!(svg(&[15_000]).contains("max 15.0 µs"));
        assert!(svg(&[0, 600_000_000_000]).contains("max 600"));
    }
}
