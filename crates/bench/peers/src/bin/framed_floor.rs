//! The floor for frames: a lean single-threaded server on bare io_uring. Multishot receives into one buffer ring; frames
//! are answered where they lie, and only what came in pieces is put together. The answers of a turn leave as one send per
//! connection, and what the producer has queued, taken once per turn, by the same sends. A send does not wait and posts no
//! completion if it went out whole: the enter that submits it is the end of it.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use clap::Parser;
use io_uring::types::Fd;
use io_uring::{cqueue, opcode, squeue};
use raon_bench_peers::buffers::Buffers;
use raon_bench_peers::framed::{Asked, Assembler, JOINED, Producer, SIZE_BYTES, answer, asked, join, leave};
use raon_bench_peers::inbox::{Inbox, Pushes};
use raon_bench_peers::{Common, uring};

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// Buffers in the ring, a power of two.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u16).range(1..=32768))]
    ring_entries: u16,
    /// Entries of the submission queue; the completion queue has four times as many.
    #[arg(long, default_value_t = 1024)]
    sq_entries: u32,
}

const ACCEPT: u64 = u64::MAX;
const CLOSE: u64 = u64::MAX - 1;
const WAKE: u64 = u64::MAX - 2;
const SEND: u64 = 1;

#[derive(Clone, Copy, PartialEq)]
enum Sending {
    No,
    /// Over with the enter that submits it, unless a completion says that it did not go out whole.
    Quiet,
    /// A completion will come.
    Waited,
}

struct Conn {
    fd: Fd,
    receiving: bool,
    /// The ring had no buffer.
    starved: bool,
    /// In the list of those to be flushed.
    dirty: bool,
    /// The peer has ended its side (the rest is still sent), or the connection failed (nothing more is).
    ended: bool,
    failed: bool,
    open: bool,
    state: Sending,
    assembler: Assembler,
    /// Of this turn, and on its way out, from `sent` on.
    out: Vec<u8>,
    sending: Vec<u8>,
    sent: usize,
}

impl Conn {
    fn new(fd: i32) -> Self {
        let (out, sending, assembler) = (Vec::new(), Vec::new(), Assembler::default());
        let (receiving, starved, dirty, ended, failed) = (false, false, false, false, false);
        let (state, open, sent) = (Sending::No, true, 0);
        Self { fd: Fd(fd), receiving, starved, dirty, ended, failed, open, state, assembler, out, sending, sent }
    }
}

struct Server<'a> {
    queues: uring::Queues<'a>,
    buffers: Buffers,
    conns: Vec<Conn>,
    free: Vec<usize>,
    /// By session number.
    sessions: Vec<Option<usize>>,
    /// Connections with output; connections whose quiet send the next enter submits; those without a buffer.
    dirty: Vec<usize>,
    quiet: Vec<usize>,
    starved: Vec<usize>,
    /// A connection can be closed once a quiet send is over. No completion will tell of that, so the next enter must not
    /// wait for one.
    hurry: bool,
    accept: squeue::Entry,
    accepting: bool,
    inbox: Arc<Inbox>,
    producer: Producer,
}

impl Server<'_> {
    fn arm_accept(&mut self) -> io::Result<()> {
        self.accepting = true;
        // SAFETY: a multishot accept points to nothing.
        unsafe { self.queues.push(&self.accept) }
    }

    fn arm_wake(&mut self) -> io::Result<()> {
        let entry = opcode::PollAdd::new(Fd(self.inbox.event()), libc::POLLIN as u32).build().user_data(WAKE);
        // SAFETY: a poll points to nothing.
        unsafe { self.queues.push(&entry) }
    }

    fn receive(&mut self, index: usize) -> io::Result<()> {
        let conn = &mut self.conns[index];
        conn.receiving = true;
        let entry = opcode::RecvMulti::new(conn.fd, 0).build().user_data((index as u64) << 1);
        // SAFETY: the buffers that the kernel picks from the ring are mapped for good and not touched here until a
        // completion hands them over.
        unsafe { self.queues.push(&entry) }
    }

    fn mark(&mut self, index: usize) {
        if !std::mem::replace(&mut self.conns[index].dirty, true) {
            self.dirty.push(index);
        }
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
            self.conns.push(Conn::new(result));
        } else {
            self.conns[index] = Conn::new(result);
        }
        self.receive(index)
    }

    fn received(&mut self, index: usize, result: i32, flags: u32) -> io::Result<()> {
        self.conns[index].receiving = cqueue::more(flags);
        if let Some(id) = cqueue::buffer_select(flags) {
            self.buffers.took();
            // SAFETY: the kernel has filled so much of this buffer, and nobody else has it until it is given back.
            let bytes = unsafe { std::slice::from_raw_parts(self.buffers.at(id), result.max(0) as usize) };
            if self.answer_all(index, bytes).is_err() {
                self.fail(index);
            }
            self.buffers.give(id);
        }
        let conn = &mut self.conns[index];
        match -result {
            ..0 if conn.receiving || conn.ended => {}
            ..0 => self.receive(index)?,
            libc::ENOBUFS if !conn.ended => {
                conn.starved = true;
                self.starved.push(index);
            }
            0 | libc::ENOBUFS => conn.ended = true,
            _ => self.fail(index),
        }
        self.close_if_over(index)
    }

    /// Answers the frames that are whole with these bytes.
    fn answer_all(&mut self, index: usize, bytes: &[u8]) -> io::Result<()> {
        let conn = &mut self.conns[index];
        if conn.failed {
            return Ok(());
        }
        conn.assembler.feed(bytes, |frame| {
            match asked(&frame[SIZE_BYTES..])? {
                Asked::Answer(id) => answer(frame, id, &mut conn.out),
                Asked::Join(number) => {
                    answer(frame, JOINED, &mut conn.out);
                    join(&mut self.sessions, number, index);
                }
                Asked::Grant { count, sessions } => self.producer.grant(count, sessions)?,
            }
            Ok(())
        })?;
        if !conn.out.is_empty() {
            self.mark(index);
        }
        Ok(())
    }

    fn push(&mut self, pushes: &Pushes) {
        for (number, push) in pushes {
            if let Some(&Some(index)) = self.sessions.get(*number as usize)
                && !self.conns[index].failed
            {
                self.conns[index].out.extend_from_slice(push);
                self.mark(index);
            }
        }
    }

    /// Hands every connection with output one send, unless it has one under way.
    fn flush(&mut self) -> io::Result<()> {
        while let Some(index) = self.dirty.pop() {
            let conn = &mut self.conns[index];
            conn.dirty = false;
            if conn.open && conn.state == Sending::No && !conn.out.is_empty() {
                std::mem::swap(&mut conn.out, &mut conn.sending);
                self.hurry |= conn.ended;
                self.send(index, Sending::Quiet)?;
            }
        }
        Ok(())
    }

    fn send(&mut self, index: usize, state: Sending) -> io::Result<()> {
        let conn = &mut self.conns[index];
        conn.state = state;
        let mut flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let mut entry_flags = squeue::Flags::empty();
        if state == Sending::Quiet {
            self.quiet.push(index);
            flags |= libc::MSG_DONTWAIT;
            entry_flags = squeue::Flags::SKIP_SUCCESS;
        }
        let rest = &conn.sending[conn.sent..];
        let entry = opcode::Send::new(conn.fd, rest.as_ptr(), rest.len() as u32).flags(flags).build();
        // SAFETY: `sending` is on the heap and changed only once this send is over, and its connection is kept until then.
        unsafe { self.queues.push(&entry.flags(entry_flags).user_data((index as u64) << 1 | SEND)) }
    }

    /// The completion of a send: any that was waited for, or a quiet one that has not gone out whole.
    fn send_completed(&mut self, index: usize, result: i32) -> io::Result<()> {
        let conn = &mut self.conns[index];
        if result > 0 || (result == -libc::EAGAIN && conn.state == Sending::Quiet) {
            conn.sent += result.max(0) as usize;
            if conn.sent < conn.sending.len() {
                return self.send(index, Sending::Waited);
            }
        } else {
            self.fail(index);
        }
        self.sent(index)
    }

    fn sent(&mut self, index: usize) -> io::Result<()> {
        let conn = &mut self.conns[index];
        (conn.state, conn.sent) = (Sending::No, 0);
        conn.sending.clear();
        if !conn.out.is_empty() {
            self.mark(index);
        }
        self.close_if_over(index)
    }

    /// Takes quiet sends for complete that are submitted and have not reported anything else by now.
    fn settle(&mut self) -> io::Result<()> {
        for at in 0..self.quiet.len() {
            let index = self.quiet[at];
            if self.conns[index].state == Sending::Quiet {
                self.sent(index)?;
            }
        }
        self.quiet.clear();
        Ok(())
    }

    fn fail(&mut self, index: usize) {
        let conn = &mut self.conns[index];
        (conn.ended, conn.failed) = (true, true);
        conn.out.clear();
        // Ends the receive and the send that may be under way; their completions then close the connection.
        // SAFETY: the descriptor is open until then.
        unsafe { libc::shutdown(conn.fd.0, libc::SHUT_RDWR) };
    }

    /// Closes a connection that has ended and has nothing to send or under way any more.
    fn close_if_over(&mut self, index: usize) -> io::Result<()> {
        let conn = &mut self.conns[index];
        let is_busy = conn.receiving || conn.starved || conn.state != Sending::No || !conn.out.is_empty();
        if !conn.open || !conn.ended || is_busy {
            return Ok(());
        }
        conn.open = false;
        let close = opcode::Close::new(conn.fd).build().user_data(CLOSE);
        // SAFETY: a close points to nothing.
        unsafe { self.queues.push(&close.flags(squeue::Flags::SKIP_SUCCESS))? };
        leave(&mut self.sessions, index);
        self.free.push(index);
        if !self.accepting { self.arm_accept() } else { Ok(()) }
    }

    /// Lets starved connections receive again: all buffers are back at the end of a turn.
    fn feed_starved(&mut self) -> io::Result<()> {
        while let Some(index) = self.starved.pop() {
            self.conns[index].starved = false;
            if self.conns[index].ended { self.close_if_over(index)? } else { self.receive(index)? }
        }
        Ok(())
    }

    fn run(&mut self) -> io::Result<()> {
        self.arm_accept()?;
        self.arm_wake()?;
        let (inbox, mut pushes, mut all_known) = (Arc::clone(&self.inbox), Pushes::new(), true);
        loop {
            inbox.take(&mut pushes);
            self.push(&pushes);
            self.flush()?;
            let may_wait = all_known && pushes.is_empty() && !std::mem::take(&mut self.hurry);
            self.queues.enter(u32::from(may_wait))?;
            inbox.awake();
            // A quiet send that is submitted is over, and if it failed, its completion is in the queue.
            all_known = self.queues.sq.is_empty() && !self.queues.sq.cq_overflow();
            while let Some(cqe) = self.queues.cq.next() {
                let index = (cqe.user_data() >> 1) as usize;
                match cqe.user_data() {
                    ACCEPT => self.accepted(cqe.result(), cqe.flags())?,
                    CLOSE => {}
                    WAKE => {
                        inbox.reset();
                        self.arm_wake()?;
                    }
                    data if data & SEND == 0 => self.received(index, cqe.result(), cqe.flags())?,
                    _ => self.send_completed(index, cqe.result())?,
                }
            }
            if all_known {
                self.settle()?;
            }
            self.feed_starved()?;
        }
    }
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let listener = args.common.start(env!("CARGO_BIN_NAME"))?;
    let accept = opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).flags(libc::SOCK_CLOEXEC).build();
    let inbox = Inbox::new()?;
    let sending = Arc::clone(&inbox);
    let producer = Producer::spawn(move |number, push| sending.send(number, push))?;
    let mut ring = uring::ring(args.sq_entries)?;
    let queues = uring::Queues::new(&mut ring)?;
    let mut server = Server {
        buffers: Buffers::new(&queues, args.ring_entries, args.common.buffer_bytes)?,
        queues,
        conns: Vec::new(),
        free: Vec::new(),
        sessions: Vec::new(),
        dirty: Vec::new(),
        quiet: Vec::new(),
        starved: Vec::new(),
        hurry: false,
        accept: accept.user_data(ACCEPT),
        accepting: false,
        inbox,
        producer,
    };
    server.run()
}
