//! One run: a server, a network, clients, and what happens when.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use raon::{FaultPlan, Packet, PacketHead, Server, ServerBuilder, ServerHandle, Simulation, SlowConsumerPolicy};

use crate::client::Client;
use crate::game::{self, Game, SharedLog};
use crate::judge;
use crate::random::Random;

/// What a run was like. The same for the same seed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Summary {
    pub(crate) opened: u64,
    pub(crate) received: u64,
    pub(crate) delivered: u64,
    pub(crate) resets: u64,
    pub(crate) superseded: u64,
    pub(crate) pauses: u64,
    pub(crate) refused: u64,
    pub(crate) late: u64,
    pub(crate) posts: u64,
    /// The clock at the end, in nanoseconds.
    pub(crate) ended_ns: u64,
}

impl Summary {
    pub(crate) fn add(&mut self, other: &Summary) {
        self.opened += other.opened;
        self.received += other.received;
        self.delivered += other.delivered;
        self.resets += other.resets;
        self.superseded += other.superseded;
        self.pauses += other.pauses;
        self.refused += other.refused;
        self.late += other.late;
        self.posts += other.posts;
    }
}

/// What the network is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Weather {
    Fine,
    Rough,
    Stormy,
}

/// One run, from the seed to the verdict. Panics with what does not hold.
pub(crate) fn play(seed: u64, is_told: bool) -> Summary {
    let mut random = Random::new(seed);
    let weather = random.one_of(&[Weather::Fine, Weather::Rough, Weather::Rough, Weather::Stormy]);
    let plan = match weather {
        Weather::Fine => FaultPlan::default(),
        Weather::Rough => FaultPlan::rough(),
        Weather::Stormy => FaultPlan::stormy().with(|plan| plan.connect_timeout = Duration::from_secs(1)),
    };
    let small = if random.percent(30) { 4096 } else { plan.receive_buffer_bytes };
    let plan = plan.with(|plan| (plan.receive_buffer_bytes, plan.send_buffer_bytes) = (small, small));
    let mut simulation = Simulation::with_faults(seed, plan);
    if is_told {
        simulation.network().record();
    }
    let log = SharedLog::default();
    let memory_bytes_max = random.one_of(&[1 << 20, 1 << 30]);
    let handle = simulation.serve(server(&mut random, memory_bytes_max, log.clone())).unwrap();
    let mut clients: Vec<Client> = Vec::new();
    let (steps, clients_max) = (60 + random.below(240), 3 + random.below(10));
    let mut from_outside = 0;
    for _ in 0..steps {
        if clients.len() < clients_max && random.percent(15) {
            clients.push(Client::new(clients.len() as u32, simulation.connect(), &mut random));
        }
        clients.iter_mut().for_each(|client| client.step(&mut random));
        if random.percent(20) {
            from_outside += u64::from(meddle(&handle, &log, from_outside + 1, &mut random));
        }
        simulation.step();
        let used = handle.stats().memory_bytes;
        assert!(used <= memory_bytes_max, "{used} bytes of {memory_bytes_max} are used");
    }
    end(&mut simulation, &handle, &mut clients, &mut random);
    if is_told {
        println!("{}{weather:?}\n{}", simulation.network().trace(), handle.stats());
    }
    judge::judge(weather, &handle, &log.lock().unwrap(), &clients, memory_bytes_max);
    summary(&simulation, &handle, &clients)
}

fn server(random: &mut Random, memory_bytes_max: u64, log: SharedLog) -> ServerBuilder<Game> {
    let workers = 1 + random.below(3) as u32;
    let builder = Server::builder().workers(workers).configure(|config| {
        config.reuse_port = random.percent(20);
        config.sessions_max = random.one_of(&[6, 64]);
        config.sessions_per_address_max = random.one_of(&[0, 0, 5]);
        config.memory_bytes_max = memory_bytes_max;
        config.outbox_bytes_max = random.one_of(&[8192, 65_536]);
        config.outbox_messages_max = random.one_of(&[8, 4096, 4096]);
        config.watermark_high_bytes = random.one_of(&[1000, 8000]);
        config.watermark_low_bytes = random.one_of(&[0, 900]);
        config.slow_consumer = random.one_of(&[
            SlowConsumerPolicy::Refuse,
            SlowConsumerPolicy::DropOldestDroppable,
            SlowConsumerPolicy::Disconnect,
        ]);
        config.slow_consumer_grace_ms = 300;
        config.pause_receiving = random.percent(80);
        config.idle_timeout_ms = random.one_of(&[0, 500]);
        config.keep_half_closed = random.percent(20);
        config.heartbeat_every_ms = random.one_of(&[0, 0, 100]);
        config.heartbeat_answer_ms = if config.heartbeat_every_ms > 0 { random.one_of(&[0, 50]) } else { 0 };
        config.messages_per_second_max = random.one_of(&[0, 0, 0, 40]);
        config.tick_ms = random.one_of(&[0, 7]);
        config.timers_max = random.one_of(&[2, 100]);
        config.mailbox_bytes_max = random.one_of(&[4000, 1 << 20]);
        config.mailbox_commands_max = random.one_of(&[8, 1000]);
        config.receive_buffers = random.one_of(&[2, 64]);
        config.send_buffers = random.one_of(&[0, 2, 64]).min(config.receive_buffers);
        config.close_timeout_ms = 400;
    });
    builder.application(Packet::new(), move |shard| Game::new(log.clone(), shard.number))
}

/// Something from another thread's point of view: a message to some session, which may be gone. True if it was taken.
fn meddle(handle: &ServerHandle<Game>, log: &Arc<Mutex<game::Log>>, count: u64, random: &mut Random) -> bool {
    let ids: Vec<_> = log.lock().unwrap().sessions.keys().copied().collect();
    if ids.is_empty() {
        return false;
    }
    let id = ids[random.below(ids.len())];
    if random.percent(3) {
        let _ = handle.close(id, 5);
        return false;
    }
    let filler = if random.percent(20) { 900 } else { 10 };
    let body = game::body(id, 77, count, filler);
    let head = PacketHead { id: game::FROM_OUTSIDE };
    if random.percent(50) {
        handle.send(id, head, &body).is_ok()
    } else {
        handle.send_shared(id, head, body.into()).is_ok()
    }
}

/// A stop, sometimes with nobody to wait for, and the clients reading on to their end.
fn end(simulation: &mut Simulation, handle: &ServerHandle<Game>, clients: &mut [Client], random: &mut Random) {
    let grace = Duration::from_millis(random.one_of(&[0, 20, 2000]));
    let stopped_ns = simulation.network().now_ns();
    handle.stop(grace);
    // A deaf client keeps its session until the grace is over.
    let reads = random.percent(80);
    let mut is_over = false;
    for _ in 0..20_000 {
        if reads {
            clients.iter_mut().for_each(Client::read_all);
        }
        is_over = simulation.run_to_end(Duration::from_millis(1)).unwrap();
        if is_over {
            break;
        }
    }
    let took = Duration::from_nanos(simulation.network().now_ns() - stopped_ns);
    assert!(is_over && took <= grace + Duration::from_millis(20), "the end took {took:?}, the grace was {grace:?}");
    // What is on its way arrives.
    for _ in 0..50 {
        simulation.network().advance(Duration::from_millis(200));
        clients.iter_mut().for_each(Client::read_all);
    }
}

fn summary(simulation: &Simulation, handle: &ServerHandle<Game>, clients: &[Client]) -> Summary {
    let stats = handle.stats();
    Summary {
        opened: stats.opened,
        received: stats.messages_received,
        delivered: clients.iter().map(|client| client.received).sum(),
        resets: stats.closed_for(raon::CloseReason::PeerReset),
        superseded: stats.messages_dropped,
        pauses: stats.pauses,
        refused: stats.messages_refused,
        late: stats.late,
        posts: stats.posts,
        ended_ns: simulation.network().now_ns(),
    }
}
