//! Operations from end to end: submit, turn, completion.

use std::time::Duration;

use bytes::Bytes;
use raon_provider::{Completions, Config, Driver, Error, Kind, Outcome, SocketId};

use super::{Visit, keep};
use crate::socket::{self, CONGESTION_CONTROL};

const BATCH: u64 = 128;
const PAIRS: usize = 64;

pub(super) fn each(visit: Visit<'_>) -> Result<(), Error> {
    let (uring, epoll) = (Config::named(Kind::IoUring), Config::named(Kind::Epoll));
    timers(Driver::open(&uring)?, "timer, submit to completion, io_uring", visit);
    messages(Driver::open(&uring)?, "64-byte message over loopback, io_uring", visit)?;
    messages(Driver::open(&epoll)?, "64-byte message over loopback, epoll", visit)
}

/// An operation that needs nothing of the kernel: what is left is the driver, and a share of one turn.
fn timers(mut driver: Driver, name: &str, visit: Visit<'_>) {
    let mut completions = Completions::with_capacity(BATCH as usize);
    visit(name, BATCH, &mut || {
        for token in 0..BATCH {
            driver.timer(Duration::ZERO, token).expect("the table has room");
        }
        let mut missing = BATCH as usize;
        while missing > 0 {
            driver.poll(Some(Duration::ZERO), &mut completions).expect("polls");
            missing -= completions.drain().map(keep).count();
        }
    });
}

/// Send and receive in one thread, kernel included: a message on each of 64 pairs per batch.
fn messages(mut driver: Driver, name: &str, visit: Visit<'_>) -> Result<(), Error> {
    let mut completions = Completions::with_capacity(1024);
    let clients = pairs(&mut driver, &mut completions)?;
    let message = Bytes::from_static(&[7; 64]);
    visit(name, PAIRS as u64, &mut || {
        for client in &clients {
            driver.send_quiet(*client, message.clone(), 0).expect("the queue has room");
        }
        let mut missing = PAIRS * message.len();
        while missing > 0 {
            driver.poll(None, &mut completions).expect("polls");
            for completion in completions.drain() {
                if let Outcome::Received(bytes) = completion.outcome {
                    missing -= bytes.len();
                }
            }
        }
    });
    Ok(())
}

/// Connected pairs; the accepted ends receive.
fn pairs(driver: &mut Driver, completions: &mut Completions) -> Result<Vec<SocketId>, Error> {
    let address = "127.0.0.1:0".parse().expect("an address");
    let listener = driver.adopt(socket::listener(address, Some(CONGESTION_CONTROL))?)?;
    driver.accept(listener, 0)?;
    let address = driver.local_address(listener)?.ip().expect("an IP address");
    let (mut clients, mut accepted) = (Vec::new(), 0);
    for _ in 0..PAIRS {
        clients.push(driver.adopt(socket::connected(address)?)?);
    }
    while accepted < PAIRS {
        driver.poll(None, completions)?;
        while let Some(completion) = completions.pop() {
            match completion.outcome {
                Outcome::Accepted(socket) => {
                    let server = driver.adopt(socket)?;
                    driver.receive(server, 0)?;
                    accepted += 1;
                }
                other => panic!("while connecting: {other:?}"),
            }
        }
    }
    Ok(clients)
}
