//! Facts about FreeBSD alone.

use rustix::net::SendFlags;
use socket2::{Protocol, Socket};

use super::is_internet;
use crate::base::error::Error;

/// True of a socket that waits for connections.
pub(crate) fn is_listener(socket: &Socket) -> Result<bool, Error> {
    Ok(socket.is_listener()?)
}

/// True if the datagram socket is one of UDP.
pub(crate) fn is_udp(socket: &Socket) -> Result<bool, Error> {
    Ok(is_internet(socket)? && socket.protocol()? == Some(Protocol::UDP))
}

/// SO_REUSEPORT_LB spreads connections, which SO_REUSEPORT alone does not here, see setsockopt(2) (FreeBSD 12).
pub(crate) fn set_reuse_port(socket: &Socket) -> Result<(), Error> {
    Ok(socket.set_reuse_port_lb(true)?)
}

/// Of every send: it does not wait, and a peer that is gone is an error.
pub(crate) const SEND_FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// The sends' flags do it.
pub(crate) fn raise_no_signal(_socket: &Socket) {}
