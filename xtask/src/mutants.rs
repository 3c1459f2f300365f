//! `cargo xtask mutants [NAME…] [--list] [--json]`: whether the tests catch the bugs that they are there for.
//!
//! 1. Each record plants one bug in a private copy of the workspace: it replaces a text that is there exactly once.
//! 2. The copy as it is must pass all tests that the records name.
//! 3. With each bug in turn it is built, and the record's tests run one by one, each in a process of its own, until one
//!    fails. If none does the bug has survived: a test is missing.

mod backends;
mod copy;
mod driver;
mod ending;
mod engine;
mod session;
mod tables;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

use copy::{Binary, Copy, Ended};

/// A planted bug.
struct Mutant {
    name: &'static str,
    /// What is wrong with it, in a sentence.
    bug: &'static str,
    /// The clauses that it breaks.
    breaks: &'static [&'static str],
    /// Below the sources of the crate.
    file: &'static str,
    old: &'static str,
    new: &'static str,
    tests: Tests,
}

/// Those that must catch it.
#[derive(Clone, Copy)]
enum Tests {
    /// Set-ups of the conformance suite, and the tests to run on each of them.
    Suite(&'static [&'static str], &'static [&'static str]),
    /// Unit tests of the provider.
    Unit(&'static [&'static str]),
    /// A file of the session's tests, and the tests in it.
    Session(&'static str, &'static [&'static str]),
    /// The same of the engine's.
    Engine(&'static str, &'static [&'static str]),
}

impl Tests {
    fn binary(self) -> Binary {
        match self {
            Tests::Suite(..) => Binary::Suite,
            Tests::Unit(_) => Binary::Unit,
            Tests::Session(file, _) => Binary::Session(file),
            Tests::Engine(file, _) => Binary::Engine(file),
        }
    }

    /// The crate that the bug is planted in.
    fn sources(self) -> &'static str {
        match self {
            Tests::Suite(..) | Tests::Unit(_) => "crates/provider/src",
            Tests::Session(..) => "crates/session/src",
            Tests::Engine(..) => "crates/raon/src",
        }
    }

    /// Their full names.
    fn names(self) -> Vec<String> {
        match self {
            Tests::Suite(setups, tests) => {
                setups.iter().flat_map(|setup| tests.iter().map(move |test| format!("{setup}::{test}"))).collect()
            }
            Tests::Unit(tests) | Tests::Session(_, tests) | Tests::Engine(_, tests) => {
                tests.iter().map(|test| (*test).to_owned()).collect()
            }
        }
    }
}

impl Mutant {
    fn path(&self) -> String {
        format!("{}/{}", self.tests.sources(), self.file)
    }

    /// The file's text with the bug in it.
    fn plant(&self, text: &str) -> Result<String, String> {
        match text.matches(self.old).count() {
            1 => Ok(text.replacen(self.old, self.new, 1)),
            count => Err(format!("{}: its old text is {count} times in {}, not once", self.name, self.path())),
        }
    }
}

/// What became of a planted bug.
struct Verdict {
    name: &'static str,
    breaks: String,
    /// The test that caught it, and how; `None`: it survived.
    caught: Option<(String, &'static str)>,
    seconds: u64,
}

pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<(), String> {
    let (options, names): (Vec<&str>, Vec<&str>) = arguments.iter().partition(|argument| argument.starts_with('-'));
    if let Some(unknown) = options.iter().find(|option| !["--list", "--json"].contains(option)) {
        return Err(format!("{unknown} is no option of mutants: [NAME…] [--list] [--json]"));
    }
    let chosen = choose(&names)?;
    for mutant in &chosen {
        mutant.plant(&read(root, mutant)?)?;
    }
    let is_json = options.contains(&"--json");
    if options.contains(&"--list") {
        print!("{}", if is_json { list_json(&chosen) } else { list(&chosen) });
        return Ok(());
    }
    let start = Instant::now();
    let copy = Copy::make(root)?;
    check_unmutated(&copy, &chosen)?;
    let mut verdicts = Vec::new();
    for mutant in chosen {
        let verdict = judge(&copy, root, mutant)?;
        eprintln!("{}", line(&verdict));
        verdicts.push(verdict);
    }
    let seconds = start.elapsed().as_secs();
    print!("{}", if is_json { report_json(&verdicts, seconds) } else { report(&verdicts, seconds) });
    let survivors: Vec<&str> =
        verdicts.iter().filter(|verdict| verdict.caught.is_none()).map(|verdict| verdict.name).collect();
    if survivors.is_empty() { Ok(()) } else { Err(format!("survived: {}", survivors.join(", "))) }
}

fn all() -> impl Iterator<Item = &'static Mutant> {
    [tables::MUTANTS, driver::MUTANTS, ending::MUTANTS, backends::MUTANTS, session::MUTANTS, engine::MUTANTS]
        .into_iter()
        .flatten()
}

/// Those of these names; all, if none is given.
fn choose(names: &[&str]) -> Result<Vec<&'static Mutant>, String> {
    match names.iter().find(|name| !all().any(|mutant| mutant.name == **name)) {
        Some(unknown) => Err(format!("no mutant is called {unknown}; --list names them")),
        None => Ok(all().filter(|mutant| names.is_empty() || names.contains(&mutant.name)).collect()),
    }
}

fn read(root: &Path, mutant: &Mutant) -> Result<String, String> {
    let path = root.join(mutant.path());
    std::fs::read_to_string(path).map_err(|error| format!("{}: {}: {error}", mutant.name, mutant.path()))
}

/// Nothing is caught by a test that fails anyway.
fn check_unmutated(copy: &Copy, chosen: &[&Mutant]) -> Result<(), String> {
    let binaries: BTreeSet<Binary> = chosen.iter().map(|mutant| mutant.tests.binary()).collect();
    for binary in binaries {
        let of_binary = chosen.iter().map(|mutant| mutant.tests).filter(|tests| tests.binary() == binary);
        let tests: BTreeSet<String> = of_binary.flat_map(Tests::names).collect();
        let program = copy.build(binary).map_err(|error| format!("the copy does not build:\n{error}"))?;
        for test in &tests {
            if let Ended::Caught(how) = copy.run_test(binary, &program, test)? {
                return Err(format!("{test} {how} without any bug planted:\n{}", copy.output()));
            }
        }
        eprintln!("without a bug: {} tests pass", tests.len());
    }
    Ok(())
}

/// Plants a bug, runs its tests until one fails, and takes the bug out again.
fn judge(copy: &Copy, root: &Path, mutant: &Mutant) -> Result<Verdict, String> {
    let start = Instant::now();
    let text = read(root, mutant)?;
    copy.write(&mutant.path(), &mutant.plant(&text)?)?;
    let caught = catch(copy, mutant);
    copy.write(&mutant.path(), &text)?;
    let (caught, seconds) = (caught?, start.elapsed().as_secs());
    Ok(Verdict { name: mutant.name, breaks: mutant.breaks.join(" "), caught, seconds })
}

fn catch(copy: &Copy, mutant: &Mutant) -> Result<Option<(String, &'static str)>, String> {
    let binary = mutant.tests.binary();
    let program =
        copy.build(binary).map_err(|error| format!("{} does not compile, mend its record:\n{error}", mutant.name))?;
    for test in mutant.tests.names() {
        if let Ended::Caught(how) = copy.run_test(binary, &program, &test)? {
            return Ok(Some((test, how)));
        }
    }
    Ok(None)
}

// What is printed.

fn line(verdict: &Verdict) -> String {
    match &verdict.caught {
        Some((test, how)) => format!("{}: {test} {how}, {} s", verdict.name, verdict.seconds),
        None => format!("{}: SURVIVED, {} s", verdict.name, verdict.seconds),
    }
}

fn list(chosen: &[&Mutant]) -> String {
    let row = |mutant: &&Mutant| {
        format!("{} ({}, {}): {}\n", mutant.name, mutant.breaks.join(" "), mutant.path(), mutant.bug)
    };
    chosen.iter().map(row).collect()
}

fn list_json(chosen: &[&Mutant]) -> String {
    let row = |mutant: &&Mutant| {
        let (path, tests) = (mutant.path(), mutant.tests.names());
        let (name, bug, breaks) = (mutant.name, mutant.bug, mutant.breaks);
        format!(
            "{{\"name\": {name:?}, \"bug\": {bug:?}, \"breaks\": {breaks:?}, \"file\": {path:?}, \"tests\": {tests:?}}}"
        )
    };
    format!("[\n{}\n]\n", chosen.iter().map(row).collect::<Vec<_>>().join(",\n"))
}

fn report(verdicts: &[Verdict], seconds: u64) -> String {
    let mut text = "| mutant | breaks | caught by | s |\n|---|---|---|---|\n".to_owned();
    for Verdict { name, breaks, caught, seconds } in verdicts {
        let by = caught.as_ref().map_or("SURVIVED".to_owned(), |(test, how)| format!("{test} {how}"));
        let _ = writeln!(text, "| {name} | {breaks} | {by} | {seconds} |");
    }
    let caught = verdicts.iter().filter(|verdict| verdict.caught.is_some()).count();
    let _ = writeln!(text, "\n{caught} of {} caught, in {} min {} s", verdicts.len(), seconds / 60, seconds % 60);
    text
}

/// All names and sentences are plain text, which Rust quotes as JSON does.
fn report_json(verdicts: &[Verdict], seconds: u64) -> String {
    let row = |Verdict { name, caught, seconds, .. }: &Verdict| {
        let (test, how) = caught.as_ref().map_or(("", "survived"), |(test, how)| (test.as_str(), *how));
        let is_caught = caught.is_some();
        format!(
            "{{\"name\": {name:?}, \"caught\": {is_caught}, \"test\": {test:?}, \"how\": {how:?}, \"seconds\": {seconds}}}"
        )
    };
    let rows = verdicts.iter().map(row).collect::<Vec<_>>().join(",\n");
    format!("{{\"seconds\": {seconds}, \"mutants\": [\n{rows}\n]}}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    fn misfit(mutant: &Mutant) -> Result<(), String> {
        let text = read(&root(), mutant)?;
        if mutant.plant(&text)? == text { Err(format!("{} changes nothing", mutant.name)) } else { Ok(()) }
    }

    /// In the gate, so that whoever changes a line that a record quotes changes the record as well.
    #[test]
    fn every_record_fits_the_code() {
        let misfits: Vec<String> = all().filter_map(|mutant| misfit(mutant).err()).collect();
        assert!(misfits.is_empty(), "{}", misfits.join("\n"));
    }

    #[test]
    fn names_are_unique_and_clauses_exist() {
        let semantics = std::fs::read_to_string(root().join("docs/semantics.md")).unwrap();
        let mut names = BTreeSet::new();
        for mutant in all() {
            assert!(names.insert(mutant.name), "{} is there twice", mutant.name);
            assert!(!mutant.breaks.is_empty() && !mutant.bug.is_empty() && !mutant.tests.names().is_empty());
            for clause in mutant.breaks {
                assert!(semantics.contains(&format!("\n### {clause}\n")), "{}: {clause}", mutant.name);
            }
            let plain = [mutant.name, mutant.bug].concat();
            assert!(plain.is_ascii() && !plain.contains(['"', '\\', '|']), "{}: JSON and tables", mutant.name);
        }
    }

    /// `roles` sets a switch of the whole system, and takes root.
    #[test]
    fn no_test_of_roles_is_among_them() {
        assert!(all().flat_map(|mutant| mutant.tests.names()).all(|test| !test.starts_with("roles")));
    }

    #[test]
    fn a_text_that_is_not_there_once_names_its_record() {
        let mutant = all().next().unwrap();
        assert!(mutant.plant("").unwrap_err().starts_with(mutant.name));
        assert!(mutant.plant(&mutant.old.repeat(2)).unwrap_err().contains("2 times"));
        assert_eq!(mutant.plant(mutant.old).unwrap(), mutant.new);
        assert!(choose(&["no_such_bug"]).is_err() && choose(&[mutant.name]).unwrap().len() == 1);
    }

    #[test]
    fn the_table_names_survivors() {
        let caught = Verdict { name: "a", breaks: "OWN-1".into(), caught: Some(("t".into(), "fails")), seconds: 3 };
        let survivor = Verdict { name: "b", breaks: "ONCE-1".into(), caught: None, seconds: 4 };
        let table = report(&[caught, survivor], 67);
        assert!(table.contains("| a | OWN-1 | t fails | 3 |\n| b | ONCE-1 | SURVIVED | 4 |\n"), "{table}");
        assert!(table.ends_with("1 of 2 caught, in 1 min 7 s\n"), "{table}");
    }
}
