//! Headers of modules begin with the thing that the module is, not with a question about it: a reader who looks for a room finds
//! nouns.

use super::Finding;
use super::tree::Tree;

const RULE: &str = "headers";
const QUESTIONS: [&str; 9] = ["What", "Who", "Where", "How", "Why", "Which", "When", "Whether", "That"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.with_extension("rs") {
        let header = file.lines().find_map(|(line, text)| text.strip_prefix("//! ").map(|text| (line, text)));
        let Some((line, text)) = header else { continue };
        let first = text.split(|letter: char| !letter.is_alphabetic()).next().unwrap_or_default();
        if QUESTIONS.contains(&first) {
            let message = format!("begins with `{first}`; begin with the noun that the module is about");
            findings.push(Finding::new(&file.path, line, RULE, message));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_no_header() {
        let tree = Tree::of(&[
            ("a.rs", "// Licence.\n//! What it does.\n"),
            ("b.rs", "//! Whatever comes is a noun clause too, and is not looked for.\n//! What follows is free.\n"),
            ("c.rs", "/// What an item does.\npub struct C;\n"),
        ]);
        let findings: Vec<String> = check(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(findings, ["a.rs:2: headers: begins with `What`; begin with the noun that the module is about"]);
    }
}
