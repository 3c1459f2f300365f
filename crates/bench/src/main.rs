//! Compares servers fairly. METHOD.md says how and why.

mod arguments;
mod broadcast;
mod claims;
mod command;
mod connections;
mod datagrams;
mod entries;
mod fit;
mod framed;
mod generator;
mod machine;
mod memory;
mod meter;
mod micro;
mod picture;
mod plot;
mod push;
mod raon;
mod report;
mod rounds;
mod server;
mod socket;
mod statistics;
mod strace;
mod swarm;
mod table;
mod workload;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match command::run(arguments::Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
