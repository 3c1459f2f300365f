//! An echo server on the provider alone: what comes in goes out, in the same buffer. A client that does not read its
//! echo is paused until it has: nothing is dropped, and its backlog is bounded. (Its backlog does hold receive buffers,
//! though: a server with clients that may never read copies what it keeps.)

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use raon_provider::{Address, CloseMode, Completions, Config, Driver, Error, ErrorKind};
use raon_provider::{ListenOptions, Outcome, Payload, SocketId};

const LISTENER: u64 = 0;
const CLIENT: u64 = 1;

/// What a client that does not read has coming: sent in order, as room appears.
#[derive(Default)]
struct Backlog {
    payloads: VecDeque<Payload>,
    has_ended: bool,
}

fn main() -> Result<(), Error> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9000".into());
    let address: Address = address.parse().expect("an address such as 127.0.0.1:9000 or unix:/tmp/echo.sock");
    let mut driver = Driver::open(&Config::default())?;
    let listener = driver.listen(address, &ListenOptions::default())?;
    driver.accept(listener, LISTENER)?;
    println!("listening on {} ({})", driver.local_address(listener)?, driver.info().kind);

    let mut completions = Completions::with_capacity(256);
    // Only clients that do not read are in here.
    let mut blocked = HashMap::<SocketId, Backlog>::new();
    loop {
        driver.poll(None, &mut completions)?;
        for completion in completions.drain() {
            let client = completion.socket;
            match completion.outcome {
                Outcome::Accepted(socket) => {
                    if let Ok(client) = driver.adopt(socket) {
                        driver.receive(client, CLIENT)?;
                    }
                }
                Outcome::Received(bytes) => match blocked.get_mut(&client) {
                    Some(backlog) if bytes.is_empty() => backlog.has_ended = true,
                    Some(backlog) => backlog.payloads.push_back(bytes.into()),
                    None if bytes.is_empty() => close(&mut driver, client),
                    None => echo(&mut driver, &mut blocked, client, bytes.into()),
                },
                Outcome::Writable => unblock(&mut driver, &mut blocked, client),
                Outcome::Closed => drop(blocked.remove(&client)),
                Outcome::Failed { .. } => {
                    let _ = driver.close(client, CloseMode::Abort, CLIENT);
                }
                _ => {}
            }
        }
    }
}

/// Busy: the client is paused, and what was refused waits for `Writable`.
fn echo(driver: &mut Driver, blocked: &mut HashMap<SocketId, Backlog>, client: SocketId, bytes: Payload) {
    match driver.send_quiet(client, bytes, CLIENT) {
        Err(refused) if refused.error.kind() == ErrorKind::Busy => {
            let _ = driver.pause(client);
            blocked.entry(client).or_default().payloads.push_back(refused.value);
        }
        _ => {}
    }
}

/// There is room again: the backlog goes first, then the client may send more, or is closed if it has said all.
fn unblock(driver: &mut Driver, blocked: &mut HashMap<SocketId, Backlog>, client: SocketId) {
    let Some(mut backlog) = blocked.remove(&client) else { return };
    while let Some(payload) = backlog.payloads.pop_front() {
        if let Err(refused) = driver.send_quiet(client, payload, CLIENT) {
            backlog.payloads.push_front(refused.value);
            blocked.insert(client, backlog);
            return;
        }
    }
    if backlog.has_ended {
        close(driver, client);
    } else {
        let _ = driver.resume(client);
    }
}

/// The peer's end: what is queued still goes out before the close.
fn close(driver: &mut Driver, client: SocketId) {
    let _ = driver.close(client, CloseMode::Graceful { deadline: Duration::from_secs(5) }, CLIENT);
}
