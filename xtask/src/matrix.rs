//! `cargo xtask matrix [--all] [--json]`: whether Raon type-checks for the systems that it cannot be run on here, and whether
//! clippy has anything to say of it there.
//!
//! Nothing of the tree needs a C compiler for another system, so all that is to be had is the standard library of each,
//! which `windows/cross.rs` provides.

use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

use crate::windows::cache::Cache;
use crate::windows::cross::ToolChain;

/// One system of each kind, for the gate.
const GATE: [&str; 3] = ["x86_64-pc-windows-msvc", "aarch64-apple-darwin", "x86_64-unknown-freebsd"];
/// What is checked besides, when all are asked for.
const OTHERS: [&str; 6] = [
    "aarch64-pc-windows-msvc",
    "x86_64-apple-darwin",
    "x86_64-unknown-linux-gnu",
    "aarch64-unknown-linux-gnu",
    "x86_64-unknown-linux-musl",
    "aarch64-unknown-linux-musl",
];

/// What is checked of each: a name, and what cargo is told after `cargo clippy`. Not the bench, which counts system
/// calls with tools of Linux, nor the engine's tests, some of which play with processes and files of Unix.
const CHECKS: [(&str, &[&str]); 3] = [
    ("libraries", &["-p", "raon-provider", "-p", "raon-session", "-p", "raon"]),
    ("command line", &["-p", "raon-cli", "--all-targets"]),
    (
        "tests",
        &["-p", "raon-provider", "-p", "raon-session", "-p", "raon-conformance", "-p", "rio-double", "--all-targets"],
    ),
];

/// How one system has come out.
struct Verdict {
    target: &'static str,
    /// Where its standard library comes from.
    library: String,
    /// The checks that fail, or why none could be made.
    failed: Vec<&'static str>,
    seconds: u64,
}

pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<(), String> {
    let unknown = arguments.iter().find(|argument| !["--all", "--json"].contains(argument));
    if let Some(unknown) = unknown {
        return Err(format!("{unknown}? usage: cargo xtask matrix [--all] [--json]"));
    }
    let (all, is_json) = (arguments.contains(&"--all"), arguments.contains(&"--json"));
    let cache = Cache::open()?;
    let targets = GATE.into_iter().chain(OTHERS.into_iter().filter(|_| all));
    let verdicts: Vec<Verdict> = targets.map(|target| judge(root, &cache, target)).collect();
    print!("{}", if is_json { report_json(&verdicts) } else { report(&verdicts) });
    let failed: Vec<&str> =
        verdicts.iter().filter(|verdict| !verdict.failed.is_empty()).map(|verdict| verdict.target).collect();
    if failed.is_empty() { Ok(()) } else { Err(format!("does not type-check for {}", failed.join(", "))) }
}

fn judge(root: &Path, cache: &Cache, target: &'static str) -> Verdict {
    let start = Instant::now();
    eprintln!("-- {target}");
    let (library, failed) = match ToolChain::for_checks(root, cache, target) {
        Ok(tools) => (tools.name().to_owned(), failures(root, &tools, target)),
        Err(message) => {
            eprintln!("{message}");
            ("none".to_owned(), vec!["no standard library"])
        }
    };
    Verdict { target, library, failed, seconds: start.elapsed().as_secs() }
}

fn failures(root: &Path, tools: &ToolChain, target: &str) -> Vec<&'static str> {
    let fails = |arguments: &[&str]| {
        let mut clippy = tools.clippy(root);
        clippy.args(["--quiet", "--target", target]).args(arguments).args(["--", "-D", "warnings"]);
        !clippy.status().is_ok_and(|status| status.success())
    };
    CHECKS.iter().filter(|(_, arguments)| fails(arguments)).map(|(name, _)| *name).collect()
}

fn report(verdicts: &[Verdict]) -> String {
    let mut text = format!("{:<28} {:<18} {:>4}  {}\n", "target", "standard library", "s", "result");
    for Verdict { target, library, failed, seconds } in verdicts {
        let result = if failed.is_empty() { "checks".to_owned() } else { format!("FAILS: {}", failed.join(", ")) };
        let _ = writeln!(text, "{target:<28} {library:<18} {seconds:>4}  {result}");
    }
    text
}

/// All of it is plain text, which Rust quotes as JSON does.
fn report_json(verdicts: &[Verdict]) -> String {
    let row = |Verdict { target, library, failed, seconds }: &Verdict| {
        let checks = failed.is_empty();
        format!(
            "{{\"target\": {target:?}, \"library\": {library:?}, \"checks\": {checks}, \"failed\": {failed:?}, \"seconds\": {seconds}}}"
        )
    };
    format!("[\n{}\n]\n", verdicts.iter().map(row).collect::<Vec<_>>().join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts() -> [Verdict; 2] {
        let green = Verdict { target: "a-b-c", library: "installed".into(), failed: Vec::new(), seconds: 3 };
        [green, Verdict { target: "d-e", library: "none".into(), failed: vec!["libraries", "tests"], seconds: 12 }]
    }

    #[test]
    fn the_table_names_what_fails() {
        let table = report(&verdicts());
        assert!(table.contains("a-b-c                        installed             3  checks\n"), "{table}");
        assert!(
            table.contains("d-e                          none                 12  FAILS: libraries, tests\n"),
            "{table}"
        );
    }

    #[test]
    fn json_has_a_row_for_each() {
        let expected = "\
[
{\"target\": \"a-b-c\", \"library\": \"installed\", \"checks\": true, \"failed\": [], \"seconds\": 3},
{\"target\": \"d-e\", \"library\": \"none\", \"checks\": false, \"failed\": [\"libraries\", \"tests\"], \"seconds\": 12}
]
";
        assert_eq!(report_json(&verdicts()), expected);
    }

    #[test]
    fn what_is_misspelt_is_refused() {
        assert!(run(Path::new("/nowhere"), &["--al"]).unwrap_err().starts_with("--al?"));
    }

    /// Crates that compile C or assembler need a compiler for each system. One has it for a processor that is not among ours.
    #[test]
    fn nothing_that_is_checked_compiles_c() {
        let lock = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock")).unwrap();
        let builders = lock.split("\n\n").filter(|entry| entry.contains("\n \"cc\""));
        let names: Vec<&str> = builders.filter_map(|entry| entry.split('"').nth(1)).collect();
        assert_eq!(names, ["generator"], "powerpc64 only; what another one compiles has to be looked at");
        assert!(GATE.iter().chain(&OTHERS).all(|target| !target.starts_with("powerpc64")));
    }
}
