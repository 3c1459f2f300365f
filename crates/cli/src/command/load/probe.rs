//! Is such a server there? Asked before anything is begun.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use super::{Arguments, ServiceName, datagrams};
use crate::failure::{Context, Failure};
use crate::pingpong::{self, Body, ConnectAnswer, ConnectRequest, HEADER_BYTES, PingAnswer, PingRequest, packet};
use crate::platform::{self, LocalStream};

const WAIT: Duration = Duration::from_secs(5);
const MESSAGE: &[u8; 8] = b"raon-ok?";

/// Tells whether a server of that kind is there.
pub(super) fn probe(arguments: &Arguments) -> Result<(), Failure> {
    match arguments.connect.ip() {
        Some(server) if arguments.udp => probe_datagrams(arguments, server),
        _ => probe_stream(arguments),
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
    match answers(&socket, arguments.size_bytes() as usize).map_err(failed) {
        Ok(true) => Ok(()),
        Ok(false) => Err(datagrams::too_long(arguments)),
        Err(error) => {
            Err(Failure::of(format!("cannot send datagrams of {} bytes to {server}", arguments.size_bytes()), error))
        }
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
fn probe_stream(arguments: &Arguments) -> Result<(), Failure> {
    let connected = match arguments.connect.ip() {
        Some(ip) => probe_tcp(arguments, ip),
        None => probe_local(arguments),
    };
    let served = connected.map_err(|error| cannot_connect(arguments, error))?;
    served.map_err(|what| {
        let (address, service) = (&arguments.connect, arguments.service.name());
        match what {
            Unserved::Otherwise => Failure::new(format!(
                "{address} takes connections but {}: start such a server there (`raon serve {service}`)",
                not_as(arguments.service)
            )),
            Unserved::Refused(result) => Failure::new(format!(
                "{address} refuses clients: {} (result {result}); say another --client-version, or wait for a place",
                pingpong::result_text(result)
            )),
        }
    })
}

/// What a server does not do.
fn not_as(service: ServiceName) -> &'static str {
    match service {
        ServiceName::Echo => "does not send back what it gets",
        ServiceName::Pingpong => "does not answer a connect request and a ping",
        ServiceName::Chat => "does not answer as a chat does",
    }
}

/// Why a server that is there cannot be loaded.
enum Unserved {
    /// It says something else, or nothing.
    Otherwise,
    /// It does not let clients in, with this result.
    Refused(u8),
}

impl From<io::Error> for Unserved {
    fn from(_: io::Error) -> Self {
        Unserved::Otherwise
    }
}

/// Errors: what came of connecting.
fn probe_tcp(arguments: &Arguments, address: SocketAddr) -> io::Result<Result<(), Unserved>> {
    let mut stream = TcpStream::connect_timeout(&address, WAIT)?;
    if stream.set_read_timeout(Some(WAIT)).is_err() {
        return Ok(Err(Unserved::Otherwise));
    }
    Ok(converse(arguments, &mut stream, |stream| stream.shutdown(Shutdown::Write)))
}

fn probe_local(arguments: &Arguments) -> io::Result<Result<(), Unserved>> {
    let mut stream = platform::connect_local(&arguments.connect)?;
    if stream.set_read_timeout(Some(WAIT)).is_err() {
        return Ok(Err(Unserved::Otherwise));
    }
    let shut = |stream: &mut LocalStream| stream.shutdown(Shutdown::Write);
    Ok(converse(arguments, &mut stream, shut))
}

fn converse<S: Read + Write>(
    arguments: &Arguments,
    stream: &mut S,
    shut: impl FnOnce(&mut S) -> io::Result<()>,
) -> Result<(), Unserved> {
    match arguments.service {
        ServiceName::Echo => echoes(stream, shut),
        ServiceName::Pingpong => pongs(stream, arguments.client_version()),
        ServiceName::Chat => chats(stream),
    }
}

fn echoes<S: Read + Write>(stream: &mut S, shut: impl FnOnce(&mut S) -> io::Result<()>) -> Result<(), Unserved> {
    let mut answer = [0; MESSAGE.len()];
    stream.write_all(MESSAGE)?;
    // Now a server that does not echo has nothing to wait for either.
    shut(stream)?;
    stream.read_exact(&mut answer)?;
    if &answer == MESSAGE { Ok(()) } else { Err(Unserved::Otherwise) }
}

fn pongs(stream: &mut (impl Read + Write), client_version: u32) -> Result<(), Unserved> {
    stream.write_all(&packet(&ConnectRequest { client_version }))?;
    let answer: ConnectAnswer = read_packet(stream)?;
    if answer.result != pingpong::OK {
        return Err(Unserved::Refused(answer.result));
    }
    let ping = PingRequest { client_time_ms: u64::from_le_bytes(*MESSAGE), sequence: 1 };
    stream.write_all(&packet(&ping))?;
    let answer: PingAnswer = read_packet(stream)?;
    let is_same = (answer.client_time_ms, answer.sequence) == (ping.client_time_ms, ping.sequence);
    if is_same { Ok(()) } else { Err(Unserved::Otherwise) }
}

/// The next packet, if it is of this kind.
fn read_packet<B: Body>(stream: &mut impl Read) -> Result<B, Unserved> {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header)?;
    let [low, high, id @ ..] = header;
    let size = usize::from(u16::from_le_bytes([low, high]));
    if u16::from_le_bytes(id) != B::ID || size < HEADER_BYTES {
        return Err(Unserved::Otherwise);
    }
    let mut body = vec![0; size - HEADER_BYTES];
    stream.read_exact(&mut body)?;
    B::parse(&body).ok_or(Unserved::Otherwise)
}

fn chats(stream: &mut (impl Read + Write)) -> Result<(), Unserved> {
    /// More than the welcome and the answer.
    const BYTES_MAX: u64 = 4096;
    stream.write_all(b"/name raon-ok\n")?;
    let mut lines = BufReader::new(stream.take(BYTES_MAX)).split(b'\n');
    let is_answered = lines.any(|line| line.is_ok_and(|line| line == b"* you are raon-ok"));
    if is_answered { Ok(()) } else { Err(Unserved::Otherwise) }
}

fn cannot_connect(arguments: &Arguments, error: io::Error) -> Failure {
    let (address, service) = (&arguments.connect, arguments.service.name());
    let doing = format!("cannot connect to {address}");
    if error.raw_os_error().is_none() {
        return Failure::of(doing, "no answer in 5 s; check the address and the network");
    }
    if let (None, io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) = (address.ip(), error.kind()) {
        let remedy = format!("nothing listens there; start the server (`raon serve {service} --listen {address}`)");
        return Failure::of(doing, remedy);
    }
    Failure::of(doing, raon_provider::Error::from(error))
}
