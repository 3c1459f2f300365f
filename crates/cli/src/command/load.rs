//! `raon load`: loads a server, verifies what it answers and measures.
//!
//! Three ways (`single.rs`, `sweep.rs`), all on one `Session` of connections (`session.rs`): a closed loop, an open loop
//! with one rate, and a sweep over rates.

mod check;
mod datagrams;
mod figures;
mod probe;
mod session;
mod single;
mod sweep;
mod talk;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use raon_provider::Address;

use crate::arguments::{self, Rates, Threads};
use crate::failure::Failure;
use crate::generator::{Arrivals, Offer};

const EXAMPLES: &str = "Examples:
  raon load echo
  raon load echo --connections 9000 --duration 8s
  raon load echo --connect unix:/tmp/echo.sock
  raon load echo --size 16384 --pipeline 4 --workers 2 --json
  raon load echo --udp --connections 100 --pipeline 4           datagrams: what is lost is counted
  raon load echo --udp --rate 20000/s --timeout 200ms           the same on a schedule; --sweep and --plot work too
  raon load echo --connections 0 --idle 18000 --duration 1s     memory per idle connection
  raon load echo --rate 20000/s                                 latency at that rate, from when messages were due
  raon load echo --rate 20000/s --arrivals poisson --seed 7     the same at random times, which can be had again
  raon load echo --rate 20000/s --plot latency.svg              with a picture of the distribution
  raon load echo --sweep --plot sweep.svg                       latency against rate, in ten steps
  raon load echo --sweep --rates 1000,5000,20000 --duration 5s --json

  raon load pingpong --connections 1000 --pipeline 4            pings; numbers, times and session ids are verified
  raon load pingpong --rate 20000/s --client-version 7
  raon load chat --connections 400 --rooms 20                   a line is answered when everybody in its room has it
  raon load chat --connections 400 --rooms 20 --rate 1000/s --json

Without --rate the loop is closed: an answer makes the next message due, so a server that stalls is asked less. With
--rate or --sweep it is open: messages leave on a schedule whatever the answers do, and latency counts from when they
were due. What never came back counts there with the time that it had waited.

With --udp every datagram tells its socket, its number and a pattern. One that is not answered within --timeout is lost,
which is no error; answers after that are late. Latency is that of the answers in time, and losses stand beside it.

Each answer to a ping must have the number and the time of the ping, in order. Each line of a chat must come to everybody
in its room exactly once, and those of one writer in order; latency is that of the last one who gets it.

Exits with 1 if a connection failed, a message was lost, an answer was wrong, or a byte came back wrong, and at a --rate
that could not be kept so that messages were never sent; with --udp also if nothing was answered at all. Ctrl-C ends the
measurement early.";

/// Arguments of `raon load`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// What the server does: echo sends back what it gets, pingpong answers pings, chat gives lines to rooms
    service: ServiceName,
    /// Where it listens: ADDRESS:PORT, unix:/PATH or unix:@NAME
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000", value_parser = arguments::address)]
    connect: Address,
    /// Connections, or with --udp sockets, that exchange messages
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    connections: u32,
    /// Bytes per message; lines of a chat count their end [default: 64]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=16_777_216))]
    size: Option<u32>,
    /// Of chat: rooms over which connections are spread [default: one for each 16 connections]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rooms: Option<u32>,
    /// Of pingpong: the version that the connect request tells [default: 1]
    #[arg(long, value_name = "N")]
    client_version: Option<u32>,
    /// Messages in flight per connection in the closed loop [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pipeline: Option<u32>,
    /// Sends datagrams instead of opening connections; what is lost is counted
    #[arg(long)]
    udp: bool,
    /// With --udp: when a datagram without an answer is lost and another may take its place [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = arguments::timeout)]
    timeout: Option<Duration>,
    /// How long to measure, such as 10s, 500ms or 2m; in a sweep, at each rate
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = arguments::duration)]
    duration: Duration,
    /// Connections opened per second at most, such as 1000/s
    #[arg(long, value_name = "N/s", value_parser = arguments::rate)]
    connect_rate: Option<u32>,
    /// Further connections that do nothing, to see what they cost the server
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    idle: u32,
    #[command(flatten)]
    pub(super) threads: Threads,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    /// Draws a picture: latency by percentile, or of a sweep, latency against rate
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    open: OpenArguments,
}

/// Those of the open loop.
#[derive(Args)]
#[command(next_help_heading = "Open loop")]
struct OpenArguments {
    /// Messages per second in all, on a schedule that answers do not delay
    #[arg(long, value_name = "N/s", value_parser = arguments::rate)]
    rate: Option<u32>,
    /// Measures at several rates, one after the other
    #[arg(long)]
    sweep: bool,
    /// The rates of a sweep [default: 10 steps up to 110 % of what a closed loop reaches]
    #[arg(long, value_name = "N,N,…")]
    rates: Option<Rates>,
    /// How messages are spread over time: even, or poisson for random and independent ones [default: even]
    #[arg(long, value_name = "HOW", hide_possible_values = true)]
    arrivals: Option<ArrivalsName>,
    /// Of the random times: the same seed gives the same schedule [default: 1]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Messages in flight per connection at most; what is due beyond it waits, and its latency counts on [default: 1024]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    in_flight_max: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ServiceName {
    Echo,
    Pingpong,
    Chat,
}

impl ServiceName {
    /// As it is written on the command line.
    fn name(self) -> &'static str {
        match self {
            ServiceName::Echo => "echo",
            ServiceName::Pingpong => "pingpong",
            ServiceName::Chat => "chat",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ArrivalsName {
    Even,
    Poisson,
}

impl Arguments {
    fn pipeline(&self) -> u32 {
        self.pipeline.unwrap_or(1)
    }
}

impl OpenArguments {
    fn is_open(&self) -> bool {
        self.sweep || self.rate.is_some()
    }

    fn arrivals(&self) -> Arrivals {
        match self.arrivals {
            Some(ArrivalsName::Poisson) => Arrivals::Poisson { seed: self.seed.unwrap_or(1) },
            _ => Arrivals::Even,
        }
    }

    fn offer(&self, per_second: u32) -> Offer {
        Offer { per_second, arrivals: self.arrivals(), in_flight_max: self.in_flight_max.unwrap_or(1024) }
    }
}

/// Loads and reports.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    check::check(arguments)?;
    let stop = arguments.threads.stop()?;
    if arguments.open.sweep { sweep::run(arguments, &stop) } else { single::run(arguments, &stop) }
}
