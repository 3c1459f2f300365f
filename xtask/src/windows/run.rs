//! Building for Windows, and running what was built under Wine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::cache::Cache;
use super::command::{run, say, watch};
use super::cross::{ToolChain, WINDOWS};
use super::legs::{FILES_LEFT_OUT, LEGS, Leg};
use super::wine;

const RUNNER: &str = "CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER";

/// All that it takes to build and run programs for Windows.
pub(super) struct Windows<'a> {
    root: &'a Path,
    tools: ToolChain,
    runner: PathBuf,
}

impl<'a> Windows<'a> {
    /// Makes what is missing.
    pub(super) fn set_up(root: &'a Path) -> Result<Self, String> {
        let cache = Cache::open()?;
        let runner = wine::set_up(&cache)?;
        let tools = ToolChain::for_programs(root, &cache)?;
        say(&format!("for {WINDOWS}: standard library {}, programs run by {}", tools.name(), runner.display()));
        Ok(Self { root, tools, runner })
    }

    /// Runs the legs of these names, or all, each to its end. What follows goes to their test programs: filters, and
    /// options of theirs.
    pub(super) fn test(&self, names: &[&str], filters: &[&str]) -> Result<(), String> {
        let (mut report, mut failures) = (String::new(), Vec::new());
        for leg in chosen(names)? {
            let start = Instant::now();
            let result = self.run_leg(leg, filters);
            let outcome = result.as_ref().map_or("FAILED", String::as_str);
            report += &format!("windows {}: {outcome}, {} s\n", leg.name, start.elapsed().as_secs());
            failures.extend(result.err());
        }
        print!("{report}");
        if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
    }

    /// Runs the command line.
    pub(super) fn raon(&self, profile: &[&str], arguments: &[&str]) -> Result<(), String> {
        let mut command = self.cargo();
        command.arg("run").args(profile).args(target()).args(["--package", "raon-cli", "--"]).args(arguments);
        watch("raon", &mut command)
    }

    /// Says which of its tests have passed.
    fn run_leg(&self, leg: &Leg, filters: &[&str]) -> Result<String, String> {
        let tests = if filters.is_empty() { Some(self.count(leg)?) } else { None };
        let mut command = self.cargo();
        command.args(["test", "--no-fail-fast"]).args(target()).args(leg.cargo).arg("--").args(harness(leg, filters));
        watch(leg.name, &mut command)?;
        Ok(tests.map_or_else(|| "those chosen pass".to_owned(), |tests| format!("{tests} tests pass")))
    }

    /// How many tests a leg will run. None, or one that must be there missing, is an error: it would be green for nothing.
    fn count(&self, leg: &Leg) -> Result<usize, String> {
        say(&format!("{}: building", leg.name));
        let mut build = self.cargo();
        watch(leg.name, build.arg("test").arg("--no-run").args(target()).args(leg.cargo))?;
        let mut list = self.cargo();
        list.arg("test").arg("--quiet").args(target()).args(leg.cargo).arg("--").args(harness(leg, &["--list"]));
        let listed = run(leg.name, &mut list, "The tests cannot be listed under Wine.")?;
        expect(leg, &tests(&listed))
    }

    fn cargo(&self) -> Command {
        let mut command = self.tools.cargo(self.root);
        command.env(RUNNER, &self.runner);
        command
    }
}

/// What runs and what does not, for people.
pub(super) fn list() -> String {
    let mut text = String::new();
    for leg in LEGS {
        text += &format!("{}: cargo test {}\n", leg.name, leg.cargo.join(" "));
        for left_out in leg.leaves_out {
            text += &format!("  without {}: {}\n", left_out.test, left_out.reason);
        }
    }
    for left_out in FILES_LEFT_OUT {
        text += &format!("not run: {}: {}\n", left_out.test, left_out.reason);
    }
    text
}

fn target() -> [&'static str; 2] {
    ["--target", WINDOWS]
}

/// The legs of these names; all, if none is given.
fn chosen(names: &[&str]) -> Result<Vec<&'static Leg>, String> {
    match names.iter().find(|name| !LEGS.iter().any(|leg| leg.name == **name)) {
        Some(unknown) => Err(format!("no leg is called {unknown}; there are\n{}", list())),
        None => Ok(LEGS.iter().filter(|leg| names.is_empty() || names.contains(&leg.name)).collect()),
    }
}

/// What a leg's test programs are told.
fn harness<'a>(leg: &Leg, filters: &[&'a str]) -> Vec<&'a str> {
    let skips = leg.leaves_out.iter().flat_map(|left_out| ["--skip", left_out.test]);
    filters.iter().copied().chain(skips).collect()
}

/// The names that `--list` prints.
fn tests(listed: &str) -> Vec<&str> {
    listed.lines().filter_map(|line| line.trim_end().strip_suffix(": test")).collect()
}

fn expect(leg: &Leg, tests: &[&str]) -> Result<usize, String> {
    match leg.includes.iter().find(|start| !tests.iter().any(|test| test.starts_with(**start))) {
        Some(missing) => Err(format!("{}: none of its {} tests begins with `{missing}`", leg.name, tests.len())),
        None => Ok(tests.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::legs::LeftOut;
    use super::*;

    const LEG: Leg = Leg {
        name: "leg",
        cargo: &["--package", "p"],
        includes: &["a::", "b::"],
        leaves_out: &[LeftOut { test: "a::late", reason: "it waits for the clock" }],
    };

    #[test]
    fn a_leg_that_has_lost_its_tests_is_an_error() {
        let listed = "a::one: test\r\nb::two: test\nnothing\n2 tests, 0 benchmarks\n";
        assert_eq!(tests(listed), ["a::one", "b::two"]);
        assert_eq!(expect(&LEG, &tests(listed)), Ok(2));
        assert!(expect(&LEG, &["a::one"]).unwrap_err().contains("`b::`"));
        assert!(expect(&LEG, &[]).is_err());
    }

    #[test]
    fn filters_come_first_and_what_is_left_out_is_skipped() {
        assert_eq!(harness(&LEG, &["accept", "--nocapture"]), ["accept", "--nocapture", "--skip", "a::late"]);
    }

    #[test]
    fn legs_are_chosen_by_name() {
        assert_eq!(chosen(&[]).unwrap().len(), LEGS.len());
        assert_eq!(chosen(&["session"]).unwrap().len(), 1);
        assert!(chosen(&["sessions"]).err().unwrap().contains("cargo test --package raon-session"));
    }
}
