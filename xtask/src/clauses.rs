//! `cargo xtask clauses`: which clause is quoted where.

use std::path::Path;

use crate::tidy::clauses::{Clause, Quote, SEMANTICS, clauses, quotes};
use crate::tidy::tree::Tree;

pub(crate) fn run(root: &Path) -> Result<(), String> {
    let tree = Tree::read(root)?;
    let document = tree.file(SEMANTICS).ok_or_else(|| format!("{SEMANTICS} is missing"))?;
    let (sources, tests) = quotes(&tree);
    print!("{}", table(&clauses(document), &sources, &tests));
    Ok(())
}

/// One clause per row; further quotes of the same clause on rows below it.
fn table(clauses: &[Clause], sources: &[Quote], tests: &[Quote]) -> String {
    let mut rows = vec![["clause", "in force", "obeyed in", "tested in"].map(str::to_owned)];
    for clause in clauses {
        let (sources, tests) = (places(sources, &clause.id), places(tests, &clause.id));
        for row in 0..sources.len().max(tests.len()).max(1) {
            let (id, force) = match row {
                0 => (clause.id.clone(), if clause.in_force { "yes" } else { "no" }),
                _ => (String::new(), ""),
            };
            let place = |places: &[String]| places.get(row).cloned().unwrap_or_default();
            rows.push([id, force.to_owned(), place(&sources), place(&tests)]);
        }
    }
    let widths: Vec<usize> = (0..4).map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0)).collect();
    let line = |row: &[String; 4]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn places(quotes: &[Quote], id: &str) -> Vec<String> {
    let of_clause = quotes.iter().filter(|quote| quote.id == id);
    of_clause.map(|quote| format!("{}:{}", quote.path, quote.line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_lines_up() {
        let clause = |id: &str, in_force| Clause { id: id.into(), line: 1, in_force };
        let quote = |line| Quote { id: "OWN-1".into(), path: "a.rs".into(), line };
        let table = table(&[clause("OWN-1", true), clause("DGRAM-1", false)], &[quote(3), quote(9)], &[quote(5)]);
        let expected = "\
clause   in force  obeyed in  tested in
OWN-1    yes       a.rs:3     a.rs:5
                   a.rs:9
DGRAM-1  no
";
        assert_eq!(table, expected);
    }
}
