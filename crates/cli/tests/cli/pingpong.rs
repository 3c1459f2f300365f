//! `serve pingpong`, spoken to byte by byte.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Running, Scratch, Server, assert_fails, backends, pinned, raon, text};

const PATIENCE: Duration = Duration::from_secs(20);

fn connect(server: &Server) -> TcpStream {
    let client = TcpStream::connect(&server.address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

/// What the server sends until it ends the stream.
fn rest(mut client: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Connects with a version: the result, and the session's id.
fn greet(client: &mut TcpStream, version: u32) -> (u8, u64) {
    client.write_all(&[&[8, 0, 1, 0][..], &version.to_le_bytes()].concat()).unwrap();
    let mut answer = [0; 17];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(answer[..4], [17, 0, 2, 0]);
    assert!(u32::from_le_bytes(answer[12..16].try_into().unwrap()) > 1_700_000_000, "{answer:?}");
    (answer[16], u64::from_le_bytes(answer[4..12].try_into().unwrap()))
}

/// A ping, and what comes back.
fn ping(client: &mut TcpStream, time_ms: u64, sequence: u32) {
    let mut body = [&[16, 0, 3, 0][..], &time_ms.to_le_bytes(), &sequence.to_le_bytes()].concat();
    client.write_all(&body).unwrap();
    let mut answer = [0; 24];
    client.read_exact(&mut answer).unwrap();
    let server_ms = u64::from_le_bytes(answer[12..20].try_into().unwrap());
    assert!(server_ms > 1_700_000_000_000, "{server_ms}");
    body[..4].copy_from_slice(&[24, 0, 4, 0]);
    assert_eq!((&answer[..12], &answer[20..]), (&body[..12], &body[12..]));
}

#[test]
fn pings_are_answered_on_each_backend() {
    for backend in backends() {
        let pinned = pinned();
        let pinned: Vec<&str> = pinned.iter().map(String::as_str).collect();
        let server = Server::start(&[&["pingpong", "--backend", &backend, "--workers", "2"], &pinned[..]].concat());
        let mut clients: Vec<TcpStream> = (0..4).map(|_| connect(&server)).collect();
        let ids: Vec<u64> = clients.iter_mut().map(|client| greet(client, 7).1).collect();
        assert!(ids.iter().all(|id| *id != 0 && ids.iter().filter(|other| *other == id).count() == 1), "{ids:?}");
        for sequence in 0..10 {
            clients.iter_mut().for_each(|client| ping(client, u64::MAX - 5, sequence));
        }
        drop(clients);
        let summary = server.stop();
        let figure = |key: &str| summary[key].as_u64().unwrap_or_else(|| panic!("{key} in {summary}"));
        assert_eq!((&summary["service"], &summary["backend"]), (&"pingpong".into(), &backend.as_str().into()));
        assert_eq!((figure("workers"), figure("accepted"), figure("sessions"), figure("clients")), (2, 4, 4, 4));
        assert_eq!((figure("messages"), figure("messages_queued")), (44, 44));
        assert_eq!((figure("received_bytes"), figure("sent_bytes")), (4 * 8 + 40 * 16, 4 * 17 + 40 * 24));
        for key in ["refused", "dropped", "lost", "panics", "forced"] {
            assert_eq!(figure(key), 0, "{key} in {summary}");
        }
        let closed = summary["closed"].as_object().unwrap();
        assert_eq!(closed.values().filter_map(Value::as_u64).sum::<u64>(), 4, "{summary}");
    }
}

#[test]
fn who_is_no_client_is_closed_and_hurts_nobody() {
    for backend in backends() {
        let server = Server::start(&["pingpong", "--backend", &backend]);
        let mut honest = connect(&server);
        assert_eq!(greet(&mut honest, 1).0, 0);
        let cases: [&[u8]; 5] = [
            // A ping before the connect request; an unknown id; a wrong size; a packet shorter than its header; noise.
            &[16, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[4, 0, 77, 0],
            &[5, 0, 1, 0, 0],
            &[3, 0, 1, 0],
            b"GET / HTTP/1.1\r\n\r\n",
        ];
        for bytes in cases {
            let mut garbage = connect(&server);
            garbage.write_all(bytes).unwrap();
            assert!(rest(garbage).is_empty(), "{bytes:?}");
            ping(&mut honest, 5, 6);
        }
        let mut silent = connect(&server);
        silent.write_all(&[16]).unwrap();
        drop(silent);
        ping(&mut honest, 7, 8);
        drop(honest);
        let summary = server.stop();
        let closed = &summary["closed"];
        for reason in ["not_connected", "unknown_message", "wrong_size", "frame_malformed", "frame_too_long"] {
            assert_eq!(closed[reason], 1, "{reason} in {summary}");
        }
        assert!(closed.get("application").is_none() && summary["clients"] == 1, "{summary}");
    }
}

#[test]
fn versions_and_numbers_of_clients_are_limited() {
    let server = Server::start(&["pingpong", "--client-versions", "3-5", "--clients-max", "2", "--workers", "2"]);
    let mut wrong = connect(&server);
    assert_eq!(greet(&mut wrong, 6).0, 1);
    assert!(rest(wrong).is_empty());
    let mut clients: Vec<TcpStream> = (0..2).map(|_| connect(&server)).collect();
    clients.iter_mut().for_each(|client| assert_eq!(greet(client, 4).0, 0));
    for _ in 0..3 {
        let mut further = connect(&server);
        assert_eq!(greet(&mut further, 4).0, 2);
        assert!(rest(further).is_empty());
    }
    clients.iter_mut().for_each(|client| ping(client, 1, 1));
    let summary = server.stop();
    assert_eq!((&summary["clients"], &summary["sessions"]), (&2.into(), &6.into()), "{summary}");
    let expected = serde_json::json!({ "shutdown": 2, "full": 3, "wrong_version": 1 });
    assert_eq!(summary["closed"], expected);
}

#[test]
fn a_server_that_is_stopped_ends_its_sessions_in_order() {
    for backend in backends() {
        let mut server = Server::start(&["pingpong", "--backend", &backend, "--workers", "2", "--grace", "20s"]);
        let mut clients: Vec<TcpStream> = (0..8).map(|_| connect(&server)).collect();
        clients.iter_mut().for_each(|client| assert_eq!(greet(client, 1).0, 0));
        server.process.terminate();
        // Each sees the end of its stream, and no reset. Those that then end too keep nobody waiting.
        clients.into_iter().for_each(|client| assert!(rest(client).is_empty()));
        let (status, words) = server.process.end();
        assert!(status.success(), "{words}");
        let summary: Value = serde_json::from_str(words.lines().last().unwrap()).unwrap();
        assert_eq!((&summary["closed"]["shutdown"], &summary["forced"]), (&8.into(), &0.into()), "{summary}");
        assert!(summary["duration_s"].as_f64().unwrap() < 15.0, "{summary}");
    }
}

#[test]
fn a_client_that_does_not_end_is_forced_to() {
    let server = Server::start(&["pingpong", "--grace", "100ms"]);
    let mut client = connect(&server);
    assert_eq!(greet(&mut client, 1).0, 0);
    let summary = server.stop();
    assert_eq!((&summary["sessions"], &summary["forced"]), (&1.into(), &1.into()), "{summary}");
    drop(client);
}

#[test]
fn a_configuration_file_is_read_and_overruled() {
    let file = Scratch::new("server.toml");
    std::fs::write(file.path(), "workers = 3\nlisten = '127.0.0.1:1'\nhandshake_timeout_ms = 50\n").unwrap();
    let server = Server::start(&["pingpong", "--config", file.path()]);
    // The timeout of the file, the address of the argument.
    assert!(rest(connect(&server)).is_empty());
    let summary = server.stop();
    assert_eq!((&summary["workers"], &summary["closed"]["handshake_timeout"]), (&3.into(), &1.into()), "{summary}");

    std::fs::write(file.path(), "workers = 'many'\ntick = 1\nbackend = 'magic'").unwrap();
    let arguments = ["serve", "pingpong", "--config", file.path()];
    assert_fails(&mut raon(&arguments), 1, &["workers", "tick", "no such field", "backend", file.path()]);
    let arguments = ["serve", "pingpong", "--config", "/raon-no-such-file.toml"];
    assert_fails(&mut raon(&arguments), 1, &["/raon-no-such-file.toml"]);
    let mut from_environment = raon(&["serve", "pingpong"]);
    assert_fails(from_environment.env("RAON_SESSIONS_MAX", "none"), 1, &["RAON_SESSIONS_MAX"]);
}

#[test]
fn what_cannot_be_served_is_told() {
    let taken = Server::start(&["pingpong"]);
    let doing = format!("cannot listen on {}", taken.address);
    assert_fails(&mut raon(&["serve", "pingpong", "--listen", &taken.address]), 1, &[&doing, "choose another port"]);
    assert_fails(
        &mut raon(&["serve", "pingpong", "--listen", "127.0.0.1:0", "--pin", "1000"]),
        1,
        &["cannot pin a thread to CPU 1000: "],
    );
    let mut other = raon(&["serve", "pingpong", "--listen", "127.0.0.1:0"]);
    assert_fails(other.env("RAON_BACKEND", "kqueue"), 1, &["RAON_BACKEND=kqueue"]);
    let cases: [(&[&str], &str); 6] = [
        (&["serve", "chat", "--clients-max", "3"], "RAON_SESSIONS_MAX"),
        (&["serve", "pingpong", "--udp"], "--udp"),
        (&["serve", "echo", "--config", "x.toml"], "serve pingpong"),
        (&["serve", "pingpong", "--client-versions", "5-3"], "lower one first"),
        (&["serve", "pingpong", "--clients-max", "0"], "1..="),
        (&["serve", "pingpong", "--workers", "1000"], "workers"),
    ];
    for (arguments, part) in cases {
        assert_fails(&mut raon(arguments), 2, &[part]);
    }
    taken.stop();
}

#[test]
fn the_summary_reads_well() {
    let mut server = Server::start_telling_people(&["pingpong", "--workers", "1"]);
    let mut client = connect(&server);
    assert_eq!(greet(&mut client, 1).0, 0);
    ping(&mut client, 1, 1);
    drop(client);
    server.process.terminate();
    let (status, words) = server.process.end();
    assert!(status.success() && words.contains("served pingpong for ") && words.contains("1 worker\n"), "{words}");
    for row in ["clients let in", "messages received", "ended: "] {
        assert!(words.contains(row), "no {row:?} in {}", text(words.as_bytes()));
    }
}

/// Starts and stops a server, and returns what it has said on standard error.
fn words_of(arguments: &[&str]) -> String {
    let mut command = raon(arguments);
    command.env_remove("RAON_PROFILE");
    let mut server = Server::of(Running::start_command(command));
    server.process.terminate();
    let (status, words) = server.process.end();
    assert!(status.success(), "{status}: {words}");
    words
}

#[test]
fn a_server_without_a_profile_warns_of_what_is_not_limited() {
    let serve = ["serve", "pingpong", "--listen", "127.0.0.1:0", "--workers", "1"];
    let warnings = |words: &str| words.lines().filter(|line| line.contains("not limited: idle_timeout_ms")).count();
    let words = words_of(&serve);
    assert_eq!(warnings(&words), 1, "{words}");
    assert!(words.contains("profile = \"public\""), "{words}");
    for profile in ["public", "lan"] {
        let words = words_of(&[&serve[..], &["--profile", profile]].concat());
        assert_eq!(warnings(&words), 0, "{words}");
    }
}

#[test]
fn a_public_server_lets_no_address_hold_all_places_unless_it_is_told_to() {
    for (variables, places) in [(None, 64), (Some(("RAON_SESSIONS_PER_ADDRESS_MAX", "70")), 70)] {
        let mut command = raon(&["serve", "pingpong", "--listen", "127.0.0.1:0", "--profile", "public", "--json"]);
        command.envs(variables);
        let mut server = Server::of(Running::start_command(command));
        let mut clients: Vec<TcpStream> = (0..80).map(|_| TcpStream::connect(&server.address).unwrap()).collect();
        // Each says something: the places are kept, and those beyond find their connection closed.
        let stays = |client: &mut TcpStream| {
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            let _ = client.write_all(&[8, 0, 1, 0, 1, 0, 0, 0]);
            client.read(&mut [0; 17]).is_ok_and(|length| length > 0)
        };
        let stayed = clients.iter_mut().map(stays).filter(|stays| *stays).count();
        assert_eq!(stayed, places, "{variables:?}");
        drop(clients);
        server.process.terminate();
        let (_, words) = server.process.end();
        assert!(words.contains(&format!("\"address_limit\":{}", 80 - places)), "{words}");
    }
}
