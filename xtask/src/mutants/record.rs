//! The records of planted bugs: `xtask/mutants/*.toml`.
//!
//! A record names a function and a text in its body, not a file and a line: it fits as long as the function is somewhere in
//! its crate and still says that.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::copy::Binary;
use super::sources::{Place, Sources};

const FOLDER: &str = "xtask/mutants";

/// A planted bug.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mutant {
    pub(super) name: String,
    /// What is wrong with it, in a sentence.
    pub(super) bug: String,
    /// The clauses that it breaks; none, if what it breaks is promised elsewhere.
    pub(super) breaks: Vec<String>,
    /// The folder below `crates` that it is planted in.
    #[serde(rename = "crate")]
    pub(super) package: String,
    /// The function in whose body the old text is: `poll`, or `Driver::poll` if others have that name.
    pub(super) function: Option<String>,
    /// The end of its file's path, if the name of the function is not enough; alone, if the text is in no function.
    pub(super) file: Option<String>,
    pub(super) old: String,
    pub(super) new: String,
    /// Which program holds the tests that must catch it: a folder below `crates`, then `unit` or a file of its `tests`.
    pub(super) binary: String,
    /// For the conformance suite: the set-ups to run each of the tests on.
    #[serde(default)]
    pub(super) setups: Vec<String>,
    pub(super) tests: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Records {
    mutant: Vec<Mutant>,
}

/// All records, by file and in the order in which they stand there.
pub(super) fn read(root: &Path) -> Result<Vec<Mutant>, String> {
    let failed = |error: std::io::Error| format!("{FOLDER}: {error}");
    let entries = fs::read_dir(root.join(FOLDER)).map_err(failed)?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    paths.sort();
    let mut mutants = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        mutants.extend(parse(&text).map_err(|error| format!("{}: {error}", path.display()))?);
    }
    Ok(mutants)
}

fn parse(text: &str) -> Result<Vec<Mutant>, String> {
    toml::from_str(text).map(|records: Records| records.mutant).map_err(|error| error.to_string())
}

impl Mutant {
    /// Where its old text is in these sources.
    pub(super) fn place<'a>(&self, sources: &'a Sources) -> Result<Place<'a>, String> {
        let (function, file) = (self.function.as_deref(), self.file.as_deref());
        let place = sources.find(&self.package, function, file, &self.old);
        place.map_err(|error| format!("{}: {error}", self.name))
    }

    /// That file with the bug in it.
    pub(super) fn plant(&self, place: &Place<'_>) -> String {
        let (before, after) = (&place.text[..place.range.start], &place.text[place.range.end..]);
        [before, self.new.trim(), after].concat()
    }

    pub(super) fn binary(&self) -> Result<Binary, String> {
        match self.binary.split_once('/') {
            Some((folder, "unit")) => Ok(Binary { folder: folder.to_owned(), file: None }),
            Some((folder, file)) => Ok(Binary { folder: folder.to_owned(), file: Some(file.to_owned()) }),
            None => Err(format!("{}: `{}` is no `crate/unit` and no `crate/file`", self.name, self.binary)),
        }
    }

    /// The full names of its tests.
    pub(super) fn full_names(&self) -> Vec<String> {
        let on = |setup: &String| self.tests.iter().map(move |test| format!("{setup}::{test}")).collect::<Vec<_>>();
        if self.setups.is_empty() { self.tests.clone() } else { self.setups.iter().flat_map(on).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r"
[[mutant]]
name = 'a'
bug = 'a is b'
breaks = ['OWN-1']
crate = 'provider'
function = 'f'
old = 'let a = 1;'
new = '''
let b = 1;
let a = b;
'''
binary = 'conformance/every_backend'
setups = ['sim', 'epoll']
tests = ['own::one', 'own::two']
";

    #[test]
    fn a_record_is_read_and_planted() {
        let mutant = parse(TEXT).unwrap().remove(0);
        let sources = Sources::of("provider", &[("lib.rs", "fn f() { let a = 1; }")]);
        let place = mutant.place(&sources).unwrap();
        assert_eq!(mutant.plant(&place), "fn f() { let b = 1;\nlet a = b; }");
        assert_eq!(mutant.full_names().join(" "), "sim::own::one sim::own::two epoll::own::one epoll::own::two");
        assert_eq!(mutant.binary().unwrap().file.as_deref(), Some("every_backend"));
    }

    #[test]
    fn what_is_misspelt_is_refused() {
        assert!(parse(&TEXT.replace("function", "funktion")).unwrap_err().contains("funktion"));
        assert!(parse(&TEXT.replace("bug = 'a is b'", "")).unwrap_err().contains("bug"));
        let mutant = parse(&TEXT.replace("conformance/every_backend", "suite")).unwrap().remove(0);
        assert!(mutant.binary().unwrap_err().starts_with("a: `suite`"));
    }

    #[test]
    fn a_misfit_names_its_record() {
        let mutant = parse(TEXT).unwrap().remove(0);
        let error = mutant.place(&Sources::of("provider", &[("lib.rs", "fn g() { let a = 1; }")])).err().unwrap();
        assert!(error.starts_with("a: ") && error.contains("no function `f`"), "{error}");
    }
}
