//! The server's side of the protocol, as an application of the engine.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use raon::{Application, CloseReason, Context, Message, Packet, PacketHead, SendOutcome};

use super::{Body, ConnectAnswer, ConnectRequest, FULL, OK, PingAnswer, PingRequest, WRONG_VERSION};

/// Why this application ends a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// The client's version is not accepted.
    WrongVersion,
    /// As many clients are connected as may be.
    Full,
    /// A packet has an id that the protocol does not have, or not in this direction.
    UnknownMessage,
    /// The body of a packet is not as long as its kind is.
    WrongSize,
    /// A ping before the connect request.
    NotConnected,
    /// A second connect request.
    ConnectedTwice,
}

impl End {
    const COUNT: usize = 6;
    const NAMES: [&'static str; Self::COUNT] =
        ["wrong_version", "full", "unknown_message", "wrong_size", "not_connected", "connected_twice"];
}

/// What all shards share: who may connect, and what became of them.
#[derive(Debug)]
pub(crate) struct Rules {
    versions: RangeInclusive<u32>,
    clients_max: u32,
    clients: AtomicU32,
    /// Connect requests that were answered with `OK`.
    connected: AtomicU64,
    ends: [AtomicU64; End::COUNT],
}

impl Rules {
    pub(crate) fn new(versions: RangeInclusive<u32>, clients_max: u32) -> Self {
        Rules {
            versions,
            clients_max,
            clients: AtomicU32::new(0),
            connected: AtomicU64::new(0),
            ends: Default::default(),
        }
    }

    /// Clients that were let in so far.
    pub(crate) fn connected(&self) -> u64 {
        self.connected.load(Ordering::Relaxed)
    }

    /// How many sessions this application has ended, by reason.
    pub(crate) fn ends(&self) -> impl Iterator<Item = (&'static str, u64)> {
        End::NAMES.into_iter().zip(&self.ends).map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }

    /// Lets one more client in. Errors: why not.
    fn admit(&self, version: u32) -> Result<(), (u8, End)> {
        if !self.versions.contains(&version) {
            return Err((WRONG_VERSION, End::WrongVersion));
        }
        let next = |clients| (clients < self.clients_max).then_some(clients + 1);
        match self.clients.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(_) => {
                self.connected.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(_) => Err((FULL, End::Full)),
        }
    }
}

/// The application of one shard.
pub(crate) struct Pingpong {
    rules: Arc<Rules>,
    clock: WallClock,
}

/// The state of a session.
pub(crate) struct Client {
    /// Its connect request was answered with `OK`.
    is_connected: bool,
}

impl Pingpong {
    pub(crate) fn new(rules: Arc<Rules>) -> Self {
        Pingpong { rules, clock: WallClock::default() }
    }

    fn connect(&mut self, ctx: &mut Context<'_, Self>, client: &mut Client, body: &[u8]) -> Result<(), End> {
        let request = ConnectRequest::parse(body).ok_or(End::WrongSize)?;
        if client.is_connected {
            return Err(End::ConnectedTwice);
        }
        let admitted = self.rules.admit(request.client_version);
        client.is_connected = admitted.is_ok();
        let result = admitted.map_or_else(|(result, _)| result, |()| OK);
        let server_time_s = (self.clock.unix_ms(ctx.now_ns()) / 1000) as u32;
        reply(ctx, &ConnectAnswer { session_id: ctx.id().to_bits(), server_time_s, result });
        admitted.map_err(|(_, end)| end)
    }

    fn ping(&mut self, ctx: &mut Context<'_, Self>, client: &Client, body: &[u8]) -> Result<(), End> {
        let PingRequest { client_time_ms, sequence } = PingRequest::parse(body).ok_or(End::WrongSize)?;
        if !client.is_connected {
            return Err(End::NotConnected);
        }
        let server_time_ms = self.clock.unix_ms(ctx.now_ns());
        reply(ctx, &PingAnswer { client_time_ms, server_time_ms, sequence });
        Ok(())
    }
}

impl Application for Pingpong {
    type Framing = Packet;
    type Session = Client;
    type Post = ();

    fn on_open(&mut self, ctx: &mut Context<'_, Self>) -> Client {
        self.clock.set(ctx.now_ns());
        Client { is_connected: false }
    }

    fn on_message(&mut self, ctx: &mut Context<'_, Self>, client: &mut Client, message: Message<'_, PacketHead>) {
        let done = match message.head().id {
            ConnectRequest::ID => self.connect(ctx, client, &message),
            PingRequest::ID => self.ping(ctx, client, &message),
            _ => Err(End::UnknownMessage),
        };
        if let Err(end) = done {
            ctx.close(end as u16);
        }
    }

    fn on_close(&mut self, _ctx: &mut Context<'_, Self>, client: Client, reason: CloseReason) {
        if client.is_connected {
            self.rules.clients.fetch_sub(1, Ordering::Relaxed);
        }
        if let CloseReason::Application(code) = reason
            && let Some(count) = self.rules.ends.get(usize::from(code))
        {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn reply<B: Body>(ctx: &mut Context<'_, Pingpong>, body: &B) -> SendOutcome {
    ctx.reply(PacketHead { id: B::ID }, body.to_bytes().as_ref())
}

/// The time of day by the shard's clock, so that no message asks the system for it. Set with every session, it follows
/// whoever corrects the system's clock.
#[derive(Default)]
struct WallClock {
    unix_ms: u64,
    at_ns: u64,
}

impl WallClock {
    fn set(&mut self, now_ns: u64) {
        // Before 1970 it stays at 0.
        self.unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        self.at_ns = now_ns;
    }

    fn unix_ms(&self, now_ns: u64) -> u64 {
        self.unix_ms + now_ns.saturating_sub(self.at_ns) / 1_000_000
    }
}

#[cfg(test)]
mod tests;
