//! A server that the process has no memory for says so. Alone in its program, for it limits the memory of all of it.
#![cfg(target_os = "linux")]

use std::time::Duration;

use raon::{Raw, Server, ServerConfig, ServerError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const MIB: u64 = 1 << 20;

/// What this process has mapped, in bytes.
fn used_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
    pages * 4096
}

/// Starts a server under a limit, without it from then on.
fn start(config: &ServerConfig, limit: u64) -> Result<(), ServerError> {
    let before = getrlimit(Resource::As);
    setrlimit(Resource::As, Rlimit { current: Some(limit), maximum: before.maximum }).unwrap();
    let server = Server::builder().config(config.clone()).framing(Raw).on_message(|ctx, message| ctx.reply(message));
    let started = server.start();
    setrlimit(Resource::As, before).unwrap();
    let server = started?;
    server.handle().stop(Duration::ZERO);
    server.join()
}

//= LIMIT-1
#[test]
fn without_memory_a_server_is_refused_by_name() {
    let (mut refused, mut started) = (0, 0);
    // A ring tries its features out each time that it is opened, which takes a while.
    for (backend, steps, step_bytes) in [("io_uring", 6, 24 * MIB), ("epoll", 24, 6 * MIB)] {
        let mut config = ServerConfig::default();
        (config.listen, config.backend, config.workers) = ("127.0.0.1:0".into(), backend.into(), 2);
        let absolute = [20, 64, 160].map(|limit| limit * MIB);
        let beyond = (0..steps).map(|step| used_bytes() + step * step_bytes);
        for limit in absolute.into_iter().chain(beyond) {
            match start(&config, limit) {
                Ok(()) => started += 1,
                Err(error) => {
                    let text = error.to_string();
                    let is_named = match error {
                        ServerError::Provider(error) => {
                            error.setting().is_some_and(|setting| text.contains(setting.name()))
                                || text.contains("ulimit -l")
                        }
                        ServerError::System(_) => text.contains("workers"),
                        _ => false,
                    };
                    assert!(is_named, "{} MiB: {text}", limit / MIB);
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 3 && started > 3, "{refused} were refused, {started} started");
}
