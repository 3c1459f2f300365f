//! The steady state asks for no memory.

//= LIMIT-1, OWN-1

use std::time::Duration;

use bytes::Bytes;
use raon_provider::{Completions, Driver, Outcome, Payload, SocketId};

use crate::allocator::allocations;
use crate::setup::Setup;

const CONNECTIONS: usize = 64;
const MESSAGE: usize = 64;

/// 64 clients and 64 servers in one driver. Each round every client sends by a quiet send of shared bytes and by a vector
/// that comes back, and gets both echoed in the buffer that they came in; a timer runs along.
struct Echo {
    driver: Driver,
    completions: Completions,
    clients: Vec<SocketId>,
    servers: Vec<SocketId>,
    shared: Bytes,
    vectors: Vec<Vec<u8>>,
}

const CLIENT: u64 = 0;
const SERVER: u64 = 1 << 32;
const VECTOR: u64 = 2 << 32;
const TIMER: u64 = 3 << 32;

impl Echo {
    fn new(setup: &Setup) -> Self {
        let mut driver = setup.open();
        let (mut clients, mut servers) = (Vec::new(), Vec::new());
        for place in 0..CONNECTIONS as u64 {
            let (near, far) = crate::peer::connection(setup, 0, 0);
            clients.push(driver.adopt(near).unwrap());
            servers.push(driver.adopt(far.into_socket()).unwrap());
            driver.receive(clients[place as usize], CLIENT | place).unwrap();
            driver.receive(servers[place as usize], SERVER | place).unwrap();
        }
        Echo {
            driver,
            completions: Completions::with_capacity(1024),
            clients,
            servers,
            shared: Bytes::from(vec![1; MESSAGE]),
            vectors: (0..CONNECTIONS).map(|_| vec![2; MESSAGE]).collect(),
        }
    }

    fn round(&mut self) {
        for client in &self.clients {
            self.driver.send_quiet(*client, self.shared.clone(), 0).unwrap();
        }
        while let Some(vector) = self.vectors.pop() {
            let place = self.vectors.len();
            self.driver.send(self.clients[place], vector, VECTOR | place as u64).unwrap();
        }
        self.driver.timer(Duration::ZERO, TIMER).unwrap();
        let (mut echoed, mut fired) = (0, false);
        while echoed < 2 * CONNECTIONS * MESSAGE || self.vectors.len() < CONNECTIONS || !fired {
            self.driver.poll(None, &mut self.completions).unwrap();
            while let Some(completion) = self.completions.pop() {
                let place = completion.token as u32 as usize;
                match completion.outcome {
                    Outcome::Received(bytes) if completion.token < SERVER => echoed += bytes.len(),
                    Outcome::Received(bytes) => drop(self.driver.send_quiet(self.servers[place], bytes, 0).unwrap()),
                    Outcome::Sent(Payload::Vec(vector)) => self.vectors.push(vector),
                    Outcome::Expired => fired = true,
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

pub fn no_allocation_per_operation(setup: &Setup) {
    let mut echo = Echo::new(setup);
    // Tables and queues grow to the size that the load needs, once.
    (0..60).for_each(|_| echo.round());
    let before = allocations();
    assert!(before > 0, "the allocator counts");
    (0..100).for_each(|_| echo.round());
    let asked = allocations() - before;
    let operations = 100 * (4 * CONNECTIONS + 1);
    assert_eq!(asked, 0, "{asked} allocations in {operations} operations");
}
