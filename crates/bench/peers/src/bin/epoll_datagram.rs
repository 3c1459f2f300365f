//! Datagrams with raw epoll: all that is there by recvmmsg, sixty-four at a time, and back by sendmmsg with the same
//! headers, so that each bears the address that it came from. With `--offload` several datagrams of one sender come as
//! one message and go back as one.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use clap::Parser;
use raon_bench_peers::datagram::{CONTROL_BYTES, Control, MESSAGE_BYTES_MAX, coalesced};
use raon_bench_peers::epoll::{Epoll, events};
use raon_bench_peers::{Common, check};

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// Several datagrams of one sender in one message (UDP_GRO, UDP_SEGMENT).
    #[arg(long)]
    offload: bool,
}

const BATCH: usize = 64;
const NAME_BYTES: usize = size_of::<libc::sockaddr_in6>();

/// Messages, and all that their headers point to; none of it moves.
struct Batch {
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
    names: Vec<[u8; NAME_BYTES]>,
    controls: Vec<Control>,
    memory: Vec<u8>,
    message_bytes: usize,
}

impl Batch {
    fn new(message_bytes: usize) -> Self {
        // SAFETY: headers and vectors of zeroes are valid: they point to nothing.
        let (header, vector): (libc::mmsghdr, libc::iovec) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        let mut batch = Self {
            headers: vec![header; BATCH],
            vectors: vec![vector; BATCH],
            names: vec![[0; NAME_BYTES]; BATCH],
            controls: vec![Control::EMPTY; BATCH],
            memory: vec![0; BATCH * message_bytes],
            message_bytes,
        };
        for (at, bytes) in batch.memory.chunks_exact_mut(message_bytes).enumerate() {
            batch.vectors[at].iov_base = bytes.as_mut_ptr().cast();
            let header = &mut batch.headers[at].msg_hdr;
            (header.msg_iov, header.msg_iovlen) = (&raw mut batch.vectors[at], 1);
            header.msg_name = (&raw mut batch.names[at]).cast();
            header.msg_control = (&raw mut batch.controls[at]).cast();
        }
        batch
    }

    /// Receives what there is, and says how many messages that were.
    fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        for (header, vector) in self.headers.iter_mut().zip(&mut self.vectors) {
            vector.iov_len = self.message_bytes;
            (header.msg_hdr.msg_namelen, header.msg_hdr.msg_controllen) = (NAME_BYTES as u32, CONTROL_BYTES);
        }
        let (headers, flags) = (self.headers.as_mut_ptr(), libc::MSG_DONTWAIT);
        // SAFETY: recvmmsg(2) — as many headers; names, buffers and control data are as long as they say.
        match check(unsafe { libc::recvmmsg(socket.as_raw_fd(), headers, BATCH as u32, flags, std::ptr::null_mut()) }) {
            Ok(count) => Ok(count as usize),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(e) => Err(e),
        }
    }

    /// Sends the first `count` back to where they came from. What cannot be sent is lost, as any datagram may be.
    fn answer(&mut self, socket: &UdpSocket, count: usize) -> io::Result<()> {
        for at in 0..count {
            let length = self.headers[at].msg_len as usize;
            self.vectors[at].iov_len = length;
            let header = &mut self.headers[at].msg_hdr;
            let control = &self.controls[at].0[..header.msg_controllen.min(CONTROL_BYTES)];
            header.msg_controllen = match coalesced(control, length) {
                Some(segment_bytes) => {
                    self.controls[at] = Control::segments(segment_bytes);
                    CONTROL_BYTES
                }
                None => 0,
            };
        }
        let mut sent = 0;
        while sent < count {
            let rest = &mut self.headers[sent..count];
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            // SAFETY: sendmmsg(2) — as many headers; names, buffers and control data are as long as they say.
            let result = unsafe { libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as u32, flags) };
            match check(result) {
                Ok(count) => sent += count as usize,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => wait_for_room(socket)?,
                Err(_) => sent += 1,
            }
        }
        Ok(())
    }
}

/// There is one socket, so there is nothing else to do meanwhile.
fn wait_for_room(socket: &UdpSocket) -> io::Result<()> {
    let mut entry = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: poll(2) — one entry, on this stack.
    match check(unsafe { libc::poll(&mut entry, 1, -1) }) {
        Err(e) if e.kind() != io::ErrorKind::Interrupted => Err(e),
        _ => Ok(()),
    }
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let socket = args.common.start_datagrams(env!("CARGO_BIN_NAME"), args.offload)?;
    let epoll = Epoll::new()?;
    epoll.control(libc::EPOLL_CTL_ADD, socket.as_raw_fd(), libc::EPOLLIN as u32, 0)?;
    let mut batch = Batch::new(if args.offload { MESSAGE_BYTES_MAX } else { args.common.buffer_bytes });
    let mut events = events(1);
    loop {
        epoll.wait(&mut events)?;
        loop {
            let count = batch.receive(&socket)?;
            batch.answer(&socket, count)?;
            if count < BATCH {
                break;
            }
        }
    }
}
