//! Sockets that belong to no driver yet, and the options they are made with.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use crate::backend;
use crate::error::{Error, ErrorKind};

/// A socket that is attached to no driver: goes to any thread, can be adopted by any driver, closes on drop.
///
/// An accept stream yields them; `From` makes one of any `socket2::Socket`, `TcpStream`, `TcpListener` or `OwnedFd`.
//= THREAD-1
pub struct AcceptedSocket {
    pub(crate) socket: Socket,
    /// What is known of its blocking mode; `None`: nothing.
    pub(crate) nonblocking: Option<bool>,
    /// True if it came out of an accept, so that nothing about its kind needs to be asked.
    pub(crate) is_fresh: bool,
}

impl AcceptedSocket {
    pub(crate) fn fresh(socket: Socket, nonblocking: bool) -> Self {
        AcceptedSocket { socket, nonblocking: Some(nonblocking), is_fresh: true }
    }

    /// The peer's address; asked from the system when it is called, not before.
    pub fn peer_address(&self) -> Result<SocketAddr, Error> {
        address_of(self.socket.peer_addr())
    }

    /// This end's address.
    pub fn local_address(&self) -> Result<SocketAddr, Error> {
        address_of(self.socket.local_addr())
    }

    /// The socket itself, for options that Raon does not know.
    pub fn into_inner(self) -> Socket {
        self.socket
    }
}

impl<S: Into<Socket>> From<S> for AcceptedSocket {
    fn from(socket: S) -> Self {
        AcceptedSocket { socket: socket.into(), nonblocking: None, is_fresh: false }
    }
}

impl fmt::Debug for AcceptedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AcceptedSocket({:?})", backend::raw_handle(&self.socket))
    }
}

pub(crate) fn address_of(address: std::io::Result<SockAddr>) -> Result<SocketAddr, Error> {
    address?.as_socket().ok_or(Error::new(ErrorKind::InvalidInput))
}

/// Options of a listener; its connections inherit them.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// Connections that wait to be accepted; the system caps it (net.core.somaxconn).
    pub backlog: u32,
    /// Bind although old connections of that port linger (SO_REUSEADDR).
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

/// Options of an outgoing connection.
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

/// A bound, listening socket.
pub(crate) fn listener(address: SocketAddr, options: &ListenOptions) -> Result<Socket, Error> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if options.reuse_address {
        socket.set_reuse_address(true)?;
    }
    if options.reuse_port {
        backend::set_reuse_port(&socket)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(!options.dual_stack)?;
    }
    set_stream_options(&socket, options.nodelay, options.keepalive, options.user_timeout)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    Ok(socket)
}

/// A socket ready to connect.
pub(crate) fn connector(address: SocketAddr, options: &ConnectOptions) -> Result<Socket, Error> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    set_stream_options(&socket, options.nodelay, options.keepalive, options.user_timeout)?;
    if let Some(bind) = options.bind {
        socket.bind(&bind.into())?;
    }
    Ok(socket)
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
