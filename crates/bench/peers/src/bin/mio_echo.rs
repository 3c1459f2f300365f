//! mio: registered once for both directions, edge-triggered, and every readiness drained until `WouldBlock`, as the
//! documentation of `mio::Poll` asks.

use std::io::{self, Read, Write};

use clap::Parser;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use raon_bench_peers::Common;
use slab::Slab;

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
}

const LISTENER: Token = Token(usize::MAX);

struct Conn {
    stream: TcpStream,
    /// What the socket did not take. While there is any, nothing more is read.
    unsent: Vec<u8>,
}

/// Writes until all is written or the socket takes no more.
fn write(mut stream: &TcpStream, data: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < data.len() {
        match stream.write(&data[written..]) {
            Ok(count) => written += count,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(written)
}

/// Serves one event; false when the connection is over.
fn serve(conn: &mut Conn, buf: &mut [u8]) -> io::Result<bool> {
    if !conn.unsent.is_empty() {
        let written = write(&conn.stream, &conn.unsent)?;
        conn.unsent.drain(..written);
        if !conn.unsent.is_empty() {
            return Ok(true);
        }
    }
    loop {
        match conn.stream.read(buf) {
            Ok(0) => return Ok(false),
            Ok(count) => {
                let written = write(&conn.stream, &buf[..count])?;
                if written < count {
                    conn.unsent.extend_from_slice(&buf[written..count]);
                    return Ok(true);
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let listener = args.common.start(env!("CARGO_BIN_NAME"))?;
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut conns: Slab<Conn> = Slab::new();
    let mut buf = vec![0; args.common.buffer_bytes];
    loop {
        match poll.poll(&mut events, None) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            if event.token() == LISTENER {
                loop {
                    match listener.accept() {
                        Ok((mut stream, _)) => {
                            let entry = conns.vacant_entry();
                            let interest = Interest::READABLE | Interest::WRITABLE;
                            poll.registry().register(&mut stream, Token(entry.key()), interest)?;
                            entry.insert(Conn { stream, unsent: Vec::new() });
                        }
                        Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                        // The peer is gone already; another may wait.
                        Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
                        Err(e) => return Err(e),
                    }
                }
                continue;
            }
            let Token(key) = event.token();
            if !serve(&mut conns[key], &mut buf).unwrap_or(false) {
                // Closes the descriptor, which also takes it out of the epoll set.
                conns.remove(key);
            }
        }
    }
}
