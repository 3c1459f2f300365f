//! Facts about Apple's systems alone.

use rustix::io::Errno;
use rustix::net::SendFlags;
use socket2::Socket;

use super::is_internet;
use crate::base::error::Error;

/// True of a socket that waits for connections. SO_ACCEPTCONN is declared and not answered here; a listener is told by
/// having a name and no peer. So is a connection that had ended before it was adopted, which then takes no receive.
pub(crate) fn is_listener(socket: &Socket) -> Result<bool, Error> {
    let has_no_peer = |error: &std::io::Error| error.raw_os_error() == Some(Errno::NOTCONN.raw_os_error());
    Ok(socket.peer_addr().is_err_and(|error| has_no_peer(&error)))
}

/// True if the datagram socket is one of UDP. SO_PROTOCOL is unknown here; nothing is merged, so nothing depends on it.
pub(crate) fn is_udp(socket: &Socket) -> Result<bool, Error> {
    is_internet(socket)
}

/// SO_REUSEPORT. Several sockets may have the port then; the system does not promise to spread connections evenly.
pub(crate) fn set_reuse_port(socket: &Socket) -> Result<(), Error> {
    Ok(socket.set_reuse_port(true)?)
}

/// Of every send: it does not wait.
pub(crate) const SEND_FLAGS: SendFlags = SendFlags::DONTWAIT;

/// A peer that is gone is an error of a send, for no flag of the send says so: SO_NOSIGPIPE, see setsockopt(2).
pub(crate) fn raise_no_signal(socket: &Socket) {
    // A connection that has ended refuses it, and its sends fail anyway.
    let _ = socket.set_nosigpipe(true);
}
