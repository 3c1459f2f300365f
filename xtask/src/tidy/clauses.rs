//! Every clause in force is quoted, as `//= OWN-1`, where it is obeyed and where it is tested: in the conformance suite, or,
//! since that suite is about back ends, in the `tests` folder of a crate above them.

use super::Finding;
use super::tree::{File, Tree};

const RULE: &str = "clauses";
pub(crate) const SEMANTICS: &str = "docs/semantics.md";

/// A promise of `docs/semantics.md`.
pub(crate) struct Clause {
    pub(crate) id: String,
    pub(crate) line: usize,
    pub(crate) in_force: bool,
}

/// A line of code that refers to a clause.
pub(crate) struct Quote {
    pub(crate) id: String,
    pub(crate) path: String,
    pub(crate) line: usize,
}

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(document) = tree.file(SEMANTICS) else {
        return vec![Finding::new(SEMANTICS, 1, RULE, "missing; it holds the clauses")];
    };
    let clauses = clauses(document);
    let (sources, tests) = quotes(tree);
    let mut findings = exception_findings(document, &clauses);
    findings.extend(clauses.iter().flat_map(|clause| coverage_findings(clause, &sources, &tests)));
    for quote in sources.iter().chain(&tests) {
        if !clauses.iter().any(|clause| clause.id == quote.id) {
            let message = format!("quotes `{}`, which {SEMANTICS} does not have; correct the id", quote.id);
            findings.push(Finding::new(&quote.path, quote.line, RULE, message));
        }
    }
    findings
}

/// The ids of all clauses, in force or not.
pub(super) fn known(tree: &Tree) -> Vec<String> {
    let clauses = tree.file(SEMANTICS).map(clauses).unwrap_or_default();
    clauses.into_iter().map(|clause| clause.id).collect()
}

/// The clauses: each is a heading that consists of its id.
pub(crate) fn clauses(document: &File) -> Vec<Clause> {
    let waiting: Vec<&str> = exceptions(document).map(|(_, id, _)| id).collect();
    let headings = document.lines().filter_map(|(line, text)| Some((line, text.strip_prefix("### ")?.trim())));
    headings
        .filter(|(_, heading)| is_id(heading))
        .map(|(line, id)| Clause { id: id.to_owned(), line, in_force: !waiting.contains(&id) })
        .collect()
}

/// The crates above the provider, whose clauses are tested beside them.
const TESTED_BESIDE: [&str; 2] = ["session", "raon"];

/// The quotes in the crates' sources and those in tests.
pub(crate) fn quotes(tree: &Tree) -> (Vec<Quote>, Vec<Quote>) {
    let (mut sources, mut tests) = (Vec::new(), Vec::new());
    for file in tree.with_extension("rs") {
        match file.path.split('/').collect::<Vec<_>>()[..] {
            ["crates", "conformance", ..] => tests.extend(quotes_in(file)),
            ["crates", name, "tests", ..] if TESTED_BESIDE.contains(&name) => tests.extend(quotes_in(file)),
            ["crates", _, "src", ..] => sources.extend(quotes_in(file)),
            _ => {}
        }
    }
    (sources, tests)
}

/// The words of the text that look like a clause's id.
pub(super) fn ids(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !character.is_ascii_alphanumeric() && character != '-').filter(|word| is_id(word))
}

/// Capitals, a dash, a number: `OWN-1`.
fn is_id(word: &str) -> bool {
    word.split_once('-').is_some_and(|(group, number)| {
        !group.is_empty()
            && group.bytes().all(|byte| byte.is_ascii_uppercase())
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn quotes_in(file: &File) -> impl Iterator<Item = Quote> {
    file.lines().flat_map(move |(line, text)| {
        let quoted = text.trim_start().strip_prefix("//= ").unwrap_or("");
        quoted.split([',', ' ']).filter(|word| !word.is_empty()).map(move |id| Quote {
            id: id.to_owned(),
            path: file.path.clone(),
            line,
        })
    })
}

/// Line, id and reason of each entry `- DGRAM-1: reason` under "Not yet in force".
fn exceptions(document: &File) -> impl Iterator<Item = (usize, &str, &str)> {
    document
        .lines()
        .skip_while(|(_, text)| *text != "## Not yet in force")
        .skip(1)
        .take_while(|(_, text)| !text.starts_with('#'))
        .filter_map(|(line, text)| {
            let (id, reason) = text.strip_prefix("- ")?.split_once(':')?;
            Some((line, id, reason.trim()))
        })
}

fn exception_findings(document: &File, clauses: &[Clause]) -> Vec<Finding> {
    let flaw = |id: &str, reason: &str| {
        if !clauses.iter().any(|clause| clause.id == id) {
            Some(format!("no clause `{id}`; correct the id or strike the entry"))
        } else if reason.is_empty() {
            Some(format!("{id} waits without a reason; give it"))
        } else {
            None
        }
    };
    exceptions(document)
        .filter_map(|(line, id, reason)| Some(Finding::new(SEMANTICS, line, RULE, flaw(id, reason)?)))
        .collect()
}

fn coverage_findings(clause: &Clause, sources: &[Quote], tests: &[Quote]) -> Vec<Finding> {
    let id = &clause.id;
    let obeyed = sources.iter().any(|quote| quote.id == *id);
    let tested = tests.iter().any(|quote| quote.id == *id);
    let mut messages = Vec::new();
    if clause.in_force && !obeyed {
        messages.push(format!("no source line quotes {id}; write `//= {id}` where it is obeyed"));
    }
    if clause.in_force && !tested {
        messages.push(format!("no test of the suite quotes {id}; write `//= {id}` above the test"));
    }
    if !clause.in_force && obeyed && tested {
        messages.push(format!("{id} is obeyed and tested; strike it from \"Not yet in force\""));
    }
    messages.into_iter().map(|message| Finding::new(SEMANTICS, clause.line, RULE, message)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "### OWN-1\nText.\n### DGRAM-1\nText.\n## Not yet in force\n- DGRAM-1: no datagrams.\n";

    fn messages(document: &str, source: &str, test: &str) -> Vec<String> {
        let tree = Tree::of(&[
            (SEMANTICS, document),
            ("crates/provider/src/driver.rs", source),
            ("crates/conformance/tests/own.rs", test),
        ]);
        check(&tree).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn a_quoted_clause_and_a_waiting_one_are_good() {
        assert!(messages(TWO, "    //= OWN-1\nfn f() {}", "//= OWN-1\nfn g() {}").is_empty());
    }

    #[test]
    fn a_clause_without_source_or_test_is_found() {
        assert!(messages(TWO, "", "//= OWN-1")[0].starts_with("no source line"));
        assert!(messages(TWO, "//= OWN-1", "")[0].starts_with("no test of the suite"));
        assert_eq!(messages(TWO, "// OWN-1", "/// OWN-1").len(), 2);
    }

    #[test]
    fn an_unknown_clause_is_found() {
        assert!(messages(TWO, "//= OWN-1, OWN-9", "//= OWN-1")[0].contains("OWN-9"));
        assert!(messages(TWO, "//= OWN-1", "//= OWN-1\n//= nonsense")[0].contains("nonsense"));
    }

    #[test]
    fn the_list_of_exceptions_stays_true() {
        let quoted = "//= OWN-1\n//= DGRAM-1";
        assert!(messages(TWO, quoted, quoted)[0].contains("strike it"));
        assert!(messages(&TWO.replace(" no datagrams.", ""), "//= OWN-1", "//= OWN-1")[0].contains("without a reason"));
        assert!(messages(&format!("{TWO}- GONE-1: why.\n"), "//= OWN-1", "//= OWN-1")[0].contains("no clause"));
    }

    #[test]
    fn quotes_elsewhere_do_not_count() {
        let tree =
            Tree::of(&[(SEMANTICS, TWO), ("xtask/src/a.rs", "//= OWN-1"), ("crates/cli/tests/a.rs", "//= OWN-1")]);
        assert_eq!(check(&tree).len(), 2);
    }

    #[test]
    fn the_crates_above_are_tested_beside_themselves() {
        let tree = Tree::of(&[
            (SEMANTICS, "### FRAME-1\nText.\n"),
            ("crates/session/src/inbox.rs", "//= FRAME-1"),
            ("crates/session/tests/inbox.rs", "    //= FRAME-1\nfn f() {}"),
        ]);
        assert!(check(&tree).is_empty());
        let (_, tests) = quotes(&tree);
        assert_eq!((tests[0].path.as_str(), tests[0].line), ("crates/session/tests/inbox.rs", 1));
    }

    #[test]
    fn ids_look_like_ids() {
        assert_eq!(ids("by OWN-1, (CLOSE-2); not UTF-x, own-1, -1.").collect::<Vec<_>>(), ["OWN-1", "CLOSE-2"]);
    }
}
