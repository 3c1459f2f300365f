//! Shards and listeners that end before the server is stopped: it is said, nobody hangs, and the server does what is
//! configured.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use common::{BACKENDS, PATIENCE, address_of};
use raon::{
    Application, CloseReason, Context, MailboxRefusal, Message, OnPanic, OnShardFailure, Raw, Server, ServerBuilder,
    ServerConfig, ServerError, ServerHandle, ServerState, SessionId, ShardFailure, SimPeer, Simulation,
};

/// Memory of a message that panics when it is dropped: outside of all callbacks if its session is gone.
struct Thorn;

impl AsRef<[u8]> for Thorn {
    fn as_ref(&self) -> &[u8] {
        b"boom"
    }
}

impl Drop for Thorn {
    fn drop(&mut self) {
        panic!("a thorn");
    }
}

/// Ends a shard by something that is about none of its sessions.
fn break_shard(handle: &ServerHandle<Echo>, shard: usize) {
    let nobody = SessionId::from_bits((shard as u64) << 56 | 0xff_ffff << 32);
    handle.send_shared(nobody, (), Bytes::from_owner(Thorn)).unwrap();
}

/// What all instances have seen.
#[derive(Default)]
struct Seen {
    sessions: Vec<SessionId>,
    closes: u32,
}

/// Echoes. `thorn` makes a callback panic.
struct Echo(Arc<Mutex<Seen>>);

impl Application for Echo {
    type Framing = Raw;
    type Session = ();
    type Post = ();

    fn on_open(&mut self, ctx: &mut Context<'_, Self>) {
        self.0.lock().unwrap().sessions.push(ctx.id());
    }

    fn on_message(&mut self, ctx: &mut Context<'_, Self>, _session: &mut (), message: Message<'_, ()>) {
        if &message[..] == b"thorn" {
            std::panic::resume_unwind(Box::new("a callback"));
        }
        ctx.reply((), &message);
    }

    fn on_close(&mut self, _ctx: &mut Context<'_, Self>, _session: (), _reason: CloseReason) {
        self.0.lock().unwrap().closes += 1;
    }
}

fn echo(change: impl FnOnce(&mut ServerConfig)) -> (ServerBuilder<Echo>, Arc<Mutex<Seen>>) {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let shared = seen.clone();
    let builder = Server::builder().listen("127.0.0.1:0").workers(3).configure(change);
    (builder.application(Raw, move |_| Echo(shared.clone())), seen)
}

/// A client that has been answered.
fn client_of(handle: &ServerHandle<Echo>) -> TcpStream {
    let mut client = TcpStream::connect(address_of(handle)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    client
}

/// A session of this shard.
fn session_of(seen: &Mutex<Seen>, shard: usize) -> SessionId {
    *seen.lock().unwrap().sessions.iter().find(|id| id.shard() == shard).expect("sessions are spread over all shards")
}

fn is_panic_of(result: Result<(), ServerError>, number: usize) -> bool {
    matches!(result, Err(ServerError::ShardFailed { shard, failure: ShardFailure::Panic(message) })
        if shard == number && message.contains("a thorn"))
}

#[test]
fn a_shard_that_panics_stops_the_server() {
    for (shard, backend) in [0, 1].into_iter().flat_map(|shard| BACKENDS.map(|backend| (shard, backend))) {
        let (server, seen) = echo(|config| (config.backend, config.close_timeout_ms) = (backend.into(), 2000));
        let server = server.start().unwrap();
        let handle = server.handle().clone();
        let clients: Vec<TcpStream> = (0..6).map(|_| client_of(&handle)).collect();
        assert_eq!(handle.state(), ServerState::Running);
        break_shard(&handle, shard);
        for mut client in clients {
            // In order, or as a reset if it was of the shard that is gone.
            let end = client.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
            assert!(matches!(end, Ok(0) | Err(std::io::ErrorKind::ConnectionReset)), "{backend}: {end:?}");
        }
        assert!(is_panic_of(server.join(), shard), "{backend}: the shard and the cause are named");
        let (stats, seen) = (handle.stats(), seen.lock().unwrap());
        assert_eq!((stats.shard_failures, stats.sessions, stats.opened), (1, 0, 6), "{backend}: {stats}");
        assert_eq!((seen.closes, handle.sessions()), (6, 0), "{backend}: each open has one close, places come back");
        assert_eq!(handle.state(), ServerState::Ended);
        assert_eq!(handle.send(SessionId::NONE, (), b"x"), Err(MailboxRefusal::Closed));
    }
}

#[test]
fn the_others_go_on_and_nobody_hangs() {
    for (shard, backend) in [0, 1].into_iter().flat_map(|shard| BACKENDS.map(|backend| (shard, backend))) {
        let (server, seen) = echo(|config| {
            (config.backend, config.on_shard_failure) = (backend.into(), OnShardFailure::GoOn);
        });
        let server = server.start().unwrap();
        let handle = server.handle().clone();
        let mut clients: Vec<TcpStream> = (0..6).map(|_| client_of(&handle)).collect();
        let gone = session_of(&seen, shard);
        break_shard(&handle, shard);
        common::until("the shard to end", || handle.stats().shard_failures == 1);
        common::until("its places to come back", || handle.sessions() == 4);
        assert_eq!((handle.state(), handle.send(gone, (), b"x")), (ServerState::Degraded, Err(MailboxRefusal::Closed)));
        // Whoever comes now is served, also if the shard that accepted is the one that is gone.
        clients.extend((0..12).map(|_| client_of(&handle)));
        assert_eq!(handle.shard_stats()[shard].opened, 2, "{backend}: not there");
        assert_eq!(handle.sessions(), 16, "{backend}");
        handle.stop(Duration::ZERO);
        assert!(is_panic_of(server.join(), shard), "{backend}");
        assert_eq!(seen.lock().unwrap().closes, 18, "{backend}");
    }
}

fn hear(simulation: &mut Simulation, client: &mut SimPeer) -> Option<Vec<u8>> {
    let (mut bytes, mut heard) = ([0; 64], None);
    simulation.run_until(Duration::from_secs(2), || {
        heard = match client.read(&mut bytes) {
            Ok(None) => None,
            Ok(Some(length)) => Some(bytes[..length].to_vec()),
            Err(_) => Some(Vec::new()),
        };
        heard.is_some()
    });
    heard
}

#[test]
fn the_others_go_on_in_simulation() {
    for seed in 0..30 {
        let plan = raon::FaultPlan::default().with(|plan| plan.latency_max = Duration::from_millis(5));
        let mut simulation = Simulation::with_faults(seed, plan);
        let (server, seen) = echo(|config| config.on_shard_failure = OnShardFailure::GoOn);
        let handle = simulation.serve(server).unwrap();
        let _first: Vec<SimPeer> = (0..6).map(|_| simulation.connect()).collect();
        simulation.run_for(Duration::from_millis(50));
        let shard = (seed % 3) as usize;
        // Some are on their way, to any shard, while it ends.
        let mut clients: Vec<SimPeer> = (0..20).map(|_| simulation.connect()).collect();
        simulation.run_for(Duration::from_millis(seed % 11));
        break_shard(&handle, shard);
        simulation.run_for(Duration::from_millis(200));
        // A connect that met the moment in which nobody listened is refused, and tries again.
        for client in &mut clients {
            if client.write(b"x").is_err() || hear(&mut simulation, client) != Some(b"x".to_vec()) {
                *client = simulation.connect();
                simulation.run_until(Duration::from_secs(1), || client.is_connected());
                client.write(b"x").unwrap();
                assert_eq!(hear(&mut simulation, client), Some(b"x".to_vec()), "seed {seed}: {}", handle.stats());
            }
        }
        let stats = handle.stats();
        assert_eq!((stats.shard_failures, handle.sessions()), (1, stats.sessions as usize), "seed {seed}: {stats}");
        handle.stop(Duration::ZERO);
        let end = simulation.run_to_end(Duration::from_secs(5)).map(drop);
        assert!(is_panic_of(end, shard), "seed {seed}");
        assert_eq!((handle.sessions(), handle.state()), (0, ServerState::Ended), "seed {seed}");
        let seen = seen.lock().unwrap();
        assert_eq!(seen.closes as usize, seen.sessions.len(), "seed {seed}: each open has one close");
    }
}

#[test]
fn connections_on_their_way_to_a_shard_that_fails_go_to_another() {
    for seed in 0..60 {
        let mut simulation = Simulation::new(seed);
        let (server, _) = echo(|config| config.on_shard_failure = OnShardFailure::GoOn);
        let handle = simulation.serve(server).unwrap();
        let _first: Vec<SimPeer> = (0..6).map(|_| simulation.connect()).collect();
        simulation.run_for(Duration::from_millis(50));
        let mut clients: Vec<SimPeer> = (0..9).map(|_| simulation.connect()).collect();
        // They come into the mailbox before what ends the shard, or behind it.
        (0..seed % 4).for_each(|_| simulation.step());
        break_shard(&handle, 1);
        simulation.run_for(Duration::from_millis(50));
        let was_opened = |handle: &ServerHandle<Echo>| handle.shard_stats()[1].opened - 2;
        let lost = was_opened(&handle);
        let answered = clients.iter_mut().map(|client| {
            let _ = client.write(b"x");
            u64::from(hear(&mut simulation, client) == Some(b"x".to_vec()))
        });
        // Those that had a session there by then are reset with it.
        assert_eq!(answered.sum::<u64>() + lost, 9, "seed {seed}: {}", handle.stats());
        handle.stop(Duration::ZERO);
        assert!(is_panic_of(simulation.run_to_end(Duration::from_secs(5)).map(drop), 1), "seed {seed}");
        assert_eq!(handle.sessions(), 0, "seed {seed}");
    }
}

#[test]
fn a_shard_that_is_stopped_by_a_callback_is_a_shard_that_has_failed() {
    for then in [OnShardFailure::StopServer, OnShardFailure::GoOn] {
        let (server, seen) = echo(|config| (config.on_panic, config.on_shard_failure) = (OnPanic::StopShard, then));
        let server = server.start().unwrap();
        let handle = server.handle().clone();
        // One by one, until the shard that accepts has one.
        let mut clients = Vec::new();
        while !seen.lock().unwrap().sessions.iter().any(|id| id.shard() == 0) {
            clients.push(client_of(&handle));
        }
        clients.last_mut().unwrap().write_all(b"thorn").unwrap();
        common::until("the shard to end", || handle.stats().shard_failures == 1);
        if then == OnShardFailure::GoOn {
            (0..6).for_each(|_| drop(client_of(&handle)));
            handle.stop(Duration::ZERO);
        }
        let ended = server.join();
        let is_callback = matches!(ended, Err(ServerError::ShardFailed { shard: 0, failure: ShardFailure::Callback }));
        assert!(is_callback, "{then:?}: {ended:?}");
    }
}

#[test]
fn a_factory_that_panics_is_an_error_of_the_start() {
    let server = Server::builder().listen("127.0.0.1:0").workers(2).application(Raw, |shard| {
        assert_eq!(shard.number, 0, "a thorn");
        Echo(Arc::default())
    });
    assert!(is_panic_of(server.start().map(drop), 1));
}

/// Listeners that somebody else shuts down, as Linux lets any process that has them.
#[cfg(target_os = "linux")]
mod listeners {
    use std::net::{Shutdown, TcpListener};
    use std::time::Instant;

    use super::*;

    /// How the server ends after somebody has shut its listener down.
    fn join_in_time(server: raon::RunningServer<Echo>) -> Result<(), ServerError> {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || tell.send(server.join()));
        told.recv_timeout(PATIENCE).expect("it ends by itself")
    }

    #[test]
    fn a_listener_that_has_ended_is_an_end_of_the_server_or_is_told() {
        for (then, backend) in BACKENDS
            .into_iter()
            .flat_map(|backend| [OnShardFailure::StopServer, OnShardFailure::GoOn].map(|then| (then, backend)))
        {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let other = listener.try_clone().unwrap();
            let (server, _) = echo(|config| (config.backend, config.on_shard_failure) = (backend.into(), then));
            let server = server.listener(listener).start().unwrap();
            let handle = server.handle().clone();
            let mut client = client_of(&handle);
            socket2::SockRef::from(&other).shutdown(Shutdown::Read).unwrap();
            if then == OnShardFailure::GoOn {
                common::until("it to be said", || handle.state() == ServerState::Degraded);
                client.write_all(b"y").unwrap();
                client.read_exact(&mut [0]).unwrap();
                handle.stop(Duration::ZERO);
            }
            let ended = join_in_time(server);
            let is_told =
                matches!(ended, Err(ServerError::ShardFailed { shard: 0, failure: ShardFailure::Listener(_) }));
            assert!(
                is_told && handle.stats().listener_failures > 0,
                "{backend}, {then:?}: {ended:?}, {}",
                handle.stats()
            );
        }
    }

    /// The listener that this process has at that address, by another handle.
    fn listener_at(address: std::net::SocketAddr) -> socket2::Socket {
        use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
        let own = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        let handles = (3..4096).filter_map(|number| pidfd_getfd(&own, number, PidfdGetfdFlags::empty()).ok());
        let mut sockets = handles.map(socket2::Socket::from);
        let is_it = |socket: &socket2::Socket| {
            let at = socket.local_addr().ok().and_then(|at| at.as_socket());
            at == Some(address) && socket.is_listener().unwrap_or(false)
        };
        sockets.find(is_it).expect("the server listens")
    }

    #[test]
    fn a_listener_that_the_server_has_bound_is_opened_again() {
        for backend in BACKENDS {
            let (server, _) = echo(|config| config.backend = backend.into());
            let server = server.start().unwrap();
            let handle = server.handle().clone();
            let _before = client_of(&handle);
            for round in 1..=7 {
                listener_at(address_of(&handle)).shutdown(Shutdown::Read).unwrap();
                common::until("it to be said", || handle.stats().listener_failures == round);
                let deadline = Instant::now() + PATIENCE;
                while TcpStream::connect(address_of(&handle)).is_err() {
                    assert!(Instant::now() < deadline, "{backend}: it listens again");
                }
                drop(client_of(&handle));
            }
            assert_eq!(handle.state(), ServerState::Running, "{backend}: each time it was found in order again");
            handle.stop(Duration::ZERO);
            server.join().unwrap();
        }
    }
}
