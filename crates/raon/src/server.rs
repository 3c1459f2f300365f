//! Server: it is put together, started and awaited here.

pub(crate) mod closures;
pub(crate) mod handle;

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use raon_provider::{AcceptedSocket, Address};
use raon_session::Framing;

use crate::application::{AppRouter, Application, ShardInfo};
use crate::base::boundary;
use crate::config::{Listen, Profile, ServerConfig};
use crate::error::{ServerError, ShardFailure};
use crate::platform;
use crate::server::closures::ClosureBuilder;
use crate::server::handle::ServerHandle;
use crate::shard::{Factory, ListenAt, Shard, ShardParts};

/// A game server: sessions over a [`Framing`], an [`Application`] per shard.
///
#[doc = concat!("```no_run\n", include_str!("../examples/echo.rs"), "\n```")]
#[derive(Debug)]
pub enum Server {}

impl Server {
    /// Begins with the default configuration.
    pub fn builder() -> Builder {
        Builder { config: ServerConfig::default() }
    }
}

/// A server's configuration, before it is known what it will do.
///
/// ```
/// use raon::{ServerConfig, Server};
/// let config = ServerConfig::from_toml("listen = '0.0.0.0:7000'\ntick_ms = 50")?;
/// let builder = Server::builder().config(config).workers(2);
/// # Ok::<(), raon::ConfigErrors>(())
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    config: ServerConfig,
}

impl Builder {
    /// Takes a configuration in place of what was set so far.
    pub fn config(self, config: ServerConfig) -> Self {
        Builder { config }
    }

    /// Changes the configuration.
    pub fn configure(mut self, change: impl FnOnce(&mut ServerConfig)) -> Self {
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

    /// Sets where to listen, see `ServerConfig::listen`.
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
    pub(crate) config: ServerConfig,
    pub(crate) framing: A::Framing,
    pub(crate) factory: Factory<A>,
    pub(crate) listener: Option<AcceptedSocket>,
}

impl<A: Application> ServerBuilder<A> {
    /// Takes a listener that is open already, with whatever options it was given, in place of `ServerConfig::listen`. The first
    /// shard accepts on it, and the others get their sessions from there.
    pub fn listener(mut self, listener: impl Into<AcceptedSocket>) -> Self {
        self.listener = Some(listener.into());
        self
    }

    /// Changes the configuration once more: a test, for example, that runs a server as it is.
    pub fn configure(&mut self, change: impl FnOnce(&mut ServerConfig)) {
        change(&mut self.config);
    }

    /// Starts the shards, each on a thread, and returns when all of them run.
    ///
    /// Errors: all that is wrong with the configuration; what the back end says, or the system of the listener.
    pub fn start(self) -> Result<RunningServer<A>, ServerError> {
        let ServerBuilder { mut config, framing, factory, mut listener } = self;
        let has_listener = listener.is_some();
        config.reuse_port &= !has_listener;
        config.validate()?;
        let shards = if config.workers == 0 {
            platform::cores().min(crate::base::id::SHARDS_MAX)
        } else {
            config.workers as usize
        };
        config.check_shards(shards)?;
        if let Some(unlimited) = config.unlimited() {
            tracing::warn!("{unlimited}");
        }
        fit_to_descriptors(&mut config, shards, platform::raise_descriptor_limit());
        let router = AppRouter::<A>::new(&config, shards);
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

/// Descriptors that are left to the process beside those of sessions: standard streams, logs, files of the application; and
/// those of a shard: its rings or queues, its wake, its listener, the reserve.
const DESCRIPTORS_OF_THE_PROCESS: u64 = 64;
const DESCRIPTORS_OF_A_SHARD: u64 = 8;

/// The default of `sessions_max` follows what the system gives; a value that was set stays, and what it cannot have is said.
fn fit_to_descriptors(config: &mut ServerConfig, shards: usize, limit: Option<u64>) {
    let others = DESCRIPTORS_OF_THE_PROCESS + shards as u64 * DESCRIPTORS_OF_A_SHARD;
    let most = limit.map_or(u64::MAX, |limit| limit.saturating_sub(others).max(1));
    if u64::from(config.sessions_max) <= most {
        return;
    }
    if config.sessions_max == ServerConfig::default().sessions_max {
        config.sessions_max = most as u32;
    } else {
        let sessions_max = config.sessions_max;
        tracing::warn!(
            "sessions_max is {sessions_max}, and this process may have descriptors for {most}: raise the hard limit \
             (RLIMIT_NOFILE, LimitNOFILE= of systemd), or lower sessions_max"
        );
    }
}

/// Where the shard of this number listens, if it does. All that share a port have that of the first.
pub(crate) fn listen_at(
    config: &ServerConfig,
    number: usize,
    first: Option<&Address>,
) -> Result<ListenAt, ServerError> {
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
    /// Handle by which other threads reach it.
    pub fn handle(&self) -> &ServerHandle<A> {
        &self.handle
    }

    /// Waits until all shards have ended.
    ///
    /// Errors: `ShardFailed`, of the first shard by number that has ended, or has lost its listener, before the server was
    /// stopped.
    pub fn join(self) -> Result<(), ServerError> {
        let mut first = Ok(());
        for (shard, thread) in self.threads.into_iter().enumerate() {
            let ended = thread.join().unwrap_or_else(|_| Err(uncaught(shard)));
            first = first.and(ended);
        }
        first
    }

    fn start_shard(&mut self, parts: ShardParts<A>) -> Result<Option<Address>, ServerError> {
        let (tell, told) = mpsc::channel();
        let (number, is_pinned) = (parts.number, parts.config.pin_shards);
        let run = move || {
            let opened = boundary::catch(|| Shard::open(parts)).unwrap_or_else(|message| {
                Err(ServerError::ShardFailed { shard: number, failure: ShardFailure::Panic(message) })
            });
            let (shard, address) = match opened {
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
        told.recv().unwrap_or_else(|_| Err(uncaught(number)))
    }
}

/// A thread that has ended without a word, although all of it is inside a panic boundary.
fn uncaught(shard: usize) -> ServerError {
    ServerError::ShardFailed { shard, failure: ShardFailure::Panic("outside of every panic boundary".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(sessions_max: u32, limit: Option<u64>) -> u32 {
        let mut config = ServerConfig { sessions_max, ..ServerConfig::default() };
        fit_to_descriptors(&mut config, 2, limit);
        config.sessions_max
    }

    #[test]
    fn only_the_default_follows_the_limit() {
        let default = ServerConfig::default().sessions_max;
        assert_eq!(fitted(default, None), default);
        assert_eq!(fitted(default, Some(1 << 20)), default);
        assert_eq!(fitted(default, Some(1024)), 1024 - 64 - 16);
        assert_eq!(fitted(default, Some(10)), 1);
        assert_eq!(fitted(5000, Some(1024)), 5000, "it was set");
        assert_eq!(fitted(500, Some(1024)), 500);
    }
}
