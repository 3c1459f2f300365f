//! The floor: bare io_uring, one buffer per connection, a receive into it, a send out of it, and so on. No framework,
//! one `io_uring_enter` per turn, at most one operation in flight per connection.

use std::os::fd::AsRawFd;

use clap::Parser;
use io_uring::{cqueue, opcode, squeue, types::Fd};
use raon_bench_peers::{Common, uring};

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// Entries of the submission queue; the completion queue has four times as many.
    #[arg(long, default_value_t = 1024)]
    sq_entries: u32,
    /// Wait for readiness before a receive that the previous one has shown to find nothing yet.
    #[arg(long)]
    poll_first: bool,
}

const ACCEPT: u64 = u64::MAX;
const CLOSE: u64 = u64::MAX - 1;
/// `IORING_RECVSEND_POLL_FIRST` of the kernel's interface.
const POLL_FIRST: u16 = 1;

struct Conn {
    fd: Fd,
    buf: Box<[u8]>,
    /// Bytes to echo, 0 while receiving, and how many of them are sent.
    len: usize,
    sent: usize,
    ioprio: u16,
}

impl Conn {
    fn entry(&mut self) -> squeue::Entry {
        if self.len == 0 {
            let buf = &mut self.buf;
            opcode::Recv::new(self.fd, buf.as_mut_ptr(), buf.len() as u32).ioprio(self.ioprio).build()
        } else {
            let rest = &self.buf[self.sent..self.len];
            let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
            opcode::Send::new(self.fd, rest.as_ptr(), rest.len() as u32).flags(flags).build()
        }
    }
}

fn main() -> std::io::Result<()> {
    let args = Args::parse();
    let listener = args.common.start(env!("CARGO_BIN_NAME"))?;
    let accept = opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).flags(libc::SOCK_CLOEXEC).build().user_data(ACCEPT);
    let mut conns: Vec<Conn> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut accepting = true;

    let mut ring = uring::ring(args.sq_entries)?;
    let mut queues = uring::Queues::new(&mut ring)?;
    // SAFETY: a multishot accept points to nothing.
    unsafe { queues.push(&accept)? };
    loop {
        queues.enter(1)?;
        while let Some(cqe) = queues.cq.next() {
            let result = cqe.result();
            let index = match cqe.user_data() {
                CLOSE => continue,
                ACCEPT => {
                    accepting = cqueue::more(cqe.flags());
                    // Out of descriptors: accept again once a connection has closed.
                    if !accepting && !matches!(-result, libc::EMFILE | libc::ENFILE) {
                        accepting = true;
                        // SAFETY: as above.
                        unsafe { queues.push(&accept)? };
                    }
                    if result < 0 {
                        continue;
                    }
                    let buf = vec![0; args.common.buffer_bytes].into();
                    let conn = Conn { fd: Fd(result), buf, len: 0, sent: 0, ioprio: 0 };
                    match free.pop() {
                        Some(index) => {
                            conns[index] = conn;
                            index
                        }
                        None => {
                            conns.push(conn);
                            conns.len() - 1
                        }
                    }
                }
                index => {
                    let index = index as usize;
                    let conn = &mut conns[index];
                    // The end or an error, of either direction. Nothing else of this connection is in flight.
                    if result <= 0 {
                        let close = opcode::Close::new(conn.fd).build().user_data(CLOSE);
                        // SAFETY: a close points to nothing.
                        unsafe { queues.push(&close.flags(squeue::Flags::SKIP_SUCCESS))? };
                        free.push(index);
                        if !accepting {
                            accepting = true;
                            // SAFETY: as above.
                            unsafe { queues.push(&accept)? };
                        }
                        continue;
                    }
                    if conn.len == 0 {
                        conn.len = result as usize;
                        let wait = args.poll_first && !cqueue::sock_nonempty(cqe.flags());
                        conn.ioprio = if wait { POLL_FIRST } else { 0 };
                    } else {
                        conn.sent += result as usize;
                        if conn.sent == conn.len {
                            (conn.len, conn.sent) = (0, 0);
                        }
                    }
                    index
                }
            };
            let entry = conns[index].entry().user_data(index as u64);
            // SAFETY: the buffer is on the heap and stays there while the entry is in flight: the slot of a connection
            // is given away only when it has no operation in flight, and until then this loop does not touch it.
            unsafe { queues.push(&entry)? };
        }
    }
}
