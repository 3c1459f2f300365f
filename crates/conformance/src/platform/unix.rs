//! Facts that all Unixes have in common.

use std::io::{IoSlice, Result};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use raon_provider::AcceptedSocket;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, SockAddr, Socket, Type};

use super::descriptors;

/// No test takes so long.
pub const HANGS_AFTER: Duration = Duration::from_secs(60);

/// Whether a peer that reads just then may see an orderly end before the reset of an aborted connection.
pub const ENDS_BEFORE_A_RESET: bool = false;

/// A plain stream socket that any back end can adopt.
pub fn stream_socket(domain: Domain) -> Socket {
    Socket::new(domain, Type::STREAM, None).unwrap()
}

/// A stream socket at the address of a listener that has closed. Connections of that listener may be open still.
pub fn bind_closed(address: &SockAddr) -> Result<Socket> {
    let socket = stream_socket(address.domain());
    socket.set_reuse_address(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Where nobody takes datagrams: the socket there hears only itself.
pub fn deaf_port() -> (SocketAddr, Option<Socket>) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    socket.connect(address).unwrap();
    (address, Some(socket.into()))
}

/// Two ends of a connection without names.
pub fn local_pair() -> (Socket, Socket) {
    Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap()
}

/// A connection of the standard library's own types: as a mere descriptor, and as a stream.
pub fn foreign_pair() -> (AcceptedSocket, AcceptedSocket) {
    let (near, far) = UnixStream::pair().unwrap();
    (OwnedFd::from(near).into(), far.into())
}

/// A descriptor that is no socket.
pub fn no_socket() -> Option<AcceptedSocket> {
    Some(OwnedFd::from(std::fs::File::open("/dev/null").unwrap()).into())
}

/// Another name for a path.
pub fn symlink(original: &Path, link: &Path) {
    std::os::unix::fs::symlink(original, link).unwrap();
}

/// Sends bytes, and a descriptor along with them.
pub fn send_with_descriptor(socket: &Socket, bytes: &[u8]) {
    use std::os::fd::AsFd;
    let descriptors = [socket.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    assert_eq!(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::empty()).unwrap(), bytes.len());
}

/// The process's limit of descriptors while it is another one; put back on drop.
pub struct DescriptorLimit(Rlimit);

impl DescriptorLimit {
    /// As high as this process may set it.
    pub fn raise() -> Self {
        let before = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: before.maximum, maximum: before.maximum }).unwrap();
        DescriptorLimit(before)
    }

    /// So low that four more fit. What fills the gaps below is open until the drop.
    pub fn leave_four() -> (Self, Vec<std::fs::File>) {
        let before = getrlimit(Resource::Nofile);
        // Numbers are taken lowest first: fill the gaps, then the limit leaves just four.
        let highest = descriptors().into_keys().max().unwrap() as i32;
        let open = || std::fs::File::open("/dev/null").unwrap();
        let mut fillers = vec![open()];
        while fillers[fillers.len() - 1].as_raw_fd() <= highest {
            fillers.push(open());
        }
        let last = fillers[fillers.len() - 1].as_raw_fd() as u64;
        setrlimit(Resource::Nofile, Rlimit { current: Some(last + 5), maximum: before.maximum }).unwrap();
        (DescriptorLimit(before), fillers)
    }

    /// As it was before.
    pub fn restore(self) {}
}

impl Drop for DescriptorLimit {
    fn drop(&mut self) {
        setrlimit(Resource::Nofile, self.0).unwrap();
    }
}
