//! Growth of the API: a public struct with public fields and an enum are `#[non_exhaustive]`, so that a field or a
//! variant that is added breaks no caller. The others are listed here, each for a reason.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};

use super::Finding;
use super::tokens::{is_brace, is_ident, is_punct, line, mentions};
use super::tree::Tree;

const RULE: &str = "growth";
/// Sources whose public names are those of the published libraries.
const SOURCES: [&str; 3] = ["crates/provider/src/", "crates/session/src/", "crates/raon/src/"];

/// Public types that will not grow.
const FIXED: &[(&str, &str)] = &[
    ("Action", "the engine obeys each, and its compiler says which it does not"),
    ("Backend", "a choice of two"),
    ("ByteOrder", "a choice of two"),
    ("ChunkRequest", "an allocator answers each"),
    ("Completion", "made by the driver alone, 96 bytes, and taken apart by every user"),
    ("Decoded", "a framing makes it, and all that it can say is in it"),
    ("Event", "each state has an answer to each"),
    ("Form", "of this project's tests"),
    ("GroupKey", "a kind of key that the caller chooses"),
    ("LengthWidth", "a width that the caller chooses"),
    ("MailboxError", "an error and the value that it is about"),
    ("PacketHead", "the head of a packet as it is on the wire"),
    ("Payload", "callers match it to get their own value back"),
    ("Piece", "whoever sends handles each kind of memory"),
    ("Pressure", "a choice of two"),
    ("Refusal", "the engine counts each by itself"),
    ("Refused", "an error and the value that it is about"),
    ("RioFunctions", "where there is no registered I/O it has no value"),
    ("RioHooks", "of this project's tests"),
    ("ReceiveBuffer", "a kind of buffer that the caller chooses"),
    ("SendOutcome", "the engine counts each by itself"),
    ("Server", "has no value, it is the way to a builder"),
    ("Session", "made by its constructor alone"),
    ("Settled", "made by the outbox alone"),
    ("State", "each has an answer to each event"),
    ("Step", "made by the session alone"),
    ("TimerAction", "the engine obeys each, and its compiler says which it does not"),
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let (mut findings, mut needed) = (Vec::new(), BTreeSet::new());
    for file in tree.with_extension("rs").filter(|file| SOURCES.iter().any(|source| file.path.starts_with(source))) {
        for (name, at) in growing(&file.tokens) {
            if let Some((fixed, _)) = FIXED.iter().find(|(fixed, _)| *fixed == name) {
                needed.insert(*fixed);
                continue;
            }
            let message = format!(
                "`{name}` is public and can grow: put #[non_exhaustive] on it, or list it in xtask/src/tidy/growth.rs"
            );
            findings.push(Finding::new(&file.path, at, RULE, message));
        }
    }
    let is_here = SOURCES.iter().all(|source| tree.has(&format!("{source}lib.rs")));
    let unneeded = FIXED.iter().filter(|(name, _)| is_here && !needed.contains(name));
    findings.extend(unneeded.map(|(name, _)| {
        let message = format!("no public type `{name}` needs to be listed: strike it");
        Finding::new("xtask/src/tidy/growth.rs", 1, RULE, message)
    }));
    findings
}

/// Names and lines of the public enums, and of the public structs with a public field, that may not grow.
fn growing(tokens: &TokenStream) -> Vec<(String, usize)> {
    let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
    let mut found = Vec::new();
    for (at, window) in tokens.windows(4).enumerate() {
        if let TokenTree::Group(group) = &window[0] {
            found.extend(growing(&group.stream()));
        }
        let [public, kind, TokenTree::Ident(name), rest] = window else { continue };
        let is_enum = is_ident(kind, "enum");
        if !is_ident(public, "pub") || !(is_enum || is_ident(kind, "struct")) {
            continue;
        }
        let rest = std::iter::once(rest).chain(&tokens[at + 4..]);
        let body = rest.take_while(|token| !is_punct(token, ';')).find(|token| is_brace(token));
        let Some(TokenTree::Group(body)) = body else { continue };
        if (is_enum || has_public_field(&body.stream())) && !is_marked(&tokens[..at]) {
            found.push((name.to_string(), line(&window[2])));
        }
    }
    for token in tokens.iter().rev().take(3) {
        if let TokenTree::Group(group) = token {
            found.extend(growing(&group.stream()));
        }
    }
    found
}

/// True if a field of the body is `pub`, and not `pub(…)`.
fn has_public_field(body: &TokenStream) -> bool {
    let tokens: Vec<TokenTree> = body.clone().into_iter().collect();
    tokens.windows(2).any(|pair| is_ident(&pair[0], "pub") && matches!(pair[1], TokenTree::Ident(_)))
}

/// True if one of the attributes directly before says that the type may grow.
fn is_marked(before: &[TokenTree]) -> bool {
    let attributes = before.rchunks(2).map_while(|pair| match pair {
        [hash, TokenTree::Group(group)] if is_punct(hash, '#') => Some(group),
        _ => None,
    });
    attributes.into_iter().any(|group| mentions(group, "non_exhaustive"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(source: &str) -> Vec<String> {
        growing(&source.parse().unwrap()).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn what_can_grow_is_found() {
        assert_eq!(names("pub struct A { pub b: u8 } #[derive(Debug)] pub enum C { D }"), ["A", "C"]);
        assert_eq!(names("mod m { macro! { pub struct A<T> where T: X { pub b: T } } }"), ["A"]);
    }

    #[test]
    fn what_is_marked_or_has_nothing_public_is_not() {
        let marked = "/// Doc.\n#[non_exhaustive] #[derive(Debug)] pub struct A { pub b: u8 }";
        let private =
            "pub struct B { c: u8, pub(crate) d: u8 } pub struct E(pub u8); pub struct F; pub(crate) enum G { H }";
        assert!(names(&format!("{marked} {private}")).is_empty());
    }

    #[test]
    fn a_finding_names_the_type_and_its_place() {
        let tree = Tree::of(&[("crates/provider/src/a.rs", "\npub enum A { B }\npub enum Payload { C }")]);
        let findings: Vec<String> = check(&tree).into_iter().map(|finding| finding.to_string()).collect();
        assert_eq!(findings.len(), 1);
        assert!(findings[0].starts_with("crates/provider/src/a.rs:2: growth: `A` is public"), "{findings:?}");
    }

    #[test]
    fn an_exception_that_nobody_needs_is_told() {
        let roofs = SOURCES.map(|source| (format!("{source}lib.rs"), ""));
        let files: Vec<(&str, &str)> = roofs.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        let findings = check(&Tree::of(&files));
        assert_eq!(findings.len(), FIXED.len(), "none of the types is there");
    }
}
