//! The smallest server, on every back end.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use common::{BACKENDS, PATIENCE, address_of};
use raon::{Raw, Server, Simulation};

#[test]
fn what_is_sent_comes_back_on_each_back_end() {
    for backend in BACKENDS {
        let server = Server::builder()
            .listen("127.0.0.1:0")
            .workers(1)
            .configure(|config| config.backend = backend.into())
            .framing(Raw)
            .on_message(|ctx, message| ctx.reply(message))
            .start()
            .unwrap();
        let handle = server.handle().clone();
        let mut client = TcpStream::connect(address_of(&handle)).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        for length in [1, 64, 4000, 100_000] {
            let sent: Vec<u8> = (0..length).map(|place| (place * 7 % 251) as u8).collect();
            let mut received = vec![0; length];
            client.write_all(&sent).unwrap();
            client.read_exact(&mut received).unwrap();
            assert_eq!(received, sent, "{backend}");
        }
        drop(client);
        common::until("the session to end", || handle.sessions() == 0);
        handle.stop(Duration::from_secs(1));
        server.join().unwrap();
        let stats = handle.stats();
        assert_eq!((stats.opened, stats.closed(), stats.sessions), (1, 1, 0), "{backend}: {stats}");
        assert_eq!(stats.bytes_received, 104_065, "{backend}: {stats}");
    }
}

#[test]
fn what_is_sent_comes_back_in_the_simulation() {
    let mut simulation = Simulation::new(1);
    let server = Server::builder().workers(2).framing(Raw).on_message(|ctx, message| ctx.reply(message)).build();
    let handle = simulation.serve(server).unwrap();
    let mut client = simulation.connect();
    let sent: Vec<u8> = (0..100_000).map(|place| (place * 7 % 251) as u8).collect();
    let (mut written, mut received, mut bytes) = (0, Vec::new(), vec![0; 65_536]);
    let is_whole = simulation.run_until(Duration::from_secs(10), || {
        if client.is_connected() && written < sent.len() {
            written += client.write(&sent[written..]).unwrap();
        }
        if let Ok(Some(length)) = client.read(&mut bytes) {
            received.extend_from_slice(&bytes[..length]);
        }
        received.len() == sent.len()
    });
    assert!(is_whole && received == sent, "{} of {} bytes", received.len(), sent.len());
    handle.stop(Duration::from_secs(1));
    drop(client);
    assert!(simulation.run_to_end(Duration::from_secs(5)).unwrap());
    assert_eq!((handle.stats().opened, handle.stats().closed()), (1, 1), "{}", handle.stats());
}
