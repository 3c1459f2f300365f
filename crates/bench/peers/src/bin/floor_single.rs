//! The floor: bare io_uring, one buffer per connection, a receive into it, a send out of it, and so on. No framework,
//! one `io_uring_enter` per turn, at most one operation in flight per connection. `--fixed` does the same with buffers
//! that are registered with the ring.

use std::io;
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
    /// Register the buffers with the ring, and use READ_FIXED and WRITE_FIXED on the sockets.
    #[arg(long, conflicts_with = "poll_first")]
    fixed: bool,
}

const ACCEPT: u64 = u64::MAX;
const CLOSE: u64 = u64::MAX - 1;
/// `IORING_RECVSEND_POLL_FIRST` of the kernel's interface.
const POLL_FIRST: u16 = 1;

/// Most buffers that a ring registers: the kernel's IORING_MAX_REG_BUFFERS.
const REGISTERED_MAX: u32 = 1 << 14;

enum Buffer {
    Heap(Box<[u8]>),
    /// Entry of the ring's table, address and size.
    Registered(u16, *mut u8, usize),
}

/// Buffers that are registered with the ring: one for each slot, page-aligned, never unmapped.
struct Registered {
    size: usize,
    memory: Vec<*mut u8>,
}

impl Registered {
    fn new(queues: &uring::Queues<'_>, size: usize) -> io::Result<Self> {
        queues.submitter().register_buffers_sparse(REGISTERED_MAX)?;
        Ok(Self { size, memory: Vec::new() })
    }

    /// The buffer of a slot, registered when the slot is first used.
    fn buffer(&mut self, queues: &uring::Queues<'_>, slot: usize) -> io::Result<Buffer> {
        if slot == self.memory.len() {
            let memory = uring::map(self.size)?;
            let span = libc::iovec { iov_base: memory.cast(), iov_len: self.size };
            // SAFETY: the memory is mapped for good and used by nothing but this slot's operations.
            let done = unsafe { queues.submitter().register_buffers_update(slot as u32, &[span], None) };
            done.map_err(|e| io::Error::new(e.kind(), format!("registering buffer {slot} (RLIMIT_MEMLOCK?): {e}")))?;
            self.memory.push(memory);
        }
        Ok(Buffer::Registered(slot as u16, self.memory[slot], self.size))
    }
}

struct Conn {
    fd: Fd,
    buf: Buffer,
    /// Bytes to echo, 0 while receiving, and how many of them are sent.
    len: usize,
    sent: usize,
    ioprio: u16,
}

impl Conn {
    fn entry(&mut self) -> squeue::Entry {
        let (left, flags) = (self.len - self.sent, libc::MSG_WAITALL | libc::MSG_NOSIGNAL);
        match &mut self.buf {
            Buffer::Heap(buf) if self.len == 0 => {
                opcode::Recv::new(self.fd, buf.as_mut_ptr(), buf.len() as u32).ioprio(self.ioprio).build()
            }
            Buffer::Heap(buf) => {
                opcode::Send::new(self.fd, buf[self.sent..].as_ptr(), left as u32).flags(flags).build()
            }
            Buffer::Registered(index, memory, size) if self.len == 0 => {
                opcode::ReadFixed::new(self.fd, *memory, *size as u32, *index).build()
            }
            // What a socket does not take comes back as a short write, and the rest is written next.
            Buffer::Registered(index, memory, _) => {
                opcode::WriteFixed::new(self.fd, memory.wrapping_add(self.sent), left as u32, *index).build()
            }
        }
    }
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let listener = args.common.start(env!("CARGO_BIN_NAME"))?;
    let accept = opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).flags(libc::SOCK_CLOEXEC).build().user_data(ACCEPT);
    let mut conns: Vec<Conn> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut accepting = true;

    let mut ring = uring::ring(args.sq_entries)?;
    let mut queues = uring::Queues::new(&mut ring)?;
    let buffer_bytes = args.common.buffer_bytes;
    let mut registered = if args.fixed { Some(Registered::new(&queues, buffer_bytes)?) } else { None };
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
                    let index = free.pop().unwrap_or(conns.len());
                    let buf = match &mut registered {
                        Some(registered) => registered.buffer(&queues, index)?,
                        None => Buffer::Heap(vec![0; buffer_bytes].into()),
                    };
                    let conn = Conn { fd: Fd(result), buf, len: 0, sent: 0, ioprio: 0 };
                    if index == conns.len() {
                        conns.push(conn);
                    } else {
                        conns[index] = conn;
                    }
                    index
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
            // SAFETY: the buffer stays where it is, on the heap or mapped for good, while the entry is in flight: the slot
            // of a connection is given away only when it has no operation in flight, and until then this loop does not
            // touch it.
            unsafe { queues.push(&entry)? };
        }
    }
}
