//! Order of the files inside a room. A file knows those before it only, so that no two call each other both ways: where two
//! need each other, what follows goes back as a value to one that stands above both.

use super::Finding;
use super::floors::known_names;
use super::tree::Tree;

const RULE: &str = "order";

/// Files of one room of one crate.
struct Room {
    /// Folder of the room.
    folder: &'static str,
    /// Path by which its files name each other.
    prefix: &'static [&'static str],
    /// Type of the room itself, which the files of the last rank alone may name.
    roof: &'static str,
    /// Names of the files, lowest rank first. Those of one rank do not know each other.
    ranks: &'static [&'static [&'static str]],
}

const ROOMS: &[Room] = &[Room {
    folder: "crates/provider/src/driver/",
    prefix: &["crate", "driver"],
    roof: "Driver",
    ranks: &[
        &["info", "operation", "socket"],
        &["completion", "mailbox", "queued"],
        &["core", "submitter"],
        &["backlog", "gather", "held", "share", "timer"],
        &["accept", "connect", "receive", "send"],
        &["datagram"],
        &["parts"],
        &["close"],
        &["dispatch"],
        &["attach", "control", "open", "shutdown", "submit"],
    ],
}];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    ROOMS.iter().flat_map(|room| room.check(tree)).collect()
}

impl Room {
    fn check(&self, tree: &Tree) -> Vec<Finding> {
        let mut findings = Vec::new();
        for file in tree.with_extension("rs") {
            let rest = file.path.strip_prefix(self.folder).and_then(|rest| rest.strip_suffix(".rs"));
            let Some(name) = rest.filter(|rest| !rest.contains('/')) else { continue };
            let Some(own) = self.rank(name) else {
                let message = format!("of which rank is `{name}`? say it in xtask/src/tidy/order.rs");
                findings.push(Finding::new(&file.path, 1, RULE, message));
                continue;
            };
            let by_path = known_names(&file.tokens, self.prefix);
            let by_parent = known_names(&file.tokens, &["super"]);
            for (known, at) in by_path.into_iter().chain(by_parent) {
                let is_roof = known == self.roof && own + 1 == self.ranks.len();
                let is_known = is_roof || self.rank(&known).is_some_and(|rank| rank < own);
                if !is_known {
                    let message = format!(
                        "`{name}` knows `{known}`, which does not stand below it; let what follows go back as a value"
                    );
                    findings.push(Finding::new(&file.path, at, RULE, message));
                }
            }
        }
        findings
    }

    fn rank(&self, name: &str) -> Option<usize> {
        self.ranks.iter().position(|names| names.contains(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room {
        folder: "crates/a/src/hall/",
        prefix: &["crate", "hall"],
        roof: "Hall",
        ranks: &[&["core"], &["left", "right"], &["door"]],
    };

    fn messages(path: &str, source: &str) -> Vec<String> {
        ROOM.check(&Tree::of(&[(path, source)])).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn a_file_knows_those_below_it() {
        let source = "use crate::hall::{core::Core, left}; use super::Hall; use crate::other::right; fn f() { crate::hall::right::g() }";
        assert!(messages("crates/a/src/hall/door.rs", source).is_empty());
        assert!(messages("crates/a/src/hall/left/tests.rs", "use crate::hall::door::D;").is_empty());
        assert!(messages("crates/a/src/hall/left.rs", "#[cfg(test)] mod tests { use super::*; }").is_empty());
    }

    #[test]
    fn it_knows_neither_those_beside_it_nor_those_above() {
        for source in [
            "use crate::hall::right::R;",
            "use crate::hall::{door, core};",
            "fn f() { super::right::g() }",
            "use super::Hall;",
        ] {
            let messages = messages("crates/a/src/hall/left.rs", source);
            assert_eq!(messages.len(), 1, "{source}: {messages:?}");
            assert!(messages[0].starts_with("crates/a/src/hall/left.rs:1: order: `left` knows"), "{messages:?}");
        }
    }

    #[test]
    fn a_file_without_a_rank_is_told() {
        assert!(messages("crates/a/src/hall/attic.rs", "")[0].contains("of which rank is `attic`"));
    }
}
