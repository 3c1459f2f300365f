//! Trial of operations on a socket in a ring set up with IORING_SETUP_IOPOLL: not a server. The same
//! operations in a plain ring come first, to show that nothing else is wrong with them.

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, squeue, types::Fd};

const MESSAGE: &[u8; 5] = b"hello";

fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    Ok((client, listener.accept()?.0))
}

/// Does one operation and waits for its completion.
fn answer(ring: &mut IoUring, entry: &squeue::Entry) -> io::Result<i32> {
    // SAFETY: the buffer outlives this call, which returns after the completion.
    unsafe { ring.submission().push(entry) }.map_err(io::Error::other)?;
    ring.submit_and_wait(1)?;
    ring.completion().next().map(|completion| completion.result()).ok_or(io::Error::other("no completion"))
}

fn try_all(name: &str, mut ring: IoUring) -> io::Result<()> {
    let (mut client, server) = pair()?;
    // Enough for each operation that receives, so that none waits.
    (0..4).try_for_each(|_| client.write_all(MESSAGE))?;
    let fd = Fd(server.as_raw_fd());
    let mut buf = [0; MESSAGE.len()];
    let (pointer, length) = (buf.as_mut_ptr(), buf.len() as u32);
    let entries = [
        ("recv", opcode::Recv::new(fd, pointer, length).build()),
        ("read", opcode::Read::new(fd, pointer, length).build()),
        ("send", opcode::Send::new(fd, MESSAGE.as_ptr(), length).build()),
        ("write", opcode::Write::new(fd, MESSAGE.as_ptr(), length).build()),
    ];
    for (operation, entry) in entries {
        match answer(&mut ring, &entry)? {
            error @ ..0 => println!("{name} {operation}: {}", io::Error::from_raw_os_error(-error)),
            count => println!("{name} {operation}: {count} bytes"),
        }
    }
    Ok(())
}

fn main() -> io::Result<()> {
    try_all("plain", IoUring::new(8)?)?;
    try_all("iopoll", IoUring::builder().setup_iopoll().build(8)?)
}
