//! Options that sockets are made with.

use std::net::SocketAddr;
use std::time::Duration;

use crate::base::address::{Address, destination, unmapped};
use crate::base::error::{Error, ErrorKind};
use crate::base::setting::Setting;
use crate::base::with::with;

with!(ListenOptions, ConnectOptions, BindOptions);

/// Options of a listener; its connections inherit them. On Unix sockets those of TCP mean nothing.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
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
    /// Probe silent peers after this time, in whole seconds, rounded up: at most [`KEEPALIVE_MAX`](Self::KEEPALIVE_MAX).
    pub keepalive: Option<Duration>,
    /// Give up on a peer that acknowledges nothing for this time (TCP_USER_TIMEOUT, in whole milliseconds; on
    /// Windows TCP_MAXRT, in whole seconds), rounded up: at most [`USER_TIMEOUT_MAX`](ListenOptions::USER_TIMEOUT_MAX). macOS
    /// and FreeBSD refuse it as `NotSupported`.
    pub user_timeout: Option<Duration>,
    /// An IPv6 listener on the unspecified address takes IPv4 connections too.
    pub dual_stack: bool,
}

impl ListenOptions {
    /// The longest `keepalive`: MAX_TCP_KEEPIDLE of Linux, 9 hours.
    pub const KEEPALIVE_MAX: Duration = Duration::from_secs(32_767);
    /// The longest `user_timeout`: what an int of milliseconds holds, 24 days.
    pub const USER_TIMEOUT_MAX: Duration = Duration::from_millis(i32::MAX as u64);

    /// Errors: `InvalidInput` with the setting. For an address that is not of the Internet they mean nothing.
    pub(crate) fn check_for(&self, address: &Address) -> Result<(), Error> {
        if address.ip().is_some() { check_patience(self.keepalive, self.user_timeout) } else { Ok(()) }
    }
}

/// The same bounds on every system, whatever the kernel would say or do.
fn check_patience(keepalive: Option<Duration>, user_timeout: Option<Duration>) -> Result<(), Error> {
    let is_wrong = |time: Option<Duration>, most| time.is_some_and(|time| time.is_zero() || time > most);
    if is_wrong(keepalive, ListenOptions::KEEPALIVE_MAX) {
        return Err(Error::out_of_range(Setting::Keepalive));
    }
    if is_wrong(user_timeout, ListenOptions::USER_TIMEOUT_MAX) {
        return Err(Error::out_of_range(Setting::UserTimeout));
    }
    Ok(())
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
#[non_exhaustive]
pub struct ConnectOptions {
    /// The local address to use.
    pub bind: Option<SocketAddr>,
    /// Send small messages at once (TCP_NODELAY).
    pub nodelay: bool,
    /// Probe a silent peer after this time, in whole seconds, rounded up: at most
    /// [`KEEPALIVE_MAX`](ListenOptions::KEEPALIVE_MAX).
    pub keepalive: Option<Duration>,
    /// Give up on a peer that acknowledges nothing for this time (TCP_USER_TIMEOUT, in whole milliseconds; on
    /// Windows TCP_MAXRT, in whole seconds), rounded up: at most [`USER_TIMEOUT_MAX`](ListenOptions::USER_TIMEOUT_MAX). macOS
    /// and FreeBSD refuse it as `NotSupported`.
    pub user_timeout: Option<Duration>,
}

impl ConnectOptions {
    /// The options in the form that this address needs. Errors: `InvalidInput` for port 0, a local address of another family,
    /// or, with the setting, a time out of range.
    pub(crate) fn checked_for(&self, address: &Address) -> Result<Self, Error> {
        let Some(to) = address.ip() else { return Ok(*self) };
        destination(to, to.is_ipv6())?;
        check_patience(self.keepalive, self.user_timeout)?;
        let bind = self.bind.map(unmapped);
        let is_other = bind.is_some_and(|bind| bind.is_ipv4() != to.is_ipv4());
        if is_other { Err(Error::new(ErrorKind::InvalidInput)) } else { Ok(ConnectOptions { bind, ..*self }) }
    }
}

impl Default for ConnectOptions {
    fn default() -> Self {
        ConnectOptions { bind: None, nodelay: true, keepalive: None, user_timeout: None }
    }
}

/// Options of a datagram socket.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
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
