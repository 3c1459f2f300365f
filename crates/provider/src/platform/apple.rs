//! What only Apple's systems have.

use rustix::io::Errno;
use socket2::Socket;

use super::is_internet;
use crate::error::Error;

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
