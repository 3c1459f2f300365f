//! The application under test. It does a bit of everything, and writes down what it was told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use raon::{Application, CloseReason, Context, Message, Packet, PacketHead, Pressure, SessionId};

/// What a client asks for, in the id of its packet.
pub(crate) const ECHO: u16 = 1;
pub(crate) const TO_ANOTHER: u16 = 2;
pub(crate) const SHOUT: u16 = 3;
pub(crate) const SNAPSHOT: u16 = 4;
pub(crate) const POST: u16 = 5;
pub(crate) const TIMER: u16 = 6;
pub(crate) const CLOSE_ME: u16 = 7;
pub(crate) const CLOSE_ANOTHER: u16 = 8;
pub(crate) const PANIC: u16 = 9;
pub(crate) const LARGE: u16 = 10;

/// What comes back, in the id of its packet. The body: for whom, from which origin, that origin's count, filler.
pub(crate) const WELCOME: u16 = 100;
/// Of its own session: in order with the welcome and all replies.
pub(crate) const REPLY: u16 = 101;
pub(crate) const FROM_ANOTHER: u16 = 102;
pub(crate) const SHOUTED: u16 = 103;
pub(crate) const SNAPPED: u16 = 104;
pub(crate) const FROM_OUTSIDE: u16 = 105;
/// For all but the one that it names.
pub(crate) const SHOUTED_TO_OTHERS: u16 = 106;

/// The key under which all shards post: it has one home.
const ROOM: u64 = 42;
const GROUPS: u64 = 3;

/// What happened to one session.
#[derive(Default, Debug)]
pub(crate) struct Account {
    pub(crate) opens: u32,
    pub(crate) closes: Vec<CloseReason>,
    pub(crate) client: Option<u32>,
    /// Messages that came.
    pub(crate) received: u32,
    /// Messages of its own that were queued for it.
    pub(crate) replies: u64,
    /// The application has closed it.
    is_closed: bool,
}

/// What the applications of all shards write down.
#[derive(Default, Debug)]
pub(crate) struct Log {
    pub(crate) sessions: BTreeMap<SessionId, Account>,
    pub(crate) faults: Vec<String>,
    /// Posts that a shard has sent, and those that came, per sender: in order.
    pub(crate) posted: BTreeMap<usize, u64>,
    pub(crate) came: BTreeMap<usize, u64>,
    pub(crate) homes: Vec<usize>,
    pub(crate) shutdowns: u32,
}

pub(crate) type SharedLog = Arc<Mutex<Log>>;

/// See the module.
pub(crate) struct Game {
    log: SharedLog,
    shard: usize,
    /// Of everything that this shard says to others.
    count: u64,
    last: Option<SessionId>,
}

impl Game {
    pub(crate) fn new(log: SharedLog, shard: usize) -> Self {
        Game { log, shard, count: 0, last: None }
    }

    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }
}

/// A body for a client.
pub(crate) fn body(to: SessionId, origin: u64, count: u64, filler: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(24 + filler);
    body.extend_from_slice(&to.to_bits().to_le_bytes());
    body.extend_from_slice(&origin.to_le_bytes());
    body.extend_from_slice(&count.to_le_bytes());
    body.resize(24 + filler, count as u8);
    body
}

impl Application for Game {
    type Framing = Packet;
    type Session = SessionId;
    type Post = (usize, u64);

    fn on_open(&mut self, ctx: &mut Context<'_, Self>) -> SessionId {
        let id = ctx.id();
        ctx.group(id.to_bits() % GROUPS).join();
        ctx.group("all").join();
        let is_queued = ctx.reply(PacketHead { id: WELCOME }, &body(id, 0, 1, 0)).is_queued();
        let mut log = self.log.lock().unwrap();
        let account = log.sessions.entry(id).or_default();
        account.opens += 1;
        account.replies += u64::from(is_queued);
        id
    }

    fn on_message(&mut self, ctx: &mut Context<'_, Self>, session: &mut SessionId, message: Message<'_, PacketHead>) {
        let id = ctx.id();
        self.check(id, *session, &message);
        let other = self.last.replace(id).unwrap_or(id);
        match message.head().id {
            ECHO => self.reply(ctx, message.len()),
            LARGE => self.reply(ctx, 3000),
            TO_ANOTHER => {
                let count = self.next();
                ctx.send(other, PacketHead { id: FROM_ANOTHER }, &body(other, self.shard as u64, count, 10));
            }
            SHOUT => {
                let count = self.next();
                let large = if count.is_multiple_of(4) { 800 } else { 20 };
                let except = count.is_multiple_of(3).then_some(id);
                let kind = if except.is_some() { SHOUTED_TO_OTHERS } else { SHOUTED };
                let body = body(except.unwrap_or(SessionId::NONE), self.shard as u64, count, large);
                ctx.group(id.to_bits() % GROUPS).broadcast(except, PacketHead { id: kind }, &body);
            }
            SNAPSHOT => {
                let count = self.next();
                let body = body(SessionId::NONE, self.shard as u64, count, 600);
                ctx.group("all").broadcast_droppable(None, 7, PacketHead { id: SNAPPED }, &body);
            }
            POST => self.post(ctx),
            TIMER => drop(ctx.set_timer(Duration::from_micros(id.to_bits() % 5000), id.to_bits())),
            CLOSE_ME => {
                ctx.close(9);
                self.log.lock().unwrap().sessions.entry(id).or_default().is_closed = true;
            }
            CLOSE_ANOTHER => drop(ctx.close_session(other, 8)),
            PANIC => std::panic::resume_unwind(Box::new("asked for")),
            _ => {}
        }
        let is_own = ctx.session_mut(id).is_some();
        if is_own {
            self.fault(format!("{id}: its own state was there twice"));
        }
    }

    fn on_pressure(&mut self, ctx: &mut Context<'_, Self>, session: &mut SessionId, _pressure: Pressure) {
        if ctx.id() != *session {
            self.fault(format!("{}: pressure with the state of {session}", ctx.id()));
        }
    }

    fn on_close(&mut self, ctx: &mut Context<'_, Self>, session: SessionId, reason: CloseReason) {
        if ctx.id() != session || ctx.reply(PacketHead { id: REPLY }, &[0; 24]).is_queued() {
            self.fault(format!("{session}: something was queued behind its end"));
        }
        self.log.lock().unwrap().sessions.entry(session).or_default().closes.push(reason);
    }

    fn on_timer(&mut self, ctx: &mut Context<'_, Self>, token: u64) {
        let count = self.next();
        let id = SessionId::from_bits(token);
        ctx.send(id, PacketHead { id: FROM_ANOTHER }, &body(id, self.shard as u64, count, 5));
    }

    fn on_tick(&mut self, ctx: &mut Context<'_, Self>) {
        if ctx.now_ns().is_multiple_of(3) {
            self.post(ctx);
        }
    }

    fn on_post(&mut self, ctx: &mut Context<'_, Self>, key: u64, (sender, count): (usize, u64)) {
        let mut log = self.log.lock().unwrap();
        let last = log.came.insert(sender, count).unwrap_or(0);
        if last + 1 != count || key != ROOM {
            log.faults.push(format!("shard {sender}: post {count} after {last}"));
        }
        if !log.homes.contains(&ctx.shard()) {
            log.homes.push(ctx.shard());
        }
    }

    fn on_shutdown(&mut self, ctx: &mut Context<'_, Self>) {
        self.log.lock().unwrap().shutdowns += 1;
        let count = self.next();
        let body = body(SessionId::NONE, self.shard as u64, count, 3);
        ctx.group("all").broadcast(None, PacketHead { id: SHOUTED }, &body);
    }
}

impl Game {
    fn fault(&self, what: String) {
        self.log.lock().unwrap().faults.push(what);
    }

    fn reply(&mut self, ctx: &mut Context<'_, Self>, filler: usize) {
        let id = ctx.id();
        let mut log = self.log.lock().unwrap();
        let account = log.sessions.entry(id).or_default();
        if ctx.reply(PacketHead { id: REPLY }, &body(id, 0, account.replies + 1, filler)).is_queued() {
            account.replies += 1;
        }
    }

    fn post(&mut self, ctx: &mut Context<'_, Self>) {
        let mut log = self.log.lock().unwrap();
        let posted = log.posted.entry(self.shard).or_default();
        if ctx.post(ROOM, (self.shard, *posted + 1)).is_ok() {
            *posted += 1;
        }
    }

    /// Every message says who sends it and how many it has sent before.
    fn check(&mut self, id: SessionId, state: SessionId, message: &[u8]) {
        let mut log = self.log.lock().unwrap();
        let account = log.sessions.entry(id).or_default();
        let client = u32::from_le_bytes(message[..4].try_into().unwrap());
        let count = u32::from_le_bytes(message[4..8].try_into().unwrap());
        let expected = (*account.client.get_or_insert(client), account.received);
        account.received += 1;
        let is_over = !account.closes.is_empty() || account.is_closed;
        if (client, count) != expected || state != id || is_over {
            log.faults.push(format!(
                "{id}: client {client}'s message {count} came with the state of {state}, {expected:?} was expected"
            ));
        }
    }
}
