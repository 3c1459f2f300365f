//! Facts that macOS and FreeBSD have in common, and what both lack.

use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::MergeRefusal;
use crate::base::address::Address;
use crate::base::error::{Error, ErrorKind, Feature};

/// True of sockets of IPv4 and IPv6.
pub(crate) fn is_internet(socket: &Socket) -> Result<bool, Error> {
    let address = socket.local_addr()?;
    Ok(address.is_ipv4() || address.is_ipv6())
}

/// A stream socket for paths. There are no names outside the file system.
pub(crate) fn local_stream_socket(address: &Address) -> Result<Socket, Error> {
    match address {
        Address::Abstract(_) => Err(Error::new(ErrorKind::NotSupported).with_feature(Feature::AbstractNames)),
        _ => Ok(Socket::new(Domain::UNIX, Type::STREAM, None)?),
    }
}

/// Makes the close that follows a reset. No network reads the caller's memory here, so nothing has to be reset before.
pub(crate) fn disconnect(socket: &Socket) {
    // Not fatal: the connection then ends in the ordinary way.
    let _ = socket.set_linger(Some(Duration::ZERO));
}

/// There is no TCP_USER_TIMEOUT. macOS has a relative of it, TCP_RXT_CONNDROPTIME, in whole seconds and undocumented.
pub(crate) fn set_user_timeout(_socket: &Socket, _after: Duration) -> Result<(), Error> {
    Err(Error::new(ErrorKind::NotSupported).with_feature(Feature::UserTimeout))
}

/// The bind chooses the port: no option leaves it to the connect.
pub(crate) fn choose_port_late(_socket: &Socket) {}

/// Datagrams always come one by one.
pub(crate) fn set_coalescing(_socket: &Socket, _is_wanted: bool) {}

/// Nothing is merged, so nothing fails for it.
pub(crate) fn merge_refusal(_code: i32) -> MergeRefusal {
    MergeRefusal::None
}
