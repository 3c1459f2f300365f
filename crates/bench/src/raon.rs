//! Raon's own servers in the comparisons: the provider alone, as lean as a user would write them.

mod broadcast;
mod echo;

use std::io::Write;
use std::net::SocketAddr;

use raon_provider::{Backend, Completions, Config, Driver, Error, ListenOptions, Outcome, SocketId};

/// What differs between comparisons.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Options {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    backend: Backend,
    #[arg(long, default_value_t = 4096)]
    buffer_bytes: u32,
    #[arg(long, default_value_t = 1024)]
    receive_count: u32,
    /// Every message to every member, instead of back to its sender.
    #[arg(long)]
    broadcast: bool,
}

/// Serves until the process is killed.
pub(crate) fn serve(options: Options) -> Result<(), Error> {
    let mut config = Config { backend: options.backend, ..Config::default() };
    config.pool.buffer_bytes = options.buffer_bytes;
    config.pool.receive_count = options.receive_count;
    config.pool.send_count = config.pool.send_count.min(options.receive_count);
    let mut driver = Driver::open(&config)?;
    let listener = driver.listen(options.listen, &ListenOptions::default())?;
    driver.accept(listener, 0)?;
    println!("listening on {} ({})", driver.local_address(listener)?, driver.info().kind);
    let _ = std::io::stdout().flush();
    if options.broadcast { run(driver, broadcast::Broadcast::default()) } else { run(driver, echo::Echo::default()) }
}

trait Service {
    fn on_completion(&mut self, driver: &mut Driver, client: SocketId, outcome: Outcome);
}

fn run(mut driver: Driver, mut service: impl Service) -> Result<(), Error> {
    let mut completions = Completions::with_capacity(1024);
    loop {
        driver.poll(None, &mut completions)?;
        while let Some(completion) = completions.pop() {
            service.on_completion(&mut driver, completion.socket, completion.outcome);
        }
    }
}
