//! Unix stream sockets: names in the file system, and what else can travel with the bytes. These
//! run on every set-up, for the sockets are asked for by address.

//= ONCE-1, EOF-1

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use raon_provider::{Address, ConnectOptions, ErrorKind, ListenOptions, Outcome};
use socket2::{Domain, SockAddr, Socket};

use crate::endpoints::{FullBacklog, assert_talks};
use crate::peer::Peer;
use crate::platform::{self, send_with_descriptor};
use crate::rig::{Rig, refusal};
use crate::setup::{self, Setup};

/// A directory that is gone when the test is.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("raon-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Directory(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn address(&self, name: &str) -> Address {
        self.path(name).into()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A listener that Raon knows nothing of.
fn bound(path: &Path) -> Socket {
    let listener = platform::stream_socket(Domain::UNIX);
    listener.bind(&SockAddr::unix(path).unwrap()).unwrap();
    listener.listen(128).unwrap();
    listener
}

/// Connects by a path and by names of other forms.
pub(crate) fn assert_connects(rig: &mut Rig) {
    let directory = Directory::new();
    for address in [directory.address("listener"), setup::UNIX.address(), platform::strange_name()] {
        let listener = rig.driver.listen(&address, &ListenOptions::default()).unwrap();
        assert_eq!(rig.driver.local_address(listener).unwrap(), address);
        assert_talks(rig, listener, &address);
    }
}

fn refused(rig: &mut Rig, address: &Address, reuse_address: bool) -> ErrorKind {
    refusal(rig.driver.listen(address, &ListenOptions::default().with(|options| options.reuse_address = reuse_address)))
}

/// The name outlives the listener, see unix(7).
pub fn a_dead_listeners_path_is_taken_over(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let directory = Directory::new();
    let address = directory.address("listener");
    drop(bound(&directory.path("listener")));
    assert_eq!(refused(&mut rig, &address, false), ErrorKind::AddressInUse);
    for _ in 0..2 {
        let listener = rig.driver.listen(&address, &ListenOptions::default()).expect("nobody answers there any more");
        assert_talks(&mut rig, listener, &address);
    }
    // Only the name of a socket is ever removed.
    std::fs::write(directory.path("file"), b"precious").unwrap();
    platform::symlink(&directory.path("listener"), &directory.path("link"));
    for name in ["file", "link"] {
        assert_eq!(refused(&mut rig, &directory.address(name), true), ErrorKind::AddressInUse);
    }
    assert_eq!(std::fs::read(directory.path("file")).unwrap(), b"precious");
    assert!(std::fs::symlink_metadata(directory.path("link")).unwrap().is_symlink());
}

pub fn a_path_in_use_is_refused(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let directory = Directory::new();
    let address = directory.address("listener");
    let other = bound(&directory.path("listener"));
    for reuse_address in [true, false] {
        assert_eq!(refused(&mut rig, &address, reuse_address), ErrorKind::AddressInUse);
    }
    // The question whether somebody is there leaves it as it was, but for one connection that has ended.
    let client = platform::stream_socket(Domain::UNIX);
    client.connect(&SockAddr::unix(directory.path("listener")).unwrap()).unwrap();
    other.accept().unwrap();
    other.accept().unwrap();
    // Nor is somebody who is there and takes no more connections taken for dead.
    let full = FullBacklog::at(&directory.address("full"));
    assert_eq!(refused(&mut rig, &full.address, true), ErrorKind::AddressInUse);
}

pub fn paths_that_cannot_be_are_typed_errors(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let directory = Directory::new();
    let long = directory.address(&"x".repeat(120));
    let zero = Address::Unix("a\0b".into());
    let unacceptable = [long, zero, Address::Unix("".into()), Address::Unnamed, Address::Abstract(vec![1; 108])];
    for address in &unacceptable {
        assert_eq!(refused(&mut rig, address, true), ErrorKind::InvalidInput, "{address:?}");
        let connect = rig.driver.connect(address, &ConnectOptions::default(), 1);
        assert_eq!(refusal(connect), ErrorKind::InvalidInput, "{address:?}");
    }
    if setup.is_simulated() {
        return;
    }
    let missing = Path::new("missing/listener");
    assert_eq!(refused(&mut rig, &directory.0.join(missing).into(), true), ErrorKind::NotFound);
    std::fs::write(directory.path("file"), b"").unwrap();
    drop(bound(&directory.path("dead")));
    for (name, kind) in [
        ("missing/listener", ErrorKind::NotFound),
        ("missing", ErrorKind::NotFound),
        ("dead", ErrorKind::ConnectionRefused),
        ("file", ErrorKind::ConnectionRefused),
    ] {
        rig.connect(directory.address(name), 1);
        assert_eq!(rig.wait_failure(1).0, kind, "{name}");
    }
    assert_eq!(rig.driver.stats().sockets, 0);
}

pub fn both_ends_have_addresses(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let directory = Directory::new();
    let address = directory.address("listener");
    let listener = rig.driver.listen(&address, &ListenOptions::default()).unwrap();
    rig.accept(listener, 1);
    rig.connect(&address, 2);
    let connected = rig.wait(2).socket;
    let Outcome::Accepted(accepted) = rig.wait(1).outcome else { panic!("a connection was due") };
    assert_eq!(
        (accepted.local_address().unwrap(), accepted.peer_address().unwrap()),
        (address.clone(), Address::Unnamed)
    );
    let accepted = rig.adopt(accepted);
    for (socket, local, peer) in [(connected, &Address::Unnamed, &address), (accepted, &address, &Address::Unnamed)] {
        assert_eq!(rig.driver.local_address(socket).unwrap(), *local);
        assert_eq!(rig.driver.peer_address(socket).unwrap(), *peer);
    }
    if setup.is_simulated() {
        return;
    }
    // A peer that has a name is known by it.
    let peer = Peer::connect(&address);
    let Outcome::Accepted(accepted) = rig.wait(1).outcome else { panic!("a connection was due") };
    assert!(matches!(accepted.peer_address().unwrap(), Address::Abstract(name) if !name.is_empty()));
    assert_eq!(accepted.peer_address().unwrap(), peer.local_address());
}

pub fn a_listener_from_outside_can_be_adopted(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let directory = Directory::new();
    let listener = bound(&directory.path("listener"));
    let listener = rig.adopt(listener);
    assert_talks(&mut rig, listener, &directory.address("listener"));
}

/// Descriptors that a peer sends along cut a receive short, although more bytes lie behind them. They are not for us.
pub fn descriptors_on_the_way_hold_nothing_up(setup: &Setup) {
    let mut rig = Rig::new(setup);
    for is_stream in [true, false] {
        let (near, far) = platform::local_pair();
        let near = rig.adopt(near);
        if is_stream {
            rig.receive(near, 1);
            rig.turns(2);
        }
        for _ in 0..3 {
            send_with_descriptor(&far, b"with");
            send_with_descriptor(&far, b"then");
        }
        let mut received = 0;
        while received < 24 {
            if !is_stream {
                rig.receive_into(near, 100, 1);
            }
            received += match rig.wait(1).outcome {
                Outcome::Received(bytes) => bytes.len(),
                Outcome::ReceivedInto(room) => room.len(),
                other => panic!("{other:?}"),
            };
        }
    }
}

/// A listener that has no room now is no error: TCP repeats its SYN, and here the connect waits as well.
pub fn a_full_backlog_is_waited_for(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let full = FullBacklog::new(&setup::UNIX);
    let cancelled = rig.connect(&full.address, 1);
    rig.connect(&full.address, 2);
    rig.settle();
    rig.assert_nothing_seen();
    rig.cancel(cancelled);
    assert_eq!(rig.wait_failure(1).0, ErrorKind::Cancelled);
    full.drain();
    assert!(matches!(rig.wait(2).outcome, Outcome::Connected));
    // One that waits when the driver ends does not keep it.
    drop(full);
    let full = FullBacklog::new(&setup::UNIX);
    rig.connect(&full.address, 3);
    rig.settle();
}
