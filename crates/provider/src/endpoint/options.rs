//! What sockets are made with.

use std::net::SocketAddr;
use std::time::Duration;

/// Options of a listener; its connections inherit them. On Unix sockets those of TCP mean nothing.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// Connections that wait to be accepted, 0 to 2^31 - 1; more counts as that, and the system has a cap of its own
    /// (net.core.somaxconn).
    pub backlog: u32,
    /// Bind although old connections of that port linger (SO_REUSEADDR), or a Unix path of which the listener is gone.
    /// Windows allows the first anyway; there the listener's port is always its own (SO_EXCLUSIVEADDRUSE).
    pub reuse_address: bool,
    /// Several listeners share the port and the system spreads connections over them (SO_REUSEPORT). macOS does not promise
    /// to spread them; Windows refuses it as `NotSupported`.
    pub reuse_port: bool,
    /// Send small messages at once (TCP_NODELAY).
    pub nodelay: bool,
    /// Probe silent peers after this time, 1 to 32,767 s.
    pub keepalive: Option<Duration>,
    /// Give up on a peer that acknowledges nothing for this time, 1 ms to 2^31 - 1 ms (TCP_USER_TIMEOUT; on Windows TCP_MAXRT, in whole seconds).
    /// macOS and FreeBSD refuse it as `NotSupported`.
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
    /// Probe a silent peer after this time, 1 to 32,767 s.
    pub keepalive: Option<Duration>,
    /// Give up on a peer that acknowledges nothing for this time, 1 ms to 2^31 - 1 ms (TCP_USER_TIMEOUT; on Windows TCP_MAXRT, in whole seconds).
    /// macOS and FreeBSD refuse it as `NotSupported`.
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
    /// must have 64 KiB at least (on io_uring better 128 bytes more, as the default has). Datagrams that came together lie in
    /// one of them, which is free again when the last of them is dropped: keep none for long.
    pub coalesce: bool,
    /// Bind although another socket has the address (SO_REUSEADDR), as multicast receivers do. Without it nobody else can
    /// have it on Windows (SO_EXCLUSIVEADDRUSE).
    pub reuse_address: bool,
    /// Several sockets share the port and the system spreads peers over them (SO_REUSEPORT). macOS does not promise to spread
    /// them; Windows refuses it as `NotSupported`.
    pub reuse_port: bool,
    /// An IPv6 socket on the unspecified address exchanges datagrams with IPv4 peers too.
    pub dual_stack: bool,
    /// Allow sends to broadcast addresses (SO_BROADCAST).
    pub broadcast: bool,
    /// What the system may queue for us, in bytes (SO_RCVBUF), which has bounds of its own; what comes beyond is lost. Above
    /// 2^30 it counts as that.
    pub receive_queue_bytes: Option<u32>,
    /// What the system may queue for the network, in bytes (SO_SNDBUF), as `receive_queue_bytes`.
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
