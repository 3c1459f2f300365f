//! `raon serve`: a server of raw bytes, over streams (`echo_server/`) or datagrams (`datagram_server.rs`), or one on the
//! engine (`engine.rs`).

mod check;
mod engine;
mod workers;

use std::io::{self, IsTerminal};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use raon_provider::Address;
use serde::Serialize;

use crate::arguments::{self, Threads, Versions};
use crate::datagrams::{self, BYTES_ORDINARY};
use crate::echo_server::{Loads, Service};
use crate::failure::Failure;
use crate::{datagram_server, echo_server, platform, report};

use workers::{Shared, died, start_all};

const EXAMPLES: &str = "Examples:
  raon serve echo
  raon serve echo --listen [::]:9000 --workers 4 --pin 0-3
  raon serve sink --listen 127.0.0.1:0 --backend epoll
  raon serve echo --listen unix:/tmp/echo.sock             a path that no server holds any more is taken over
  raon serve echo --listen unix:@echo                      a name that is in no file system

  raon serve echo --udp --workers 2                        datagrams, on two sockets that share the port
  raon serve echo --udp --datagram-max 65000               longer ones than an ordinary buffer takes

  raon serve pingpong                                      packets {size, id, body}: connect, then ping and pong
  raon serve pingpong --client-versions 3-5 --clients-max 1000 --workers 4
  raon serve pingpong --config server.toml --json          limits, timeouts, policies: all fields of the engine

  raon serve chat                                          /join ROOM, /leave, /name NAME; try it with nc 127.0.0.1 9000
  raon serve chat --profile public --listen 0.0.0.0:9000   for anybody: idle, rate and per-address limits
  RAON_SLOW_CONSUMER=disconnect raon serve chat            who does not read for 5 seconds is left behind

Ctrl-C or SIGTERM stops it: connections get 2 seconds, or --grace, to end, then the summary is printed on standard error.
With --udp it says what became of each datagram: sent back, dropped because the system had no room for it, or too long.
Those of pingpong and chat say why sessions have ended; they have a worker per core unless --workers or the configuration
says otherwise.";

/// Arguments of `raon serve`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// What to do: echo sends back the bytes that come, sink drops them, pingpong answers packets, chat has
    /// rooms of people who write lines to each other
    service: ServiceName,
    /// Where to listen: ADDRESS:PORT (port 0 takes any free one), unix:/PATH or unix:@NAME [default: 127.0.0.1:9000]
    #[arg(long, value_name = "ADDR", value_parser = arguments::address)]
    listen: Option<Address>,
    /// Serves datagrams instead of connections; each goes back to its sender
    #[arg(long)]
    udp: bool,
    /// Longest datagram to take with --udp; longer ones are counted as truncated [default: 3968, at most 65000]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=i64::from(datagrams::BYTES_MAX)))]
    datagram_max: Option<u32>,
    #[command(flatten)]
    pub(super) threads: Threads,
    /// Prints the summary as one line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArguments,
}

/// Those of the servers on the engine.
#[derive(Args)]
#[command(next_help_heading = "Engine (pingpong and chat)")]
struct EngineArguments {
    /// Reads the engine's configuration from a TOML file; RAON_… variables replace its fields, arguments replace both
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Who may connect: public limits what one session and one address may take, lan does not; fields of the configuration
    /// replace either [default: no limits, and a warning]
    #[arg(long, value_name = "WHO", value_parser = ["public", "lan"])]
    profile: Option<String>,
    /// How long sessions may take to end when the server is stopped [default: 2s]
    #[arg(long, value_name = "TIME", value_parser = arguments::timeout)]
    grace: Option<Duration>,
    /// Of pingpong: clients that may be connected at the same time; others are told that it is full [default: sessions_max of the
    /// configuration]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    clients_max: Option<u32>,
    /// Of pingpong: client versions that are accepted, such as 3 or 3-5 [default: all]
    #[arg(long, value_name = "FROM-TO")]
    client_versions: Option<Versions>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ServiceName {
    Echo,
    Sink,
    Pingpong,
    Chat,
}

/// What the server did in its life, as `--json` prints it.
#[derive(Serialize)]
struct Summary {
    backend: &'static str,
    workers: u16,
    duration_s: f64,
    #[serde(flatten)]
    streams: Option<echo_server::Tally>,
    #[serde(flatten)]
    datagrams: Option<datagram_server::Tally>,
}

/// What a worker has done, or all of them: one of the two.
#[derive(Default)]
struct Total {
    streams: Option<echo_server::Tally>,
    datagrams: Option<datagram_server::Tally>,
}

impl Total {
    fn add(&mut self, other: Total) {
        if let Some(tally) = other.streams {
            self.streams.get_or_insert_default().add(tally);
        }
        if let Some(tally) = other.datagrams {
            self.datagrams.get_or_insert_default().add(tally);
        }
    }
}

impl Arguments {
    /// Where to listen, unless a configuration says it.
    fn listen(&self) -> Address {
        const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9000);
        self.listen.clone().unwrap_or(DEFAULT.into())
    }

    fn datagram_bytes_max(&self) -> u32 {
        self.datagram_max.unwrap_or(BYTES_ORDINARY)
    }
}

/// Serves until it is told to stop.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    check::check(arguments)?;
    platform::raise_descriptor_limit();
    match arguments.service {
        ServiceName::Echo => serve_bytes(arguments, Service::Echo),
        ServiceName::Sink => serve_bytes(arguments, Service::Sink),
        ServiceName::Pingpong => engine::pingpong(arguments),
        ServiceName::Chat => engine::chat(arguments),
    }
}

fn serve_bytes(arguments: &Arguments, service: Service) -> Result<ExitCode, Failure> {
    let workers = arguments.threads.workers();
    let shared = Shared { service, loads: Arc::new(Loads::new(usize::from(workers))), stop: arguments.threads.stop()? };
    let start = Instant::now();
    let (threads, kind) = start_all(arguments, &shared)?;
    let mut total = Total::default();
    for thread in threads {
        total.add(thread.join().map_err(|_| died())??);
    }
    let Total { streams, datagrams } = total;
    let duration_s = start.elapsed().as_secs_f64();
    summarize(arguments, &Summary { backend: kind.name(), workers, duration_s, streams, datagrams });
    Ok(ExitCode::SUCCESS)
}

fn summarize(arguments: &Arguments, summary: &Summary) {
    if arguments.json {
        eprintln!("{}", serde_json::to_string(summary).unwrap_or_default());
        return;
    }
    start_line();
    let rows = match (&summary.streams, &summary.datagrams) {
        (_, Some(tally)) => datagram_rows(tally),
        (Some(tally), None) => stream_rows(tally),
        (None, None) => Vec::new(),
    };
    eprintln!("served for {:.1} s on {}\n{}", summary.duration_s, summary.backend, report::rows(&rows));
}

/// Below the ^C that a terminal has drawn.
fn start_line() {
    if io::stderr().is_terminal() {
        eprintln!();
    }
}

fn stream_rows(tally: &echo_server::Tally) -> Vec<(&'static str, String)> {
    // With fewer messages, it is the connections that were paid for.
    let messages = tally.messages.checked_sub(10 * tally.connections).map_or(0, |_| tally.messages);
    vec![
        ("connections", report::grouped(tally.connections)),
        ("refused", report::grouped(tally.refused)),
        ("messages", report::grouped(tally.messages)),
        ("received", report::bytes(tally.received_bytes)),
        ("sent", report::bytes(tally.sent_bytes)),
        ("kernel entries", entries(tally.kernel_entries, messages, "message")),
        ("errors", report::grouped(tally.errors)),
    ]
}

fn datagram_rows(tally: &datagram_server::Tally) -> Vec<(&'static str, String)> {
    let counted = |count: u64, bytes: u64| format!("{} ({})", report::grouped(count), report::bytes(bytes));
    vec![
        ("datagrams received", counted(tally.received, tally.received_bytes)),
        ("datagrams sent", counted(tally.sent, tally.sent_bytes)),
        ("dropped, no room", report::grouped(tally.dropped)),
        ("truncated, too long", report::grouped(tally.truncated)),
        ("undelivered", report::grouped(tally.undelivered)),
        ("kernel entries", entries(tally.kernel_entries, tally.received, "datagram")),
        ("errors", report::grouped(tally.errors)),
    ]
}

/// With what one message of so many costs.
fn entries(entries: u64, messages: u64, thing: &str) -> String {
    let mut text = report::grouped(entries);
    if messages > 0 {
        text += &format!(" ({:.3} per {thing})", entries as f64 / messages as f64);
    }
    text
}
