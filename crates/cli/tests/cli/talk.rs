//! `load pingpong` and `load chat`: every answer is checked, and what is wrong is found.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitStatus;

use serde_json::Value;

use crate::support::{Scratch, Server, assert_fails, backends, raon, run, run_json, text};

fn load(service: &str, address: &str, arguments: &[&str]) -> (Value, ExitStatus) {
    run_json(&[&["load", service, "--json", "--connect", address], arguments].concat())
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no whole number"))
}

fn assert_clean(report: &Value, keys: &[&str]) {
    assert!(number(&report["messages"]) > 0, "{report}");
    for key in [&["errors", "connect_errors", "corrupt_bytes"], keys].concat() {
        assert_eq!(report[key], 0, "{key} in {report}");
    }
}

const CHAT_KEYS: [&str; 4] = ["lost", "duplicates", "misordered", "corrupt"];

#[test]
fn pings_are_verified_in_both_loops_on_each_backend() {
    for backend in backends() {
        let server = Server::start(&["pingpong", "--backend", &backend, "--workers", "2"]);
        let fixed = ["--connections", "30", "--workers", "2", "--duration", "300ms", "--backend", &backend];
        let mut messages = 0;
        for arguments in [&["--pipeline", "3"][..], &["--rate", "2000/s"]] {
            let (report, status) = load("pingpong", &server.address, &[&fixed[..], arguments].concat());
            assert!(status.success(), "{report}");
            assert_clean(&report, &["wrong_answers"]);
            let about = (&report["service"], &report["connections"], &report["size_bytes"]);
            assert_eq!(about, (&"pingpong".into(), &30.into(), &16.into()));
            messages += number(&report["messages"]);
        }
        let summary = server.stop();
        // Each load has a probe, and a connect request with each connection.
        assert_eq!(number(&summary["messages"]), messages + 2 + 62, "{summary}");
        assert_eq!((number(&summary["clients"]), number(&summary["refused"])), (62, 0), "{summary}");
    }
}

#[test]
fn a_client_that_is_not_let_in_is_told() {
    let server = Server::start(&["pingpong", "--client-versions", "3", "--clients-max", "4", "--workers", "1"]);
    let arguments = ["load", "pingpong", "--connect", &server.address];
    assert_fails(&mut raon(&arguments), 1, &["wrong client version", "--client-version"]);
    let arguments = ["--connections", "9", "--client-version", "3", "--duration", "100ms"];
    let (report, status) = load("pingpong", &server.address, &arguments);
    assert_eq!((status.code(), &report["connections"], &report["errors"]), (Some(1), &4.into(), &0.into()), "{report}");
    assert_eq!((number(&report["connect_errors"]), number(&report["wrong_answers"])), (5, 0), "{report}");
    server.stop();
}

#[test]
fn a_server_that_is_full_is_told() {
    let file = Scratch::new("full.toml");
    std::fs::write(file.path(), "sessions_max = 4").unwrap();
    let server = Server::start(&["chat", "--config", file.path()]);
    let arguments = ["--connections", "9", "--rooms", "1", "--duration", "100ms"];
    let (report, status) = load("chat", &server.address, &arguments);
    assert_eq!((status.code(), number(&report["errors"])), (Some(1), 0), "{report}");
    let (connections, refused) = (number(&report["connections"]), number(&report["connect_errors"]));
    // The probe's session may take a place for a while.
    assert!((3..=4).contains(&connections) && connections + refused == 9, "{report}");
    let summary = server.stop();
    assert_eq!((number(&summary["closed"]["server_full"]), number(&summary["accepted"])), (refused, 10), "{summary}");
}

/// A server of our own that answers pings; `change` may alter the answer to the ping of that number, the probe's is 1.
fn peculiar_pings(change: impl Fn(usize, &mut [u8]) + Send + Copy + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for (id, client) in (1_u64..).zip(listener.incoming()) {
            std::thread::spawn(move || answer_pings(client.unwrap(), id, change));
        }
    });
    address
}

fn answer_pings(mut client: TcpStream, id: u64, change: impl Fn(usize, &mut [u8])) {
    let (mut hello, mut ping) = ([0; 8], [0; 16]);
    client.read_exact(&mut hello).unwrap();
    client.write_all(&[&[17, 0, 2, 0][..], &id.to_le_bytes(), &[1, 0, 0, 0, 0]].concat()).unwrap();
    for number in 0.. {
        if client.read_exact(&mut ping).is_err() {
            return;
        }
        let mut answer = [&[24, 0, 4, 0][..], &ping[4..12], &[0; 8], &ping[12..]].concat();
        change(number, &mut answer);
        // The load has left at the first wrong answer.
        let _ = client.write_all(&answer);
    }
}

#[test]
fn a_wrong_answer_is_an_error() {
    // The time, the number, and the kind of the packet.
    for at in [4, 20, 2] {
        let address = peculiar_pings(move |number, answer| answer[at] ^= u8::from(number == 3));
        let arguments = ["--connections", "2", "--pipeline", "2", "--duration", "100ms"];
        let (report, status) = load("pingpong", &address, &arguments);
        assert_eq!(status.code(), Some(1), "{report}");
        assert_eq!((number(&report["errors"]), number(&report["wrong_answers"])), (2, 2), "byte {at}: {report}");
        assert_eq!(number(&report["messages"]), 6, "{report}");
    }
}

#[test]
fn a_chat_is_verified_in_both_loops_on_each_backend() {
    for backend in backends() {
        let server = Server::start(&["chat", "--backend", &backend, "--workers", "2"]);
        let fixed =
            ["--connections", "30", "--rooms", "3", "--workers", "2", "--duration", "300ms", "--backend", &backend];
        for arguments in [&["--pipeline", "3"][..], &["--rate", "500/s", "--size", "200"]] {
            let (report, status) = load("chat", &server.address, &[&fixed[..], arguments].concat());
            assert!(status.success(), "{report}");
            assert_clean(&report, &CHAT_KEYS);
            assert_eq!((&report["service"], &report["rooms"]), (&"chat".into(), &3.into()));
            let deliveries = number(&report["deliveries"]) as f64 / number(&report["messages"]) as f64;
            assert!((7.0..=15.0).contains(&deliveries), "three rooms of thirty: {report}");
        }
        let summary = server.stop();
        assert_eq!((&summary["refused"], &summary["panics"]), (&0.into(), &0.into()), "{summary}");
    }
}

/// A chat of our own with one room. Each line goes to each member as often, and in the order, that `pass` says.
fn peculiar_chat(pass: impl Fn(usize, String) -> Vec<String> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        // The probe, then the only member.
        for _ in 0..2 {
            let (mut client, _) = listener.accept().unwrap();
            let lines = BufReader::new(client.try_clone().unwrap()).lines();
            let (mut name, mut number) = (String::new(), 0);
            for line in lines.map_while(Result::ok) {
                let mut words = line.split(' ');
                let answers = match (words.next(), words.next()) {
                    (Some("/name"), Some(word)) => {
                        name = word.to_owned();
                        vec![format!("* you are {name}")]
                    }
                    (Some("/join"), Some(room)) => vec![format!("* {name} has joined {room}")],
                    _ => {
                        number += 1;
                        pass(number - 1, format!("{name}: {line}"))
                    }
                };
                for answer in answers {
                    let _ = client.write_all(format!("{answer}\n").as_bytes());
                }
            }
        }
    });
    address
}

#[test]
fn lost_doubled_swapped_and_wrong_lines_are_errors() {
    let held = std::cell::RefCell::new(Vec::new());
    let address = peculiar_chat(move |number, line| match number {
        2 => Vec::new(),
        5 => vec![line.clone(), line],
        8 => {
            held.borrow_mut().push(line);
            Vec::new()
        }
        9 => vec![line, held.borrow_mut().remove(0)],
        12 => vec![line.replace("load-", "toad-"), line],
        _ => vec![line],
    });
    let arguments = ["--connections", "1", "--rate", "100", "--duration", "400ms"];
    let (report, status) = load("chat", &address, &arguments);
    assert_eq!(status.code(), Some(1), "{report}");
    let counts: Vec<u64> = CHAT_KEYS.iter().map(|key| number(&report[*key])).collect();
    assert_eq!(counts, [1, 1, 1, 1], "{report}");
    // The lost one and the one that was overtaken damage their lines; the others are errors by themselves.
    assert_eq!((number(&report["errors"]), number(&report["open_loop"]["unanswered"])), (5, 2), "{report}");
    let open = &report["open_loop"];
    assert_eq!(number(&open["scheduled"]), number(&report["messages"]) + 2 + number(&open["unsent"]), "{report}");
}

#[test]
fn sweeps_and_idle_connections_greet_too() {
    for (service, rooms) in [("pingpong", &[][..]), ("chat", &["--rooms", "2"])] {
        let server = Server::start(&[service, "--workers", "1"]);
        let arguments = ["--sweep", "--rates", "200,400", "--duration", "200ms", "--connections", "8", "--idle", "5"];
        let (report, status) = load(service, &server.address, &[&arguments[..], rooms].concat());
        assert!(status.success(), "{report}");
        let steps = report["steps"].as_array().unwrap();
        assert!(steps.len() == 2 && steps.iter().all(|step| step["service"] == service), "{report}");
        assert_eq!((&report["idle_connections"], &report["connect_errors"]), (&5.into(), &0.into()));
        server.stop();
    }
}

#[test]
fn the_reports_read_well() {
    let server = Server::start(&["chat"]);
    let output = run(&["load", "chat", "--connect", &server.address, "--connections", "8", "--duration", "100ms"]);
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{shown}{}", text(&output.stderr));
    for part in ["8 connections in 1 room with lines of 64 bytes to ", "lines delivered", "out of order"] {
        assert!(shown.contains(part), "no {part:?} in {shown}");
    }
    assert!(!shown.contains("corrupt bytes") && !shown.contains("MB/s"), "{shown}");
    let lonely = ["load", "pingpong", "--connect", &server.address];
    assert_fails(&mut raon(&lonely), 1, &["does not answer a connect request", "raon serve pingpong"]);
    server.stop();
}

#[test]
fn loads_that_cannot_be_are_told() {
    let cases: [(&[&str], &str); 9] = [
        (&["load", "chat", "--rooms", "9", "--connections", "8"], "lower --rooms"),
        (&["load", "pingpong", "--size", "32"], "drop --size"),
        (&["load", "pingpong", "--udp"], "--udp is for echo"),
        (&["load", "pingpong", "--rooms", "3"], "load chat"),
        (&["load", "chat", "--client-version", "3"], "load pingpong"),
        (&["load", "chat", "--size", "19"], "change --size"),
        (&["load", "chat", "--size", "991"], "change --size"),
        (&["load", "chat", "--rooms", "1", "--workers", "2"], "raise --rooms"),
        (&["load", "chat", "--rooms", "1", "--connections", "20000"], "raise --rooms"),
    ];
    for (arguments, part) in cases {
        assert_fails(&mut raon(arguments), 2, &[part]);
    }
}
