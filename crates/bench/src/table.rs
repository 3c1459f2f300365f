//! Tables for people: as wide as their widest cell, the first column to the left, figures to the right.

/// Lines of a table, its head first.
pub(crate) fn lines(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|word| (*word).to_owned()).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&head).chain(rows).collect();
    let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |row: &&Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("  {cell:<width$}"),
            _ => format!("  {cell:>width$}"),
        });
        cells.collect::<String>().trim_end().to_owned() + "\n"
    };
    all.iter().map(line).collect()
}

/// A figure, or a dash where there is none.
pub(crate) fn number(value: f64, decimals: usize) -> String {
    if value.is_finite() { format!("{value:.decimals$}") } else { "-".to_owned() }
}

/// From one figure to another.
pub(crate) fn spread(low: f64, high: f64, decimals: usize) -> String {
    if low.is_finite() && high.is_finite() { format!("{low:.decimals$}-{high:.decimals$}") } else { "-".to_owned() }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_not_there_is_a_dash() {
        assert_eq!([super::number(1.25, 1), super::spread(1.0, 2.0, 0)], ["1.2", "1-2"]);
        assert_eq!([super::number(f64::NAN, 1), super::spread(f64::NAN, 2.0, 0)], ["-", "-"]);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["a long name".to_owned(), "1".to_owned()], vec!["b".to_owned(), "12345".to_owned()]];
        let lines = super::lines(&["server", "ns"], &rows);
        assert_eq!(lines, "  server          ns\n  a long name      1\n  b            12345\n");
    }
}
