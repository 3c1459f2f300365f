//! Sockets of the operating system.

use std::net::IpAddr;
use std::time::Duration;

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, TcpKeepalive, Type};

use super::{BindOptions, Class, ConnectOptions, ListenOptions};
use crate::base::address::Address;
use crate::base::error::{Error, ErrorKind};
use crate::platform;

/// Most that is asked of a queue of the system: it doubles the number, in an int.
const QUEUE_BYTES_MAX: u32 = 1 << 30;

/// A bound, listening socket.
pub(super) fn listener(address: &Address, options: &ListenOptions) -> Result<Socket, Error> {
    let socket = stream_socket(address)?;
    match address {
        Address::Ip(ip) => {
            platform::share_listener_address(&socket, options.reuse_address)?;
            if options.reuse_port {
                platform::set_reuse_port(&socket)?;
            }
            if ip.is_ipv6() {
                socket.set_only_v6(!options.dual_stack)?;
            }
            set_stream_options(&socket, options.nodelay, options.keepalive, options.user_timeout)?;
        }
        Address::Unix(_) if options.reuse_address => remove_if_dead(address),
        _ => {}
    }
    socket.bind(&address.to_system()?)?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    Ok(socket)
}

/// A socket ready to connect to the address.
pub(super) fn connector(address: &Address, options: &ConnectOptions) -> Result<Socket, Error> {
    let socket = stream_socket(address)?;
    if address.ip().is_some() {
        set_stream_options(&socket, options.nodelay, options.keepalive, options.user_timeout)?;
        if let Some(bind) = options.bind {
            if bind.port() == 0 {
                platform::choose_port_late(&socket);
            }
            socket.bind(&bind.into())?;
        }
    }
    Ok(socket)
}

/// A bound datagram socket, connected if the options name a peer.
pub(super) fn datagram(address: &Address, options: &BindOptions) -> Result<Socket, Error> {
    let ip = address.ip().ok_or(Error::new(ErrorKind::InvalidInput))?;
    let socket = platform::new_socket(Domain::for_address(ip), Type::DGRAM, Some(Protocol::UDP))?;
    platform::share_datagram_address(&socket, options.reuse_address)?;
    if options.reuse_port {
        platform::set_reuse_port(&socket)?;
    }
    if ip.is_ipv6() {
        socket.set_only_v6(!options.dual_stack)?;
    }
    if let Some(bytes) = options.receive_queue_bytes {
        socket.set_recv_buffer_size(bytes.min(QUEUE_BYTES_MAX) as usize)?;
    }
    if let Some(bytes) = options.send_queue_bytes {
        socket.set_send_buffer_size(bytes.min(QUEUE_BYTES_MAX) as usize)?;
    }
    socket.set_broadcast(options.broadcast)?;
    if options.coalesce {
        // Where the kernel cannot, datagrams come one by one.
        platform::set_coalescing(&socket, true);
    }
    socket.bind(&ip.into())?;
    if let Some(peer) = options.peer {
        socket.connect(&peer.into())?;
    }
    Ok(socket)
}

/// Purpose of the socket. Errors: `InvalidInput` for what no driver can use.
pub(super) fn class(socket: &Socket) -> Result<Class, Error> {
    match socket.r#type()? {
        Type::STREAM if platform::is_listener(socket)? => Ok(Class::Listener),
        Type::STREAM => Ok(Class::Stream),
        Type::DGRAM if platform::is_udp(socket)? => {
            platform::set_coalescing(socket, false);
            Ok(Class::Datagram)
        }
        _ => Err(Error::new(ErrorKind::InvalidInput)),
    }
}

/// Joins or leaves a multicast group.
pub(super) fn set_membership(socket: &Socket, group: IpAddr, interface: u32, joins: bool) -> Result<(), Error> {
    let by_index = InterfaceIndexOrAddress::Index(interface);
    let changed = match (group, joins) {
        (IpAddr::V4(group), true) => socket.join_multicast_v4_n(&group, &by_index),
        (IpAddr::V4(group), false) => socket.leave_multicast_v4_n(&group, &by_index),
        (IpAddr::V6(group), true) => socket.join_multicast_v6(&group, interface),
        (IpAddr::V6(group), false) => socket.leave_multicast_v6(&group, interface),
    };
    Ok(changed?)
}

/// Takes a connection that waits in this listener, if one does.
pub(super) fn accept_waiting(socket: &Socket) -> Option<Socket> {
    let accepted = Socket::set_nonblocking(socket, true).and_then(|()| socket.accept());
    accepted.ok().map(|(socket, _)| socket)
}

fn stream_socket(address: &Address) -> Result<Socket, Error> {
    match address {
        Address::Ip(ip) => platform::new_socket(Domain::for_address(*ip), Type::STREAM, Some(Protocol::TCP)),
        _ => platform::local_stream_socket(address),
    }
}

/// The name of a Unix listener stays in the file system when its process is gone. One at which nobody answers is removed.
fn remove_if_dead(address: &Address) {
    let (Address::Unix(path), Ok(system)) = (address, address.to_system()) else { return };
    let Ok(socket) = stream_socket(address) else { return };
    // A listener that is there and has no room would make us wait for it.
    if Socket::set_nonblocking(&socket, true).is_err() {
        return;
    }
    // Errors of any other kind leave the name there, and the bind says so.
    let is_dead = socket.connect(&system).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
    if is_dead && platform::is_socket_file(path) {
        let _ = std::fs::remove_file(path);
    }
}

fn set_stream_options(
    socket: &Socket,
    nodelay: bool,
    keepalive: Option<Duration>,
    user_timeout: Option<Duration>,
) -> Result<(), Error> {
    if nodelay {
        socket.set_tcp_nodelay(true)?;
    }
    if let Some(after) = keepalive {
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(rounded_up(after, Duration::from_secs(1))))?;
    }
    if let Some(after) = user_timeout {
        platform::set_user_timeout(socket, rounded_up(after, Duration::from_millis(1)))?;
    }
    Ok(())
}

/// The time in whole units. Systems round it down, and zero switches the option off.
fn rounded_up(time: Duration, unit: Duration) -> Duration {
    let units = time.as_nanos().div_ceil(unit.as_nanos());
    u32::try_from(units).map_or(Duration::MAX, |units| unit * units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_rounded_to_zero() {
        let (second, millisecond) = (Duration::from_secs(1), Duration::from_millis(1));
        assert_eq!(rounded_up(Duration::from_nanos(1), second), second);
        assert_eq!(rounded_up(Duration::from_millis(1001), second), 2 * second);
        assert_eq!(rounded_up(ListenOptions::KEEPALIVE_MAX, second), ListenOptions::KEEPALIVE_MAX);
        assert_eq!(rounded_up(ListenOptions::USER_TIMEOUT_MAX, millisecond), ListenOptions::USER_TIMEOUT_MAX);
    }
}
