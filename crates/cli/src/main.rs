//! `raon`: looks at the back ends of this machine, serves, loads, and compares. All of it is in the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    raon_cli::run(None)
}
