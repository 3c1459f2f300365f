//! Rust as tokens: enough to see `cfg`, `unsafe` and functions, also inside macros, and never inside strings.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// Calls `visit` once per token, inner ones included, with that token and its right-hand siblings.
pub(super) fn walk(stream: &TokenStream, visit: &mut dyn FnMut(&[TokenTree])) {
    let tokens: Vec<TokenTree> = stream.clone().into_iter().collect();
    for at in 0..tokens.len() {
        visit(&tokens[at..]);
        if let TokenTree::Group(group) = &tokens[at] {
            walk(&group.stream(), visit);
        }
    }
}

/// One function with a body, however deep it lies.
pub(super) struct Function {
    pub(super) name: String,
    pub(super) line: usize,
    /// From `fn` to the closing brace.
    pub(super) lines: usize,
}

pub(super) fn functions(stream: &TokenStream) -> Vec<Function> {
    let mut found = Vec::new();
    walk(stream, &mut |tokens| {
        let [keyword, TokenTree::Ident(name), rest @ ..] = tokens else {
            return;
        };
        if !is_ident(keyword, "fn") {
            return;
        }
        let end = rest.iter().find(|token| is_punct(token, ';') || is_brace(token));
        if let Some(TokenTree::Group(body)) = end {
            let line = line(keyword);
            let lines = body.span_close().end().line - line + 1;
            found.push(Function { name: name.to_string(), line, lines });
        }
    });
    found
}

pub(super) fn line(token: &TokenTree) -> usize {
    token.span().start().line
}

pub(crate) fn is_ident(token: &TokenTree, name: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == name)
}

pub(crate) fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

pub(crate) fn is_brace(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
}

/// Whether the identifier occurs in the group at any depth.
pub(super) fn mentions(group: &Group, name: &str) -> bool {
    let mut found = false;
    walk(&group.stream(), &mut |tokens| found |= is_ident(&tokens[0], name));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(source: &str) -> Vec<(String, usize, usize)> {
        let functions = functions(&source.parse().unwrap());
        functions.into_iter().map(|each| (each.name, each.line, each.lines)).collect()
    }

    #[test]
    fn functions_are_measured_from_the_keyword_to_the_brace() {
        let source = "/// Doc.\npub fn outer(\n    a: u8,\n) -> u8\nwhere\n{\n    fn inner() {}\n    a\n}\n";
        assert_eq!(lengths(source), [("outer".into(), 2, 8), ("inner".into(), 7, 1)]);
    }

    #[test]
    fn declarations_and_pointer_types_have_no_body() {
        assert!(lengths("trait T { fn a(&self); } type F = fn(u8) -> u8; struct S { f: fn() }").is_empty());
    }

    #[test]
    fn functions_inside_macros_count() {
        assert_eq!(lengths("tests! { fn a() {\n} }"), [("a".into(), 1, 2)]);
    }
}
