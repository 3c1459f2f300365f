//! An echo server on the provider alone: what comes in goes out, in the same buffer. A client that does not read its
//! echo is paused until it has: nothing is dropped, and its backlog is bounded.

use std::collections::HashMap;

use raon_provider::{AnyProvider, CloseMode, Completions, Config, Driver, Error, ListenOptions, Outcome};
use raon_provider::{ErrorKind, Payload, SocketId};

const LISTENER: u64 = 0;
const CLIENT: u64 = 1;

fn main() -> Result<(), Error> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9000".into());
    let address = address.parse().expect("an address such as 127.0.0.1:9000");
    let mut driver = Driver::<AnyProvider>::open(&Config::default())?;
    let listener = driver.listen(address, &ListenOptions::default())?;
    driver.accept(listener, LISTENER)?;
    println!("listening on {} ({})", driver.local_address(listener)?, driver.info().kind);

    let mut completions = Completions::with_capacity(256);
    // What was refused for want of room, per client, in order: sent first when there is room again.
    let mut waiting = HashMap::<SocketId, Vec<Payload>>::new();
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
                // The peer's end: what is queued still goes out before the close.
                Outcome::Received(bytes) if bytes.is_empty() => {
                    let deadline = std::time::Duration::from_secs(5);
                    let _ = driver.close(client, CloseMode::Graceful { deadline }, CLIENT);
                }
                Outcome::Received(bytes) => echo(&mut driver, &mut waiting, client, vec![bytes.into()]),
                Outcome::Writable => {
                    let bytes = waiting.remove(&client).unwrap_or_default();
                    echo(&mut driver, &mut waiting, client, bytes);
                }
                Outcome::Closed => drop(waiting.remove(&client)),
                Outcome::Failed { .. } => {
                    let _ = driver.close(client, CloseMode::Abort, CLIENT);
                }
                _ => {}
            }
        }
    }
}

/// Sends in order; at Busy the client is paused and what is left waits for `Writable`.
fn echo(driver: &mut Driver, waiting: &mut HashMap<SocketId, Vec<Payload>>, client: SocketId, bytes: Vec<Payload>) {
    let mut bytes = bytes.into_iter();
    if let Some(queue) = waiting.get_mut(&client) {
        return queue.extend(bytes);
    }
    while let Some(next) = bytes.next() {
        match driver.send_quiet(client, next, CLIENT) {
            Ok(_) => {}
            Err(refused) if refused.error.kind() == ErrorKind::Busy => {
                let _ = driver.pause(client);
                waiting.insert(client, [refused.value].into_iter().chain(bytes).collect());
                return;
            }
            Err(_) => return,
        }
    }
    let _ = driver.resume(client);
}
