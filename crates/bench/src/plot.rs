//! The figures as a picture: for each load a panel with a bar per server, its cost relative to the first one's. Written by
//! hand because bars and words are all there is in it; a plotting library would bring fonts and raster images along.

use std::fmt::Write;

/// One panel.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) bars: Vec<Bar>,
}

/// One server's bar.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub(crate) name: String,
    /// Cost relative to the first server's: below 1 is cheaper.
    pub(crate) cost: f64,
    /// Standard error of `cost`.
    pub(crate) error: f64,
    pub(crate) label: String,
}

const COLUMNS: usize = 2;
const PANEL_WIDTH: f64 = 520.0;
const ROW_HEIGHT: f64 = 18.0;
const HEAD_HEIGHT: f64 = 30.0;
const GAP: f64 = 14.0;
const NAMES_WIDTH: f64 = 150.0;
const LABELS_WIDTH: f64 = 90.0;

/// The whole picture, with a line below that says what it was measured on.
pub(crate) fn svg(panels: &[Panel], footer: &str) -> String {
    let panel_height =
        panels.iter().map(|panel| HEAD_HEIGHT + ROW_HEIGHT * panel.bars.len() as f64 + GAP).fold(0.0, f64::max);
    let width = PANEL_WIDTH * COLUMNS.min(panels.len()) as f64;
    let height = panel_height * panels.len().div_ceil(COLUMNS) as f64 + 24.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    for (index, panel) in panels.iter().enumerate() {
        let (x, y) = (PANEL_WIDTH * (index % COLUMNS) as f64, panel_height * (index / COLUMNS) as f64);
        draw(&mut svg, panel, x, y);
    }
    text(&mut svg, 10.0, height - 8.0, "#555555", footer);
    svg + "</svg>\n"
}

fn draw(svg: &mut String, panel: &Panel, x: f64, y: f64) {
    let _ = writeln!(svg, "<g font-weight=\"bold\">");
    text(svg, x + 10.0, y + 20.0, "#000000", &panel.title);
    let _ = writeln!(svg, "</g>");
    let longest = panel.bars.iter().map(|bar| bar.cost + bar.error).fold(1.0, f64::max);
    let room = PANEL_WIDTH - NAMES_WIDTH - LABELS_WIDTH - 20.0;
    let left = x + NAMES_WIDTH;
    let place = |cost: f64| left + room * cost / longest;
    for (row, bar) in panel.bars.iter().enumerate() {
        let top = y + HEAD_HEIGHT + ROW_HEIGHT * row as f64;
        let (middle, base) = (top + ROW_HEIGHT / 2.0 - 1.0, top + 12.0);
        let color = if bar.name.starts_with("raon") { "#1b6ca8" } else { "#b8c4ce" };
        text(svg, x + 10.0, base, "#000000", &bar.name);
        let width = (place(bar.cost) - left).max(0.0);
        let _ =
            writeln!(svg, "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"14\" fill=\"{color}\"/>");
        let (low, high) = (place((bar.cost - bar.error).max(0.0)), place(bar.cost + bar.error));
        let _ = writeln!(svg, "<path d=\"M{low:.1} {middle:.1}H{high:.1}\" stroke=\"#333333\"/>");
        text(svg, left + room + 8.0, base, "#000000", &bar.label);
    }
    let (one, bottom) = (place(1.0), y + HEAD_HEIGHT + ROW_HEIGHT * panel.bars.len() as f64);
    let start = y + HEAD_HEIGHT - 4.0;
    let _ = writeln!(svg, "<path d=\"M{one:.1} {start:.1}V{bottom:.1}\" stroke=\"#c0392b\" stroke-dasharray=\"3 3\"/>");
}

fn text(svg: &mut String, x: f64, y: f64, color: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{color}\">{words}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_is_drawn_and_words_are_escaped() {
        let bar = |name: &str, cost| Bar { name: name.into(), cost, error: 0.05, label: format!("{cost:.2}") };
        let panels = [Panel { title: "a < b".into(), bars: vec![bar("raon", 1.0), bar("other & co", 2.0)] }];
        let svg = svg(&panels, "here");
        assert_eq!(svg.matches("height=\"14\"").count(), 2);
        assert!(svg.contains("a &lt; b") && svg.contains("other &amp; co") && svg.ends_with("</svg>\n"));
    }
}
