//! Sockets as a driver needs them, those that belong to no driver yet, and the options they are made with.

use std::fmt;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::time::Duration;

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, TcpKeepalive, Type};

use crate::address::Address;
use crate::backend::{self, RawHandle, SimNetwork, SimSocket};
use crate::error::{Error, ErrorKind};

/// What a socket is there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// A connection.
    Stream,
    /// It waits for connections.
    Listener,
    /// Datagrams.
    Datagram,
}

/// A socket of any make.
pub enum AnySocket {
    /// Of the operating system.
    Os(Socket),
    /// Of a simulated network.
    Sim(SimSocket),
}

/// Where sockets of any make are made.
#[derive(Clone)]
pub enum AnyNetwork {
    /// In the operating system.
    Os,
    /// In a simulated network.
    Sim(SimNetwork),
}

impl From<&()> for AnyNetwork {
    fn from((): &()) -> Self {
        AnyNetwork::Os
    }
}

impl From<&SimNetwork> for AnyNetwork {
    fn from(network: &SimNetwork) -> Self {
        AnyNetwork::Sim(network.clone())
    }
}

macro_rules! either {
    ($any:expr, $socket:ident => $body:expr) => {
        match $any {
            AnySocket::Os($socket) => $body,
            AnySocket::Sim($socket) => $body,
        }
    };
}

/// A socket as the common part needs it, whatever it is made of.
#[allow(private_interfaces, reason = "written by the back ends of this crate only")]
pub trait Endpoint: Sized {
    /// Where such sockets are made; nothing for the operating system, which is everywhere.
    type Network;

    /// A bound, listening socket.
    fn listener(network: &Self::Network, address: &Address, options: &ListenOptions) -> Result<Self, Error>;
    /// A socket ready to connect to that address.
    fn connector(network: &Self::Network, address: &Address, options: &ConnectOptions) -> Result<Self, Error>;
    /// A bound datagram socket, connected if the options name a peer.
    fn datagram(network: &Self::Network, address: &Address, options: &BindOptions) -> Result<Self, Error>;
    /// Something that takes one place in the table of descriptors, or `None` if there is none.
    fn reserve(network: &Self::Network) -> Option<Self>;

    /// Of an unattached socket, if it is of this kind and network.
    fn of_any(network: &Self::Network, socket: AnySocket) -> Result<Self, AnySocket>;
    /// Of a socket of any make, if it is of this kind.
    fn of_any_ref(socket: &AnySocket) -> Option<&Self>;
    /// Unattached again.
    fn into_any(self) -> AnySocket;
    /// What it is there for. Errors: `InvalidInput` for what no driver can use.
    fn class(&self) -> Result<Class, Error>;
    /// Its number in requests.
    fn handle(&self) -> RawHandle;
    /// Whether its system calls wait.
    fn set_nonblocking(&self, nonblocking: bool) -> Result<(), Error>;
    /// The address of this end.
    fn local_address(&self) -> Result<Address, Error>;
    /// The address of the other end.
    fn peer_address(&self) -> Result<Address, Error>;
    /// False if there is no peer, or none any more.
    fn has_peer(&self) -> bool;
    /// Ends the write side.
    fn shut_write(&self) -> Result<(), Error>;
    /// Resets a connection now, with all that is queued in it.
    fn reset(&self);
    /// Makes the close to come a reset.
    fn reset_on_close(&self);
    /// Joins or leaves a multicast group on the interface of that index, 0 for the system's choice.
    fn set_membership(&self, group: IpAddr, interface: u32, joins: bool) -> Result<(), Error>;
    /// Takes one waiting connection and closes it; the listener is left in the given mode. True if there was one.
    fn shed(&self, nonblocking: bool) -> bool;
}

/// Of the operating system.
#[allow(private_interfaces, reason = "as the trait")]
impl Endpoint for Socket {
    type Network = ();

    fn listener((): &(), address: &Address, options: &ListenOptions) -> Result<Self, Error> {
        let socket = stream_socket(address)?;
        match address {
            Address::Ip(ip) => {
                socket.set_reuse_address(options.reuse_address)?;
                if options.reuse_port {
                    backend::set_reuse_port(&socket)?;
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
                socket.bind(&bind.into())?;
            }
        }
        Ok(socket)
    }

    fn datagram((): &(), address: &Address, options: &BindOptions) -> Result<Self, Error> {
        let ip = address.ip().ok_or(Error::new(ErrorKind::InvalidInput))?;
        let socket = Socket::new(Domain::for_address(ip), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_reuse_address(options.reuse_address)?;
        if options.reuse_port {
            backend::set_reuse_port(&socket)?;
        }
        if ip.is_ipv6() {
            socket.set_only_v6(!options.dual_stack)?;
        }
        if let Some(bytes) = options.receive_queue_bytes {
            socket.set_recv_buffer_size(bytes as usize)?;
        }
        if let Some(bytes) = options.send_queue_bytes {
            socket.set_send_buffer_size(bytes as usize)?;
        }
        socket.set_broadcast(options.broadcast)?;
        if options.coalesce {
            // Where the kernel cannot, datagrams come one by one.
            backend::set_coalescing(&socket, true);
        }
        socket.bind(&ip.into())?;
        if let Some(peer) = options.peer {
            socket.connect(&peer.into())?;
        }
        Ok(socket)
    }

    fn reserve((): &()) -> Option<Self> {
        Socket::new(Domain::IPV4, Type::DGRAM, None).ok()
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
            Type::STREAM if self.is_listener()? => Ok(Class::Listener),
            Type::STREAM => Ok(Class::Stream),
            // Others than UDP would send a merged message as it is.
            Type::DGRAM if is_internet(self)? && self.protocol()? == Some(Protocol::UDP) => {
                backend::set_coalescing(self, false);
                Ok(Class::Datagram)
            }
            _ => Err(Error::new(ErrorKind::InvalidInput)),
        }
    }

    fn handle(&self) -> RawHandle {
        backend::raw_handle(self)
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

    fn shut_write(&self) -> Result<(), Error> {
        Ok(self.shutdown(Shutdown::Write)?)
    }

    fn reset(&self) {
        backend::disconnect(self);
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

    fn shed(&self, nonblocking: bool) -> bool {
        let was_there = Socket::set_nonblocking(self, true).is_ok() && self.accept().is_ok();
        // A kernel that had to block on it ends the request for real: give the listener back as it was.
        let _ = Socket::set_nonblocking(self, nonblocking);
        was_there
    }
}

/// Of either make; which one, its network says.
#[allow(private_interfaces, reason = "as the trait")]
impl Endpoint for AnySocket {
    type Network = AnyNetwork;

    fn listener(network: &AnyNetwork, address: &Address, options: &ListenOptions) -> Result<Self, Error> {
        match network {
            AnyNetwork::Os => Socket::listener(&(), address, options).map(AnySocket::Os),
            AnyNetwork::Sim(network) => SimSocket::listener(network, address, options).map(AnySocket::Sim),
        }
    }

    fn connector(network: &AnyNetwork, address: &Address, options: &ConnectOptions) -> Result<Self, Error> {
        match network {
            AnyNetwork::Os => Socket::connector(&(), address, options).map(AnySocket::Os),
            AnyNetwork::Sim(network) => SimSocket::connector(network, address, options).map(AnySocket::Sim),
        }
    }

    fn datagram(network: &AnyNetwork, address: &Address, options: &BindOptions) -> Result<Self, Error> {
        match network {
            AnyNetwork::Os => Socket::datagram(&(), address, options).map(AnySocket::Os),
            AnyNetwork::Sim(network) => SimSocket::datagram(network, address, options).map(AnySocket::Sim),
        }
    }

    fn reserve(network: &AnyNetwork) -> Option<Self> {
        match network {
            AnyNetwork::Os => Socket::reserve(&()).map(AnySocket::Os),
            AnyNetwork::Sim(network) => SimSocket::reserve(network).map(AnySocket::Sim),
        }
    }

    fn of_any(network: &AnyNetwork, socket: AnySocket) -> Result<Self, AnySocket> {
        match network {
            AnyNetwork::Os => Socket::of_any(&(), socket).map(AnySocket::Os),
            AnyNetwork::Sim(network) => SimSocket::of_any(network, socket).map(AnySocket::Sim),
        }
    }

    fn of_any_ref(socket: &AnySocket) -> Option<&Self> {
        Some(socket)
    }

    fn into_any(self) -> AnySocket {
        self
    }

    fn class(&self) -> Result<Class, Error> {
        either!(self, socket => socket.class())
    }

    fn handle(&self) -> RawHandle {
        either!(self, socket => socket.handle())
    }

    fn set_nonblocking(&self, nonblocking: bool) -> Result<(), Error> {
        either!(self, socket => Endpoint::set_nonblocking(socket, nonblocking))
    }

    fn local_address(&self) -> Result<Address, Error> {
        either!(self, socket => socket.local_address())
    }

    fn peer_address(&self) -> Result<Address, Error> {
        either!(self, socket => socket.peer_address())
    }

    fn has_peer(&self) -> bool {
        either!(self, socket => socket.has_peer())
    }

    fn shut_write(&self) -> Result<(), Error> {
        either!(self, socket => socket.shut_write())
    }

    fn reset(&self) {
        either!(self, socket => socket.reset());
    }

    fn reset_on_close(&self) {
        either!(self, socket => socket.reset_on_close());
    }

    fn set_membership(&self, group: IpAddr, interface: u32, joins: bool) -> Result<(), Error> {
        either!(self, socket => socket.set_membership(group, interface, joins))
    }

    fn shed(&self, nonblocking: bool) -> bool {
        either!(self, socket => socket.shed(nonblocking))
    }
}

fn is_internet(socket: &Socket) -> Result<bool, Error> {
    Ok(matches!(socket.domain()?, Domain::IPV4 | Domain::IPV6))
}

fn stream_socket(address: &Address) -> Result<Socket, Error> {
    Ok(match address {
        Address::Ip(ip) => Socket::new(Domain::for_address(*ip), Type::STREAM, Some(Protocol::TCP))?,
        _ => Socket::new(Domain::UNIX, Type::STREAM, None)?,
    })
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
    if is_dead && backend::is_socket_file(path) {
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
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(after))?;
    }
    if let Some(after) = user_timeout {
        backend::set_user_timeout(socket, after)?;
    }
    Ok(())
}

/// A socket that is attached to no driver: goes to any thread, can be adopted by any driver, closes on drop.
///
/// An accept stream yields them; `From` makes one of any `socket2::Socket`, `TcpStream`, `UnixStream`, listener or `OwnedFd`.
//= THREAD-1
pub struct AcceptedSocket {
    pub(crate) socket: AnySocket,
    /// What is known of its blocking mode; `None`: nothing.
    pub(crate) nonblocking: Option<bool>,
    /// True if it came out of an accept, so that nothing about its kind needs to be asked.
    pub(crate) is_fresh: bool,
}

impl AcceptedSocket {
    pub(crate) fn fresh(socket: AnySocket, nonblocking: bool) -> Self {
        AcceptedSocket { socket, nonblocking: Some(nonblocking), is_fresh: true }
    }

    /// The peer's address; asked from the system when it is called, not before.
    pub fn peer_address(&self) -> Result<Address, Error> {
        self.socket.peer_address()
    }

    /// This end's address.
    pub fn local_address(&self) -> Result<Address, Error> {
        self.socket.local_address()
    }

    /// The operating system's socket itself, for options that Raon does not know. A simulated one comes back.
    pub fn into_inner(self) -> Result<Socket, Self> {
        match self.socket {
            AnySocket::Os(socket) => Ok(socket),
            socket => Err(AcceptedSocket { socket, ..self }),
        }
    }
}

impl<S: Into<Socket>> From<S> for AcceptedSocket {
    fn from(socket: S) -> Self {
        AcceptedSocket { socket: AnySocket::Os(socket.into()), nonblocking: None, is_fresh: false }
    }
}

impl fmt::Debug for AcceptedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AcceptedSocket({:?})", self.local_address().ok())
    }
}

/// Options of a listener; its connections inherit them. On Unix sockets those of TCP mean nothing.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// Connections that wait to be accepted; the system caps it (net.core.somaxconn).
    pub backlog: u32,
    /// Bind although old connections of that port linger (SO_REUSEADDR), or a Unix path of which the listener is gone.
    pub reuse_address: bool,
    /// Several listeners share the port and the system spreads connections over them (SO_REUSEPORT).
    pub reuse_port: bool,
    /// Send small messages at once (TCP_NODELAY).
    pub nodelay: bool,
    /// Probe silent peers after this time.
    pub keepalive: Option<Duration>,
    /// Give up on a peer that acknowledges nothing for this time (TCP_USER_TIMEOUT).
    pub user_timeout: Option<Duration>,
    /// An IPv6 listener on the unspecified address takes IPv4 connections too.
    pub dual_stack: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        ListenOptions {
            backlog: 4096,
            reuse_address: true,
            reuse_port: false,
            nodelay: true,
            keepalive: None,
            user_timeout: None,
            dual_stack: true,
        }
    }
}

/// Options of an outgoing connection. On Unix sockets they mean nothing.
#[derive(Clone, Copy, Debug)]
pub struct ConnectOptions {
    /// The local address to use.
    pub bind: Option<SocketAddr>,
    /// Send small messages at once (TCP_NODELAY).
    pub nodelay: bool,
    /// Probe a silent peer after this time.
    pub keepalive: Option<Duration>,
    /// Give up on a peer that acknowledges nothing for this time (TCP_USER_TIMEOUT).
    pub user_timeout: Option<Duration>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        ConnectOptions { bind: None, nodelay: true, keepalive: None, user_timeout: None }
    }
}

/// Options of a datagram socket.
#[derive(Clone, Copy, Debug)]
pub struct BindOptions {
    /// The one peer to exchange datagrams with; sends then need no address.
    pub peer: Option<SocketAddr>,
    /// The longest datagram that is to be received, in bytes; longer ones are reported as `Truncated`. Above the size of a
    /// receive buffer less 128 bytes the socket takes bulk buffers.
    pub datagram_bytes_max: u32,
    /// Let the system hand over datagrams of one sender and one length together (UDP_GRO, where the kernel has it): far
    /// fewer receives for the same datagrams, which are still reported one by one. The socket takes bulk buffers then, which
    /// must have 64 KiB at least, and datagrams that came together lie in one of them, which is free again when the last
    /// of them is dropped: keep none for long.
    pub coalesce: bool,
    /// Bind although another socket has the address (SO_REUSEADDR), as multicast receivers do.
    pub reuse_address: bool,
    /// Several sockets share the port and the system spreads peers over them (SO_REUSEPORT).
    pub reuse_port: bool,
    /// An IPv6 socket on the unspecified address exchanges datagrams with IPv4 peers too.
    pub dual_stack: bool,
    /// Allow sends to broadcast addresses (SO_BROADCAST).
    pub broadcast: bool,
    /// What the system may queue for us, in bytes (SO_RCVBUF); what comes beyond is lost.
    pub receive_queue_bytes: Option<u32>,
    /// What the system may queue for the network, in bytes (SO_SNDBUF).
    pub send_queue_bytes: Option<u32>,
}

impl Default for BindOptions {
    /// 1,472 bytes are what an Ethernet frame carries over IPv4.
    fn default() -> Self {
        BindOptions {
            peer: None,
            datagram_bytes_max: 1472,
            coalesce: false,
            reuse_address: false,
            reuse_port: false,
            dual_stack: true,
            broadcast: false,
            receive_queue_bytes: None,
            send_queue_bytes: None,
        }
    }
}
