//! Things that must not be left lying about: notes to oneself, holes, switched-off tests, sleeping tests, machine paths.

use proc_macro2::TokenTree;

use super::Finding;
use super::tokens::{is_ident, is_punct, line, mentions, walk};
use super::tree::{File, Tree};

const RULE: &str = "markers";

// Written in halves, so that this file does not find itself.
const NOTES: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
const MACHINE_PATHS: [&str; 4] =
    [concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];
const UNTESTED_EXAMPLES: [&str; 2] = [concat!("``", "`ignore"), concat!("``", "`rust,ignore")];
const HOLES: [&str; 3] = ["todo", "unimplemented", "dbg"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        findings.extend(in_text(file));
        findings.extend(in_code(file));
        if file.path.starts_with("crates/conformance/") {
            findings.extend(sleeps(file));
        }
    }
    findings
}

/// Notes and paths, which may stand in comments and documents.
fn in_text(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, text) in file.lines() {
        if let Some(path) = MACHINE_PATHS.iter().find(|path| names_path(text, path)) {
            let message = format!("`{path}` exists on one machine only; write a relative path");
            findings.push(Finding::new(&file.path, line, RULE, message));
        }
        if let Some(note) = NOTES.iter().find(|note| has_word(text, note)) {
            let message = format!("stray {note}; do it, or say in words why it may stay");
            findings.push(Finding::new(&file.path, line, RULE, message));
        }
        if file.extension() == "rs" && UNTESTED_EXAMPLES.iter().any(|fence| text.contains(fence)) {
            let message = "an ignored example rots; let it compile (`no_run`) or mark it `text`";
            findings.push(Finding::new(&file.path, line, RULE, message));
        }
    }
    findings
}

/// Holes and switched-off tests.
fn in_code(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    walk(&file.tokens, &mut |tokens| {
        let message = match tokens {
            [TokenTree::Ident(name), bang, TokenTree::Group(_), ..]
                if is_punct(bang, '!') && HOLES.iter().any(|hole| name == hole) =>
            {
                format!("stray `{name}!`; finish the code")
            }
            [hash, TokenTree::Group(attribute), ..] if is_punct(hash, '#') && switches_off(attribute) => {
                "a test that never runs; make it pass or remove it".to_owned()
            }
            _ => return,
        };
        findings.push(Finding::new(&file.path, line(&tokens[0]), RULE, message));
    });
    findings
}

/// `thread::sleep`, which makes a test slow or flaky, unless the line says why it must be.
fn sleeps(file: &File) -> Vec<Finding> {
    let lines: Vec<&str> = file.text.lines().collect();
    let mut findings = Vec::new();
    walk(&file.tokens, &mut |tokens| {
        let [thread, first, second, rest @ ..] = tokens else {
            return;
        };
        let is_path = is_ident(thread, "thread") && is_punct(first, ':') && is_punct(second, ':');
        let sleeps = match rest.first() {
            Some(TokenTree::Group(imports)) => mentions(imports, "sleep"),
            Some(name) => is_ident(name, "sleep"),
            None => false,
        };
        let line = line(thread);
        if is_path && sleeps && !excused(&lines, line) {
            let message = "`thread::sleep` in a test; wait for the event, or write `// tidy: sleep — reason`";
            findings.push(Finding::new(&file.path, line, RULE, message));
        }
    });
    findings
}

fn excused(lines: &[&str], line: usize) -> bool {
    let candidates = &lines[line.saturating_sub(2)..line];
    candidates.iter().any(|text| {
        let reason = text.split_once("// tidy: sleep").map_or("", |(_, reason)| reason);
        reason.trim_start_matches([' ', '—', '-', ':']).len() > 3
    })
}

fn switches_off(attribute: &proc_macro2::Group) -> bool {
    let name = attribute.stream().into_iter().next();
    name.is_some_and(|name| is_ident(&name, "ignore") || is_ident(&name, "cfg_attr") && mentions(attribute, "ignore"))
}

fn has_word(text: &str, word: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part))
}

/// Whether an absolute path starts so, as opposed to `target` in a longer path or an address.
fn names_path(text: &str, path: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || "._~-/)}*".contains(character);
    text.match_indices(path).any(|(at, _)| !text[..at].ends_with(is_part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, source: &str) -> usize {
        check(&Tree::of(&[(path, source)])).len()
    }

    #[test]
    fn notes_are_found_in_every_text() {
        for note in NOTES {
            assert_eq!(count("crates/a/src/lib.rs", &format!("// {note}: later\n")), 1);
            assert_eq!(count("docs/a.md", &format!("({note})\n")), 1);
            assert_eq!(count("docs/a.md", &format!("A{note}X {note}_LIST\n")), 0);
        }
    }

    #[test]
    fn machine_paths_are_found() {
        for path in MACHINE_PATHS {
            assert_eq!(count("README.md", &format!("see `{path}notes`\n")), 1);
            assert_eq!(count("README.md", &format!("https://example.org{path}notes, docs{path}a.md\n")), 0);
        }
    }

    #[test]
    fn holes_are_found() {
        assert_eq!(count("crates/a/src/lib.rs", "fn f() { todo!() } fn g() { assert!(dbg!(true)) }"), 2);
        assert_eq!(count("crates/a/src/lib.rs", "fn todo() {} const A: &str = \"todo!()\"; // dbg!(1)"), 0);
    }

    #[test]
    fn switched_off_tests_are_found() {
        for attribute in ["#[ignore]", "#[ignore = \"slow\"]", "#[cfg_attr(miri, ignore)]"] {
            assert_eq!(count("crates/a/tests/b.rs", &format!("#[test] {attribute} fn f() {{}}")), 1);
        }
        assert_eq!(
            count("crates/a/src/lib.rs", &format!("/// {}\n/// f();\n/// ```\nfn f() {{}}", UNTESTED_EXAMPLES[0])),
            1
        );
        assert_eq!(count("crates/a/src/lib.rs", "#[test] fn ignore() {}"), 0);
    }

    #[test]
    fn conformance_tests_do_not_sleep() {
        let path = "crates/conformance/tests/a.rs";
        assert_eq!(count(path, "fn f() { std::thread::sleep(D); }"), 1);
        assert_eq!(count(path, "use std::thread::{self, sleep};"), 1);
        assert_eq!(count(path, "fn f() {\n    // tidy: sleep — the peer must look idle\n    thread::sleep(D);\n}"), 0);
        assert_eq!(count(path, "fn f() {\n    thread::sleep(D); // tidy: sleep —\n}"), 1);
        assert_eq!(count("crates/cli/tests/a.rs", "fn f() { std::thread::sleep(D); }"), 0);
    }
}
