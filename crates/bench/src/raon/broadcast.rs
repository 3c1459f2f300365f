//! Every 64-byte message that starts with 1 goes to all members: one shared payload, one quiet send each.

use std::collections::HashMap;

use bytes::Bytes;
use raon_provider::{CloseMode, Driver, Outcome, SocketId};

use super::{Service, tell};
use crate::broadcast::MESSAGE_BYTES;

#[derive(Default)]
pub(super) struct Broadcast {
    members: Vec<SocketId>,
    /// Messages of which a part has come.
    partial: HashMap<SocketId, Vec<u8>>,
}

impl Service for Broadcast {
    fn on_completion(&mut self, driver: &mut Driver, client: SocketId, outcome: Outcome) {
        match outcome {
            Outcome::Received(bytes) if !bytes.is_empty() => self.receive(driver, client, &bytes),
            Outcome::Accepted(socket) => {
                if let Ok(client) = driver.adopt(socket) {
                    self.members.push(client);
                    let _ = driver.receive(client, 0);
                }
            }
            Outcome::Received(_) | Outcome::Failed { .. } => {
                self.members.retain(|member| *member != client);
                self.partial.remove(&client);
                let _ = driver.close(client, CloseMode::Abort, 0);
            }
            Outcome::Expired => tell(driver),
            _ => {}
        }
    }
}

impl Broadcast {
    fn receive(&mut self, driver: &mut Driver, client: SocketId, bytes: &[u8]) {
        let partial = self.partial.entry(client).or_default();
        partial.extend_from_slice(bytes);
        while partial.len() >= MESSAGE_BYTES {
            let message: Bytes = partial.drain(..MESSAGE_BYTES).collect();
            if message[0] == 1 {
                for member in &self.members {
                    // A member that is gone or full misses it: its own end, or its slowness, is reported elsewhere.
                    let _ = driver.send_quiet(*member, message.clone(), 0);
                }
            }
        }
    }
}
