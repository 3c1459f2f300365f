//! Limits: who is not let in, who is sent away, and with which reason.

mod common;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use common::frames::{Frames, packet};
use raon::{
    Application, CloseReason, Context, Message, Packet, PacketHead, Profile, RateLimit, Server, ServerConfig,
    ServerHandle, SimPeer, Simulation,
};

const LIMIT: Duration = Duration::from_secs(60);

/// Echoes; id 7 ends the handshake; says 50 at a heartbeat.
struct Door;

impl Application for Door {
    type Framing = Packet;
    type Session = ();
    type Post = ();

    fn on_open(&mut self, _ctx: &mut Context<'_, Self>) {}

    fn on_message(&mut self, ctx: &mut Context<'_, Self>, _session: &mut (), message: Message<'_, PacketHead>) {
        if message.head().id == 7 {
            ctx.establish();
        }
        ctx.reply(message.head(), &message);
    }

    fn on_heartbeat(&mut self, ctx: &mut Context<'_, Self>, _session: &mut ()) {
        ctx.reply(PacketHead { id: 50 }, b"?");
    }
}

fn serve(change: impl FnOnce(&mut ServerConfig)) -> (Simulation, ServerHandle<Door>) {
    let mut simulation = Simulation::new(1);
    let server = Server::builder().configure(change).application(Packet::new(), |_| Door);
    let handle = simulation.serve(server).unwrap();
    (simulation, handle)
}

/// A client that is in, or has been sent away.
fn connect(simulation: &mut Simulation) -> SimPeer {
    let client = simulation.connect();
    simulation.run_for(Duration::from_millis(5));
    client
}

/// How the connection ended: in order or not; `None`: it has not.
fn end_of(simulation: &mut Simulation, client: &mut SimPeer) -> Option<bool> {
    let mut frames = Frames::default();
    simulation.run_until(Duration::from_millis(200), || {
        frames.read(client, 65_536);
        frames.end.is_some()
    });
    frames.end
}

#[test]
fn beyond_the_most_sessions_connections_are_closed_until_one_ends() {
    let (mut simulation, handle) = serve(|config| {
        config.sessions_max = 2;
        config.workers = 2;
    });
    let (first, _second) = (connect(&mut simulation), connect(&mut simulation));
    let mut third = connect(&mut simulation);
    assert_eq!(end_of(&mut simulation, &mut third), Some(true));
    assert_eq!((handle.sessions(), handle.stats().closed_for(CloseReason::ServerFull)), (2, 1));
    drop(first);
    simulation.run_for(Duration::from_secs(1));
    let mut fourth = connect(&mut simulation);
    assert_eq!((end_of(&mut simulation, &mut fourth), handle.sessions()), (None, 2));
    let per_shard: Vec<u64> = handle.shard_stats().iter().map(|stats| stats.sessions).collect();
    assert_eq!(per_shard, [1, 1], "the least loaded shard gets the next one");
}

#[test]
fn one_address_gets_no_more_than_its_share() {
    let (mut simulation, handle) = serve(|config| config.sessions_per_address_max = 2);
    let address = handle.address().unwrap().clone();
    let network = simulation.network().clone();
    let host = |last: u8| Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)));
    let mut clients: Vec<SimPeer> =
        [1, 1, 1, 2].map(|last| network.connect_from(host(last), &address)).into_iter().collect();
    simulation.run_for(Duration::from_millis(10));
    let ends: Vec<_> = clients.iter_mut().map(|client| end_of(&mut simulation, client)).collect();
    assert_eq!(ends, [None, None, Some(true), None]);
    assert_eq!(handle.stats().closed_for(CloseReason::AddressLimit), 1);
    clients.truncate(1);
    simulation.run_for(Duration::from_secs(1));
    let mut again = network.connect_from(host(1), &address);
    assert_eq!((end_of(&mut simulation, &mut again), handle.sessions()), (None, 2));
}

#[test]
fn one_network_of_ipv6_gets_no_more_than_its_share() {
    // Default and another; the last of each is the one of another network.
    for (bits, hosts) in [
        (64, ["2001:db8:1:2::1", "2001:db8:1:2::2", "2001:db8:1:2:ffff::", "2001:db8:1:3::1"]),
        (128, ["2001:db8:1:2::1", "2001:db8:1:2::1", "2001:db8:1:2::1", "2001:db8:1:2::2"]),
    ] {
        let (mut simulation, handle) = serve(|config| {
            config.listen = "[::]:9000".into();
            config.sessions_per_address_max = 2;
            assert_eq!(config.address_prefix_v6_bits, 64);
            config.address_prefix_v6_bits = bits;
        });
        let network = simulation.network().clone();
        let connect = |host: &str, address: &str| {
            network.connect_from(Some(host.parse().unwrap()), address.parse::<SocketAddr>().unwrap())
        };
        let mut clients = hosts.map(|host| connect(host, "[2001:db8::9]:9000"));
        simulation.run_for(Duration::from_millis(10));
        let ends = clients.each_mut().map(|client| end_of(&mut simulation, client));
        assert_eq!(ends, [None, None, Some(true), None], "{bits} bits");
        // IPv4 peers of the same listener count whole.
        let mut clients = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|host| connect(host, "10.0.0.9:9000"));
        simulation.run_for(Duration::from_millis(10));
        assert_eq!(clients.each_mut().map(|client| end_of(&mut simulation, client)), [None; 3]);
        assert_eq!(handle.stats().closed_for(CloseReason::AddressLimit), 1);
    }
}

#[test]
fn who_says_nothing_in_time_is_sent_away() {
    let (mut simulation, handle) = serve(|_| {});
    let (mut silent, mut talker) = (connect(&mut simulation), connect(&mut simulation));
    talker.write(&packet(1, b"hello")).unwrap();
    simulation.run_for(Duration::from_millis(9_900));
    assert_eq!(handle.sessions(), 2);
    simulation.run_for(Duration::from_millis(300));
    assert_eq!(end_of(&mut simulation, &mut silent), Some(true));
    drop(silent);
    simulation.run_for(Duration::from_millis(10));
    assert_eq!((handle.sessions(), handle.stats().closed_for(CloseReason::HandshakeTimeout)), (1, 1));
}

#[test]
fn an_explicit_handshake_is_ended_by_the_application_only() {
    let (mut simulation, handle) = serve(|config| config.handshake_ends_with_message = false);
    let (mut talker, mut guest) = (connect(&mut simulation), connect(&mut simulation));
    talker.write(&packet(1, b"hello")).unwrap();
    guest.write(&packet(7, b"hello")).unwrap();
    simulation.run_for(Duration::from_secs(60));
    assert_eq!((handle.sessions(), handle.stats().closed_for(CloseReason::HandshakeTimeout)), (1, 1));
    guest.write(&packet(1, b"still there?")).unwrap();
    let mut frames = Frames::default();
    assert!(simulation.run_until(LIMIT, || frames.read(&mut guest, 1000) == 2));
}

#[test]
fn a_silent_one_is_asked_and_one_that_does_not_answer_is_reset() {
    let (mut simulation, handle) = serve(|config| {
        config.heartbeat_every_ms = 1000;
        config.heartbeat_answer_ms = 500;
    });
    let (mut deaf, mut alive) = (connect(&mut simulation), connect(&mut simulation));
    let mut frames = Frames::default();
    deaf.write(&packet(1, b"hello")).unwrap();
    alive.write(&packet(1, b"hello")).unwrap();
    let mut answered = 0;
    simulation.run_until(Duration::from_secs(10), || {
        frames.read(&mut alive, 1000);
        for (id, _) in frames.take() {
            if id == 50 {
                answered += 1;
                alive.write(&packet(2, b"yes")).unwrap();
            }
        }
        false
    });
    assert!((8..=10).contains(&answered), "{answered}");
    assert_eq!((handle.sessions(), handle.stats().closed_for(CloseReason::HeartbeatTimeout)), (1, 1));
}

#[test]
fn an_idle_session_is_closed_in_order() {
    let (mut simulation, handle) = serve(|config| config.idle_timeout_ms = 2000);
    let mut client = connect(&mut simulation);
    for _ in 0..5 {
        client.write(&packet(1, b"hello")).unwrap();
        simulation.run_for(Duration::from_millis(1500));
        assert_eq!(handle.sessions(), 1);
    }
    simulation.run_for(Duration::from_millis(700));
    assert_eq!(end_of(&mut simulation, &mut client), Some(true));
    assert_eq!(handle.stats().closed_for(CloseReason::IdleTimeout), 1);
}

#[test]
fn too_many_messages_end_the_session_and_those_before_are_answered() {
    let (mut simulation, handle) = serve(|config| {
        config.messages_per_second_max = 10;
        config.messages_burst = 20;
    });
    let mut client = connect(&mut simulation);
    client.write(&packet(1, b"x").repeat(30)).unwrap();
    let mut frames = Frames::default();
    assert!(simulation.run_until(LIMIT, || {
        frames.read(&mut client, 1000);
        frames.end.is_some()
    }));
    let stats = handle.stats();
    assert_eq!((frames.count(), frames.end, stats.messages_received), (20, Some(true), 20), "{stats}");
    assert_eq!(stats.closed_for(CloseReason::RateLimit(RateLimit::Messages)), 1);
    // The one that was too much was taken out of the buffer and not delivered; those behind it are left there.
    assert_eq!(stats.bytes_discarded, 9 * 5, "{stats}");
}

#[test]
fn a_bad_frame_ends_its_session_with_a_reason_and_no_other() {
    let (mut simulation, handle) = serve(|_| {});
    let mut good = connect(&mut simulation);
    for (bytes, reason) in
        [(&[3u8, 0, 1, 0][..], CloseReason::FrameMalformed), (&[0xff, 0xff, 1, 0], CloseReason::FrameTooLong)]
    {
        let mut bad = connect(&mut simulation);
        // What came before is answered.
        bad.write(&[packet(1, b"first"), bytes.to_vec()].concat()).unwrap();
        let mut frames = Frames::default();
        assert!(simulation.run_until(LIMIT, || {
            frames.read(&mut bad, 1000);
            frames.end.is_some()
        }));
        assert_eq!((frames.end, frames.take()), (Some(true), vec![(1, b"first".to_vec())]));
        assert_eq!(handle.stats().closed_for(reason), 1);
    }
    good.write(&packet(1, b"fine")).unwrap();
    let mut frames = Frames::default();
    assert!(simulation.run_until(LIMIT, || frames.read(&mut good, 1000) == 1));
}

#[test]
fn a_peer_that_has_ended_its_side_is_still_told_if_that_is_wanted() {
    for keeps in [false, true] {
        let (mut simulation, handle) = serve(|config| config.keep_half_closed = keeps);
        let mut client = connect(&mut simulation);
        client.write(&packet(1, b"last words")).unwrap();
        client.shut_write().unwrap();
        simulation.run_for(Duration::from_secs(30));
        let id = raon::SessionId::from_bits(1);
        assert_eq!((id.shard(), handle.stats().sessions), (0, u64::from(keeps)));
        handle.send(id, PacketHead { id: 2 }, b"news").unwrap();
        handle.close(id, 3).unwrap();
        let mut frames = Frames::default();
        assert!(simulation.run_until(LIMIT, || {
            frames.read(&mut client, 1000);
            frames.end.is_some()
        }));
        let told = if keeps {
            vec![(1, b"last words".to_vec()), (2, b"news".to_vec())]
        } else {
            vec![(1, b"last words".to_vec())]
        };
        assert_eq!((frames.end, frames.take()), (Some(true), told), "keeps: {keeps}");
        let reason = if keeps { CloseReason::Application(3) } else { CloseReason::PeerClosed };
        assert_eq!(handle.stats().closed_for(reason), 1);
    }
}

#[test]
fn ends_of_the_peer_are_told_apart() {
    let (mut simulation, handle) = serve(|_| {});
    let (leaver, breaker) = (connect(&mut simulation), connect(&mut simulation));
    drop(leaver);
    breaker.reset();
    simulation.run_for(Duration::from_secs(1));
    let stats = handle.stats();
    let ends = [CloseReason::PeerClosed, CloseReason::PeerReset].map(|reason| stats.closed_for(reason));
    assert_eq!((ends, handle.sessions()), ([1, 1], 0), "{stats}");
}

/// 15,000 connections from one address, of which each says one thing and then nothing.
#[test]
fn of_a_public_server_one_address_does_not_hold_all_places() {
    let (mut simulation, handle) = serve(|config| {
        *config = ServerConfig::of(Profile::Public);
        config.sessions_max = 15_000;
    });
    let address = handle.address().unwrap().clone();
    let network = simulation.network().clone();
    let host = |last: u8| Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)));
    let mut idle = Vec::new();
    for _ in 0..150 {
        idle.extend((0..100).map(|_| network.connect_from(host(1), &address)));
        simulation.run_for(Duration::from_millis(5));
    }
    for client in &mut idle {
        // Refused by those that were sent away.
        let _ = client.write(&packet(1, b"hello"));
    }
    simulation.run_for(Duration::from_secs(1));
    let stats = handle.stats();
    assert_eq!((handle.sessions(), stats.closed_for(CloseReason::AddressLimit)), (64, 15_000 - 64), "{stats}");
    let mut other = network.connect_from(host(2), &address);
    assert_eq!((end_of(&mut simulation, &mut other), handle.sessions()), (None, 65));
    other.write(&packet(1, b"hello")).unwrap();
    // Those that do not close their side as well are given the time of a close.
    simulation.run_for(Duration::from_secs(130));
    let stats = handle.stats();
    assert_eq!((handle.sessions(), stats.closed_for(CloseReason::IdleTimeout)), (0, 65), "places come back: {stats}");
}

#[test]
fn a_public_server_bears_players_and_not_floods() {
    let (mut simulation, handle) = serve(|config| *config = ServerConfig::of(Profile::Public));
    let mut player = connect(&mut simulation);
    let mut frames = Frames::default();
    for _ in 0..600 {
        // Two inputs per frame.
        player.write(&packet(1, &[1; 100]).repeat(2)).unwrap();
        simulation.run_for(Duration::from_micros(16_667));
        frames.read(&mut player, 65_536);
    }
    assert!(simulation.run_until(LIMIT, || frames.read(&mut player, 65_536) == 1200));
    let mut flooder = connect(&mut simulation);
    for _ in 0..20 {
        let _ = flooder.write(&packet(1, b"x").repeat(100));
        simulation.run_for(Duration::from_millis(10));
    }
    let stats = handle.stats();
    assert_eq!((stats.sessions, stats.closed_for(CloseReason::RateLimit(RateLimit::Messages))), (1, 1), "{stats}");
}
