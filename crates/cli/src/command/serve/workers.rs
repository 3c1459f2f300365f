//! The threads of a server: the first one chooses the back end and the port for all.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use raon_provider::{Address, Backend, BindOptions, Config, Driver, Error, Kind, ListenOptions, Submitter};

use super::{Arguments, Total};
use crate::echo_server::{Loads, Service, Worker};
use crate::failure::{Context, Failure};
use crate::stop::Stop;
use crate::{arguments, datagram_server, datagrams, platform, report};

/// What all workers share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) service: Service,
    pub(super) loads: Arc<Loads>,
    pub(super) stop: Arc<Stop>,
}

/// What a worker is there for.
enum Duty {
    /// Connections that it accepts, for itself and, once it knows them, for the others.
    Accept(Address, Receiver<Vec<Submitter>>),
    /// Connections that it is given.
    Serve,
    /// Datagrams that come there.
    Datagrams(Address, BindOptions),
}

/// A worker to be started.
struct Start {
    number: usize,
    config: Config,
    cpu: Option<usize>,
    duty: Duty,
}

/// A worker that is ready to run.
struct Ready {
    submitter: Submitter,
    kind: Kind,
    /// Where it listens itself.
    address: Option<Address>,
}

pub(super) type Thread = JoinHandle<Result<Total, Failure>>;

/// Starts all workers and says where they listen.
pub(super) fn start_all(arguments: &Arguments, shared: &Shared) -> Result<(Vec<Thread>, Kind), Failure> {
    let threads = &arguments.threads;
    let (meet, colleagues) = mpsc::channel();
    let shares = threads.workers() > 1;
    let duty = match arguments.udp {
        true => datagram_duty(arguments, &arguments.listen(), shares)?,
        false => Duty::Accept(arguments.listen(), colleagues),
    };
    let (thread, first) =
        start(Start { number: 0, config: threads.config(threads.backend()), cpu: threads.cpu(0), duty }, shared)?;
    let address = first.address.unwrap_or_else(|| arguments.listen());
    let (mut all, mut submitters) = (vec![thread], Vec::new());
    for number in 1..usize::from(threads.workers()) {
        let config = threads.config(Backend::Named(first.kind));
        let duty = if arguments.udp { datagrams_at(arguments, address.clone(), shares) } else { Duty::Serve };
        let (thread, ready) = start(Start { number, config, cpu: threads.cpu(number), duty }, shared)?;
        all.push(thread);
        submitters.push(ready.submitter);
    }
    // Before the line below, which says that it accepts; who wants it has not gone away while it waits for this.
    let _ = meet.send(submitters);
    let transport = if arguments.udp { ", UDP" } else { "" };
    report::print(format_args!("listening on {address} ({}{transport})", first.kind));
    Ok((all, first.kind))
}

/// The first worker's. A port that is shared on purpose would be shared in silence with another server that does the same.
fn datagram_duty(arguments: &Arguments, address: &Address, shares: bool) -> Result<Duty, Failure> {
    if let (true, Some(ip)) = (shares, address.ip()) {
        let free = UdpSocket::bind(ip).map(drop);
        free.map_err(Error::from).context(format!("cannot listen on {address}"))?;
    }
    Ok(datagrams_at(arguments, address.clone(), shares))
}

fn datagrams_at(arguments: &Arguments, address: Address, shares: bool) -> Duty {
    let options = datagrams::bind_options(arguments.datagram_bytes_max());
    Duty::Datagrams(address, options.with(|options| options.reuse_port = shares))
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
            _ => Err(died()),
        },
    }
}

pub(super) fn died() -> Failure {
    Failure::new("a worker thread has died, see above: please report it")
}

/// The life of a worker, on its own thread.
fn work(start: Start, shared: Shared, tell: &Sender<Ready>) -> Result<Total, Failure> {
    if let Some(cpu) = start.cpu {
        platform::pin_thread(cpu)?;
    }
    let config = match &start.duty {
        Duty::Datagrams(_, options) => datagram_server::config(start.config, options.datagram_bytes_max),
        _ => start.config,
    };
    let driver = Driver::open(&config).map_err(|error| arguments::backend_failure(config.backend, error))?;
    let stop = shared.stop.clone();
    let done = match start.duty {
        Duty::Accept(address, colleagues) => accept(driver, &address, &colleagues, shared, tell),
        Duty::Serve => serve(driver, start.number, shared, tell),
        Duty::Datagrams(address, options) => datagrams(driver, &address, &options, shared, tell),
    };
    // One that fails takes the others along; one that was told to stop finds that said.
    stop.ask();
    done
}

fn accept(
    mut driver: Driver,
    address: &Address,
    colleagues: &Receiver<Vec<Submitter>>,
    shared: Shared,
    tell: &Sender<Ready>,
) -> Result<Total, Failure> {
    let listener = driver.listen(address, &ListenOptions::default()).map_err(|error| cannot_listen(address, error))?;
    say_ready(&driver, driver.local_address(listener).ok(), tell);
    let mut worker = Worker::new(driver, shared.service, 0, shared.loads, shared.stop);
    let done = worker.accept(listener, colleagues).and_then(|()| worker.run());
    done.map(|tally| Total { streams: Some(tally), datagrams: None }).context(GOES_NOT_ON)
}

fn serve(driver: Driver, number: usize, shared: Shared, tell: &Sender<Ready>) -> Result<Total, Failure> {
    say_ready(&driver, None, tell);
    let done = Worker::new(driver, shared.service, number, shared.loads, shared.stop).run();
    done.map(|tally| Total { streams: Some(tally), datagrams: None }).context(GOES_NOT_ON)
}

fn datagrams(
    mut driver: Driver,
    address: &Address,
    options: &BindOptions,
    shared: Shared,
    tell: &Sender<Ready>,
) -> Result<Total, Failure> {
    let socket = driver.bind(address, options).map_err(|error| cannot_listen(address, error))?;
    say_ready(&driver, driver.local_address(socket).ok(), tell);
    let done = datagram_server::Worker::new(driver, socket, shared.service, shared.stop).run();
    done.map(|tally| Total { streams: None, datagrams: Some(tally) }).context(GOES_NOT_ON)
}

const GOES_NOT_ON: &str = "the driver cannot go on";

fn say_ready(driver: &Driver, address: Option<Address>, tell: &Sender<Ready>) {
    // If nobody listens, starting another worker failed and the process ends.
    let _ = tell.send(Ready { submitter: driver.submitter(), kind: driver.info().kind, address });
}

pub(super) fn cannot_listen(address: &Address, error: Error) -> Failure {
    let doing = format!("cannot listen on {address}");
    let is_nowhere = std::io::Error::from_raw_os_error(error.os_code()).kind() == std::io::ErrorKind::NotFound;
    match address.ip() {
        None if is_nowhere => Failure::of(doing, "its folder does not exist; make it, or choose another one"),
        _ => Failure::of(doing, error),
    }
}
