//! The floor with multishot receives: bare io_uring, one buffer ring for all connections, each send straight from the
//! buffer that the receive filled, which goes back to the ring when the send is complete. One send in flight per
//! connection; what else arrives is queued and sent in order. The buffers are shared: a peer that does not read what
//! it is sent holds its part of them.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;

use clap::Parser;
use io_uring::types::Fd;
use io_uring::{cqueue, opcode, squeue};
use raon_bench_peers::buffers::Buffers;
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
    /// Send without waiting and without a completion for what has gone out whole.
    #[arg(long)]
    skip: bool,
}

const ACCEPT: u64 = u64::MAX;
const CLOSE: u64 = u64::MAX - 1;
const SEND: u64 = 1;

#[derive(Clone, Copy)]
struct Received {
    id: u16,
    start: u32,
    end: u32,
}

#[derive(Clone, Copy, PartialEq)]
enum Sending {
    No,
    /// A completion will come.
    Waited,
    /// No completion unless it failed; the number tells this send from later ones of the connection.
    Quiet(u32),
}

struct Conn {
    fd: Fd,
    receiving: bool,
    starved: bool,
    /// The peer has ended its side (the rest is still sent), or the connection failed (nothing more is).
    ended: bool,
    failed: bool,
    sending: Sending,
    /// In order; while one is being sent it is the first.
    queue: VecDeque<Received>,
}

struct Server<'a> {
    queues: uring::Queues<'a>,
    buffers: Buffers,
    conns: Vec<Conn>,
    free: Vec<usize>,
    /// Connections whose receive found the ring empty.
    starved: VecDeque<usize>,
    /// Quiet sends that are not known to be complete, oldest first: connection and number.
    quiet: VecDeque<(usize, u32)>,
    /// The numbers of the newest quiet send and of the newest that has been submitted.
    quiet_newest: u32,
    quiet_known: u32,
    /// Something waits for a quiet send. No completion will tell of it, so the next enter must not wait for one.
    hurry: bool,
    skip: bool,
    accept: squeue::Entry,
    accepting: bool,
}

impl Server<'_> {
    fn arm_accept(&mut self) -> io::Result<()> {
        self.accepting = true;
        // SAFETY: a multishot accept points to nothing.
        unsafe { self.queues.push(&self.accept) }
    }

    fn receive(&mut self, index: usize) -> io::Result<()> {
        let conn = &mut self.conns[index];
        conn.receiving = true;
        let entry = opcode::RecvMulti::new(conn.fd, 0).build().user_data((index as u64) << 1);
        // SAFETY: the buffers that the kernel picks from the ring are mapped for good and not touched here until a
        // completion hands them over.
        unsafe { self.queues.push(&entry) }
    }

    /// Sends the first in the queue.
    fn send(&mut self, index: usize, quiet: bool) -> io::Result<()> {
        let conn = &mut self.conns[index];
        let part = conn.queue[0];
        let mut flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let mut entry_flags = squeue::Flags::empty();
        conn.sending = Sending::Waited;
        if quiet {
            self.quiet_newest = self.quiet_newest.wrapping_add(1);
            conn.sending = Sending::Quiet(self.quiet_newest);
            self.quiet.push_back((index, self.quiet_newest));
            self.hurry |= conn.queue.len() > 1 || conn.ended;
            flags |= libc::MSG_DONTWAIT;
            entry_flags = squeue::Flags::SKIP_SUCCESS;
        }
        let start = self.buffers.at(part.id).wrapping_add(part.start as usize);
        let entry = opcode::Send::new(conn.fd, start, part.end - part.start).flags(flags).build();
        // SAFETY: the bytes are in a buffer that the kernel has filled and that is given back only once this send is
        // over.
        unsafe { self.queues.push(&entry.flags(entry_flags).user_data((index as u64) << 1 | SEND)) }
    }

    /// The first in the queue has gone out.
    fn sent(&mut self, index: usize) -> io::Result<()> {
        let conn = &mut self.conns[index];
        conn.sending = Sending::No;
        if let Some(part) = conn.queue.pop_front() {
            self.buffers.give(part.id);
        }
        self.advance(index)
    }

    /// Does what is next for a connection.
    fn advance(&mut self, index: usize) -> io::Result<()> {
        let conn = &mut self.conns[index];
        match conn.sending {
            Sending::No => {}
            Sending::Waited => return Ok(()),
            Sending::Quiet(number) => {
                self.hurry |= number.wrapping_sub(self.quiet_known) as i32 > 0;
                return Ok(());
            }
        }
        if conn.failed {
            conn.queue.drain(..).for_each(|part| self.buffers.give(part.id));
        }
        if !conn.queue.is_empty() {
            return self.send(index, self.skip);
        }
        if conn.ended && !conn.receiving && !conn.starved {
            let close = opcode::Close::new(conn.fd).build().user_data(CLOSE);
            // SAFETY: a close points to nothing.
            unsafe { self.queues.push(&close.flags(squeue::Flags::SKIP_SUCCESS))? };
            self.free.push(index);
            if !self.accepting {
                self.arm_accept()?;
            }
        }
        Ok(())
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
        let queue = VecDeque::new();
        let (fd, sending) = (Fd(result), Sending::No);
        let conn = Conn { fd, receiving: false, starved: false, ended: false, failed: false, sending, queue };
        let index = self.free.pop().unwrap_or(self.conns.len());
        if index == self.conns.len() {
            self.conns.push(conn);
        } else {
            self.conns[index] = conn;
        }
        self.receive(index)
    }

    fn received(&mut self, index: usize, result: i32, flags: u32) -> io::Result<()> {
        let conn = &mut self.conns[index];
        conn.receiving = cqueue::more(flags);
        if let Some(id) = cqueue::buffer_select(flags) {
            self.buffers.took();
            if result > 0 {
                conn.queue.push_back(Received { id, start: 0, end: result as u32 });
            } else {
                self.buffers.give(id);
            }
        }
        match -result {
            ..0 if conn.receiving || conn.ended => {}
            ..0 => self.receive(index)?,
            libc::ENOBUFS if !conn.ended => {
                conn.starved = true;
                self.starved.push_back(index);
            }
            0 | libc::ENOBUFS => conn.ended = true,
            _ => (conn.ended, conn.failed) = (true, true),
        }
        self.advance(index)
    }

    /// The completion of a send: any that was waited for, or a quiet one that has not gone out whole.
    fn send_completed(&mut self, index: usize, result: i32) -> io::Result<()> {
        let conn = &mut self.conns[index];
        if result > 0 || (result == -libc::EAGAIN && conn.sending != Sending::Waited) {
            let part = &mut conn.queue[0];
            part.start += result.max(0) as u32;
            return if part.start == part.end { self.sent(index) } else { self.send(index, false) };
        }
        (conn.ended, conn.failed) = (true, true);
        // Ends the receive, whose last completion then closes the connection.
        // SAFETY: the descriptor is open until then.
        unsafe { libc::shutdown(conn.fd.0, libc::SHUT_RDWR) };
        self.sent(index)
    }

    /// Takes quiet sends for complete that are submitted and have not reported anything else by now.
    fn settle(&mut self) -> io::Result<()> {
        while let Some(&(index, number)) = self.quiet.front() {
            if number.wrapping_sub(self.quiet_known) as i32 > 0 {
                break;
            }
            self.quiet.pop_front();
            if self.conns[index].sending == Sending::Quiet(number) {
                self.sent(index)?;
            }
        }
        Ok(())
    }

    /// Lets starved connections receive again, as many as there are buffers.
    fn feed_starved(&mut self) -> io::Result<()> {
        for _ in 0..self.starved.len().min(self.buffers.free().into()) {
            let Some(index) = self.starved.pop_front() else { break };
            self.conns[index].starved = false;
            if self.conns[index].ended { self.advance(index)? } else { self.receive(index)? }
        }
        // A connection without bytes starves too when it asks, and then uses no buffer: nothing would come of a wait.
        self.hurry |= !self.starved.is_empty() && (self.buffers.free() > 0 || !self.quiet.is_empty());
        Ok(())
    }

    fn run(&mut self) -> io::Result<()> {
        self.arm_accept()?;
        loop {
            self.queues.enter(u32::from(!self.hurry))?;
            // A quiet send that is submitted is over, and if it failed, its completion is in the queue.
            let all_known = self.queues.sq.is_empty() && !self.queues.sq.cq_overflow();
            self.hurry = !all_known;
            if all_known {
                self.quiet_known = self.quiet_newest;
            }
            while let Some(cqe) = self.queues.cq.next() {
                let index = (cqe.user_data() >> 1) as usize;
                match cqe.user_data() {
                    ACCEPT => self.accepted(cqe.result(), cqe.flags())?,
                    CLOSE => {}
                    data if data & SEND == 0 => self.received(index, cqe.result(), cqe.flags())?,
                    _ => self.send_completed(index, cqe.result())?,
                }
            }
            self.settle()?;
            self.feed_starved()?;
        }
    }
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let listener = args.common.start(env!("CARGO_BIN_NAME"))?;
    let accept = opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).flags(libc::SOCK_CLOEXEC).build();
    let mut ring = uring::ring(args.sq_entries)?;
    let queues = uring::Queues::new(&mut ring)?;
    let mut server = Server {
        buffers: Buffers::new(&queues, args.ring_entries, args.common.buffer_bytes)?,
        queues,
        conns: Vec::new(),
        free: Vec::new(),
        starved: VecDeque::new(),
        quiet: VecDeque::new(),
        quiet_newest: 0,
        quiet_known: 0,
        hurry: false,
        skip: args.skip,
        accept: accept.user_data(ACCEPT),
        accepting: false,
    };
    server.run()
}
