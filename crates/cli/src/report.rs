//! Figures as they are written for people, and places where reports go.

use std::fmt;
use std::io::{self, Write};

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, presets};
use serde::Serialize;

/// Writes a report to standard output. A reader that has gone away is no error.
pub(crate) fn print(text: impl fmt::Display) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// A value as JSON, over several lines.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("reports have string keys and finite figures")
}

/// A table with a header; `is_ruled` draws lines between rows.
pub(crate) fn table(header: &[&str], is_ruled: bool) -> Table {
    let mut style = presets::UTF8_HORIZONTAL_ONLY;
    if !is_ruled {
        style = style.row_separator(LineStyle::none());
    }
    let mut table = Table::new();
    table.load_style(style).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    table
}

/// A table as text, without the blanks at the ends of its lines.
pub(crate) fn lines(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Rows of a name and a figure, indented, figures aligned by their last digit.
pub(crate) fn rows(rows: &[(&str, String)]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    for (name, figure) in rows {
        table.add_row([*name, figure]);
    }
    table.lines().map(|line| format!(" {}", line.trim_end())).collect::<Vec<_>>().join("\n")
}

/// Aligns all columns but the first to the right.
pub(crate) fn align_figures(table: &mut Table) {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// Wraps long cells, so that the table is as wide as people read.
pub(crate) fn fit(table: &mut Table) {
    const WIDTH: u16 = 120;
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
}

/// A whole number with thousands apart: 1,234,567.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time with a unit that suits it.
pub(crate) fn time(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", ns as f64 / 1e6),
        _ => format!("{:.2} s", ns as f64 / 1e9),
    }
}

/// An amount of memory with a unit that suits it.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut amount = bytes as f64 / 1024.0;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{amount:.1} {}", UNITS[unit])
}

/// A figure, or a dash where there is none.
pub(crate) fn optional<T>(value: Option<T>, text: impl FnOnce(T) -> String) -> String {
    value.map_or("-".into(), text)
}

/// `count thing`, with an s where it belongs.
pub(crate) fn plural(count: u64, thing: &str) -> String {
    format!("{} {thing}{}", grouped(count), if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!([grouped(0), grouped(999), grouped(1000), grouped(1234567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [time(999), time(15_120), time(2_500_000), time(3_000_000_000)],
            ["999 ns", "15.1 µs", "2.50 ms", "3.00 s"]
        );
        assert_eq!([bytes(100), bytes(307), bytes(5 << 20)], ["100 B", "307 B", "5.0 MiB"]);
        assert_eq!([plural(1, "error"), plural(2, "error")], ["1 error", "2 errors"]);
    }
}
