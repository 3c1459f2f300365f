//! The workers of a load as one: they enter each phase together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};

use raon_provider::{Backend, Config, Driver, Error, Kind};

use super::datagrams::Datagrams;
use super::{Generator, Live, Load, Plan, Tally};
use crate::arguments::Threads;
use crate::failure::{Context, Failure};
use crate::platform;
use crate::progress::TICK;
use crate::stop::Stop;
use crate::{arguments, datagrams};

/// What workers can be told to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Phase {
    /// Open the connections that do nothing.
    OpenIdle,
    /// Open those that exchange messages, or those of them that were lost.
    OpenActive,
    /// Exchange messages for some time, then await the answers.
    Run(Load),
    /// Close all connections.
    Close,
}

/// What can be seen of all workers together.
pub(crate) struct Status {
    pub(crate) connected: u64,
    pub(crate) connect_errors: u64,
    pub(crate) messages: u64,
    pub(crate) errors: u64,
    /// Datagrams.
    pub(crate) lost: u64,
}

/// All workers.
pub(crate) struct Crew {
    members: Vec<Member>,
    reports: Receiver<Result<Tally, Failure>>,
    /// What the workers run on.
    pub(crate) kind: Kind,
}

struct Member {
    orders: Sender<Phase>,
    live: Arc<Live>,
    thread: JoinHandle<()>,
}

impl Crew {
    /// Starts a worker per plan. The first one chooses the back end for all.
    pub(crate) fn start(plans: Vec<Plan>, threads: &Threads, stop: &Arc<Stop>) -> Result<Self, Failure> {
        let (report, reports) = mpsc::channel();
        let mut members = Vec::new();
        let mut backend = threads.backend();
        for (number, plan) in plans.into_iter().enumerate() {
            let (member, kind) =
                start(number, plan, threads.config(backend), threads.cpu(number), stop.clone(), report.clone())?;
            members.push(member);
            backend = Backend::Named(kind);
        }
        let Backend::Named(kind) = backend else { return Err(Failure::usage("a load needs a worker")) };
        Ok(Crew { members, reports, kind })
    }

    /// Lets all workers do a phase and waits until they have; meanwhile `watch` is told now and then how they are.
    /// Returns what they have measured in it, together.
    pub(crate) fn perform(&self, phase: Phase, mut watch: impl FnMut(&Status)) -> Result<Tally, Failure> {
        for member in &self.members {
            // One that has died is found below.
            let _ = member.orders.send(phase);
        }
        let mut total = Tally::new();
        let mut awaited = self.members.len();
        while awaited > 0 {
            match self.reports.recv_timeout(TICK) {
                Ok(report) => {
                    total.add(report?);
                    awaited -= 1;
                }
                Err(RecvTimeoutError::Timeout) => self.check_alive()?,
                Err(RecvTimeoutError::Disconnected) => return Err(died()),
            }
            watch(&self.status());
        }
        Ok(total)
    }

    fn check_alive(&self) -> Result<(), Failure> {
        let has_died = self.members.iter().any(|member| member.thread.is_finished());
        if has_died { Err(died()) } else { Ok(()) }
    }

    fn status(&self) -> Status {
        let sum = |figure: fn(&Live) -> &AtomicU64| {
            self.members.iter().map(|member| figure(&member.live).load(Ordering::Relaxed)).sum()
        };
        Status {
            connected: sum(|live| &live.connected),
            connect_errors: sum(|live| &live.connect_errors),
            messages: sum(|live| &live.messages),
            errors: sum(|live| &live.errors),
            lost: sum(|live| &live.lost),
        }
    }

    /// Ends the workers.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        for Member { orders, thread, .. } in self.members {
            drop(orders);
            thread.join().map_err(|_| died())?;
        }
        Ok(())
    }
}

fn died() -> Failure {
    Failure::new("a worker thread has died, see above: please report it with the command line")
}

fn start(
    number: usize,
    plan: Plan,
    config: Config,
    cpu: Option<usize>,
    stop: Arc<Stop>,
    report: Sender<Result<Tally, Failure>>,
) -> Result<(Member, Kind), Failure> {
    let (orders, ordered) = mpsc::channel();
    let (opened, is_open) = mpsc::channel();
    let live = Arc::new(Live::default());
    let seen = live.clone();
    let work = move || match open(&plan, config, cpu) {
        Ok(driver) => {
            let _ = opened.send(Ok(driver.info().kind));
            obey(driver, plan, stop, seen, &ordered, &report);
        }
        Err(failure) => {
            let _ = opened.send(Err(failure));
        }
    };
    let thread = thread::Builder::new().name(format!("load-{number}")).spawn(work).context("cannot start a thread")?;
    let kind = is_open.recv().map_err(|_| died())??;
    Ok((Member { orders, live, thread }, kind))
}

fn open(plan: &Plan, default: Config, cpu: Option<usize>) -> Result<Driver, Failure> {
    if let Some(cpu) = cpu {
        platform::pin_thread(cpu)?;
    }
    platform::wake_on_time();
    let sockets_max = default.sockets_max.max(plan.connections + plan.idle + 64);
    // A receive stream each, and some sends in flight.
    let operations_max = default.operations_max.max(2 * sockets_max).min(1 << 19);
    let pool = plan.datagram_timeout.map_or(default.pool, |_| datagrams::pool(plan.size_bytes as u32));
    let config = default.with(|config| {
        config.sockets_max = sockets_max;
        config.operations_max = operations_max;
        config.pool = pool;
    });
    Driver::open(&config).map_err(|error| arguments::backend_failure(config.backend, error))
}

/// Does what it is told until nobody tells it any more.
fn obey(
    driver: Driver,
    plan: Plan,
    stop: Arc<Stop>,
    live: Arc<Live>,
    ordered: &Receiver<Phase>,
    report: &Sender<Result<Tally, Failure>>,
) {
    let mut perform: Box<dyn FnMut(Phase) -> Result<Tally, Error>> = match plan.datagram_timeout.zip(plan.address.ip())
    {
        Some((timeout, server)) => {
            let mut worker = Datagrams::new(driver, plan, server, timeout, stop, live);
            Box::new(move |phase| worker.perform(phase))
        }
        None => {
            let mut worker = Generator::new(driver, plan, stop, live);
            Box::new(move |phase| worker.perform(phase))
        }
    };
    while let Ok(phase) = ordered.recv() {
        // Nobody listens if the command has ended.
        let _ = report.send(perform(phase).context("the driver cannot go on"));
    }
}
