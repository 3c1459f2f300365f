//! Raon's own servers in the comparisons: the provider alone, as lean as a user would write them, and the engine. One more is a file in
//! `raon/`, a flag of [`Options`] and an arm in [`serve`]; `raon-FLAG-BACKEND` names it in a comparison.

mod broadcast;
mod datagrams;
mod echo;
mod engine;

use std::fmt::Display;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use raon_provider::{Backend, Completions, Config, Driver, Error, Operation, Outcome, SocketId, Submitter};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use crate::socket;

/// What differs between comparisons.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    backend: Backend,
    #[arg(long, default_value_t = 4096)]
    buffer_bytes: u32,
    /// Bytes of a bulk buffer; the provider's default if not given.
    #[arg(long)]
    bulk_bytes: Option<u32>,
    #[arg(long, default_value_t = 1024)]
    receive_count: u32,
    /// TCP congestion control of the accepted connections; the system's if not given.
    #[arg(long)]
    congestion: Option<String>,
    /// Every message to every member, instead of back to its sender.
    #[arg(long)]
    broadcast: bool,
    /// Datagrams instead of connections.
    #[arg(long, conflicts_with = "broadcast")]
    datagrams: bool,
    /// Frames, by the whole engine: sessions, limits, counters.
    #[arg(long, conflicts_with_all = ["broadcast", "datagrams", "report"])]
    engine: bool,
    /// Take datagrams of one sender together, where the kernel can.
    #[arg(long, requires = "datagrams")]
    coalesce: bool,
    /// Answer each line of stdin with a line of counters.
    #[arg(long)]
    report: bool,
    /// End when the process that started this one does.
    #[arg(long)]
    with_parent: bool,
}

/// What a server tells of its driver, all since its start.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Counters {
    pub(crate) kernel_entries: u64,
}

/// Serves until the process is killed.
pub(crate) fn serve(options: &Options) -> io::Result<()> {
    if options.with_parent {
        set_parent_process_death_signal(Some(Signal::KILL))?;
    }
    match options {
        Options { engine: true, .. } => engine::serve(options),
        Options { datagrams: true, .. } => datagrams::serve(options),
        Options { broadcast: true, .. } => serve_connections(options, broadcast::Broadcast::default()),
        _ => serve_connections(options, echo::Echo::default()),
    }
}

fn serve_connections(options: &Options, service: impl Service) -> io::Result<()> {
    let listener = socket::listener(options.listen, options.congestion.as_deref())?;
    let mut driver = Driver::open(&config(options)).map_err(io::Error::other)?;
    let listener = driver.adopt(listener).map_err(|refused| io::Error::other(refused.error))?;
    driver.accept(listener, 0).map_err(io::Error::other)?;
    announce(options, &driver, listener)?;
    run(driver, service).map_err(io::Error::other)
}

fn config(options: &Options) -> Config {
    let mut config = Config::default().with(|config| config.backend = options.backend);
    config.pool.buffer_bytes = options.buffer_bytes;
    config.pool.bulk_bytes = options.bulk_bytes.unwrap_or(config.pool.bulk_bytes);
    config.pool.receive_count = options.receive_count;
    config.pool.send_count = config.pool.send_count.min(options.receive_count);
    config
}

/// Says where the server is, and answers questions from then on if it is to.
fn announce(options: &Options, driver: &Driver, socket: SocketId) -> io::Result<()> {
    let address = driver.local_address(socket).map_err(io::Error::other)?;
    listening(address, driver.info().kind)?;
    if options.report {
        report(driver.submitter());
    }
    Ok(())
}

fn listening(address: impl Display, kind: impl Display) -> io::Result<()> {
    println!("listening on {address} ({kind})");
    io::stdout().flush()
}

/// Turns each line of stdin into a timer that is over at once: the services answer that by [`tell`], on the driver's thread
/// and without a question per completion.
fn report(submitter: Submitter) {
    std::thread::spawn(move || {
        for _ in io::stdin().lines() {
            // Refused by a driver that has ended only: then nobody asks any more.
            let _ = submitter.submit(Operation::Timer { after: Duration::ZERO }, 0);
        }
    });
}

fn tell(driver: &mut Driver) {
    let counters = Counters { kernel_entries: driver.stats().kernel_entries };
    println!("{}", serde_json::to_string(&counters).expect("a number can be written"));
    let _ = io::stdout().flush();
}

trait Service {
    fn on_completion(&mut self, driver: &mut Driver, client: SocketId, outcome: Outcome);
}

fn run(mut driver: Driver, mut service: impl Service) -> Result<(), Error> {
    let mut completions = Completions::with_capacity(1024);
    loop {
        driver.poll(None, &mut completions)?;
        while let Some(completion) = completions.pop() {
            service.on_completion(&mut driver, completion.socket, completion.outcome);
        }
    }
}
