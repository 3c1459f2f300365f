//! Links between documents lead somewhere: to a file or folder of the tree and, in documents, to an existing heading.

use std::collections::HashMap;

use super::Finding;
use super::tree::{File, Tree};

const RULE: &str = "links";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let documents = tree.with_extension("md");
    documents.flat_map(|file| prose(file).flat_map(|(line, text)| in_line(tree, file, line, &text))).collect()
}

fn in_line(tree: &Tree, file: &File, line: usize, text: &str) -> Vec<Finding> {
    let targets = targets(text);
    let flaws = targets.iter().filter_map(|target| flaw(tree, file, target));
    flaws.map(|message| Finding::new(&file.path, line, RULE, message)).collect()
}

/// The lines outside code blocks, with code spans taken out.
fn prose(file: &File) -> impl Iterator<Item = (usize, String)> {
    let mut fence: Option<&str> = None;
    file.lines().filter_map(move |(line, text)| {
        let start = text.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            (None, None) => return Some((line, without_code_spans(text))),
            _ => {}
        }
        None
    })
}

fn without_code_spans(text: &str) -> String {
    text.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

/// The targets of `[text](target "title")` and of `[label]: target`.
fn targets(text: &str) -> Vec<String> {
    let inline = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let definition = text.trim_start().strip_prefix('[').and_then(|rest| rest.split_once("]:")).map(|(_, rest)| rest);
    inline
        .chain(definition)
        .filter_map(|target| target.split_whitespace().next())
        .map(|target| target.trim_matches(['<', '>']).to_owned())
        .collect()
}

/// What is wrong with a link, with the remedy; addresses of the web are not looked at.
fn flaw(tree: &Tree, file: &File, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let Some(path) = resolve(&file.path, path) else {
        return Some(format!("`{target}` leaves the repository; write a path inside it, relative to this file"));
    };
    if !tree.has(&path) {
        return Some(format!("`{target}` leads to {path}, which does not exist; correct the link"));
    }
    let document = tree.file(&path).filter(|document| document.extension() == "md")?;
    (!anchor.is_empty() && !anchors(document).iter().any(|each| each == anchor))
        .then(|| format!("`{target}`: {path} has no heading #{anchor}; correct the link"))
}

/// The target's path from the root of the tree; `None` if it leads out of it.
fn resolve(from: &str, target: &str) -> Option<String> {
    if target.is_empty() {
        return Some(from.to_owned());
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    if target.starts_with('/') {
        return None;
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// The anchors that a rendered document has: its headings' and those that are written out.
fn anchors(document: &File) -> Vec<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut anchors = Vec::new();
    // Code spans stay: their text is a part of the heading.
    let lines: Vec<&str> = document.text.lines().collect();
    for (line, _) in prose(document) {
        let text = lines[line - 1];
        anchors.extend(text.split("<a id=\"").skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned));
        let heading = text.trim_start_matches('#');
        if heading.len() == text.len() || !heading.starts_with(' ') {
            continue;
        }
        let anchor = slug(heading);
        let count = seen.entry(anchor.clone()).or_default();
        anchors.push(if *count == 0 { anchor } else { format!("{anchor}-{count}") });
        *count += 1;
    }
    anchors
}

/// How GitHub turns a heading into an anchor.
fn slug(heading: &str) -> String {
    let visible = heading
        .split("](")
        .enumerate()
        .map(|(index, part)| if index == 0 { part } else { part.split_once(')').map_or("", |(_, rest)| rest) });
    let visible: String = visible.collect();
    visible
        .trim()
        .to_lowercase()
        .chars()
        .filter(|character| character.is_alphanumeric() || " -_".contains(*character))
        .map(|character| if character == ' ' { '-' } else { character })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str) -> Vec<String> {
        let tree = Tree::of(&[
            ("docs/guide.md", text),
            ("docs/semantics.md", "# The `contract`, kept\n### OWN-1\n## Same\n## Same\n<a id=\"by-hand\"></a>\n"),
            ("README.md", ""),
            ("crates/a/src/lib.rs", ""),
        ]);
        check(&tree).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn good_links() {
        for text in [
            "[a](semantics.md) [b](../README.md \"title\") ![c](<../crates/a/src/lib.rs>) [d](../crates/)",
            "[a](semantics.md#own-1) [b](semantics.md#the-contract-kept) [c](semantics.md#same-1)",
            "[a](semantics.md#by-hand) [b](https://example.org/x.md#y) [c](mailto:a@example.org)",
            "# Here\n[a](#here)\n[label]: semantics.md#own-1",
            "```text\n[a](gone.md)\n```\n`[b](gone.md)`",
        ] {
            assert!(messages(text).is_empty(), "{text}: {:?}", messages(text));
        }
    }

    #[test]
    fn dead_links() {
        for text in [
            "[a](gone.md)",
            "[a](semantics.md#own-2)",
            "[a](#nowhere)",
            "[![a](gone.png)](semantics.md)",
            "[label]: ../gone.md",
            "[a](../../outside.md)",
            "[a](/README.md)",
        ] {
            assert_eq!(messages(text).len(), 1, "{text}");
        }
    }
}
