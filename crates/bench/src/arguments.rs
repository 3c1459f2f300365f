//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::raon;

/// Compares Raon with bare system interfaces and with other libraries, on this machine.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// W1 to W6, echo of raw bytes: processor time of the server per message.
    Bytes {
        /// Servers, the first is what the others are related to: `raon-io_uring`, `raon-epoll`, or a program of the
        /// peers, with options after plus signs (`floor_multishot+skip`).
        #[arg(long, value_delimiter = ',', default_value = ECHO_SERVERS)]
        server: Vec<String>,
        /// Only these workloads.
        #[arg(long, value_delimiter = ',')]
        workload: Vec<String>,
        /// Draw the ratios into this SVG file.
        #[arg(long)]
        plot: Option<PathBuf>,
        #[command(flatten)]
        windows: Windows,
        #[command(flatten)]
        output: Output,
    },
    /// W8, one message to many connections: processor time of the server per message delivered.
    Broadcast {
        /// As for `bytes`; Raon's are `raon-io_uring+broadcast` and `raon-epoll+broadcast`.
        #[arg(long, value_delimiter = ',', default_value = BROADCAST_SERVERS)]
        server: Vec<String>,
        /// Connections.
        #[arg(long, default_value_t = 1000)]
        members: usize,
        /// Draw the ratios into this SVG file.
        #[arg(long)]
        plot: Option<PathBuf>,
        #[command(flatten)]
        windows: Windows,
        #[command(flatten)]
        output: Output,
    },
    /// D1 to D3, echo of datagrams: processor time of the server per datagram.
    Datagrams {
        /// As for `bytes`; Raon's are `raon-io_uring+datagrams` and `raon-epoll+datagrams`, each also with `+coalesce`.
        #[arg(long, value_delimiter = ',', default_value = DATAGRAM_SERVERS)]
        server: Vec<String>,
        /// Only these workloads.
        #[arg(long, value_delimiter = ',')]
        workload: Vec<String>,
        /// Draw the ratios into this SVG file.
        #[arg(long)]
        plot: Option<PathBuf>,
        #[command(flatten)]
        windows: Windows,
        #[command(flatten)]
        output: Output,
    },
    /// F1, F2, F5 and F6, frames and answers to each, messages from another thread, memory per idle session: processor time
    /// of the server per message.
    Framed {
        /// As for `bytes`.
        #[arg(long, value_delimiter = ',', default_value = FRAMED_SERVERS)]
        server: Vec<String>,
        /// Only these workloads.
        #[arg(long, value_delimiter = ',', value_parser = ["F1", "F2", "F5", "F6"], ignore_case = true)]
        workload: Vec<String>,
        /// Draw the ratios into this SVG file, or the memory if it is the only one.
        #[arg(long)]
        plot: Option<PathBuf>,
        #[command(flatten)]
        windows: Windows,
        #[command(flatten)]
        output: Output,
    },
    /// M, memory per idle connection, and what it takes to accept and close one.
    Memory {
        /// As for `bytes`.
        #[arg(long, value_delimiter = ',', default_value = ECHO_SERVERS)]
        server: Vec<String>,
        /// Idle connections; each takes a descriptor here and one in the server.
        #[arg(long, default_value_t = 10_000)]
        idle: usize,
        /// Interleaved rounds.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Draw the figures into this SVG file.
        #[arg(long)]
        plot: Option<PathBuf>,
        #[command(flatten)]
        output: Output,
    },
    /// What single steps cost: operations, buffers, submits, tables.
    Micro {
        /// Run only this step, for `--batches`, and measure nothing: for tools that count instructions.
        #[arg(long, hide = true, requires = "batches")]
        only: Option<String>,
        #[arg(long, hide = true, requires = "only")]
        batches: Option<u64>,
        /// Rounds.
        #[arg(long, default_value_t = 20)]
        rounds: usize,
        #[command(flatten)]
        output: Output,
    },
    /// Whether fixed buffers (READ_FIXED, WRITE_FIXED) save anything on sockets, and what IOPOLL does with them.
    Claims {
        #[command(flatten)]
        windows: Windows,
        #[command(flatten)]
        output: Output,
    },
    /// Many connections of 64 bytes, one in flight on each: losses, latency, processor time, memory, kernel entries.
    Connections {
        /// As for `bytes`.
        #[arg(long, value_delimiter = ',', default_value = CONNECTIONS_SERVERS)]
        server: Vec<String>,
        /// Connections; each takes a descriptor here and one in the server.
        #[arg(long, default_value_t = 9000)]
        connections: usize,
        /// Length of a measured window.
        #[arg(long, default_value_t = 8)]
        seconds: u32,
        /// Interleaved rounds.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        #[command(flatten)]
        output: Output,
    },
    /// Kernel entries per message, as strace counts and as the driver does: 64 connections of 64 bytes, 1 and 16 in flight.
    Entries {
        /// As for `bytes`.
        #[arg(long, value_delimiter = ',', default_value = CONNECTIONS_SERVERS)]
        server: Vec<String>,
        /// How long each load lasts.
        #[arg(long, default_value_t = 5)]
        seconds: u32,
        #[command(flatten)]
        output: Output,
    },
    /// Each of the above in short with all servers: shows that all run and bring every byte back, and measures nothing.
    Smoke,
    /// Draws the JSON file that `--out` wrote.
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
pub(crate) struct Windows {
    /// Interleaved rounds, and more of them, at most as many again, until each server has so many undisturbed runs.
    #[arg(long, default_value_t = 20)]
    pub(crate) rounds: usize,
    /// Length of a measured window, in milliseconds.
    #[arg(long, default_value_t = 700)]
    pub(crate) window_ms: u64,
}

#[derive(Args)]
pub(crate) struct Output {
    /// Print JSON instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the JSON there as well.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// One short round with few connections: it shows that all runs, and measures nothing.
    #[arg(long)]
    pub(crate) smoke: bool,
}

const ECHO_SERVERS: &str = "raon-io_uring,floor_single,floor_multishot,floor_multishot+skip,raon-epoll,epoll_raw,\
    mio_echo,tokio_echo,monoio_echo,compio_echo";
const BROADCAST_SERVERS: &str = "raon-io_uring+broadcast,floor_broadcast,floor_broadcast+skip,\
    raon-epoll+broadcast,epoll_broadcast,tokio_broadcast";
const DATAGRAM_SERVERS: &str = "raon-io_uring+datagrams,raon-io_uring+datagrams+coalesce,floor_datagram,\
    floor_datagram+offload,raon-epoll+datagrams,raon-epoll+datagrams+coalesce,epoll_datagram,epoll_datagram+offload,\
    tokio_datagram,quinn_udp";
const FRAMED_SERVERS: &str = "raon-engine-io_uring,framed_floor,raon-engine-epoll,framed_epoll,framed_tokio+per-session-buffer,\
    framed_tokio+tuned,framed_tokio";
const CONNECTIONS_SERVERS: &str = "raon-io_uring,raon-epoll,epoll_raw,tokio_echo";

/// Servers that are no part of the default comparisons, for `smoke`.
pub(crate) const ECHO_VARIANTS: &str =
    "floor_single_fixed,floor_single+poll-first,monoio_echo+default-flags,compio_echo+taskrun=defer";
pub(crate) const BROADCAST_VARIANTS: &str = "tokio_broadcast+direct";

/// The command lines of `smoke`: each comparison with all servers that it knows.
pub(crate) fn smoke() -> Vec<Vec<String>> {
    let words = |line: String| line.split(' ').map(String::from).collect();
    let echo = format!("--server {ECHO_SERVERS},{ECHO_VARIANTS}");
    let broadcast = format!("--server {BROADCAST_SERVERS},{BROADCAST_VARIANTS}");
    let lines = [
        format!("bytes {echo}"),
        format!("broadcast {broadcast}"),
        "datagrams".to_owned(),
        "framed".to_owned(),
        format!("memory {echo}"),
        "micro".to_owned(),
        "claims".to_owned(),
        format!("connections {echo}"),
        format!("entries {echo}"),
    ];
    lines.map(|line| words(format!("raon-bench {line} --smoke"))).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_smoke_asks_for_can_be_asked_for() {
        for line in smoke() {
            Arguments::try_parse_from(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        }
    }
}
