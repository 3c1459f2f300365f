//! Datagrams: whole and alone, several under way, errors that end nothing.

//= DGRAM-1

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use raon_provider::{BindOptions, Completions, ErrorKind, Operation, Outcome, Payload, ReceiveBuffer};

use crate::allocator::allocations;
use crate::rig::{ANY, Rig, refusal};
use crate::setup::Setup;

/// The longest datagram that an ordinary buffer takes on every back end, with the default pool.
const ORDINARY_MAX: usize = 4096 - 128;
const TINY: Duration = Duration::from_millis(1);

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + length) as u8).collect()
}

fn with_peer(peer: SocketAddr) -> BindOptions {
    BindOptions::default().with(|options| options.peer = Some(peer))
}

pub fn each_datagram_comes_whole_and_alone(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (near, near_address) = rig.bind(&BindOptions::default());
    let (far, far_address) = rig.bind(&BindOptions::default());
    rig.receive(far, 1);
    let lengths = [1, 0, 64, 1472, 0, 1200, ORDINARY_MAX];
    for length in lengths {
        rig.send_to(near, far_address, pattern(length), 2);
        assert_eq!(rig.wait_datagram(1), (pattern(length), near_address));
        let Outcome::Sent(payload) = rig.wait(2).outcome else { panic!("it was sent") };
        assert_eq!(payload.to_vec(), pattern(length));
    }
    let gathered = vec![Payload::Vec(pattern(100)), Payload::from(b"raon".as_slice()), Payload::Vec(Vec::new())];
    rig.send_to(near, far_address, gathered, 2);
    assert_eq!(rig.wait_datagram(1).0, [&pattern(100)[..], b"raon"].concat());
    rig.wait(2);
    // The other way: the answer goes where it came from, in the buffer it came in.
    rig.receive(near, 3);
    let buffer = {
        rig.send_to(near, far_address, pattern(33), ANY);
        let Outcome::Datagram { bytes, from } = rig.wait(1).outcome else { panic!("a datagram was due") };
        assert_eq!(from, near_address);
        bytes
    };
    rig.send_to(far, near_address, buffer, ANY);
    assert_eq!(rig.wait_datagram(3), (pattern(33), far_address));
    rig.settle();
    for _ in 0..2 {
        rig.wait(ANY);
    }
    rig.assert_nothing_seen();
}

/// Datagrams of several senders that are waiting together are taken together, and each has its own sender.
pub fn each_of_a_crowd_is_told_apart(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (far, address) = rig.bind(&BindOptions::default());
    let senders: Vec<_> = (0..40).map(|_| rig.bind(&BindOptions::default())).collect();
    for (at, (sender, _)) in senders.iter().enumerate() {
        rig.send_to(*sender, address, vec![at as u8; 1 + at], 2);
    }
    for _ in &senders {
        assert!(matches!(rig.wait(2).outcome, Outcome::Sent(_)));
    }
    rig.settle();
    rig.receive(far, 1);
    let mut came: Vec<_> = senders.iter().map(|_| rig.wait_datagram(1)).collect();
    came.sort_unstable();
    for (at, (datagram, (_, sender))) in came.into_iter().zip(&senders).enumerate() {
        assert_eq!(datagram, (vec![at as u8; 1 + at], *sender));
    }
}

pub fn hundreds_under_way_all_complete(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (near, _) = rig.bind(&BindOptions::default());
    let (far, address) = rig.bind(&BindOptions::default());
    rig.receive(far, 1);
    for round in 0..20u16 {
        for at in 0..100 {
            let quiet = at % 2 == 0;
            let payload = Payload::Vec((round * 100 + at).to_be_bytes().to_vec());
            rig.submit(Operation::SendTo { socket: near, to: address, payload, quiet }, 2);
        }
        let mut came: Vec<_> =
            (0..100).map(|_| u16::from_be_bytes(rig.wait_datagram(1).0[..].try_into().unwrap())).collect();
        came.sort_unstable();
        assert!(came.into_iter().eq(round * 100..round * 100 + 100), "each once, in whatever order");
        for _ in 0..50 {
            assert!(matches!(rig.wait(2).outcome, Outcome::Sent(_)));
        }
    }
    rig.assert_nothing_seen();
}

pub fn what_is_too_long_is_truncated_and_the_next_one_whole(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (near, near_address) = rig.bind(&BindOptions::default());
    let (far, address) = rig.bind(&BindOptions::default());
    rig.receive(far, 1);
    for length in [ORDINARY_MAX, ORDINARY_MAX + 1, 4096, 5000, 60_000, 7] {
        rig.send_to(near, address, pattern(length), ANY);
        let outcome = rig.wait(1).outcome;
        if length > ORDINARY_MAX {
            assert!(matches!(outcome, Outcome::Truncated { from } if from == near_address), "{length}: {outcome:?}");
        } else {
            let Outcome::Datagram { bytes, .. } = outcome else { panic!("{length} bytes fit: {outcome:?}") };
            assert_eq!(bytes[..], pattern(length)[..]);
        }
    }
}

pub fn large_datagrams_come_in_bulk_buffers(setup: &Setup) {
    let mut rig = Rig::with(setup, |config| config.pool.bulk_bytes = 65_536);
    let (near, _) = rig.bind(&BindOptions::default());
    let large = BindOptions::default().with(|options| options.datagram_bytes_max = 65_536 - 128);
    let (far, address) = rig.bind(&large);
    rig.receive(far, 1);
    for length in [65_536 - 128, 9000, 1, 0, 30_000] {
        rig.send_to(near, address, pattern(length), ANY);
        assert_eq!(rig.wait_datagram(1).0, pattern(length));
    }
    let too_large = BindOptions::default().with(|options| options.datagram_bytes_max = 65_536 - 127);
    assert_eq!(refusal(rig.driver.bind(([127, 0, 0, 1], 0), &too_large)), ErrorKind::InvalidInput);
}

pub fn a_socket_with_a_peer_hears_nobody_else(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (server, server_address) = rig.bind(&BindOptions::default());
    let (client, client_address) = rig.bind(&with_peer(server_address));
    let (stranger, _) = rig.bind(&BindOptions::default());
    assert_eq!(rig.driver.peer_address(client).unwrap(), server_address);
    assert_eq!(refusal(rig.driver.peer_address(server)), ErrorKind::NotConnected);
    rig.receive(client, 1);
    rig.receive(server, 2);
    rig.send(client, b"hello".as_slice(), ANY);
    assert_eq!(rig.wait_datagram(2), (b"hello".to_vec(), client_address));
    rig.send_to(stranger, client_address, b"boo".as_slice(), ANY);
    rig.send_to(server, client_address, b"welcome".as_slice(), ANY);
    assert_eq!(rig.wait_datagram(1), (b"welcome".to_vec(), server_address));
    assert_eq!(refusal(rig.try_send(server, b"whom?".as_slice(), ANY)), ErrorKind::NotConnected);
}

pub fn a_refused_peer_does_not_end_the_stream(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let vacant = rig.unbind();
    let address = vacant.ip();
    let (client, client_address) = rig.bind(&with_peer(address));
    rig.receive(client, 1);
    for _ in 0..3 {
        rig.send(client, b"anybody?".as_slice(), 2);
        let completion = rig.wait(1);
        let is_refused =
            matches!(completion.outcome, Outcome::Undelivered(error) if error.kind() == ErrorKind::ConnectionRefused);
        assert!(is_refused && completion.more, "{completion:?}");
        assert!(matches!(rig.wait(2).outcome, Outcome::Sent(_)));
    }
    // Whoever has kept the port is there from now on.
    let back = match vacant.into_socket() {
        Some(socket) => {
            socket.connect(&client_address.into()).unwrap();
            rig.adopt(socket)
        }
        None => rig.driver.bind(address, &with_peer(client_address)).unwrap(),
    };
    rig.send(back, b"here".as_slice(), ANY);
    assert_eq!(rig.wait_datagram(1), (b"here".to_vec(), address));
}

pub fn addresses_of_both_families(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let any = rig.driver.bind((IpAddr::from(Ipv6Addr::UNSPECIFIED), 0), &BindOptions::default()).unwrap();
    let port = rig.driver.local_address(any).unwrap().ip().unwrap().port();
    rig.receive(any, 1);
    let (v4, v4_address) = rig.bind(&BindOptions::default());
    let v6 = rig.driver.bind((IpAddr::from(Ipv6Addr::LOCALHOST), 0), &BindOptions::default()).unwrap();
    let v6_address = rig.driver.local_address(v6).unwrap().ip().unwrap();
    rig.send_to(v4, SocketAddr::from((Ipv4Addr::LOCALHOST, port)), b"four".as_slice(), ANY);
    assert_eq!(rig.wait_datagram(1), (b"four".to_vec(), v4_address), "as an IPv4 address, not a mapped one");
    rig.send_to(v6, SocketAddr::from((Ipv6Addr::LOCALHOST, port)), b"six".as_slice(), ANY);
    assert_eq!(rig.wait_datagram(1), (b"six".to_vec(), v6_address));
    // And back, from the one socket to both.
    rig.receive(v4, 2);
    rig.receive(v6, 3);
    rig.send_to(any, v4_address, b"4".as_slice(), ANY);
    rig.send_to(any, v6_address, b"6".as_slice(), ANY);
    assert_eq!(rig.wait_datagram(2).0, b"4");
    assert_eq!(rig.wait_datagram(3).0, b"6");
}

pub fn multicast_reaches_the_members(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let group = Ipv4Addr::new(239, 255, 77, 1);
    let shared = BindOptions::default().with(|options| options.reuse_address = true);
    let first = rig.driver.bind((IpAddr::from(group), 0), &shared).unwrap();
    let port = rig.driver.local_address(first).unwrap().ip().unwrap().port();
    let second = rig.driver.bind((IpAddr::from(group), port), &shared).unwrap();
    let loopback = 1;
    for (member, token) in [(first, 1), (second, 2)] {
        rig.driver.join_multicast(member, group.into(), loopback).unwrap();
        rig.receive(member, token);
    }
    let (sender, address) = rig.bind(&BindOptions::default());
    let to = SocketAddr::from((group, port));
    rig.send_to(sender, to, b"all".as_slice(), ANY);
    assert_eq!(rig.wait_datagram(1), (b"all".to_vec(), address));
    assert_eq!(rig.wait_datagram(2), (b"all".to_vec(), address));
    assert_eq!(refusal(rig.driver.join_multicast(first, address.ip(), loopback)), ErrorKind::InvalidInput);
    rig.driver.leave_multicast(first, group.into(), loopback).unwrap();
    rig.driver.leave_multicast(second, group.into(), loopback).unwrap();
}

pub fn a_paused_stream_of_datagrams_keeps_them(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (near, _) = rig.bind(&BindOptions::default());
    let (far, address) = rig.bind(&BindOptions::default());
    rig.receive(far, 1);
    for round in 0..20u8 {
        rig.send_to(near, address, vec![round; 10], 2);
        if round % 2 == 0 {
            assert_eq!(rig.wait_datagram(1).0, [round; 10]);
        }
        rig.driver.pause(far).unwrap();
        rig.send_to(near, address, vec![round + 100; 10], 2);
        rig.wait(2);
        rig.wait(2);
        rig.settle();
        rig.assert_nothing_seen_of(1);
        rig.driver.resume(far).unwrap();
        let mut kept: Vec<_> = (0..1 + round % 2).map(|_| rig.wait_datagram(1).0).collect();
        kept.sort_unstable();
        assert_eq!(kept[usize::from(round % 2)], [round + 100; 10]);
    }
}

pub fn a_cancelled_stream_of_datagrams_ends(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (near, _) = rig.bind(&BindOptions::default());
    let (far, address) = rig.bind(&BindOptions::default());
    for round in 0..50u8 {
        let stream = rig.receive(far, 1);
        rig.turns(usize::from(round % 3));
        rig.send_to(near, address, vec![round; 3], ANY);
        if round % 2 == 0 {
            assert_eq!(rig.wait_datagram(1).0, [round; 3]);
        }
        rig.cancel(stream);
        let mut completion = rig.wait(1);
        if let Outcome::Datagram { bytes, .. } = &completion.outcome {
            assert_eq!((round % 2, &bytes[..]), (1, &[round; 3][..]));
            completion = rig.wait(1);
        } else if round % 2 == 1 {
            // It is still with the system: the next stream gets it.
            let second = rig.receive(far, 3);
            assert_eq!(rig.wait_datagram(3).0, [round; 3]);
            rig.cancel(second);
            assert_eq!(rig.wait_failure(3).0, ErrorKind::Cancelled);
        }
        let is_cancelled =
            matches!(&completion.outcome, Outcome::Failed { error, .. } if error.kind() == ErrorKind::Cancelled);
        assert!(is_cancelled && !completion.more, "{completion:?}");
    }
}

pub fn what_is_under_way_ends_before_closed(setup: &Setup) {
    for deadline in [None, Some(Duration::from_secs(5))] {
        let mut rig = Rig::new(setup);
        let (near, _) = rig.bind(&BindOptions::default());
        let (far, address) = rig.bind(&BindOptions::default());
        rig.receive(near, 1);
        rig.turns(2);
        for _ in 0..100 {
            rig.send_to(near, address, pattern(100), 2);
        }
        match deadline {
            None => rig.abort(near, 9),
            Some(deadline) => rig.close(near, deadline, 9),
        }
        let mut ended = 0;
        loop {
            let completion = rig.next_completion();
            match completion.outcome {
                Outcome::Closed => break,
                Outcome::Sent(_) => ended += 1,
                Outcome::Failed { error, payload, .. } => {
                    assert_eq!(error.kind(), ErrorKind::Cancelled);
                    assert!(completion.token == 1 || deadline.is_none());
                    ended += usize::from(payload.is_some());
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(ended, 100);
        assert_eq!(refusal(rig.driver.send_to(near, address, pattern(1), 1)), ErrorKind::Stale);
        rig.abort(far, 8);
        rig.wait_closed(8);
    }
}

pub fn too_many_datagrams_are_busy(setup: &Setup) {
    let mut rig = Rig::with(setup, |config| config.send_queue_count_max = 10);
    let (near, _) = rig.bind(&BindOptions::default());
    let (far, address) = rig.bind(&BindOptions::default());
    rig.receive(far, 1);
    for _ in 0..10 {
        rig.send_to(near, address, pattern(10), 2);
    }
    let refused = rig.driver.send_to(near, address, pattern(11), 7).unwrap_err();
    assert_eq!((refused.error.kind(), refused.value.to_vec()), (ErrorKind::Busy, pattern(11)));
    assert!(matches!(rig.wait(7).outcome, Outcome::Writable));
    rig.send_to(near, address, pattern(12), 2);
    for _ in 0..11 {
        rig.wait(2);
        rig.wait_datagram(1);
    }
}

pub fn datagrams_wait_for_a_buffer(setup: &Setup) {
    let mut rig = Rig::with(setup, |config| {
        config.pool.receive_count = 4;
        config.pool.send_count = 0;
        config.pool.bulk_count = 2;
    });
    let (near, _) = rig.bind(&BindOptions::default());
    let large = BindOptions::default().with(|options| options.datagram_bytes_max = 60_000);
    for options in [BindOptions::default(), large] {
        let (far, address) = rig.bind(&options);
        rig.receive(far, 1);
        let count = if options.datagram_bytes_max > 4096 { 2 } else { 4 };
        for at in 0..10u8 {
            rig.send_to(near, address, vec![at; 50], 2);
            rig.wait(2);
            rig.settle();
        }
        let mut held: Vec<_> = (0..count).map(|_| rig.wait(1)).collect();
        rig.settle();
        rig.assert_nothing_seen_of(1);
        for at in 0..10u8 {
            // Each buffer that comes back lets one more in.
            let Outcome::Datagram { bytes, .. } = held.remove(0).outcome else { panic!("a datagram was due") };
            assert_eq!(*bytes, [at; 50]);
            drop(bytes);
            if usize::from(at) + count < 10 {
                held.push(rig.wait(1));
            }
        }
        rig.abort(far, 5);
        rig.wait_closed(5);
        rig.seen().for_each(drop);
    }
}

pub fn only_what_fits_the_socket_is_accepted(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (socket, address) = rig.bind(&BindOptions::default());
    assert_eq!(refusal(rig.driver.accept(socket, 1)), ErrorKind::InvalidInput);
    assert_eq!(refusal(rig.driver.shutdown_write(socket, 1)), ErrorKind::InvalidInput);
    assert_eq!(refusal(rig.driver.receive_into(socket, ReceiveBuffer::Vec(vec![0; 10]), 1)), ErrorKind::InvalidInput);
    let nested = Payload::Gather(vec![Payload::Gather(vec![Payload::Vec(vec![1])])]);
    assert_eq!(refusal(rig.driver.send_to(socket, address, nested, 1)), ErrorKind::InvalidInput);
    rig.receive(socket, 2);
    assert_eq!(refusal(rig.driver.receive(socket, 1)), ErrorKind::ReceiveActive);
    let (near, far) = rig.pair();
    assert_eq!(refusal(rig.driver.send_to(near, address, vec![1], 1)), ErrorKind::InvalidInput);
    let group = IpAddr::from([239, 255, 77, 2]);
    assert_eq!(refusal(rig.driver.join_multicast(far, group, 0)), ErrorKind::InvalidInput);
    assert_eq!(refusal(rig.driver.bind(address, &BindOptions::default())), ErrorKind::AddressInUse);
    let path: raon_provider::Address = "unix:/nowhere".parse().unwrap();
    assert_eq!(refusal(rig.driver.bind(path, &BindOptions::default())), ErrorKind::InvalidInput);
}

pub fn a_datagram_that_no_network_takes_comes_back(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (near, _) = rig.bind(&BindOptions::default());
    let (far, address) = rig.bind(&BindOptions::default());
    rig.receive(far, 1);
    rig.send_to(near, address, pattern(70_000), 2);
    let (kind, payload, transferred) = rig.wait_failure(2);
    assert_eq!((kind, transferred), (ErrorKind::MessageTooLong, 0));
    assert_eq!(payload.unwrap().to_vec(), pattern(70_000));
    rig.submit(Operation::SendTo { socket: near, to: address, payload: pattern(70_000).into(), quiet: true }, 3);
    assert_eq!(rig.wait_failure(3).0, ErrorKind::MessageTooLong);
    // One that fails takes none of its neighbours with it.
    rig.send_to(near, address, pattern(1), 4);
    rig.send_to(near, address, pattern(70_001), 5);
    rig.send_to(near, address, pattern(2), 6);
    assert_eq!(rig.wait_failure(5).0, ErrorKind::MessageTooLong);
    assert!(matches!(rig.wait(4).outcome, Outcome::Sent(_)) && matches!(rig.wait(6).outcome, Outcome::Sent(_)));
    let mut lengths = [rig.wait_datagram(1).0.len(), rig.wait_datagram(1).0.len()];
    lengths.sort_unstable();
    assert_eq!(lengths, [1, 2]);
}

pub fn any_datagram_socket_can_be_adopted(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (outside, peer) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let address = outside.local_addr().unwrap();
    outside.connect(peer.local_addr().unwrap()).unwrap();
    let socket = rig.adopt(outside);
    rig.receive(socket, 1);
    rig.send(socket, b"ping".as_slice(), ANY);
    let mut bytes = [0; 10];
    peer.set_nonblocking(true).unwrap();
    rig.until("the datagram to arrive", |_| peer.recv(&mut bytes).is_ok());
    peer.send_to(b"pong", address).unwrap();
    assert_eq!(rig.wait_datagram(1), (b"pong".to_vec(), peer.local_addr().unwrap()));
}

pub fn no_allocation_per_datagram(setup: &Setup) {
    const COUNT: usize = 50;
    let mut driver = setup.open();
    let bind = |driver: &mut raon_provider::Driver, coalesce| {
        driver.bind(([127, 0, 0, 1], 0), &BindOptions::default().with(|options| options.coalesce = coalesce)).unwrap()
    };
    let (near, far, coalescing) = (bind(&mut driver, false), bind(&mut driver, false), bind(&mut driver, true));
    let addresses = [far, coalescing].map(|socket| {
        driver.receive(socket, 1).unwrap();
        driver.local_address(socket).unwrap().ip().unwrap()
    });
    let mut completions = Completions::with_capacity(1024);
    let mut turn = 0;
    let mut round = || {
        turn += 1;
        for _ in 0..COUNT {
            driver.send_to_quiet(near, addresses[turn % 2], b"state".as_slice(), 0).unwrap();
        }
        let mut came = 0;
        while came < COUNT {
            driver.poll(Some(TINY), &mut completions).unwrap();
            came += completions.drain().filter(|one| matches!(one.outcome, Outcome::Datagram { .. })).count();
        }
    };
    (0..120).for_each(|_| round());
    let before = allocations();
    (0..100).for_each(|_| round());
    assert_eq!(allocations() - before, 0, "in {} datagrams", 100 * COUNT);
}
