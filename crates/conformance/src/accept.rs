//! Accept streams under pressure.

//= ONCE-1, LIMIT-1

use std::time::Duration;

use raon_provider::{Config, Driver, ErrorKind, FaultRates, Faults, Outcome};

use crate::child;
use crate::peer::{self, Peer};
use crate::platform::{self, DescriptorLimit};
use crate::rig::{PATIENCE, Rig};
use crate::setup::{self, Setup};
use crate::simulated::Moment;

/// More connections in one turn than there is room for completions in a ring of this configuration.
pub fn more_connections_than_the_queues_hold(setup: &Setup) {
    let mut rig = Rig::with(setup, |config| {
        config.sockets_max = 16;
        config.operations_max = 64;
        config.uring.submission_entries = 8;
        config.pool.receive_count = 8;
        config.pool.send_count = 4;
        config.pool.bulk_count = 1;
    });
    let (listener, address) = rig.listen();
    let operation = rig.accept(listener, 1);
    rig.turns(1);
    let mut peers: Vec<_> = (0..300).map(|_| Peer::connect(&address)).collect();
    let mut accepted = Vec::new();
    while accepted.len() < 300 {
        match rig.wait(1).outcome {
            Outcome::Accepted(socket) => accepted.push(socket),
            other => panic!("{other:?}"),
        }
    }
    let mut near: Vec<_> = accepted.iter().map(|socket| socket.peer_address().unwrap()).collect();
    let mut far: Vec<_> = peers.iter().map(|peer| peer.local_address()).collect();
    near.sort_unstable();
    far.sort_unstable();
    assert_eq!(near, far, "each connection came once");
    drop(accepted);
    assert_eq!(peers[0].read_until_broken(&mut rig), None, "an unattached socket closes on drop");
    rig.cancel(operation);
    assert_eq!(rig.wait_failure(1).0, ErrorKind::Cancelled);
}

/// Limits are the process's own, so this runs in a child.
pub fn an_accept_stream_backs_off_without_descriptors(setup: &Setup) {
    child::run("descriptors", setup.name, &[]);
}

/// The child's part: descriptors run out, the stream says so, waits without spinning, and goes on.
pub fn run_out_of_descriptors(setup: Setup) {
    let mut rig = Rig::new(&setup);
    let (listener, address) = rig.listen();
    let _peers: Vec<_> = (0..12).map(|_| Peer::connect(&address)).collect();
    let (limit, _fillers) = DescriptorLimit::leave_four();
    rig.accept(listener, 1);
    let (mut accepted, mut paused) = (Vec::new(), 0);
    while paused == 0 {
        let completion = rig.wait(1);
        assert!(completion.more, "the stream goes on: {completion:?}");
        match completion.outcome {
            Outcome::Accepted(socket) => accepted.push(socket),
            Outcome::AcceptPaused(error) => {
                assert_eq!(error.kind(), ErrorKind::DescriptorLimit);
                paused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!((1..=6).contains(&accepted.len()), "{} were accepted", accepted.len());
    let before = rig.driver.stats();
    assert_eq!(accepted.len() + before.shed as usize, 12, "all that wait are told at once: {before:?}");
    rig.timer(Duration::from_millis(200), 2);
    rig.wait(2);
    let after = rig.driver.stats();
    // The wait itself polls in steps of a millisecond.
    assert!(after.accept_pauses - before.accept_pauses < 10, "{after:?}");
    assert!(after.kernel_entries - before.kernel_entries < 600, "it spins: {after:?}");
    limit.restore();
    let late = Peer::connect(&address);
    let own = late.local_address();
    rig.wait_for("the connection that came last", |each| match &each.outcome {
        Outcome::Accepted(socket) => socket.peer_address().is_ok_and(|address| address == own),
        _ => false,
    });
}

/// Every now and then a descriptor is missing for a moment: each time one connection is turned away, and is told so.
pub fn a_missing_descriptor_costs_one_connection(setup: &Setup) {
    let rates = FaultRates::default().with(|rates| rates.accept_without_descriptor = 300);
    let seed = setup.faults.map_or(5, |faults| faults.seed);
    let mut rig = Rig::new(&setup.with_faults(Faults::new(seed, rates)));
    let (listener, address) = rig.listen();
    let (mut accepted, mut told) = (Vec::new(), 0);
    for round in 1..=40 {
        let mut peer = Peer::connect(&address);
        let stream = rig.accept(listener, 1);
        let mut is_told = false;
        rig.until("the connection to be taken or turned away", |rig| {
            for completion in rig.seen() {
                let Outcome::Accepted(socket) = completion.outcome else { panic!("{completion:?}") };
                accepted.push(socket);
            }
            // One that is taken hears nothing.
            is_told = !matches!(peer.read_some(&mut [0; 8]), Ok(None));
            accepted.len() + told + usize::from(is_told) == round
        });
        told += usize::from(is_told);
        rig.cancel(stream);
        assert_eq!(rig.wait_failure(1).0, ErrorKind::Cancelled);
    }
    assert!(told > 0 && !accepted.is_empty(), "{told} were turned away");
    assert_eq!(rig.driver.stats().shed, told as u64);
}

/// Two drivers accept on one listener, as when one process takes over from another. The one that stops is perhaps the one
/// that the system has told of the connection.
//= CANCEL-1
pub fn a_cancelled_stream_leaves_nobody_in_a_shared_listener(setup: &Setup) {
    let address = peer::system_address(&setup.address());
    let listener = platform::stream_socket(address.domain());
    listener.bind(&address).unwrap();
    listener.listen(64).unwrap();
    let (mut leaving, mut staying) = (Rig::new(setup), Rig::new(setup));
    let shared = staying.adopt(listener.try_clone().unwrap());
    let own = leaving.adopt(listener);
    let address = staying.driver.local_address(shared).unwrap();
    // Each way round, because the system chooses by who has waited longer.
    for round in 0..6 {
        let ((first, own), (second, other)) = match round % 2 {
            0 => ((&mut leaving, own), (&mut staying, shared)),
            _ => ((&mut staying, shared), (&mut leaving, own)),
        };
        let streams = (first.accept(own, 1), second.accept(other, 1));
        first.turns(1);
        second.turns(1);
        let _peer = Peer::connect(&address);
        first.cancel(streams.0);
        let mut accepted = 0;
        loop {
            match first.wait(1).outcome {
                Outcome::Accepted(_) => accepted += 1,
                outcome => break assert_eq!(outcome.error().map(|error| error.kind()), Some(ErrorKind::Cancelled)),
            }
        }
        if accepted == 0 {
            assert!(matches!(second.wait(1).outcome, Outcome::Accepted(_)), "round {round}");
        }
        second.cancel(streams.1);
        assert_eq!(second.wait_failure(1).0, ErrorKind::Cancelled, "round {round}: it came once");
    }
}

pub fn a_connection_that_ended_in_the_backlog_does_no_harm(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (listener, address) = rig.listen();
    for _ in 0..10 {
        Peer::connect(&address).reset();
    }
    drop(Peer::connect(&address));
    rig.accept(listener, 1);
    let mut peer = Peer::connect(&address);
    let own = peer.local_address();
    loop {
        let outcome = rig.wait(1).outcome;
        let Outcome::Accepted(socket) = outcome else { panic!("a connection was due: {outcome:?}") };
        if socket.peer_address().is_ok_and(|address| address == own) {
            let socket = rig.adopt(socket);
            rig.send_quiet(socket, b"raon".as_slice(), 2);
            break assert_eq!(peer.read(&mut rig, 4), b"raon");
        }
        // One whose peer is gone can be adopted all the same, and tells it by itself.
        let gone = rig.adopt(socket);
        rig.receive(gone, 3);
        assert!(!rig.wait(3).more);
    }
}

/// Drivers of all back ends on one listener, whose mode somebody changes who shares it too: nobody blocks in an accept, and
/// each connection comes once.
pub fn a_listener_may_be_shared_with_other_back_ends(setup: &Setup) {
    if setup.is_simulated() {
        // The simulated network has no processes that could share a socket.
        return;
    }
    const CONNECTIONS: usize = 60;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, shared) = (listener.local_addr().unwrap(), listener.try_clone().unwrap());
    let mut rigs = vec![Rig::new(setup)];
    for kind in setup::kinds() {
        if let Ok(driver) = Driver::open(&Config::named(kind)) {
            rigs.push(Rig::of(*setup, driver, 64));
        }
    }
    for rig in &mut rigs {
        let socket = rig.adopt(listener.try_clone().unwrap());
        rig.accept(socket, 1);
    }
    let mut clients = Vec::new();
    let mut accepted = 0;
    for round in 0..CONNECTIONS {
        shared.set_nonblocking(round % 3 == 0).unwrap();
        clients.push(std::net::TcpStream::connect(address).unwrap());
        for rig in &mut rigs {
            rig.poll(Some(Duration::ZERO));
            accepted += rig.seen().filter(|each| matches!(each.outcome, Outcome::Accepted(_))).count();
        }
    }
    let begun = Moment::now();
    while accepted < CONNECTIONS {
        assert!(begun.elapsed() < PATIENCE, "{accepted} of {CONNECTIONS} connections were accepted");
        for rig in &mut rigs {
            rig.poll(Some(Duration::from_millis(1)));
            accepted += rig.seen().filter(|each| matches!(each.outcome, Outcome::Accepted(_))).count();
        }
    }
    assert_eq!(accepted, CONNECTIONS);
}

/// Another program shares a listener and expects that an accept of it never waits. A driver that joins must not change that.
pub fn a_shared_listener_never_blocks_who_else_accepts(setup: &Setup) {
    if setup.is_simulated() {
        return;
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut rig = Rig::new(setup);
    let socket = rig.adopt(listener.try_clone().unwrap());
    rig.accept(socket, 1);
    rig.turns(3);
    let (tell, told) = std::sync::mpsc::channel();
    let address = listener.local_addr().unwrap();
    let other = std::thread::spawn(move || tell.send(listener.accept().map(drop).map_err(|error| error.kind())));
    let Ok(accepted) = told.recv_timeout(PATIENCE) else {
        drop(rig);
        let _free = std::net::TcpStream::connect(address);
        panic!("the other program waits in its accept");
    };
    assert_eq!(accepted, Err(std::io::ErrorKind::WouldBlock));
    other.join().unwrap().unwrap();
}
