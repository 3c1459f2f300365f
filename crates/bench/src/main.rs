//! Compares servers fairly. METHOD.md says how and why.

mod broadcast;
mod fit;
mod generator;
mod machine;
mod memory;
mod micro;
mod plot;
mod raon;
mod report;
mod rounds;
mod server;
mod swarm;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::broadcast::Broadcast;
use crate::machine::{CongestionControl, Machine};
use crate::report::Report;
use crate::rounds::{Load, Plan};
use crate::server::Server;

/// Compares Raon with bare system interfaces and with other libraries, on this machine.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// W1 to W6, echo of raw bytes: processor time of the server per message.
    Bytes {
        /// Servers, the first is what the others are related to: `raon-io_uring`, `raon-epoll`, or a program of the
        /// peers, with options after plus signs (`floor_multishot+skip`).
        #[arg(long, value_delimiter = ',', default_value = BYTES_SERVERS)]
        server: Vec<String>,
        /// Only these workloads.
        #[arg(long, value_delimiter = ',')]
        workload: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
    /// W8, one message to many connections: processor time of the server per message delivered.
    Broadcast {
        /// As for `bytes`; Raon's are `raon-io_uring+broadcast` and `raon-epoll+broadcast`.
        #[arg(long, value_delimiter = ',', default_value = BROADCAST_SERVERS)]
        server: Vec<String>,
        /// Connections.
        #[arg(long, default_value_t = 1000)]
        members: usize,
        #[command(flatten)]
        common: Common,
    },
    /// M, memory per idle connection and connections per second.
    Memory {
        /// As for `bytes`.
        #[arg(long, value_delimiter = ',', default_value = BYTES_SERVERS)]
        server: Vec<String>,
        /// Idle connections; each takes a descriptor here and one in the server.
        #[arg(long, default_value_t = 10_000)]
        idle: usize,
        #[command(flatten)]
        common: Common,
    },
    /// What single steps cost: operations, buffers, submits, tables.
    Micro {
        /// Run only this step, for `--batches`, and measure nothing: for tools that count instructions.
        #[arg(long, hide = true, requires = "batches")]
        only: Option<String>,
        #[arg(long, hide = true, requires = "only")]
        batches: Option<u64>,
        #[command(flatten)]
        common: Common,
    },
    /// Draws the ratios of a JSON file that `--out` wrote.
    Plot {
        /// The JSON file.
        results: PathBuf,
        /// The SVG file to write.
        out: PathBuf,
    },
    /// Raon's own servers, as the comparisons start them.
    #[command(hide = true)]
    Serve(raon::Options),
}

#[derive(Args)]
struct Common {
    /// Interleaved rounds.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Length of a measured window, in milliseconds.
    #[arg(long, default_value_t = 700)]
    window_ms: u64,
    /// Print JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Write the JSON there as well.
    #[arg(long)]
    out: Option<PathBuf>,
    /// One short round of everything: it shows that all runs, and measures nothing.
    #[arg(long)]
    smoke: bool,
}

const BYTES_SERVERS: &str = "raon-io_uring,floor_single,floor_multishot,floor_multishot+skip,raon-epoll,epoll_raw,\
    mio_echo,tokio_echo,monoio_echo,compio_echo";
const BROADCAST_SERVERS: &str = "raon-io_uring+broadcast,floor_broadcast,floor_broadcast+skip,\
    raon-epoll+broadcast,epoll_broadcast,tokio_broadcast";

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Bytes { server, workload, common } => {
            let is_wanted =
                |name: &str| workload.is_empty() || workload.iter().any(|wanted| wanted.eq_ignore_ascii_case(name));
            let loads = workload::BYTES.into_iter().filter(|load| is_wanted(load.name));
            compare(&server, loads.collect(), &common)
        }
        Command::Broadcast { server, members, common } => compare(&server, vec![Broadcast { members }], &common),
        Command::Memory { server, idle, common } => compare_memory(&server, idle, &common),
        Command::Micro { only: Some(only), batches: Some(batches), .. } => {
            micro::count(&only, batches).map_err(std::io::Error::other)
        }
        Command::Micro { common, .. } => compare_micro(&common),
        Command::Plot { results, out } => Report::read(&results).and_then(|report| std::fs::write(out, report.plot())),
        Command::Serve(options) => raon::serve(options).map_err(std::io::Error::other),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn prepare(names: &[String]) -> std::io::Result<Vec<Server>> {
    if names.iter().any(|name| !name.starts_with("raon-")) {
        server::build_peers()?;
    }
    machine::pin_generator();
    names.iter().map(|name| Server::named(name)).collect()
}

fn compare(names: &[String], loads: Vec<impl Load>, common: &Common) -> std::io::Result<()> {
    let servers = prepare(names)?;
    let window = Duration::from_millis(if common.smoke { 50 } else { common.window_ms });
    let rounds = if common.smoke { 1 } else { common.rounds };
    let plan = Plan { rounds, warm_up: window / 3, window, is_smoke: common.smoke };
    let _congestion = CongestionControl::fix();
    let mut report = Report::new(Machine::here());
    for load in &loads {
        let figures = rounds::measure(&servers, load, plan, report::progress)?;
        report.add(load, figures, common.json);
    }
    report.finish(common.json, common.out.as_deref())
}

fn compare_memory(names: &[String], idle: usize, common: &Common) -> std::io::Result<()> {
    let servers = prepare(names)?;
    let (idle, rounds, waves) = if common.smoke { (200, 1, 1) } else { (idle, common.rounds.min(5), 20) };
    let mut report = Report::new(Machine::here());
    for server in &servers {
        report::progress(&server.name);
        let figures = memory::measure(server, idle, rounds, waves)?;
        report.add_memory(figures, common.json);
    }
    report.finish(common.json, common.out.as_deref())
}

fn compare_micro(common: &Common) -> std::io::Result<()> {
    let effort = match common.smoke {
        true => micro::Effort { rounds: 1, window: Duration::from_millis(1) },
        false => micro::Effort { rounds: common.rounds, window: Duration::from_millis(50) },
    };
    let mut report = Report::new(Machine::here());
    let steps = micro::measure(effort, report::progress).map_err(std::io::Error::other)?;
    report.add_micro(steps, common.json);
    report.finish(common.json, common.out.as_deref())
}
