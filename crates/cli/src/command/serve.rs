//! `raon serve`: a server of raw bytes.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use clap::{Args, ValueEnum};
use raon_provider::{Address, Backend, Config, Driver, Kind, ListenOptions, SocketId, Submitter};
use serde::Serialize;

use crate::arguments::{self, Threads};
use crate::echo_server::{Loads, Service, Tally, Worker};
use crate::failure::{Context, Failure};
use crate::stop::Stop;
use crate::{platform, report};

const EXAMPLES: &str = "Examples:
  raon serve echo
  raon serve echo --listen [::]:9000 --workers 4 --pin 0-3
  raon serve sink --listen 127.0.0.1:0 --backend epoll
  raon serve echo --listen unix:/tmp/echo.sock             a path that no server holds any more is taken over
  raon serve echo --listen unix:@echo                      a name that is in no file system

Ctrl-C or SIGTERM stops it: connections get 2 seconds to end, then the summary is printed on standard error.";

/// Arguments of `raon serve`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// What to do with the bytes that come: echo sends them back, sink drops them
    service: ServiceName,
    /// Where to listen: ADDRESS:PORT (port 0 takes any free one), unix:/PATH or unix:@NAME
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000", value_parser = arguments::address)]
    listen: Address,
    #[command(flatten)]
    threads: Threads,
    /// Prints the summary as one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum ServiceName {
    Echo,
    Sink,
}

/// What the server did in its life, as `--json` prints it.
#[derive(Serialize)]
struct Summary {
    backend: &'static str,
    workers: u16,
    duration_s: f64,
    #[serde(flatten)]
    tally: Tally,
}

/// What all workers share.
#[derive(Clone)]
struct Shared {
    service: Service,
    loads: Arc<Loads>,
    stop: Arc<Stop>,
}

/// A worker that is ready to run.
struct Ready {
    submitter: Submitter,
    kind: Kind,
    /// Of the worker that listens.
    address: Option<Address>,
}

/// A worker to be started.
struct Start {
    number: usize,
    backend: Backend,
    cpu: Option<usize>,
    /// The first worker listens, once it knows the others.
    listen: Option<(Address, Receiver<Vec<Submitter>>)>,
}

type Thread = JoinHandle<Result<Tally, Failure>>;

/// Serves until it is told to stop.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    if arguments.threads.with_parent {
        platform::end_with_parent()?;
    }
    platform::raise_descriptor_limit();
    let service = match arguments.service {
        ServiceName::Echo => Service::Echo,
        ServiceName::Sink => Service::Sink,
    };
    let loads = Arc::new(Loads::new(usize::from(arguments.threads.workers)));
    let shared = Shared { service, loads, stop: Stop::install()? };
    let start = Instant::now();
    let (threads, kind) = start_all(arguments, &shared)?;
    let mut total = Tally::default();
    for thread in threads {
        total.add(thread.join().map_err(|_| Failure::new("a worker thread has died, see above: please report it"))??);
    }
    let duration_s = start.elapsed().as_secs_f64();
    summarize(
        arguments,
        &Summary { backend: kind.name(), workers: arguments.threads.workers, duration_s, tally: total },
    );
    Ok(ExitCode::SUCCESS)
}

/// Starts all workers and says where they listen. The first one chooses the back end for all.
fn start_all(arguments: &Arguments, shared: &Shared) -> Result<(Vec<Thread>, Kind), Failure> {
    let threads = &arguments.threads;
    let (meet, colleagues) = mpsc::channel();
    let listen = Some((arguments.listen.clone(), colleagues));
    let first = Start { number: 0, backend: threads.backend, cpu: threads.cpu(0), listen };
    let (thread, first) = start(first, shared)?;
    let mut all = vec![thread];
    let mut submitters = Vec::new();
    for number in 1..usize::from(threads.workers) {
        let backend = Backend::Named(first.kind);
        let (thread, ready) = start(Start { number, backend, cpu: threads.cpu(number), listen: None }, shared)?;
        all.push(thread);
        submitters.push(ready.submitter);
    }
    // Before the line below, which says that it accepts; it has not gone away while it waits for this.
    let _ = meet.send(submitters);
    let address = first.address.unwrap_or_else(|| arguments.listen.clone());
    report::print(format_args!("listening on {address} ({})", first.kind));
    Ok((all, first.kind))
}

fn start(start: Start, shared: &Shared) -> Result<(Thread, Ready), Failure> {
    let shared = shared.clone();
    let (tell, told) = mpsc::channel();
    let name = format!("serve-{}", start.number);
    let work = move || work(start, shared, &tell);
    let thread = thread::Builder::new().name(name).spawn(work).context("cannot start a thread")?;
    match told.recv() {
        Ok(ready) => Ok((thread, ready)),
        // It ended before it was ready: it says why.
        Err(_) => match thread.join() {
            Ok(Err(failure)) => Err(failure),
            _ => Err(Failure::new("a worker thread has died, see above: please report it")),
        },
    }
}

/// The life of a worker, on its own thread.
fn work(start: Start, shared: Shared, tell: &Sender<Ready>) -> Result<Tally, Failure> {
    if let Some(cpu) = start.cpu {
        platform::pin_thread(cpu)?;
    }
    let config = Config { backend: start.backend, ..Config::default() };
    let mut driver = Driver::open(&config).map_err(|error| super::backend_failure(start.backend, error))?;
    let listener = start.listen.as_ref().map(|(address, _)| listen(&mut driver, address)).transpose()?;
    let address = listener.and_then(|listener| driver.local_address(listener).ok());
    let ready = Ready { submitter: driver.submitter(), kind: driver.info().kind, address };
    let stop = shared.stop.clone();
    let mut worker = Worker::new(driver, shared.service, start.number, shared.loads, shared.stop);
    // If nobody listens, starting another worker failed and the process ends.
    let _ = tell.send(ready);
    let ready = match (listener, &start.listen) {
        (Some(listener), Some((_, colleagues))) => worker.accept(listener, colleagues),
        _ => Ok(()),
    };
    let done = ready.and_then(|()| worker.run());
    // One that fails takes the others along; one that was told to stop finds that said.
    stop.ask();
    done.context("the driver cannot go on")
}

fn listen(driver: &mut Driver, address: &Address) -> Result<SocketId, Failure> {
    driver.listen(address, &ListenOptions::default()).map_err(|error| {
        let is_nowhere = io::Error::from_raw_os_error(error.os_code()).kind() == io::ErrorKind::NotFound;
        match address.ip() {
            None if is_nowhere => {
                Failure::new(format!("cannot listen on {address}: its folder does not exist; make it"))
            }
            _ => Failure::of(format!("cannot listen on {address}"), error),
        }
    })
}

fn summarize(arguments: &Arguments, summary: &Summary) {
    let tally = &summary.tally;
    if arguments.json {
        eprintln!("{}", serde_json::to_string(summary).unwrap_or_default());
        return;
    }
    if io::stderr().is_terminal() {
        // Below the ^C that the terminal has drawn.
        eprintln!();
    }
    let mut entries = report::grouped(tally.kernel_entries);
    // With fewer, it is the connections that were paid for.
    if tally.messages > 10 * tally.connections {
        entries += &format!(" ({:.3} per message)", tally.kernel_entries as f64 / tally.messages as f64);
    }
    let rows = [
        ("connections", report::grouped(tally.connections)),
        ("refused", report::grouped(tally.refused)),
        ("messages", report::grouped(tally.messages)),
        ("received", report::bytes(tally.received_bytes)),
        ("sent", report::bytes(tally.sent_bytes)),
        ("kernel entries", entries),
        ("errors", report::grouped(tally.errors)),
    ];
    eprintln!("served for {:.1} s on {}\n{}", summary.duration_s, summary.backend, report::rows(&rows));
}
