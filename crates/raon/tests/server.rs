//! Servers on threads: how they start, where they listen, who gets the connections.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{BACKENDS, PATIENCE, address_of};
use raon::{Application, Context, Kind, Message, Raw, Server, ServerBuilder, ServerConfig, ServerError};

/// Echoes; the factory notes what it was told, and where.
struct Echo;

impl Application for Echo {
    type Framing = Raw;
    type Session = ();
    type Post = ();

    fn on_open(&mut self, _ctx: &mut Context<'_, Self>) {}

    fn on_message(&mut self, ctx: &mut Context<'_, Self>, _session: &mut (), message: Message<'_, ()>) {
        ctx.reply((), &message);
    }
}

/// Each shard: its number, the number of shards, the back end, the cores that its thread may use.
type Told = Arc<Mutex<Vec<(usize, usize, Kind, String)>>>;

fn server(change: impl FnOnce(&mut ServerConfig)) -> (ServerBuilder<Echo>, Told) {
    let told = Told::default();
    let shared = told.clone();
    let builder = Server::builder().listen("127.0.0.1:0").workers(2).configure(change);
    let builder = builder.application(Raw, move |shard| {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        let cores = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let cores = cores.unwrap_or_default().trim().to_owned();
        shared.lock().unwrap().push((shard.number, shard.count, shard.backend, cores));
        Echo
    });
    (builder, told)
}

fn echo(mut client: impl Read + Write) {
    let mut bytes = [0; 5];
    client.write_all(b"hello").unwrap();
    client.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");
}

fn connect(address: std::net::SocketAddr, count: usize) -> Vec<TcpStream> {
    let client = |_| {
        let client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        echo(&client);
        client
    };
    (0..count).map(client).collect()
}

#[test]
fn connections_are_spread_over_the_shards() {
    // Not every system spreads the connections of a shared port.
    let ways: &[bool] = if cfg!(any(target_os = "linux", target_os = "freebsd")) { &[false, true] } else { &[false] };
    for (backend, reuse_port) in BACKENDS.into_iter().flat_map(|backend| ways.iter().map(move |way| (backend, *way))) {
        let (builder, told) = server(|config| {
            config.backend = backend.into();
            config.reuse_port = reuse_port;
        });
        let running = builder.start().unwrap();
        let handle = running.handle().clone();
        let clients = connect(address_of(&handle), 40);
        common::until("all to be counted", || handle.stats().opened == 40);
        let per_shard: Vec<u64> = handle.shard_stats().iter().map(|stats| stats.opened).collect();
        // The system spreads by a hash; the hand-off, by the number of sessions.
        let is_spread = per_shard.iter().all(|count| if reuse_port { *count > 0 } else { *count == 20 });
        assert!(is_spread, "{backend}, reuse_port {reuse_port}: {per_shard:?}");
        let accepted: Vec<bool> = handle.shard_stats().iter().map(|stats| stats.accepted > 0).collect();
        assert_eq!(accepted, [true, reuse_port], "{backend}");
        let told = told.lock().unwrap().clone();
        let numbers: Vec<_> = told.iter().map(|(number, count, kind, _)| (*number, *count, kind.name())).collect();
        assert_eq!(numbers, [(0, 2, backend), (1, 2, backend)]);
        drop(clients);
        handle.stop(Duration::from_secs(1));
        running.join().unwrap();
    }
}

/// Elsewhere threads stay where the system puts them.
#[cfg(target_os = "linux")]
#[test]
fn pinned_shards_stay_on_a_core_each() {
    let (builder, told) = server(|config| config.pin_shards = true);
    let running = builder.start().unwrap();
    running.handle().stop(Duration::ZERO);
    running.join().unwrap();
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|(.., cores)| cores.parse::<u32>().is_ok()), "one core each: {told:?}");
}

#[cfg(unix)]
#[test]
fn a_server_listens_on_a_unix_socket() {
    let name = format!("raon-test-{}", std::process::id());
    let path = std::env::temp_dir().join(&name);
    for backend in BACKENDS {
        let (builder, _) = server(|config| {
            config.backend = backend.into();
            config.listen = format!("unix:{}", path.display());
            config.sessions_per_address_max = 1;
        });
        let running = builder.start().unwrap();
        // Peers without an address are not counted by it.
        let clients: Vec<UnixStream> = (0..3).map(|_| UnixStream::connect(&path).unwrap()).collect();
        clients.iter().for_each(echo);
        drop(clients);
        running.handle().stop(Duration::from_secs(1));
        running.join().unwrap();
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn what_is_wrong_is_said_at_the_start() {
    let (builder, _) = server(|config| {
        config.backend = "magic".into();
        config.watermark_low_bytes = 1 << 30;
    });
    match builder.start().err() {
        Some(ServerError::Config(errors)) => assert_eq!(errors.iter().count(), 2, "{errors}"),
        other => panic!("{other:?}"),
    }
    let (builder, _) = server(|_| {});
    let running = builder.start().unwrap();
    let taken = address_of(running.handle());
    let (builder, _) = server(|config| config.listen = taken.to_string());
    let error = builder.start().err().expect("the address is taken").to_string();
    assert!(error.contains("address in use"), "{error}");
    running.handle().stop(Duration::ZERO);
    running.join().unwrap();
}
