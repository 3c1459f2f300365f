//! Datagrams: nothing is lost in silence.

use std::net::UdpSocket;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Server, assert_fails, backends, raon};

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no whole number"))
}

/// A socket that talks to a server.
fn client(server: &Server) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(&server.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket
}

#[test]
fn each_datagram_goes_back_to_its_sender() {
    for backend in backends() {
        let server = Server::start(&["echo", "--udp", "--workers", "2", "--backend", &backend]);
        let mut bytes = [0; 65_536];
        for peer in 0..8u8 {
            let client = client(&server);
            for length in [0, 1, 1472, 3968] {
                client.send(&vec![peer; length]).unwrap();
                assert_eq!(client.recv(&mut bytes).unwrap(), length);
                assert!(bytes[..length].iter().all(|byte| *byte == peer));
            }
        }
        let client = client(&server);
        // Too long for this server; the next one shows that it has been seen.
        client.send(&[1; 3969]).unwrap();
        client.send(&[2; 5]).unwrap();
        assert_eq!(client.recv(&mut bytes).unwrap(), 5);
        let summary = server.stop();
        assert_eq!(
            (&summary["received"], &summary["sent"], &summary["truncated"]),
            (&33.into(), &33.into(), &1.into())
        );
        let bytes = 8 * (1 + 1472 + 3968) + 5;
        assert_eq!((number(&summary["received_bytes"]), number(&summary["sent_bytes"])), (bytes, bytes), "{summary}");
        for key in ["dropped", "undelivered", "errors"] {
            assert_eq!(summary[key], 0, "{summary}");
        }
    }
}

#[test]
fn a_sink_of_datagrams_counts_them() {
    let server = Server::start(&["sink", "--udp", "--datagram-max", "65000"]);
    let client = client(&server);
    for length in [1, 65_000, 7] {
        client.send(&vec![9; length]).unwrap();
    }
    // It has come when it has been counted: there is no answer to wait for.
    let descriptor = format!("/proc/{}/net/udp", server.process.0.id());
    let port = format!(":{:04X} ", client.peer_addr().unwrap().port());
    let is_empty = || {
        let table = std::fs::read_to_string(&descriptor).unwrap();
        let line = table
            .lines()
            .find(|line| line.split_whitespace().nth(1).is_some_and(|it| format!("{it} ").ends_with(&port)));
        line.is_some_and(|line| line.contains("00000000:00000000"))
    };
    while !is_empty() {
        std::thread::yield_now();
    }
    let summary = server.stop();
    assert_eq!((&summary["received"], &summary["sent"]), (&3.into(), &0.into()), "{summary}");
    assert_eq!(number(&summary["received_bytes"]), 65_008);
}

#[test]
fn arguments_that_datagrams_do_not_have_are_told() {
    let cases: [(&[&str], &str); 3] = [
        (&["serve", "echo", "--udp", "--listen", "unix:@x"], "write --listen ADDRESS:PORT"),
        (&["serve", "echo", "--datagram-max", "100"], "add --udp"),
        (&["serve", "echo", "--udp", "--datagram-max", "65001"], "65000"),
    ];
    for (arguments, part) in cases {
        assert_fails(&mut raon(arguments), 2, &[part]);
    }
}

#[test]
fn a_datagram_port_in_use_is_told() {
    let taken = Server::start(&["echo", "--udp", "--workers", "2"]);
    for workers in ["1", "2"] {
        let arguments = ["serve", "echo", "--udp", "--workers", workers, "--listen", &taken.address];
        assert_fails(&mut raon(&arguments), 1, &[&format!("cannot listen on {}", taken.address), "in use"]);
    }
    taken.stop();
}
