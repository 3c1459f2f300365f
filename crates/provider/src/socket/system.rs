//! Sockets of the operating system.

use std::net::{IpAddr, Shutdown};
use std::time::Duration;

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, TcpKeepalive, Type};

use super::{AnySocket, BindOptions, Class, ConnectOptions, Endpoint, ListenOptions};
use crate::base::address::Address;
use crate::base::error::{Error, ErrorKind};
use crate::platform::{self, RawHandle};

/// Most that is asked of a queue of the system: it doubles the number, in an int.
const QUEUE_BYTES_MAX: u32 = 1 << 30;

#[allow(private_interfaces, reason = "as the trait")]
impl Endpoint for Socket {
    type Network = ();

    fn listener((): &(), address: &Address, options: &ListenOptions) -> Result<Self, Error> {
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

    fn connector((): &(), address: &Address, options: &ConnectOptions) -> Result<Self, Error> {
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

    fn datagram((): &(), address: &Address, options: &BindOptions) -> Result<Self, Error> {
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

    fn reserve((): &()) -> Option<Self> {
        platform::reserve()
    }

    fn of_any((): &(), socket: AnySocket) -> Result<Self, AnySocket> {
        match socket {
            AnySocket::Os(socket) => Ok(socket),
            other => Err(other),
        }
    }

    fn of_any_ref(socket: &AnySocket) -> Option<&Self> {
        if let AnySocket::Os(socket) = socket { Some(socket) } else { None }
    }

    fn into_any(self) -> AnySocket {
        AnySocket::Os(self)
    }

    fn class(&self) -> Result<Class, Error> {
        match self.r#type()? {
            Type::STREAM if platform::is_listener(self)? => Ok(Class::Listener),
            Type::STREAM => Ok(Class::Stream),
            Type::DGRAM if platform::is_udp(self)? => {
                platform::set_coalescing(self, false);
                Ok(Class::Datagram)
            }
            _ => Err(Error::new(ErrorKind::InvalidInput)),
        }
    }

    fn is_v6(&self) -> bool {
        platform::is_v6(self)
    }

    fn handle(&self) -> RawHandle {
        platform::raw_handle(self)
    }

    fn set_nonblocking(&self, nonblocking: bool) -> Result<(), Error> {
        Ok(Socket::set_nonblocking(self, nonblocking)?)
    }

    fn local_address(&self) -> Result<Address, Error> {
        Address::of_system(&self.local_addr()?)
    }

    fn peer_address(&self) -> Result<Address, Error> {
        Address::of_system(&self.peer_addr()?)
    }

    fn has_peer(&self) -> bool {
        self.peer_addr().is_ok()
    }

    fn has_input(&self) -> bool {
        platform::has_input(self)
    }

    fn shut_write(&self) -> Result<(), Error> {
        Ok(self.shutdown(Shutdown::Write)?)
    }

    fn reset(&self) {
        platform::disconnect(self);
    }

    fn reset_on_close(&self) {
        // Not fatal: the connection then ends in the ordinary way.
        let _ = self.set_linger(Some(Duration::ZERO));
    }

    fn set_membership(&self, group: IpAddr, interface: u32, joins: bool) -> Result<(), Error> {
        let by_index = InterfaceIndexOrAddress::Index(interface);
        let changed = match (group, joins) {
            (IpAddr::V4(group), true) => self.join_multicast_v4_n(&group, &by_index),
            (IpAddr::V4(group), false) => self.leave_multicast_v4_n(&group, &by_index),
            (IpAddr::V6(group), true) => self.join_multicast_v6(&group, interface),
            (IpAddr::V6(group), false) => self.leave_multicast_v6(&group, interface),
        };
        Ok(changed?)
    }

    fn try_clone(&self) -> Result<Self, Error> {
        Ok(Socket::try_clone(self)?)
    }

    fn accept_waiting(&self) -> Option<Self> {
        let accepted = Socket::set_nonblocking(self, true).and_then(|()| self.accept());
        accepted.ok().map(|(socket, _)| socket)
    }
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
