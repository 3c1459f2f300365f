//! Server and load on each back end: no byte lost, none wrong.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use crate::support::{Running, Server, backends, pinned, run_json};
use serde_json::Value;

const KEYS: [&str; 13] = [
    "backend",
    "connections",
    "size_bytes",
    "pipeline",
    "duration_s",
    "messages",
    "messages_per_s",
    "errors",
    "corrupt_bytes",
    "latency_ns",
    "server_cpu_ns_per_message",
    "server_rss_bytes",
    "connect_errors",
];

fn load(server: &Server, arguments: &[&str]) -> Value {
    let fixed = ["load", "echo", "--json", "--connect", &server.address];
    let (report, status) = run_json(&[&fixed, arguments].concat());
    assert!(status.success(), "{report}");
    assert_clean(&report);
    report
}

fn assert_clean(report: &Value) {
    for key in ["errors", "corrupt_bytes", "connect_errors"] {
        assert_eq!(report[key], 0, "{report}");
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no whole number"))
}

#[test]
fn every_byte_comes_back_on_each_backend() {
    for backend in backends() {
        let server = Server::start(&["echo", "--backend", &backend]);
        let report =
            load(&server, &["--backend", &backend, "--connections", "20", "--pipeline", "3", "--duration", "300ms"]);
        for key in KEYS {
            assert!(report.get(key).is_some(), "no {key} in {report}");
        }
        assert_eq!((&report["backend"], &report["connections"]), (&backend.as_str().into(), &20.into()));
        let latency: Vec<u64> =
            ["p50", "p90", "p99", "p999", "max"].map(|key| number(&report["latency_ns"][key])).into();
        assert!(latency[0] > 0 && latency.is_sorted(), "{latency:?}");
        assert!(number(&report["server_rss_bytes"]) > 100_000);
        assert!(report["server_cpu_ns_per_message"].as_f64().unwrap() > 0.0);
        let summary = server.stop();
        let bytes = number(&report["messages"]) * number(&report["size_bytes"]);
        // The probe is one connection with 8 bytes.
        assert_eq!((&summary["connections"], &summary["errors"]), (&21.into(), &0.into()), "{summary}");
        assert_eq!((&summary["received_bytes"], &summary["sent_bytes"]), (&(bytes + 8).into(), &(bytes + 8).into()));
    }
}

#[test]
fn messages_of_all_sizes_come_back() {
    for backend in backends() {
        let server = Server::start(&["echo", "--backend", &backend]);
        for (size, pipeline, duration) in [("1", "7", "100ms"), ("1001", "5", "100ms"), ("300000", "3", "300ms")] {
            let arguments = ["--connections", "3", "--size", size, "--pipeline", pipeline, "--duration", duration];
            let report = load(&server, &[&arguments[..], &["--backend", &backend]].concat());
            assert!(number(&report["messages"]) > 0, "{report}");
        }
        server.stop();
    }
}

#[test]
fn workers_share_the_connections() {
    for backend in backends() {
        let pinned = pinned();
        let pinned: Vec<&str> = pinned.iter().map(String::as_str).collect();
        let server = Server::start(&[&["echo", "--backend", &backend, "--workers", "3"], &pinned[..]].concat());
        let report = load(&server, &["--connections", "31", "--workers", "2", "--duration", "200ms"]);
        assert_eq!(report["connections"], 31);
        let summary = server.stop();
        assert_eq!((&summary["workers"], &summary["connections"]), (&3.into(), &32.into()));
    }
}

#[test]
fn idle_connections_are_counted_and_weighed() {
    let server = Server::start(&["echo"]);
    let report =
        load(&server, &["--connections", "0", "--idle", "300", "--duration", "50ms", "--connect-rate", "3000/s"]);
    assert_eq!((&report["idle_connections"], &report["messages"]), (&300.into(), &0.into()));
    assert!(report["server_rss_bytes_per_idle"].is_number());
    assert_eq!(server.stop()["errors"], 0);
}

#[test]
fn a_client_that_ends_early_gets_all_its_echo() {
    const BYTES: usize = 8 << 20;
    for backend in backends() {
        let server = Server::start(&["echo", "--backend", &backend]);
        let mut client = TcpStream::connect(&server.address).unwrap();
        let mut reader = client.try_clone().unwrap();
        let sent: Vec<u8> = (0..BYTES).map(|index| (index / 7) as u8).collect();
        // The server has to hold it back: nothing is read until much more has been written than sockets hold.
        let written = sent.clone();
        let writer = std::thread::spawn(move || {
            client.write_all(&written).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        let mut echo = vec![0; 1];
        reader.read_exact(&mut echo).unwrap();
        reader.read_to_end(&mut echo).unwrap();
        writer.join().unwrap();
        assert!(echo == sent, "{} of {BYTES} bytes came back, or others", echo.len());
        let summary = server.stop();
        assert_eq!((&summary["sent_bytes"], &summary["errors"]), (&BYTES.into(), &0.into()));
    }
}

#[test]
fn clients_that_never_read_stop_nobody() {
    for backend in backends() {
        let server = Server::start(&["echo", "--backend", &backend]);
        let deaf: Vec<TcpStream> = (0..40).map(|_| fill(&server.address)).collect();
        let report = load(&server, &["--connections", "8", "--duration", "200ms"]);
        assert!(number(&report["messages"]) > 0);
        drop(deaf);
        server.stop();
    }
}

/// A connection that has written until nobody took any more, and never reads.
fn fill(address: &str) -> TcpStream {
    let mut client = TcpStream::connect(address).unwrap();
    client.set_write_timeout(Some(Duration::from_millis(30))).unwrap();
    while client.write(&[7; 65_536]).is_ok() {}
    client
}

#[test]
fn a_sink_takes_and_gives_nothing() {
    let server = Server::start(&["sink"]);
    let mut client = TcpStream::connect(&server.address).unwrap();
    client.write_all(&[1; 100_000]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert!(answer.is_empty());
    let summary = server.stop();
    assert_eq!((&summary["received_bytes"], &summary["sent_bytes"]), (&100_000.into(), &0.into()));
}

#[cfg(target_os = "linux")]
#[test]
fn a_server_stopped_under_load_drains() {
    const CONNECTIONS: usize = 32;
    for backend in backends() {
        let server = Server::start(&["echo", "--backend", &backend]);
        let descriptors = format!("/proc/{}/fd", server.process.0.id());
        let count = || std::fs::read_dir(&descriptors).unwrap().count();
        let before = count();
        let load =
            Running::start(&["load", "echo", "--connect", &server.address, "--connections", "32", "--duration", "60s"]);
        while count() < before + CONNECTIONS {
            std::thread::yield_now();
        }
        let summary = server.stop();
        // Those accepted in its last turn are turned away.
        let accepted = number(&summary["connections"]) + number(&summary["refused"]);
        assert!(accepted >= CONNECTIONS as u64, "{summary}");
        assert_eq!(load.end().0.code(), Some(1), "a load whose server went away has errors");
    }
}

#[test]
fn a_load_can_be_stopped_early() {
    const CONNECTIONS: usize = 3;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut load =
        Running::start(&["load", "echo", "--connect", &address, "--connections", "3", "--duration", "60s", "--json"]);
    // An echo server of our own, which knows when messages have gone to and fro. The first connection is the probe.
    let (tell, told) = mpsc::channel();
    for _ in 0..=CONNECTIONS {
        let (client, _) = listener.accept().unwrap();
        let tell = tell.clone();
        std::thread::spawn(move || echo(client, &tell));
    }
    assert!(told.iter().take(50).count() == 50);
    load.terminate();
    let report = load.report();
    assert_clean(&report);
    assert!(number(&report["messages"]) > 10 && report["duration_s"].as_f64().unwrap() < 30.0, "{report}");
}

fn echo(mut client: TcpStream, tell: &mpsc::Sender<usize>) {
    let mut bytes = [0; 4096];
    while let Ok(length) = client.read(&mut bytes)
        && length > 0
    {
        client.write_all(&bytes[..length]).unwrap();
        // Nobody counts any more once the load has been told to stop.
        let _ = tell.send(length);
    }
}

#[test]
fn wrong_bytes_are_found() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        echo(listener.accept().unwrap().0, &mpsc::channel().0);
        // One byte of the second message is another one.
        let (mut client, _) = listener.accept().unwrap();
        let mut message = [0; 64];
        for number in 0.. {
            if client.read_exact(&mut message).is_err() {
                return;
            }
            message[17] ^= u8::from(number == 1);
            client.write_all(&message).unwrap();
        }
    });
    let arguments = ["load", "echo", "--json", "--connect", &address, "--connections", "1", "--duration", "100ms"];
    let (report, status) = run_json(&arguments);
    assert_eq!((status.code(), &report["corrupt_bytes"], &report["errors"]), (Some(1), &1.into(), &0.into()));
}
