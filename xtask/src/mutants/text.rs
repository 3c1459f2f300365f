//! Texts compared word by word, so that a record does not care how rustfmt has set the lines it quotes.

use std::ops::Range;

/// Where a text stands in a source, as ranges of bytes. What differs in blanks and line ends only is the same, and so is a
/// list that rustfmt has given a comma at its end because it has broken it into lines.
pub(super) fn occurrences(source: &str, text: &str) -> Vec<Range<usize>> {
    let (words, wanted) = (words(source), words(text));
    (0..words.len()).filter_map(|first| matched(&words[first..], &wanted)).collect()
}

/// Where the words are, if they begin with those that are wanted.
fn matched(words: &[Word<'_>], wanted: &[Word<'_>]) -> Option<Range<usize>> {
    let (mut at, mut matched) = (0, 0);
    while let Some(word) = wanted.get(matched) {
        if words.get(at)?.text == word.text {
            (at, matched) = (at + 1, matched + 1);
        } else if at > 0 && is_last_comma(&words[at..]) {
            at += 1;
        } else if matched > 0 && is_last_comma(&wanted[matched..]) {
            matched += 1;
        } else {
            return None;
        }
    }
    let last = words.get(at.checked_sub(1)?)?;
    Some(words[0].start..last.start + last.text.len())
}

fn is_last_comma(words: &[Word<'_>]) -> bool {
    matches!(words, [comma, end, ..] if comma.text == "," && [")", "]", "}"].contains(&end.text))
}

/// A name, a number, or a single other character.
struct Word<'a> {
    start: usize,
    text: &'a str,
}

fn words(text: &str) -> Vec<Word<'_>> {
    let is_inner = |character: char| character.is_alphanumeric() || character == '_';
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match rest.find(|character| !is_inner(character)) {
            Some(0) => first.len_utf8(),
            Some(length) => length,
            None => rest.len(),
        };
        if !first.is_whitespace() {
            words.push(Word { start: text.len() - rest.len(), text: &rest[..length] });
        }
        rest = &rest[length..];
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<'a>(source: &'a str, text: &str) -> Vec<&'a str> {
        occurrences(source, text).into_iter().map(|range| &source[range]).collect()
    }

    #[test]
    fn lines_and_indentation_do_not_matter() {
        let source = "    if a\n        && b\n    {\n        c();\n    }\n";
        assert_eq!(found(source, "if a && b { c(); }"), [source.trim()]);
        assert_eq!(found(source, "c( ) ;\n"), ["c();"]);
    }

    #[test]
    fn words_are_whole() {
        assert!(found("let flat = outlet;", "let f").is_empty() && found("letx", "let x").is_empty());
        assert!(found("self.len2 = 0;", "self.len").is_empty());
        assert_eq!(found("a->b; ä→b; ä → b", "ä→b"), ["ä→b", "ä → b"]);
    }

    #[test]
    fn the_comma_of_a_broken_list_does_not_matter() {
        let broken = "call(\n    one,\n    two,\n);";
        assert_eq!(found(broken, "call(one, two);"), [broken]);
        assert_eq!(found("call(one, two);", broken), ["call(one, two);"]);
        assert!(found("call(one);", "call(one, two);").is_empty());
        // At the edge it is what the record says.
        assert_eq!(found("match a { b => c, }", "b => c,"), ["b => c,"]);
        assert_eq!(found("match a { b => c, }", "b => c"), ["b => c"]);
    }

    #[test]
    fn each_place_counts() {
        assert_eq!(occurrences("a.b(); a.b();", "a.b()").len(), 2);
        assert!(occurrences("a", "").is_empty() && occurrences("", "a").is_empty());
    }
}
