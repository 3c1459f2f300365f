//! Circles of imports between the files of a crate: there are none, so that whoever reads a file from the bottom up never comes back
//! to it. A file may name the module that it lies in, whose type it adds to; that is no circle.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};

use super::Finding;
use super::floors::is_for_tests;
use super::tokens::{is_brace, is_punct};
use super::tree::Tree;

const RULE: &str = "circles";
const SOURCES: [&str; 4] = ["crates/provider/src/", "crates/session/src/", "crates/raon/src/", "crates/cli/src/"];

type Module = Vec<String>;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    SOURCES.iter().flat_map(|source| check_crate(tree, source)).collect()
}

fn check_crate(tree: &Tree, source: &str) -> Vec<Finding> {
    let mut modules = BTreeMap::new();
    for file in tree.with_extension("rs") {
        if let Some(rest) =
            file.path.strip_prefix(source).filter(|rest| !rest.split(['/', '.']).any(|part| part == "tests"))
        {
            modules.insert(module_of(rest), file);
        }
    }
    let mut edges: BTreeMap<&Module, BTreeSet<&Module>> = BTreeMap::new();
    for (module, file) in &modules {
        let known = paths(&file.tokens).into_iter().filter_map(|path| resolve(module, path));
        let known = known.filter_map(|path| longest_module(&modules, path));
        let known = known.filter(|known| !known.is_empty() && !module.starts_with(known));
        edges.insert(module, known.collect());
    }
    while let Some(module) = loose_end(&edges) {
        edges.remove(module);
        for known in edges.values_mut() {
            known.remove(module);
        }
    }
    let finding = |(module, known): (&Module, BTreeSet<&Module>)| {
        let known: Vec<String> = known.into_iter().map(|known| known.join("::")).collect();
        let message = format!("is in a circle, by {}; move what one needs of the other below both", known.join(", "));
        Finding::new(&modules[module].path, 1, RULE, message)
    };
    edges.into_iter().map(finding).collect()
}

/// A file that is in no circle, for it knows none of those that are left, or none of them knows it.
fn loose_end<'a>(edges: &BTreeMap<&'a Module, BTreeSet<&'a Module>>) -> Option<&'a Module> {
    let is_known = |module: &Module| edges.values().any(|known| known.contains(module));
    edges.iter().find(|(module, known)| known.is_empty() || !is_known(module)).map(|(module, _)| *module)
}

/// Module of a file, by its path below the crate's sources; the root is empty.
fn module_of(path: &str) -> Module {
    let mut parts: Module = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| last == "mod") || parts == ["lib"] || parts == ["main"] {
        parts.pop();
    }
    parts
}

/// A path from the crate's root. `None`: it leads out of the crate.
fn resolve(module: &Module, path: Vec<String>) -> Option<Vec<String>> {
    let mut own = module.clone();
    match path[0].as_str() {
        "crate" => own.clear(),
        "self" => {}
        "super" => drop(own.pop()),
        // A child, if there is one of that name.
        _ => return Some([own, path].concat()),
    }
    let mut rest = &path[1..];
    while rest.first().is_some_and(|part| part == "super") {
        own.pop();
        rest = &rest[1..];
    }
    Some([own, rest.to_vec()].concat())
}

fn longest_module<T>(modules: &BTreeMap<Module, T>, path: Vec<String>) -> Option<&Module> {
    (1..=path.len()).rev().find_map(|length| modules.get_key_value(&path[..length])).map(|(module, _)| module)
}

/// All paths of the code that is not for tests alone, with the names of their parts.
fn paths(tokens: &TokenStream) -> Vec<Vec<String>> {
    let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        match &tokens[at..] {
            [hash, TokenTree::Group(group), ..] if is_punct(hash, '#') && is_for_tests(group) => {
                at += tokens[at..].iter().position(|token| is_brace(token) || is_punct(token, ';')).unwrap_or(0);
            }
            [TokenTree::Ident(_), first, second, ..] if is_punct(first, ':') && is_punct(second, ':') => {
                at = path(&tokens, at, &[], &mut found);
                continue;
            }
            [TokenTree::Group(group), ..] => found.extend(paths(&group.stream())),
            _ => {}
        }
        at += 1;
    }
    found
}

/// Reads the path, or the paths of a list, that begin at a place, and says where they end.
fn path(tokens: &[TokenTree], start: usize, before: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let (mut parts, mut at) = (before.to_vec(), start);
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(name)) => parts.push(name.to_string()),
            Some(TokenTree::Group(group)) if is_brace(&tokens[at]) && at > start => {
                let list: Vec<TokenTree> = group.stream().into_iter().collect();
                for part in list.split(|token| is_punct(token, ',')).filter(|part| !part.is_empty()) {
                    path(part, 0, &parts, found);
                }
                return at + 1;
            }
            _ => break,
        }
        at += 1;
        let goes_on = tokens.get(at..at + 2).is_some_and(|next| next.iter().all(|token| is_punct(token, ':')));
        if !goes_on {
            break;
        }
        at += 2;
    }
    if !parts.is_empty() {
        found.push(parts);
    }
    at.max(start + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<(String, &str)> =
            files.iter().map(|(path, text)| (format!("crates/session/src/{path}"), *text)).collect();
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        check(&Tree::of(&files)).into_iter().map(|finding| finding.path).collect()
    }

    #[test]
    fn a_circle_is_found_however_long_it_is() {
        let circle = [
            ("a.rs", "use crate::b::{self, B};"),
            ("b.rs", "fn f() { super::c::g() }"),
            ("c.rs", "use crate::{a::A};"),
        ];
        assert_eq!(found(&circle), ["crates/session/src/a.rs", "crates/session/src/b.rs", "crates/session/src/c.rs"]);
        let nested = [("a/b.rs", "use super::c::C;"), ("a/c.rs", "use crate::a::b::B;"), ("a.rs", "mod b; mod c;")];
        assert_eq!(found(&nested).len(), 2);
        let of_parent = [("a.rs", "mod b; use b::B;"), ("c.rs", "use crate::a::A;"), ("a/b.rs", "use crate::c::C;")];
        assert_eq!(found(&of_parent).len(), 3, "a parent that takes from a child, which comes back by another file");
    }

    #[test]
    fn what_leads_one_way_is_none() {
        assert!(
            found(&[("a.rs", "use crate::b::B;"), ("b.rs", "use crate::c::C;"), ("c.rs", "use std::b::a;")]).is_empty()
        );
        assert!(found(&[("a.rs", "mod b; use b::B;"), ("a/b.rs", "use super::A; use crate::a::A;")]).is_empty());
        let tests = [("a.rs", "use crate::b::B;"), ("b.rs", "#[cfg(test)] mod tests { use crate::a::A; }")];
        assert!(found(&tests).is_empty());
    }
}
