//! Servers on the engine: how they are configured, started and stopped, and what they report.

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use raon::{
    Application, CloseReason, Packet, Profile, RunningServer, Server, ServerConfig, ServerError, ServerStats, ShardInfo,
};
use raon_provider::{Backend, Driver, ErrorKind, Kind};
use serde::Serialize;
use serde_json::{Map, Value};

use super::workers::{cannot_listen, died};
use super::{Arguments, start_line};
use crate::arguments::{self, Cpus};
use crate::chat::{Chat, LINES};
use crate::failure::Failure;
use crate::pingpong::{Pingpong, Rules};
use crate::{platform, report};

const GRACE: Duration = Duration::from_secs(2);

/// What the server did in its life, as `--json` prints it. The names are stable.
#[derive(Serialize)]
struct Summary {
    service: &'static str,
    backend: &'static str,
    workers: u32,
    duration_s: f64,
    /// Connections that came.
    accepted: u64,
    /// Of those, the ones that became sessions.
    sessions: u64,
    /// Of those, the ones that the application let in.
    #[serde(skip_serializing_if = "Option::is_none")]
    clients: Option<u64>,
    messages: u64,
    messages_queued: u64,
    received_bytes: u64,
    sent_bytes: u64,
    /// Messages that were refused at a bound, dropped because they might be, or lost with their session.
    refused: u64,
    dropped: u64,
    lost: u64,
    panics: u64,
    /// Sessions that did not end in time.
    forced: u64,
    /// Ends by reason: the engine's names, and in place of `application` those of the application.
    closed: Map<String, Value>,
}

/// Packets: connect, then ping and pong.
pub(super) fn pingpong(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let mut config = config(arguments)?;
    let is_set = arguments.engine.clients_max.is_some() || config.sessions_max != ServerConfig::default().sessions_max;
    let clients_max = arguments.engine.clients_max.unwrap_or(config.sessions_max);
    // The default follows the descriptors that the process may have: then none are kept for those that are turned away.
    if is_set {
        config.sessions_max = sessions_for(clients_max);
    }
    let versions = arguments.engine.client_versions.as_ref().map_or(0..=u32::MAX, |versions| versions.0.clone());
    let rules = Arc::new(Rules::new(versions, clients_max));
    let shared = rules.clone();
    let mut summary = serve(arguments, "pingpong", config, Packet::new(), move |_shard| Pingpong::new(shared.clone()))?;
    summary.clients = Some(rules.connected());
    // Its reasons are those of all ends by the application.
    if let Some(place) = summary.closed.remove(APPLICATION) {
        debug_assert_eq!(place.as_u64(), Some(rules.ends().map(|(_, count)| count).sum()));
        let ends = rules.ends().filter(|(_, count)| *count > 0);
        summary.closed.extend(ends.map(|(name, count)| (name.to_owned(), count.into())));
    }
    tell(arguments, &summary);
    Ok(ExitCode::SUCCESS)
}

/// Lines, rooms and names.
pub(super) fn chat(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let summary = serve(arguments, "chat", config(arguments)?, LINES, |_shard| Chat)?;
    tell(arguments, &summary);
    Ok(ExitCode::SUCCESS)
}

/// The name under which the engine counts what applications end.
const APPLICATION: &str = CloseReason::Application(0).name();

/// Most sessions, so that so many clients can play and others be told that they cannot.
fn sessions_for(clients_max: u32) -> u32 {
    /// Connections that are about to be told, at any time, at the least.
    const GUESTS_MIN: u32 = 64;
    // An eighth more, for many that come at once. Beyond it connections are closed without an answer.
    clients_max.saturating_add((clients_max / 8).max(GUESTS_MIN))
}

/// The profile, the file over it, the environment over that, the arguments over all.
fn config(arguments: &Arguments) -> Result<ServerConfig, Failure> {
    let profile = arguments.engine.profile.as_deref().map(|name| match name {
        "public" => Profile::Public,
        _ => Profile::Lan,
    });
    let loaded = ServerConfig::load_with(arguments.engine.config.as_deref(), profile);
    let mut config = loaded.map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Failure::of("the configuration is wrong", lines.join("; ").replace('\n', " "))
    })?;
    if let Some(address) = &arguments.listen {
        config.listen = address.to_string();
    }
    if let Some(workers) = arguments.threads.workers {
        config.workers = workers.into();
    }
    if let Some(backend) = arguments.threads.backend {
        config.backend = match backend {
            Backend::Auto => "auto".into(),
            Backend::Named(kind) => kind.name().into(),
        };
    }
    config.validate().map_err(|errors| Failure::usage(errors.to_string().replace('\n', "; ")))?;
    Ok(config)
}

/// Serves until it is told to stop, or cannot go on.
fn serve<A: Application>(
    arguments: &Arguments,
    service: &'static str,
    mut config: ServerConfig,
    framing: A::Framing,
    application: impl Fn(ShardInfo) -> A + Send + Sync + 'static,
) -> Result<Summary, Failure> {
    if let Some(cpus) = &arguments.threads.pin {
        check_cpus(cpus)?;
        // The factory does it, on each shard's thread.
        config.pin_shards = false;
    }
    let kind = choose(&config)?;
    config.backend = kind.name().into();
    if config.workers == 0 {
        config.workers = platform::cpu_count().min(raon::SHARDS_MAX) as u32;
    }
    let (listen, workers, threads) = (config.listen.clone(), config.workers, arguments.threads.clone());
    let stop = arguments.threads.stop()?;
    let start = Instant::now();
    let factory = move |shard: ShardInfo| {
        // It has worked on another thread just now; where it does not any more the shard runs all the same.
        let _ = threads.cpu(shard.number).map(platform::pin_thread);
        application(shard)
    };
    let server = Server::builder().config(config).application(framing, factory).start();
    let server: RunningServer<A> = server.map_err(|error| cannot_start(&listen, error))?;
    let handle = server.handle().clone();
    let address = handle.address().map_or(listen, ToString::to_string);
    report::print(format_args!("listening on {address} ({kind}, {service})"));
    let (stopped, grace) = (handle.clone(), arguments.engine.grace.unwrap_or(GRACE));
    stop.tells(move || stopped.stop(grace));
    server.join().map_err(|error| Failure::of("the server cannot go on", error))?;
    Ok(summary(service, kind, workers, start.elapsed(), &handle.stats()))
}

/// The back end that works here. Asked for before the start, so that what is wrong with it has the name of who wanted it.
fn choose(config: &ServerConfig) -> Result<Kind, Failure> {
    let backend = config.backend.parse().unwrap_or_default();
    let opened = Driver::open(&raon_provider::Config::default().with(|config| config.backend = backend));
    opened.map(|driver| driver.info().kind).map_err(|error| arguments::backend_failure(backend, error))
}

/// Whether threads may be pinned there.
fn check_cpus(cpus: &Cpus) -> Result<(), Failure> {
    let cpus = cpus.0.clone();
    let tried = thread::spawn(move || cpus.into_iter().try_for_each(platform::pin_thread));
    tried.join().map_err(|_| died())?
}

fn cannot_start(listen: &str, error: ServerError) -> Failure {
    let of_listener =
        [ErrorKind::AddressInUse, ErrorKind::AddressNotAvailable, ErrorKind::NotFound, ErrorKind::PermissionDenied];
    match (error, listen.parse()) {
        (ServerError::Provider(error), Ok(address)) if of_listener.contains(&error.kind()) => {
            cannot_listen(&address, error)
        }
        (error, _) => Failure::of("the server did not start", error.to_string().replace('\n', "; ")),
    }
}

fn summary(service: &'static str, kind: Kind, workers: u32, life: Duration, stats: &ServerStats) -> Summary {
    let closed = stats.closed_by_reason().filter(|(_, count)| *count > 0);
    Summary {
        service,
        backend: kind.name(),
        workers,
        duration_s: life.as_secs_f64(),
        accepted: stats.accepted,
        sessions: stats.opened,
        clients: None,
        messages: stats.messages_received,
        messages_queued: stats.messages_queued,
        received_bytes: stats.bytes_received,
        sent_bytes: stats.bytes_handed_over,
        refused: stats.messages_refused,
        dropped: stats.messages_dropped,
        lost: stats.messages_lost,
        panics: stats.panics,
        forced: stats.forced,
        closed: closed.map(|(name, count)| (name.to_owned(), count.into())).collect(),
    }
}

fn tell(arguments: &Arguments, summary: &Summary) {
    if arguments.json {
        eprintln!("{}", serde_json::to_string(summary).unwrap_or_default());
        return;
    }
    start_line();
    let counted = |count: u64, bytes: u64| format!("{} ({})", report::grouped(count), report::bytes(bytes));
    let mut rows = vec![
        ("connections".to_owned(), report::grouped(summary.accepted)),
        ("sessions".to_owned(), report::grouped(summary.sessions)),
    ];
    rows.extend(summary.clients.map(|clients| ("clients let in".to_owned(), report::grouped(clients))));
    rows.extend([
        ("messages received".to_owned(), counted(summary.messages, summary.received_bytes)),
        ("messages queued".to_owned(), counted(summary.messages_queued, summary.sent_bytes)),
        ("refused, no room".to_owned(), report::grouped(summary.refused)),
        ("dropped".to_owned(), report::grouped(summary.dropped)),
        ("lost with their session".to_owned(), report::grouped(summary.lost)),
    ]);
    let unusual = [("callbacks that panicked", summary.panics), ("sessions ended by force", summary.forced)];
    rows.extend(
        unusual
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| ((*name).to_owned(), report::grouped(*count))),
    );
    for (reason, count) in &summary.closed {
        rows.push((format!("ended: {}", reason.replace('_', " ")), report::grouped(count.as_u64().unwrap_or(0))));
    }
    let rows: Vec<(&str, String)> = rows.iter().map(|(name, figure)| (name.as_str(), figure.clone())).collect();
    let (duration_s, workers) = (summary.duration_s, report::plural(summary.workers.into(), "worker"));
    eprintln!(
        "served {} for {duration_s:.1} s on {}, {workers}\n{}",
        summary.service,
        summary.backend,
        report::rows(&rows)
    );
}
