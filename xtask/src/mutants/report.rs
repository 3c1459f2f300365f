//! Reports about planted bugs.

use std::fmt::Write;

use super::Verdict;
use super::record::Mutant;
use super::sources::Place;

pub(super) fn line(verdict: &Verdict) -> String {
    match &verdict.caught {
        Some((test, how)) => format!("{}: {test} {how}, {} s", verdict.name, verdict.seconds),
        None => format!("{}: SURVIVED, {} s", verdict.name, verdict.seconds),
    }
}

pub(super) fn list(chosen: &[(Mutant, Place<'_>)]) -> String {
    let row = |(mutant, place): &(Mutant, Place<'_>)| {
        format!("{} ({}, {}): {}\n", mutant.name, mutant.breaks.join(" "), place.path, mutant.bug)
    };
    chosen.iter().map(row).collect()
}

pub(super) fn list_json(chosen: &[(Mutant, Place<'_>)]) -> String {
    let row = |(mutant, place): &(Mutant, Place<'_>)| {
        let (path, tests) = (place.path, mutant.full_names());
        let Mutant { name, bug, breaks, .. } = mutant;
        format!(
            "{{\"name\": {name:?}, \"bug\": {bug:?}, \"breaks\": {breaks:?}, \"file\": {path:?}, \"tests\": {tests:?}}}"
        )
    };
    format!("[\n{}\n]\n", chosen.iter().map(row).collect::<Vec<_>>().join(",\n"))
}

pub(super) fn table(verdicts: &[Verdict], seconds: u64) -> String {
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
pub(super) fn json(verdicts: &[Verdict], seconds: u64) -> String {
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

    #[test]
    fn the_table_names_survivors() {
        let caught =
            Verdict { name: "a".into(), breaks: "OWN-1".into(), caught: Some(("t".into(), "fails")), seconds: 3 };
        let survivor = Verdict { name: "b".into(), breaks: "ONCE-1".into(), caught: None, seconds: 4 };
        let table = super::table(&[caught, survivor], 67);
        assert!(table.contains("| a | OWN-1 | t fails | 3 |\n| b | ONCE-1 | SURVIVED | 4 |\n"), "{table}");
        assert!(table.ends_with("1 of 2 caught, in 1 min 7 s\n"), "{table}");
    }
}
