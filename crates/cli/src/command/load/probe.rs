//! Is an echo server there? Asked before anything is begun.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use raon_provider::Address;

use crate::failure::Failure;
use crate::platform::{self, LocalStream};

const WAIT: Duration = Duration::from_secs(5);
const MESSAGE: &[u8; 8] = b"raon-ok?";

/// One connection, one message: tells whether an echo server is there, and that it has accepted all who came before.
pub(super) fn probe(address: &Address) -> Result<(), Failure> {
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
