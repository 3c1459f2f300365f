//! Raw epoll, edge-triggered: receive into one shared buffer, send at once. A short receive means that the socket is
//! drained (epoll(7)); `EPOLLOUT` is asked for only after a send that the socket did not take whole.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use clap::Parser;
use raon_bench_peers::Common;
use raon_bench_peers::epoll::{ENDED, Epoll, READ, WRITE, accept, events, receive, send};
use slab::Slab;

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
}

const LISTENER: u64 = u64::MAX;

struct Conn {
    fd: OwnedFd,
    /// What the socket did not take. While there is any, nothing more is received.
    unsent: Vec<u8>,
    /// The peer has ended its side: receive until that is read.
    ended: bool,
}

/// Serves one event; false when the connection is over.
fn serve(epoll: &Epoll, conn: &mut Conn, key: u64, events: u32, buf: &mut [u8]) -> io::Result<bool> {
    conn.ended |= events & ENDED != 0;
    if !conn.unsent.is_empty() {
        let sent = send(&conn.fd, &conn.unsent)?;
        conn.unsent.drain(..sent);
        if !conn.unsent.is_empty() {
            return Ok(true);
        }
        epoll.control(libc::EPOLL_CTL_MOD, conn.fd.as_raw_fd(), READ, key)?;
    }
    loop {
        let count = match receive(&conn.fd, buf) {
            Ok(0) => return Ok(false),
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(e) => return Err(e),
        };
        let sent = send(&conn.fd, &buf[..count])?;
        if sent < count {
            conn.unsent.extend_from_slice(&buf[sent..count]);
            epoll.control(libc::EPOLL_CTL_MOD, conn.fd.as_raw_fd(), READ | WRITE, key)?;
            return Ok(true);
        }
        if count < buf.len() && !conn.ended {
            return Ok(true);
        }
    }
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let listener = args.common.start(env!("CARGO_BIN_NAME"))?;
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new()?;
    epoll.control(libc::EPOLL_CTL_ADD, listener.as_raw_fd(), libc::EPOLLIN as u32, LISTENER)?;
    let mut conns: Slab<Conn> = Slab::new();
    let mut events = events(1024);
    let mut buf = vec![0; args.common.buffer_bytes];
    loop {
        let count = epoll.wait(&mut events)?;
        for event in &events[..count] {
            let (key, events) = (event.u64, event.events);
            if key == LISTENER {
                // Whatever ends the loop, there is nothing to do: the listener is level-triggered.
                while let Ok(fd) = accept(&listener) {
                    let entry = conns.vacant_entry();
                    epoll.control(libc::EPOLL_CTL_ADD, fd.as_raw_fd(), READ, entry.key() as u64)?;
                    entry.insert(Conn { fd, unsent: Vec::new(), ended: false });
                }
            } else {
                let conn = &mut conns[key as usize];
                if !serve(&epoll, conn, key, events, &mut buf).unwrap_or(false) {
                    // Closes the descriptor, which also takes it out of the epoll set.
                    conns.remove(key as usize);
                }
            }
        }
    }
}
