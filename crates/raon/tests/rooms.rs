//! Groups, posts, timers and ticks over several shards, and what sessions of one shard can do with each other.

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::frames::{Frames, packet};
use raon::{
    Application, CloseReason, Context, Message, Packet, PacketHead, SendOutcome, Server, ServerHandle, SessionId,
    SimPeer, Simulation,
};

const LIMIT: Duration = Duration::from_secs(60);
const SHARDS: u32 = 3;

/// What the shards have seen.
#[derive(Default)]
struct Seen {
    /// Key, shard, post, in the order of arrival.
    posts: Vec<(u64, usize, u64)>,
    timers: Vec<(u64, u64)>,
    ticks: BTreeMap<usize, Vec<u64>>,
    broadcasts: Vec<raon::BroadcastOutcome>,
    ids: Vec<SessionId>,
    own_state: Vec<bool>,
    outcomes: Vec<SendOutcome>,
}

struct Room(Arc<Mutex<Seen>>);

impl Room {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.0.lock().unwrap()
    }
}

impl Application for Room {
    type Framing = Packet;
    type Session = u32;
    type Post = u64;

    fn on_open(&mut self, ctx: &mut Context<'_, Self>) -> u32 {
        self.seen().ids.push(ctx.id());
        0
    }

    fn on_message(&mut self, ctx: &mut Context<'_, Self>, visits: &mut u32, message: Message<'_, PacketHead>) {
        let own = ctx.id();
        match message.head().id {
            1 => assert!(ctx.group("room").join() && !ctx.group("room").join()),
            2 => {
                let told = ctx.group("room").broadcast(Some(own), PacketHead { id: 20 }, &message);
                self.seen().broadcasts.push(told);
            }
            3 => assert!(ctx.group("room").leave() && !ctx.group("room").leave()),
            4 => (0..5).for_each(|key| ctx.post(key, u64::from(message[0])).unwrap()),
            5 => (1..=3).for_each(|n| ctx.set_timer(Duration::from_millis(n * 10), n).unwrap()),
            6 => {
                let ids = self.seen().ids.clone();
                for id in ids {
                    let visited = ctx.session_mut(id).map(|visits| *visits += 1).is_some();
                    self.seen().own_state.push(visited);
                    let outcome = ctx.send(id, PacketHead { id: 60 }, b"hi");
                    self.seen().outcomes.push(outcome);
                }
            }
            7 => drop(ctx.reply(PacketHead { id: 70 }, &visits.to_le_bytes()).is_queued().then_some(())),
            8 => {
                ctx.reply_with(PacketHead { id: 80 }, 100, |body| body.put(b"abc"));
                ctx.group("room").broadcast_with(None, PacketHead { id: 81 }, 900, |body| body.put_repeated(7, 700));
            }
            _ => {}
        }
    }

    fn on_close(&mut self, ctx: &mut Context<'_, Self>, _visits: u32, _reason: CloseReason) {
        // Who has left hears nothing of it.
        ctx.group("room").broadcast(None, PacketHead { id: 30 }, b"left");
    }

    fn on_tick(&mut self, ctx: &mut Context<'_, Self>) {
        let (shard, now_ns) = (ctx.shard(), ctx.now_ns());
        self.seen().ticks.entry(shard).or_default().push(now_ns);
    }

    fn on_timer(&mut self, ctx: &mut Context<'_, Self>, token: u64) {
        self.seen().timers.push((token, ctx.now_ns()));
    }

    fn on_post(&mut self, ctx: &mut Context<'_, Self>, key: u64, post: u64) {
        self.seen().posts.push((key, ctx.shard(), post));
    }
}

struct Rig {
    simulation: Simulation,
    handle: ServerHandle<Room>,
    seen: Arc<Mutex<Seen>>,
    clients: Vec<SimPeer>,
}

fn rig(clients: usize, tick_ms: u32) -> Rig {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let shared = seen.clone();
    let mut simulation = Simulation::new(5);
    let server = Server::builder().workers(SHARDS).configure(|config| config.tick_ms = tick_ms);
    let handle = simulation.serve(server.application(Packet::new(), move |_| Room(shared.clone()))).unwrap();
    let clients: Vec<SimPeer> = (0..clients).map(|_| simulation.connect()).collect();
    simulation.run_for(Duration::from_millis(10));
    assert_eq!(handle.sessions(), clients.len());
    Rig { simulation, handle, seen, clients }
}

impl Rig {
    fn say(&mut self, client: usize, id: u16, body: &[u8]) {
        self.clients[client].write(&packet(id, body)).unwrap();
        self.simulation.run_for(Duration::from_millis(5));
    }

    fn hear(&mut self, client: usize) -> Vec<(u16, Vec<u8>)> {
        self.simulation.run_for(Duration::from_millis(5));
        let mut frames = Frames::default();
        frames.read(&mut self.clients[client], 65_536);
        frames.take()
    }
}

#[test]
fn a_broadcast_reaches_every_member_once_on_whichever_shard() {
    let mut rig = rig(9, 0);
    (0..8).for_each(|client| rig.say(client, 1, b""));
    rig.say(0, 2, b"hello");
    assert!(rig.hear(0).is_empty(), "the one who says it does not hear it");
    assert!(rig.hear(8).is_empty(), "nor does one who is no member");
    for client in 1..8 {
        assert_eq!(rig.hear(client), [(20, b"hello".to_vec())], "client {client}");
    }
    let told = rig.seen.lock().unwrap().broadcasts[0];
    assert_eq!((told.refused, told.shards), (0, 2), "one hand-over per shard, not per member");
    let stats = rig.handle.stats();
    assert_eq!((stats.broadcasts, stats.broadcast_delivered, stats.broadcast_refused), (1, 7, 0));
    rig.say(3, 3, b"");
    rig.say(0, 2, b"again");
    assert!(rig.hear(3).is_empty(), "it has left");
    // A member that ends leaves too, and the others are told by the application.
    let gone = rig.clients.swap_remove(1);
    drop(gone);
    rig.simulation.run_for(Duration::from_millis(100));
    let heard = rig.hear(2);
    assert_eq!(heard, [(20, b"again".to_vec()), (30, b"left".to_vec())]);
}

#[test]
fn what_is_encoded_in_place_arrives_whole() {
    let mut rig = rig(3, 0);
    (0..3).for_each(|client| rig.say(client, 1, b""));
    rig.say(1, 8, b"");
    assert_eq!(rig.hear(1), [(80, b"abc".to_vec()), (81, vec![7; 700])]);
    assert_eq!(rig.hear(0), [(81, vec![7; 700])]);
    assert_eq!(rig.hear(2), [(81, vec![7; 700])]);
}

#[test]
fn posts_meet_at_the_home_of_their_key_in_order() {
    let mut rig = rig(6, 0);
    for round in 0..4u8 {
        (0..6).for_each(|client| rig.say(client, 4, &[round * 10 + client as u8]));
    }
    for key in 0..5 {
        rig.handle.post(key, 99).unwrap();
    }
    rig.simulation.run_for(Duration::from_millis(10));
    let seen = rig.seen.lock().unwrap();
    assert_eq!(seen.posts.len(), 6 * 4 * 5 + 5);
    for key in 0..5 {
        let of_key: Vec<_> = seen.posts.iter().filter(|(own, ..)| *own == key).collect();
        let home = of_key[0].1;
        assert!(of_key.iter().all(|(_, shard, _)| *shard == home), "key {key} has one home");
        for sender in 0..6 {
            let posts: Vec<u64> =
                of_key.iter().map(|(.., post)| *post).filter(|post| *post != 99 && post % 10 == sender).collect();
            assert_eq!(posts, [0, 10, 20, 30].map(|round| round + sender), "in the order of their sender");
        }
        assert_eq!(of_key.last().unwrap().2, 99);
    }
}

#[test]
fn timers_and_ticks_come_when_they_are_due() {
    let mut rig = rig(1, 20);
    let start_ns = rig.simulation.network().now_ns();
    rig.say(0, 5, b"");
    rig.simulation.run_for(Duration::from_millis(995));
    let seen = rig.seen.lock().unwrap();
    let tokens: Vec<u64> = seen.timers.iter().map(|(token, _)| *token).collect();
    assert_eq!(tokens, [1, 2, 3]);
    for (token, at_ns) in &seen.timers {
        let after_ms = (at_ns - start_ns) / 1_000_000;
        assert!((token * 10..token * 10 + 5).contains(&after_ms), "{token} came after {after_ms} ms");
    }
    assert_eq!(seen.ticks.len(), SHARDS as usize);
    for (shard, ticks) in &seen.ticks {
        assert!(ticks.iter().all(|at_ns| at_ns.is_multiple_of(20_000_000)), "shard {shard} is off the grid");
        assert_eq!(ticks.len(), 50, "shard {shard}");
    }
}

#[test]
fn sessions_of_one_shard_reach_each_others_state_and_all_each_others_ear() {
    let mut rig = rig(6, 0);
    rig.say(0, 6, b"");
    {
        let seen = rig.seen.lock().unwrap();
        let own_shard = seen.ids[0].shard();
        let expected: Vec<bool> =
            seen.ids.iter().enumerate().map(|(place, id)| place != 0 && id.shard() == own_shard).collect();
        assert_eq!(seen.own_state, expected, "its own, and those of other shards, it does not get");
        assert!(seen.outcomes.iter().all(|outcome| *outcome == SendOutcome::Queued));
    }
    (0..6).for_each(|client| assert_eq!(rig.hear(client), [(60, b"hi".to_vec())], "client {client}"));
    let visited: u32 = (0..6)
        .map(|client| {
            rig.say(client, 7, b"");
            u32::from_le_bytes(rig.hear(client)[0].1[..].try_into().unwrap())
        })
        .sum();
    assert_eq!(visited, 1, "two sessions live on each of the three shards");
}

#[test]
fn what_is_late_for_a_session_is_counted_and_reaches_nobody_else() {
    let mut rig = rig(1, 0);
    let id = rig.seen.lock().unwrap().ids[0];
    rig.clients.clear();
    rig.simulation.run_for(Duration::from_secs(1));
    assert_eq!(rig.handle.sessions(), 0);
    // The same slots again, for others.
    rig.clients = (0..6).map(|_| rig.simulation.connect()).collect();
    rig.simulation.run_for(Duration::from_millis(10));
    let before = rig.handle.stats().late;
    rig.handle.send(id, PacketHead { id: 1 }, b"for the dead").unwrap();
    rig.handle.send_shared(id, PacketHead { id: 1 }, bytes::Bytes::from(vec![1; 2000])).unwrap();
    rig.handle.close(id, 1).unwrap();
    rig.simulation.run_for(Duration::from_millis(10));
    assert_eq!((rig.handle.stats().late - before, rig.handle.sessions()), (3, 6));
    (0..6).for_each(|client| assert!(rig.hear(client).is_empty()));
    let ids = rig.seen.lock().unwrap().ids.clone();
    assert!(ids[1..].iter().any(|other| other.shard() == id.shard()) && !ids[1..].contains(&id));
    assert!(rig.simulation.run_until(LIMIT, || true));
}
