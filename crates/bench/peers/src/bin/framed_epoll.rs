//! A lean framed server on raw epoll, edge-triggered: receive into one shared buffer until the socket is drained, answer
//! every frame into the connection's output, and send that once per connection and turn. What the producer has queued is
//! taken once per turn and leaves by the same sends.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use clap::Parser;
use raon_bench_peers::Common;
use raon_bench_peers::epoll::{ENDED, Epoll, READ, WRITE, accept, events, receive, send};
use raon_bench_peers::framed::{Asked, Assembler, JOINED, Producer, SIZE_BYTES, answer, asked, join, leave};
use raon_bench_peers::inbox::{Inbox, Pushes};
use slab::Slab;

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
}

const LISTENER: u64 = u64::MAX;
const INBOX: u64 = u64::MAX - 1;
/// More answers than this do not wait for the end of the turn; if they do not go out, no more is received.
const OUT_MAX: usize = 1 << 20;

struct Conn {
    fd: OwnedFd,
    assembler: Assembler,
    /// To be sent: of this turn, or what the socket did not take.
    out: Vec<u8>,
    /// `out` waits for the socket; nothing more is received meanwhile.
    blocked: bool,
    /// In the list of those to be flushed.
    dirty: bool,
    /// The peer has ended its side: receive until that is read.
    ended: bool,
}

struct Server {
    epoll: Epoll,
    conns: Slab<Conn>,
    /// By session number.
    sessions: Vec<Option<usize>>,
    /// Connections with output.
    dirty: Vec<usize>,
    buf: Vec<u8>,
    producer: Producer,
}

impl Server {
    fn mark(&mut self, key: usize) {
        if !std::mem::replace(&mut self.conns[key].dirty, true) {
            self.dirty.push(key);
        }
    }

    /// Receives until the socket is drained and answers; false when the connection is over.
    fn receive(&mut self, key: usize) -> io::Result<bool> {
        loop {
            let conn = &mut self.conns[key];
            let count = match receive(&conn.fd, &mut self.buf) {
                Ok(0) => return Ok(false),
                Ok(count) => count,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(e) => return Err(e),
            };
            conn.assembler.feed(&self.buf[..count], |frame| {
                match asked(&frame[SIZE_BYTES..])? {
                    Asked::Answer(id) => answer(frame, id, &mut conn.out),
                    Asked::Join(number) => {
                        answer(frame, JOINED, &mut conn.out);
                        join(&mut self.sessions, number, key);
                    }
                    Asked::Grant { count, sessions } => self.producer.grant(count, sessions)?,
                }
                Ok(())
            })?;
            if count < self.buf.len() && !conn.ended {
                return Ok(true);
            }
            if conn.out.len() > OUT_MAX {
                self.flush(key)?;
                if self.conns[key].blocked {
                    return Ok(true);
                }
            }
        }
    }

    /// Sends what a connection has, once.
    fn flush(&mut self, key: usize) -> io::Result<()> {
        let conn = &mut self.conns[key];
        conn.dirty = false;
        if conn.blocked {
            return Ok(());
        }
        let sent = send(&conn.fd, &conn.out)?;
        conn.out.drain(..sent);
        if !conn.out.is_empty() {
            conn.blocked = true;
            self.epoll.control(libc::EPOLL_CTL_MOD, conn.fd.as_raw_fd(), READ | WRITE, key as u64)?;
        }
        Ok(())
    }

    /// Sends on; true if everything is out and receiving may go on.
    fn unblock(&mut self, key: usize) -> io::Result<bool> {
        let conn = &mut self.conns[key];
        let sent = send(&conn.fd, &conn.out)?;
        conn.out.drain(..sent);
        conn.blocked = !conn.out.is_empty();
        if !conn.blocked {
            self.epoll.control(libc::EPOLL_CTL_MOD, conn.fd.as_raw_fd(), READ, key as u64)?;
        }
        Ok(!conn.blocked)
    }

    /// One event of a connection; false when it is over.
    fn serve(&mut self, key: usize, events: u32) -> io::Result<bool> {
        self.conns[key].ended |= events & ENDED != 0;
        if self.conns[key].blocked && !self.unblock(key)? {
            return Ok(true);
        }
        let open = self.receive(key)?;
        if !self.conns[key].out.is_empty() {
            if open { self.mark(key) } else { self.flush(key)? }
        }
        Ok(open)
    }

    fn push(&mut self, pushes: &Pushes) {
        for (number, push) in pushes {
            if let Some(&Some(key)) = self.sessions.get(*number as usize) {
                self.conns[key].out.extend_from_slice(push);
                self.mark(key);
            }
        }
    }

    /// Closes the descriptor, which also takes it out of the epoll set.
    fn close(&mut self, key: usize) {
        if self.conns.remove(key).dirty {
            self.dirty.retain(|dirty| *dirty != key);
        }
        leave(&mut self.sessions, key);
    }
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let listener = args.common.start(env!("CARGO_BIN_NAME"))?;
    listener.set_nonblocking(true)?;
    let inbox = Inbox::new()?;
    let sending = Arc::clone(&inbox);
    let producer = Producer::spawn(move |number, push| sending.send(number, push))?;
    let epoll = Epoll::new()?;
    epoll.control(libc::EPOLL_CTL_ADD, listener.as_raw_fd(), libc::EPOLLIN as u32, LISTENER)?;
    epoll.control(libc::EPOLL_CTL_ADD, inbox.event(), libc::EPOLLIN as u32, INBOX)?;
    let (conns, sessions, dirty, buf) = (Slab::new(), Vec::new(), Vec::new(), vec![0; args.common.buffer_bytes]);
    let mut server = Server { epoll, conns, sessions, dirty, buf, producer };
    let (mut events, mut pushes, mut flushing) = (events(1024), Pushes::new(), Vec::new());
    loop {
        inbox.take(&mut pushes);
        server.push(&pushes);
        std::mem::swap(&mut server.dirty, &mut flushing);
        for key in flushing.drain(..) {
            if server.conns.contains(key) && server.flush(key).is_err() {
                server.close(key);
            }
        }
        let count = server.epoll.wait_for(&mut events, if pushes.is_empty() { -1 } else { 0 })?;
        inbox.awake();
        for event in &events[..count] {
            match (event.u64, event.events) {
                // Whatever ends the loop, there is nothing to do: the listener is level-triggered.
                (LISTENER, _) => {
                    while let Ok(fd) = accept(&listener) {
                        let entry = server.conns.vacant_entry();
                        server.epoll.control(libc::EPOLL_CTL_ADD, fd.as_raw_fd(), READ, entry.key() as u64)?;
                        let (assembler, out) = (Assembler::default(), Vec::new());
                        entry.insert(Conn { fd, assembler, out, blocked: false, dirty: false, ended: false });
                    }
                }
                (INBOX, _) => inbox.reset(),
                (key, events) => {
                    if !server.serve(key as usize, events).unwrap_or(false) {
                        server.close(key as usize);
                    }
                }
            }
        }
    }
}
