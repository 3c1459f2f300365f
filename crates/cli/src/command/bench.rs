//! `raon bench`: comparisons that decide something. One file per decision in `bench/`.

mod rio_gate;
mod verdict;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use raon_provider::RioFunctions;

use crate::failure::Failure;

const EXAMPLES: &str = "Examples:
  raon bench rio-gate
  raon bench rio-gate --rounds 9 --seconds 10 --json";

/// Arguments of `raon bench`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    decision: Decision,
}

#[derive(Subcommand)]
enum Decision {
    /// Whether this Windows machine should use Registered I/O (rio) or completion ports (iocp)
    RioGate(rio_gate::Arguments),
}

/// Measures and says what it decides.
pub(crate) fn run(arguments: &Arguments, rio: Option<RioFunctions>) -> Result<ExitCode, Failure> {
    match &arguments.decision {
        Decision::RioGate(arguments) => rio_gate::run(arguments, rio),
    }
}
