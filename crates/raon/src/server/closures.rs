//! A server of a few closures, for applications that keep nothing.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use raon_session::{CloseReason, Framing, Message, SendOutcome};

use crate::application::context::Context;
use crate::application::{Application, Head};
use crate::error::ServerError;
use crate::server::{Builder, RunningServer, ServerBuilder};

type OnOpen<F> = Arc<dyn Fn(&mut ClosureContext<'_, '_, F>) + Send + Sync>;
type OnMessage<F> = Arc<dyn Fn(&mut ClosureContext<'_, '_, F>, Message<'_, <F as Framing>::Head>) + Send + Sync>;
type OnClose<F> = Arc<dyn Fn(&mut ClosureContext<'_, '_, F>, CloseReason) + Send + Sync>;

/// A server whose application is a few closures. They are shared by all shards.
///
/// ```
/// use raon::{Raw, Server, ServerError};
/// let server = Server::builder()
///     .listen("127.0.0.1:0")
///     .framing(Raw)
///     .on_open(|ctx| drop(ctx.reply_with((), b"hello")))
///     .on_message(|ctx, message| ctx.reply(message))
///     .on_close(|_ctx, reason| println!("{reason}"))
///     .start()?;
/// # server.handle().stop(std::time::Duration::ZERO);
/// server.join()?;
/// # Ok::<(), ServerError>(())
/// ```
pub struct ClosureBuilder<F: Framing> {
    builder: Builder,
    framing: F,
    closures: Closures<F>,
}

impl<F: Framing> ClosureBuilder<F> {
    pub(crate) fn new(builder: Builder, framing: F) -> Self {
        let closures =
            Closures { on_open: Arc::new(|_| {}), on_message: Arc::new(|_, _| {}), on_close: Arc::new(|_, _| {}) };
        ClosureBuilder { builder, framing, closures }
    }

    /// Called when a session begins.
    pub fn on_open(mut self, call: impl Fn(&mut ClosureContext<'_, '_, F>) + Send + Sync + 'static) -> Self {
        self.closures.on_open = Arc::new(call);
        self
    }

    /// Called for each message. What it returns is of no interest, so it may end with a reply.
    pub fn on_message<R>(
        mut self,
        call: impl Fn(&mut ClosureContext<'_, '_, F>, Message<'_, F::Head>) -> R + Send + Sync + 'static,
    ) -> Self {
        self.closures.on_message = Arc::new(move |exchange, message| drop(call(exchange, message)));
        self
    }

    /// Called when a session has ended.
    pub fn on_close(
        mut self,
        call: impl Fn(&mut ClosureContext<'_, '_, F>, CloseReason) + Send + Sync + 'static,
    ) -> Self {
        self.closures.on_close = Arc::new(call);
        self
    }

    /// The server, for whoever starts it in another way.
    pub fn build(self) -> ServerBuilder<Closures<F>> {
        let closures = self.closures;
        self.builder.application(self.framing, move |_shard| closures.clone())
    }

    /// As [`ServerBuilder::start`].
    pub fn start(self) -> Result<RunningServer<Closures<F>>, ServerError> {
        self.build().start()
    }

    /// As [`ServerBuilder::run`].
    pub fn run(self) -> Result<(), ServerError> {
        self.build().run()
    }
}

/// The application that a [`ClosureBuilder`] makes.
///
/// ```
/// use raon::{Closures, Raw, Server, ServerBuilder};
/// let server: ServerBuilder<Closures<Raw>> = Server::builder().framing(Raw).build();
/// ```
pub struct Closures<F: Framing> {
    on_open: OnOpen<F>,
    on_message: OnMessage<F>,
    on_close: OnClose<F>,
}

impl<F: Framing> Clone for Closures<F> {
    fn clone(&self) -> Self {
        let Closures { on_open, on_message, on_close } = self;
        Closures { on_open: on_open.clone(), on_message: on_message.clone(), on_close: on_close.clone() }
    }
}

impl<F: Framing> Application for Closures<F> {
    type Framing = F;
    type Session = ();
    type Post = ();

    fn on_open(&mut self, ctx: &mut Context<'_, Self>) {
        (self.on_open)(&mut ClosureContext { ctx });
    }

    fn on_message(&mut self, ctx: &mut Context<'_, Self>, _session: &mut (), message: Message<'_, Head<Self>>) {
        (self.on_message)(&mut ClosureContext { ctx }, message);
    }

    fn on_close(&mut self, ctx: &mut Context<'_, Self>, _session: (), reason: CloseReason) {
        (self.on_close)(&mut ClosureContext { ctx }, reason);
    }
}

/// Context of a closure: a [`Context`], which it derefs to, whose `reply` takes a message as it is.
///
/// ```
/// use raon::{Packet, PacketHead, Server};
/// let server = Server::builder().framing(Packet::new()).on_message(|ctx, message| match message.head().id {
///     1 => ctx.reply_with(PacketHead { id: 2 }, b"welcome"),
///     _ => ctx.reply(message),
/// });
/// ```
pub struct ClosureContext<'c, 'a, F: Framing> {
    ctx: &'c mut Context<'a, Closures<F>>,
}

impl<F: Framing> ClosureContext<'_, '_, F> {
    /// Sends a message to this session, with the head and the body of the one that is given.
    pub fn reply(&mut self, message: Message<'_, F::Head>) -> SendOutcome {
        self.ctx.reply(message.head(), &message)
    }

    /// Sends a message to this session.
    pub fn reply_with(&mut self, head: F::Head, body: &[u8]) -> SendOutcome {
        self.ctx.reply(head, body)
    }
}

impl<'a, F: Framing> Deref for ClosureContext<'_, 'a, F> {
    type Target = Context<'a, Closures<F>>;

    fn deref(&self) -> &Self::Target {
        self.ctx
    }
}

impl<F: Framing> DerefMut for ClosureContext<'_, '_, F> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.ctx
    }
}
