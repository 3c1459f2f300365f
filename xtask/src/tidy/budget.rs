//! The gate's time budget is one number: what CONTRIBUTING.md promises is what `cargo xtask ci` measures against.

use super::Finding;
use super::tree::Tree;
use crate::ci::BUDGET_MINUTES;

const RULE: &str = "budget";
const DOCUMENT: &str = "CONTRIBUTING.md";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(document) = tree.file(DOCUMENT) else {
        return vec![Finding::new(DOCUMENT, 1, RULE, "missing; it states the gate's budget")];
    };
    let stated: Vec<(usize, u64)> =
        document.lines().flat_map(|(line, text)| minutes(text).map(move |number| (line, number))).collect();
    if stated.is_empty() {
        let message = format!("does not state the gate's budget; write \"{BUDGET_MINUTES} minutes\"");
        return vec![Finding::new(DOCUMENT, 1, RULE, message)];
    }
    stated
        .into_iter()
        .filter(|(_, number)| *number != BUDGET_MINUTES)
        .map(|(line, number)| {
            let message = format!("says {number} minutes, the gate says {BUDGET_MINUTES}; make them equal");
            Finding::new(DOCUMENT, line, RULE, message)
        })
        .collect()
}

/// The numbers that stand before the word "minutes".
fn minutes(text: &str) -> impl Iterator<Item = u64> {
    text.match_indices(" minutes").filter_map(|(at, _)| {
        let before = text[..at].trim_end_matches('*');
        before.rsplit(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> usize {
        check(&Tree::of(&[(DOCUMENT, text)])).len()
    }

    #[test]
    fn the_numbers_agree() {
        assert_eq!(count(&format!("The gate ends within {BUDGET_MINUTES} minutes.")), 0);
        assert_eq!(count(&format!("The gate ends within {} minutes.", BUDGET_MINUTES + 1)), 1);
        assert_eq!(count("It takes a few minutes."), 1);
        assert_eq!(check(&Tree::of(&[])).len(), 1);
    }
}
