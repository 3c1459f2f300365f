//! Echo of bytes, in the buffer that they came in.

use std::collections::HashMap;

use raon_provider::{Buffer, CloseMode, Driver, ErrorKind, Outcome, Payload, SocketId};

use super::{Service, tell};

#[derive(Default)]
pub(super) struct Echo {
    /// What was refused for want of room, per client; only slow clients are in here.
    waiting: HashMap<SocketId, Vec<Payload>>,
}

impl Service for Echo {
    fn on_completion(&mut self, driver: &mut Driver, client: SocketId, outcome: Outcome) {
        match outcome {
            Outcome::Received(bytes) if !bytes.is_empty() => self.echo(driver, client, bytes),
            Outcome::Accepted(socket) => {
                if let Ok(client) = driver.adopt(socket) {
                    let _ = driver.receive(client, 0);
                }
            }
            Outcome::Writable => self.send_waiting(driver, client),
            // The peer's end, or an error.
            Outcome::Received(_) | Outcome::Failed { .. } => {
                let _ = driver.close(client, CloseMode::Abort, 0);
            }
            Outcome::Expired => tell(driver),
            Outcome::Closed => drop(self.waiting.remove(&client)),
            _ => {}
        }
    }
}

impl Echo {
    fn echo(&mut self, driver: &mut Driver, client: SocketId, bytes: Buffer) {
        if let Some(waiting) = self.waiting.get_mut(&client) {
            return waiting.push(bytes.into());
        }
        match driver.send_quiet(client, bytes, 0) {
            Err(refused) if refused.error.kind() == ErrorKind::Busy => {
                let _ = driver.pause(client);
                self.waiting.insert(client, vec![refused.value]);
            }
            _ => {}
        }
    }

    fn send_waiting(&mut self, driver: &mut Driver, client: SocketId) {
        let mut rest = self.waiting.remove(&client).unwrap_or_default().into_iter();
        while let Some(payload) = rest.next() {
            if let Err(refused) = driver.send_quiet(client, payload, 0) {
                self.waiting.insert(client, [refused.value].into_iter().chain(rest).collect());
                return;
            }
        }
        let _ = driver.resume(client);
    }
}
