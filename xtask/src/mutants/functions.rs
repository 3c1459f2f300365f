//! The functions of a source file: their paths, and where their bodies are.

use std::ops::Range;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

use crate::tidy::tokens::{is_brace, is_ident, is_punct};

/// A function with a body, however deep it lies.
pub(super) struct Function {
    /// Its own name last; before it those of the modules, types, traits and functions around it.
    path: Vec<String>,
    pub(super) line: usize,
    /// The bytes of the file between its braces.
    pub(super) body: Range<usize>,
}

impl Function {
    /// Whether a record means this one: `poll`, `Driver::poll` and `tests::poll` all name a function `poll`.
    pub(super) fn is_called(&self, name: &str) -> bool {
        let wanted: Vec<&str> = name.split("::").collect();
        let start = self.path.len().checked_sub(wanted.len());
        start.is_some_and(|start| self.path[start..].iter().eq(wanted))
    }
}

/// All functions of a file, outer ones before those inside.
pub(super) fn functions(stream: &TokenStream) -> Vec<Function> {
    let mut found = Vec::new();
    collect(stream, &[], &mut found);
    found
}

fn collect(stream: &TokenStream, path: &[String], found: &mut Vec<Function>) {
    let tokens: Vec<TokenTree> = stream.clone().into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        let rest = &tokens[at + 1..];
        let end = rest.iter().position(|token| is_punct(token, ';') || is_brace(token));
        let item = end.and_then(|end| Some((name_of(&tokens[at], &rest[..end])?, end)));
        match (&tokens[at], item) {
            (keyword, Some((name, end))) => {
                if let TokenTree::Group(body) = &rest[end] {
                    let path: Vec<String> = path.iter().cloned().chain([name]).collect();
                    if is_ident(keyword, "fn") {
                        let (line, body) = (keyword.span().start().line, inside(body));
                        found.push(Function { path: path.clone(), line, body });
                    }
                    collect(&body.stream(), &path, found);
                }
                at += end + 1;
            }
            (TokenTree::Group(group), None) => collect(&group.stream(), path, found),
            _ => {}
        }
        at += 1;
    }
}

/// What this keyword begins, by the tokens between it and the braces.
fn name_of(keyword: &TokenTree, header: &[TokenTree]) -> Option<String> {
    if is_ident(keyword, "impl") {
        return Some(implementor(header));
    }
    let is_item = ["fn", "mod", "trait"].iter().any(|word| is_ident(keyword, word));
    match header.first() {
        // `fn(u8)` is a type and has no name.
        Some(TokenTree::Ident(name)) if is_item => Some(name.to_string()),
        _ => None,
    }
}

/// The type that an `impl` is for, without its module and parameters.
fn implementor(header: &[TokenTree]) -> String {
    let (mut depth, mut name, mut is_arrow) = (0, String::new(), false);
    for (at, token) in header.iter().enumerate() {
        let is_binder = header.get(at + 1).is_some_and(|next| is_punct(next, '<'));
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '<' => depth += 1,
            TokenTree::Punct(punct) if punct.as_char() == '>' && !is_arrow => depth -= 1,
            TokenTree::Ident(word) if depth == 0 && word == "where" => break,
            TokenTree::Ident(word) if depth == 0 && word == "for" && !is_binder => name.clear(),
            TokenTree::Ident(word) if depth == 0 => name = word.to_string(),
            _ => {}
        }
        is_arrow = is_punct(token, '-');
    }
    name
}

fn inside(body: &Group) -> Range<usize> {
    debug_assert_eq!(body.delimiter(), Delimiter::Brace);
    body.span_open().byte_range().end..body.span_close().byte_range().start
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(source: &str) -> Vec<String> {
        functions(&source.parse().unwrap()).iter().map(|function| function.path.join("::")).collect()
    }

    #[test]
    fn a_function_is_known_by_what_is_around_it() {
        let source = "
            fn alone() { fn inner() {} }
            impl<T: Fn(u8) -> u8> a::Driver<T> where T: Send { fn poll(&self) -> impl Iterator<Item = u8> { } }
            impl<P> Provider<u8> for Box<P> { fn start(&mut self) where P: X { } }
            impl<F> Run for F where F: for<'a> Fn(&'a u8) { fn run() {} }
            trait Framing { fn cut(&self); fn whole(&self) {} }
            mod tests { tests! { fn works() {} } }
            type Call = fn(u8);";
        let expected = "alone alone::inner Driver::poll Box::start F::run Framing::whole tests::works";
        assert_eq!(paths(source).join(" "), expected);
    }

    #[test]
    fn a_record_names_as_much_of_the_path_as_it_needs() {
        let source = "mod inner { impl Driver { fn poll() {} } }";
        let function = functions(&source.parse().unwrap()).remove(0);
        let names = ["poll", "Driver::poll", "inner::Driver::poll"];
        assert!(names.iter().all(|name| function.is_called(name)));
        assert!(!["oll", "Sim::poll", "a::inner::Driver::poll", ""].iter().any(|name| function.is_called(name)));
    }

    #[test]
    fn a_body_is_found_behind_letters_of_more_than_one_byte() {
        let source = "// ä → ö\nfn a() { 'ü' }\nfn b() { one }";
        let bodies = functions(&source.parse().unwrap());
        assert_eq!(&source[bodies[1].body.clone()], " one ");
        assert_eq!(bodies[1].line, 3);
    }
}
