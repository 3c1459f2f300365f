//! Facts about Windows.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Result;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use raon_provider::{AcceptedSocket, Address};
use socket2::{Domain, SockAddr, Socket, Type};

use super::Skipped;

/// How the kernel's name begins.
pub fn kernel() -> &'static str {
    "Windows "
}

/// What is about Linux.
pub const SKIPPED: &[Skipped] = &[
    ("roles::a_seccomp_filter_with_eperm", "io_uring and its filters are Linux's"),
    ("roles::a_seccomp_filter_with_enosys", "io_uring and its filters are Linux's"),
    ("roles::a_seccomp_filter_of_one_thread", "io_uring and its filters are Linux's"),
    ("roles::a_seccomp_filter_after_the_start", "io_uring and its filters are Linux's"),
    ("roles::epoll_waits_in_milliseconds_if_it_must", "epoll and its filters are Linux's"),
    ("roles::io_uring_disabled_by_sysctl", "io_uring and its switch are Linux's"),
    ("choice::what_is_named_is_never_replaced", "filters a back end away that is Linux's"),
    ("settings::without_memory_a_driver_is_refused_by_name", "the system has no limit that a process sets for itself"),
];

const NO_UNIX: &str = "Unix sockets are refused on Windows, as crates/provider/src/platform/windows.rs tests";

/// What the system's own sockets do not do.
pub const SKIPPED_REAL: &[Skipped] = &[
    ("accept::an_accept_stream_backs_off_without_descriptors", "sockets are limited by memory, not by a number"),
    ("accept::a_listener_may_be_shared_with_other_back_ends", "a socket belongs to one completion port for good"),
    (
        "accept::a_cancelled_stream_leaves_nobody_in_a_shared_listener",
        "a socket stays with the completion port that it has joined, whatever handle names it",
    ),
    ("accept::a_missing_descriptor_costs_one_connection", "as above, so there is none to turn a connection away with"),
    (
        "datagram::multicast_reaches_the_members",
        "Windows lets nobody bind to a group, and Wine knows no interface by its index",
    ),
    (
        "datagram::a_refused_peer_does_not_end_the_stream",
        "under Wine a receive that waits hears of nothing after a refusal; on Windows such reports are switched off",
    ),
    ("storm::a_connect_without_an_answer_times_out", "Wine has no TCP_MAXRT, and Windows counts it in whole seconds"),
    ("endpoints::listeners_may_share_a_port", "no option spreads connections; the refusal is tested in the provider"),
    ("unix::a_dead_listeners_path_is_taken_over", NO_UNIX),
    ("unix::a_path_in_use_is_refused", NO_UNIX),
    ("unix::paths_that_cannot_be_are_typed_errors", NO_UNIX),
    ("unix::both_ends_have_addresses", NO_UNIX),
    ("unix::a_listener_from_outside_can_be_adopted", NO_UNIX),
    ("unix::descriptors_on_the_way_hold_nothing_up", NO_UNIX),
    ("unix::a_full_backlog_is_waited_for", NO_UNIX),
];

/// No test takes nearly as long, though Wine asks a server of its own for each operation.
pub const HANGS_AFTER: Duration = Duration::from_secs(300);

/// Whether a peer that reads just then may see an orderly end before the reset of an aborted connection. Wine shuts a socket
/// down before it closes it; on Windows this is not so.
pub const ENDS_BEFORE_A_RESET: bool = true;

/// How long a peer may acknowledge nothing, if that can be set.
pub const USER_TIMEOUT: Option<Duration> = None;

/// Another address of this host, which answers without further ado.
pub const SECOND_HOST: [u8; 4] = [127, 0, 0, 9];

/// A host of loopback of one's own, from two numbers.
pub fn own_host(process: u32, place: u8) -> [u8; 4] {
    let [low, high, ..] = process.to_le_bytes();
    [127, high | 1, low, place]
}

/// A local name that nobody else has, for simulated networks.
pub fn local_name(number: u32) -> Address {
    Address::Abstract(format!("raon-conformance-{}-{number}", std::process::id()).into_bytes())
}

/// A name at which a simulated listener can be, in a form that looks strange.
pub fn strange_name() -> Address {
    Address::Abstract(b"/ \x01".to_vec())
}

/// Nothing lists what a process has open.
pub fn descriptors() -> BTreeMap<u32, String> {
    BTreeMap::new()
}

/// A plain stream socket that any back end can adopt: registered I/O must have been asked for when it was made.
pub fn stream_socket(domain: Domain) -> Socket {
    let socket = Socket::new(domain, Type::STREAM.registered_io(), None).unwrap();
    super::rio::made(&socket);
    socket
}

/// A stream socket at the address of a listener that has closed.
pub fn bind_closed(address: &SockAddr) -> Result<Socket> {
    let socket = Socket::new(address.domain(), Type::STREAM, None)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Where nobody takes datagrams. What a socket with a peer refuses is dropped here without a word, so none keeps the port: it
/// is one of a host that nobody else uses.
pub fn deaf_port() -> (SocketAddr, Option<Socket>) {
    static PLACE: AtomicU8 = AtomicU8::new(200);
    let host = own_host(std::process::id(), PLACE.fetch_add(1, Ordering::Relaxed));
    let socket = UdpSocket::bind((Ipv4Addr::from(host), 0)).unwrap();
    (socket.local_addr().unwrap(), None)
}

/// Two ends of a connection without names: there are none.
pub fn local_pair() -> (Socket, Socket) {
    unreachable!("no set-up goes over Unix sockets here")
}

/// Both ends of a connection, of no particular type.
pub fn foreign_pair() -> (AcceptedSocket, AcceptedSocket) {
    let listener = stream_socket(Domain::IPV4);
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(1).unwrap();
    let near = stream_socket(Domain::IPV4);
    near.connect(&listener.local_addr().unwrap()).unwrap();
    (near.into(), listener.accept().unwrap().0.into())
}

/// Only sockets can be taken for sockets.
pub fn no_socket() -> Option<AcceptedSocket> {
    None
}

/// Another name for a path.
pub fn symlink(original: &Path, link: &Path) {
    std::os::windows::fs::symlink_file(original, link).unwrap();
}

/// Sends bytes, and a descriptor along with them: sockets carry none.
pub fn send_with_descriptor(_socket: &Socket, _bytes: &[u8]) {
    unreachable!("the tests that ask for it are left out")
}

/// The process's limit of descriptors: there is none.
pub struct DescriptorLimit;

impl DescriptorLimit {
    /// As high as this process may set it.
    pub fn raise() -> Self {
        DescriptorLimit
    }

    /// So low that four more fit.
    pub fn leave_four() -> (Self, Vec<File>) {
        unreachable!("the tests that ask for it are left out")
    }

    /// As it was before.
    pub fn restore(self) {}
}
