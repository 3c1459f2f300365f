//! The floor for datagrams: bare io_uring, one multishot receive from a buffer ring, and a send straight from the buffer
//! that the receive has filled, to the address that stands in front of the datagram. Sends do not wait and post no
//! completion when they went out, so the enter that submits them is the end of them, and their buffers go back to the
//! ring. With `--offload` several datagrams of one sender come as one message and go back as one.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use clap::Parser;
use io_uring::types::{Fd, RecvMsgOut};
use io_uring::{cqueue, opcode, squeue};
use raon_bench_peers::buffers::Buffers;
use raon_bench_peers::datagram::{CONTROL_BYTES, Control, MESSAGE_BYTES_MAX, coalesced};
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
    /// Several datagrams of one sender in one message (UDP_GRO, UDP_SEGMENT), in 64 buffers of 64 KiB.
    #[arg(long)]
    offload: bool,
}

const RECEIVE: u64 = 0;
const SEND: u64 = 1;
/// In front of a datagram in its buffer: the kernel's header, the sender's address, control data.
const HEAD_BYTES: usize = 16 + size_of::<libc::sockaddr_in6>() + CONTROL_BYTES;
const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// A message of several datagrams on its way out, at the place of its buffer.
struct Message {
    header: libc::msghdr,
    vector: libc::iovec,
    control: Control,
}

struct Server<'a> {
    queues: uring::Queues<'a>,
    buffers: Buffers,
    fd: Fd,
    /// How much room for an address and for control data a receive leaves.
    shape: Box<libc::msghdr>,
    receiving: bool,
    /// By buffer.
    messages: Vec<Message>,
    /// Buffers of the sends that the next enter submits.
    sending: Vec<u16>,
}

fn empty_header() -> libc::msghdr {
    // SAFETY: a header of zeroes is a valid one: no name, no buffers, no control data.
    unsafe { std::mem::zeroed() }
}

impl Server<'_> {
    fn receive(&mut self) -> io::Result<()> {
        self.receiving = true;
        let entry = opcode::RecvMsgMulti::new(self.fd, &*self.shape, 0).build().user_data(RECEIVE);
        // SAFETY: the header is on the heap and lives as long as the server; the buffers that the kernel picks are mapped
        // for good and not touched here until a completion hands them over.
        unsafe { self.queues.push(&entry) }
    }

    fn received(&mut self, result: i32, flags: u32) -> io::Result<()> {
        self.receiving = cqueue::more(flags);
        let Some(id) = cqueue::buffer_select(flags) else {
            return match -result {
                libc::EINVAL => Err(io::Error::from_raw_os_error(-result)),
                _ => Ok(()),
            };
        };
        self.buffers.took();
        // SAFETY: the kernel has filled so much of this buffer, and nobody else has it until it is given back.
        let bytes = unsafe { std::slice::from_raw_parts(self.buffers.at(id), result.max(0) as usize) };
        match RecvMsgOut::parse(bytes, &self.shape) {
            Ok(datagram) if !datagram.is_payload_truncated() => self.send(id, &datagram),
            _ => {
                self.buffers.give(id);
                Ok(())
            }
        }
    }

    fn send(&mut self, id: u16, datagram: &RecvMsgOut<'_>) -> io::Result<()> {
        let (to, to_bytes) = (datagram.name_data().as_ptr(), datagram.incoming_name_len());
        let bytes = datagram.payload_data();
        let entry = match coalesced(datagram.control_data(), bytes.len()) {
            None => {
                let send = opcode::Send::new(self.fd, bytes.as_ptr(), bytes.len() as u32).flags(SEND_FLAGS);
                send.dest_addr(to.cast()).dest_addr_len(to_bytes).build()
            }
            Some(segment_bytes) => {
                let message = &mut self.messages[usize::from(id)];
                message.control = Control::segments(segment_bytes);
                message.vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
                let header = &mut message.header;
                (header.msg_name, header.msg_namelen) = (to.cast_mut().cast(), to_bytes);
                (header.msg_iov, header.msg_iovlen) = (&raw mut message.vector, 1);
                header.msg_control = (&raw mut message.control).cast();
                header.msg_controllen = CONTROL_BYTES;
                opcode::SendMsg::new(self.fd, header).flags(SEND_FLAGS as u32).build()
            }
        };
        self.sending.push(id);
        let entry = entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(SEND);
        // SAFETY: address and bytes are in a buffer, and a message at the place of a buffer, that is given back only after
        // the enter that submits this send; it does not wait, so it is over then.
        unsafe { self.queues.push(&entry) }
    }

    fn run(&mut self) -> io::Result<()> {
        loop {
            if !self.receiving {
                self.receive()?;
            }
            self.queues.enter(1)?;
            if self.queues.sq.is_empty() {
                self.sending.drain(..).for_each(|id| self.buffers.give(id));
            }
            while let Some(cqe) = self.queues.cq.next() {
                // Else a datagram did not go: it is lost, as any may be.
                if cqe.user_data() == RECEIVE {
                    self.received(cqe.result(), cqe.flags())?;
                }
            }
        }
    }
}

fn serve(args: &Args, socket: &UdpSocket) -> io::Result<()> {
    let (entries, bytes) = match args.offload {
        true => (64, MESSAGE_BYTES_MAX),
        false => (args.ring_entries, args.common.buffer_bytes),
    };
    let mut shape = Box::new(empty_header());
    (shape.msg_namelen, shape.msg_controllen) = (size_of::<libc::sockaddr_in6>() as u32, CONTROL_BYTES);
    let empty = || Message {
        header: empty_header(),
        vector: libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 },
        control: Control::EMPTY,
    };
    let mut ring = uring::ring(args.sq_entries)?;
    let queues = uring::Queues::new(&mut ring)?;
    let mut server = Server {
        buffers: Buffers::new(&queues, entries, bytes + HEAD_BYTES.next_multiple_of(64))?,
        queues,
        fd: Fd(socket.as_raw_fd()),
        shape,
        receiving: false,
        messages: std::iter::repeat_with(empty).take(usize::from(entries)).collect(),
        sending: Vec::with_capacity(usize::from(entries)),
    };
    server.run()
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let socket = args.common.start_datagrams(env!("CARGO_BIN_NAME"), args.offload)?;
    serve(&args, &socket)
}
