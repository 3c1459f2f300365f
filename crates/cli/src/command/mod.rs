//! The verbs: what each is asked for, and how its failure is told.

mod bench;
mod demo;
mod info;
mod load;
mod serve;
mod trial;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use raon_provider::RioFunctions;

use crate::report;

/// Raon, the network engine for game servers: look at this machine, serve, load, compare.
#[derive(Parser)]
#[command(name = "raon", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  raon demo                                  both back ends side by side, in a few seconds
  raon serve echo                            an echo server on 127.0.0.1:9000
  raon serve chat                            rooms of people who write lines; nc 127.0.0.1 9000 is a client
  raon load echo --connections 1000          load it for 10 seconds and verify every byte
  raon info                                  what this machine offers, and what limits it";

#[derive(Subcommand)]
enum Command {
    /// Shows back ends, features, limits, and which back end auto chooses
    Info(info::Arguments),
    /// Serves: raw bytes (echo, sink) over TCP, UDP or Unix sockets, packets (pingpong), lines (chat)
    Serve(serve::Arguments),
    /// Loads an echo, pingpong or chat server, verifies what it answers and measures
    Load(load::Arguments),
    /// Serves and loads on each back end of this machine in turn, and compares
    Demo(demo::Arguments),
    /// Decides by measuring: rio-gate, whether RIO or IOCP is to be used on this Windows machine
    Bench(bench::Arguments),
}

/// Reads the command line and does what it says.
pub(crate) fn run(rio: Option<RioFunctions>) -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return explain(&error),
    };
    let done = match cli.command {
        Command::Info(arguments) => info::run(&arguments),
        Command::Serve(mut arguments) => {
            arguments.threads.rio = rio;
            serve::run(&arguments)
        }
        Command::Load(mut arguments) => {
            arguments.threads.rio = rio;
            load::run(&arguments)
        }
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments, rio),
    };
    done.unwrap_or_else(|failure| {
        eprintln!("error: {failure}");
        ExitCode::from(failure.exit_code)
    })
}

/// Help as it is; errors in one line with the way to help.
fn explain(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            report::print(text.trim_end());
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            eprintln!("{}", text.trim_end());
            ExitCode::from(2)
        }
        _ => {
            eprintln!("{}", one_line(&text));
            ExitCode::from(2)
        }
    }
}

/// What clap says in several paragraphs, without usage.
fn one_line(text: &str) -> String {
    let paragraphs = text.split("\n\n").filter(|paragraph| {
        let paragraph = paragraph.trim();
        !paragraph.is_empty() && !paragraph.starts_with("Usage:") && !paragraph.starts_with("For more information")
    });
    let words = |paragraph: &str| paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    let said = paragraphs.map(words).collect::<Vec<_>>().join("; ");
    format!("{said}; --help shows all arguments")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn errors_fit_in_one_line() {
        let error = Cli::try_parse_from(["raon", "serve"]).err().unwrap().render().to_string();
        let line = one_line(&error);
        assert!(line.starts_with("error: ") && line.ends_with("; --help shows all arguments"), "{line}");
        assert!(!line.contains('\n') && !line.contains("Usage"), "{line}");
    }
}
