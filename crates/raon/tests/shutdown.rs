//! End of a server, and how the next one takes its listener over.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::frames::{Frames, packet};
use common::{BACKENDS, PATIENCE, address_of};
use raon::{
    Address, Application, CloseReason, Context, Message, Packet, PacketHead, Raw, Server, ServerConfig, ServerHandle,
    SimPeer, Simulation,
};
use raon_conformance::vacant::Vacant;

/// Echoes, says goodbye, and answers id 2 with a lot.
struct Polite;

impl Application for Polite {
    type Framing = Packet;
    type Session = ();
    type Post = ();

    fn on_open(&mut self, ctx: &mut Context<'_, Self>) {
        ctx.group("all").join();
    }

    fn on_message(&mut self, ctx: &mut Context<'_, Self>, _session: &mut (), message: Message<'_, PacketHead>) {
        if message.head().id == 2 {
            for _ in 0..200 {
                ctx.reply(PacketHead { id: 3 }, &[0; 1000]);
            }
        }
        ctx.reply(message.head(), &message);
    }

    fn on_shutdown(&mut self, ctx: &mut Context<'_, Self>) {
        ctx.group("all").broadcast_here(None, PacketHead { id: 99 }, b"goodbye");
    }
}

fn serve(clients: usize) -> (Simulation, ServerHandle<Polite>, Vec<SimPeer>) {
    serve_with(clients, |_| {})
}

fn serve_with(
    clients: usize,
    change: impl FnOnce(&mut ServerConfig),
) -> (Simulation, ServerHandle<Polite>, Vec<SimPeer>) {
    let plan = raon::FaultPlan::default().with(|plan| {
        plan.send_buffer_bytes = 16_384;
        plan.receive_buffer_bytes = 16_384;
    });
    let mut simulation = Simulation::with_faults(1, plan);
    let server = Server::builder().workers(2).configure(change).application(Packet::new(), |_| Polite);
    let handle = simulation.serve(server).unwrap();
    let clients = (0..clients).map(|_| simulation.connect()).collect();
    simulation.run_for(Duration::from_millis(10));
    (simulation, handle, clients)
}

#[test]
fn everybody_hears_the_goodbye_and_then_the_end() {
    let (mut simulation, handle, mut clients) = serve(4);
    clients[0].write(&packet(1, b"last words")).unwrap();
    handle.stop(Duration::from_secs(10));
    let mut all: Vec<Frames> = clients.iter().map(|_| Frames::default()).collect();
    let are_over = simulation.run_until(Duration::from_secs(5), || {
        for (frames, client) in all.iter_mut().zip(&mut clients) {
            frames.read(client, 4096);
        }
        all.iter().all(|frames| frames.end == Some(true))
    });
    assert!(are_over, "{}", handle.stats());
    assert!(all.iter().all(|frames| frames.last().unwrap().1 == b"goodbye"));
    let refused = simulation.connect();
    drop(clients);
    assert!(simulation.run_to_end(Duration::from_secs(1)).unwrap());
    assert!(!refused.is_connected(), "nobody is let in any more");
    let stats = handle.stats();
    assert_eq!((stats.closed_for(CloseReason::Shutdown), stats.forced, handle.sessions()), (4, 0, 0), "{stats}");
}

#[test]
fn what_waits_is_delivered_first_if_its_peer_reads_in_time() {
    let (mut simulation, handle, mut clients) = serve(1);
    clients[0].write(&packet(2, b"much")).unwrap();
    simulation.run_for(Duration::from_millis(10));
    handle.stop(Duration::from_secs(10));
    let mut frames = Frames::default();
    simulation.run_until(Duration::from_secs(9), || {
        frames.read(&mut clients[0], 4096);
        frames.end.is_some()
    });
    assert_eq!((frames.count(), frames.end), (202, Some(true)), "200, the echo and the goodbye");
}

#[test]
fn a_peer_that_never_reads_is_reset_when_the_grace_is_over() {
    let (mut simulation, handle, mut clients) = serve(2);
    clients[0].write(&packet(2, b"much")).unwrap();
    simulation.run_for(Duration::from_millis(10));
    let start_ns = simulation.network().now_ns();
    handle.stop(Duration::from_secs(4));
    assert!(simulation.run_to_end(Duration::from_secs(20)).unwrap());
    let took = Duration::from_nanos(simulation.network().now_ns() - start_ns);
    assert!((Duration::from_secs(4)..Duration::from_millis(4100)).contains(&took), "{took:?}");
    let stats = handle.stats();
    assert!(stats.forced > 0 && stats.memory_bytes == 0, "{stats}");
    assert_eq!((handle.sessions(), stats.closed_for(CloseReason::Shutdown)), (0, 2), "{stats}");
    let mut frames = Frames::default();
    simulation.run_until(Duration::from_secs(1), || {
        frames.read(&mut clients[0], 65_536);
        frames.end.is_some()
    });
    assert_eq!(frames.end, Some(false), "a reset");
}

#[test]
fn a_stopped_shard_takes_nothing_any_more() {
    let (mut simulation, handle, clients) = serve(1);
    handle.stop(Duration::ZERO);
    assert!(simulation.run_to_end(Duration::from_secs(1)).unwrap());
    let id = raon::SessionId::from_bits(1);
    assert_eq!(handle.send(id, PacketHead { id: 1 }, b"x"), Err(raon::MailboxRefusal::Closed));
    assert_eq!(handle.post(1, ()).unwrap_err().refusal, raon::MailboxRefusal::Closed);
    drop(clients);
}

#[test]
fn a_server_on_threads_ends_within_its_grace() {
    for backend in BACKENDS {
        // Somebody else may have the port of a server that has ended, but not each time.
        let vacant = (0..10).find_map(|_| Vacant::at(&end_within_the_grace(backend)));
        let vacant = vacant.expect("the listener has closed");
        assert!(TcpStream::connect(vacant.ip()).is_err(), "{backend}: nobody listens any more");
    }
}

/// Starts a server, ends it with a client that never reads, and returns where it has listened.
fn end_within_the_grace(backend: &str) -> Address {
    let server = Server::builder()
        .listen("127.0.0.1:0")
        .workers(2)
        .configure(|config| config.backend = backend.into())
        .application(Packet::new(), |_| Polite)
        .start()
        .unwrap();
    let handle = server.handle().clone();
    let mut clients: Vec<TcpStream> = (0..6).map(|_| TcpStream::connect(address_of(&handle)).unwrap()).collect();
    common::until("all to be in", || handle.stats().opened == 6);
    // One never reads, and has more waiting than the system takes.
    clients[0].write_all(&packet(2, b"much")).unwrap();
    handle.stop(Duration::from_millis(500));
    let mut heard = Vec::new();
    clients[1].set_read_timeout(Some(PATIENCE)).unwrap();
    clients[1].read_to_end(&mut heard).unwrap();
    assert_eq!(heard, packet(99, b"goodbye"), "{backend}");
    let stopped = std::time::Instant::now();
    server.join().unwrap();
    assert!(stopped.elapsed() < Duration::from_secs(3), "{backend}: it does not wait for those who do not end");
    assert_eq!((handle.sessions(), handle.stats().closed()), (0, 6), "{backend}: {}", handle.stats());
    handle.address().unwrap().clone()
}

/// Played in a process of its own by the test below: a server on the listener that it has inherited.
#[test]
fn inherited_child() {
    if std::env::var_os("LISTEN_FDS").is_none() {
        return;
    }
    let server =
        Server::builder().listen("inherit").workers(2).framing(Raw).on_message(|ctx, message| ctx.reply(message));
    let server = server.start().unwrap();
    let handle = server.handle().clone();
    common::until("a session to come", || handle.stats().opened == 1);
    handle.stop(Duration::from_millis(300));
    server.join().unwrap();
}

/// As systemd hands it over.
#[cfg(unix)]
#[test]
fn a_listener_is_inherited_with_the_connections_that_wait_in_it() {
    use std::process::{Command, Stdio};

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    // It connects before the server is there, and is served all the same.
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.write_all(b"early").unwrap();
    let program = std::env::current_exe().unwrap();
    let script = "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" --exact inherited_child";
    let child = Command::new("sh")
        .args(["-c", script])
        .arg(program)
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    let heard = client.read_to_end(&mut bytes);
    let child = child.wait_with_output().unwrap();
    let words = [child.stdout, child.stderr].concat();
    assert!(child.status.success(), "{}: {}", child.status, String::from_utf8_lossy(&words));
    assert_eq!((heard.unwrap(), bytes.as_slice()), (5, &b"early"[..]));
}

#[test]
fn without_an_inherited_listener_the_server_says_so() {
    if std::env::var_os("LISTEN_FDS").is_some() {
        return;
    }
    let server = Server::builder().listen("inherit").workers(1).framing(Raw).start();
    let error = server.err().expect("there is none").to_string();
    assert!(error.contains("LISTEN_FDS"), "{error}");
}

/// What was called by a timer, of applications that set some for later than the server lives.
#[derive(Default)]
struct Early {
    opens: AtomicU32,
    calls: AtomicU32,
}

/// Sets timers that never come due.
struct Patient(Arc<Early>);

impl Application for Patient {
    type Framing = Raw;
    type Session = ();
    type Post = ();

    fn on_open(&mut self, ctx: &mut Context<'_, Self>) {
        ctx.set_timer(Duration::from_secs(3600), 42).unwrap();
        self.0.opens.fetch_add(1, Ordering::SeqCst);
    }

    fn on_message(&mut self, _ctx: &mut Context<'_, Self>, _session: &mut (), _message: Message<'_, ()>) {}

    fn on_heartbeat(&mut self, _ctx: &mut Context<'_, Self>, _session: &mut ()) {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
    }

    fn on_tick(&mut self, _ctx: &mut Context<'_, Self>) {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
    }

    fn on_timer(&mut self, _ctx: &mut Context<'_, Self>, _token: u64) {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
    }
}

fn patient(early: &Arc<Early>, backend: &str) -> raon::ServerBuilder<Patient> {
    let shared = early.clone();
    let builder = Server::builder().listen("127.0.0.1:0").workers(1).configure(|config| {
        (config.backend, config.tick_ms, config.heartbeat_every_ms) = (backend.into(), 3_600_000, 3_600_000);
    });
    builder.application(Raw, move |_| Patient(shared.clone()))
}

#[test]
fn no_timer_fires_because_the_server_ends() {
    for backend in BACKENDS {
        let early = Arc::new(Early::default());
        let server = patient(&early, backend).start().unwrap();
        let handle = server.handle().clone();
        let client = TcpStream::connect(address_of(&handle)).unwrap();
        common::until("it to be in", || early.opens.load(Ordering::SeqCst) == 1);
        handle.stop(Duration::from_millis(50));
        server.join().unwrap();
        drop(client);
        assert_eq!((early.calls.load(Ordering::SeqCst), handle.stats().timers), (0, 0), "{backend}");
    }
    let (early, mut simulation) = (Arc::new(Early::default()), Simulation::new(1));
    let handle = simulation.serve(patient(&early, "auto")).unwrap();
    let client = simulation.connect();
    simulation.run_for(Duration::from_millis(10));
    handle.stop(Duration::from_secs(1));
    assert!(simulation.run_to_end(Duration::from_secs(5)).unwrap());
    drop(client);
    assert_eq!((early.opens.load(Ordering::SeqCst), early.calls.load(Ordering::SeqCst)), (1, 0), "simulated");
}

//= CLOSE-4
#[test]
fn drain_and_close_have_one_deadline_together() {
    let (mut simulation, handle, mut clients) = serve_with(1, |config| {
        (config.workers, config.close_timeout_ms) = (1, 4000);
    });
    for _ in 0..2 {
        // The first fills the driver, the second the outbox.
        clients[0].write(&packet(2, b"much")).unwrap();
        simulation.run_for(Duration::from_millis(10));
    }
    let start_ns = simulation.network().now_ns();
    handle.close(raon::SessionId::from_bits(1), 7).unwrap();
    simulation.run_for(Duration::from_secs(3));
    // It reads until the outbox has drained, then no more, and never ends its side.
    let mut frames = Frames::default();
    let has_drained = simulation.run_until(Duration::from_millis(900), || frames.read(&mut clients[0], 65_536) > 250);
    assert!(has_drained && frames.end.is_none() && handle.sessions() == 1, "{}", frames.count());
    assert!(simulation.run_until(Duration::from_secs(10), || handle.sessions() == 0));
    let took = Duration::from_nanos(simulation.network().now_ns() - start_ns);
    assert!((Duration::from_secs(4)..Duration::from_millis(4100)).contains(&took), "{took:?}");
}
