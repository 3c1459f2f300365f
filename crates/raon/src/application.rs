//! Application: what the user writes, and what a callback of it can do.

pub(crate) mod broadcast;
pub(crate) mod context;
pub(crate) mod states;

use raon_provider::Kind;
use raon_session::{CloseReason, Framing, Message, Pressure};

use crate::routing::router::Router;

use self::context::Context;

/// Head of an application's messages: the header of its framing, beside the body.
///
/// ```
/// use raon::{Application, Head, MailboxRefusal, ServerHandle, SessionId};
/// fn tell<A: Application>(
///     handle: &ServerHandle<A>,
///     winners: &[SessionId],
///     head: Head<A>,
/// ) -> Result<(), MailboxRefusal> {
///     winners.iter().try_for_each(|id| handle.send(*id, head, b"you have won"))
/// }
/// ```
pub type Head<A> = <<A as Application>::Framing as Framing>::Head;

/// The router of a server that runs this application.
pub(crate) type AppRouter<A> = Router<Head<A>, <A as Application>::Post>;

/// A server's logic. Each shard has an instance of its own, made on its thread by the server's factory, so nothing in here
/// needs a lock.
///
/// Callbacks run one at a time on the shard's thread; what they send leaves when all that has come in this turn has been
/// dealt with. A callback that waits keeps all sessions of its shard waiting. One that panics ends the session that it was
/// about, see `ServerConfig::on_panic`.
///
/// Each `on_open` that returns is followed by exactly one `on_close`, unless that is where it panics.
///
/// ```
/// use raon::{Application, CloseReason, Context, Message, Packet, PacketHead, Server};
///
/// struct Counter;
///
/// impl Application for Counter {
///     type Framing = Packet;
///     type Session = u32;
///     type Post = ();
///
///     fn on_open(&mut self, _ctx: &mut Context<'_, Self>) -> u32 {
///         0
///     }
///
///     fn on_message(&mut self, ctx: &mut Context<'_, Self>, count: &mut u32, _message: Message<'_, PacketHead>) {
///         *count += 1;
///         ctx.reply(PacketHead { id: 2 }, &count.to_le_bytes());
///     }
/// }
///
/// let server = Server::builder().listen("127.0.0.1:0").application(Packet::new(), |_shard| Counter).start()?;
/// server.handle().stop(std::time::Duration::ZERO);
/// server.join()?;
/// # Ok::<(), raon::ServerError>(())
/// ```
pub trait Application: Sized + 'static {
    /// Framing: how messages lie in the stream.
    type Framing: Framing;
    /// State that is kept for each session.
    type Session: 'static;
    /// Value that is sent between shards, and to them from other threads.
    type Post: Send + 'static;

    /// A session begins.
    fn on_open(&mut self, ctx: &mut Context<'_, Self>) -> Self::Session;

    /// A message has come.
    fn on_message(
        &mut self,
        ctx: &mut Context<'_, Self>,
        session: &mut Self::Session,
        message: Message<'_, Head<Self>>,
    );

    /// The outbox of a session has passed a watermark.
    fn on_pressure(&mut self, ctx: &mut Context<'_, Self>, session: &mut Self::Session, pressure: Pressure) {
        let _ = (ctx, session, pressure);
    }

    /// Nothing has come from a session for `heartbeat_every_ms`: a good moment to ask whether it is still there.
    fn on_heartbeat(&mut self, ctx: &mut Context<'_, Self>, session: &mut Self::Session) {
        let _ = (ctx, session);
    }

    /// A session has ended: nothing can be sent to it any more, and it is in no group. What was queued before still leaves
    /// unless the reason is abrupt.
    fn on_close(&mut self, ctx: &mut Context<'_, Self>, session: Self::Session, reason: CloseReason) {
        let _ = (ctx, session, reason);
    }

    /// Every `tick_ms`.
    fn on_tick(&mut self, ctx: &mut Context<'_, Self>) {
        let _ = ctx;
    }

    /// A timer of [`Context::set_timer`].
    fn on_timer(&mut self, ctx: &mut Context<'_, Self>, token: u64) {
        let _ = (ctx, token);
    }

    /// Something posted to a key of which this shard is the home.
    fn on_post(&mut self, ctx: &mut Context<'_, Self>, key: u64, post: Self::Post) {
        let _ = (ctx, key, post);
    }

    /// The server has stopped accepting and will end: the moment to say goodbye, on each shard to its own sessions.
    fn on_shutdown(&mut self, ctx: &mut Context<'_, Self>) {
        let _ = ctx;
    }
}

/// The shard that an application is made for.
///
/// ```
/// use raon::{Raw, Server};
/// let server = Server::builder().listen("127.0.0.1:0").workers(2).framing(Raw);
/// // A factory of one's own is given one of these, once per shard.
/// let factory = |shard: raon::ShardInfo| assert!(shard.number < shard.count);
/// # let _ = (server, factory);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ShardInfo {
    /// Its number, from 0 on.
    pub number: usize,
    /// Number of shards.
    pub count: usize,
    /// Back end that it runs on.
    pub backend: Kind,
}

impl ShardInfo {
    pub(crate) fn new(number: usize, count: usize, backend: Kind) -> Self {
        ShardInfo { number, count, backend }
    }
}
