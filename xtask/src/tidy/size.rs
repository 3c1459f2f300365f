//! Files and functions stay small.

use std::fmt::Write as _;

use super::Finding;
use super::ratchet::{Allowance, RATCHET};
use super::tokens;
use super::tree::Tree;

const RULE: &str = "size";
const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 60;
const REPORT_ROWS: usize = 10;

/// A file (no function) or a function, with its length.
struct Item {
    path: String,
    line: usize,
    function: Option<String>,
    lines: usize,
}

impl Item {
    fn limit(&self) -> usize {
        if self.function.is_some() { FUNCTION_LINES_MAX } else { FILE_LINES_MAX }
    }

    fn is_subject_of(&self, allowance: &Allowance) -> bool {
        self.path == allowance.path && self.function.as_deref() == allowance.function
    }

    fn label(&self) -> String {
        self.function.as_ref().map_or("the file".to_owned(), |name| format!("`{name}`"))
    }
}

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    check_against(tree, RATCHET)
}

/// The largest files, the longest functions, and how long functions usually are.
pub(super) fn report(tree: &Tree) -> String {
    let (mut functions, mut files): (Vec<_>, Vec<_>) =
        items(tree).into_iter().partition(|item| item.function.is_some());
    files.sort_by_key(|item| std::cmp::Reverse(item.lines));
    functions.sort_by_key(|item| std::cmp::Reverse(item.lines));
    let mut out = String::from("largest files\n");
    for item in files.iter().take(REPORT_ROWS) {
        let _ = writeln!(out, "{:6}  {}", item.lines, item.path);
    }
    out.push_str("longest functions\n");
    for item in functions.iter().take(REPORT_ROWS) {
        let _ = writeln!(out, "{:6}  {}:{} {}", item.lines, item.path, item.line, item.label());
    }
    // Sorted from the longest, so the 90th percentile lies a tenth of the way in.
    let percentile = |from_top: usize| functions.get(functions.len() * from_top / 100).map_or(0, |item| item.lines);
    let _ = writeln!(
        out,
        "{} functions: median {} lines, 90th percentile {}",
        functions.len(),
        percentile(50),
        percentile(10)
    );
    out
}

fn check_against(tree: &Tree, ratchet: &[Allowance]) -> Vec<Finding> {
    let items = items(tree);
    let mut findings: Vec<Finding> = items.iter().filter_map(|item| excess(item, ratchet)).collect();
    findings.extend(ratchet.iter().filter_map(|allowance| slack(allowance, &items)));
    findings
}

fn items(tree: &Tree) -> Vec<Item> {
    let mut items = Vec::new();
    for file in tree.with_extension("rs") {
        let path = &file.path;
        items.push(Item { path: path.clone(), line: 1, function: None, lines: file.lines().count() });
        items.extend(tokens::functions(&file.tokens).into_iter().map(|function| Item {
            path: path.clone(),
            line: function.line,
            function: Some(function.name),
            lines: function.lines,
        }));
    }
    items
}

fn excess(item: &Item, ratchet: &[Allowance]) -> Option<Finding> {
    let allowed = ratchet.iter().find(|allowance| item.is_subject_of(allowance));
    let limit = allowed.map_or(item.limit(), |allowance| allowance.lines);
    (item.lines > limit).then(|| {
        let message = format!("{} has {} lines, {limit} are allowed; split it", item.label(), item.lines);
        Finding::new(&item.path, item.line, RULE, message)
    })
}

/// An allowance that its subject no longer needs in full. Of functions with the same name the longest counts.
fn slack(allowance: &Allowance, items: &[Item]) -> Option<Finding> {
    let subject = items.iter().filter(|item| item.is_subject_of(allowance)).max_by_key(|item| item.lines);
    let needed = subject.map_or(0, |item| if item.lines > item.limit() { item.lines } else { 0 });
    let remedy = match needed {
        0 => "strike the entry".to_owned(),
        needed if needed < allowance.lines => format!("lower it to {needed}"),
        _ => return None,
    };
    let line = subject.map_or(1, |item| item.line);
    let message = format!("the ratchet allows {} lines, more than needed; {remedy}", allowance.lines);
    Some(Finding::new(allowance.path, line, RULE, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "crates/a/src/lib.rs";

    fn messages(source: &str, ratchet: &[Allowance]) -> Vec<String> {
        let findings = check_against(&Tree::of(&[(PATH, source)]), ratchet);
        findings.into_iter().map(|finding| finding.message).collect()
    }

    fn function_of(lines: usize) -> String {
        format!("fn long() {{\n{}}}\n", "    f();\n".repeat(lines - 2))
    }

    fn allow(function: Option<&'static str>, lines: usize) -> [Allowance; 1] {
        [Allowance { path: PATH, function, lines, reason: "a test" }]
    }

    #[test]
    fn the_limits_hold() {
        assert!(messages(&function_of(FUNCTION_LINES_MAX), &[]).is_empty());
        assert!(messages(&function_of(FUNCTION_LINES_MAX + 1), &[])[0].contains("`long` has 61"));
        assert!(messages(&"\n".repeat(FILE_LINES_MAX), &[]).is_empty());
        assert!(messages(&"\n".repeat(FILE_LINES_MAX + 1), &[])[0].contains("the file has 601"));
    }

    #[test]
    fn the_ratchet_allows_what_is_needed_and_no_more() {
        let source = function_of(70);
        assert!(messages(&source, &allow(Some("long"), 70)).is_empty());
        assert!(messages(&source, &allow(Some("long"), 69))[0].contains("has 70 lines, 69"));
        assert!(messages(&source, &allow(Some("long"), 71))[0].contains("lower it to 70"));
    }

    #[test]
    fn an_entry_without_need_is_struck() {
        assert!(messages(&function_of(20), &allow(Some("long"), 70))[0].contains("strike"));
        assert!(messages("", &allow(Some("gone"), 70))[0].contains("strike"));
        assert!(messages("", &allow(None, 700))[0].contains("strike"));
    }

    #[test]
    fn the_report_sums_up() {
        let source: String = (2..=11).map(function_of).collect();
        let report = report(&Tree::of(&[(PATH, &source)]));
        assert!(report.contains("    65  crates/a/src/lib.rs\n"), "{report}");
        assert!(report.ends_with("10 functions: median 6 lines, 90th percentile 10\n"), "{report}");
    }
}
