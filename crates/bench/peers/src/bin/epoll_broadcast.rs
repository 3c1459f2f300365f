//! One message to everyone with raw epoll, edge-triggered: the message is sent to each connection at once; what a
//! socket does not take goes to the backlog of its connection, for which alone `EPOLLOUT` is asked.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use clap::Parser;
use raon_bench_peers::epoll::{ENDED, Epoll, READ, WRITE, accept, events, receive, send};
use raon_bench_peers::{Common, FRAME, Frames};
use slab::Slab;

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
}

const LISTENER: u64 = u64::MAX;

struct Conn {
    fd: OwnedFd,
    frames: Frames,
    backlog: Vec<u8>,
    /// The peer has ended its side: receive until that is read.
    ended: bool,
}

/// Receives what there is into `messages`; false when the connection is over.
fn receive_all(conn: &mut Conn, buf: &mut [u8], messages: &mut Vec<[u8; FRAME]>) -> io::Result<bool> {
    loop {
        match receive(&conn.fd, buf) {
            Ok(0) => return Ok(false),
            Ok(count) => {
                conn.frames.feed(&buf[..count], |frame| messages.push(*frame));
                if count < buf.len() && !conn.ended {
                    return Ok(true);
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(e) => return Err(e),
        }
    }
}

fn send_backlog(epoll: &Epoll, conn: &mut Conn, key: u64) -> io::Result<()> {
    let sent = send(&conn.fd, &conn.backlog)?;
    conn.backlog.drain(..sent);
    if conn.backlog.is_empty() {
        epoll.control(libc::EPOLL_CTL_MOD, conn.fd.as_raw_fd(), READ, key)?;
    }
    Ok(())
}

fn send_message(epoll: &Epoll, conn: &mut Conn, key: u64, message: &[u8; FRAME]) -> io::Result<()> {
    if conn.backlog.is_empty() {
        let sent = send(&conn.fd, message)?;
        if sent == FRAME {
            return Ok(());
        }
        conn.backlog.extend_from_slice(&message[sent..]);
        epoll.control(libc::EPOLL_CTL_MOD, conn.fd.as_raw_fd(), READ | WRITE, key)
    } else {
        conn.backlog.extend_from_slice(message);
        Ok(())
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
    let mut messages = Vec::new();
    loop {
        let count = epoll.wait(&mut events)?;
        for event in &events[..count] {
            let (key, events) = (event.u64, event.events);
            if key == LISTENER {
                // Whatever ends the loop, there is nothing to do: the listener is level-triggered.
                while let Ok(fd) = accept(&listener) {
                    let entry = conns.vacant_entry();
                    epoll.control(libc::EPOLL_CTL_ADD, fd.as_raw_fd(), READ, entry.key() as u64)?;
                    entry.insert(Conn { fd, frames: Frames::default(), backlog: Vec::new(), ended: false });
                }
                continue;
            }
            let conn = &mut conns[key as usize];
            conn.ended |= events & ENDED != 0;
            let flushed = if conn.backlog.is_empty() { Ok(()) } else { send_backlog(&epoll, conn, key) };
            let open = flushed.and_then(|()| receive_all(conn, &mut buf, &mut messages));
            if !open.unwrap_or(false) {
                // Closes the descriptor, which also takes it out of the epoll set.
                conns.remove(key as usize);
            }
            for message in messages.drain(..) {
                for (key, conn) in &mut conns {
                    // A connection that fails here reports it by an event of its own.
                    let _ = send_message(&epoll, conn, key as u64, &message);
                }
            }
        }
    }
}
