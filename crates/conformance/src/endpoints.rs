//! Listeners and connects: addresses, options, errors, and what can be adopted.

//= ONCE-1, OWN-2

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use raon_provider::{
    AcceptedSocket, Address, ConnectOptions, ErrorKind, ListenOptions, Operation, Outcome, Setting, SimListener,
    SimPeer, SocketId,
};
use socket2::{SockAddr, Socket};

use crate::peer::{Peer, system_address};
use crate::platform;
use crate::rig::{Rig, refusal};
use crate::setup::Setup;
use crate::simulated;
use crate::unix;
use crate::vacant::Vacant;

/// A listener that takes no more connections: who connects gets no answer.
pub struct FullBacklog {
    /// Where nobody answers.
    pub address: Address,
    listener: Full,
}

enum Full {
    Os(Socket, #[allow(dead_code, reason = "they fill it")] Vec<Socket>),
    Sim(RefCell<SimListener>, #[allow(dead_code, reason = "it fills it")] SimPeer),
}

impl FullBacklog {
    pub fn new(setup: &Setup) -> Self {
        Self::at(&setup.address())
    }

    pub fn at(address: &Address) -> Self {
        if let Some(network) = simulated::network() {
            let options = ListenOptions::default().with(|options| options.backlog = 1);
            let listener = network.listen_with(address, &options).unwrap();
            let address = listener.address().unwrap();
            let filler = network.connect(&address);
            return FullBacklog { address, listener: Full::Sim(RefCell::new(listener), filler) };
        }
        let address = system_address(address);
        let listener = platform::stream_socket(address.domain());
        listener.bind(&address).unwrap();
        listener.listen(0).unwrap();
        let address: SockAddr = listener.local_addr().unwrap();
        let fill = |_| {
            let filler = platform::stream_socket(address.domain());
            filler.set_nonblocking(true).unwrap();
            let _ = filler.connect(&address);
            filler
        };
        let fillers = (0..3).map(fill).collect();
        let address = AcceptedSocket::from(listener.try_clone().unwrap()).local_address().unwrap();
        FullBacklog { address, listener: Full::Os(listener, fillers) }
    }

    /// Accepts and closes what waits, so that there is room again.
    pub fn drain(&self) {
        match &self.listener {
            Full::Os(listener, _) => {
                listener.set_nonblocking(true).unwrap();
                while listener.accept().is_ok() {}
            }
            Full::Sim(listener, _) => while listener.borrow_mut().accept().is_some() {},
        }
    }
}

/// Listens at one IP address, connects to another.
fn assert_connects(rig: &mut Rig, listen: IpAddr, connect: IpAddr) {
    let listener = rig.driver.listen(SocketAddr::new(listen, 0), &ListenOptions::default()).unwrap();
    let port = rig.driver.local_address(listener).unwrap().ip().unwrap().port();
    assert_talks(rig, listener, &SocketAddr::new(connect, port).into());
}

/// Connects to a listener, sends a word from either end, and closes the listener.
pub(crate) fn assert_talks(rig: &mut Rig, listener: SocketId, address: &Address) {
    rig.accept(listener, 1);
    rig.connect(address, 2);
    let connected = rig.wait(2);
    assert!(matches!(connected.outcome, Outcome::Connected), "{address}: {connected:?}");
    assert_eq!(rig.driver.peer_address(connected.socket).unwrap(), *address);
    let Outcome::Accepted(socket) = rig.wait(1).outcome else { panic!("a connection was due") };
    let accepted = rig.adopt(socket);
    for (from, to) in [(connected.socket, accepted), (accepted, connected.socket)] {
        rig.send_quiet(from, b"raon".as_slice(), 4);
        assert_eq!(rig.receive_exactly(to, 4, 3), b"raon");
    }
    rig.abort(listener, 5);
    rig.wait_closed(5);
    rig.wait(1);
}

pub fn connections_over_every_address_family(setup: &Setup) {
    let mut rig = Rig::new(setup);
    if setup.is_unix {
        return unix::assert_connects(&mut rig);
    }
    let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
    let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    assert_connects(&mut rig, v4, v4);
    assert_connects(&mut rig, IpAddr::V4(Ipv4Addr::UNSPECIFIED), v4);
    assert_connects(&mut rig, v6, v6);
    assert_connects(&mut rig, any, v6);
    assert_connects(&mut rig, any, v4);
    let options = ListenOptions::default().with(|options| options.dual_stack = false);
    // Another's port of that number may be open on IPv4.
    let find_port = || {
        let listener = rig.driver.listen(SocketAddr::new(any, 0), &options).unwrap();
        let port = rig.driver.local_address(listener).unwrap().ip().unwrap().port();
        Vacant::at(&(v4, port).into())
    };
    let vacant = std::iter::repeat_with(find_port).take(10).flatten().next().expect("IPv6 alone has the port");
    assert!(Peer::try_connect(&(v6, vacant.ip().port()).into()).is_ok());
    assert!(Peer::try_connect(vacant.address()).is_err(), "without dual_stack IPv6 alone");
}

pub fn a_refused_connect_is_a_typed_error(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let vacant = rig.unlisten(|rig, listener, _| {
        rig.abort(listener, 1);
        rig.wait_closed(1);
    });
    for _ in 0..3 {
        rig.connect(vacant.address(), 1);
        assert_eq!(rig.wait_failure(1).0, ErrorKind::ConnectionRefused);
        assert_eq!(rig.driver.stats().sockets, 0);
    }
    // A connect that has not finished yet has no id that could be used; one of another's is refused, see STALE-1.
    let bind = Some("203.0.113.7:0".parse().unwrap());
    let options = ConnectOptions::default().with(|options| options.bind = bind);
    let refused = rig.driver.connect(([127, 0, 0, 1], 9), &options, 2);
    assert_eq!(refusal(refused), ErrorKind::AddressNotAvailable);
}

pub fn an_address_in_use_is_refused(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let options = ListenOptions::default();
    // Somebody else may be quicker now and then.
    let is_free_again = (0..10).any(|_| {
        let (listener, address) = rig.listen();
        let error = rig.driver.listen(&address, &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddressInUse);
        assert!((error.os_code() != 0) != setup.is_simulated());
        assert!(error.to_string().contains("choose another port"), "{error}");
        rig.abort(listener, 1);
        rig.wait_closed(1);
        rig.driver.listen(&address, &options).is_ok()
    });
    assert!(is_free_again, "at once");
}

pub fn listeners_may_share_a_port(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let options = ListenOptions::default().with(|options| (options.reuse_port, options.backlog) = (true, 64));
    let first = rig.driver.listen(setup.address(), &options).unwrap();
    let address = rig.driver.local_address(first).unwrap();
    if setup.is_unix {
        // A name has one owner, whatever is asked for.
        let refused = rig.driver.listen(&address, &options);
        return assert_eq!(refusal(refused), ErrorKind::AddressInUse);
    }
    let second = rig.driver.listen(&address, &options).unwrap();
    rig.accept(first, 1);
    rig.accept(second, 2);
    let _peers: Vec<_> = (0..64).map(|_| Peer::connect(&address)).collect();
    let (mut at_first, mut at_second) = (0, 0);
    rig.until("all connections", |rig| {
        for completion in rig.seen() {
            at_first += usize::from(completion.token == 1);
            at_second += usize::from(completion.token == 2);
        }
        at_first + at_second == 64
    });
    assert!(at_first > 0 && at_second > 0, "{at_first} and {at_second}");
}

pub fn options_reach_the_sockets(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (keepalive, user_timeout) = (Some(Duration::from_secs(77)), platform::USER_TIMEOUT);
    let host = IpAddr::from(platform::SECOND_HOST);
    for nodelay in [true, false] {
        let options = ListenOptions::default().with(|options| {
            options.nodelay = nodelay;
            options.keepalive = keepalive;
            options.user_timeout = user_timeout;
        });
        let listener = rig.driver.listen(setup.address(), &options).unwrap();
        let address = rig.driver.local_address(listener).unwrap();
        rig.accept(listener, 1);
        let bind = Some((host, 0).into());
        let options = ConnectOptions::default().with(|options| {
            options.bind = bind;
            options.nodelay = nodelay;
            options.keepalive = keepalive;
            options.user_timeout = user_timeout;
        });
        rig.submit(Operation::Connect { address, options }, 2);
        let connected = rig.wait(2).socket;
        let local = rig.driver.local_address(connected).unwrap();
        let Outcome::Accepted(socket) = rig.wait(1).outcome else { panic!("a connection was due") };
        assert_eq!(socket.peer_address().unwrap(), local);
        assert_eq!(local.ip().map(|ip| ip.ip()), (!setup.is_unix).then_some(host));
        // A simulated socket has nothing inside, and no options.
        let socket = socket.into_inner().map(Socket::from);
        assert_eq!(socket.is_err(), setup.is_simulated());
        let Ok(socket) = socket else { return };
        if setup.is_unix {
            // Options of TCP mean nothing here, and are no error.
            assert!(!socket.keepalive().unwrap());
        } else {
            assert_eq!(socket.tcp_nodelay().unwrap(), nodelay);
            assert!(socket.keepalive().unwrap());
            if let Some(told) = platform::patience(&socket) {
                assert_eq!(told, (keepalive.unwrap(), user_timeout));
            }
        }
        rig.abort(listener, 3);
        rig.wait_closed(3);
        rig.wait(1);
    }
}

pub fn times_out_of_range_are_named(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (listener, address) = rig.listen();
    let too_long = Some(ListenOptions::KEEPALIVE_MAX + Duration::from_nanos(1));
    let far_too_long = Some(ListenOptions::USER_TIMEOUT_MAX + Duration::from_nanos(1));
    let zero = Some(Duration::ZERO);
    let wrong = [
        (zero, None, Setting::Keepalive),
        (too_long, None, Setting::Keepalive),
        (Some(Duration::MAX), None, Setting::Keepalive),
        (None, zero, Setting::UserTimeout),
        (None, far_too_long, Setting::UserTimeout),
        (None, Some(Duration::MAX), Setting::UserTimeout),
    ];
    for (keepalive, user_timeout, setting) in wrong {
        let listen = ListenOptions::default()
            .with(|options| (options.keepalive, options.user_timeout) = (keepalive, user_timeout));
        let connect = ConnectOptions::default()
            .with(|options| (options.keepalive, options.user_timeout) = (keepalive, user_timeout));
        let listened = rig.driver.listen(setup.address(), &listen).map_err(|error| error.setting());
        if setup.is_unix {
            // Options of TCP mean nothing here, and are no error.
            rig.abort(listened.unwrap(), 9);
            rig.wait_closed(9);
            continue;
        }
        assert_eq!(listened, Err(Some(setting)));
        let error = rig.driver.connect(&address, &connect, 1).unwrap_err();
        assert_eq!((error.kind(), error.setting()), (ErrorKind::InvalidInput, Some(setting)));
        let option = if keepalive.is_some() { "keepalive" } else { "user_timeout" };
        assert!(error.to_string().contains(option), "{error}");
    }
    assert_bounds_are_taken(&mut rig, setup);
    rig.abort(listener, 9);
    rig.wait_closed(9);
}

/// The shortest and the longest times are taken, and switch nothing off.
fn assert_bounds_are_taken(rig: &mut Rig, setup: &Setup) {
    let user_timeout = |time| platform::USER_TIMEOUT.map(|_| time);
    let millisecond = Duration::from_millis(1);
    for (keepalive, patience, told) in [
        (Duration::from_nanos(1), Duration::from_nanos(1), (Duration::from_secs(1), user_timeout(millisecond))),
        (
            ListenOptions::KEEPALIVE_MAX,
            ListenOptions::USER_TIMEOUT_MAX,
            (ListenOptions::KEEPALIVE_MAX, user_timeout(ListenOptions::USER_TIMEOUT_MAX)),
        ),
    ] {
        let user_timeout = user_timeout(patience);
        let options = ListenOptions::default()
            .with(|options| (options.keepalive, options.user_timeout) = (Some(keepalive), user_timeout));
        let timed = rig.driver.listen(setup.address(), &options).unwrap();
        let address = rig.driver.local_address(timed).unwrap();
        rig.accept(timed, 1);
        rig.connect(&address, 2);
        rig.wait(2);
        let Outcome::Accepted(socket) = rig.wait(1).outcome else { panic!("a connection was due") };
        if let (Ok(socket), false) = (socket.into_inner().map(Socket::from), setup.is_unix) {
            assert!(socket.keepalive().unwrap());
            assert!(platform::patience(&socket).is_none_or(|patience| patience == told), "{told:?}");
        }
        rig.abort(timed, 3);
        rig.wait_closed(3);
        rig.wait(1);
    }
}

pub fn any_stream_socket_can_be_adopted(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (near, far) = platform::foreign_pair();
    let (near, far) = (rig.adopt(near), rig.adopt(far));
    rig.receive(far, 1);
    rig.send(near, b"raon".as_slice(), 2);
    assert_eq!(rig.wait_bytes(1, 4), b"raon");
    rig.shutdown_write(near, 3);
    rig.wait_end(1);

    let address = system_address(&setup.address());
    let listener = platform::stream_socket(address.domain());
    listener.bind(&address).unwrap();
    listener.listen(8).unwrap();
    // In either mode: the driver sets the one that it needs.
    listener.set_nonblocking(true).unwrap();
    let listener = rig.adopt(listener);
    rig.accept(listener, 4);
    let mut peer = Peer::connect(&rig.driver.local_address(listener).unwrap());
    let Outcome::Accepted(socket) = rig.wait(4).outcome else { panic!("a connection was due") };
    let socket = rig.adopt(socket.into_inner().unwrap());
    rig.send_quiet(socket, b"raon".as_slice(), 5);
    assert_eq!(peer.read(&mut rig, 4), b"raon");

    let unconnected = rig.adopt(platform::stream_socket(address.domain()));
    rig.receive(unconnected, 6);
    // recv(2) says ENOTCONN; on a Unix socket it says EINVAL.
    let kind = if setup.is_unix { ErrorKind::InvalidInput } else { ErrorKind::NotConnected };
    assert_eq!(rig.wait_failure(6).0, kind);
}

pub fn what_no_driver_can_use_is_given_back(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let name = format!("raon-test-{}-{}", std::process::id(), setup.name);
    if let Some((useless, address)) = platform::useless_socket(&name) {
        let refused = rig.driver.adopt(useless).unwrap_err();
        assert_eq!(refused.error.kind(), ErrorKind::InvalidInput);
        assert_eq!(refused.value.local_address().unwrap(), address, "the very socket comes back");
    }
    if let Some(file) = platform::no_socket() {
        assert_eq!(refusal(rig.driver.adopt(file)), ErrorKind::InvalidInput);
    }
    let (socket, _other) = platform::foreign_pair();
    rig.ledger.expect_mailed(1, 1);
    rig.try_submit(Operation::Adopt { socket }, 1).unwrap();
    assert!(matches!(rig.wait(1).outcome, Outcome::Adopted));
}
