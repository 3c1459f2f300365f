//! Requests that come faster than answers leave: every one is answered, in order, and nobody else waits for it.

//= FLOW-1

mod common;
#[path = "seeds/random.rs"]
mod random;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::frames::{Frames, packet};
use common::{BACKENDS, PATIENCE, address_of};
use random::Random;
use raon::{
    Application, CloseReason, Context, FaultPlan, Message, Packet, PacketHead, Server, ServerBuilder, ServerConfig,
    ServerHandle, SimPeer, Simulation, SlowConsumerPolicy,
};

const LIMIT: Duration = Duration::from_secs(600);

/// Answers each request with its own body and some filler, in one of the ways that there are.
struct Answerer {
    answers: Answers,
    filler: usize,
    way: usize,
    /// Whose requests came, by the first byte of the body, in order.
    order: Arc<Mutex<Vec<u8>>>,
}

/// How many answers a request gets.
#[derive(Clone, Copy, Debug)]
enum Answers {
    Each(usize),
    /// From none to so many, by the request's number.
    UpTo(usize),
}

impl Answers {
    fn max(self) -> usize {
        let (Answers::Each(count) | Answers::UpTo(count)) = self;
        count
    }

    fn to(self, number: u32) -> usize {
        match self {
            Answers::Each(count) => count,
            Answers::UpTo(count) => (number.wrapping_mul(2_654_435_761) >> 7) as usize % (count + 1),
        }
    }
}

impl Application for Answerer {
    type Framing = Packet;
    type Session = ();
    type Post = ();

    fn on_open(&mut self, ctx: &mut Context<'_, Self>) {
        let own = ctx.id().to_bits();
        ctx.group(own).join();
    }

    fn on_message(&mut self, ctx: &mut Context<'_, Self>, _session: &mut (), message: Message<'_, PacketHead>) {
        self.order.lock().unwrap().push(message.first().copied().unwrap_or(0));
        let mut body = message.to_vec();
        body.resize(message.len() + self.filler, 7);
        let number = u32::from_le_bytes(message[..4].try_into().unwrap());
        for answer in 0..self.answers.to(number) {
            let head = PacketHead { id: answer as u16 };
            let id = ctx.id();
            let is_taken = match (self.way + answer * usize::from(self.way > 4)) % 5 {
                0 => ctx.reply(head, &body).is_queued(),
                1 => ctx.reply_with(head, body.len(), |out| out.put(&body)).is_queued(),
                2 => ctx.send(id, head, &body).is_queued(),
                3 => ctx.send_shared(id, head, &body.clone().into()).is_queued(),
                _ => ctx.group(id.to_bits()).broadcast(None, head, &body).refused == 0,
            };
            assert!(is_taken, "an answer was refused: {}", ctx.stats());
        }
    }
}

fn server(application: (Answers, usize, usize), change: impl FnOnce(&mut ServerConfig)) -> ServerBuilder<Answerer> {
    let (answers, filler, way) = application;
    let order = Arc::<Mutex<Vec<u8>>>::default();
    Server::builder().workers(1).configure(change).application(Packet::new(), move |_| Answerer {
        answers,
        filler,
        way,
        order: order.clone(),
    })
}

/// Requests number `from` to `to`, whose body is their number.
fn requests(from: usize, to: usize) -> Vec<u8> {
    (from..to).flat_map(|number| packet(1, &(number as u32).to_le_bytes())).collect()
}

/// Checks answers as they come: the request's number, and which answer to it this is.
struct Expected {
    answers: Answers,
    number: u32,
    answer: usize,
}

impl Expected {
    fn new(answers: Answers) -> Self {
        let mut expected = Expected { answers, number: 0, answer: 0 };
        expected.pass_unanswered();
        expected
    }

    fn check(&mut self, frames: Vec<(u16, Vec<u8>)>, what: &str) {
        for (id, body) in frames {
            let number = u32::from_le_bytes(body[..4].try_into().unwrap());
            assert_eq!((number, usize::from(id)), (self.number, self.answer), "{what}");
            self.answer += 1;
            self.pass_unanswered();
        }
    }

    fn pass_unanswered(&mut self) {
        while self.answers.max() > 0 && self.answer == self.answers.to(self.number) {
            self.number += 1;
            self.answer = 0;
        }
    }

    /// Whether so many requests have all their answers.
    fn has_all(&self, count: usize) -> bool {
        self.answers.max() == 0 || self.number as usize >= count
    }
}

/// Limits that hold the answers of one request: so many messages and bytes.
fn set_limits(config: &mut ServerConfig, random: &mut Random, of_one_request: (u32, u32)) {
    config.outbox_messages_max = of_one_request.0 + random.one_of(&[0, 0, 1, 30, 4000]);
    config.outbox_bytes_max = of_one_request.1 + random.one_of(&[0, 0, 1, 500, 300_000]);
    config.watermark_high_bytes = match random.below(3) {
        0 => 0,
        1 => config.outbox_bytes_max,
        _ => random.below(config.outbox_bytes_max as usize) as u32,
    };
    config.watermark_low_bytes = random.one_of(&[0, config.watermark_high_bytes / 4, config.watermark_high_bytes]);
    config.receive_buffers = random.one_of(&[1, 2, 64]);
    config.send_buffers = random.one_of(&[0, 1, 64]).min(config.receive_buffers);
    config.slow_consumer = random.one_of(&[
        SlowConsumerPolicy::Refuse,
        SlowConsumerPolicy::DropOldestDroppable,
        SlowConsumerPolicy::Disconnect,
    ]);
    config.slow_consumer_grace_ms = 60_000;
    config.handshake_timeout_ms = 0;
}

/// A perfect network, one with small buffers, or one that delays and cuts.
fn network(random: &mut Random) -> FaultPlan {
    match random.below(3) {
        0 => FaultPlan::default(),
        1 => FaultPlan::default().with(|plan| {
            plan.send_buffer_bytes = 2048;
            plan.receive_buffer_bytes = 4096;
        }),
        _ => FaultPlan::rough().with(|plan| {
            plan.resets = 0.0;
            plan.partitions = 0.0;
            plan.deaf_peers = 0.0;
        }),
    }
}

/// One server with random limits and one client that sends all at once and reads on.
fn play(seed: u64) {
    let mut random = Random::new(seed);
    let plan = network(&mut random);
    // One answer as it lies in the stream; the shared way goes by reference beyond 512 bytes.
    let most = random.one_of(&[0, 1, 1, 2, 3, 17, 40]);
    let answers = if random.percent(50) { Answers::Each(most) } else { Answers::UpTo(most) };
    let filler = random.one_of(&[0, 5, 5, 100, 700, 3000]);
    let frame_bytes = 8 + filler as u32;
    let of_one_request = (most.max(1) as u32, most.max(1) as u32 * frame_bytes);
    let count = random.one_of(&[1, 50, 700, 3000]).min(300_000 / of_one_request.1 as usize);
    let way = random.below(6);
    let ends_at_once = random.percent(40);
    let mut simulation = Simulation::with_faults(seed, plan);
    let server = server((answers, filler, way), |config| {
        set_limits(config, &mut random, of_one_request);
    });
    let handle = simulation.serve(server).unwrap();
    let mut client = simulation.connect();
    let input = requests(0, count);
    let (mut written, mut frames, mut expected) = (0, Frames::default(), Expected::new(answers));
    let what = format!("seed {seed}: {count} requests, {answers:?} answers of {frame_bytes} bytes, way {way}");
    let mut is_shut = false;
    let is_done = simulation.run_until(LIMIT, || {
        if client.is_connected() {
            if written < input.len() {
                written += client.write(&input[written..]).unwrap();
            }
            frames.read(&mut client, 65_536);
            expected.check(frames.take(), &what);
            if written == input.len() && ends_at_once && !is_shut {
                is_shut = true;
                client.shut_write().unwrap();
            }
        }
        let is_read = handle.stats().messages_received == count as u64;
        is_read && expected.has_all(count)
    });
    let stats = handle.stats();
    assert!(is_done, "{what}: {} answered\n{stats}", expected.number);
    let sum: usize = (0..count as u32).map(|number| answers.to(number)).sum();
    assert_eq!((stats.messages_refused, stats.messages_queued), (0, sum as u64), "{what}\n{stats}");
    if ends_at_once {
        simulation.run_until(LIMIT, || {
            frames.read(&mut client, 65_536);
            frames.end.is_some()
        });
        assert_eq!(frames.end, Some(true), "{what}: the end follows the last answer");
    }
    drop(client);
    simulation.run_for(Duration::from_secs(10));
    let stats = handle.stats();
    assert_eq!((stats.memory_bytes, stats.bytes_discarded, handle.sessions()), (0, 0, 0), "{what}\n{stats}");
}

/// In two halves, for machines with more than one core.
#[test]
fn any_number_of_requests_is_answered_within_any_limits_that_hold_the_answers_of_one() {
    (0..150).for_each(play);
}

#[test]
fn any_number_of_requests_is_answered_within_any_other_such_limits() {
    (150..300).for_each(play);
}

/// A client of the real system, which reads all the time.
fn ask(handle: &ServerHandle<Answerer>, count: usize, answers: Answers, what: &str) {
    let mut client = TcpStream::connect(address_of(handle)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut writer = client.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        writer.write_all(&requests(0, count)).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let (mut frames, mut expected, mut bytes) = (Frames::default(), Expected::new(answers), vec![0; 65_536]);
    loop {
        match client.read(&mut bytes) {
            Ok(0) => break,
            Ok(length) => frames.push(&bytes[..length]),
            Err(error) => panic!("{what}: {} answered, then {error}; {}", expected.number, handle.stats()),
        }
        expected.check(frames.take(), what);
    }
    assert!(expected.has_all(count), "{what}: {} answered, then the end; {}", expected.number, handle.stats());
    writing.join().unwrap();
}

#[test]
fn a_burst_is_answered_by_each_back_end() {
    // Requests, answers to each, messages that an outbox takes, clients.
    let (one, some) = (Answers::Each(1), Answers::UpTo(3));
    for (count, answers, messages_max, clients) in [(5000, one, 4096, 1), (20_000, one, 4096, 3), (3000, some, 3, 2)] {
        for backend in BACKENDS {
            let server = server((answers, 12, 0), |config| {
                config.listen = "127.0.0.1:0".into();
                config.backend = backend.into();
                config.outbox_messages_max = messages_max;
            });
            let server = server.start().unwrap();
            let handle = server.handle().clone();
            let what = format!("{backend}, {count} requests with {answers:?} answers");
            std::thread::scope(|scope| {
                (0..clients).for_each(|_| drop(scope.spawn(|| ask(&handle, count, answers, &what))));
            });
            assert_eq!(handle.stats().messages_refused, 0, "{what}");
            handle.stop(Duration::from_secs(1));
            server.join().unwrap();
        }
    }
}

/// Without `pause_receiving` input waits for one turn: enough for a peer that reads at once.
#[test]
fn who_does_not_wait_for_slow_peers_answers_those_that_read() {
    let mut simulation = Simulation::new(1);
    let server = server((Answers::Each(1), 12, 0), |config| {
        config.pause_receiving = false;
        config.outbox_messages_max = 16;
    });
    let handle = simulation.serve(server).unwrap();
    let mut client = simulation.connect();
    assert!(simulation.run_until(LIMIT, || client.is_connected()));
    client.write(&requests(0, 2000)).unwrap();
    let (mut frames, mut expected) = (Frames::default(), Expected::new(Answers::Each(1)));
    assert!(simulation.run_until(LIMIT, || {
        frames.read(&mut client, 65_536);
        expected.check(frames.take(), "it reads");
        expected.number == 2000
    }));
    assert_eq!(handle.stats().pauses, 0);
}

/// How many messages of one session's burst are given before the message of another.
fn given_before_another(answers: Answers, outbox_messages_max: u32) -> usize {
    const BURST: usize = 3000;
    let mut simulation = Simulation::new(1);
    let order = Arc::<Mutex<Vec<u8>>>::default();
    let shared = order.clone();
    let server = Server::builder()
        .workers(1)
        .configure(|config| config.outbox_messages_max = outbox_messages_max)
        .application(Packet::new(), move |_| Answerer { answers, filler: 0, way: 0, order: shared.clone() });
    let handle = simulation.serve(server).unwrap();
    let mut clients = [simulation.connect(), simulation.connect()];
    assert!(simulation.run_until(LIMIT, || clients.iter().all(SimPeer::is_connected)));
    clients[0].write(&packet(1, &[1; 4]).repeat(BURST)).unwrap();
    clients[1].write(&packet(1, &[2; 4])).unwrap();
    let mut frames = Frames::default();
    let is_over = simulation.run_until(LIMIT, || {
        frames.read(&mut clients[0], 65_536);
        frames.count() == BURST * answers.max() && order.lock().unwrap().len() == BURST + 1
    });
    assert!(is_over, "{}", handle.stats());
    let order = order.lock().unwrap();
    order.iter().position(|who| *who == 2).unwrap()
}

/// A burst of one session is worked off in parts, and others are heard in between.
#[test]
fn a_burst_does_not_keep_others_waiting() {
    // Twice what an outbox of 64 messages may have when the next one is given.
    let place = given_before_another(Answers::Each(1), 64);
    assert!(place <= 2 * 33, "{place} messages came before it");
    // Without answers, two steps' share of messages.
    let place = given_before_another(Answers::Each(0), 64);
    assert!(place <= 2 * 256, "{place} messages came before it");
}

/// Sessions that flood and never read take no buffers from those that are honest: there are more of them than buffers.
#[test]
fn those_that_never_read_leave_the_buffers_to_others() {
    const BUFFERS: u32 = 16;
    let change = |config: &mut ServerConfig| {
        config.receive_buffers = BUFFERS;
        config.send_buffers = BUFFERS;
        config.handshake_timeout_ms = 0;
    };
    let plan = FaultPlan::default().with(|plan| {
        plan.send_buffer_bytes = 16_384;
        plan.receive_buffer_bytes = 16_384;
    });
    let mut simulation = Simulation::with_faults(1, plan);
    let handle = simulation.serve(server((Answers::Each(1), 200, 0), change)).unwrap();
    let mut deaf: Vec<SimPeer> = (0..BUFFERS + 100).map(|_| simulation.connect()).collect();
    let flood = packet(1, &[9; 100]).repeat(100);
    let mut written = vec![0; deaf.len()];
    for _ in 0..300 {
        for (peer, written) in deaf.iter_mut().zip(&mut written) {
            *written += if peer.is_connected() { peer.write(&flood[*written % 104..]).unwrap() } else { 0 };
        }
        simulation.step();
    }
    assert_eq!(handle.stats().closed(), 0, "{}", handle.stats());
    let mut honest = simulation.connect();
    assert!(simulation.run_until(LIMIT, || honest.is_connected()));
    let (mut frames, mut expected) = (Frames::default(), Expected::new(Answers::Each(1)));
    honest.write(&requests(0, 50)).unwrap();
    let is_served = simulation.run_until(Duration::from_secs(1), || {
        frames.read(&mut honest, 65_536);
        expected.check(frames.take(), "the honest one");
        expected.number == 50
    });
    assert!(is_served, "{}", handle.stats());

    for backend in BACKENDS {
        let server = server((Answers::Each(1), 200, 0), |config| {
            change(config);
            config.listen = "127.0.0.1:0".into();
            config.backend = backend.into();
        });
        let server = server.start().unwrap();
        let handle = server.handle().clone();
        let deaf: Vec<TcpStream> = (0..BUFFERS + 100).map(|_| flood_until_full(&handle, &flood)).collect();
        ask(&handle, 50, Answers::Each(1), backend);
        drop(deaf);
        handle.stop(Duration::from_secs(1));
        server.join().unwrap();
    }
}

/// A client that writes until nothing goes any more, and reads nothing.
fn flood_until_full(handle: &ServerHandle<Answerer>, flood: &[u8]) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.set_send_buffer_size(65_536).unwrap();
    socket.connect(&address_of(handle).into()).unwrap();
    let mut client = TcpStream::from(socket);
    client.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut written = 0;
    while let Ok(length) = client.write(&flood[written % 104..]) {
        written += length;
    }
    client
}

/// A deaf peer of a server with these settings, after it has sent all that goes.
fn deaf(change: impl FnOnce(&mut ServerConfig)) -> (Simulation, ServerHandle<Answerer>, SimPeer) {
    let plan = FaultPlan::default().with(|plan| {
        plan.send_buffer_bytes = 16_384;
        plan.receive_buffer_bytes = 16_384;
    });
    let mut simulation = Simulation::with_faults(1, plan);
    let handle = simulation.serve(server((Answers::Each(1), 200, 0), change)).unwrap();
    let mut client = simulation.connect();
    assert!(simulation.run_until(LIMIT, || client.is_connected()));
    let flood = packet(1, &[9; 100]).repeat(500);
    let mut written = 0;
    for _ in 0..20 {
        written += client.write(&flood[written % 104..]).unwrap();
        simulation.step();
    }
    (simulation, handle, client)
}

#[test]
fn held_input_is_charged_and_given_back_at_the_end() {
    let (mut simulation, handle, client) = deaf(|_| {});
    let stats = handle.stats();
    assert!(stats.memory_bytes > 16_384 && stats.memory_bytes < 300_000, "{stats}");
    assert_eq!((stats.messages_refused, stats.pauses), (0, 1), "{stats}");
    client.reset();
    simulation.run_for(Duration::from_secs(10));
    let after = handle.stats();
    assert_eq!((handle.sessions(), after.memory_bytes), (0, 0), "{after}");
    assert!(after.bytes_discarded > 10_000, "what was held: {after}");
    assert_eq!(after.closed_for(CloseReason::PeerReset), 1, "{after}");
}

//= OUTBOX-4, LIVE-2
#[test]
fn a_deaf_peer_is_a_slow_consumer_and_not_a_silent_one() {
    let (mut simulation, handle, _client) = deaf(|config| {
        config.slow_consumer = SlowConsumerPolicy::Disconnect;
        config.slow_consumer_grace_ms = 3000;
        config.idle_timeout_ms = 1000;
    });
    simulation.run_for(Duration::from_millis(2500));
    assert_eq!(handle.sessions(), 1, "its input is held: {}", handle.stats());
    simulation.run_for(Duration::from_millis(700));
    let stats = handle.stats();
    assert_eq!((stats.closed(), stats.closed_for(CloseReason::SlowConsumer)), (1, 1), "{stats}");
}

//= LIVE-2
#[test]
fn without_a_grace_a_deaf_peer_is_judged_by_what_it_reads() {
    let (mut simulation, handle, mut client) = deaf(|config| config.idle_timeout_ms = 1000);
    let mut frames = Frames::default();
    for _ in 0..30 {
        simulation.run_for(Duration::from_millis(300));
        frames.read(&mut client, 40_000);
    }
    assert_eq!(handle.sessions(), 1, "it has read: {}", handle.stats());
    simulation.run_for(Duration::from_millis(2500));
    assert_eq!(handle.stats().closed_for(CloseReason::IdleTimeout), 1, "{}", handle.stats());
}
