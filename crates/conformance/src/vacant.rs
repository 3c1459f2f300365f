//! Addresses where nobody is, for as long as a test needs that.
//!
//! A port that was closed is free: by the time somebody connects to it, another process may have it. So it is kept.
//!
//! 1. A stream socket that is bound and does not listen refuses whoever connects.
//! 2. A datagram socket whose peer is itself takes nothing from others: who sends to it is told that nobody is there.
//! 3. The drop gives the port free.

use std::net::{Ipv4Addr, SocketAddr};

use raon_provider::Address;
use socket2::{Domain, Socket, Type};

use crate::peer::system_address;
use crate::{platform, simulated};

/// An address where nobody is.
pub struct Vacant {
    address: Address,
    /// What keeps the port. `None`: nobody else could have it.
    socket: Option<Socket>,
}

impl Vacant {
    /// A port of loopback at which nobody listens.
    pub fn stream() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Vacant { address: address.into(), socket: Some(socket) }
    }

    /// Keeps the address of a listener that has closed. `None`: somebody has it, the listener or another process.
    pub fn at(address: &Address) -> Option<Self> {
        // Names are not given out again, and a simulated network is the test's own.
        let socket = match address.ip() {
            Some(_) if simulated::network().is_none() => Some(platform::bind_closed(&system_address(address)).ok()?),
            _ => None,
        };
        Some(Vacant { address: address.clone(), socket })
    }

    /// A port of loopback at which nobody takes datagrams.
    pub fn datagrams() -> Self {
        let (address, socket) = platform::deaf_port();
        Vacant { address: address.into(), socket }
    }

    /// Where nobody is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The IP address and port where nobody is.
    pub fn ip(&self) -> SocketAddr {
        self.address.ip().expect("it has a port")
    }

    /// The socket that has kept the port.
    pub fn into_socket(self) -> Option<Socket> {
        self.socket
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;
    use crate::rig::PATIENCE;

    #[test]
    fn nobody_listens_at_a_vacant_port_and_nobody_else_can() {
        let vacant = Vacant::stream();
        assert_eq!(TcpStream::connect(vacant.ip()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert_eq!(TcpListener::bind(vacant.ip()).unwrap_err().kind(), ErrorKind::AddrInUse);
    }

    /// Listens, has a connection, closes, and keeps the port.
    fn closed() -> Option<Vacant> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ip = listener.local_addr().unwrap();
        assert!(Vacant::at(&ip.into()).is_none(), "it listens");
        let _connection = (TcpStream::connect(ip).unwrap(), listener.accept().unwrap());
        drop(listener);
        Vacant::at(&ip.into())
    }

    #[test]
    fn a_closed_listeners_port_is_kept_and_an_open_ones_is_not() {
        let vacant = (0..10).find_map(|_| closed()).expect("nobody is quicker each time");
        assert_eq!(TcpStream::connect(vacant.ip()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn who_sends_to_a_vacant_port_is_told() {
        let vacant = Vacant::datagrams();
        if vacant.socket.is_none() {
            // Windows tells a sender in other words and at other times, and nothing keeps the port.
            return;
        }
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(vacant.ip()).unwrap();
        sender.set_read_timeout(Some(PATIENCE)).unwrap();
        sender.send(b"anybody?").unwrap();
        assert_eq!(sender.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert!(UdpSocket::bind(vacant.ip()).is_err(), "nobody else can be there");
    }
}
