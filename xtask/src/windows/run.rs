//! Building for Windows, and running what was built under Wine.

use std::collections::VecDeque;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::cache::Cache;
use super::cross::{ToolChain, WINDOWS};
use super::legs::{FILES_LEFT_OUT, LEGS, Leg};
use super::wine::{self, Runner};
use crate::command::{run, say, watch, watch_marked};
use crate::harness;

/// All that it takes to build and run programs for Windows.
pub(super) struct Windows<'a> {
    root: &'a Path,
    tools: ToolChain,
    runners: Vec<Runner>,
}

impl<'a> Windows<'a> {
    /// Makes what is missing.
    pub(super) fn set_up(root: &'a Path) -> Result<Self, String> {
        let cache = Cache::open()?;
        let runners = wine::set_up(&cache)?;
        let tools = ToolChain::for_programs(root, &cache)?;
        let programs: Vec<_> = runners.iter().map(|runner| runner.program.display().to_string()).collect();
        say(&format!("for {WINDOWS}: standard library {}, programs run by {}", tools.name(), programs.join(" and ")));
        Ok(Self { root, tools, runners })
    }

    /// Runs the legs of these names, or all, each to its end: as many at once as there are runners. What follows goes to
    /// their test programs: filters, and options of theirs.
    pub(super) fn test(&self, names: &[&str], filters: &[&str]) -> Result<(), String> {
        let (legs, first) = (chosen(names)?, &self.runners[0]);
        let mut waiting = VecDeque::new();
        for leg in legs {
            say(&format!("{}: building", leg.name));
            watch(leg.name, self.cargo(first).args(["test", "--no-run"]).args(target()).args(leg.cargo))?;
            waiting.push_back((leg, if filters.is_empty() { Some(self.count(leg)?) } else { None }));
        }
        let (waiting, ended) = (Mutex::new(waiting), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for runner in &self.runners {
                scope.spawn(|| {
                    while let Some((leg, tests)) = { lock(&waiting).pop_front() } {
                        let start = Instant::now();
                        let result = self.run_leg(runner, leg, filters);
                        lock(&ended).push((leg.name, tests, start.elapsed().as_secs(), result));
                    }
                });
            }
        });
        let mut failures = Vec::new();
        for (name, tests, seconds, result) in lock(&ended).drain(..) {
            let tests = tests.map_or_else(|| "those chosen".to_owned(), |tests| format!("{tests} tests"));
            println!("windows {name}: {tests} {}, {seconds} s", if result.is_ok() { "pass" } else { "FAILED" });
            failures.extend(result.err());
        }
        if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
    }

    /// Runs the command line, as this program of its package.
    pub(super) fn raon(&self, program: &[&str], verb: &[&str], arguments: &[&str]) -> Result<(), String> {
        let mut command = self.cargo(&self.runners[0]);
        command
            .arg("run")
            .args(program)
            .args(target())
            .args(["--package", "raon-cli", "--"])
            .args(verb)
            .args(arguments);
        watch("raon", &mut command)
    }

    fn run_leg(&self, runner: &Runner, leg: &Leg, filters: &[&str]) -> Result<(), String> {
        let mut command = self.cargo(runner);
        command.args(["test", "--no-fail-fast"]).args(target()).args(leg.cargo).arg("--").args(told(leg, filters));
        watch_marked(leg.name, &mut command)
    }

    /// How many tests a leg will run. None, or one that must be there missing, is an error: it would be green for nothing.
    fn count(&self, leg: &Leg) -> Result<usize, String> {
        let mut list = self.cargo(&self.runners[0]);
        list.arg("test").arg("--quiet").args(target()).args(leg.cargo).arg("--").args(told(leg, &["--list"]));
        let listed = run(leg.name, &mut list, "The tests cannot be listed under Wine.")?;
        harness::count(leg.name, leg.includes, &listed)
    }

    fn cargo(&self, runner: &Runner) -> Command {
        let mut command = self.tools.cargo(self.root);
        runner.lead(&mut command);
        command
    }
}

/// Held for a moment, by nobody who can panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
fn told<'a>(leg: &Leg, filters: &[&'a str]) -> Vec<&'a str> {
    let left_out = leg.leaves_out.iter().map(|left_out| left_out.test).chain(leg.leaves_to_others.iter().copied());
    filters.iter().copied().chain(left_out.flat_map(|test| ["--skip", test])).collect()
}

#[cfg(test)]
mod tests {
    use super::super::legs::LeftOut;
    use super::*;

    const LEG: Leg = Leg {
        name: "leg",
        cargo: &["--package", "p"],
        includes: &["a::", "b::"],
        leaves_to_others: &["c::"],
        leaves_out: &[LeftOut { test: "a::late", reason: "it waits for the clock" }],
    };

    #[test]
    fn filters_come_first_and_what_is_left_out_is_skipped() {
        assert_eq!(
            told(&LEG, &["accept", "--nocapture"]),
            ["accept", "--nocapture", "--skip", "a::late", "--skip", "c::"]
        );
    }

    #[test]
    fn legs_are_chosen_by_name() {
        assert_eq!(chosen(&[]).unwrap().len(), LEGS.len());
        assert_eq!(chosen(&["session"]).unwrap().len(), 1);
        assert!(chosen(&["sessions"]).err().unwrap().contains("cargo test --package raon-session"));
    }
}
