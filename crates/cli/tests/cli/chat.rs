//! `serve chat`, talked to line by line.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::{Scratch, Server, backends};

/// Somebody with a connection.
struct Person {
    lines: BufReader<TcpStream>,
}

impl Person {
    fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(&server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut person = Person { lines: BufReader::new(stream) };
        person.hear("* welcome; write /name NAME, /join ROOM, /leave, or a line for your room");
        person
    }

    fn enter(server: &Server, name: &str, room: &str) -> Self {
        let mut person = Person::connect(server);
        person.write(&format!("/name {name}\n/join {room}\n"));
        person.hear(&format!("* you are {name}"));
        person.hear(&format!("* {name} has joined {room}"));
        person
    }

    fn write(&mut self, text: &str) {
        self.lines.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// The next line must be this.
    fn hear(&mut self, line: &str) {
        let mut heard = String::new();
        self.lines.read_line(&mut heard).unwrap();
        assert_eq!(heard.trim_end(), line);
    }
}

#[test]
fn rooms_span_workers_on_each_backend() {
    for backend in backends() {
        let server = Server::start(&["chat", "--backend", &backend, "--workers", "3"]);
        let mut people: Vec<Person> = Vec::new();
        for number in 0..6 {
            let person = Person::enter(&server, &format!("p{number}"), "red");
            people.iter_mut().for_each(|other| other.hear(&format!("* p{number} has joined red")));
            people.push(person);
        }
        let mut stranger = Person::enter(&server, "stranger", "blue");
        for number in 0..6 {
            people[number].write(&format!("line {number}\n"));
            people.iter_mut().for_each(|person| person.hear(&format!("p{number}: line {number}")));
        }
        // No frame at all ends that session alone.
        let mut garbage = Person::connect(&server);
        garbage.write(&"x".repeat(5000));
        let mut rest = Vec::new();
        // The rest of what it wrote may be answered by a reset.
        let _ = garbage.lines.read_to_end(&mut rest);
        assert!(rest.is_empty());
        drop(people.pop());
        people.iter_mut().for_each(|person| person.hear("* p5 has left red"));
        stranger.write("alone\n");
        stranger.hear("stranger: alone");
        drop(people);
        let summary = server.stop();
        assert_eq!((&summary["sessions"], &summary["service"]), (&8.into(), &"chat".into()), "{summary}");
        assert_eq!((&summary["closed"]["frame_too_long"], &summary["refused"]), (&1.into(), &0.into()), "{summary}");
    }
}

#[test]
fn the_end_is_told_to_everyone() {
    for backend in backends() {
        let mut server = Server::start(&["chat", "--backend", &backend, "--workers", "2", "--grace", "20s"]);
        let mut people: Vec<Person> =
            (0..4).map(|number| Person::enter(&server, "somebody", &format!("room-{number}"))).collect();
        server.process.terminate();
        for mut person in people.drain(..) {
            person.hear("* the server is shutting down");
            let mut rest = String::new();
            assert_eq!(person.lines.read_line(&mut rest).unwrap(), 0, "{rest}");
        }
        let (status, words) = server.process.end();
        assert!(status.success() && words.contains("\"shutdown\":4"), "{words}");
    }
}

#[test]
fn who_does_not_read_is_left_behind_and_delays_nobody() {
    let file = Scratch::new("chat.toml");
    let config = "slow_consumer = 'disconnect'\nslow_consumer_grace_ms = 300\nwatermark_high_bytes = 32768";
    std::fs::write(file.path(), config).unwrap();
    for backend in backends() {
        let server = Server::start(&["chat", "--backend", &backend, "--workers", "2", "--config", file.path()]);
        let mut writer = Person::enter(&server, "writer", "red");
        let slow = Person::enter(&server, "slow", "red");
        writer.hear("* slow has joined red");
        let text = "x".repeat(900);
        let mut number = 0;
        // Much more than sockets hold, then what has to wait is in the server.
        loop {
            assert!(number < 200_000, "the one that does not read stays for ever");
            writer.write(&format!("{number} {text}\n"));
            let mut heard = String::new();
            writer.lines.read_line(&mut heard).unwrap();
            if heard == "* slow has left red\n" {
                break;
            }
            assert_eq!(heard, format!("writer: {number} {text}\n"));
            number += 1;
        }
        writer.hear(&format!("writer: {number} {text}"));
        drop((writer, slow));
        let summary = server.stop();
        assert_eq!((&summary["closed"]["slow_consumer"], &summary["sessions"]), (&1.into(), &2.into()), "{summary}");
        assert!(summary["lost"].as_u64().unwrap() > 0, "what waited for it is counted: {summary}");
    }
}
