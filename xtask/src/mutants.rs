//! `cargo xtask mutants [NAME…] [--list] [--json]`: whether the tests catch the bugs that they are there for.
//!
//! 1. Each record of `xtask/mutants` plants one bug in a private copy of the workspace: it replaces a text that is once in
//!    the function that it names.
//! 2. The copy as it is must pass all tests that the records name.
//! 3. With each bug in turn it is built, and the record's tests run one by one, each in a process of its own, until one
//!    fails. If none does the bug has survived: a test is missing.

mod copy;
mod functions;
mod record;
mod report;
mod sources;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use copy::{Copy, Ended};
use record::Mutant;
use sources::{Place, Sources};

/// What became of a planted bug.
struct Verdict {
    name: String,
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
    let sources = Sources::read(root)?;
    let chosen = placed(choose(record::read(root)?, &names)?, &sources)?;
    let is_json = options.contains(&"--json");
    if options.contains(&"--list") {
        print!("{}", if is_json { report::list_json(&chosen) } else { report::list(&chosen) });
        return Ok(());
    }
    let start = Instant::now();
    let copy = Copy::make(root)?;
    check_unmutated(&copy, &chosen)?;
    let mut verdicts = Vec::new();
    for (mutant, place) in &chosen {
        let verdict = judge(&copy, mutant, place)?;
        eprintln!("{}", report::line(&verdict));
        verdicts.push(verdict);
    }
    let seconds = start.elapsed().as_secs();
    print!("{}", if is_json { report::json(&verdicts, seconds) } else { report::table(&verdicts, seconds) });
    let survivors: Vec<&str> =
        verdicts.iter().filter(|verdict| verdict.caught.is_none()).map(|verdict| verdict.name.as_str()).collect();
    if survivors.is_empty() { Ok(()) } else { Err(format!("survived: {}", survivors.join(", "))) }
}

/// Those of these names; all, if none is given.
fn choose(mutants: Vec<Mutant>, names: &[&str]) -> Result<Vec<Mutant>, String> {
    match names.iter().find(|name| !mutants.iter().any(|mutant| mutant.name == **name)) {
        Some(unknown) => Err(format!("no mutant is called {unknown}; --list names them")),
        None => Ok(mutants.into_iter().filter(|each| names.is_empty() || names.contains(&&each.name[..])).collect()),
    }
}

/// Each with the place where it is planted, or all that do not fit the code.
fn placed(mutants: Vec<Mutant>, sources: &Sources) -> Result<Vec<(Mutant, Place<'_>)>, String> {
    let (mut placed, mut misfits) = (Vec::new(), Vec::new());
    for mutant in mutants {
        match mutant.place(sources) {
            Ok(place) if mutant.plant(&place) == place.text => {
                misfits.push(format!("{}: it changes nothing", mutant.name))
            }
            Ok(place) => placed.push((mutant, place)),
            Err(misfit) => misfits.push(misfit),
        }
    }
    if misfits.is_empty() { Ok(placed) } else { Err(misfits.join("\n")) }
}

/// Nothing is caught by a test that fails anyway.
fn check_unmutated(copy: &Copy, chosen: &[(Mutant, Place<'_>)]) -> Result<(), String> {
    let mut binaries = BTreeMap::<_, BTreeSet<String>>::new();
    for (mutant, _) in chosen {
        binaries.entry(mutant.binary()?).or_default().extend(mutant.full_names());
    }
    for (binary, tests) in binaries {
        let program = copy.build(&binary).map_err(|error| format!("the copy does not build:\n{error}"))?;
        for test in &tests {
            if let Ended::Caught(how) = copy.run_test(&binary, &program, test)? {
                return Err(format!("{test} {how} without any bug planted:\n{}", copy.output()));
            }
        }
        eprintln!("without a bug: {} tests pass", tests.len());
    }
    Ok(())
}

/// Plants a bug, runs its tests until one fails, and takes the bug out again.
fn judge(copy: &Copy, mutant: &Mutant, place: &Place<'_>) -> Result<Verdict, String> {
    let start = Instant::now();
    copy.write(place.path, mutant.plant(place))?;
    let caught = catch(copy, mutant);
    copy.write(place.path, place.text)?;
    let (caught, seconds) = (caught?, start.elapsed().as_secs());
    Ok(Verdict { name: mutant.name.clone(), breaks: mutant.breaks.join(" "), caught, seconds })
}

fn catch(copy: &Copy, mutant: &Mutant) -> Result<Option<(String, &'static str)>, String> {
    let binary = mutant.binary()?;
    let program =
        copy.build(&binary).map_err(|error| format!("{} does not compile, mend its record:\n{error}", mutant.name))?;
    for test in mutant.full_names() {
        if let Ended::Caught(how) = copy.run_test(&binary, &program, &test)? {
            return Ok(Some((test, how)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    /// In the gate, so that whoever changes a text that a record quotes changes the record as well.
    #[test]
    fn every_record_fits_the_code() {
        let sources = Sources::read(&root()).unwrap();
        if let Err(misfits) = placed(record::read(&root()).unwrap(), &sources) {
            panic!("mend these records in xtask/mutants, CONTRIBUTING.md says how they are written:\n{misfits}");
        }
    }

    #[test]
    fn names_are_unique_and_clauses_exist() {
        let semantics = std::fs::read_to_string(root().join("docs/semantics.md")).unwrap();
        let mut names = BTreeSet::new();
        for mutant in record::read(&root()).unwrap() {
            assert!(!mutant.bug.is_empty() && !mutant.full_names().is_empty());
            for clause in &mutant.breaks {
                assert!(semantics.contains(&format!("\n### {clause}\n")), "{}: {clause}", mutant.name);
            }
            let plain = [&mutant.name[..], &mutant.bug].concat();
            assert!(plain.is_ascii() && !plain.contains(['"', '\\', '|']), "{}: JSON and tables", mutant.name);
            let name = mutant.name.clone();
            assert!(names.insert(mutant.name), "{name} is there twice");
        }
    }

    #[test]
    fn the_programs_of_all_tests_exist() {
        for mutant in record::read(&root()).unwrap() {
            let binary = mutant.binary().unwrap();
            let package = root().join("crates").join(&binary.folder);
            let is_there = match &binary.file {
                Some(file) => ["", "/main"].iter().any(|end| package.join(format!("tests/{file}{end}.rs")).exists()),
                None => package.join("src").exists(),
            };
            assert!(is_there, "{}: there is no {}", mutant.name, mutant.binary);
        }
    }

    /// `roles` sets a switch of the whole system, and takes root.
    #[test]
    fn no_test_of_roles_is_among_them() {
        let records = record::read(&root()).unwrap();
        assert!(records.iter().flat_map(Mutant::full_names).all(|test| !test.starts_with("roles")));
    }

    #[test]
    fn all_are_chosen_or_those_that_are_named() {
        let records = record::read(&root()).unwrap();
        let first = records[0].name.clone();
        assert!(choose(records.clone(), &["no_such_bug"]).is_err());
        assert_eq!(choose(records.clone(), &[&first]).unwrap().len(), 1);
        assert_eq!(choose(records.clone(), &[]).unwrap().len(), records.len());
    }

    #[test]
    fn all_misfits_are_told_at_once() {
        let mut records = record::read(&root()).unwrap();
        records.truncate(2);
        let names: Vec<String> = records.iter().map(|record| record.name.clone()).collect();
        let sources = Sources::of(&records[0].package, &[]);
        let misfits = placed(records, &sources).err().unwrap();
        assert!(names.iter().all(|name| misfits.contains(&format!("{name}: "))), "{misfits}");
    }
}
