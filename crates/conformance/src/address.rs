//! Addresses: one form for every peer, scopes that answers need, and destinations that nobody has.

//= ADDR-1

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use raon_provider::{Address, BindOptions, ConnectOptions, ErrorKind, ListenOptions, Outcome, SocketId};

use crate::platform;
use crate::rig::{ANY, Rig, refusal};
use crate::setup::Setup;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ANY_V6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// The same address in IPv6 form.
fn mapped(address: SocketAddr) -> SocketAddr {
    let SocketAddr::V4(v4) = address else { panic!("{address} is one of IPv4") };
    (v4.ip().to_ipv6_mapped(), v4.port()).into()
}

fn port_of(rig: &Rig, socket: SocketId) -> u16 {
    rig.driver.local_address(socket).unwrap().ip().unwrap().port()
}

pub fn ipv4_peers_of_a_dual_stack_listener_are_ipv4(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let listener = rig.driver.listen((ANY_V6, 0), &ListenOptions::default()).unwrap();
    let server = SocketAddr::new(V4, port_of(&rig, listener));
    rig.accept(listener, 1);
    // Whichever form the server's address is given in.
    for address in [server, mapped(server)] {
        rig.connect(address, 2);
        let connected = rig.wait(2).socket;
        assert_eq!(rig.driver.peer_address(connected).unwrap(), server);
        let client = rig.driver.local_address(connected).unwrap();
        assert!(client.ip().is_some_and(|ip| ip.ip() == V4), "{client}");
        let Outcome::Accepted(socket) = rig.wait(1).outcome else { panic!("a connection was due") };
        assert_eq!((socket.peer_address().unwrap(), socket.local_address().unwrap()), (client.clone(), server.into()));
        let accepted = rig.adopt(socket);
        assert_eq!(rig.driver.peer_address(accepted).unwrap(), client);
        assert_eq!(rig.driver.local_address(accepted).unwrap(), server);
    }
}

pub fn datagram_sockets_of_both_families_reach_ipv4(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (v4, v4_address) = rig.bind(&BindOptions::default());
    let any = rig.driver.bind((ANY_V6, 0), &BindOptions::default()).unwrap();
    let any_address = SocketAddr::new(V4, port_of(&rig, any));
    rig.receive(v4, 1);
    rig.receive(any, 2);
    for (at, to) in [any_address, mapped(any_address)].into_iter().enumerate() {
        rig.send_to(v4, to, vec![at as u8], ANY);
        assert_eq!(rig.wait_datagram(2), (vec![at as u8], v4_address));
    }
    rig.send_to(v4, any_address, vec![0; 5000], ANY);
    assert!(matches!(rig.wait(2).outcome, Outcome::Truncated { from } if from == v4_address));
    for (at, to) in [v4_address, mapped(v4_address)].into_iter().enumerate() {
        rig.send_to(any, to, vec![at as u8], ANY);
        assert_eq!(rig.wait_datagram(1), (vec![at as u8], any_address));
    }
    // A socket with a peer, and one that was bound in the other form.
    for (at, peer) in [v4_address, mapped(v4_address)].into_iter().enumerate() {
        let options = BindOptions::default().with(|options| options.peer = Some(peer));
        let local = if at == 0 { ANY_V6 } else { mapped(SocketAddr::new(V4, 0)).ip() };
        let near = rig.driver.bind((local, 0), &options).unwrap();
        assert_eq!(rig.driver.peer_address(near).unwrap(), v4_address);
        let near_address = SocketAddr::new(V4, port_of(&rig, near));
        rig.send(near, vec![at as u8; 3], ANY);
        assert_eq!(rig.wait_datagram(1), (vec![at as u8; 3], near_address));
    }
}

pub fn destinations_that_nobody_has_fail_alone(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (near, near_address) = rig.bind(&BindOptions::default());
    let (far, far_address) = rig.bind(&BindOptions::default());
    rig.receive(far, 1);
    let v6 = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 9);
    for bad in [SocketAddr::new(V4, 0), mapped(SocketAddr::new(V4, 0)), v6] {
        for to in [bad, far_address, bad, bad, far_address] {
            rig.send_to(near, to, vec![7; 100], if to == bad { 2 } else { 3 });
        }
        for _ in 0..3 {
            let (kind, payload, transferred) = rig.wait_failure(2);
            assert_eq!(
                (kind, payload.map(|payload| payload.len()), transferred),
                (ErrorKind::InvalidInput, Some(100), 0)
            );
        }
        for _ in 0..2 {
            assert!(matches!(rig.wait(3).outcome, Outcome::Sent(_)));
            assert_eq!(rig.wait_datagram(1), (vec![7; 100], near_address));
        }
    }
    for peer in [SocketAddr::new(V4, 0), v6] {
        let options = BindOptions::default().with(|options| options.peer = Some(peer));
        assert_eq!(refusal(rig.driver.bind((V4, 0), &options)), ErrorKind::InvalidInput);
    }
    let plain = ConnectOptions::default();
    assert_eq!(refusal(rig.driver.connect((V4, 0), &plain, 4)), ErrorKind::InvalidInput);
    let other = plain.with(|options| options.bind = Some((Ipv6Addr::LOCALHOST, 0).into()));
    assert_eq!(refusal(rig.driver.connect((V4, 9), &other, 4)), ErrorKind::InvalidInput);
    rig.assert_nothing_seen();
}

/// A link-local address of this host, with its scope; in a simulated network every one exists.
fn link_local(setup: &Setup) -> Option<SocketAddrV6> {
    let simulated = "[fe80::1%3]:0".parse().unwrap();
    if setup.is_simulated() { Some(simulated) } else { platform::link_local() }
}

pub fn link_local_peers_keep_their_scope(setup: &Setup) {
    let Some(host) = link_local(setup) else {
        return println!("not tested: no interface of this host has a link-local address");
    };
    let mut rig = Rig::new(setup);
    // Nothing but the sender's scope says where an answer from the unspecified address goes.
    for coalesce in [false, true] {
        let options = BindOptions::default().with(|options| options.coalesce = coalesce);
        let server = rig.driver.bind((ANY_V6, 0), &options).unwrap();
        let client = rig.driver.bind(SocketAddr::from(host), &BindOptions::default()).unwrap();
        let client_address = rig.driver.local_address(client).unwrap().ip().unwrap();
        let to = SocketAddrV6::new(*host.ip(), port_of(&rig, server), 0, host.scope_id()).into();
        rig.receive(server, 1);
        rig.receive(client, 2);
        for question in [vec![1; 10], vec![2; 10]] {
            rig.send_to(client, to, question.clone(), ANY);
            let (bytes, from) = rig.wait_datagram(1);
            assert_eq!((bytes, from), (question.clone(), client_address));
            rig.send_to(server, from, question.clone(), ANY);
            assert_eq!(rig.wait_datagram(2), (question, to));
        }
        let large = vec![0; if coalesce { 65_000 } else { 5000 }];
        let is_too_long = !coalesce;
        rig.send_to(client, to, large, ANY);
        match rig.wait(1).outcome {
            Outcome::Truncated { from } | Outcome::Datagram { from, .. } => assert_eq!(from, client_address),
            other => panic!("too long: {is_too_long}: {other:?}"),
        }
    }
    let listener = rig.driver.listen(SocketAddr::from(host), &ListenOptions::default()).unwrap();
    let address = rig.driver.local_address(listener).unwrap();
    let text: Address = address.to_string().parse().unwrap();
    assert_eq!(text, address, "its text reads back");
    rig.accept(listener, 3);
    rig.connect(text, 4);
    let connected = rig.wait(4).socket;
    assert_eq!(rig.driver.peer_address(connected).unwrap(), address);
    let Outcome::Accepted(socket) = rig.wait(3).outcome else { panic!("a connection was due") };
    assert_eq!(socket.peer_address().unwrap(), rig.driver.local_address(connected).unwrap());
    let scope = |address: Address| match address.ip() {
        Some(SocketAddr::V6(v6)) => v6.scope_id(),
        _ => 0,
    };
    assert_eq!(scope(socket.peer_address().unwrap()), host.scope_id());
}
