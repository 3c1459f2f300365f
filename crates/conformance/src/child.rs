//! Tests that change their whole process run in a child: this test program again, in a role.

use std::process::Command;

const ROLE: &str = "RAON_CONFORMANCE_ROLE";
const ARGUMENT: &str = "RAON_CONFORMANCE_ARGUMENT";
/// The variable that replaces `auto`.
pub const BACKEND: &str = "RAON_BACKEND";
/// The test that is a child's whole program.
const PROGRAM: &str = "child_process";

/// Runs a role to its end and fails if it does.
pub fn run(role: &str, argument: &str, environment: &[(&str, &str)]) {
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command.args([PROGRAM, "--exact", "--nocapture", "--test-threads=1"]);
    command.env_remove(BACKEND).env(ROLE, role).env(ARGUMENT, argument).envs(environment.iter().copied());
    let output = command.output().expect("a child can be started");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let has_run = text[0].contains("1 passed") || text[0].contains("1 failed");
    let is_well = output.status.success() && has_run;
    assert!(is_well, "role {role} {argument}, {}:\n{}\n{}", output.status, text[0], text[1]);
}

/// The child's side, which plays its role with its argument; does nothing in a process that is no child.
pub fn enter(play: fn(&str, &str)) {
    if let (Ok(role), Ok(argument)) = (std::env::var(ROLE), std::env::var(ARGUMENT)) {
        play(&role, &argument);
    }
}
