//! Facts about Windows (10 and newer).
#![allow(unsafe_code)]

use std::os::windows::io::{AsRawSocket, RawSocket};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use windows_sys::Wdk::System::SystemServices::RtlGetVersion;
use windows_sys::Win32::Foundation as win32;
use windows_sys::Win32::Networking::WinSock as winsock;
use windows_sys::Win32::System::SystemInformation::OSVERSIONINFOW;

use super::MergeRefusal;
use crate::base::address::Address;
use crate::base::error::{Error, ErrorKind, Feature};

/// The operating system's handle of a socket.
pub(crate) type RawHandle = RawSocket;

/// Owner of a socket of the operating system.
pub type OwnedSocket = std::os::windows::io::OwnedSocket;

/// The socket's handle.
pub(crate) fn raw_handle(socket: &Socket) -> RawHandle {
    socket.as_raw_socket()
}

/// A socket as the back ends need it: overlapped, for registered I/O too, and not inherited by child processes. All three
/// can be asked for only here: `accept` and `dup` do not give them later.
pub(crate) fn new_socket(domain: Domain, kind: Type, protocol: Option<Protocol>) -> Result<Socket, Error> {
    let socket = Socket::new(domain, kind.registered_io(), protocol)?;
    if let Some(made) = WATCHER.get() {
        made(raw_handle(&socket) as usize, winsock::WSA_FLAG_OVERLAPPED | winsock::WSA_FLAG_REGISTERED_IO);
    }
    Ok(socket)
}

/// Whom every new socket is told, with its flags: a test's double of registered I/O.
static WATCHER: OnceLock<fn(usize, u32)> = OnceLock::new();

/// From now on every new socket is told to `made`; who comes first stays.
pub(crate) fn watch_sockets(made: fn(usize, u32)) {
    let _ = WATCHER.set(made);
}

/// True if bytes are there. The peer's end is not seen by it.
pub(crate) fn has_input(socket: &Socket) -> bool {
    let mut bytes = 0;
    // SAFETY: Win32: ioctlsocket — the handle is that of a socket that is borrowed, and the count is a local one.
    let asked = unsafe { winsock::ioctlsocket(raw_handle(socket) as usize, winsock::FIONREAD, &raw mut bytes) };
    asked == 0 && bytes > 0
}

/// There is no table of descriptors that could be full, so nothing has to be held back for that.
pub(crate) fn reserve() -> Option<Socket> {
    None
}

/// Before a listener is bound. A port with old connections that linger can be bound anyway; what SO_REUSEADDR adds on this
/// system is that others may bind the same port and take its connections. SO_EXCLUSIVEADDRUSE forbids just that.
pub(crate) fn share_listener_address(socket: &Socket, _is_wanted: bool) -> Result<(), Error> {
    set_option(socket, winsock::SOL_SOCKET, winsock::SO_EXCLUSIVEADDRUSE, 1)
}

/// Before a datagram socket is bound: shared as multicast receivers want it, else nobody else's.
pub(crate) fn share_datagram_address(socket: &Socket, is_wanted: bool) -> Result<(), Error> {
    let option = if is_wanted { winsock::SO_REUSEADDR } else { winsock::SO_EXCLUSIVEADDRUSE };
    set_option(socket, winsock::SOL_SOCKET, option, 1)
}

/// No option of Windows spreads connections over listeners that share a port.
pub(crate) fn set_reuse_port(_socket: &Socket) -> Result<(), Error> {
    Err(Error::new(ErrorKind::NotSupported).with_feature(Feature::ReusePort))
}

/// A name of the abstract space as a path behind a zero byte: what a simulated network goes by.
pub(crate) fn abstract_path(name: &[u8]) -> Result<PathBuf, Error> {
    let name = std::str::from_utf8(name).map_err(|_| Error::new(ErrorKind::InvalidInput))?;
    Ok(format!("\0{name}").into())
}

/// Windows has Unix sockets, but they are not for AcceptEx and ConnectEx.
pub(crate) fn local_stream_socket(_address: &Address) -> Result<Socket, Error> {
    Err(Error::new(ErrorKind::NotSupported).with_feature(Feature::UnixSockets))
}

/// Of an address that is not of the Internet.
pub(crate) fn local_name(_address: &SockAddr) -> Option<Address> {
    None
}

/// True if the path names a socket of ours: there are none.
pub(crate) fn is_socket_file(_path: &Path) -> bool {
    false
}

/// True of a socket that waits for connections.
pub(crate) fn is_listener(socket: &Socket) -> Result<bool, Error> {
    let (mut value, mut bytes) = (0i32, size_of::<i32>() as i32);
    // SAFETY: getsockopt(2) — the value is an int on this stack, and its length is told.
    let result = unsafe {
        let handle = raw_handle(socket) as winsock::SOCKET;
        let value = (&raw mut value).cast();
        winsock::getsockopt(handle, winsock::SOL_SOCKET, winsock::SO_ACCEPTCONN, value, &raw mut bytes)
    };
    // The option may be as short as a byte.
    if result == 0 { Ok(value & 0xff != 0) } else { Err(std::io::Error::last_os_error().into()) }
}

/// True if the datagram socket is one of UDP. Before it is bound it has no address that could tell.
pub(crate) fn is_udp(socket: &Socket) -> Result<bool, Error> {
    Ok(socket.protocol()? == Some(Protocol::UDP))
}

/// True of sockets of IPv4 and IPv6.
pub(crate) fn is_internet(socket: &Socket) -> Result<bool, Error> {
    let protocol = socket.protocol()?;
    Ok(matches!(protocol, Some(Protocol::UDP | Protocol::TCP)))
}

/// True of sockets of IPv6, bound or not: one that is not bound has no address that could tell.
pub(crate) fn is_v6(socket: &Socket) -> bool {
    let (mut info, mut bytes) = (winsock::WSAPROTOCOL_INFOW::default(), size_of::<winsock::WSAPROTOCOL_INFOW>() as i32);
    // SAFETY: getsockopt(2) — writes a structure of that length, on this stack.
    let result = unsafe {
        let handle = raw_handle(socket) as winsock::SOCKET;
        let value = (&raw mut info).cast();
        winsock::getsockopt(handle, winsock::SOL_SOCKET, winsock::SO_PROTOCOL_INFOW, value, &raw mut bytes)
    };
    result == 0 && info.iAddressFamily == i32::from(winsock::AF_INET6)
}

/// Makes the close that follows a reset. The caller's memory is let go of by CancelIoEx, so nothing has to be reset before.
pub(crate) fn disconnect(socket: &Socket) {
    // Not fatal: the connection then ends in the ordinary way.
    let _ = socket.set_linger(Some(Duration::ZERO));
}

/// TCP_MAXRT is what comes closest to TCP_USER_TIMEOUT: how long what is unacknowledged is sent again, in whole seconds,
/// here rounded up.
pub(crate) fn set_user_timeout(socket: &Socket, after: Duration) -> Result<(), Error> {
    let seconds = after.as_millis().div_ceil(1000).clamp(1, i32::MAX as u128) as i32;
    let refused = |error: Error| error.with_feature(Feature::UserTimeout);
    set_option(socket, winsock::IPPROTO_TCP, winsock::TCP_MAXRT, seconds).map_err(refused)
}

/// The bind chooses the port: no option leaves it to the connect.
pub(crate) fn choose_port_late(_socket: &Socket) {}

/// Datagrams always come one by one.
pub(crate) fn set_coalescing(_socket: &Socket, _is_wanted: bool) {}

/// Nothing is merged, so nothing fails for it.
pub(crate) fn merge_refusal(_code: i32) -> MergeRefusal {
    MergeRefusal::None
}

/// Name, version and build of the system: what the manifest of a program says does not change this answer.
pub(crate) fn kernel() -> String {
    let bytes = size_of::<OSVERSIONINFOW>() as u32;
    let mut version = OSVERSIONINFOW { dwOSVersionInfoSize: bytes, ..Default::default() };
    // SAFETY: Win32: RtlGetVersion — it fills a structure on this stack whose size is told.
    unsafe { RtlGetVersion(&raw mut version) };
    format!("Windows {}.{}.{}", version.dwMajorVersion, version.dwMinorVersion, version.dwBuildNumber)
}

/// What a code means: sockets answer with those of Winsock, completions with those of Win32.
pub(crate) fn error_kind(code: i32) -> ErrorKind {
    let is_it = |(_, winsock, win32): &&Meaning| winsock.contains(&code) || win32.contains(&(code as u32));
    MEANINGS.iter().find(is_it).map_or(ErrorKind::Os, |(kind, ..)| *kind)
}

/// A kind, with its codes in Winsock and in Win32.
type Meaning = (ErrorKind, &'static [i32], &'static [u32]);

/// Every code that has a kind of its own, once.
const MEANINGS: &[Meaning] = &[
    (
        ErrorKind::Cancelled,
        &[winsock::WSAECANCELLED, winsock::WSA_E_CANCELLED],
        &[win32::ERROR_OPERATION_ABORTED, win32::ERROR_REQUEST_ABORTED, win32::ERROR_CANCELLED],
    ),
    (
        ErrorKind::OutOfMemory,
        &[winsock::WSAENOBUFS],
        &[
            win32::ERROR_NOT_ENOUGH_MEMORY,
            win32::ERROR_OUTOFMEMORY,
            win32::ERROR_NO_SYSTEM_RESOURCES,
            win32::ERROR_WORKING_SET_QUOTA,
            win32::ERROR_PAGEFILE_QUOTA,
            win32::ERROR_COMMITMENT_LIMIT,
            win32::ERROR_NOT_ENOUGH_QUOTA,
        ],
    ),
    (ErrorKind::DescriptorLimit, &[winsock::WSAEMFILE, winsock::WSAEPROCLIM], &[win32::ERROR_TOO_MANY_OPEN_FILES]),
    // A datagram that nobody took is reported as the reset of a connection by Winsock and in its own words by Win32.
    (
        ErrorKind::ConnectionRefused,
        &[winsock::WSAECONNREFUSED],
        &[win32::ERROR_CONNECTION_REFUSED, win32::ERROR_PORT_UNREACHABLE],
    ),
    (
        ErrorKind::ConnectionReset,
        &[winsock::WSAECONNRESET, winsock::WSAENETRESET],
        &[win32::ERROR_NETNAME_DELETED, win32::ERROR_UNEXP_NET_ERR],
    ),
    (
        ErrorKind::ConnectionAborted,
        &[winsock::WSAECONNABORTED],
        &[win32::ERROR_CONNECTION_ABORTED, win32::ERROR_CONNECTION_INVALID],
    ),
    (ErrorKind::MessageTooLong, &[winsock::WSAEMSGSIZE], &[win32::ERROR_MORE_DATA]),
    (
        ErrorKind::BrokenPipe,
        &[winsock::WSAESHUTDOWN, winsock::WSAEDISCON],
        &[
            win32::ERROR_BROKEN_PIPE,
            win32::ERROR_NO_DATA,
            win32::ERROR_PIPE_NOT_CONNECTED,
            win32::ERROR_GRACEFUL_DISCONNECT,
        ],
    ),
    (ErrorKind::TimedOut, &[winsock::WSAETIMEDOUT], &[win32::ERROR_SEM_TIMEOUT]),
    (ErrorKind::NotConnected, &[winsock::WSAENOTCONN], &[win32::ERROR_NOT_CONNECTED]),
    (ErrorKind::AddressInUse, &[winsock::WSAEADDRINUSE], &[win32::ERROR_ADDRESS_ALREADY_ASSOCIATED]),
    (ErrorKind::AddressNotAvailable, &[winsock::WSAEADDRNOTAVAIL], &[]),
    (ErrorKind::NotFound, &[], &[win32::ERROR_FILE_NOT_FOUND, win32::ERROR_PATH_NOT_FOUND]),
    (
        ErrorKind::Unreachable,
        &[winsock::WSAENETUNREACH, winsock::WSAEHOSTUNREACH, winsock::WSAENETDOWN, winsock::WSAEHOSTDOWN],
        &[
            win32::ERROR_NETWORK_UNREACHABLE,
            win32::ERROR_HOST_UNREACHABLE,
            win32::ERROR_PROTOCOL_UNREACHABLE,
            win32::ERROR_HOST_DOWN,
            win32::ERROR_BAD_NETPATH,
        ],
    ),
    (ErrorKind::PermissionDenied, &[winsock::WSAEACCES], &[win32::ERROR_ACCESS_DENIED]),
    (
        ErrorKind::NotSupported,
        &[winsock::WSAENOPROTOOPT, winsock::WSAEAFNOSUPPORT, winsock::WSAEPROTONOSUPPORT],
        &[win32::ERROR_NOT_SUPPORTED],
    ),
    (
        ErrorKind::InvalidInput,
        &[
            winsock::WSAEINVAL,
            winsock::WSAEOPNOTSUPP,
            winsock::WSAENOTSOCK,
            winsock::WSAEDESTADDRREQ,
            winsock::WSAEISCONN,
            winsock::WSAEFAULT,
        ],
        &[win32::ERROR_INVALID_PARAMETER, win32::ERROR_INVALID_HANDLE],
    ),
];

fn set_option(socket: &Socket, level: i32, option: i32, value: i32) -> Result<(), Error> {
    let bytes = size_of::<i32>() as i32;
    // SAFETY: setsockopt(2) — the value is an int on this stack, and its length is told.
    let result = unsafe {
        winsock::setsockopt(raw_handle(socket) as winsock::SOCKET, level, option, (&raw const value).cast(), bytes)
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().into()) }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

    use super::*;
    use crate::socket::{AnyNetwork, BindOptions, ListenOptions};

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn no_code_has_two_kinds() {
        let codes = |(_, winsock, win32): &Meaning| {
            winsock.iter().copied().chain(win32.iter().map(|code| *code as i32)).collect::<Vec<_>>()
        };
        let mut all: Vec<i32> = MEANINGS.iter().flat_map(codes).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn both_families_mean_the_same() {
        for (winsock, win32, kind) in [
            (10061, 1225, ErrorKind::ConnectionRefused),
            (10054, 64, ErrorKind::ConnectionReset),
            (10060, 121, ErrorKind::TimedOut),
            (10103, 995, ErrorKind::Cancelled),
            (10040, 234, ErrorKind::MessageTooLong),
        ] {
            assert_eq!((error_kind(winsock), error_kind(win32)), (kind, kind));
        }
        assert_eq!(error_kind(0x7fff_ffff), ErrorKind::Os);
    }

    #[test]
    fn nobody_can_bind_a_listeners_port() {
        let listener = AnyNetwork::Os.listener(&ANY.into(), &ListenOptions::default()).unwrap();
        let listener = listener.system().unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let thief = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        thief.set_reuse_address(true).unwrap();
        assert!(thief.bind(&address.into()).is_err());
        assert!(is_listener(listener).unwrap() && !is_listener(&thief).unwrap());
    }

    #[test]
    fn sockets_of_others_are_told_apart() {
        let listener = Socket::from(TcpListener::bind(ANY).unwrap());
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let stream = Socket::from(TcpStream::connect(address).unwrap());
        let datagram = Socket::from(UdpSocket::bind(ANY).unwrap());
        assert!(is_listener(&listener).unwrap() && !is_listener(&stream).unwrap());
        assert!(is_udp(&datagram).unwrap() && !is_udp(&stream).unwrap());
        assert!(is_internet(&datagram).unwrap() && is_internet(&stream).unwrap());
    }

    #[test]
    fn what_this_system_lacks_is_named() {
        let named = |error: Error| (error.kind(), error.feature());
        let path: Address = "unix:C:/game.sock".parse().unwrap();
        let no_paths = (ErrorKind::NotSupported, Some(Feature::UnixSockets));
        let options = ListenOptions::default();
        assert_eq!(AnyNetwork::Os.listener(&path, &options).map_err(named).err(), Some(no_paths));
        let shared = BindOptions { reuse_port: true, ..BindOptions::default() };
        let no_sharing = (ErrorKind::NotSupported, Some(Feature::ReusePort));
        assert_eq!(AnyNetwork::Os.datagram(&ANY.into(), &shared).map_err(named).err(), Some(no_sharing));
        assert!(kernel().starts_with("Windows 1"), "{}", kernel());
    }
}
