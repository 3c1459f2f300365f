//! The house rules that a compiler does not check. One rule, one file; each is a function from the tree to findings.

mod budget;
mod cfg;
mod circles;
pub(crate) mod clauses;
mod floors;
mod growth;
mod headers;
mod links;
mod markers;
mod order;
mod ratchet;
mod size;
pub(crate) mod tokens;
pub(crate) mod tree;
mod unsafety;

use std::fmt;
use std::path::Path;

use tree::Tree;

/// One breach of one rule, with its remedy.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    rule: &'static str,
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, rule: &'static str, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, rule, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}: {}", self.path, self.line, self.rule, self.message)
    }
}

type Rule = fn(&Tree) -> Vec<Finding>;

const RULES: [Rule; 13] = [
    syntax,
    cfg::check,
    circles::check,
    unsafety::check,
    clauses::check,
    markers::check,
    size::check,
    links::check,
    floors::check,
    growth::check,
    headers::check,
    order::check,
    budget::check,
];

/// Prints every finding; an error if there is one.
pub(crate) fn run(root: &Path) -> Result<(), String> {
    check(&Tree::read(root)?)
}

/// As `run`, with the sizes printed first.
pub(crate) fn run_report(root: &Path) -> Result<(), String> {
    let tree = Tree::read(root)?;
    print!("{}", size::report(&tree));
    check(&tree)
}

fn check(tree: &Tree) -> Result<(), String> {
    let mut findings: Vec<Finding> = RULES.iter().flat_map(|rule| rule(tree)).collect();
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => {
            println!("tidy: {} files, nothing to say", tree.files.len());
            Ok(())
        }
        count => Err(format!("tidy: {count} findings")),
    }
}

/// A file that does not even split into tokens would escape the other rules.
fn syntax(tree: &Tree) -> Vec<Finding> {
    tree.files
        .iter()
        .filter_map(|file| {
            let line = file.broken_at?;
            Some(Finding::new(&file.path, line, "syntax", "not Rust; the other rules cannot read it"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_prints_as_editors_expect() {
        let finding = Finding::new("a/b.rs", 7, "size", "too long");
        assert_eq!(finding.to_string(), "a/b.rs:7: size: too long");
    }

    #[test]
    fn a_broken_file_is_a_finding() {
        let tree = Tree::of(&[("crates/a/src/lib.rs", "fn main() {"), ("README.md", "fn main() {")]);
        assert_eq!(syntax(&tree).len(), 1);
    }
}
