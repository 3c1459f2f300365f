//! `unsafe` is a place: only the marked files hold it, and each use there proves itself by a clause or a manual page.

use proc_macro2::TokenTree;

use super::Finding;
use super::clauses;
use super::tokens::{is_brace, is_ident, is_punct, line, mentions, walk};
use super::tree::{File, Tree};

const RULE: &str = "unsafe";

/// The files that talk to the kernel, own raw memory or take pointers from C.
const MARKED: &[&str] = &[
    "crates/provider/src/memory.rs",
    "crates/provider/src/memory/span.rs",
    "crates/provider/src/platform/option.rs",
    "crates/provider/src/platform/rio.rs",
    "crates/provider/src/platform/windows.rs",
    "crates/provider/src/backend/uring/calls.rs",
    "crates/provider/src/backend/epoll/calls.rs",
    "crates/provider/src/backend/datagram.rs",
    "crates/provider/src/backend/kqueue/calls.rs",
    "crates/provider/src/backend/iocp/port.rs",
    "crates/provider/src/backend/iocp/blocks.rs",
    "crates/provider/src/backend/iocp/precise.rs",
    "crates/provider/src/backend/iocp/extension.rs",
    "crates/provider/src/backend/iocp/associate.rs",
    "crates/provider/src/backend/iocp/accept.rs",
    "crates/provider/src/backend/iocp/connect.rs",
    "crates/provider/src/backend/iocp/transfer.rs",
    "crates/provider/src/backend/iocp/message.rs",
    "crates/provider/src/backend/readiness/calls.rs",
    "crates/provider/src/backend/rio/calls.rs",
    "crates/provider/src/backend/rio/memory.rs",
    "crates/cli/src/platform/windows.rs",
    "crates/cli/src/platform/windows/process.rs",
    "crates/capi/src/pointer.rs",
];

/// Support for tests that cannot do without. Each entry has its reason.
const EXCEPTIONS: [(&str, &str); 7] = [
    ("crates/conformance/src/allocator.rs", "implementing GlobalAlloc, to count allocations, is unsafe"),
    ("crates/conformance/src/platform/rio.rs", "it vouches for the double's functions"),
    ("crates/rio-double/src/bell.rs", "it waits on events and posts to ports that callers name by their handles"),
    ("crates/rio-double/src/memory.rs", "it reads and writes the regions that callers have registered"),
    ("crates/rio-double/src/overlapped.rs", "overlapped operations on its own memory"),
    ("crates/rio-double/src/table.rs", "functions of the system's calling convention take pointers"),
    ("crates/rio-double/tests/support/mod.rs", "it calls such functions, as a back end does"),
];

/// Words that say nothing.
const PLATITUDES: [&str; 4] = ["parameters are valid", "arguments are valid", "this is safe", "we know what we do"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let known = clauses::known(tree);
    let mut findings = Vec::new();
    for file in tree.with_extension("rs") {
        if is_marked(&file.path) {
            findings.extend(unproven(file, &known));
        } else {
            findings.extend(misplaced(file));
        }
    }
    findings.extend(tree.files.iter().filter(|file| file.name() == "Cargo.toml").filter_map(loose_manifest));
    findings
}

fn is_marked(path: &str) -> bool {
    MARKED.contains(&path) || EXCEPTIONS.iter().any(|(exception, _)| *exception == path)
}

/// Any `unsafe` and any relaxation of its lint, for files that may have neither.
fn misplaced(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    walk(&file.tokens, &mut |tokens| {
        let message = match tokens {
            [word, ..] if is_ident(word, "unsafe") => {
                "`unsafe` outside the marked files; move it behind a safe function in one of them (CONTRIBUTING.md)"
            }
            [level, TokenTree::Group(lints), ..]
                if ["allow", "expect", "warn"].iter().any(|name| is_ident(level, name))
                    && mentions(lints, "unsafe_code") =>
            {
                "relaxes `unsafe_code` outside the marked files; remove it"
            }
            _ => return,
        };
        findings.push(Finding::new(&file.path, line(&tokens[0]), RULE, message));
    });
    findings
}

/// A member that does not take the workspace's lints would escape `deny(unsafe_code)`.
fn loose_manifest(file: &File) -> Option<Finding> {
    let text: String = file.text.split_whitespace().collect();
    let takes_them = text.contains("[lints]workspace=true");
    let is_package = text.contains("[package]");
    (is_package && !takes_them).then(|| {
        Finding::new(&file.path, 1, RULE, "takes other lints than the workspace's; write `[lints]`, `workspace = true`")
    })
}

/// What follows the word `unsafe`.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Site {
    /// A block, an impl or a block of foreign declarations: asserts something, so it owes a proof.
    Assertion,
    /// A function or trait: asks something of its user, so it owes a `# Safety` section.
    Demand,
    /// A type, an attribute: nothing to prove here.
    Mention,
}

fn site(after: &[TokenTree]) -> Site {
    let (after, foreign) = match after {
        [word, TokenTree::Literal(_), rest @ ..] if is_ident(word, "extern") => (rest, true),
        [word, rest @ ..] if is_ident(word, "extern") => (rest, true),
        _ => (after, false),
    };
    match after {
        [block, ..] if is_brace(block) => Site::Assertion,
        [word, ..] if is_ident(word, "impl") && !foreign => Site::Assertion,
        [word, ..] if is_ident(word, "trait") => Site::Demand,
        [word, TokenTree::Ident(_), ..] if is_ident(word, "fn") => Site::Demand,
        _ => Site::Mention,
    }
}

/// Uses in a marked file that lack their proof or their `# Safety` section.
fn unproven(file: &File, known: &[String]) -> Vec<Finding> {
    let lines: Vec<&str> = file.text.lines().collect();
    let spared = bodies_that_follow_a_contract(file);
    let mut findings = Vec::new();
    walk(&file.tokens, &mut |tokens| {
        if !is_ident(&tokens[0], "unsafe") {
            return;
        }
        let line = line(&tokens[0]);
        let message = match site(&tokens[1..]) {
            Site::Assertion => proof_above(&lines, line)
                .map_or(Some("no `// SAFETY:` directly above; add the proof".to_owned()), |proof| flaw(&proof, known)),
            Site::Demand if spared.iter().any(|body| body.contains(&line)) => None,
            Site::Demand => (!has_safety_section(&lines, line))
                .then(|| "no `# Safety` section; say what the caller must keep".to_owned()),
            Site::Mention => None,
        };
        findings.extend(message.map(|message| Finding::new(&file.path, line, RULE, message)));
    });
    findings
}

/// Lines of trait implementations and foreign blocks: the trait or the manual says there what the caller must keep.
fn bodies_that_follow_a_contract(file: &File) -> Vec<std::ops::RangeInclusive<usize>> {
    let mut bodies = Vec::new();
    walk(&file.tokens, &mut |tokens| {
        let is_impl = is_ident(&tokens[0], "impl");
        if !is_impl && !is_ident(&tokens[0], "extern") {
            return;
        }
        let head: Vec<_> = tokens.iter().take_while(|token| !is_brace(token) && !is_punct(token, ';')).collect();
        let is_for_trait = head.windows(2).any(|pair| is_ident(pair[0], "for") && !is_punct(pair[1], '<'));
        let is_foreign_block = head.iter().all(|token| !is_ident(token, "fn"));
        let body = tokens.get(head.len()).filter(|body| is_brace(body));
        if let (Some(body), true) = (body, if is_impl { is_for_trait } else { is_foreign_block }) {
            bodies.push(body.span().start().line..=body.span().end().line);
        }
    });
    bodies
}

/// The text behind `SAFETY:` in the comment above the statement that holds `line`.
fn proof_above(lines: &[&str], line: usize) -> Option<String> {
    const STATEMENT_LINES_MAX: usize = 8;
    let above = lines[..line - 1].iter().map(|text| text.trim()).rev();
    let mut comment: Vec<&str> = above
        .skip_while({
            let mut skipped = 0;
            move |text| {
                skipped += 1;
                let is_attribute = text.starts_with("#[");
                let continues = !text.is_empty() && !text.ends_with([';', '{', '}']);
                skipped <= STATEMENT_LINES_MAX && !text.starts_with("//") && (is_attribute || continues)
            }
        })
        .take_while(|text| text.starts_with("//") && !text.starts_with("///"))
        .map(|text| text.trim_start_matches('/').trim())
        .collect();
    comment.reverse();
    let comment = comment.join(" ");
    let start = comment.rfind("SAFETY:")? + "SAFETY:".len();
    Some(comment[start..].trim().to_owned())
}

/// What is wrong with a proof, with the remedy.
fn flaw(proof: &str, known: &[String]) -> Option<String> {
    let lowercase = proof.to_lowercase();
    if let Some(platitude) = PLATITUDES.iter().find(|platitude| lowercase.contains(*platitude)) {
        return Some(format!("\"{platitude}\" proves nothing; say why, by a clause or a manual page"));
    }
    let quotes_clause = clauses::ids(proof).any(|id| known.iter().any(|clause| clause == id));
    (!quotes_clause && !names_manual_page(proof) && !names_function_of_windows(proof)).then(|| {
        "the proof rests on nothing; quote a clause of docs/semantics.md or name a manual page, as mmap(2), of Windows as Win32: CancelIoEx".to_owned()
    })
}

/// Whether the text has a word such as `mmap(2)` or `io_uring_enter(2)`.
fn names_manual_page(text: &str) -> bool {
    text.match_indices('(').any(|(open, _)| {
        let is_name = text[..open].ends_with(|last: char| last.is_ascii_alphanumeric() || last == '_');
        let section = text[open + 1..].split(')').next().unwrap_or("");
        let mut characters = section.chars();
        is_name
            && characters.next().is_some_and(|first| ('1'..='8').contains(&first))
            && characters.all(|other| other.is_ascii_lowercase())
    })
}

/// Whether the text names a page of Microsoft's reference, such as `Win32: CancelIoEx`.
fn names_function_of_windows(text: &str) -> bool {
    text.split("Win32: ").skip(1).any(|name| name.starts_with(|first: char| first.is_ascii_alphabetic()))
}

fn has_safety_section(lines: &[&str], line: usize) -> bool {
    lines[..line - 1]
        .iter()
        .rev()
        .map(|text| text.trim())
        .take_while(|text| text.starts_with("//") || text.starts_with('#'))
        .any(|text| text.starts_with("///") && text.contains("# Safety"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: &str = MARKED[0];
    const SEMANTICS: (&str, &str) = ("docs/semantics.md", "### OWN-1\n");

    fn messages(path: &str, source: &str) -> Vec<String> {
        let findings = check(&Tree::of(&[(path, source), SEMANTICS]));
        findings.into_iter().map(|finding| format!("{}: {}", finding.line, finding.message)).collect()
    }

    fn accepts(source: &str) -> bool {
        messages(MEMORY, source).is_empty()
    }

    #[test]
    fn unsafe_has_its_place() {
        let proven = "// SAFETY: OWN-1, the driver owns it.\nunsafe impl Send for A {}";
        assert!(accepts(proven));
        assert!(messages(EXCEPTIONS[0].0, proven).is_empty());
        assert_eq!(messages("crates/provider/src/driver.rs", proven).len(), 1);
        assert_eq!(messages("crates/a/tests/b.rs", "fn f() { assert!(unsafe { g() }) }").len(), 1);
        assert!(messages("crates/a/src/lib.rs", "// unsafe\nconst A: &str = \"unsafe\";").is_empty());
    }

    #[test]
    fn the_lint_is_relaxed_in_place_only() {
        let source = "#![allow(unused, unsafe_code)]";
        assert!(accepts(source));
        assert_eq!(messages("crates/provider/src/lib.rs", source).len(), 1);
        assert_eq!(messages("crates/provider/src/lib.rs", "#[expect(unsafe_code)] mod a;").len(), 1);
        assert!(messages("crates/provider/src/lib.rs", "#![forbid(unsafe_code)]").is_empty());
    }

    #[test]
    fn members_take_the_workspace_lints() {
        let good = "[package]\nname = \"a\"\n[lints]\nworkspace = true\n";
        assert!(messages("crates/a/Cargo.toml", good).is_empty());
        assert_eq!(messages("crates/a/Cargo.toml", "[package]\nname = \"a\"\n").len(), 1);
        assert!(messages("Cargo.toml", "[workspace]\n").is_empty());
    }

    #[test]
    fn a_block_owes_a_proof() {
        assert!(accepts("fn f() {\n    // SAFETY: mmap(2) gave this length.\n    unsafe { g() }\n}"));
        assert!(accepts("fn f() {\n    // SAFETY: by\n    // OWN-1.\n    let a =\n        unsafe { g() };\n}"));
        assert!(!accepts("fn f() {\n    unsafe { g() }\n}"));
        assert!(!accepts("fn f() {\n    // SAFETY: OWN-1.\n    let a = 1;\n    unsafe { g() }\n}"));
        assert!(!accepts("fn f() {\n    // OWN-1.\n    unsafe { g() }\n}"));
    }

    #[test]
    fn a_proof_rests_on_something() {
        for proof in
            ["The parameters are valid.", "Parameters are valid, mmap(2).", "OWN-7.", "f(x) is f(9a).", "Win32: ", ""]
        {
            let source = format!("// SAFETY: {proof}\nunsafe impl Send for A {{}}");
            assert!(!accepts(&source), "{proof}");
        }
        for proof in [
            "The buffer stays (OWN-1).",
            "As io_uring_enter(2) says.",
            "pthread_create(3p) copies it.",
            "Win32: WSARecv reads it.",
        ] {
            let source = format!("// SAFETY: {proof}\nunsafe impl Send for A {{}}");
            assert!(accepts(&source), "{proof}");
        }
    }

    #[test]
    fn a_function_says_what_it_asks() {
        assert!(accepts("/// Reads.\n///\n/// # Safety\n/// Keep it.\n#[inline]\npub(crate) unsafe fn f() {}"));
        assert!(!accepts("/// Reads.\npub(crate) unsafe fn f() {}"));
        assert!(!accepts("unsafe extern \"C\" fn f() {}"));
        assert!(!accepts("unsafe trait T {}"));
        assert!(accepts("type F = unsafe extern \"C\" fn(u8);"));
    }

    #[test]
    fn contracts_written_elsewhere_are_not_repeated() {
        assert!(accepts("// SAFETY: malloc(3).\nunsafe impl GlobalAlloc for A {\n    unsafe fn alloc(&self) {}\n}"));
        assert!(accepts("// SAFETY: as in kqueue(2).\nunsafe extern \"C\" {\n    unsafe fn kqueue() -> i32;\n}"));
        assert!(!accepts("impl A {\n    unsafe fn alloc(&self) {}\n}"));
    }
}
