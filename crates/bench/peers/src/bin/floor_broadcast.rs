//! The floor for one message to everyone: bare io_uring, a single-shot receive per connection, and per message one
//! send entry for each connection, all submitted by one enter from one buffer. Sends do not wait: what a socket does
//! not take is copied to the backlog of its connection and sent with waiting.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;

use clap::Parser;
use io_uring::{cqueue, opcode, squeue, types::Fd};
use raon_bench_peers::{Common, FRAME, Frames, uring};

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// Entries of the submission queue; the completion queue has four times as many.
    #[arg(long, default_value_t = 2048)]
    sq_entries: u32,
    /// No completion for a send that has gone out whole.
    #[arg(long)]
    skip: bool,
}

const ACCEPT: u64 = u64::MAX;
const CLOSE: u64 = u64::MAX - 1;
const RECEIVE: u64 = 0;
const SEND: u64 = 1;
const SEND_BACKLOG: u64 = 2;

struct Conn {
    fd: Fd,
    /// Tells completions of this connection from late ones of an earlier connection in the same slot.
    generation: u32,
    open: bool,
    receiving: bool,
    failed: bool,
    buf: Box<[u8]>,
    frames: Frames,
    /// What the socket did not take, the part of it that is being sent, and how much of that is out.
    backlog: Vec<u8>,
    sending: Vec<u8>,
    sent: usize,
}

impl Conn {
    fn new(fd: i32, generation: u32, buffer_bytes: usize) -> Self {
        let buf = vec![0; buffer_bytes].into();
        let (backlog, sending, frames) = (Vec::new(), Vec::new(), Frames::default());
        let (open, receiving, failed) = (true, false, false);
        Self { fd: Fd(fd), generation, open, receiving, failed, buf, frames, backlog, sending, sent: 0 }
    }
}

struct Server<'a> {
    queues: uring::Queues<'a>,
    conns: Vec<Conn>,
    free: Vec<usize>,
    /// Messages to be sent; the one at hand is in `message` from its submission to the next.
    waiting: VecDeque<[u8; FRAME]>,
    message: Box<[u8; FRAME]>,
    args: Args,
    accept: squeue::Entry,
    accepting: bool,
}

impl Server<'_> {
    fn arm_accept(&mut self) -> io::Result<()> {
        self.accepting = true;
        // SAFETY: a multishot accept points to nothing.
        unsafe { self.queues.push(&self.accept) }
    }

    fn data(&self, index: usize, kind: u64) -> u64 {
        u64::from(self.conns[index].generation) << 32 | (index as u64) << 2 | kind
    }

    fn receive(&mut self, index: usize) -> io::Result<()> {
        let data = self.data(index, RECEIVE);
        let conn = &mut self.conns[index];
        conn.receiving = true;
        let entry = opcode::Recv::new(conn.fd, conn.buf.as_mut_ptr(), conn.buf.len() as u32).build();
        // SAFETY: the buffer is on the heap and untouched until the completion; its connection is kept until then.
        unsafe { self.queues.push(&entry.user_data(data)) }
    }

    /// Sends one message to everyone; those with a backlog get it behind that.
    fn broadcast(&mut self, message: [u8; FRAME]) -> io::Result<()> {
        *self.message = message;
        let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        let entry_flags = if self.args.skip { squeue::Flags::SKIP_SUCCESS } else { squeue::Flags::empty() };
        for (index, conn) in self.conns.iter_mut().enumerate() {
            if !conn.open || conn.failed {
                continue;
            }
            if !conn.sending.is_empty() {
                conn.backlog.extend_from_slice(&message);
                continue;
            }
            let data = u64::from(conn.generation) << 32 | (index as u64) << 2 | SEND;
            let entry = opcode::Send::new(conn.fd, self.message.as_ptr(), FRAME as u32).flags(flags).build();
            // SAFETY: the message is on the heap. A send that does not wait is over when the enter that submits it
            // returns, and `message` is written again only after that.
            unsafe { self.queues.push(&entry.flags(entry_flags).user_data(data))? };
        }
        Ok(())
    }

    /// Sends the backlog, waiting for the socket.
    fn send_backlog(&mut self, index: usize) -> io::Result<()> {
        let data = self.data(index, SEND_BACKLOG);
        let conn = &mut self.conns[index];
        let rest = &conn.sending[conn.sent..];
        let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let entry = opcode::Send::new(conn.fd, rest.as_ptr(), rest.len() as u32).flags(flags).build();
        // SAFETY: `sending` is not changed while it is being sent, and its connection is kept until then.
        unsafe { self.queues.push(&entry.user_data(data)) }
    }

    /// Closes a connection that has nothing in flight any more.
    fn close_if_idle(&mut self, index: usize) -> io::Result<()> {
        let conn = &mut self.conns[index];
        if conn.receiving || !conn.sending.is_empty() {
            return Ok(());
        }
        conn.open = false;
        let close = opcode::Close::new(conn.fd).build().user_data(CLOSE);
        // SAFETY: a close points to nothing.
        unsafe { self.queues.push(&close.flags(squeue::Flags::SKIP_SUCCESS))? };
        self.free.push(index);
        if !self.accepting { self.arm_accept() } else { Ok(()) }
    }

    fn fail(&mut self, index: usize) -> io::Result<()> {
        let conn = &mut self.conns[index];
        conn.failed = true;
        // Ends the receive and the send that may be in flight.
        // SAFETY: the descriptor is open: a connection that has failed is closed once nothing is in flight.
        unsafe { libc::shutdown(conn.fd.0, libc::SHUT_RDWR) };
        self.close_if_idle(index)
    }

    fn accepted(&mut self, result: i32, flags: u32) -> io::Result<()> {
        self.accepting = cqueue::more(flags);
        // Out of descriptors: accept again once a connection has closed.
        if !self.accepting && !matches!(-result, libc::EMFILE | libc::ENFILE) {
            self.arm_accept()?;
        }
        if result < 0 {
            return Ok(());
        }
        let index = self.free.pop().unwrap_or(self.conns.len());
        if index == self.conns.len() {
            self.conns.push(Conn::new(result, 0, self.args.common.buffer_bytes));
        } else {
            // Half of the range, so that no value of user data is one of the constants.
            let generation = (self.conns[index].generation + 1) & (u32::MAX >> 1);
            self.conns[index] = Conn::new(result, generation, self.args.common.buffer_bytes);
        }
        self.receive(index)
    }

    fn received(&mut self, index: usize, result: i32) -> io::Result<()> {
        let conn = &mut self.conns[index];
        conn.receiving = false;
        if result <= 0 {
            return self.fail(index);
        }
        let waiting = &mut self.waiting;
        conn.frames.feed(&conn.buf[..result as usize], |frame| waiting.push_back(*frame));
        self.receive(index)
    }

    /// The completion of a send of the message at hand.
    fn message_sent(&mut self, index: usize, result: i32) -> io::Result<()> {
        let conn = &mut self.conns[index];
        match result {
            _ if conn.failed => Ok(()),
            result if result == FRAME as i32 => Ok(()),
            result if result > 0 || result == -libc::EAGAIN => {
                conn.sending.extend_from_slice(&self.message[result.max(0) as usize..]);
                self.send_backlog(index)
            }
            _ => self.fail(index),
        }
    }

    fn backlog_sent(&mut self, index: usize, result: i32) -> io::Result<()> {
        let conn = &mut self.conns[index];
        if result > 0 && !conn.failed {
            conn.sent += result as usize;
            if conn.sent < conn.sending.len() {
                return self.send_backlog(index);
            }
            conn.sent = 0;
            conn.sending.clear();
            std::mem::swap(&mut conn.sending, &mut conn.backlog);
            return if conn.sending.is_empty() { Ok(()) } else { self.send_backlog(index) };
        }
        conn.sending.clear();
        self.fail(index)
    }

    fn run(&mut self) -> io::Result<()> {
        self.arm_accept()?;
        let mut all_known = true;
        loop {
            // One message per turn: the next one goes out when it is known what became of the last.
            if all_known && let Some(message) = self.waiting.pop_front() {
                self.broadcast(message)?;
            }
            self.queues.enter(u32::from(all_known && self.waiting.is_empty()))?;
            all_known = self.queues.sq.is_empty() && !self.queues.sq.cq_overflow();
            while let Some(cqe) = self.queues.cq.next() {
                let (data, result) = (cqe.user_data(), cqe.result());
                let index = (data as u32 >> 2) as usize;
                match data {
                    CLOSE => {}
                    ACCEPT => self.accepted(result, cqe.flags())?,
                    _ if self.conns[index].generation != (data >> 32) as u32 || !self.conns[index].open => {}
                    _ => match data & 3 {
                        RECEIVE => self.received(index, result)?,
                        SEND => self.message_sent(index, result)?,
                        _ => self.backlog_sent(index, result)?,
                    },
                }
            }
        }
    }
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let listener = args.common.start(env!("CARGO_BIN_NAME"))?;
    let accept = opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).flags(libc::SOCK_CLOEXEC).build();
    let mut ring = uring::ring(args.sq_entries)?;
    let mut server = Server {
        queues: uring::Queues::new(&mut ring)?,
        conns: Vec::new(),
        free: Vec::new(),
        waiting: VecDeque::new(),
        message: Box::new([0; FRAME]),
        accept: accept.user_data(ACCEPT),
        accepting: false,
        args,
    };
    server.run()
}
