//! Facts about Linux alone.

use std::time::Duration;

use rustix::io::Errno;
use rustix::net::SendFlags;
use socket2::{Domain, Protocol, Socket, Type};

use super::MergeRefusal;
use super::option;
use super::raw_handle;
use crate::base::address::Address;
use crate::base::error::Error;

/// True of a socket that waits for connections.
pub(crate) fn is_listener(socket: &Socket) -> Result<bool, Error> {
    Ok(socket.is_listener()?)
}

/// True of sockets of IPv4 and IPv6.
pub(crate) fn is_internet(socket: &Socket) -> Result<bool, Error> {
    Ok(matches!(socket.domain()?, Domain::IPV4 | Domain::IPV6))
}

/// True if the datagram socket is one of UDP: others would send a merged message as it is.
pub(crate) fn is_udp(socket: &Socket) -> Result<bool, Error> {
    Ok(is_internet(socket)? && socket.protocol()? == Some(Protocol::UDP))
}

/// SO_REUSEPORT, see socket(7).
pub(crate) fn set_reuse_port(socket: &Socket) -> Result<(), Error> {
    Ok(socket.set_reuse_port(true)?)
}

/// A stream socket for paths and names.
pub(crate) fn local_stream_socket(_address: &Address) -> Result<Socket, Error> {
    Ok(Socket::new(Domain::UNIX, Type::STREAM, None)?)
}

/// Resets a TCP connection at once, with all that is queued in it, see connect(2) on AF_UNSPEC. Other sockets stay as they
/// are.
pub(crate) fn disconnect(socket: &Socket) {
    // An error means that there was no connection any more.
    let _ = rustix::net::connect_unspec(socket);
}

/// TCP_USER_TIMEOUT, see tcp(7).
pub(crate) fn set_user_timeout(socket: &Socket, after: Duration) -> Result<(), Error> {
    Ok(socket.set_tcp_user_timeout(Some(after))?)
}

/// Lets the port of a socket that is bound to an address alone be chosen by the connect, when the peer is known: connections
/// to several peers can share it then, and ports do not run out with the first 28,000. IP_BIND_ADDRESS_NO_PORT, see ip(7), for
/// IPv6 as well.
pub(crate) fn choose_port_late(socket: &Socket) {
    // Before 4.2 there is no such option, and the bind chooses.
    let _ = option::set_option(raw_handle(socket), libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1);
}

/// Of every send: it does not wait, and a peer that is gone is an error.
pub(crate) const SEND_FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// The sends' flags do it.
#[cfg(raon_kqueue_shim)]
pub(crate) fn raise_no_signal(_socket: &Socket) {}

/// UDP_GRO, see udp(7), if the kernel has it.
pub(crate) fn set_coalescing(socket: &Socket, is_wanted: bool) {
    // Without it datagrams come one by one.
    let _ = option::set_coalescing(raw_handle(socket), is_wanted);
}

/// What the errno of a message with UDP_SEGMENT says about it: see udp(7) and sendmsg(2). EIO: the route's device cannot
/// take it apart. EINVAL or EMSGSIZE: the route's MTU is below the length of a segment. Errors about earlier datagrams are
/// told once and must not be lost. Anything else may be about the message as a whole: a filter that looks at lengths, or no
/// memory for that much.
pub(crate) fn merge_refusal(code: i32) -> MergeRefusal {
    match Errno::from_raw_os_error(code) {
        Errno::AGAIN
        | Errno::CONNREFUSED
        | Errno::CONNRESET
        | Errno::HOSTDOWN
        | Errno::HOSTUNREACH
        | Errno::NETDOWN
        | Errno::NETUNREACH
        | Errno::PROTO
        | Errno::TIMEDOUT => MergeRefusal::None,
        Errno::IO | Errno::OPNOTSUPP | Errno::NOPROTOOPT => MergeRefusal::Always,
        Errno::INVAL | Errno::MSGSIZE => MergeRefusal::Length,
        _ => MergeRefusal::Once,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

    use super::*;
    use crate::socket::{AnyNetwork, AnySocket, ConnectOptions};

    #[test]
    fn a_port_is_chosen_when_the_peer_is_known() {
        for host in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            let listener = TcpListener::bind((host, 0)).unwrap();
            let address = Address::from(listener.local_addr().unwrap());
            let port_of = |socket: &AnySocket| socket.local_address().unwrap().ip().unwrap().port();
            let options = ConnectOptions { bind: Some(SocketAddr::new(host, 0)), ..ConnectOptions::default() };
            let socket = AnyNetwork::Os.connector(&address, &options).unwrap();
            assert_eq!(port_of(&socket), 0, "{host}: none is taken yet");
            socket.system().unwrap().connect(&address.to_system().unwrap()).unwrap();
            assert_ne!(port_of(&socket), 0);
        }
    }

    #[test]
    fn what_an_errno_says_about_merging() {
        let table = [
            (libc::EINVAL, MergeRefusal::Length),
            (libc::EMSGSIZE, MergeRefusal::Length),
            (libc::EIO, MergeRefusal::Always),
            (libc::EOPNOTSUPP, MergeRefusal::Always),
            (libc::EPERM, MergeRefusal::Once),
            (libc::EACCES, MergeRefusal::Once),
            (libc::ENOBUFS, MergeRefusal::Once),
            (libc::ENOMEM, MergeRefusal::Once),
            (libc::ECONNREFUSED, MergeRefusal::None),
            (libc::ENETUNREACH, MergeRefusal::None),
            (libc::EHOSTUNREACH, MergeRefusal::None),
            (libc::EAGAIN, MergeRefusal::None),
        ];
        for (code, refusal) in table {
            assert_eq!(merge_refusal(code), refusal, "{code}");
        }
    }
}
