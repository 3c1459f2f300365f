//! `cargo xtask kqueue`: the kqueue back end on Linux, its two system calls played by epoll.
//!
//! The shim is chosen by a flag of the compiler, with which all dependencies are built anew: so it has a target folder of
//! its own, and the other builds stay.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{self, say, watch};
use crate::harness;

const FLAGS: &str = "--cfg raon_kqueue_shim";
/// What the names of the tests have in common; the other back ends are tested without the flag.
const FILTER: &str = "kqueue";

/// A test program, and how tests begin that must be among those that are run of it.
struct Program {
    name: &'static str,
    /// What cargo is told after `cargo test`.
    cargo: &'static [&'static str],
    includes: &'static [&'static str],
}

const PROGRAMS: [Program; 4] = [
    Program { name: "provider", cargo: &["--package", "raon-provider", "--lib"], includes: &["backend::kqueue::"] },
    Program {
        name: "suite",
        cargo: &["--package", "raon-conformance", "--test", "every_backend"],
        includes: &["kqueue::", "kqueue::storm::", "kqueue_unix::"],
    },
    Program {
        name: "oracle",
        cargo: &["--package", "raon-conformance", "--test", "oracle"],
        includes: &["connections::kqueue", "connections::kqueue_unix", "datagrams::kqueue"],
    },
    Program { name: "faults", cargo: &["--package", "raon-conformance", "--test", "faults"], includes: &["kqueue"] },
];

pub(crate) fn run(root: &Path) -> Result<(), String> {
    if !cfg!(target_os = "linux") {
        return Err("the shim plays kqueue by epoll: where kqueue is, `cargo test` runs its tests".to_owned());
    }
    PROGRAMS.iter().try_for_each(|program| run_program(root, program))
}

fn run_program(root: &Path, program: &Program) -> Result<(), String> {
    say(&format!("{}: building", program.name));
    watch(program.name, test(root, program).arg("--no-run"))?;
    let mut list = test(root, program);
    let listed = command::run(program.name, list.args(["--quiet", "--", "--list", FILTER]), "Run it by itself.")?;
    let count = harness::count(program.name, program.includes, &listed)?;
    watch(program.name, test(root, program).args(["--quiet", "--", FILTER]))?;
    say(&format!("{}: {count} tests pass", program.name));
    Ok(())
}

/// `cargo test` of a program, on the shim.
fn test(root: &Path, program: &Program) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let built = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let mut command = Command::new(cargo);
    command.current_dir(root).env("CARGO_TARGET_DIR", root.join(built).join("kqueue"));
    // It would come before the other one.
    command.env("RUSTFLAGS", FLAGS).env_remove("CARGO_ENCODED_RUSTFLAGS");
    // Nobody looks at it with a debugger: building takes less time.
    command.env("CARGO_PROFILE_DEV_DEBUG", "0");
    command.arg("test").args(program.cargo);
    command
}
