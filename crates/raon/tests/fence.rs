//! Callbacks and framings that panic: the session that it was about ends, once, and the others do not notice.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use common::frames::{Frames, packet};
use common::{BACKENDS, PATIENCE, address_of, until};
use raon::{
    Application, CloseReason, Context, Decoded, EncodeError, Framing, FramingError, Message, OnPanic, OnShardFailure,
    Packet, PacketHead, Pressure, Raw, Server, ServerBuilder, ServerError, ServerHandle, SessionId, ShardFailure,
    SimPeer, Simulation,
};

const LIMIT: Duration = Duration::from_secs(60);

/// Where the application panics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Where {
    Open,
    Message,
    Pressure,
    Heartbeat,
    Close,
    Tick,
    Timer,
    Post,
    Shutdown,
    Encoding,
}

/// What every instance writes down.
#[derive(Default)]
struct Seen {
    opens: u32,
    closes: Vec<CloseReason>,
    messages: u32,
}

struct Thorny {
    place: Where,
    seen: Arc<Mutex<Seen>>,
}

impl Thorny {
    /// A panic without a message on the test's output.
    fn at(&self, place: Where) {
        if self.place == place {
            std::panic::resume_unwind(Box::new(place));
        }
    }
}

impl Application for Thorny {
    type Framing = Packet;
    type Session = ();
    type Post = ();

    fn on_open(&mut self, ctx: &mut Context<'_, Self>) {
        ctx.reply(PacketHead { id: 1 }, b"welcome");
        self.at(Where::Open);
        self.seen.lock().unwrap().opens += 1;
    }

    /// Packets of id 2 are the thorns.
    fn on_message(&mut self, ctx: &mut Context<'_, Self>, _session: &mut (), message: Message<'_, PacketHead>) {
        self.seen.lock().unwrap().messages += 1;
        ctx.reply(PacketHead { id: 1 }, &message);
        if message.head().id == 2 {
            self.at(Where::Message);
            ctx.set_timer(Duration::ZERO, 1).unwrap();
            ctx.post(1, ()).unwrap();
            ctx.reply_with(PacketHead { id: 3 }, 10, |_| self.at(Where::Encoding));
            if self.place == Where::Close {
                ctx.close(1);
            }
            if self.place == Where::Pressure {
                for _ in 0..600 {
                    ctx.reply(PacketHead { id: 4 }, &[0; 1000]);
                }
            }
        }
    }

    fn on_pressure(&mut self, _ctx: &mut Context<'_, Self>, _session: &mut (), _pressure: Pressure) {
        self.at(Where::Pressure);
    }

    fn on_heartbeat(&mut self, _ctx: &mut Context<'_, Self>, _session: &mut ()) {
        self.at(Where::Heartbeat);
    }

    fn on_close(&mut self, _ctx: &mut Context<'_, Self>, _session: (), reason: CloseReason) {
        self.seen.lock().unwrap().closes.push(reason);
        self.at(Where::Close);
    }

    fn on_tick(&mut self, _ctx: &mut Context<'_, Self>) {
        self.at(Where::Tick);
    }

    fn on_timer(&mut self, _ctx: &mut Context<'_, Self>, _token: u64) {
        self.at(Where::Timer);
    }

    fn on_post(&mut self, _ctx: &mut Context<'_, Self>, _key: u64, (): ()) {
        self.at(Where::Post);
    }

    fn on_shutdown(&mut self, _ctx: &mut Context<'_, Self>) {
        self.at(Where::Shutdown);
    }
}

struct Rig {
    simulation: Simulation,
    handle: ServerHandle<Thorny>,
    seen: Arc<Mutex<Seen>>,
}

fn rig(place: Where, on_panic: OnPanic, workers: u32) -> Rig {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let shared = seen.clone();
    let mut simulation = Simulation::new(1);
    let server = Server::builder().workers(workers).configure(|config| {
        (config.on_panic, config.on_shard_failure) = (on_panic, OnShardFailure::GoOn);
        config.outbox_bytes_max = 1 << 20;
        config.heartbeat_every_ms = if place == Where::Heartbeat { 20 } else { 0 };
        config.tick_ms = if place == Where::Tick { 20 } else { 0 };
    });
    let application = move |_| Thorny { place, seen: shared.clone() };
    let handle = simulation.serve(server.application(Packet::new(), application)).unwrap();
    Rig { simulation, handle, seen }
}

fn connect(rig: &mut Rig) -> SimPeer {
    let client = rig.simulation.connect();
    rig.simulation.run_for(Duration::from_millis(5));
    client
}

/// All that comes until the end, or until nothing more does.
fn hear(rig: &mut Rig, client: &mut SimPeer) -> Frames {
    let mut frames = Frames::default();
    rig.simulation.run_until(Duration::from_millis(500), || {
        frames.read(client, 1 << 20);
        frames.end.is_some()
    });
    frames
}

#[test]
fn the_session_that_it_was_about_ends_and_the_others_go_on() {
    for place in [Where::Message, Where::Pressure, Where::Encoding] {
        let mut rig = rig(place, OnPanic::Continue, 1);
        let (mut thorn, mut other) = (connect(&mut rig), connect(&mut rig));
        // The messages before the thorn are answered, those behind it are discarded.
        thorn.write(&[packet(1, b"before"), packet(2, b"thorn"), packet(1, b"behind")].concat()).unwrap();
        let mut heard = hear(&mut rig, &mut thorn);
        assert_eq!(heard.end, Some(true), "{place:?}");
        let bodies: Vec<Vec<u8>> = heard.take().into_iter().map(|(_, body)| body).take(3).collect();
        assert_eq!(bodies, [&b"welcome"[..], b"before", b"thorn"], "{place:?}");
        let stats = rig.handle.stats();
        assert_eq!((stats.panics, stats.closed_for(CloseReason::ApplicationPanic)), (1, 1), "{place:?}: {stats}");
        assert_eq!(stats.bytes_discarded, 4 + 6, "{place:?}: {stats}");
        assert_eq!(rig.seen.lock().unwrap().closes, [CloseReason::ApplicationPanic], "{place:?}: once");
        other.write(&packet(1, b"fine")).unwrap();
        assert_eq!(hear(&mut rig, &mut other).count(), 2, "{place:?}");
        assert_eq!(rig.seen.lock().unwrap().messages, 3, "{place:?}");
    }
}

#[test]
fn a_panic_where_a_session_begins_leaves_none_behind() {
    let mut rig = rig(Where::Open, OnPanic::Continue, 1);
    let mut client = connect(&mut rig);
    let heard = hear(&mut rig, &mut client);
    assert_eq!((heard.count(), heard.end), (1, Some(true)), "what was said before it still leaves");
    drop(client);
    rig.simulation.run_for(Duration::from_millis(10));
    let seen = rig.seen.lock().unwrap();
    assert_eq!((seen.opens, seen.closes.len(), rig.handle.sessions()), (0, 0, 0));
    let stats = rig.handle.stats();
    assert_eq!((stats.opened, stats.sessions, stats.closed_for(CloseReason::ApplicationPanic)), (0, 0, 1), "{stats}");
}

#[test]
fn a_panic_that_is_about_no_session_ends_none() {
    for place in [Where::Close, Where::Tick, Where::Timer, Where::Post, Where::Shutdown, Where::Heartbeat] {
        let mut rig = rig(place, OnPanic::Continue, 1);
        let (mut first, mut other) = (connect(&mut rig), connect(&mut rig));
        first.write(&packet(2, b"thorn")).unwrap();
        other.write(&packet(1, b"fine")).unwrap();
        rig.simulation.run_for(Duration::from_millis(50));
        if place == Where::Shutdown {
            rig.handle.stop(Duration::from_secs(1));
        }
        let left = if place == Where::Heartbeat { 0 } else { 1 };
        hear(&mut rig, &mut first);
        let stats = rig.handle.stats();
        assert!(stats.panics > 0, "{place:?}: {stats}");
        if place != Where::Shutdown {
            // The heartbeat of a session is about that session.
            let of_panic = stats.closed_for(CloseReason::ApplicationPanic);
            assert_eq!(of_panic, if left == 0 { 2 } else { 0 }, "{place:?}: {stats}");
            assert_eq!(stats.sessions, [0, 2][usize::from(left > 0)] - u64::from(place == Where::Close), "{place:?}");
        }
        rig.handle.stop(Duration::from_secs(1));
        drop((first, other));
        assert!(rig.simulation.run_to_end(Duration::from_secs(5)).unwrap(), "{place:?}");
        let seen = rig.seen.lock().unwrap();
        assert_eq!((seen.opens as usize, seen.closes.len()), (2, 2), "{place:?}: each open has one close");
    }
}

#[test]
fn a_shard_that_is_to_stop_closes_its_sessions_and_the_others_go_on() {
    let mut rig = rig(Where::Message, OnPanic::StopShard, 2);
    let mut clients: Vec<SimPeer> = (0..4).map(|_| connect(&mut rig)).collect();
    let before: Vec<u64> = rig.handle.shard_stats().iter().map(|stats| stats.sessions).collect();
    assert_eq!(before, [2, 2]);
    clients[0].write(&packet(2, b"thorn")).unwrap();
    let ends: Vec<Option<bool>> = clients.iter_mut().map(|client| hear(&mut rig, client).end).collect();
    assert_eq!(ends.iter().filter(|end| end.is_none()).count(), 2, "those of the other shard: {ends:?}");
    let after: Vec<u64> = rig.handle.shard_stats().iter().map(|stats| stats.sessions).collect();
    assert!(after == [0, 2] || after == [2, 0], "{after:?}");
    rig.handle.stop(Duration::ZERO);
    let ended = rig.simulation.run_to_end(LIMIT);
    assert!(matches!(ended, Err(ServerError::ShardFailed { failure: ShardFailure::Callback, .. })), "{ended:?}");
    let seen = rig.seen.lock().unwrap();
    assert_eq!((seen.opens, seen.closes.len()), (4, 4));
}

/// Place at which a framing panics when a message is to be framed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Check,
    Prefix,
}

/// Bodies as they come, with nothing around them; or with a byte before, for the panic in writing it.
#[derive(Clone, Copy)]
struct ThornyFraming(Step);

impl ThornyFraming {
    fn at(self, step: Step, is_thorn: bool) {
        if self.0 == step && is_thorn {
            std::panic::resume_unwind(Box::new("a framing"));
        }
    }
}

impl Framing for ThornyFraming {
    type Head = bool;

    fn decode(&self, input: &[u8], scanned: usize) -> Result<Decoded<bool>, FramingError> {
        Ok(match Raw.decode(input, scanned)? {
            Decoded::Frame { body, length, .. } => Decoded::Frame { head: false, body, length },
            Decoded::Incomplete { length, scanned } => Decoded::Incomplete { length, scanned },
        })
    }

    fn prefix_bytes(&self) -> usize {
        usize::from(self.0 == Step::Prefix)
    }

    fn write_prefix(&self, is_thorn: bool, _body_bytes: usize, out: &mut [u8]) {
        out.fill(b'>');
        self.at(Step::Prefix, is_thorn);
    }

    fn check(&self, is_thorn: bool, _body: &[u8]) -> Result<(), EncodeError> {
        self.at(Step::Check, is_thorn);
        Ok(())
    }

    fn message_bytes_max(&self) -> usize {
        Raw.message_bytes_max()
    }
}

/// Notes its sessions, and how they end.
#[derive(Clone, Default)]
struct Listener {
    sessions: Arc<Mutex<Vec<SessionId>>>,
    closes: Arc<Mutex<Vec<CloseReason>>>,
}

impl Application for Listener {
    type Framing = ThornyFraming;
    type Session = ();
    type Post = ();

    fn on_open(&mut self, ctx: &mut Context<'_, Self>) {
        self.sessions.lock().unwrap().push(ctx.id());
    }

    fn on_message(&mut self, _ctx: &mut Context<'_, Self>, _session: &mut (), _message: Message<'_, bool>) {}

    fn on_close(&mut self, _ctx: &mut Context<'_, Self>, _session: (), reason: CloseReason) {
        self.closes.lock().unwrap().push(reason);
    }
}

fn listening(step: Step, on_panic: OnPanic) -> (ServerBuilder<Listener>, Listener) {
    let listener = Listener::default();
    let shared = listener.clone();
    let builder = Server::builder().listen("127.0.0.1:0").workers(1).configure(|config| config.on_panic = on_panic);
    (builder.application(ThornyFraming(step), move |_| shared.clone()), listener)
}

/// From another thread: a word to both, the thorn to the first, copied or by reference, and another word to both.
fn send_thorn(handle: &ServerHandle<Listener>, sessions: &[SessionId], is_shared: bool) {
    let (handle, sessions) = (handle.clone(), sessions.to_vec());
    let sender = std::thread::spawn(move || {
        let word = |body: &[u8]| sessions.iter().for_each(|id| handle.send(*id, false, body).unwrap());
        word(b"one");
        match is_shared {
            true => handle.send_shared(sessions[0], true, Bytes::from(vec![7; 1000])).unwrap(),
            false => handle.send(sessions[0], true, b"thorn").unwrap(),
        }
        word(b"two");
    });
    sender.join().unwrap();
}

fn words(step: Step, words: &[&str]) -> Vec<u8> {
    let prefix = if step == Step::Prefix { ">" } else { "" };
    words.iter().flat_map(|word| format!("{prefix}{word}").into_bytes()).collect()
}

const CASES: [(Step, bool); 4] =
    [(Step::Check, false), (Step::Check, true), (Step::Prefix, false), (Step::Prefix, true)];

#[test]
fn a_framing_that_panics_at_a_message_from_elsewhere_ends_its_receiver() {
    for (step, is_shared) in CASES {
        let (server, listener) = listening(step, OnPanic::Continue);
        let mut simulation = Simulation::new(1);
        let handle = simulation.serve(server).unwrap();
        let mut clients = [simulation.connect(), simulation.connect()];
        simulation.run_until(LIMIT, || listener.sessions.lock().unwrap().len() == 2);
        send_thorn(&handle, &listener.sessions.lock().unwrap().clone(), is_shared);
        simulation.run_for(Duration::from_millis(50));
        for (client, expected) in clients.iter_mut().zip([words(step, &["one"]), words(step, &["one", "two"])]) {
            let mut bytes = [0; 64];
            let length = client.read(&mut bytes).unwrap().unwrap();
            assert_eq!(bytes[..length], expected, "{step:?}, {is_shared}");
        }
        let stats = handle.stats();
        assert_eq!((stats.panics, stats.sessions, stats.shard_failures), (1, 1, 0), "{step:?}: {stats}");
        assert_eq!(*listener.closes.lock().unwrap(), [CloseReason::ApplicationPanic], "{step:?}");
    }
}

#[test]
fn a_framing_that_panics_leaves_a_server_on_threads_running() {
    for (backend, (step, is_shared)) in BACKENDS.into_iter().flat_map(|backend| CASES.map(|case| (backend, case))) {
        let (server, listener) = listening(step, OnPanic::Continue);
        let mut server = server;
        server.configure(|config| config.backend = backend.into());
        let server = server.start().unwrap();
        let handle = server.handle().clone();
        let mut clients: Vec<TcpStream> = Vec::new();
        for count in 1..=2 {
            clients.push(TcpStream::connect(address_of(&handle)).unwrap());
            until("its session", || listener.sessions.lock().unwrap().len() == count);
        }
        send_thorn(&handle, &listener.sessions.lock().unwrap().clone(), is_shared);
        let mut heard = Vec::new();
        clients[0].set_read_timeout(Some(PATIENCE)).unwrap();
        clients[0].read_to_end(&mut heard).unwrap();
        assert_eq!(heard, words(step, &["one"]), "{backend}, {step:?}: in order, and nothing behind it");
        let mut heard = vec![0; words(step, &["one", "two"]).len()];
        clients[1].set_read_timeout(Some(PATIENCE)).unwrap();
        clients[1].read_exact(&mut heard).unwrap();
        assert_eq!(heard, words(step, &["one", "two"]), "{backend}, {step:?}");
        clients[1].write_all(b"still there").unwrap();
        until("the other one to be heard", || handle.stats().messages_received > 0);
        handle.stop(Duration::ZERO);
        server.join().unwrap();
        assert_eq!(handle.stats().panics, 1, "{backend}, {step:?}");
    }
}

#[test]
fn a_framing_that_panics_stops_its_shard_if_callbacks_do() {
    let (server, listener) = listening(Step::Check, OnPanic::StopShard);
    let mut simulation = Simulation::new(1);
    let handle = simulation.serve(server).unwrap();
    let _clients = [simulation.connect(), simulation.connect()];
    simulation.run_until(LIMIT, || listener.sessions.lock().unwrap().len() == 2);
    send_thorn(&handle, &listener.sessions.lock().unwrap().clone(), false);
    let ended = simulation.run_to_end(LIMIT);
    assert!(matches!(ended, Err(ServerError::ShardFailed { failure: ShardFailure::Callback, .. })), "{ended:?}");
    assert_eq!(listener.closes.lock().unwrap().len(), 2, "each open has one close");
}
