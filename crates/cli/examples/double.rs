//! `raon` on the double of registered I/O instead of the system's: for tests, and for a look at `bench rio-gate` where there is
//! no registered I/O. The gate starts this same program again for its servers and loads, so they have the double too.

use std::process::ExitCode;

fn main() -> ExitCode {
    raon_cli::run(raon_conformance::platform::rio_functions())
}
