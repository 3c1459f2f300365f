//! Each crate chooses the platform in one file, its `platform.rs`, and the provider its back ends in `backend.rs`.

use proc_macro2::TokenTree;

use super::Finding;
use super::tokens::{is_ident, is_punct, line, mentions, walk};
use super::tree::Tree;

const RULE: &str = "cfg";
const BACK_ENDS: &str = "crates/provider/src/backend.rs";
const PLATFORM_WORDS: [&str; 6] = ["unix", "windows", "target_os", "target_family", "target_env", "target_vendor"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.with_extension("rs").filter(|file| !may_ask(&file.path)) {
        walk(&file.tokens, &mut |tokens| {
            let Some(word) = condition(tokens).and_then(platform_word) else {
                return;
            };
            let message = format!(
                "`{word}` asks for the platform; move the choice to the crate's src/platform.rs, or that of back ends to {BACK_ENDS}"
            );
            findings.push(Finding::new(&file.path, line(&tokens[0]), RULE, message));
        });
    }
    findings
}

/// Whether a file may ask which platform it is built for.
fn may_ask(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    match parts[..] {
        ["xtask", ..] => true,
        ["crates", _, "src", "platform.rs"] => true,
        _ => path == BACK_ENDS || parts.contains(&"tests"),
    }
}

/// The tokens that decide, if `tokens` starts with a `cfg` of any form.
fn condition(tokens: &[TokenTree]) -> Option<Vec<TokenTree>> {
    let (name, group) = match tokens {
        [name, TokenTree::Group(group), ..] => (name, group),
        [name, bang, TokenTree::Group(group), ..] if is_punct(bang, '!') => (name, group),
        _ => return None,
    };
    let inner = group.stream().into_iter();
    if is_ident(name, "cfg") || is_ident(name, "cfg_select") {
        Some(inner.collect())
    } else if is_ident(name, "cfg_attr") && !mentions(group, "dead_code") {
        // To leave something unused on some platform chooses nothing.
        Some(inner.take_while(|token| !is_punct(token, ',')).collect())
    } else {
        None
    }
}

/// The first platform word, looking into `any(..)` and the like but not into the braces of a `cfg_select!` arm.
fn platform_word(tokens: Vec<TokenTree>) -> Option<&'static str> {
    tokens.into_iter().find_map(|token| match token {
        TokenTree::Ident(ident) => PLATFORM_WORDS.into_iter().find(|word| ident == word),
        TokenTree::Group(ref group) if !super::tokens::is_brace(&token) => {
            platform_word(group.stream().into_iter().collect())
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, source: &str) -> Vec<usize> {
        check(&Tree::of(&[(path, source)])).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn every_form_is_seen() {
        let source = r#"
            #[cfg(unix)] mod a;
            #[cfg(any(test, not(target_os = "linux")))] mod b;
            #[cfg_attr(windows, path = "w.rs")] mod c;
            fn f() { if cfg!(target_family = "unix") {} }
            cfg_select! { unix => { one() } _ => { two() } }
            wrap! { #[cfg(target_env = "msvc")] fn g() {} }
            #![cfg(target_vendor = "apple")]
        "#;
        assert_eq!(lines("crates/provider/src/driver.rs", source), [2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn other_conditions_are_welcome() {
        let source = r##"
            #[cfg(test)] mod tests;
            #[cfg(feature = "unix")] mod a;
            #[cfg_attr(test, doc(cfg(something)))] mod b;
            #![cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "there are no others"))]
            // cfg(unix)
            const TEXT: &str = "#[cfg(unix)]";
            fn unix(windows: u8) -> u8 { windows }
        "##;
        assert!(lines("crates/provider/src/driver.rs", source).is_empty());
    }

    #[test]
    fn places() {
        let source = "#[cfg(unix)] mod a;";
        let places = [
            BACK_ENDS,
            "crates/provider/src/platform.rs",
            "crates/cli/src/platform.rs",
            "crates/a/tests/b.rs",
            "xtask/src/ci.rs",
        ];
        for path in places {
            assert!(lines(path, source).is_empty(), "{path}");
        }
        for path in ["crates/provider/src/platform/unix.rs", "crates/cli/src/a/platform.rs", "crates/a/build.rs"] {
            assert_eq!(lines(path, source), [1], "{path}");
        }
    }
}
