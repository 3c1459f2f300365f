//! `raon info`: what this machine offers, and what limits it.

use std::process::ExitCode;

use clap::Args;
use raon_provider::{Availability, Backend, Completions, Config, Driver, Info, Kind};
use serde::Serialize;

use crate::failure::{Context, Failure};
use crate::platform::{self, Limit, Limits};
use crate::report;

const EXAMPLES: &str = "Examples:
  raon info
  raon info --json | jq .chosen
  RAON_BACKEND=epoll raon info";

/// Limits from which on nothing needs to be said.
const DESCRIPTORS_ENOUGH: u64 = 65_536;
const SOMAXCONN_ENOUGH: u64 = 4096;
const LOCKED_BYTES_ENOUGH: u64 = 8 << 20;
const LOCAL_PORTS_ENOUGH: u64 = 28_000;

/// Arguments of `raon info`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// One back end.
#[derive(Serialize)]
struct BackendReport {
    name: &'static str,
    available: bool,
    /// Why not.
    reason: Option<String>,
    features: Vec<FeatureReport>,
}

/// One feature of a back end.
#[derive(Serialize)]
struct FeatureReport {
    name: &'static str,
    in_use: bool,
    /// Why not.
    reason: Option<&'static str>,
}

/// What a driver has with the default configuration.
#[derive(Serialize)]
struct DriverReport {
    sockets_max: u32,
    operations_max: u32,
    depth: u32,
    receive_buffers: u32,
    receive_buffer_bytes: u32,
    pool_bytes: u64,
}

/// All of it.
#[derive(Serialize)]
struct Report {
    version: &'static str,
    kernel: String,
    cpus: usize,
    /// Those that `--pin` may name.
    cpus_usable: Vec<usize>,
    backends: Vec<BackendReport>,
    /// What `auto` means here; none if nothing works.
    chosen: Option<&'static str>,
    chosen_why: String,
    /// RAON_BACKEND, if it is set.
    environment: Option<String>,
    driver: Option<DriverReport>,
    limits: Limits,
    advice: Vec<String>,
}

/// Prints what this machine offers.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let report = gather()?;
    if arguments.json {
        report::print(report::json(&report));
    } else {
        report::print(text(&report));
    }
    Ok(if report.chosen.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn gather() -> Result<Report, Failure> {
    let available = Kind::available();
    let environment = environment(&available)?;
    let limits = platform::limits();
    let opened = open_best(&available, environment.as_deref());
    Ok(Report {
        version: env!("CARGO_PKG_VERSION"),
        kernel: opened.as_ref().map_or("unknown".into(), |info| info.kernel.clone()),
        cpus: platform::cpu_count(),
        cpus_usable: platform::usable_cpus(),
        chosen: opened.as_ref().map(|info| info.kind.name()),
        chosen_why: chosen_why(&available, environment.as_deref(), opened.as_ref()),
        backends: available.iter().map(backend_report).collect(),
        environment,
        driver: opened.as_ref().map(driver_report),
        advice: advice(&limits),
        limits,
    })
}

/// RAON_BACKEND, if it is set: then it names a back end of this system or `auto`.
pub(super) fn environment(available: &[Availability]) -> Result<Option<String>, Failure> {
    let environment = platform::backend_variable();
    if let Some(name) = &environment {
        let doing = format!("RAON_BACKEND={name}");
        let backend = name.parse::<Backend>().context(&doing)?;
        let is_listed = |kind| available.iter().any(|backend| backend.kind == kind);
        if let Backend::Named(kind) = backend
            && !is_listed(kind)
        {
            // One of another system, which says so; one that is listed has its reason in the list.
            Driver::open(&Config::named(kind)).map(drop).context(&doing)?;
        }
    }
    Ok(environment)
}

/// Opens what `auto` means, to see what it gets; not through `auto` itself, whose warning would come beside the report.
pub(super) fn open_best(available: &[Availability], environment: Option<&str>) -> Option<Info> {
    let open = |kind| {
        let mut driver = Driver::open(&Config::named(kind)).ok()?;
        let info = driver.info();
        driver.shutdown(&mut Completions::with_capacity(1));
        Some(info)
    };
    match environment.map(str::parse) {
        Some(Ok(Backend::Named(kind))) => open(kind),
        _ => available.iter().filter(|backend| backend.error.is_none()).find_map(|backend| open(backend.kind)),
    }
}

/// Why `auto` means what it means.
pub(super) fn chosen_why(available: &[Availability], environment: Option<&str>, opened: Option<&Info>) -> String {
    let Some(info) = opened else { return "no back end works here, see the reasons above".into() };
    if let Some(name) = environment.filter(|name| name.parse() == Ok(info.kind)) {
        return format!("RAON_BACKEND={name} replaces auto");
    }
    let passed_over = available.iter().take_while(|backend| backend.kind != info.kind);
    let names: Vec<&str> = passed_over.map(|backend| backend.kind.name()).collect();
    if names.is_empty() {
        return "the first in order of preference, and it works here".into();
    }
    format!("{} cannot be had here, for the reason above", names.join(" and "))
}

fn backend_report(availability: &Availability) -> BackendReport {
    let features = availability.features.iter().map(|state| FeatureReport {
        name: state.feature.name(),
        in_use: state.in_use,
        reason: (!state.in_use).then_some(state.reason),
    });
    BackendReport {
        name: availability.kind.name(),
        available: availability.error.is_none(),
        reason: availability.error.map(|error| error.to_string()),
        features: features.collect(),
    }
}

fn driver_report(info: &Info) -> DriverReport {
    DriverReport {
        sockets_max: info.sockets_max,
        operations_max: info.operations_max,
        depth: info.depth,
        receive_buffers: info.receive_buffers.0,
        receive_buffer_bytes: info.receive_buffers.1,
        pool_bytes: info.pool_bytes,
    }
}

fn advice(limits: &Limits) -> Vec<String> {
    let mut advice = Vec::new();
    let Limit { soft, hard } = limits.descriptors;
    if hard.is_some_and(|hard| hard < DESCRIPTORS_ENOUGH) {
        let most = report::grouped(hard.unwrap_or(0));
        let text = "raise the hard limit (`LimitNOFILE=` of systemd, or limits.conf)";
        advice.push(format!("a process may hold at most {most} connections: {text}"));
    } else if soft.is_some_and(|soft| soft < DESCRIPTORS_ENOUGH) {
        let text = "`raon` raises it to the hard limit by itself; a server of your own must too, or use `ulimit -n`";
        advice.push(format!("the soft limit of descriptors is low: {text}"));
    }
    if limits.locked_memory_bytes.soft.is_some_and(|bytes| bytes < LOCKED_BYTES_ENOUGH) {
        advice.push("the locked-memory limit is low: before Linux 5.12 io_uring counts against it; `ulimit -l`".into());
    }
    if limits.somaxconn.is_some_and(|backlog| backlog < SOMAXCONN_ENOUGH) {
        let text = format!("`sysctl -w net.core.somaxconn={SOMAXCONN_ENOUGH}`");
        advice.push(format!("bursts of connections may be dropped before they are accepted: {text}"));
    }
    if let Some((first, last)) =
        limits.local_ports.filter(|(first, last)| last.saturating_sub(*first) < LOCAL_PORTS_ENOUGH)
    {
        let text = "`sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"`";
        advice.push(format!(
            "one address can be loaded with {} connections only: {text}",
            last.saturating_sub(first) + 1
        ));
    }
    advice
}

fn text(report: &Report) -> String {
    let mut table = report::table(&["back end", "available", "features in use", "not in use"], true);
    for backend in &report.backends {
        let available = backend.reason.as_ref().map_or("yes".into(), |reason| format!("no: {reason}"));
        let in_use = backend.features.iter().filter(|feature| feature.in_use).map(|feature| feature.name);
        let missing =
            backend.features.iter().filter_map(|feature| Some(format!("{}: {}", feature.name, feature.reason?)));
        table.add_row([
            backend.name.to_owned(),
            available,
            in_use.collect::<Vec<_>>().join("\n"),
            missing.collect::<Vec<_>>().join("\n"),
        ]);
    }
    report::fit(&mut table);
    let chosen = report.chosen.unwrap_or("nothing");
    let mut text =
        format!("raon {} on {}, {}\n\n", report.version, report.kernel, report::plural(report.cpus as u64, "CPU"));
    text.push_str(&format!("{}\n\n", report::lines(&table)));
    text.push_str(&format!("auto chooses {chosen}: {}\n\n", report.chosen_why));
    text.push_str(&report::rows(&limit_rows(report)));
    if !report.advice.is_empty() {
        text.push('\n');
    }
    for advice in &report.advice {
        text.push_str(&format!("\nadvice: {advice}"));
    }
    text
}

fn limit_rows(report: &Report) -> Vec<(&'static str, String)> {
    let limits = &report.limits;
    let either = |limit: Limit, text: fn(u64) -> String| {
        let text = |value: Option<u64>| value.map_or("unlimited".into(), text);
        format!("{} soft, {} hard", text(limit.soft), text(limit.hard))
    };
    let mut rows = vec![
        ("descriptors", either(limits.descriptors, report::grouped)),
        ("locked memory", either(limits.locked_memory_bytes, report::bytes)),
        ("somaxconn", report::optional(limits.somaxconn, report::grouped)),
        ("local ports", report::optional(limits.local_ports, |(first, last)| format!("{first} to {last}"))),
    ];
    if let Some(driver) = &report.driver {
        let buffers = format!("{} of {}", driver.receive_buffers, report::bytes(driver.receive_buffer_bytes.into()));
        rows.extend([
            ("sockets per driver", report::grouped(driver.sockets_max.into())),
            ("requests per kernel entry", report::grouped(driver.depth.into())),
            ("receive buffers", buffers),
            ("buffer memory, touched when used", report::bytes(driver.pool_bytes)),
        ]);
    }
    rows
}
