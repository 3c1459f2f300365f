//! The server's memory: what is shared is charged once, and who holds most of it makes room for who needs a little.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use common::frames::{Frames, packet};
use common::{BACKENDS, PATIENCE, address_of};
use raon::{
    Application, CloseReason, Context, Message, Packet, PacketHead, Refusal, SendOutcome, Server, ServerBuilder,
    ServerConfig, ServerError, ServerHandle, SessionId, SimPeer, Simulation,
};

const LIMIT: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;
const READERS: usize = 400;
/// Tests with many sockets of the system come one after another: a process may have 1,024.
static SOCKETS: Mutex<()> = Mutex::new(());

/// Echoes id 1; id 2 asks for 4,000 bytes for everybody, id 3 for the same by reference to one after another, id 4 for 3,000
/// bytes for oneself, 20 times.
struct Hall {
    ids: Vec<SessionId>,
}

impl Application for Hall {
    type Framing = Packet;
    type Session = ();
    type Post = ();

    fn on_open(&mut self, ctx: &mut Context<'_, Self>) {
        ctx.group("hall").join();
        self.ids.push(ctx.id());
    }

    fn on_message(&mut self, ctx: &mut Context<'_, Self>, _session: &mut (), message: Message<'_, PacketHead>) {
        match message.head().id {
            2 => drop(ctx.group("hall").broadcast(None, PacketHead { id: 20 }, &[7; 4000])),
            3 => {
                let body = Bytes::from(vec![8; 4000]);
                for id in &self.ids {
                    ctx.send_shared(*id, PacketHead { id: 30 }, &body);
                }
            }
            4 => {
                for _ in 0..20 {
                    if ctx.reply(PacketHead { id: 40 }, &[9; 3000]) == SendOutcome::Refused(Refusal::Memory) {
                        break;
                    }
                }
            }
            _ => drop(ctx.reply(message.head(), &message).is_queued()),
        }
    }

    fn on_close(&mut self, ctx: &mut Context<'_, Self>, _session: (), _reason: CloseReason) {
        let own = ctx.id();
        self.ids.retain(|id| *id != own);
    }
}

fn hall(change: impl FnOnce(&mut ServerConfig)) -> ServerBuilder<Hall> {
    let server = Server::builder().configure(|config| {
        config.memory_bytes_max = MIB;
        config.sessions_max = 1000;
        config.workers = 1;
        config.pause_receiving = false;
        config.handshake_timeout_ms = 0;
    });
    server.configure(change).application(Packet::new(), |_| Hall { ids: Vec::new() })
}

/// A simulation in which a peer that does not read has little under way.
fn simulate(server: ServerBuilder<Hall>) -> (Simulation, ServerHandle<Hall>) {
    let plan =
        raon::FaultPlan::default().with(|plan| (plan.send_buffer_bytes, plan.receive_buffer_bytes) = (4096, 4096));
    let mut simulation = Simulation::with_faults(3, plan);
    let handle = simulation.serve(server).unwrap();
    (simulation, handle)
}

fn connect(simulation: &mut Simulation, handle: &ServerHandle<Hall>, count: usize) -> Vec<SimPeer> {
    let clients: Vec<SimPeer> = (0..count).map(|_| simulation.connect()).collect();
    let sessions = handle.sessions() + count;
    assert!(simulation.run_until(LIMIT, || handle.stats().opened as usize == sessions));
    clients
}

//= OUTBOX-6
#[test]
fn a_message_for_everybody_is_charged_once() {
    for id in [2, 3] {
        let (mut simulation, handle) = simulate(hall(|_| {}));
        let mut clients = connect(&mut simulation, &handle, READERS);
        clients[0].write(&packet(id, b"")).unwrap();
        let mut heard: Vec<Frames> = clients.iter().map(|_| Frames::default()).collect();
        let mut most = 0;
        assert!(
            simulation.run_until(LIMIT, || {
                most = most.max(handle.stats().memory_bytes);
                let reads = clients.iter_mut().zip(&mut heard).map(|(client, heard)| heard.read(client, 65_536));
                reads.fold(true, |all, count| all & (count == 1))
            }),
            "{}",
            handle.stats()
        );
        simulation.run_for(Duration::from_millis(50));
        let stats = handle.stats();
        assert_eq!((stats.broadcast_refused, stats.messages_refused, stats.closed(), stats.memory_bytes), (0, 0, 0, 0));
        // The frame once, and entries: the prefix of a body by reference has one too.
        assert!((4000..4004 + READERS as u64 * 2 * 60).contains(&most), "{most} bytes for {id}");
    }
}

//= OUTBOX-6
#[test]
fn four_hundred_readers_hear_it_on_each_back_end() {
    let _alone = SOCKETS.lock().unwrap_or_else(PoisonError::into_inner);
    for backend in BACKENDS {
        let server = hall(|config| (config.listen, config.backend) = ("127.0.0.1:0".into(), backend.into()));
        let server = server.start().unwrap();
        let handle = server.handle().clone();
        let connect = |_| TcpStream::connect(address_of(&handle)).unwrap();
        let mut clients: Vec<TcpStream> = (0..READERS).map(connect).collect();
        common::until("all to be in", || handle.stats().opened == READERS as u64);
        for id in [2, 3] {
            clients[0].write_all(&packet(id, b"")).unwrap();
            let mut frame = vec![0; 4004];
            for client in &mut clients {
                client.set_read_timeout(Some(PATIENCE)).unwrap();
                client.read_exact(&mut frame).unwrap();
                assert_eq!(frame[2], 10 * id as u8);
            }
        }
        common::until("all memory to be back", || {
            // A back end may learn of a send's end when it is woken for something else.
            handle.post(0, ()).unwrap();
            handle.stats().memory_bytes == 0
        });
        let stats = handle.stats();
        assert_eq!((stats.broadcast_refused, stats.messages_refused, stats.closed()), (0, 0, 0), "{backend}: {stats}");
        drop(clients);
        handle.stop(Duration::from_secs(1));
        server.join().unwrap();
        assert_eq!(handle.memory_bytes_left(), MIB, "{backend}");
    }
}

/// Peers that do not read have used up the memory: then everybody else has what little they need.
//= OUTBOX-7
#[test]
fn who_reads_nothing_makes_room_for_who_talks() {
    let (mut simulation, handle) = simulate(hall(|_| {}));
    let mut talkers = connect(&mut simulation, &handle, 100);
    let mut silent = connect(&mut simulation, &handle, 17);
    for client in &mut silent {
        client.write(&packet(4, b"")).unwrap();
        simulation.run_for(Duration::from_millis(5));
    }
    let stats = handle.stats();
    assert!(stats.memory_bytes > MIB - 70_000 && stats.messages_refused == 0, "it is used up: {stats}");
    silent[0].write(&packet(4, b"")).unwrap();
    simulation.run_for(Duration::from_millis(5));
    let stats = handle.stats();
    assert_eq!((stats.messages_refused, stats.closed()), (1, 0), "nobody makes room for somebody as large: {stats}");
    // Each begins a line, and ends it later.
    let line = packet(1, &[1; 1000]);
    for part in line.chunks(500) {
        talkers.iter_mut().for_each(|client| assert_eq!(client.write(part).unwrap(), part.len()));
        simulation.run_for(Duration::from_millis(20));
        let stats = handle.stats();
        assert!(stats.memory_bytes <= MIB, "{stats}");
    }
    let mut heard: Vec<Frames> = talkers.iter().map(|_| Frames::default()).collect();
    assert!(
        simulation.run_until(LIMIT, || {
            let reads = talkers.iter_mut().zip(&mut heard).map(|(client, heard)| heard.read(client, 65_536));
            reads.fold(true, |all, count| all & (count == 1))
        }),
        "{}",
        handle.stats()
    );
    let stats = handle.stats();
    let evicted = stats.closed_for(CloseReason::MemoryBudget);
    assert_eq!((stats.closed(), stats.sessions + evicted), (evicted, 117), "{stats}");
    assert!((1..4).contains(&evicted), "no more go than must: {stats}");
}

/// The same over the system's sockets, where it is not known how much is under way.
//= OUTBOX-7
#[test]
fn who_reads_nothing_makes_room_on_each_back_end() {
    let _alone = SOCKETS.lock().unwrap_or_else(PoisonError::into_inner);
    for backend in BACKENDS {
        let server = hall(|config| (config.listen, config.backend) = ("127.0.0.1:0".into(), backend.into()));
        let server = server.start().unwrap();
        let handle = server.handle().clone();
        let connect = |_: usize| {
            let client = TcpStream::connect(address_of(&handle)).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client
        };
        let mut talkers: Vec<TcpStream> = (0..50).map(connect).collect();
        let mut silent: Vec<TcpStream> = (0..20).map(connect).collect();
        common::until("the memory to be used up", || {
            for client in &mut silent {
                // One that was reset makes room for the others.
                let _ = client.write(&packet(4, b""));
            }
            handle.stats().messages_refused > 100
        });
        let line = packet(1, &[1; 1000]);
        let mut answer = vec![0; line.len()];
        for part in line.chunks(500) {
            talkers.iter_mut().for_each(|client| client.write_all(part).unwrap());
            std::thread::yield_now();
        }
        for client in &mut talkers {
            client.read_exact(&mut answer).unwrap();
            assert_eq!(answer, line, "{backend}");
        }
        let stats = handle.stats();
        assert!(stats.sessions >= 50 && stats.memory_bytes <= MIB, "{backend}: {stats}");
        drop((talkers, silent));
        handle.stop(Duration::from_millis(200));
        server.join().unwrap();
        assert_eq!(handle.memory_bytes_left(), MIB, "{backend}");
    }
}

//= OUTBOX-7
#[test]
fn each_of_many_shards_can_answer_or_the_server_does_not_start() {
    let many = |memory_bytes_max| hall(|config| (config.workers, config.memory_bytes_max) = (64, memory_bytes_max));
    let Err(ServerError::Config(errors)) = many(MIB).start() else { panic!("1 MiB is too little for 64 shards") };
    let error = errors.iter().next().expect("there is one");
    assert_eq!(error.field, "memory_bytes_max");
    assert!(error.problem.contains("at least 8388608"), "{error}");
    let (mut simulation, handle) = simulate(many(8 * MIB));
    let mut clients = connect(&mut simulation, &handle, 64);
    assert!(handle.shard_stats().iter().all(|stats| stats.sessions == 1));
    let mut heard: Vec<Frames> = clients.iter().map(|_| Frames::default()).collect();
    for round in 1..=3 {
        for client in &mut clients {
            client.write(&packet(1, &[1; 3000])).unwrap();
        }
        assert!(
            simulation.run_until(LIMIT, || {
                let reads = clients.iter_mut().zip(&mut heard).map(|(client, heard)| heard.read(client, 65_536));
                reads.fold(true, |all, count| all & (count == round))
            }),
            "{}",
            handle.stats()
        );
    }
    assert_eq!(handle.stats().messages_refused, 0);
}
