//! The chat in a simulated network.

use std::time::Duration;

use raon::{CloseReason, Server, ServerConfig, ServerHandle, SimPeer, Simulation, SlowConsumerPolicy};

use super::{Chat, LINES};

const LIMIT: Duration = Duration::from_secs(20);

struct Stage {
    simulation: Simulation,
    handle: ServerHandle<Chat>,
}

/// Somebody with a connection.
struct Person {
    peer: SimPeer,
    heard: Vec<u8>,
    has_ended: bool,
}

impl Stage {
    fn new(seed: u64, change: impl FnOnce(&mut ServerConfig)) -> Self {
        let mut simulation = Simulation::new(seed);
        let server = Server::builder().workers(3).configure(change).application(LINES, |_shard| Chat);
        let handle = simulation.serve(server).unwrap();
        Stage { simulation, handle }
    }

    /// Somebody new, with a name and in a room.
    fn enter(&mut self, name: &str, room: &str) -> Person {
        let mut person = self.connect();
        person.write(&format!("/name {name}\n/join {room}\n"));
        self.wait_for(&mut person, &format!("* {name} has joined {room}"));
        person
    }

    fn connect(&mut self) -> Person {
        let peer = self.simulation.connect();
        assert!(self.simulation.run_until(LIMIT, || peer.is_connected()));
        Person { peer, heard: Vec::new(), has_ended: false }
    }

    /// Until this line has come to somebody. Returns all lines up to it, which are then heard no more.
    fn wait_for(&mut self, person: &mut Person, line: &str) -> Vec<String> {
        let mut lines = Vec::new();
        let has_come = self.simulation.run_until(LIMIT, || {
            person.listen();
            while lines.last().is_none_or(|last| last != line) {
                let Some(next) = person.next_line() else { return false };
                lines.push(next);
            }
            true
        });
        assert!(has_come, "{line:?} is not among {lines:?}");
        lines
    }

    fn stop(mut self, people: Vec<Person>) {
        self.handle.stop(Duration::from_secs(1));
        drop(people);
        assert!(self.simulation.run_to_end(Duration::from_secs(10)).unwrap());
        let stats = self.handle.stats();
        assert_eq!((stats.opened, stats.panics), (stats.closed(), 0), "{stats}");
    }
}

impl Person {
    fn write(&mut self, text: &str) {
        assert_eq!(self.peer.write(text.as_bytes()).unwrap(), text.len());
    }

    fn listen(&mut self) {
        let mut bytes = [0; 4096];
        while let Ok(Some(length)) = self.peer.read(&mut bytes) {
            self.heard.extend_from_slice(&bytes[..length]);
            self.has_ended |= length == 0;
            if length == 0 {
                return;
            }
        }
    }

    fn next_line(&mut self) -> Option<String> {
        let length = self.heard.iter().position(|byte| *byte == b'\n')?;
        let line = String::from_utf8_lossy(&self.heard[..length]).into_owned();
        self.heard.drain(..=length);
        Some(line)
    }
}

#[test]
fn a_line_goes_to_the_room_and_nowhere_else() {
    for seed in 0..20 {
        let mut stage = Stage::new(seed, |_| ());
        let (mut ann, mut bob) = (stage.enter("ann", "red"), stage.enter("bob", "red"));
        let mut eve = stage.enter("eve", "blue");
        ann.write("hello\r\nhow are you?\n");
        for person in [&mut ann, &mut bob] {
            let lines = stage.wait_for(person, "ann: how are you?");
            assert_eq!(lines[lines.len() - 2], "ann: hello", "seed {seed}: {lines:?}");
        }
        eve.write("anyone?\n");
        assert_eq!(stage.wait_for(&mut eve, "eve: anyone?"), ["eve: anyone?"], "seed {seed}");
        bob.write("/join blue\n");
        stage.wait_for(&mut ann, "* bob has left red");
        stage.wait_for(&mut eve, "* bob has joined blue");
        drop(bob);
        stage.wait_for(&mut eve, "* bob has left blue");
        stage.stop(vec![ann, eve]);
    }
}

#[test]
fn what_cannot_be_done_is_told() {
    let mut stage = Stage::new(1, |_| ());
    let mut guest = stage.connect();
    stage.wait_for(&mut guest, "* welcome; write /name NAME, /join ROOM, /leave, or a line for your room");
    let long = format!("/name {}\n", "x".repeat(33));
    let no_name = "* a name has 1 to 32 letters, digits, dots, dashes or underscores";
    let no_command = "* there is no such command; write /name NAME, /join ROOM or /leave";
    let cases = [
        ("hello\n", "* you are in no room; write /join ROOM"),
        ("/leave\n", "* you are in no room"),
        ("/name\n", no_name),
        ("/name a b\n", no_name),
        ("/join a:b\n", no_name),
        (&long, no_name),
        ("/\n", no_command),
        ("/leave now\n", no_command),
        ("/quit\n", no_command),
    ];
    for (line, answer) in cases {
        guest.write(line);
        assert_eq!(stage.wait_for(&mut guest, answer), [answer], "{line}");
    }
    guest.write("\n/join red\n");
    stage.wait_for(&mut guest, "* guest-0.0.1 has joined red");
    guest.write(&format!("{}\n", "x".repeat(990)));
    stage.wait_for(&mut guest, "* a line has at most 989 bytes");
    let longest = "x".repeat(989);
    guest.write(&format!("{longest}\n"));
    stage.wait_for(&mut guest, &format!("guest-0.0.1: {longest}"));
    stage.stop(vec![guest]);
}

#[test]
fn the_end_of_the_server_is_told_to_everyone() {
    let mut stage = Stage::new(3, |_| ());
    let mut people: Vec<Person> = (0..9).map(|number| stage.enter(&format!("p{number}"), "red")).collect();
    stage.handle.stop(Duration::from_secs(5));
    for person in &mut people {
        stage.wait_for(person, "* the server is shutting down");
        let (simulation, heard) = (&mut stage.simulation, &mut *person);
        assert!(simulation.run_until(LIMIT, || {
            heard.listen();
            heard.has_ended
        }));
    }
    assert_eq!(stage.handle.stats().closed_for(CloseReason::Shutdown), 9);
    stage.stop(people);
}

#[test]
fn who_does_not_read_is_left_behind_and_delays_nobody() {
    let mut stage = Stage::new(4, |config| {
        config.slow_consumer = SlowConsumerPolicy::Disconnect;
        config.slow_consumer_grace_ms = 1000;
        (config.watermark_low_bytes, config.watermark_high_bytes) = (1024, 4096);
    });
    let (mut ann, mut slow) = (stage.enter("ann", "red"), stage.enter("slow", "red"));
    slow.peer.set_receive_buffer(4096).unwrap();
    slow.peer.set_peer_send_buffer(4096).unwrap();
    let text = "x".repeat(500);
    let (mut lines, mut number) = (Vec::new(), 0);
    while !lines.contains(&"* slow has left red".to_owned()) {
        assert!(number < 10_000, "the one that does not read stays for ever");
        ann.write(&format!("{number} {text}\n"));
        lines.extend(stage.wait_for(&mut ann, &format!("ann: {number} {text}")));
        number += 1;
    }
    assert!(number > 10, "left behind before much had been written");
    assert_eq!(stage.handle.stats().closed_for(CloseReason::SlowConsumer), 1);
    stage.stop(vec![ann, slow]);
}
