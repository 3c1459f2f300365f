//! The project's own tools, run as `cargo xtask <command>`. Scripts are Rust, not shell.

mod bench_check;
mod ci;
mod clauses;
mod command;
mod harness;
mod kqueue;
mod matrix;
mod mutants;
mod tidy;
mod windows;

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>

  tidy [--report]   check the house rules; --report also prints the largest files and functions
  clauses           print which clause of docs/semantics.md is quoted where
  ci                run the whole gate: fmt, clippy, tidy, doc, the README's test command, the peers, the bench in short,
                    kqueue on its shim, other systems' type checks, Windows under Wine
  bench-check [--write]
                    count instructions of fixed micro workloads under valgrind and compare them with the checked-in ones
  mutants [NAME…] [--list] [--json]
                    plant known bugs, one at a time, in a copy of the workspace: each must be caught by its tests
  kqueue            the suite on the kqueue back end, played by epoll on Linux
  windows [setup|test|demo|bench]
                    build for Windows and run under Wine, both set up from Debian's packages; --help says more
  matrix [--all] [--json]
                    type-check for the systems that Raon cannot be run on here: one of each kind, or all";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = root().and_then(|root| match arguments[..] {
        ["tidy"] => tidy::run(&root),
        ["tidy", "--report"] => tidy::run_report(&root),
        ["clauses"] => clauses::run(&root),
        ["ci"] => ci::run(&root),
        ["bench-check"] => bench_check::run(&root, false),
        ["bench-check", "--write"] => bench_check::run(&root, true),
        ["mutants", ref rest @ ..] => mutants::run(&root, rest),
        ["kqueue"] => kqueue::run(&root),
        ["windows", ref rest @ ..] => windows::run(&root, rest),
        ["matrix", ref rest @ ..] => matrix::run(&root, rest),
        _ => Err(USAGE.to_owned()),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's folder. Cargo says where this crate lies when it runs it.
fn root() -> Result<PathBuf, String> {
    let crate_folder = std::env::var_os("CARGO_MANIFEST_DIR")
        .map(PathBuf::from)
        .ok_or("start it by `cargo xtask`, which knows where the workspace lies")?;
    crate_folder.parent().map(PathBuf::from).ok_or_else(|| format!("{} has no parent folder", crate_folder.display()))
}
