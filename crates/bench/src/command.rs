//! Each command, from its arguments to its report.

use std::io;
use std::path::Path;
use std::time::Duration;

use clap::Parser;

use crate::arguments::{self, Arguments, Command, Output, Windows};
use crate::broadcast::Broadcast;
use crate::machine::Machine;
use crate::memory::Effort;
use crate::report::{Form, Report, progress};
use crate::rounds::{self, Load, Plan};
use crate::server::{self, Server};
use crate::workload::{self, SMOKE_CONNECTIONS};
use crate::{claims, connections, entries, framed, machine, memory, micro, raon};

/// Does what was asked for.
pub(crate) fn run(command: Command) -> io::Result<()> {
    match command {
        Command::Bytes { server, workload, plot, windows, output } => {
            let loads = chosen(workload::BYTES, &workload, &output)?;
            compare(&server, &loads, &windows, &output)?.finish(plot.as_deref())
        }
        Command::Broadcast { server, members, plot, windows, output } => {
            let loads = chosen([Broadcast { members }], &[""; 0], &output)?;
            compare(&server, &loads, &windows, &output)?.finish(plot.as_deref())
        }
        Command::Datagrams { server, workload, plot, windows, output } => {
            let loads = chosen(workload::DATAGRAMS, &workload, &output)?;
            compare(&server, &loads, &windows, &output)?.finish(plot.as_deref())
        }
        Command::Memory { server, idle, rounds, plot, output } => {
            let mut report = report(&output)?;
            let effort = Effort::new("M", idle, rounds);
            add_memory(&mut report, &prepare(&server, &output)?, effort, &output)?;
            report.finish(plot.as_deref())
        }
        Command::Framed { server, workload, plot, windows, output } => {
            compare_framed(&server, &workload, &windows, &output)?.finish(plot.as_deref())
        }
        Command::Micro { only: Some(only), batches: Some(batches), .. } => {
            micro::count(&only, batches).map_err(io::Error::other)
        }
        Command::Micro { rounds, output, .. } => compare_micro(rounds, &output),
        Command::Claims { windows, output } => compare_claims(&windows, &output),
        Command::Connections { server, connections, seconds, rounds, output } => {
            compare_connections(&server, connections, seconds, rounds, &output)
        }
        Command::Entries { server, seconds, output } => {
            let duration = window(u64::from(seconds) * 1000, &output);
            let mut report = report(&output)?;
            let figures = entries::measure(&prepare(&server, &output)?, duration, progress)?;
            let checked = entries::check(&figures);
            report.add_entries(figures);
            report.finish(None).and(checked)
        }
        Command::Smoke => arguments::smoke().into_iter().try_for_each(|line| run(Arguments::parse_from(line).command)),
        Command::Plot { results, out } => draw(&results, &out),
        Command::Serve(options) => raon::serve(&options),
    }
}

fn report(output: &Output) -> io::Result<Report> {
    if cfg!(debug_assertions) && !output.smoke {
        let text = "this is not an optimised build: `cargo run --release -p raon-bench` measures, `--smoke` only tries";
        return Err(io::Error::other(text));
    }
    let form = match output {
        Output { json: true, .. } => Form::Json,
        Output { smoke: true, .. } => Form::Smoke,
        _ => Form::Tables,
    };
    Ok(Report::new(Machine::here(), form, output.out.clone()))
}

fn prepare(names: &[impl AsRef<str>], output: &Output) -> io::Result<Vec<Server>> {
    let servers: Vec<Server> = names.iter().map(|name| Server::named(name.as_ref())).collect::<Result<_, _>>()?;
    if servers.iter().any(|server| !server.is_raon()) {
        server::build_peers()?;
    }
    machine::pin_generator();
    if servers.is_empty() && !output.smoke { Err(io::Error::other("no server is named")) } else { Ok(servers) }
}

fn window(window_ms: u64, output: &Output) -> Duration {
    Duration::from_millis(if output.smoke { 50 } else { window_ms })
}

/// The loads of these names, or all.
fn chosen<L: Load, const N: usize>(all: [L; N], names: &[impl AsRef<str>], output: &Output) -> io::Result<Vec<L>> {
    let is_known = |name: &str| all.iter().any(|load| load.name().eq_ignore_ascii_case(name));
    if let Some(unknown) = names.iter().map(AsRef::as_ref).find(|name| !is_known(name)) {
        let known = all.each_ref().map(|load| load.name()).join(", ");
        return Err(io::Error::other(format!("there is no workload {unknown}, only {known}")));
    }
    let is_wanted = |load: &L| names.iter().any(|name| load.name().eq_ignore_ascii_case(name.as_ref()));
    let wanted = all.into_iter().filter(|load| names.is_empty() || is_wanted(load));
    Ok(wanted.map(|load| if output.smoke { load.smoke() } else { load }).collect())
}

fn compare(names: &[impl AsRef<str>], loads: &[impl Load], windows: &Windows, output: &Output) -> io::Result<Report> {
    let mut report = report(output)?;
    let servers = prepare(names, output)?;
    let window = window(windows.window_ms, output);
    let rounds = if output.smoke { 1 } else { windows.rounds };
    let plan = Plan { rounds, warm_up: window / 3, window, is_smoke: output.smoke };
    for load in loads {
        let figures = rounds::measure(&servers, load, plan, progress)?;
        report.add(load, figures);
    }
    Ok(report)
}

fn add_memory(report: &mut Report, servers: &[Server], effort: Effort, output: &Output) -> io::Result<()> {
    let effort = if output.smoke { effort.smoke() } else { effort };
    report.add_memory(effort, memory::measure(servers, effort, progress)?);
    Ok(())
}

/// F6 is memory, all others are loads.
fn compare_framed(names: &[String], workloads: &[String], windows: &Windows, output: &Output) -> io::Result<Report> {
    const MEMORY: Effort = Effort::new("F6", 10_000, 5);
    let (memory, others): (Vec<&str>, Vec<&str>) =
        workloads.iter().map(String::as_str).partition(|name| name.eq_ignore_ascii_case(MEMORY.name));
    let is_memory_alone = !memory.is_empty() && others.is_empty();
    let loads = if is_memory_alone { Vec::new() } else { chosen(framed::FRAMED, &others, output)? };
    let mut report = compare(names, &loads, windows, output)?;
    if workloads.is_empty() || !memory.is_empty() {
        add_memory(&mut report, &prepare(names, output)?, MEMORY, output)?;
    }
    Ok(report)
}

fn compare_claims(windows: &Windows, output: &Output) -> io::Result<()> {
    let loads = chosen(workload::BYTES, &claims::WORKLOADS, output)?;
    let mut report = compare(&claims::SERVERS, &loads, windows, output)?;
    report.add_iopoll(claims::iopoll()?);
    report.finish(None)
}

fn compare_connections(
    names: &[String],
    connections: usize,
    seconds: u32,
    rounds: usize,
    output: &Output,
) -> io::Result<()> {
    let mut report = report(output)?;
    let servers = prepare(names, output)?;
    let plan = connections::Plan {
        connections: if output.smoke { connections.min(SMOKE_CONNECTIONS) } else { connections },
        window: window(u64::from(seconds) * 1000, output),
        rounds: if output.smoke { 1 } else { rounds },
        settle: Duration::from_millis(if output.smoke { 20 } else { 500 }),
    };
    let figures = connections::measure(&servers, plan, progress)?;
    let checked = connections::check(&figures);
    report.add_connections(figures);
    report.finish(None).and(checked)
}

fn compare_micro(rounds: usize, output: &Output) -> io::Result<()> {
    let mut report = report(output)?;
    let effort = match output.smoke {
        true => micro::Effort { rounds: 1, window: Duration::from_millis(1) },
        false => micro::Effort { rounds, window: Duration::from_millis(50) },
    };
    report.add_micro(micro::measure(effort, progress).map_err(io::Error::other)?);
    report.finish(None)
}

fn draw(results: &Path, out: &Path) -> io::Result<()> {
    let report = Report::read(results)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", results.display())))?;
    report.draw(out)
}
