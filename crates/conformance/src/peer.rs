//! The other end of a connection, played by the operating system's plain sockets, or by a simulated network.
//!
//! All that a test does with it goes through the few calls at the top: another kind of peer is another kind of `Peer::socket`.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use raon_provider::{AcceptedSocket, Address, SimNetwork, SimPeer};
use socket2::{Domain, SockAddr, Socket};

use crate::platform;
use crate::rig::Rig;
use crate::setup::Setup;
use crate::simulated;

/// A non-blocking socket that reads and writes while the rig goes on turning.
pub struct Peer {
    socket: End,
}

enum End {
    Os(Socket),
    Sim(SimPeer),
}

/// A connection of the set-up's kind; buffer sizes in bytes, 0: as the system has it.
pub fn connection(setup: &Setup, near_send: usize, far_receive: usize) -> (AcceptedSocket, Peer) {
    if let Some(network) = simulated::network() {
        return simulated_connection(setup, &network, near_send, far_receive);
    }
    let (near, far) = match setup.is_unix {
        false => tcp_connection(far_receive),
        // What is on its way lies in the sender's buffer; the receiver has none of its own.
        true => platform::local_pair(),
    };
    if near_send > 0 {
        near.set_send_buffer_size(near_send).unwrap();
    }
    (near.into(), Peer::of(far))
}

fn simulated_connection(
    setup: &Setup,
    network: &SimNetwork,
    near_send: usize,
    far_receive: usize,
) -> (AcceptedSocket, Peer) {
    let (near, mut far) = match setup.is_unix {
        false => network.pair(),
        true => simulated_unix_pair(network, &setup.address()),
    };
    if near_send > 0 {
        far.set_peer_send_buffer(near_send).unwrap();
    }
    if far_receive > 0 {
        far.set_receive_buffer(far_receive).unwrap();
    }
    (near, Peer { socket: End::Sim(far) })
}

fn simulated_unix_pair(network: &SimNetwork, name: &Address) -> (AcceptedSocket, SimPeer) {
    let mut listener = network.listen(name.clone()).unwrap();
    let near = network.connect(name.clone());
    while !near.is_connected() {
        assert!(network.advance_to_next(), "nothing will ever happen");
    }
    let far = listener.accept().expect("who is connected was taken");
    (near.into_socket().unwrap(), far)
}

fn tcp_connection(far_receive: usize) -> (Socket, Socket) {
    let listener = platform::stream_socket(Domain::IPV4);
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    // Before the handshake: the window that is offered depends on it.
    if far_receive > 0 {
        listener.set_recv_buffer_size(far_receive).unwrap();
    }
    listener.listen(1).unwrap();
    let near = platform::stream_socket(Domain::IPV4);
    near.connect(&listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    far.set_tcp_nodelay(true).unwrap();
    (near, far)
}

/// An address in the form of the operating system.
pub fn system_address(address: &Address) -> SockAddr {
    match address {
        Address::Ip(address) => (*address).into(),
        Address::Unix(path) => SockAddr::unix(path).unwrap(),
        Address::Abstract(name) => {
            let name = std::str::from_utf8(name).expect("names of this suite are text");
            SockAddr::unix(format!("\0{name}")).unwrap()
        }
        other => panic!("nobody can be at {other}"),
    }
}

impl Peer {
    fn of(socket: Socket) -> Self {
        socket.set_nonblocking(true).unwrap();
        Peer { socket: End::Os(socket) }
    }

    /// Connects to a listener of the rig.
    pub fn connect(address: &Address) -> Self {
        Self::try_connect(address).unwrap()
    }

    /// The same where there may be no listener.
    pub fn try_connect(address: &Address) -> Result<Self> {
        if let Some(network) = simulated::network() {
            return Self::try_connect_simulated(&network, address);
        }
        let address = system_address(address);
        let socket = platform::stream_socket(address.domain());
        if address.is_unix() {
            // A name of its own: the tests tell connections apart by it.
            platform::name(&socket)?;
        } else {
            socket.set_tcp_nodelay(true)?;
        }
        socket.connect(&address)?;
        Ok(Self::of(socket))
    }

    fn try_connect_simulated(network: &SimNetwork, address: &Address) -> Result<Self> {
        let peer = network.connect(address);
        while !peer.is_connected() {
            match peer.error() {
                Some(error) => return Err(system_error(error)),
                // A driver in another thread may have moved the clock since we asked.
                None => assert!(network.advance_to_next() || peer.is_connected(), "nothing will ever happen"),
            }
        }
        Ok(Peer { socket: End::Sim(peer) })
    }

    /// The address of this end.
    pub fn local_address(&self) -> Address {
        match &self.socket {
            End::Os(socket) => AcceptedSocket::from(socket.try_clone().unwrap()).local_address().unwrap(),
            End::Sim(peer) => peer.local_address().unwrap(),
        }
    }

    /// For a driver to adopt.
    pub fn into_socket(self) -> AcceptedSocket {
        match self.socket {
            End::Os(socket) => socket.into(),
            End::Sim(peer) => peer.into_socket().unwrap(),
        }
    }

    /// For a thread of its own, which waits.
    pub fn into_blocking(self) -> impl Read + Write + Send + 'static {
        let End::Os(socket) = self.socket else { panic!("a simulated peer cannot wait") };
        socket.set_nonblocking(false).unwrap();
        socket
    }

    /// Ends its write side.
    pub fn shut_write(&mut self) {
        match &mut self.socket {
            End::Os(socket) => socket.shutdown(Shutdown::Write).unwrap(),
            End::Sim(peer) => peer.shut_write().unwrap(),
        }
    }

    /// Ends with a reset. On a Unix socket that is an end like others, unless it leaves bytes unread, see
    /// [`Rig::provoke_reset`].
    pub fn reset(self) {
        match self.socket {
            End::Os(socket) if socket.local_addr().unwrap().is_unix() => {}
            End::Os(socket) => socket.set_linger(Some(Duration::ZERO)).unwrap(),
            End::Sim(peer) => peer.reset(),
        }
    }

    /// Writes what goes at once and says how much that was.
    pub fn write_some(&mut self, bytes: &[u8]) -> usize {
        self.try_write(bytes).unwrap_or_else(|error| panic!("the peer cannot write: {error}"))
    }

    /// The same on a connection that may be broken.
    pub fn try_write(&mut self, bytes: &[u8]) -> Result<usize> {
        match self.socket.write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            result => result,
        }
    }

    /// Sends one byte out of band.
    pub fn send_urgent(&mut self, byte: u8) -> Result<usize> {
        let End::Os(socket) = &self.socket else { panic!("a simulated peer has no urgent bytes") };
        socket.send_out_of_band(&[byte])
    }

    /// Reads what is there: bytes, `Some(0)` at the end, `None` if there is nothing now.
    pub fn read_some(&mut self, bytes: &mut [u8]) -> Result<Option<usize>> {
        match self.socket.read(bytes) {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl End {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        match self {
            End::Os(socket) => socket.write(bytes),
            End::Sim(peer) => match peer.write(bytes) {
                Ok(0) if !bytes.is_empty() => Err(ErrorKind::WouldBlock.into()),
                written => written.map_err(|error| system_error(error.kind())),
            },
        }
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<usize> {
        match self {
            End::Os(socket) => socket.read(bytes),
            End::Sim(peer) => {
                simulated::pass_time();
                let read = peer.read(bytes).map_err(|error| system_error(error.kind()))?;
                read.ok_or(ErrorKind::WouldBlock.into())
            }
        }
    }
}

/// What the operating system's sockets would say.
fn system_error(kind: raon_provider::ErrorKind) -> std::io::Error {
    use raon_provider::ErrorKind as Kind;
    match kind {
        Kind::ConnectionReset => ErrorKind::ConnectionReset.into(),
        Kind::ConnectionRefused => ErrorKind::ConnectionRefused.into(),
        Kind::BrokenPipe => ErrorKind::BrokenPipe.into(),
        Kind::TimedOut => ErrorKind::TimedOut.into(),
        other => std::io::Error::other(format!("{other:?}")),
    }
}

/// What takes several of those, with the rig turning meanwhile.
impl Peer {
    /// Writes all.
    pub fn write(&mut self, rig: &mut Rig, bytes: &[u8]) {
        let mut done = 0;
        rig.until("the peer to have written all", |_| {
            done += self.write_some(&bytes[done..]);
            done == bytes.len()
        });
    }

    /// Reads so many bytes.
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

    /// Reads up to the orderly end.
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
}
