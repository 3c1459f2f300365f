//! `cargo xtask ci`: the gate. Its steps run in order and it stops at the first that fails; no step is ever skipped.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::{kqueue, matrix, tidy, windows};

/// What the whole gate may take, from a clean checkout on two cores. CONTRIBUTING.md quotes it.
pub(crate) const BUDGET_MINUTES: u64 = 50;

/// What Raon is compared with is a workspace of its own. The last one runs every comparison with every server, in short:
/// all must run and bring every byte back, and no time that is measured there decides anything.
const PEERS: [&str; 4] = [
    "cargo fmt --all --check --manifest-path crates/bench/peers/Cargo.toml",
    "cargo clippy --all-targets --manifest-path crates/bench/peers/Cargo.toml -- -D warnings",
    "cargo test --manifest-path crates/bench/peers/Cargo.toml",
    "cargo run --package raon-bench -- smoke",
];

/// That a panic stays inside and a server ends in order, as users build it: optimised, which must still unwind.
const RELEASE: &str = "cargo test --release --package raon --test fence --test shutdown";

/// Packing of what is published: each crate is packed, and built from nothing but its package.
const PACKAGE: &str = "cargo package --allow-dirty -p raon-provider -p raon-session -p raon -p raon-cli";

pub(crate) fn run(root: &Path) -> Result<(), String> {
    let start = Instant::now();
    // Read before anything else: a README without its command is found in a second, not after the other steps.
    let readme = std::fs::read_to_string(root.join("README.md")).map_err(|error| format!("README.md: {error}"))?;
    let tests = test_commands(&readme)?;

    cargo(root, "cargo fmt --all --check", &[])?;
    cargo(root, "cargo clippy --workspace --all-targets -- -D warnings", &[])?;
    step("cargo xtask tidy", || tidy::run(root))?;
    cargo(root, "cargo doc --workspace --no-deps", &[("RUSTDOCFLAGS", "-D warnings")])?;
    for command in tests {
        cargo(root, command, &[])?;
    }
    for command in [RELEASE, PACKAGE].into_iter().chain(PEERS) {
        cargo(root, command, &[])?;
    }
    step("cargo xtask kqueue", || kqueue::run(root))?;
    step("cargo xtask matrix", || matrix::run(root, &[]))?;
    step("cargo xtask windows test", || windows::run(root, &["test"]))?;
    step("cargo xtask windows demo", || windows::run(root, &["demo"]))?;
    println!("== {}", verdict(start.elapsed()));
    Ok(())
}

fn verdict(total: Duration) -> String {
    let (minutes, seconds) = (total.as_secs() / 60, total.as_secs() % 60);
    let place = if total > Duration::from_secs(BUDGET_MINUTES * 60) { "OVER" } else { "within" };
    format!("all green in {minutes} min {seconds} s, {place} the budget of {BUDGET_MINUTES} min")
}

/// The commands that the README tells its reader to test with: the `cargo test` lines of its fenced blocks.
fn test_commands(readme: &str) -> Result<Vec<&str>, String> {
    let blocks = readme.split("\n```").skip(1).step_by(2);
    let commands: Vec<&str> = blocks
        .flat_map(str::lines)
        .map(|line| line.split(" #").next().unwrap_or("").trim().trim_start_matches("$ "))
        .filter(|line| line.starts_with("cargo test"))
        .collect();
    if commands.is_empty() {
        return Err("README.md has no fenced block with `cargo test`; the gate runs what the README says".to_owned());
    }
    match commands.iter().find(|command| command.contains(['"', '\'', '|', '&', ';', '$', '\\', '>'])) {
        Some(command) => Err(format!("README.md: `{command}` needs a shell; the gate runs it without one")),
        None => Ok(commands),
    }
}

fn step(name: &str, work: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    println!("== {name}");
    let start = Instant::now();
    let result = work();
    let seconds = start.elapsed().as_secs_f32();
    match result {
        Ok(()) => {
            println!("== {name}: ok, {seconds:.1} s");
            Ok(())
        }
        Err(message) => Err(format!("{message}\n== {name}: FAILED after {seconds:.1} s")),
    }
}

/// One step: a command line that starts with `cargo`, run by the cargo that runs this tool.
fn cargo(root: &Path, command: &str, environment: &[(&str, &str)]) -> Result<(), String> {
    step(command, || {
        let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let status = Command::new(program)
            .args(command.split_whitespace().skip(1))
            .envs(environment.iter().copied())
            .current_dir(root)
            .status()
            .map_err(|error| format!("cannot start cargo: {error}"))?;
        if status.success() { Ok(()) } else { Err(format!("cargo ended with {status}")) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_says_how_to_test() {
        let readme =
            "# Raon\nNot here: cargo test\n```sh\ncargo run -- demo\ncargo test --workspace  # all of it\n```\n";
        assert_eq!(test_commands(readme), Ok(vec!["cargo test --workspace"]));
        let two = format!("{readme}cargo test --not-in-a-block\n```console\n$ cargo test --doc\n```\n");
        assert_eq!(test_commands(&two), Ok(vec!["cargo test --workspace", "cargo test --doc"]));
    }

    #[test]
    fn a_readme_without_a_plain_command_is_refused() {
        assert!(test_commands("# Raon\n\ncargo test\n").is_err());
        assert!(test_commands("# Raon\n```sh\ncargo test | tee log\n```\n").is_err());
    }

    #[test]
    fn every_crate_that_is_published_is_packed() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
        let manifests = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path().join("Cargo.toml"));
        for manifest in manifests.filter(|manifest| manifest.exists()) {
            let text = std::fs::read_to_string(&manifest).unwrap();
            let name = text.lines().find_map(|line| line.strip_prefix("name = ")).unwrap().trim_matches('"');
            let is_published = !text.contains("publish = false");
            let is_packed = PACKAGE.split(" -p ").any(|packed| packed == name);
            assert_eq!(is_packed, is_published, "{name}");
        }
    }

    #[test]
    fn the_verdict_names_time_and_budget() {
        let budget = Duration::from_secs(BUDGET_MINUTES * 60);
        assert_eq!(verdict(Duration::from_secs(125)), "all green in 2 min 5 s, within the budget of 50 min");
        assert!(verdict(budget + Duration::from_secs(1)).contains("OVER"));
    }

    #[test]
    fn a_failed_step_says_which() {
        let message = step("cargo nothing", || Err("no".to_owned())).unwrap_err();
        assert!(message.starts_with("no\n== cargo nothing: FAILED after"));
    }
}
