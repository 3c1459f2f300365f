//! The framed protocol on the whole engine, in its default configuration but for the deadline of a handshake: an idle
//! connection of the comparison has nothing to say.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use raon::{
    Application, Context, MailboxRefusal, Message, Packet, PacketHead, RunningServer, Server, ServerHandle, SessionId,
};

use super::{Options, listening};
use crate::framed::{ECHO, ECHOED, GRANT, JOIN, JOINED, PUSH};
use crate::socket;

/// What is said to a session that does not keep to the protocol.
const MALFORMED: u16 = 1;
/// Numbers of sessions are below this.
const SESSIONS_MAX: u32 = 1 << 20;

/// Sessions by number, for the producer.
type Sessions = Arc<Mutex<Vec<SessionId>>>;

struct Grant {
    count: u32,
    sessions: u32,
}

struct Service {
    sessions: Sessions,
    grants: Sender<Grant>,
}

impl Application for Service {
    type Framing = Packet;
    type Session = ();
    type Post = ();

    fn on_open(&mut self, _ctx: &mut Context<'_, Self>) {}

    fn on_message(&mut self, ctx: &mut Context<'_, Self>, (): &mut (), message: Message<'_, PacketHead>) {
        let number = |at: usize| {
            message.get(at..at + 4).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        };
        match (message.head().id, number(0), number(4)) {
            (ECHO, ..) => {
                ctx.reply(PacketHead { id: ECHOED }, &message);
            }
            (JOIN, Some(own), _) if own < SESSIONS_MAX => {
                self.join(own as usize, ctx.id());
                ctx.reply(PacketHead { id: JOINED }, &message);
            }
            (GRANT, Some(count), Some(sessions)) if (1..=SESSIONS_MAX).contains(&sessions) => {
                // The producer lives as long as the process.
                let _ = self.grants.send(Grant { count, sessions });
            }
            _ => ctx.close(MALFORMED),
        }
    }
}

impl Service {
    fn join(&self, number: usize, id: SessionId) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() <= number {
            sessions.resize(number + 1, SessionId::NONE);
        }
        sessions[number] = id;
    }
}

/// Serves until the process is killed.
pub(super) fn serve(options: &Options) -> io::Result<()> {
    let listener = socket::listener(options.listen, options.congestion.as_deref())?;
    let (grants, granted) = mpsc::channel();
    let sessions = Sessions::default();
    let server = start(options, listener, grants, sessions.clone()).map_err(io::Error::other)?;
    let handle = server.handle().clone();
    let address = handle.address().cloned();
    std::thread::Builder::new().name("producer".to_owned()).spawn(move || produce(&granted, &sessions, &handle))?;
    let address = address.ok_or_else(|| io::Error::other("the server does not say where it listens"))?;
    listening(address, options.backend)?;
    server.join().map_err(io::Error::other)
}

fn start(
    options: &Options,
    listener: socket2::Socket,
    grants: Sender<Grant>,
    sessions: Sessions,
) -> Result<RunningServer<Service>, raon::ServerError> {
    let builder = Server::builder().workers(1).configure(|config| {
        config.backend = options.backend.to_string();
        config.handshake_timeout_ms = 0;
    });
    let factory = move |_| Service { sessions: sessions.clone(), grants: grants.clone() };
    builder.application(Packet::new(), factory).listener(listener).start()
}

/// Sends to random sessions what it was granted, as a game's own thread would; it waits while the shard has no room.
fn produce(granted: &Receiver<Grant>, sessions: &Sessions, handle: &ServerHandle<Service>) {
    let mut sequences: Vec<u32> = Vec::new();
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    while let Ok(Grant { count, sessions: below }) = granted.recv() {
        sequences.resize(sequences.len().max(below as usize), 0);
        let ids = sessions.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for _ in 0..count {
            let number = (next(&mut random) % u64::from(below)) as u32;
            let sequence = &mut sequences[number as usize];
            let id = ids.get(number as usize).copied().unwrap_or(SessionId::NONE);
            let body = push(number, *sequence);
            while handle.send(id, PacketHead { id: PUSH }, &body) == Err(MailboxRefusal::Busy) {
                std::thread::yield_now();
            }
            *sequence += 1;
        }
    }
}

/// What is pushed: number of the session, sequence number, and bytes that say where they are in the frame.
fn push(number: u32, sequence: u32) -> [u8; 60] {
    let mut body: [u8; 60] = std::array::from_fn(|at| at as u8 + 4);
    body[..4].copy_from_slice(&number.to_le_bytes());
    body[4..8].copy_from_slice(&sequence.to_le_bytes());
    body
}

/// xorshift64*, the upper half.
fn next(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32
}
