//! The program `raon`: it looks at the back ends of this machine, serves, loads, and compares.
//!
//! One file per verb in `command/`. What they do is in `echo_server/` and `datagram_server.rs` (serve) and in
//! `generator/` (load), all on `raon-provider`, and in `pingpong/` and `chat.rs` (serve), on
//! the engine; pictures are drawn in `plot/`;
//! what is particular to the platform is in `platform.rs`.

mod arguments;
mod chat;
mod command;
mod datagram_server;
mod datagrams;
mod echo_server;
mod failure;
mod generator;
mod pingpong;
mod platform;
mod plot;
mod progress;
mod report;
mod stop;

use std::process::ExitCode;

use raon_provider::RioFunctions;
use tracing_subscriber::filter::LevelFilter;

/// Reads the command line and does what it says. `raon` itself gives no functions: then registered I/O is the system's. A
/// program for tests gives those of a double, for all but servers on the engine.
pub fn run(rio: Option<RioFunctions>) -> ExitCode {
    // The provider says there, once, when `auto` had to fall back.
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::WARN)
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .with_ansi(false)
        .init();
    command::run(rio)
}
