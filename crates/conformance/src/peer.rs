//! The other end of a connection, played by the operating system's plain sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use raon_provider::Address;

use crate::rig::Rig;

/// A non-blocking socket that reads and writes while the rig goes on turning.
pub struct Peer {
    /// The socket itself.
    pub stream: TcpStream,
}

/// A connection over loopback; buffer sizes in bytes, 0: as the system has it.
pub fn connection(near_send: usize, far_receive: usize) -> (TcpStream, Peer) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    // Before the handshake: the window that is offered depends on it.
    if far_receive > 0 {
        listener.set_recv_buffer_size(far_receive).unwrap();
    }
    listener.listen(1).unwrap();
    let listener = TcpListener::from(listener);
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    if near_send > 0 {
        SockRef::from(&near).set_send_buffer_size(near_send).unwrap();
    }
    let (far, _) = listener.accept().unwrap();
    (near, Peer::from(far))
}

impl From<TcpStream> for Peer {
    fn from(stream: TcpStream) -> Self {
        stream.set_nonblocking(true).unwrap();
        stream.set_nodelay(true).unwrap();
        Peer { stream }
    }
}

impl Peer {
    /// Connects to a listener of the rig.
    pub fn connect(address: &Address) -> Self {
        TcpStream::connect(address.ip().expect("an IP address")).unwrap().into()
    }

    /// Writes what goes at once and says how much that was.
    pub fn write_some(&mut self, bytes: &[u8]) -> usize {
        match self.stream.write(bytes) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => panic!("the peer cannot write: {error}"),
        }
    }

    /// Writes all, turning the rig while there is no room.
    pub fn write(&mut self, rig: &mut Rig, bytes: &[u8]) {
        let mut done = 0;
        rig.until("the peer to have written all", |_| {
            done += self.write_some(&bytes[done..]);
            done == bytes.len()
        });
    }

    /// Reads what is there: bytes, `Some(0)` at the end, `None` if there is nothing now.
    pub fn read_some(&mut self, bytes: &mut [u8]) -> std::io::Result<Option<usize>> {
        match self.stream.read(bytes) {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads so many bytes, turning the rig meanwhile.
    pub fn read(&mut self, rig: &mut Rig, length: usize) -> Vec<u8> {
        let (mut bytes, mut done) = (vec![0; length], 0);
        rig.until("the peer to have read all", |_| {
            let read = self.read_some(&mut bytes[done..]).expect("the peer can read");
            assert!(read != Some(0) || done == length, "the end after {done} of {length} bytes");
            done += read.unwrap_or(0);
            done == length
        });
        bytes
    }

    /// Reads up to the orderly end, turning the rig meanwhile.
    pub fn read_to_end(&mut self, rig: &mut Rig) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut chunk = vec![0; 65_536];
        rig.until("the peer to see the end", |_| match self.read_some(&mut chunk).expect("an orderly end") {
            Some(0) => true,
            Some(length) => {
                bytes.extend_from_slice(&chunk[..length]);
                false
            }
            None => false,
        });
        bytes
    }

    /// Reads until the connection ends in whatever way, and says which: `None` is the orderly end.
    pub fn read_until_broken(&mut self, rig: &mut Rig) -> Option<ErrorKind> {
        let mut end = None;
        let mut chunk = vec![0; 65_536];
        rig.until("the peer to see an end", |_| match self.read_some(&mut chunk) {
            Ok(Some(0)) => true,
            Ok(_) => false,
            Err(error) => {
                end = Some(error.kind());
                true
            }
        });
        end
    }

    /// Ends its write side.
    pub fn shut_write(&self) {
        self.stream.shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// Ends with a reset.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}
