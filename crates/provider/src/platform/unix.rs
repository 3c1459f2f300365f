//! Facts that all Unixes have in common.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{self, RecvFlags};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::base::address::Address;
use crate::base::error::{Error, ErrorKind};

/// The operating system's handle of a socket.
pub(crate) type RawHandle = RawFd;

/// Owner of a socket of the operating system.
pub type OwnedSocket = OwnedFd;

/// The socket's handle.
pub(crate) fn raw_handle(socket: &Socket) -> RawHandle {
    socket.as_raw_fd()
}

/// A socket as the back ends need it.
pub(crate) fn new_socket(domain: Domain, kind: Type, protocol: Option<Protocol>) -> Result<Socket, Error> {
    Ok(Socket::new(domain, kind, protocol)?)
}

/// True if a receive would not wait: bytes are there, the peer's end, or an error.
pub(crate) fn has_input(socket: &Socket) -> bool {
    loop {
        match net::recv(socket, &mut [0u8; 1][..], RecvFlags::PEEK.union(RecvFlags::DONTWAIT)) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return false,
            _ => return true,
        }
    }
}

/// True of sockets of IPv6, bound or not.
pub(crate) fn is_v6(socket: &Socket) -> bool {
    socket.local_addr().is_ok_and(|address| address.is_ipv6())
}

/// Something that takes one place in the table of descriptors.
pub(crate) fn reserve() -> Option<Socket> {
    Socket::new(Domain::IPV4, Type::DGRAM, None).ok()
}

/// Before a listener is bound: SO_REUSEADDR lets it, although old connections of that port linger, see socket(7).
pub(crate) fn share_listener_address(socket: &Socket, is_wanted: bool) -> Result<(), Error> {
    Ok(socket.set_reuse_address(is_wanted)?)
}

/// Before a datagram socket is bound: SO_REUSEADDR lets it, although another one has the address.
pub(crate) fn share_datagram_address(socket: &Socket, is_wanted: bool) -> Result<(), Error> {
    Ok(socket.set_reuse_address(is_wanted)?)
}

/// A name of the abstract space as `SockAddr::unix` wants it: behind a zero byte.
pub(crate) fn abstract_path(name: &[u8]) -> Result<PathBuf, Error> {
    use std::os::unix::ffi::OsStringExt;
    let bytes = [&[0], name].concat();
    Ok(std::ffi::OsString::from_vec(bytes).into())
}

/// Of an address that is not of the Internet.
pub(crate) fn local_name(address: &SockAddr) -> Option<Address> {
    if let Some(path) = address.as_pathname() {
        return Some(Address::Unix(path.to_owned()));
    }
    match address.as_abstract_namespace() {
        Some(name) => Some(Address::Abstract(name.to_owned())),
        None => address.is_unix().then_some(Address::Unnamed),
    }
}

/// True if the path names a socket.
pub(crate) fn is_socket_file(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

/// Name and release of the kernel, as uname(2) gives them.
pub(crate) fn kernel() -> String {
    let name = rustix::system::uname();
    format!("{} {}", name.sysname().to_string_lossy(), name.release().to_string_lossy())
}

/// What an errno means, see errno(3).
pub(crate) fn error_kind(code: i32) -> ErrorKind {
    match Errno::from_raw_os_error(code) {
        Errno::CANCELED => ErrorKind::Cancelled,
        Errno::NOBUFS | Errno::NOMEM => ErrorKind::OutOfMemory,
        Errno::MFILE => ErrorKind::DescriptorLimit,
        Errno::NFILE => ErrorKind::SystemDescriptorLimit,
        Errno::CONNREFUSED => ErrorKind::ConnectionRefused,
        Errno::CONNRESET => ErrorKind::ConnectionReset,
        Errno::CONNABORTED => ErrorKind::ConnectionAborted,
        Errno::MSGSIZE => ErrorKind::MessageTooLong,
        Errno::PIPE => ErrorKind::BrokenPipe,
        Errno::TIMEDOUT => ErrorKind::TimedOut,
        Errno::NOTCONN => ErrorKind::NotConnected,
        Errno::ADDRINUSE => ErrorKind::AddressInUse,
        Errno::ADDRNOTAVAIL => ErrorKind::AddressNotAvailable,
        Errno::NOENT | Errno::NOTDIR => ErrorKind::NotFound,
        Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::NETDOWN | Errno::HOSTDOWN => ErrorKind::Unreachable,
        Errno::ACCESS | Errno::PERM => ErrorKind::PermissionDenied,
        Errno::INVAL | Errno::OPNOTSUPP | Errno::NOTSOCK | Errno::DESTADDRREQ | Errno::ISCONN => {
            ErrorKind::InvalidInput
        }
        _ => ErrorKind::Os,
    }
}
