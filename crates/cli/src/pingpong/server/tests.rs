//! The protocol in a simulated network.

use std::time::Duration;

use raon::{Server, ServerHandle, SimPeer, Simulation};

use super::super::{Body, CONNECT_ANSWER, PING_ANSWER, packet};
use super::*;

const LIMIT: Duration = Duration::from_secs(5);

/// A server of two shards for two clients of the versions 3 to 5.
struct Stage {
    simulation: Simulation,
    handle: ServerHandle<Pingpong>,
    rules: Arc<Rules>,
}

impl Stage {
    fn new() -> Self {
        let rules = Arc::new(Rules::new(3..=5, 2));
        let own = rules.clone();
        let server = Server::builder().workers(2);
        let server = server.application(Packet::new(), move |_shard| Pingpong::new(own.clone()));
        let mut simulation = Simulation::new(11);
        let handle = simulation.serve(server).unwrap();
        Stage { simulation, handle, rules }
    }

    fn connect(&mut self) -> SimPeer {
        let peer = self.simulation.connect();
        assert!(self.simulation.run_until(LIMIT, || peer.is_connected()));
        peer
    }

    /// Sends some bytes, and reads until `length` have come or the stream ends.
    fn ask(&mut self, peer: &mut SimPeer, bytes: &[u8], length: usize) -> Vec<u8> {
        assert_eq!(peer.write(bytes).unwrap(), bytes.len());
        self.read(peer, length)
    }

    fn read(&mut self, peer: &mut SimPeer, length: usize) -> Vec<u8> {
        let (mut all, mut piece, mut has_ended) = (Vec::new(), [0; 256], false);
        let is_done = self.simulation.run_until(LIMIT, || {
            if let Ok(Some(count)) = peer.read(&mut piece) {
                all.extend_from_slice(&piece[..count]);
                has_ended |= count == 0;
            }
            has_ended || all.len() >= length
        });
        assert!(is_done, "{} of {length} bytes", all.len());
        all
    }

    /// Connects with a version. The result, and the id.
    fn greet(&mut self, peer: &mut SimPeer, client_version: u32) -> (u8, u64) {
        let answer = self.ask(peer, &packet(&ConnectRequest { client_version }), 17);
        assert_eq!(answer[..4], [17, 0, CONNECT_ANSWER as u8, 0]);
        let answer = ConnectAnswer::parse(&answer[4..]).unwrap();
        assert!(answer.server_time_s > 1_700_000_000, "{answer:?}");
        (answer.result, answer.session_id)
    }

    fn ends(&self, name: &str) -> u64 {
        self.rules.ends().find(|(known, _)| *known == name).unwrap().1
    }
}

#[test]
fn pings_come_back_with_their_time_and_number() {
    let mut stage = Stage::new();
    let mut peer = stage.connect();
    let (result, id) = stage.greet(&mut peer, 4);
    assert!(result == OK && id != 0);
    for sequence in 0..5 {
        let answer = stage.ask(&mut peer, &packet(&PingRequest { client_time_ms: 77, sequence }), 24);
        assert_eq!(answer[..4], [24, 0, PING_ANSWER as u8, 0]);
        let answer = PingAnswer::parse(&answer[4..]).unwrap();
        assert_eq!((answer.client_time_ms, answer.sequence), (77, sequence));
        assert!(answer.server_time_ms > 1_700_000_000_000, "{answer:?}");
    }
}

#[test]
fn who_may_not_connect_is_told_and_closed() {
    let mut stage = Stage::new();
    for version in [2, 6] {
        let mut peer = stage.connect();
        assert_eq!(stage.greet(&mut peer, version).0, WRONG_VERSION);
        assert!(stage.read(&mut peer, 1).is_empty(), "the stream ends");
    }
    let mut clients: Vec<SimPeer> = (0..3).map(|_| stage.connect()).collect();
    assert_eq!((stage.greet(&mut clients[0], 3).0, stage.greet(&mut clients[1], 5).0), (OK, OK));
    assert_eq!(stage.greet(&mut clients[2], 3).0, FULL);
    assert!(stage.read(&mut clients[2], 1).is_empty());
    // A place that becomes free can be had again.
    drop(clients.remove(0));
    let handle = stage.handle.clone();
    assert!(stage.simulation.run_until(LIMIT, || handle.sessions() < 2));
    let mut late = stage.connect();
    assert_eq!(stage.greet(&mut late, 3).0, OK);
    assert_eq!((stage.ends("wrong_version"), stage.ends("full"), stage.rules.connected()), (2, 1, 3));
}

#[test]
fn whatever_is_no_part_of_the_protocol_ends_that_session_alone() {
    let mut stage = Stage::new();
    let mut honest = stage.connect();
    assert_eq!(stage.greet(&mut honest, 3).0, OK);
    let ping = PingRequest { client_time_ms: 1, sequence: 1 };
    let hello = packet(&ConnectRequest { client_version: 3 });
    let cases: [(&[u8], &str); 5] = [
        (&packet(&ping), "not_connected"),
        (&[4, 0, 9, 0], "unknown_message"),
        (&[5, 0, 1, 0, 3], "wrong_size"),
        (&[&hello[..], &[6, 0, 3, 0, 1, 1]].concat(), "wrong_size"),
        (&[&hello[..], &hello].concat(), "connected_twice"),
    ];
    for (bytes, reason) in cases {
        let before = stage.ends(reason);
        let mut peer = stage.connect();
        // What was answered before it, then the end.
        let answers = stage.ask(&mut peer, bytes, usize::MAX);
        assert!(matches!(answers.len(), 0 | 17), "{reason}: {answers:?}");
        assert_eq!(stage.ends(reason), before + 1, "{reason}");
    }
    let mut peer = stage.connect();
    assert!(stage.ask(&mut peer, &[3, 0, 1, 0], usize::MAX).is_empty());
    assert_eq!(stage.handle.stats().closed_for(CloseReason::FrameMalformed), 1);
    assert_eq!(stage.ask(&mut honest, &packet(&ping), 24).len(), 24, "the others go on");
}
