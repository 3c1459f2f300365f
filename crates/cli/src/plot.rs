//! Pictures of what was measured, as SVG: latency by percentile (`latency.rs`), and latency against rate (`sweep.rs`).
//! The same figures give the same bytes.

mod axis;
mod latency;
mod sweep;

use std::fs::{self, OpenOptions};
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::failure::{Context, Failure};

use axis::Axis;

pub(crate) use latency::latency;
pub(crate) use sweep::{Point, sweep};

/// What a picture shows.
pub(crate) struct Heading {
    pub(crate) title: String,
    /// The conditions.
    pub(crate) subtitle: String,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// What can go wrong while drawing.
type Wrong = Box<dyn std::error::Error>;

/// Twice the size at which it is shown: the library draws at whole pixels only.
const SIZE: (u32, u32) = (1920, 1080);
const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const FAINT: RGBColor = RGBColor(0x66, 0x66, 0x66);
const GRID: RGBColor = RGBColor(0xcc, 0xcc, 0xcc);
const GRID_FINE: RGBColor = RGBColor(0xec, 0xec, 0xec);

/// Tells at once if a picture could not be written there later. Leaves everything as it is.
pub(crate) fn check_file(path: &Path) -> Result<(), Failure> {
    let shown = path.display();
    if path.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("svg")) {
        let name = path.with_extension("svg");
        return Err(Failure::usage(format!("--plot draws SVG, not {shown}: name the file {}", name.display())));
    }
    let is_new = !path.exists();
    OpenOptions::new().append(true).create(true).open(path).map_err(|error| cannot_write(path, &error))?;
    if is_new {
        // If it stays, it is overwritten.
        let _ = fs::remove_file(path);
    }
    Ok(())
}

/// Writes a picture, over what was there.
pub(crate) fn write(path: &Path, svg: &str) -> Result<(), Failure> {
    fs::write(path, svg).map_err(|error| cannot_write(path, &error))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot write {}: {error}; name a file in a folder that exists and is yours", path.display()))
}

/// A picture with its heading; `draw` gets the rest of the area.
fn picture(heading: &Heading, draw: impl FnOnce(&Area<'_>) -> Result<(), Wrong>) -> Result<String, Failure> {
    let mut svg = String::new();
    draw_all(&mut svg, heading, draw).context("cannot draw")?;
    let (width, height) = SIZE;
    let size = |width: u32, height: u32| format!("width=\"{width}\" height=\"{height}\"");
    Ok(svg.replacen(&size(width, height), &size(width / 2, height / 2), 1))
}

fn draw_all(
    svg: &mut String,
    heading: &Heading,
    draw: impl FnOnce(&Area<'_>) -> Result<(), Wrong>,
) -> Result<(), Wrong> {
    const HEAD_HEIGHT: i32 = 130;
    let all = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    all.fill(&WHITE)?;
    let (head, body) = all.split_vertically(HEAD_HEIGHT);
    head.draw_text(&heading.title, &font(44, INK), (40, 24))?;
    head.draw_text(&heading.subtitle, &font(30, FAINT), (40, 80))?;
    draw(&body)?;
    all.present()?;
    Ok(())
}

/// Axes with their lines, labels and names.
fn chart<'a, 'b>(
    area: &'a Area<'b>,
    x: Axis,
    y: Axis,
    x_name: &str,
    y_name: &str,
) -> Result<ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>, Wrong> {
    let mut chart = ChartBuilder::on(area)
        .margin(20)
        .margin_top(50)
        .margin_right(110)
        .x_label_area_size(100)
        .y_label_area_size(190)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(GRID_FINE)
        .axis_style(FAINT)
        .set_all_tick_mark_size(12)
        .label_style(font(30, INK))
        .x_desc(x_name)
        .y_desc(y_name)
        .axis_desc_style(font(30, FAINT))
        .draw()?;
    Ok(chart)
}

fn font(size: i32, color: RGBColor) -> TextStyle<'static> {
    (FONT, size).into_font().color(&color)
}
