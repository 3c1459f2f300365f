//! Nothing is refused in silence: each kind is counted and told to the log, once per second, with the session.

//= OUTBOX-2

mod common;

use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::frames::{Frames, packet};
use raon::{Application, Context, Message, Packet, PacketHead, Server, ServerHandle, SessionId, SimPeer, Simulation};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Warnings, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, "{}={value:?} ", field.name());
    }
}

/// Does what the id of a packet says, often.
struct Careless {
    gone: Option<SessionId>,
}

const OFTEN: usize = 300;

impl Application for Careless {
    type Framing = Packet;
    type Session = ();
    type Post = ();

    fn on_open(&mut self, _ctx: &mut Context<'_, Self>) {}

    fn on_message(&mut self, ctx: &mut Context<'_, Self>, _session: &mut (), message: Message<'_, PacketHead>) {
        let head = message.head();
        for _ in 0..OFTEN {
            match head.id {
                1 => drop(ctx.reply(head, &[0; 4000]).is_queued()),
                2 => drop(ctx.reply(head, &[0; 70_000]).is_queued()),
                3 => drop(self.gone.map(|gone| ctx.send(gone, head, b"late"))),
                _ => drop(ctx.post(0, ())),
            }
        }
    }

    fn on_close(&mut self, ctx: &mut Context<'_, Self>, _session: (), _reason: raon::CloseReason) {
        self.gone = Some(ctx.id());
    }
}

/// A packet's id, the words of its refusal in the log, and the counter of that.
type Kind = (u16, &'static str, fn(&ServerHandle<Careless>) -> u64);

fn kinds() -> [Kind; 4] {
    [
        (1, "outbox is full", |handle| handle.stats().refused_outbox),
        (2, "cannot be framed", |handle| handle.stats().refused_encoding),
        (3, "a session that has ended", |handle| handle.stats().late),
        (4, "mailbox is full", |handle| handle.stats().refused_mailbox),
    ]
}

fn connect(simulation: &mut Simulation) -> SimPeer {
    let client = simulation.connect();
    simulation.run_for(Duration::from_millis(50));
    client
}

#[test]
fn each_kind_of_refusal_is_counted_and_logged_once_a_second() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let mut simulation = Simulation::new(1);
    let server = Server::builder().configure(|config| config.mailbox_commands_max = 10);
    let handle = simulation.serve(server.application(Packet::new(), |_| Careless { gone: None })).unwrap();
    drop(connect(&mut simulation));
    simulation.run_for(Duration::from_secs(2));
    for (id, text, counter) in kinds() {
        let before = counter(&handle);
        log.0.lock().unwrap().clear();
        let mut client = connect(&mut simulation);
        for _ in 0..2 {
            client.write(&packet(id, b"")).unwrap();
            let mut frames = Frames::default();
            simulation.run_until(Duration::from_millis(100), || {
                frames.read(&mut client, 1 << 20);
                false
            });
        }
        assert!(counter(&handle) > before + 100, "{text}: {}", handle.stats());
        let lines = || log.lines().into_iter().filter(|line| line.contains(text)).collect::<Vec<_>>();
        assert_eq!(lines().len(), 1, "{text}: {:?}", log.lines());
        assert!(lines()[0].contains("session=") && lines()[0].contains("shard=0"), "{:?}", lines());
        simulation.run_for(Duration::from_secs(1));
        client.write(&packet(id, b"")).unwrap();
        simulation.run_for(Duration::from_millis(100));
        assert_eq!(lines().len(), 2, "{text}");
    }
    let stats = handle.stats();
    assert_eq!(stats.messages_refused, stats.refused_outbox + stats.refused_memory + stats.refused_encoding, "{stats}");
}

/// A refusal to game threads is told by the shard whose mailbox was full.
#[test]
fn what_a_mailbox_refuses_is_told_by_its_shard() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let mut simulation = Simulation::new(1);
    let server = Server::builder().configure(|config| config.mailbox_commands_max = 10);
    let handle = simulation.serve(server.application(Packet::new(), |_| Careless { gone: None })).unwrap();
    let refused = (0..100).filter(|_| handle.post(0, ()).is_err()).count() as u64;
    simulation.run_for(Duration::from_millis(10));
    assert_eq!((refused, handle.stats().refused_mailbox), (90, 90));
    assert_eq!(log.lines().len(), 1, "{:?}", log.lines());
}
