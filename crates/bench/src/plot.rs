//! Figures as a picture: panels with a bar per server. Written by hand because bars and words are all there is in it; a
//! plotting library would bring fonts and raster images along. The same figures always give the same bytes.

use std::fmt::Write;

/// All of it.
#[derive(Clone, Debug)]
pub(crate) struct Picture {
    pub(crate) heading: String,
    pub(crate) panels: Vec<Panel>,
    /// What the line across the end of a bar is.
    pub(crate) whisker: &'static str,
    /// What the dashed line is at, and what it says; `None`: there is none.
    pub(crate) reference: Option<(f64, String)>,
    /// What it was measured on.
    pub(crate) footer: String,
}

/// The bars of one load.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    pub(crate) title: String,
    /// Unit of the axis.
    pub(crate) unit: String,
    pub(crate) bars: Vec<Bar>,
}

/// One server's bar. What is not a number is not drawn.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) label: String,
}

const COLUMNS: usize = 2;
const PANEL_WIDTH: f64 = 560.0;
const MARGIN: f64 = 12.0;
const ROW_HEIGHT: f64 = 20.0;
const BAR_HEIGHT: f64 = 14.0;
/// Title above the bars; ticks and unit below them.
const TITLE_HEIGHT: f64 = 34.0;
const AXIS_HEIGHT: f64 = 52.0;
const NAMES_WIDTH_MIN: f64 = 192.0;
const LABELS_WIDTH: f64 = 96.0;
const LINE_HEIGHT: f64 = 18.0;
/// About what a letter takes of the widest of the fonts: room is planned with it.
const LETTER_WIDTH: f64 = 7.6;
const FONTS: &str = "DejaVu Sans, Verdana, Helvetica, Arial, sans-serif";
const DARK: &str = "#111111";

/// Who made a server decides its colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Maker {
    Raon,
    Bare,
    Library,
}

impl Maker {
    const ALL: [Maker; 3] = [Maker::Raon, Maker::Bare, Maker::Library];

    fn of(name: &str) -> Self {
        match name {
            _ if name.starts_with("raon") => Maker::Raon,
            _ if name.contains("floor") || name.contains("epoll") => Maker::Bare,
            _ => Maker::Library,
        }
    }

    fn color(self) -> &'static str {
        match self {
            Maker::Raon => "#1b6ca8",
            Maker::Bare => "#8d99a5",
            Maker::Library => "#d9b26f",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Maker::Raon => "Raon",
            Maker::Bare => "bare system interface",
            Maker::Library => "another library",
        }
    }
}

/// The whole picture.
pub(crate) fn svg(picture: &Picture) -> String {
    let panels = &picture.panels;
    let width = PANEL_WIDTH * COLUMNS.min(panels.len()) as f64;
    let heading = wrapped(&picture.heading, width);
    let legend = legend(picture, width);
    let footer = wrapped(&picture.footer, width);
    let head_height = MARGIN + LINE_HEIGHT * (heading.len() + legend.len()) as f64 + 8.0;
    let rows = panels.iter().map(|panel| panel.bars.len()).max().unwrap_or(0);
    let panel_height = TITLE_HEIGHT + ROW_HEIGHT * rows as f64 + AXIS_HEIGHT;
    let below = head_height + panel_height * panels.len().div_ceil(COLUMNS) as f64;
    let height = below + LINE_HEIGHT * footer.len() as f64 + MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"{FONTS}\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    let mut y = MARGIN + 12.0;
    for line in &heading {
        text(&mut svg, (MARGIN, y), "font-weight=\"bold\"", line);
        y += LINE_HEIGHT;
    }
    for line in &legend {
        line.iter().for_each(|item| item.draw(&mut svg, y));
        y += LINE_HEIGHT;
    }
    for (index, panel) in panels.iter().enumerate() {
        let x = PANEL_WIDTH * (index % COLUMNS) as f64;
        draw(&mut svg, panel, picture, (x, head_height + panel_height * (index / COLUMNS) as f64));
    }
    for (index, line) in footer.iter().enumerate() {
        text(&mut svg, (MARGIN, below + 12.0 + LINE_HEIGHT * index as f64), "", line);
    }
    svg + "</svg>\n"
}

/// A mark and what it means.
struct Item {
    x: f64,
    mark: Mark,
    words: String,
}

#[derive(Clone, Copy)]
enum Mark {
    Bar(Maker),
    Whisker,
    Reference,
}

const MARK_WIDTH: f64 = 22.0;

impl Item {
    fn draw(&self, svg: &mut String, y: f64) {
        let (x, middle) = (self.x, y - 4.0);
        match self.mark {
            Mark::Bar(maker) => bar(svg, (x, y - 10.0), (MARK_WIDTH - 6.0, 12.0), maker.color()),
            Mark::Whisker => whisker(svg, x, x + MARK_WIDTH - 6.0, middle),
            Mark::Reference => reference(svg, x + 8.0, y - 12.0, y + 3.0),
        }
        text(svg, (x + MARK_WIDTH, y), "", &self.words);
    }
}

/// What marks mean, as many to a line as fit.
fn legend(picture: &Picture, width: f64) -> Vec<Vec<Item>> {
    let bars = || picture.panels.iter().flat_map(|panel| &panel.bars);
    let makers = Maker::ALL.into_iter().filter(|maker| bars().any(|bar| Maker::of(&bar.name) == *maker));
    let mut marks: Vec<(Mark, String)> = makers.map(|maker| (Mark::Bar(maker), maker.words().to_owned())).collect();
    if bars().any(|bar| bar.low.is_finite() && bar.high.is_finite()) {
        marks.push((Mark::Whisker, picture.whisker.to_owned()));
    }
    marks.extend(picture.reference.iter().map(|(_, words)| (Mark::Reference, words.clone())));
    let (mut lines, mut x) = (vec![Vec::new()], MARGIN);
    for (mark, words) in marks {
        let length = MARK_WIDTH + words.chars().count() as f64 * LETTER_WIDTH + 14.0;
        if x > MARGIN && x + length > width - MARGIN {
            lines.push(Vec::new());
            x = MARGIN;
        }
        lines.last_mut().expect("never empty").push(Item { x, mark, words });
        x += length;
    }
    lines
}

fn draw(svg: &mut String, panel: &Panel, picture: &Picture, (x, y): (f64, f64)) {
    text(svg, (x + MARGIN, y + 20.0), "font-weight=\"bold\"", &panel.title);
    let least = picture.reference.as_ref().map_or(0.0, |(value, _)| *value);
    let ends = panel.bars.iter().flat_map(|bar| [bar.value, bar.high]).filter(|end| end.is_finite());
    let longest = ends.fold(least, f64::max).max(f64::MIN_POSITIVE);
    let names_width = names_width(panel);
    let (left, room) = (x + names_width, PANEL_WIDTH - names_width - LABELS_WIDTH);
    let place = |value: f64| left + room * value.max(0.0) / longest;
    let (top, bottom) = (y + TITLE_HEIGHT - 4.0, y + TITLE_HEIGHT + ROW_HEIGHT * panel.bars.len() as f64);
    axis(svg, longest, place, (top, bottom));
    text(svg, (left + room / 2.0, bottom + 34.0), "text-anchor=\"middle\"", &panel.unit);
    for (row, item) in panel.bars.iter().enumerate() {
        let top = y + TITLE_HEIGHT + ROW_HEIGHT * row as f64;
        let (middle, base) = (top + BAR_HEIGHT / 2.0, top + 11.5);
        text(svg, (left - 8.0, base), "text-anchor=\"end\"", &item.name);
        if item.value.is_finite() {
            bar(svg, (left, top), (place(item.value) - left, BAR_HEIGHT), Maker::of(&item.name).color());
        }
        if item.low.is_finite() && item.high.is_finite() {
            whisker(svg, place(item.low), place(item.high), middle);
        }
        text(svg, (left + room + 8.0, base), "", &item.label);
    }
    if let Some((value, _)) = &picture.reference {
        reference(svg, place(*value), top, bottom);
    }
}

/// Room for the longest name, but no more than half of the panel.
fn names_width(panel: &Panel) -> f64 {
    let letters = panel.bars.iter().map(|bar| bar.name.chars().count()).max().unwrap_or(0);
    (MARGIN + 8.0 + letters as f64 * LETTER_WIDTH).clamp(NAMES_WIDTH_MIN, PANEL_WIDTH / 2.0)
}

/// Lines with their values below, at round numbers from zero on.
fn axis(svg: &mut String, longest: f64, place: impl Fn(f64) -> f64, (top, bottom): (f64, f64)) {
    let step = step(longest);
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    let last = (longest / step + 1e-9).floor() as usize;
    for tick in 0..=last {
        let (value, color) = (tick as f64 * step, if tick == 0 { DARK } else { "#d5d9dd" });
        let x = place(value);
        let _ = writeln!(svg, "<path d=\"M{x:.1} {top:.1}V{bottom:.1}\" stroke=\"{color}\"/>");
        text(svg, (x, bottom + 16.0), "text-anchor=\"middle\"", &format!("{value:.decimals$}"));
    }
}

/// A round distance of ticks, so that there are three to seven.
fn step(longest: f64) -> f64 {
    let power = 10f64.powf(longest.log10().floor());
    let steps = [0.2, 0.5, 1.0, 2.0].map(|share| share * power);
    steps.into_iter().find(|step| longest / step <= 6.9).unwrap_or(power * 2.0)
}

fn bar(svg: &mut String, (x, y): (f64, f64), (width, height): (f64, f64), color: &str) {
    let _ =
        writeln!(svg, "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{color}\"/>");
}

fn whisker(svg: &mut String, low: f64, high: f64, middle: f64) {
    let (top, bottom) = (middle - 4.0, middle + 4.0);
    let _ = writeln!(
        svg,
        "<path d=\"M{low:.1} {top:.1}V{bottom:.1}M{low:.1} {middle:.1}H{high:.1}M{high:.1} {top:.1}V{bottom:.1}\" \
         stroke=\"{DARK}\" stroke-width=\"1.4\" fill=\"none\"/>"
    );
}

fn reference(svg: &mut String, x: f64, top: f64, bottom: f64) {
    let _ = writeln!(
        svg,
        "<path d=\"M{x:.1} {top:.1}V{bottom:.1}\" stroke=\"#c0392b\" stroke-width=\"1.4\" stroke-dasharray=\"4 3\"/>"
    );
}

fn text(svg: &mut String, (x, y): (f64, f64), attributes: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let space = if attributes.is_empty() { "" } else { " " };
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{DARK}\"{space}{attributes}>{words}</text>");
}

/// Words in lines that fit.
fn wrapped(words: &str, width: f64) -> Vec<String> {
    let letters = ((width - 2.0 * MARGIN) / LETTER_WIDTH) as usize;
    let mut lines = vec![String::new()];
    for word in words.split_whitespace() {
        let line = lines.last_mut().expect("never empty");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= letters {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(values: [f64; 2]) -> Picture {
        let names = ["raon", "other & co"];
        let bar = |(name, value): (&str, f64)| Bar {
            name: name.into(),
            value,
            low: value - 0.1,
            high: value + 0.1,
            label: format!("{value:.2}"),
        };
        let panel = Panel {
            title: "a < b".into(),
            unit: "bytes".into(),
            bars: names.into_iter().zip(values).map(bar).collect(),
        };
        let reference = Some((1.0, "the first".into()));
        Picture { heading: "what".into(), panels: vec![panel], whisker: "an error", reference, footer: "here".into() }
    }

    #[test]
    fn every_bar_is_drawn_and_words_are_escaped() {
        let svg = svg(&picture([1.0, 2.0]));
        assert_eq!(svg.matches("height=\"14.0\"").count(), 2);
        for words in ["a &lt; b", "other &amp; co", "bytes", "an error", "the first", "another library", "here"] {
            assert!(svg.contains(words), "{words}: {svg}");
        }
        assert!(svg.ends_with("</svg>\n"));
    }

    #[test]
    fn what_is_not_a_number_is_not_drawn() {
        let svg = svg(&picture([1.0, f64::NAN]));
        assert_eq!(svg.matches("height=\"14.0\"").count(), 1);
        assert!(svg.contains("other &amp; co") && !svg.contains("width=\"NaN\"") && !svg.contains("MNaN"));
    }

    #[test]
    fn ticks_are_few_and_round() {
        assert_eq!(step(1.27), 0.2);
        assert_eq!(step(0.97), 0.2);
        assert_eq!(step(4966.0), 1000.0);
        for longest in [0.01, 1.0, 1.1, 2.0, 5.4, 9.99, 12.0, 185.0] {
            assert!((1.9..=6.9).contains(&(longest / step(longest))), "{longest}");
        }
    }

    #[test]
    fn long_words_are_wrapped() {
        assert_eq!(wrapped("one two three", 2.0 * MARGIN + 8.0 * LETTER_WIDTH), ["one two", "three"]);
    }
}
