//! The sockets of both ends: small messages leave at once, and all that are compared have the same congestion control.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

/// Machines have different defaults; this one is part of every Linux and open to every user. It is set on each socket, so
/// nothing of the system's changes.
pub(crate) const CONGESTION_CONTROL: &str = "reno";

/// As many connections may wait to be accepted as with the peers.
const BACKLOG: i32 = 4096;

/// A listener; its connections inherit the options. Without a congestion control they have the system's.
pub(crate) fn listener(address: SocketAddr, congestion_control: Option<&str>) -> io::Result<Socket> {
    let socket = stream(address)?;
    socket.set_reuse_address(true)?;
    if let Some(name) = congestion_control {
        set_congestion_control(&socket, name)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// A connection to a server. It is there at once: on loopback the handshake is over when the call returns.
pub(crate) fn connected(address: SocketAddr) -> io::Result<Socket> {
    let socket = stream(address)?;
    set_congestion_control(&socket, CONGESTION_CONTROL)?;
    socket.connect(&address.into())?;
    Ok(socket)
}

fn stream(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

fn set_congestion_control(socket: &Socket, name: &str) -> io::Result<()> {
    socket.set_tcp_congestion(name.as_bytes()).map_err(|error| {
        let remedy =
            "`sysctl net.ipv4.tcp_available_congestion_control net.ipv4.tcp_allowed_congestion_control` says what can";
        io::Error::new(error.kind(), format!("congestion control {name} cannot be set on a socket: {error}; {remedy}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_of(socket: &Socket) -> String {
        let name = socket.tcp_congestion().expect("it can be asked");
        String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned()
    }

    #[test]
    fn both_ends_have_it() {
        let address = "127.0.0.1:0".parse().expect("an address");
        let listener = listener(address, Some(CONGESTION_CONTROL)).expect("listens");
        let address = listener.local_addr().expect("bound").as_socket().expect("an address");
        let client = connected(address).expect("connects");
        let (server, _) = listener.accept().expect("accepts");
        assert_eq!([name_of(&client), name_of(&server)], [CONGESTION_CONTROL, CONGESTION_CONTROL]);
    }

    #[test]
    fn an_unknown_one_is_named() {
        let error = listener("127.0.0.1:0".parse().expect("an address"), Some("abacus")).expect_err("is refused");
        assert!(error.to_string().starts_with("congestion control abacus cannot be set on a socket"), "{error}");
    }
}
