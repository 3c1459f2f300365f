//! Many at once, on each back end: game threads against sessions that come and go, bursts of ends, slow readers.

#[path = "../common/mod.rs"]
mod common;
mod fleet;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use common::frames::Frames;
use common::{BACKENDS, address_of, until};
use fleet::{Ear, Fleet};
use raon::{
    Application, CloseReason, Context, MailboxRefusal, Message, Packet, PacketHead, RunningServer, Server,
    ServerBuilder, ServerConfig, ServerHandle, SessionId, SimPeer, Simulation, SlowConsumerPolicy,
};
use socket2::{Domain, Socket, Type};

/// Tells each client its id, keeps a list of all, and broadcasts what is posted.
struct Hall {
    open: Arc<RwLock<Vec<SessionId>>>,
}

impl Application for Hall {
    type Framing = Packet;
    type Session = ();
    type Post = Vec<u8>;

    fn on_open(&mut self, ctx: &mut Context<'_, Self>) {
        let id = ctx.id();
        ctx.group("all").join();
        ctx.reply(PacketHead { id: 1 }, &id.to_bits().to_le_bytes());
        self.open.write().unwrap().push(id);
    }

    /// Those who say something get more than the others.
    fn on_message(&mut self, ctx: &mut Context<'_, Self>, _session: &mut (), _message: Message<'_, PacketHead>) {
        ctx.group("much").join();
    }

    fn on_close(&mut self, ctx: &mut Context<'_, Self>, _session: (), _reason: CloseReason) {
        let id = ctx.id();
        self.open.write().unwrap().retain(|open| *open != id);
    }

    fn on_post(&mut self, ctx: &mut Context<'_, Self>, _key: u64, post: Vec<u8>) {
        ctx.group("all").broadcast(None, PacketHead { id: 3 }, &post);
        ctx.group("much").broadcast(None, PacketHead { id: 4 }, &[9; 60_000]);
    }
}

struct Rig {
    builder: ServerBuilder<Hall>,
    open: Arc<RwLock<Vec<SessionId>>>,
}

fn rig(change: impl FnOnce(&mut ServerConfig)) -> Rig {
    let open = Arc::new(RwLock::new(Vec::new()));
    let shared = open.clone();
    let builder = Server::builder().listen("127.0.0.1:0").workers(2).configure(|config| {
        config.handshake_timeout_ms = 0;
        config.outbox_bytes_max = 16 << 20;
        config.outbox_messages_max = 1 << 20;
        change(config);
    });
    Rig { builder: builder.application(Packet::with_limit(65_535), move |_| Hall { open: shared.clone() }), open }
}

fn start(rig: Rig) -> (RunningServer<Hall>, ServerHandle<Hall>, Arc<RwLock<Vec<SessionId>>>) {
    let server = rig.builder.start().unwrap();
    let handle = server.handle().clone();
    (server, handle, rig.open)
}

const SESSIONS: usize = 1000;
const THREADS: u64 = 4;
const SENDS: u64 = 100_000;
/// Every so many-th session is closed now and then.
const CHURNED: usize = 10;

/// What the game threads have sent to whom, and it was taken.
type Sent = Arc<Mutex<BTreeMap<SessionId, u64>>>;

/// One of the game threads: to each session that is there, in turn.
fn play(thread: u64, handle: &ServerHandle<Hall>, open: &RwLock<Vec<SessionId>>, sent: &Sent) {
    let (mut own, mut random) = (BTreeMap::<SessionId, u64>::new(), thread + 1);
    let mut count = 0;
    while count < SENDS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let id = {
            let open = open.read().unwrap();
            open[(random >> 33) as usize % open.len()]
        };
        count += 1;
        let words = [id.to_bits(), thread, count];
        let body: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        while let Err(refusal) = handle.send(id, PacketHead { id: 2 }, &body) {
            assert_eq!(refusal, MailboxRefusal::Busy);
            std::thread::yield_now();
        }
        *own.entry(id).or_default() += 1;
    }
    let mut sent = sent.lock().unwrap();
    own.into_iter().for_each(|(id, count)| *sent.entry(id).or_default() += count);
}

/// The game threads, and one that closes sessions meanwhile. Returns what was sent.
fn play_all(handle: &ServerHandle<Hall>, open: &Arc<RwLock<Vec<SessionId>>>, churned: Vec<SessionId>) -> Sent {
    let sent = Sent::default();
    let is_over = Arc::new(AtomicBool::new(false));
    let closer = {
        let (handle, is_over) = (handle.clone(), is_over.clone());
        std::thread::spawn(move || {
            for id in churned {
                while !is_over.load(Ordering::Relaxed) && handle.close(id, 1) == Err(MailboxRefusal::Busy) {
                    std::thread::yield_now();
                }
            }
        })
    };
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (handle, open, sent) = (handle.clone(), open.clone(), sent.clone());
            std::thread::spawn(move || play(thread, &handle, &open, &sent))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    is_over.store(true, Ordering::Relaxed);
    closer.join().unwrap();
    sent
}

#[test]
fn game_threads_send_to_sessions_that_come_and_go() {
    for backend in BACKENDS {
        let (server, handle, open) = start(rig(|config| config.backend = backend.into()));
        let fleet = Fleet::launch(address_of(&handle), SESSIONS);
        until("all to be in", || open.read().unwrap().len() == SESSIONS);
        let stable = open.read().unwrap().clone();
        let churned: Vec<SessionId> = stable.iter().copied().step_by(CHURNED).collect();
        let sent = play_all(&handle, &open, churned.clone());
        let sent = sent.lock().unwrap();
        let is_stable = |id: &&SessionId| !churned.contains(id);
        let expected: u64 = stable.iter().filter(is_stable).filter_map(|id| sent.get(id)).sum();
        until("the sessions that stayed to have heard all", || {
            let heard = fleet.heard();
            stable.iter().filter(is_stable).filter_map(|id| heard.get(id)).sum::<u64>() == expected
        });
        let stats = handle.stats();
        assert_eq!(stats.messages_refused, 0, "{backend}: {stats}");
        assert_eq!(stats.closed_for(CloseReason::Application(1)), churned.len() as u64, "{backend}: {stats}");
        let heard = fleet.land();
        for (id, count) in &heard {
            let said = sent.get(id).copied().unwrap_or(0);
            assert!(*count <= said, "{backend}: {id} has heard {count} of {said}");
            assert!(!stable.contains(id) || churned.contains(id) || *count == said, "{backend}: {id} has lost some");
        }
        handle.stop(Duration::from_secs(2));
        server.join().unwrap();
        assert_eq!(handle.stats().opened, handle.stats().closed(), "{backend}");
    }
}

/// A scripted client; whoever's connection ends comes back as another.
struct Guest {
    peer: SimPeer,
    frames: Frames,
    ear: Ear,
}

impl Guest {
    fn of(simulation: &Simulation) -> Self {
        Guest { peer: simulation.connect(), frames: Frames::default(), ear: Ear::default() }
    }

    /// Takes what is there. True if that was the end.
    fn listen(&mut self) -> bool {
        self.frames.read(&mut self.peer, 65_536);
        self.frames.take().iter().for_each(|(id, body)| self.ear.hear(*id, body));
        self.frames.end.is_some()
    }
}

/// One step; then all take what is there. What those who end have heard is kept.
fn step(simulation: &mut Simulation, guests: &mut [Guest], gone: &mut BTreeMap<SessionId, u64>) {
    simulation.step();
    for guest in guests {
        if guest.listen() {
            let before = std::mem::replace(guest, Guest::of(simulation));
            gone.extend(before.ear.id.map(|id| (id, before.ear.count)));
        }
    }
}

#[test]
fn game_threads_send_to_simulated_sessions_that_come_and_go() {
    let mut simulation = Simulation::new(1);
    let Rig { builder, open } = rig(|_| {});
    let handle = simulation.serve(builder).unwrap();
    let mut guests: Vec<Guest> = (0..SESSIONS).map(|_| Guest::of(&simulation)).collect();
    simulation.run_for(Duration::from_millis(100));
    let stable = open.read().unwrap().clone();
    assert_eq!(stable.len(), SESSIONS);
    let churned: Vec<SessionId> = stable.iter().copied().step_by(CHURNED).collect();
    let players = {
        let (handle, open, churned) = (handle.clone(), open.clone(), churned.clone());
        std::thread::spawn(move || play_all(&handle, &open, churned))
    };
    let mut gone = BTreeMap::new();
    while !players.is_finished() {
        step(&mut simulation, &mut guests, &mut gone);
    }
    let sent = players.join().unwrap();
    let end_ns = simulation.network().now_ns() + 1_000_000_000;
    while simulation.network().now_ns() < end_ns {
        step(&mut simulation, &mut guests, &mut gone);
    }
    let there = guests.iter().map(|guest| (guest.ear.id.expect("a welcome"), guest.ear.count));
    let heard: BTreeMap<SessionId, u64> = gone.iter().map(|(id, count)| (*id, *count)).chain(there).collect();
    let (sent, stats) = (sent.lock().unwrap(), handle.stats());
    assert!(churned.iter().all(|id| gone.contains_key(id)) && gone.len() == churned.len(), "{stats}");
    for (id, count) in &heard {
        let said = sent.get(id).copied().unwrap_or(0);
        assert!(*count <= said, "{id} has heard {count} of {said}");
        assert!(churned.contains(id) || *count == said, "{id} has lost some");
    }
    assert_eq!((stats.messages_refused, stats.closed_for(CloseReason::Application(1))), (0, churned.len() as u64));
    assert_eq!(stats.late, sent.values().sum::<u64>() - heard.values().sum::<u64>(), "{stats}");
}

/// As many descriptors as this process may have for the two ends of each connection.
fn clients_max(wanted: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3)).and_then(|soft| soft.parse::<usize>().ok());
    wanted.min(soft.unwrap_or(1024).saturating_sub(300) / 2)
}

#[test]
fn five_thousand_clients_vanish_in_one_burst() {
    let count = clients_max(5000);
    for backend in BACKENDS {
        let (server, handle, _) = start(rig(|config| config.backend = backend.into()));
        let address = address_of(&handle);
        let clients: Vec<TcpStream> = (0..count).map(|_| TcpStream::connect(address).unwrap()).collect();
        until("all to be in", || handle.stats().opened == count as u64);
        // None has read its welcome: the ends are resets.
        drop(clients);
        until("all to be gone", || handle.sessions() == 0);
        let mut survivor = TcpStream::connect(address).unwrap();
        let mut bytes = [0; 12];
        std::io::Read::read_exact(&mut survivor, &mut bytes).unwrap();
        until("the survivor to be counted", || handle.stats().opened == count as u64 + 1);
        assert_eq!(handle.stats().closed(), count as u64, "{backend}: {}", handle.stats());
        handle.stop(Duration::from_millis(200));
        server.join().unwrap();
    }
}

#[test]
fn five_thousand_clients_vanish_from_a_simulation() {
    let mut simulation = Simulation::new(1);
    let handle = simulation.serve(rig(|_| {}).builder).unwrap();
    let clients: Vec<SimPeer> = (0..5000).map(|_| simulation.connect()).collect();
    simulation.run_for(Duration::from_millis(500));
    assert_eq!(handle.sessions(), 5000);
    for (place, client) in clients.into_iter().enumerate() {
        if place % 2 == 0 { client.reset() } else { drop(client) }
    }
    simulation.run_for(Duration::from_millis(500));
    let stats = handle.stats();
    assert_eq!((handle.sessions(), stats.opened, stats.closed(), stats.memory_bytes), (0, 5000, 5000, 0), "{stats}");
}

/// A client that never reads, and whose system takes little for it.
fn slow_reader(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // Before the handshake: the window that is offered depends on it.
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.send(&[4, 0, 1, 0]).unwrap();
    socket
}

const SLOW: usize = 100;
const BROADCASTS: u64 = 100;

fn slow_policy(config: &mut ServerConfig) {
    config.slow_consumer = SlowConsumerPolicy::Disconnect;
    config.slow_consumer_grace_ms = 300;
    config.outbox_bytes_max = 2 << 20;
}

#[test]
fn slow_readers_meet_the_policy_and_the_fast_ones_hear_all() {
    for backend in BACKENDS {
        let (server, handle, _) = start(rig(|config| {
            config.backend = backend.into();
            slow_policy(config);
        }));
        let address = address_of(&handle);
        let fleet = Fleet::launch(address, SESSIONS - SLOW);
        let slow: Vec<Socket> = (0..SLOW).map(|_| slow_reader(address)).collect();
        until("all to be in", || handle.stats().messages_received == SLOW as u64);
        until("all to be in", || handle.stats().opened == SESSIONS as u64);
        // Enough for the buffers of the system on both sides to fill up.
        let mut said = 0;
        until("the slow ones to be sent away", || {
            if said < BROADCASTS || handle.stats().closed_for(CloseReason::SlowConsumer) < SLOW as u64 {
                said += u64::from(handle.post(1, vec![7; 100]).is_ok());
            }
            until("the fast ones to keep up", || fleet.broadcasts_min() + 20 >= said);
            handle.stats().closed_for(CloseReason::SlowConsumer) == SLOW as u64
        });
        until("the fast ones to have heard all", || fleet.broadcasts_min() == said);
        assert_eq!(handle.stats().closed(), SLOW as u64, "{backend}: {}", handle.stats());
        fleet.land();
        drop(slow);
        handle.stop(Duration::from_secs(2));
        server.join().unwrap();
    }
}

/// When the fast ones have heard everything, on the clock of the network; and how many slow ones were sent away.
fn fast_ones_done_ns(slow: usize) -> (u64, u64) {
    let plan = raon::FaultPlan::default().with(|plan| {
        plan.latency_min = Duration::from_millis(1);
        plan.latency_max = Duration::from_millis(1);
        plan.send_buffer_bytes = 16_384;
        plan.receive_buffer_bytes = 16_384;
    });
    let mut simulation = Simulation::with_faults(1, plan);
    let handle = simulation.serve(rig(slow_policy).builder).unwrap();
    let mut fast: Vec<(SimPeer, Frames)> =
        (0..SESSIONS - SLOW).map(|_| (simulation.connect(), Default::default())).collect();
    let deaf: Vec<SimPeer> = (0..slow).map(|_| simulation.connect()).collect();
    simulation.run_for(Duration::from_millis(100));
    let mut said = 0;
    let are_done = simulation.run_until(Duration::from_secs(10), || {
        if said < BROADCASTS {
            handle.post(1, vec![7; 2000]).unwrap();
            said += 1;
        }
        let heard = fast.iter_mut().map(|(peer, frames)| frames.read(peer, 1 << 20)).min();
        heard == Some(BROADCASTS as usize + 1)
    });
    assert!(are_done);
    let done_ns = simulation.network().now_ns();
    simulation.run_for(Duration::from_secs(1));
    drop(deaf);
    (done_ns, handle.stats().closed_for(CloseReason::SlowConsumer))
}

#[test]
fn slow_readers_cost_the_fast_ones_no_time() {
    let (alone_ns, _) = fast_ones_done_ns(0);
    let (together_ns, sent_away) = fast_ones_done_ns(SLOW);
    assert_eq!(sent_away, SLOW as u64);
    assert!(together_ns <= alone_ns + 1_000_000, "{together_ns} ns with slow ones, {alone_ns} ns without");
}
