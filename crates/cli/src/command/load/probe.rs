//! Is an echo server there? Asked before anything is begun.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use raon_provider::Address;

use super::{Arguments, datagrams};
use crate::failure::{Context, Failure};
use crate::platform::{self, LocalStream};

const WAIT: Duration = Duration::from_secs(5);
const MESSAGE: &[u8; 8] = b"raon-ok?";

/// Tells whether an echo server is there.
pub(super) fn probe(arguments: &Arguments) -> Result<(), Failure> {
    match arguments.connect.ip() {
        Some(server) if arguments.udp => probe_datagrams(arguments, server),
        _ => probe_stream(&arguments.connect),
    }
}

/// A short datagram, then one as long as those of the load, until they come back.
fn probe_datagrams(arguments: &Arguments, server: SocketAddr) -> Result<(), Failure> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let failed = |error: io::Error| raon_provider::Error::from(error);
    let bound = UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(server).map(|()| socket));
    let socket = bound.map_err(failed).context(format!("cannot send datagrams to {server}"))?;
    match answers(&socket, MESSAGE.len()) {
        Ok(true) => {}
        Ok(false) => return Err(datagrams::no_answer(arguments)),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Err(datagrams::nobody(arguments)),
        Err(error) => return Err(Failure::of(format!("cannot send datagrams to {server}"), failed(error))),
    }
    match answers(&socket, arguments.size as usize).map_err(failed) {
        Ok(true) => Ok(()),
        Ok(false) => Err(datagrams::too_long(arguments)),
        Err(error) => Err(Failure::of(format!("cannot send datagrams of {} bytes to {server}", arguments.size), error)),
    }
}

/// True if one of some datagrams of that length comes back. Errors: what the network says instead.
fn answers(socket: &UdpSocket, length: usize) -> io::Result<bool> {
    const TRIES: usize = 3;
    const TRY_WAIT: Duration = Duration::from_secs(1);
    let message: Vec<u8> = MESSAGE.iter().copied().cycle().take(length).collect();
    let mut answer = vec![0; length + 1];
    socket.set_read_timeout(Some(TRY_WAIT))?;
    for _ in 0..TRIES {
        socket.send(&message)?;
        match socket.recv(&mut answer) {
            Ok(came) if answer[..came] == message => return Ok(true),
            Err(error) if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Err(error);
            }
            _ => {}
        }
    }
    Ok(false)
}

/// One connection, one message: tells also that the server has accepted all who came before.
fn probe_stream(address: &Address) -> Result<(), Failure> {
    let connected = match address.ip() {
        Some(ip) => probe_tcp(ip),
        None => probe_local(address),
    };
    let is_echo = connected.map_err(|error| cannot_connect(address, error))?;
    if is_echo {
        return Ok(());
    }
    let text = "takes connections but does not send back what it gets: start an echo server there (`raon serve echo`)";
    Err(Failure::new(format!("{address} {text}")))
}

/// Errors: what came of connecting.
fn probe_tcp(address: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, WAIT)?;
    let is_limited = stream.set_read_timeout(Some(WAIT)).is_ok();
    Ok(is_limited && echoes(&mut stream, |stream| stream.shutdown(Shutdown::Write)).is_ok_and(|is_echo| is_echo))
}

fn probe_local(address: &Address) -> io::Result<bool> {
    let mut stream = platform::connect_local(address)?;
    let is_limited = stream.set_read_timeout(Some(WAIT)).is_ok();
    let shut = |stream: &mut LocalStream| stream.shutdown(Shutdown::Write);
    Ok(is_limited && echoes(&mut stream, shut).is_ok_and(|is_echo| is_echo))
}

fn echoes<S: Read + Write>(stream: &mut S, shut: impl FnOnce(&mut S) -> io::Result<()>) -> io::Result<bool> {
    let mut answer = [0; MESSAGE.len()];
    stream.write_all(MESSAGE)?;
    // Now a server that does not echo has nothing to wait for either.
    shut(stream)?;
    stream.read_exact(&mut answer)?;
    Ok(&answer == MESSAGE)
}

fn cannot_connect(address: &Address, error: io::Error) -> Failure {
    let doing = format!("cannot connect to {address}");
    if error.raw_os_error().is_none() {
        return Failure::of(doing, "no answer in 5 s; check the address and the network");
    }
    if let (None, io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) = (address.ip(), error.kind()) {
        let remedy = format!("nothing listens there; start the server (`raon serve echo --listen {address}`)");
        return Failure::of(doing, remedy);
    }
    Failure::of(doing, raon_provider::Error::from(error))
}
