//! Rooms of a crate stand on floors. A room is a top-level module, with all files below it; it knows its own floor and those
//! below, so that whoever changes a room finds on the floors above all who may notice.

use proc_macro2::{TokenStream, TokenTree};

use super::Finding;
use super::tokens::{is_brace, is_ident, is_punct, line, mentions};
use super::tree::Tree;

const RULE: &str = "floors";
/// Room of the file that declares all others.
const ROOF: &str = "lib";

/// Floors of one crate.
struct House {
    source: &'static str,
    /// Names of the rooms, lowest floor first. The roof is not among them: it stands on all.
    floors: &'static [&'static [&'static str]],
    /// Two wings, whose rooms do not know the rooms of the other one, whatever their floors are.
    wings: [&'static [&'static str]; 2],
}

const HOUSES: &[House] = &[
    House {
        source: "crates/provider/src/",
        floors: &[
            &["base"],
            &["memory"],
            &["platform"],
            &["socket"],
            &["config"],
            &["contract"],
            &["driver", "backend", "faulty"],
            &["any"],
        ],
        wings: [&["driver"], &["backend", "faulty"]],
    },
    House {
        source: "crates/session/src/",
        floors: &[
            &["with", "framing"],
            &["inbox", "outbox", "free_lists"],
            &["liveness", "rate", "close"],
            &["session"],
        ],
        wings: [&[], &[]],
    },
    House {
        source: "crates/raon/src/",
        floors: &[
            &["base", "platform"],
            &["memory"],
            &["config"],
            &["error"],
            &["sessions"],
            &["core"],
            &["routing"],
            &["application"],
            &["shard"],
            &["server", "simulation"],
        ],
        wings: [&["core"], &["routing"]],
    },
    House {
        source: "crates/cli/src/",
        floors: &[
            &["failure", "progress", "report", "datagrams", "pingpong", "chat"],
            &["platform", "stop", "plot"],
            &["arguments"],
            &["echo_server", "datagram_server", "generator"],
            &["command"],
            &["main"],
        ],
        wings: [&["echo_server", "datagram_server"], &["generator"]],
    },
    House {
        source: "crates/conformance/src/",
        floors: &[
            &["random", "ledger", "child"],
            &["platform", "setup", "simulated"],
            &["rig", "peer", "vacant", "allocator", "alone"],
            &[
                "accept",
                "address",
                "bounds",
                "cancel",
                "choice",
                "close",
                "datagram",
                "endpoints",
                "lifetime",
                "limits",
                "merged",
                "once",
                "order",
                "ownership",
                "pause",
                "roles",
                "settings",
                "stale",
                "starve",
                "steady",
                "storm",
                "stream",
                "threads",
                "time",
                "unix",
            ],
            &["oracle", "faults"],
        ],
        wings: [&["oracle"], &["faults"]],
    },
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    HOUSES.iter().flat_map(|house| house.check(tree)).collect()
}

impl House {
    fn check(&self, tree: &Tree) -> Vec<Finding> {
        let mut findings = Vec::new();
        for file in tree.with_extension("rs") {
            let Some(rest) = file.path.strip_prefix(self.source).filter(|rest| !is_test(rest)) else { continue };
            let room = rest.split(['/', '.']).next().unwrap_or_default();
            let Some(own) = self.floor(room) else {
                let message = format!("on which floor is `{room}`? say it in xtask/src/tidy/floors.rs");
                findings.push(Finding::new(&file.path, 1, RULE, message));
                continue;
            };
            for (known, at) in known_names(&file.tokens, &["crate"]) {
                let is_below = self.floor(&known).is_some_and(|floor| floor <= own);
                if is_below && !self.are_apart(room, &known) {
                    continue;
                }
                let place = if is_below { "in the other wing" } else { "above it" };
                let message = format!(
                    "`{room}` knows `{known}`, which stands {place}; turn the import round, or move what it needs"
                );
                findings.push(Finding::new(&file.path, at, RULE, message));
            }
        }
        findings
    }

    fn are_apart(&self, room: &str, known: &str) -> bool {
        let wing_of = |name| self.wings.iter().position(|wing| wing.contains(&name));
        wing_of(room).zip(wing_of(known)).is_some_and(|(own, other)| own != other)
    }

    /// The roof is above all floors, and a name that is no room is one that the roof hands out.
    fn floor(&self, room: &str) -> Option<usize> {
        let floor = self.floors.iter().position(|rooms| rooms.contains(&room));
        if room == ROOF { Some(self.floors.len()) } else { floor }
    }
}

fn is_test(path: &str) -> bool {
    path.split(['/', '.']).any(|part| part == "tests")
}

/// First names behind `prefix` in all paths that begin with it, with their lines. Code for tests only may know everything.
pub(super) fn known_names(tokens: &TokenStream, prefix: &[&str]) -> Vec<(String, usize)> {
    let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
    let (mut names, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        let rest = &tokens[at..];
        match rest {
            [hash, TokenTree::Group(group), ..] if is_punct(hash, '#') && is_for_tests(group) => {
                at += rest.iter().position(|token| is_brace(token) || is_punct(token, ';')).unwrap_or(0);
            }
            [dollar, name, ..] if is_punct(dollar, '$') && is_ident(name, "crate") => at += 1,
            _ if begins_with(rest, prefix) => match rest.get(3 * prefix.len()) {
                Some(TokenTree::Ident(name)) => names.push((name.to_string(), line(&rest[0]))),
                Some(TokenTree::Group(group)) => names.extend(first_names(group.stream())),
                _ => {}
            },
            [TokenTree::Group(group), ..] => names.extend(known_names(&group.stream(), prefix)),
            _ => {}
        }
        at += 1;
    }
    names
}

/// True if a path begins here that consists of these names and goes on.
fn begins_with(tokens: &[TokenTree], prefix: &[&str]) -> bool {
    prefix.iter().zip(tokens.chunks(3)).filter(|(name, part)| is_step(part, name)).count() == prefix.len()
}

fn is_step(part: &[TokenTree], name: &str) -> bool {
    matches!(part, [step, first, second] if is_ident(step, name) && is_punct(first, ':') && is_punct(second, ':'))
}

pub(super) fn is_for_tests(attribute: &proc_macro2::Group) -> bool {
    let mut tokens = attribute.stream().into_iter();
    let is_cfg = tokens.next().is_some_and(|token| is_ident(&token, "cfg"));
    is_cfg && mentions(attribute, "test") && !mentions(attribute, "not")
}

/// The first name of each part of a list of imports.
fn first_names(list: TokenStream) -> Vec<(String, usize)> {
    let tokens: Vec<TokenTree> = list.into_iter().collect();
    let parts = tokens.split(|token| is_punct(token, ','));
    parts.filter_map(|part| part.first()).map(|token| (token.to_string(), line(token))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUSE: House = House {
        source: "crates/a/src/",
        floors: &[&["ground"], &["first", "beside"], &["second"]],
        wings: [&["beside"], &["second"]],
    };

    fn messages(files: &[(&str, &str)]) -> Vec<String> {
        HOUSE.check(&Tree::of(files)).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn down_and_along_is_allowed() {
        let source = "use crate::ground::A;\nuse crate::{ground, beside::B};\nfn f() -> crate::first::C { $crate::D }";
        assert!(messages(&[("crates/a/src/first/part.rs", source)]).is_empty());
        assert!(
            messages(&[("crates/a/src/lib.rs", "use crate::second::A; mod second;")]).is_empty(),
            "the roof is above all"
        );
    }

    #[test]
    fn up_is_not_wherever_it_is_written() {
        for source in [
            "use crate::second::A;",
            "use crate::{first, second};",
            "fn f() { g(crate::second::h()) }",
            "#[cfg(not(test))] use crate::second::A;",
        ] {
            let messages = messages(&[("crates/a/src/ground.rs", source)]);
            assert!(
                messages.iter().any(|message| message.contains("`ground` knows `second`")),
                "{source}: {messages:?}"
            );
        }
        let roof = messages(&[("crates/a/src/second.rs", "\nuse crate::Name;")]);
        assert_eq!(roof.len(), 1);
        assert!(roof[0].starts_with("crates/a/src/second.rs:2: floors: `second` knows `Name`"), "{roof:?}");
    }

    #[test]
    fn the_wings_do_not_know_each_other() {
        let messages = messages(&[("crates/a/src/second/part.rs", "use crate::beside::A;")]);
        assert!(messages[0].contains("`second` knows `beside`, which stands in the other wing"), "{messages:?}");
    }

    #[test]
    fn tests_may_know_everything() {
        let source = "#[cfg(test)] mod tests { use crate::second::A; } #[cfg(test)] use crate::second::A;";
        assert!(messages(&[("crates/a/src/ground.rs", source), ("crates/a/src/ground/tests.rs", source)]).is_empty());
        let after = "#[cfg(test)] use crate::second::A; use crate::second::A;";
        assert_eq!(messages(&[("crates/a/src/ground.rs", after)]).len(), 1);
    }

    #[test]
    fn a_room_without_a_floor_is_told() {
        assert!(messages(&[("crates/a/src/attic.rs", "")])[0].contains("on which floor is `attic`"));
    }
}
