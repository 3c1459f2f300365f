//! Common part of every server here: the command line, process limits, the socket, and the setup of the
//! bare servers' ring or epoll. The serving itself is in `src/bin`, one file per server.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

pub mod buffers;
pub mod datagram;
pub mod epoll;
pub mod framed;
pub mod inbox;
pub mod uring;

/// Options that all servers take.
#[derive(Clone, Debug, clap::Args)]
pub struct Common {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Pin the process to this CPU.
    #[arg(long)]
    pub pin: Option<usize>,
    /// Size of a receive buffer.
    #[arg(long, default_value_t = 4096)]
    pub buffer_bytes: usize,
    /// TCP congestion control of the accepted connections (the system's default if not given).
    #[arg(long)]
    pub congestion: Option<String>,
    /// End when the process that started this one does.
    #[arg(long)]
    pub with_parent: bool,
}

impl Common {
    /// Prepares the process, listens, and says so on stdout.
    ///
    /// TCP_NODELAY and the congestion control are set on the listener: on Linux accepted sockets inherit both, so no
    /// server needs a system call per connection for them, and all serve sockets with the same options.
    pub fn start(&self, name: &str) -> io::Result<TcpListener> {
        self.prepare()?;
        let socket = Socket::new(Domain::for_address(self.listen), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(congestion) = &self.congestion {
            socket.set_tcp_congestion(congestion.as_bytes()).map_err(|e| {
                let text = format!("congestion control {congestion} cannot be set on a socket: {e}");
                io::Error::new(e.kind(), text)
            })?;
        }
        socket.bind(&self.listen.into())?;
        socket.listen(4096)?;
        let listener = TcpListener::from(socket);
        announce(listener.local_addr()?, name)?;
        Ok(listener)
    }

    /// As [`start`](Self::start), with a socket for datagrams, which takes several as one message if it is to. It may queue
    /// as much as the system allows, up to 4 MiB.
    pub fn start_datagrams(&self, name: &str, is_coalescing: bool) -> io::Result<UdpSocket> {
        self.prepare()?;
        let socket = Socket::new(Domain::for_address(self.listen), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_recv_buffer_size(4 << 20)?;
        socket.bind(&self.listen.into())?;
        let socket = UdpSocket::from(socket);
        if is_coalescing {
            datagram::coalesce(&socket)?;
        }
        announce(socket.local_addr()?, name)?;
        Ok(socket)
    }

    fn prepare(&self) -> io::Result<()> {
        raise_file_limit()?;
        if self.with_parent {
            // SAFETY: the call takes two numbers and no pointers.
            check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
        }
        self.pin.map_or(Ok(()), pin)
    }
}

fn announce(address: SocketAddr, name: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "listening on {address} ({name})")?;
    stdout.flush()
}

/// Turns the -1 of a libc call into the error it stands for.
pub fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Raises the soft limit of open files to the hard one.
pub fn raise_file_limit() -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit that outlives both calls; the kernel writes it in the first and reads it in
    // the second.
    unsafe {
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit))?;
        limit.rlim_cur = limit.rlim_max;
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &limit))?;
    }
    Ok(())
}

fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no such CPU"));
    }
    // SAFETY: a cpu_set_t is a bit array for which all zeroes is the empty set; `cpu` is below CPU_SETSIZE, so
    // CPU_SET stays inside it; the kernel only reads `set`.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        check(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set))?;
    }
    Ok(())
}

/// The broadcast protocol: clients send frames of this size, nothing else.
pub const FRAME: usize = 64;
/// A frame that starts with this byte goes to every connection; any other is ignored.
pub const TO_ALL: u8 = 1;

/// Cuts the byte stream of one connection into frames.
#[derive(Debug)]
pub struct Frames {
    partial: [u8; FRAME],
    filled: usize,
}

impl Default for Frames {
    fn default() -> Self {
        Self { partial: [0; FRAME], filled: 0 }
    }
}

impl Frames {
    /// Calls `to_all` for each frame that is complete with `data` and is for everyone.
    pub fn feed(&mut self, mut data: &[u8], mut to_all: impl FnMut(&[u8; FRAME])) {
        if self.filled > 0 {
            let take = data.len().min(FRAME - self.filled);
            self.partial[self.filled..self.filled + take].copy_from_slice(&data[..take]);
            self.filled += take;
            data = &data[take..];
            if self.filled < FRAME {
                return;
            }
            self.filled = 0;
            if self.partial[0] == TO_ALL {
                to_all(&self.partial);
            }
        }
        let (frames, rest) = data.as_chunks::<FRAME>();
        frames.iter().filter(|frame| frame[0] == TO_ALL).for_each(to_all);
        self.partial[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
    }
}
