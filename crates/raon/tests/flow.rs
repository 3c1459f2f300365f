//! Sessions whose peers are slow: what waits, what is superseded, who is paused, who is closed.

mod common;

use std::time::Duration;

use common::frames::{Frames, packet};
use raon::{
    Application, CloseReason, Context, Message, Packet, PacketHead, Pressure, Server, ServerBuilder, SimPeer,
    Simulation, SlowConsumerPolicy,
};

const LIMIT: Duration = Duration::from_secs(60);

/// Answers id 1 with itself, id 2 with 2,000 messages of 500 bytes at once, id 3 by joining; snapshots on each tick.
#[derive(Default)]
struct Talker {
    snapshots: u32,
    pressures: Vec<Pressure>,
}

impl Application for Talker {
    type Framing = Packet;
    type Session = ();
    type Post = ();

    fn on_open(&mut self, _ctx: &mut Context<'_, Self>) {}

    fn on_message(&mut self, ctx: &mut Context<'_, Self>, _session: &mut (), message: Message<'_, PacketHead>) {
        match message.head().id {
            2 => {
                for count in 0..2000u16 {
                    ctx.reply(PacketHead { id: count }, &[count as u8; 500]);
                }
            }
            3 => drop(ctx.group("snapshots").join().then_some(())),
            _ => drop(ctx.reply(message.head(), &message).is_queued().then_some(())),
        }
    }

    fn on_pressure(&mut self, _ctx: &mut Context<'_, Self>, _session: &mut (), pressure: Pressure) {
        assert_ne!(self.pressures.last(), Some(&pressure), "they come in turns");
        self.pressures.push(pressure);
    }

    fn on_tick(&mut self, ctx: &mut Context<'_, Self>) {
        self.snapshots += 1;
        let mut body = vec![0; 1000];
        body[..4].copy_from_slice(&self.snapshots.to_le_bytes());
        ctx.group("snapshots").broadcast_droppable(None, 1, PacketHead { id: 9 }, &body);
    }
}

fn server(change: impl FnOnce(&mut raon::ServerConfig)) -> ServerBuilder<Talker> {
    Server::builder().configure(change).application(Packet::new(), |_| Talker::default())
}

/// A simulation with small buffers, and a connected client.
fn simulation(change: impl FnOnce(&mut raon::ServerConfig)) -> (Simulation, raon::ServerHandle<Talker>, SimPeer) {
    let plan = raon::FaultPlan::default().with(|plan| {
        plan.send_buffer_bytes = 16_384;
        plan.receive_buffer_bytes = 16_384;
    });
    let mut simulation = Simulation::with_faults(1, plan);
    let handle = simulation.serve(server(change)).unwrap();
    let client = simulation.connect();
    assert!(simulation.run_until(LIMIT, || client.is_connected()));
    (simulation, handle, client)
}

#[test]
fn a_slow_reader_gets_everything_though_nobody_says_any_more() {
    let (mut simulation, handle, mut client) = simulation(|config| {
        config.outbox_bytes_max = 4 << 20;
        config.watermark_high_bytes = 1 << 20;
    });
    client.write(&packet(2, b"")).unwrap();
    let mut frames = Frames::default();
    assert!(simulation.run_until(LIMIT, || frames.read(&mut client, 700) == 2000), "{} came", frames.count());
    let ids: Vec<u16> = frames.take().iter().map(|(id, _)| *id).collect();
    assert!(ids.iter().copied().eq(0..2000));
    let stats = handle.stats();
    assert_eq!((stats.messages_queued, stats.messages_refused, stats.memory_bytes), (2000, 0, 0), "{stats}");
}

#[test]
fn a_session_that_does_not_read_is_paused_and_read_again() {
    let (mut simulation, handle, mut client) = simulation(|config| config.outbox_bytes_max = 128 * 1024);
    let request = packet(1, &[7; 400]);
    let (mut written, mut idle) = (0, 0);
    // Until nothing goes any more: all buffers between the two are full.
    while idle < 100 {
        let at = written % request.len();
        let length = client.write(&request[at..]).unwrap();
        written += length;
        idle = if length == 0 { idle + 1 } else { 0 };
        simulation.step();
    }
    assert_eq!((handle.stats().pauses, handle.stats().messages_refused), (1, 0));
    let whole = written / request.len();
    assert!((handle.stats().messages_received as usize) < whole, "some wait unread");
    let mut frames = Frames::default();
    assert!(simulation.run_until(LIMIT, || frames.read(&mut client, 65_536) == whole), "{} came", frames.count());
    assert!(frames.take().iter().all(|(id, body)| *id == 1 && body == &[7; 400]));
    let stats = handle.stats();
    assert_eq!((stats.messages_received as usize, stats.messages_refused), (whole, 0), "{stats}");
}

#[test]
fn a_snapshot_takes_the_place_of_an_older_one_while_its_receiver_is_slow() {
    let (mut simulation, handle, mut client) = simulation(|config| {
        config.tick_ms = 10;
        config.handshake_timeout_ms = 0;
    });
    client.write(&packet(3, b"")).unwrap();
    simulation.run_for(Duration::from_secs(10));
    let superseded = handle.stats().messages_dropped;
    assert!(superseded > 900, "{superseded} of about 1,000 were superseded");
    let mut frames = Frames::default();
    let before = handle.stats().messages_queued;
    let count_of = |body: &[u8]| u64::from(u32::from_le_bytes(body[..4].try_into().unwrap()));
    let is_there = simulation.run_until(LIMIT, || {
        frames.read(&mut client, 65_536);
        frames.last().is_some_and(|(_, body)| count_of(body) >= before)
    });
    let seen: Vec<u64> = frames.take().iter().map(|(_, body)| count_of(body)).collect();
    assert!(is_there && seen.is_sorted() && seen.len() < 100, "{seen:?}");
}

#[test]
fn what_finds_no_room_is_refused_and_counted_and_the_session_goes_on() {
    let (mut simulation, handle, mut client) = simulation(|config| {
        config.outbox_bytes_max = 50_000;
        config.watermark_high_bytes = 50_000;
    });
    client.write(&packet(2, b"")).unwrap();
    client.write(&packet(1, b"still there?")).unwrap();
    let mut frames = Frames::default();
    let is_there = |frames: &Frames| frames.last().is_some_and(|(_, body)| body == b"still there?");
    let is_answered = simulation.run_until(LIMIT, || {
        frames.read(&mut client, 65_536);
        is_there(&frames)
    });
    assert!(is_answered, "the request behind the large one is answered: {}", handle.stats());
    let stats = handle.stats();
    assert_eq!(stats.messages_queued + stats.messages_refused, 2001, "{stats}");
    assert_eq!(stats.refused_outbox, stats.messages_refused, "{stats}");
    assert_eq!((handle.sessions(), stats.closed()), (1, 0), "{stats}");
    assert_eq!(frames.count() as u64, stats.messages_queued, "{stats}");
}

#[test]
fn a_slow_consumer_is_disconnected_after_its_grace() {
    let (mut simulation, handle, mut client) = simulation(|config| {
        config.slow_consumer = SlowConsumerPolicy::Disconnect;
        config.slow_consumer_grace_ms = 3000;
        config.outbox_bytes_max = 2 << 20;
    });
    client.write(&packet(2, b"")).unwrap();
    simulation.run_for(Duration::from_millis(2900));
    assert_eq!(handle.sessions(), 1);
    simulation.run_for(Duration::from_millis(200));
    let stats = handle.stats();
    assert_eq!((handle.sessions(), stats.closed_for(CloseReason::SlowConsumer)), (0, 1), "{stats}");
    assert!(stats.messages_lost > 0 && stats.memory_bytes == 0, "{stats}");
}

#[test]
fn one_that_reads_within_its_grace_stays() {
    let (mut simulation, handle, mut client) = simulation(|config| {
        config.slow_consumer = SlowConsumerPolicy::Disconnect;
        config.slow_consumer_grace_ms = 3000;
        config.outbox_bytes_max = 2 << 20;
    });
    client.write(&packet(2, b"")).unwrap();
    simulation.run_for(Duration::from_millis(500));
    let mut frames = Frames::default();
    assert!(simulation.run_until(Duration::from_secs(3), || frames.read(&mut client, 65_536) == 2000));
    simulation.run_for(Duration::from_secs(10));
    assert_eq!((handle.sessions(), handle.stats().closed()), (1, 0));
}

#[test]
fn beyond_the_servers_memory_messages_are_refused_and_it_comes_back() {
    let (mut simulation, handle, mut client) = simulation(|config| {
        config.memory_bytes_max = 1 << 20;
        config.outbox_bytes_max = 16 << 20;
        config.outbox_messages_max = 1 << 20;
        // Else its input waits until the answers have left.
        config.pause_receiving = false;
    });
    (0..4).for_each(|_| assert_eq!(client.write(&packet(2, b"")).unwrap(), 4));
    simulation.run_for(Duration::from_secs(1));
    let stats = handle.stats();
    assert!(stats.messages_refused > 1000 && stats.memory_bytes <= 1 << 20, "{stats}");
    assert_eq!(stats.refused_memory, stats.messages_refused, "{stats}");
    let mut frames = Frames::default();
    let queued = stats.messages_queued as usize;
    assert!(simulation.run_until(LIMIT, || frames.read(&mut client, 65_536) == queued), "{}", handle.stats());
    client.write(&packet(1, b"hello")).unwrap();
    assert!(simulation.run_until(LIMIT, || frames.read(&mut client, 65_536) == queued + 1));
    simulation.run_for(Duration::from_millis(10));
    assert_eq!(handle.stats().memory_bytes, 0);
}
