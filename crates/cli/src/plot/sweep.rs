//! Latency against the rate that was offered.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::{self, Axis};
use super::{Area, Heading, INK, Wrong, chart, font, picture};
use crate::failure::Failure;

/// One step of a sweep.
pub(crate) struct Point {
    pub(crate) offered_per_s: f64,
    /// As in [`NAMES`].
    pub(crate) latencies_ns: [u64; 3],
    /// Its latencies are the generator's lag to a good part.
    pub(crate) is_generator_late: bool,
}

const NAMES: [&str; 3] = ["p50", "p99", "p99.9"];
const COLORS: [RGBColor; 3] = [RGBColor(0x1b, 0x6c, 0xa8), RGBColor(0xe0, 0x8e, 0x0b), RGBColor(0xb0, 0x30, 0x30)];

/// Draws it.
pub(crate) fn sweep(heading: &Heading, points: &[Point]) -> Result<String, Failure> {
    picture(heading, |area| draw(area, points))
}

fn draw(area: &Area<'_>, points: &[Point]) -> Result<(), Wrong> {
    let all_ns = || points.iter().flat_map(|point| point.latencies_ns).filter(|ns| *ns > 0);
    let highest_per_s = points.iter().map(|point| point.offered_per_s).fold(0.0, f64::max);
    let (x, y) = (Axis::rates(highest_per_s), Axis::times(all_ns().min().unwrap_or(1), all_ns().max().unwrap_or(1)));
    key(area, points.iter().any(|point| point.is_generator_late))?;
    let mut chart = chart(area, x, y, "messages offered per second", "latency from when a message was due")?;
    for (index, color) in COLORS.into_iter().enumerate() {
        let at = |point: &Point| (point.offered_per_s, axis::logarithm(point.latencies_ns[index]));
        let line = points.iter().filter(|point| point.latencies_ns[index] > 0);
        chart.draw_series(LineSeries::new(line.clone().map(at), color.stroke_width(5)))?;
        chart.draw_series(line.clone().map(|point| Circle::new(at(point), 9, color.filled())))?;
        let late = line.filter(|point| point.is_generator_late);
        chart.draw_series(late.map(|point| Circle::new(at(point), 6, WHITE.filled())))?;
    }
    Ok(())
}

/// What the colours mean, above the axes, where no curve goes.
fn key(area: &Area<'_>, has_late: bool) -> Result<(), Wrong> {
    const LEFT: i32 = 210;
    const WIDTH: i32 = 190;
    const MIDDLE: i32 = 18;
    let mut left = LEFT;
    for (name, color) in NAMES.iter().zip(COLORS) {
        area.draw(&PathElement::new([(left, MIDDLE), (left + 50, MIDDLE)], color.stroke_width(5)))?;
        area.draw(&Circle::new((left + 25, MIDDLE), 9, color.filled()))?;
        area.draw_text(name, &font(30, INK).pos(Pos::new(HPos::Left, VPos::Center)), (left + 65, MIDDLE))?;
        left += WIDTH;
    }
    if has_late {
        area.draw(&Circle::new((left + 25, MIDDLE), 9, INK.filled()))?;
        area.draw(&Circle::new((left + 25, MIDDLE), 6, WHITE.filled()))?;
        let text = "the generator itself was the limit";
        area.draw_text(text, &font(30, INK).pos(Pos::new(HPos::Left, VPos::Center)), (left + 50, MIDDLE))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn svg(points: &[Point]) -> String {
        sweep(&Heading { title: "title".into(), subtitle: String::new() }, points).unwrap()
    }

    fn point(offered_per_s: f64, scale: u64) -> Point {
        let latencies_ns = [1000 * scale, 2000 * scale, 30_000 * scale];
        Point { offered_per_s, latencies_ns, is_generator_late: scale > 5 }
    }

    #[test]
    fn every_step_has_its_points() {
        let points = [point(1000.0, 1), point(2000.0, 2), point(3000.0, 10)];
        let picture = svg(&points);
        assert_eq!(picture, svg(&points));
        assert_eq!(picture.matches("stroke-width=\"5\"").count(), 3 + NAMES.len(), "the curves and the key");
        let is_filled = picture.matches("r=\"9\"").count();
        assert_eq!(is_filled, 3 * points.len() + NAMES.len() + 1);
        assert_eq!(picture.matches("r=\"6\"").count(), 3 + 1, "of the late one, and in the key");
        assert!(picture.contains("the generator itself was the limit") && picture.contains("3,000"));
    }

    #[test]
    fn steps_without_answers_are_left_out() {
        let silent = Point { offered_per_s: 2000.0, latencies_ns: [0; 3], is_generator_late: false };
        let picture = svg(&[point(1000.0, 1), silent]);
        assert_eq!(picture.matches("r=\"9\"").count(), 3 + NAMES.len());
        assert!(!svg(&[]).contains("the generator"));
    }
}
