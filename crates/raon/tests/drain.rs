//! Service between `stop` and the end: all that had arrived, from connections and from handles.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use common::frames::{Frames, packet};
use common::{BACKENDS, PATIENCE, address_of};
use raon::{
    Application, Context, FaultPlan, Message, Packet, PacketHead, Raw, Server, ServerBuilder, ServerHandle, SessionId,
    SimPeer, Simulation,
};

const HEAD: PacketHead = PacketHead { id: 1 };

/// On a post it does what a game thread does at its end: says something, closes a session, stops the server.
struct Last {
    handle: Arc<OnceLock<ServerHandle<Last>>>,
    sessions: Vec<SessionId>,
}

impl Application for Last {
    type Framing = Packet;
    type Session = ();
    type Post = u32;

    fn on_open(&mut self, ctx: &mut Context<'_, Self>) {
        self.sessions.push(ctx.id());
    }

    fn on_message(&mut self, _ctx: &mut Context<'_, Self>, _session: &mut (), _message: Message<'_, PacketHead>) {}

    fn on_post(&mut self, _ctx: &mut Context<'_, Self>, _key: u64, post: u32) {
        let handle = self.handle.get().unwrap();
        if post > 0 {
            handle.send(self.sessions[0], HEAD, &[post as u8]).unwrap();
        }
        if post == 0 {
            // The shard is busy with this post: what is put in now, it gets later than it learns of the stop.
            handle.send(self.sessions[0], HEAD, b"sent").unwrap();
            handle.post(1, 1).unwrap();
            handle.close(self.sessions[1], 7).unwrap();
            handle.stop(Duration::from_secs(10));
        }
    }
}

fn last(backend: &str) -> (ServerBuilder<Last>, Arc<OnceLock<ServerHandle<Last>>>) {
    let handle = Arc::new(OnceLock::new());
    let shared = handle.clone();
    let builder =
        Server::builder().listen("127.0.0.1:0").workers(1).configure(|config| config.backend = backend.into());
    (builder.application(Packet::new(), move |_| Last { handle: shared.clone(), sessions: Vec::new() }), handle)
}

fn expected() -> Vec<u8> {
    [packet(1, b"sent"), packet(1, &[1])].concat()
}

#[test]
fn what_was_put_in_before_the_stop_counts() {
    for backend in BACKENDS {
        let (server, shared) = last(backend);
        let server = server.start().unwrap();
        let handle = server.handle().clone();
        assert!(shared.set(handle.clone()).is_ok());
        let connect = |opened| {
            let client = TcpStream::connect(address_of(&handle)).unwrap();
            common::until("it to be in", || handle.stats().opened == opened);
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client
        };
        let (mut first, _other) = (connect(1), connect(2));
        handle.post(1, 0).unwrap();
        let mut heard = Vec::new();
        first.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, expected(), "{backend}");
        drop((first, _other));
        server.join().unwrap();
        let stats = handle.stats();
        assert_eq!((stats.late, stats.closed_for(raon::CloseReason::Application(7))), (0, 1), "{backend}: {stats}");
    }
}

#[test]
fn what_was_put_in_before_the_stop_counts_in_simulation() {
    let (mut simulation, (server, shared)) = (Simulation::new(1), last("auto"));
    let handle = simulation.serve(server).unwrap();
    assert!(shared.set(handle.clone()).is_ok());
    let mut clients: Vec<SimPeer> = (0..2).map(|_| simulation.connect()).collect();
    simulation.run_for(Duration::from_millis(10));
    handle.post(1, 0).unwrap();
    let mut frames = Frames::default();
    simulation.run_until(Duration::from_secs(9), || {
        frames.read(&mut clients[0], 4096);
        frames.end.is_some()
    });
    let heard: Vec<u8> = frames.take().into_iter().flat_map(|(id, body)| packet(id, &body)).collect();
    assert_eq!((heard, frames.end), (expected(), Some(true)));
    drop(clients);
    assert!(simulation.run_to_end(Duration::from_secs(20)).unwrap());
    assert_eq!(handle.stats().late, 0);
}

#[test]
fn requests_that_had_arrived_are_heard() {
    const CLIENTS: usize = 300;
    /// What bounds the requests that one turn brings, on any back end.
    const BUFFERS: u32 = 16;
    for backend in BACKENDS {
        let (tell, told) = mpsc::channel::<()>();
        let told = std::sync::Mutex::new(told);
        let is_stalled = Arc::new(AtomicBool::new(false));
        let stalled = is_stalled.clone();
        let server = Server::builder()
            .listen("127.0.0.1:0")
            .workers(1)
            .configure(|config| {
                config.backend = backend.into();
                (config.receive_buffers, config.send_buffers) = (BUFFERS, BUFFERS);
            })
            .framing(Raw)
            .on_message(move |ctx, message| {
                if &message[..] == b"stall" {
                    stalled.store(true, Ordering::SeqCst);
                    told.lock().unwrap().recv().unwrap();
                }
                // The others say nothing that would keep the shard busy by itself.
                if &message[..] == b"hello" || &message[..] == b"last" {
                    ctx.reply(message);
                }
            })
            .start()
            .unwrap();
        let handle = server.handle().clone();
        let mut clients: Vec<TcpStream> =
            (0..CLIENTS).map(|_| TcpStream::connect(address_of(&handle)).unwrap()).collect();
        for client in &mut clients {
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client.write_all(b"hello").unwrap();
            client.read_exact(&mut [0; 5]).unwrap();
        }
        clients[0].write_all(b"stall").unwrap();
        common::until("the shard to be busy", || is_stalled.load(Ordering::SeqCst));
        for client in &mut clients[1..CLIENTS - 1] {
            client.write_all(b"heard").unwrap();
        }
        clients[CLIENTS - 1].write_all(b"last").unwrap();
        handle.stop(Duration::from_secs(30));
        tell.send(()).unwrap();
        for (place, client) in clients.iter_mut().enumerate() {
            let mut heard = Vec::new();
            let end = client.read_to_end(&mut heard).map_err(|error| error.kind());
            let answered = if place == CLIENTS - 1 { &b"last"[..] } else { b"" };
            assert_eq!((end, heard.as_slice()), (Ok(answered.len()), answered), "{backend}: client {place}");
        }
        drop(clients);
        server.join().unwrap();
        // Each said two things.
        assert_eq!(handle.stats().messages_received, 2 * CLIENTS as u64, "{backend}: {}", handle.stats());
    }
}

/// Answers by a detour: a post that goes from shard to shard so many times.
struct Relay;

impl Application for Relay {
    type Framing = Packet;
    type Session = ();
    type Post = (SessionId, u64);

    fn on_open(&mut self, _ctx: &mut Context<'_, Self>) {}

    fn on_message(&mut self, ctx: &mut Context<'_, Self>, _session: &mut (), _message: Message<'_, PacketHead>) {
        let id = ctx.id();
        ctx.post(30, (id, 30)).unwrap();
    }

    fn on_post(&mut self, ctx: &mut Context<'_, Self>, _key: u64, (id, left): (SessionId, u64)) {
        if left > 0 {
            ctx.post(left - 1, (id, left - 1)).unwrap();
        } else {
            assert!(ctx.send(id, HEAD, b"round").is_queued());
        }
    }
}

#[test]
fn what_goes_from_shard_to_shard_is_waited_for() {
    for seed in 0..10 {
        let mut simulation = Simulation::new(seed);
        let server = Server::builder().workers(3).application(Packet::new(), |_| Relay);
        let handle = simulation.serve(server).unwrap();
        let mut client = simulation.connect();
        simulation.run_for(Duration::from_millis(500));
        client.write(&packet(1, b"go")).unwrap();
        handle.stop(Duration::from_secs(10));
        let mut frames = Frames::default();
        simulation.run_until(Duration::from_secs(9), || {
            frames.read(&mut client, 4096);
            frames.end.is_some()
        });
        assert_eq!((frames.count(), frames.end), (1, Some(true)), "seed {seed}: {}", handle.stats());
        drop(client);
        assert!(simulation.run_to_end(Duration::from_secs(20)).unwrap());
    }
}

#[test]
fn a_later_stop_shortens_and_never_lengthens() {
    let plan = FaultPlan::default().with(|plan| (plan.send_buffer_bytes, plan.receive_buffer_bytes) = (16_384, 16_384));
    let mut simulation = Simulation::with_faults(1, plan);
    let server = Server::builder().workers(2).configure(|config| config.close_timeout_ms = 1_000_000);
    let server = server.framing(Raw).on_message(|ctx, _| ctx.reply_with((), &[0; 200_000])).build();
    let handle = simulation.serve(server).unwrap();
    let mut client = simulation.connect();
    simulation.run_for(Duration::from_millis(10));
    client.write(b"much").unwrap();
    simulation.run_for(Duration::from_millis(10));
    let start_ns = simulation.network().now_ns();
    handle.stop(Duration::from_secs(1000));
    simulation.run_for(Duration::from_secs(1));
    handle.stop(Duration::from_secs(2));
    simulation.run_for(Duration::from_millis(100));
    handle.stop(Duration::from_secs(1000));
    assert!(simulation.run_to_end(Duration::from_secs(2000)).unwrap());
    let took = Duration::from_nanos(simulation.network().now_ns() - start_ns);
    assert!((Duration::from_secs(3)..Duration::from_millis(3100)).contains(&took), "{took:?}");
}

#[test]
fn whoever_was_accepted_is_served() {
    for seed in 0..40 {
        let plan = FaultPlan::default().with(|plan| plan.latency_max = Duration::from_millis(9));
        let mut simulation = Simulation::with_faults(seed, plan);
        let shared = Arc::new(OnceLock::<ServerHandle<raon::Closures<Raw>>>::new());
        let stopping = shared.clone();
        // Inside a round of steps: some shards learn of it at once, others have done their step by then.
        let server = Server::builder().workers(3).framing(Raw).on_message(move |ctx, message| {
            if &message[..] == b"stop" {
                stopping.get().unwrap().stop(Duration::from_secs(5));
            }
            ctx.reply(message);
        });
        let handle = simulation.serve(server.build()).unwrap();
        assert!(shared.set(handle.clone()).is_ok());
        let mut first = simulation.connect();
        simulation.run_for(Duration::from_millis(50));
        let mut clients: Vec<(SimPeer, bool)> = (0..30).map(|_| (simulation.connect(), false)).collect();
        first.write(b"stop").unwrap();
        let (mut answers, mut bytes) = (0, [0; 16]);
        for _ in 0..400 {
            simulation.run_for(Duration::from_millis(1));
            for (client, has_asked) in &mut clients {
                if !*has_asked && client.is_connected() {
                    *has_asked = client.write(b"x").is_ok();
                }
                answers += u64::from(matches!(client.read(&mut bytes), Ok(Some(1))));
            }
        }
        assert_eq!(answers + 1, handle.stats().accepted, "seed {seed}: {}", handle.stats());
        drop((first, clients));
        assert!(simulation.run_to_end(Duration::from_secs(10)).unwrap());
    }
}

/// Listeners that two servers share, which Windows' completion ports do not allow.
#[cfg(unix)]
mod handover {
    use std::net::{SocketAddr, TcpListener};
    use std::sync::atomic::AtomicU32;
    use std::time::Instant;

    use super::*;

    /// Connects again and again, and asks for one answer each time. How many had connected and got none.
    fn knock(at: SocketAddr, is_over: &AtomicBool, answered: &AtomicU32) -> Vec<String> {
        let mut dropped = Vec::new();
        while !is_over.load(Ordering::SeqCst) && dropped.is_empty() {
            let mut client = TcpStream::connect(at).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut byte = [0];
            let asked = client.write_all(b"?").and_then(|()| client.read_exact(&mut byte));
            match asked {
                Ok(()) => drop(answered.fetch_add(1, Ordering::SeqCst)),
                Err(error) => dropped.push(error.to_string()),
            }
        }
        dropped
    }

    /// Two servers share a listener, and the older one stops.
    #[test]
    fn a_listener_passes_to_the_next_server_without_a_loss() {
        for backend in BACKENDS {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let at = listener.local_addr().unwrap();
            let start = || {
                let server = Server::builder().workers(2).configure(|config| config.backend = backend.into());
                let server = server.framing(Raw).on_message(|ctx, message| ctx.reply(message)).build();
                server.listener(listener.try_clone().unwrap()).start().unwrap()
            };
            let (is_over, answered) = (AtomicBool::new(false), AtomicU32::new(0));
            std::thread::scope(|scope| {
                let mut old = start();
                let clients: Vec<_> = (0..8).map(|_| scope.spawn(|| knock(at, &is_over, &answered))).collect();
                for _ in 0..8 {
                    let next = start();
                    let before = answered.load(Ordering::SeqCst);
                    let is_busy = || answered.load(Ordering::SeqCst) > before + 100;
                    let deadline = Instant::now() + PATIENCE;
                    while !is_busy() && Instant::now() < deadline {
                        std::thread::yield_now();
                    }
                    old.handle().stop(Duration::from_secs(20));
                    std::mem::replace(&mut old, next).join().unwrap();
                }
                is_over.store(true, Ordering::SeqCst);
                let dropped: Vec<String> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
                assert!(dropped.is_empty(), "{backend}: {} of {answered:?}: {dropped:?}", dropped.len());
                old.handle().stop(Duration::ZERO);
                old.join().unwrap();
            });
        }
    }
}
