//! How a server is put together, started and awaited.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use raon_provider::{AcceptedSocket, Address};
use raon_session::Framing;

use crate::application::{Application, ShardInfo};
use crate::closures::ClosureBuilder;
use crate::config::{Config, Listen, Profile};
use crate::error::ServerError;
use crate::handle::ServerHandle;
use crate::platform;
use crate::router::Router;
use crate::shard::{ListenAt, Shard, ShardParts};

/// Makes the application of a shard.
pub(crate) type Factory<A> = Arc<dyn Fn(ShardInfo) -> A + Send + Sync>;

/// A game server: sessions over a [`Framing`], an [`Application`] per shard.
///
#[doc = concat!("```no_run\n", include_str!("../examples/echo.rs"), "\n```")]
#[derive(Debug)]
pub enum Server {}

impl Server {
    /// Begins with the default configuration.
    pub fn builder() -> Builder {
        Builder { config: Config::default() }
    }
}

/// A server's configuration, before it is known what it will do.
///
/// ```
/// use raon::{Config, Server};
/// let config = Config::from_toml("listen = '0.0.0.0:7000'\ntick_ms = 50")?;
/// let builder = Server::builder().config(config).workers(2);
/// # Ok::<(), raon::ConfigErrors>(())
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    config: Config,
}

impl Builder {
    /// Takes a configuration in place of what was set so far.
    pub fn config(self, config: Config) -> Self {
        Builder { config }
    }

    /// Changes the configuration.
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Sets the limits of a profile; what is set after it has the last word.
    ///
    /// ```
    /// use raon::{Profile, Server};
    /// let server = Server::builder().profile(Profile::Public).configure(|config| config.idle_timeout_ms = 30_000);
    /// ```
    pub fn profile(self, profile: Profile) -> Self {
        self.configure(|config| config.apply_profile(Some(profile)))
    }

    /// Sets where to listen, see `Config::listen`.
    pub fn listen(self, address: impl Into<String>) -> Self {
        self.configure(|config| config.listen = address.into())
    }

    /// Sets the number of shards; 0: one per core.
    pub fn workers(self, workers: u32) -> Self {
        self.configure(|config| config.workers = workers)
    }

    /// Goes on with closures.
    pub fn framing<F: Framing>(self, framing: F) -> ClosureBuilder<F> {
        ClosureBuilder::new(self, framing)
    }

    /// Goes on with an application, of which the factory makes one per shard, on the shard's thread.
    pub fn application<A: Application>(
        self,
        framing: A::Framing,
        factory: impl Fn(ShardInfo) -> A + Send + Sync + 'static,
    ) -> ServerBuilder<A> {
        ServerBuilder { config: self.config, framing, factory: Arc::new(factory), listener: None }
    }
}

/// A server that is ready to be started, on threads or in a [`Simulation`](crate::Simulation).
///
/// ```no_run
/// use raon::{Raw, Server};
/// Server::builder().listen("0.0.0.0:9000").framing(Raw).on_message(|ctx, message| ctx.reply(message)).build().run()?;
/// # Ok::<(), raon::ServerError>(())
/// ```
pub struct ServerBuilder<A: Application> {
    pub(crate) config: Config,
    pub(crate) framing: A::Framing,
    pub(crate) factory: Factory<A>,
    pub(crate) listener: Option<AcceptedSocket>,
}

impl<A: Application> ServerBuilder<A> {
    /// Takes a listener that is open already, with whatever options it was given, in place of `Config::listen`. The first
    /// shard accepts on it, and the others get their sessions from there.
    pub fn listener(mut self, listener: impl Into<AcceptedSocket>) -> Self {
        self.listener = Some(listener.into());
        self
    }

    /// Changes the configuration once more: a test, for example, that runs a server as it is.
    pub fn configure(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
    }

    /// Starts the shards, each on a thread, and returns when all of them run.
    ///
    /// Errors: all that is wrong with the configuration; what the back end says, or the system of the listener.
    pub fn start(self) -> Result<RunningServer<A>, ServerError> {
        let ServerBuilder { mut config, framing, factory, mut listener } = self;
        let has_listener = listener.is_some();
        config.reuse_port &= !has_listener;
        config.check()?;
        let shards =
            if config.workers == 0 { platform::cores().min(crate::SHARDS_MAX) } else { config.workers as usize };
        config.check_shards(shards)?;
        if let Some(unlimited) = config.unlimited() {
            tracing::warn!("{unlimited}");
        }
        let router = Router::<A>::new(&config, shards);
        let mut server = RunningServer { handle: ServerHandle::new(router.clone(), None), threads: Vec::new() };
        let mut address = None;
        for number in 0..shards {
            let listen = match listener.take() {
                Some(listener) => ListenAt::Inherited(listener),
                None if has_listener => ListenAt::Nowhere,
                None => listen_at(&config, number, address.as_ref())?,
            };
            let parts = ShardParts {
                number,
                config: config.clone(),
                network: None,
                framing: framing.clone(),
                factory: factory.clone(),
                router: router.clone(),
                listen,
            };
            match server.start_shard(parts) {
                Ok(own) => address = address.or(own),
                Err(error) => {
                    server.handle.stop(std::time::Duration::ZERO);
                    let _ = server.join();
                    return Err(error);
                }
            }
        }
        server.handle = ServerHandle::new(router, address);
        Ok(server)
    }

    /// Starts the server and waits for its end.
    ///
    /// Errors: as [`start`](Self::start) and [`RunningServer::join`].
    pub fn run(self) -> Result<(), ServerError> {
        self.start()?.join()
    }
}

/// Where the shard of this number listens, if it does. All that share a port have that of the first.
pub(crate) fn listen_at(config: &Config, number: usize, first: Option<&Address>) -> Result<ListenAt, ServerError> {
    let listen = config.listen.parse().unwrap_or(Listen::Inherited);
    Ok(match (number, listen) {
        (0, Listen::Inherited) => ListenAt::Inherited(platform::inherited_listener()?),
        (0, Listen::At(address)) => ListenAt::Address(address),
        (_, Listen::At(address)) if config.reuse_port => ListenAt::Address(first.cloned().unwrap_or(address)),
        _ => ListenAt::Nowhere,
    })
}

/// A server that runs on threads of its own. Dropping it does not end it; [`ServerHandle::stop`] does.
///
/// ```
/// use raon::{Raw, Server, ServerError};
/// let server = Server::builder().listen("127.0.0.1:0").workers(1).framing(Raw).start()?;
/// println!("listening on {}", server.handle().address().expect("it has a listener of its own"));
/// server.handle().stop(std::time::Duration::ZERO);
/// server.join()?;
/// # Ok::<(), ServerError>(())
/// ```
pub struct RunningServer<A: Application> {
    handle: ServerHandle<A>,
    threads: Vec<JoinHandle<Result<(), ServerError>>>,
}

impl<A: Application> RunningServer<A> {
    /// What other threads reach it by.
    pub fn handle(&self) -> &ServerHandle<A> {
        &self.handle
    }

    /// Waits until all shards have ended.
    ///
    /// Errors: that of the first shard whose driver failed; `ShardsStopped`.
    pub fn join(self) -> Result<(), ServerError> {
        let (mut stopped, mut first) = (0, None);
        for thread in self.threads {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(ServerError::ShardsStopped(count))) => stopped += count,
                Ok(Err(error)) => first = first.or(Some(error)),
                // Callbacks are fenced: it is a bug of the engine, and its own message was printed.
                Err(_) => stopped += 1,
            }
        }
        match first {
            Some(error) => Err(error),
            None if stopped > 0 => Err(ServerError::ShardsStopped(stopped)),
            None => Ok(()),
        }
    }

    fn start_shard(&mut self, parts: ShardParts<A>) -> Result<Option<Address>, ServerError> {
        let (tell, told) = mpsc::channel();
        let (number, is_pinned) = (parts.number, parts.config.pin_shards);
        let run = move || {
            let (shard, address) = match Shard::open(parts) {
                Ok(opened) => opened,
                Err(error) => {
                    // Whoever started it waits for this.
                    let _ = tell.send(Err(error));
                    return Ok(());
                }
            };
            let _ = tell.send(Ok(address));
            shard.run()
        };
        self.threads.push(platform::spawn(number, is_pinned, run)?);
        told.recv().unwrap_or(Err(ServerError::ShardsStopped(1)))
    }
}
