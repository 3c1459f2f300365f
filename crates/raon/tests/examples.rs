//! The examples do what they say.

#[path = "../examples/chat.rs"]
mod chat;

use std::time::Duration;

use raon::{SimPeer, Simulation};

/// Somebody who chats.
struct Guest {
    peer: SimPeer,
    heard: String,
}

impl Guest {
    fn new(simulation: &mut Simulation) -> Self {
        let mut guest = Guest { peer: simulation.connect(), heard: String::new() };
        guest.listen(simulation);
        guest
    }

    fn say(&mut self, simulation: &mut Simulation, line: &str) {
        self.peer.write(format!("{line}\n").as_bytes()).unwrap();
        simulation.run_for(Duration::from_millis(20));
    }

    /// What has been said since the last time.
    fn listen(&mut self, simulation: &mut Simulation) -> String {
        simulation.run_for(Duration::from_millis(20));
        let mut bytes = [0; 4096];
        while let Ok(Some(length @ 1..)) = self.peer.read(&mut bytes) {
            self.heard.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
        }
        std::mem::take(&mut self.heard)
    }
}

#[test]
fn people_chat_in_rooms() {
    let mut simulation = Simulation::new(3);
    let mut server = chat::server();
    server.configure(|config| config.workers = 3);
    let handle = simulation.serve(server).unwrap();
    let mut guests: Vec<Guest> = (0..4).map(|_| Guest::new(&mut simulation)).collect();
    for (guest, name) in guests.iter_mut().zip(["ada", "bob", "cleo", "dan"]) {
        guest.say(&mut simulation, &format!("/name {name}"));
    }
    guests[0].say(&mut simulation, "hello, all");
    assert_eq!(guests[0].listen(&mut simulation), "");
    (1..4).for_each(|guest| assert_eq!(guests[guest].listen(&mut simulation), "ada: hello, all\n"));
    guests[1].say(&mut simulation, "/join den");
    guests[2].say(&mut simulation, "/join den");
    assert_eq!(guests[0].listen(&mut simulation), "* bob has gone to den\n* cleo has gone to den\n");
    assert_eq!(guests[1].listen(&mut simulation), "* cleo is here\n");
    guests[2].say(&mut simulation, "only here");
    assert_eq!(guests[1].listen(&mut simulation), "cleo: only here\n");
    assert_eq!(guests[3].listen(&mut simulation), "* bob has gone to den\n* cleo has gone to den\n");
    guests[2].say(&mut simulation, "/quit");
    let left = guests[1].listen(&mut simulation);
    assert_eq!(left, "* cleo has left: the application closed the session (code 0)\n");
    guests[0].say(&mut simulation, "/dance");
    assert_eq!(guests[0].listen(&mut simulation), "/name NAME, /join ROOM or /quit\n");
    handle.stop(Duration::from_secs(1));
    assert!(guests[3].listen(&mut simulation).starts_with("* The server closes. Goodbye!\n"));
    drop(guests);
    assert!(simulation.run_to_end(Duration::from_secs(5)).unwrap());
}
