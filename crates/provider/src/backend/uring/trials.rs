//! Trials of what a kernel may promise and not keep: older ones have the operations and do them wrong.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::calls::{Reaped, Ring};
use super::entries::{self, Patience};
use crate::memory::Span;
use crate::memory::buffer::{BufferPool, Section};
use crate::memory::config::PoolConfig;

/// Longest wait for a completion that is due.
const PATIENCE: Duration = Duration::from_millis(500);
/// More than any Unix socket has room for.
const TOO_LONG_BYTES: usize = 8 << 20;

const SILENT: u64 = 1;
const TALKING: u64 = 2;
const SENDING: u64 = 3;

/// Trials that have succeeded, a bit each. A kernel that did it right once does so for good; a failure may have been for
/// want of memory or descriptors, and is tried again.
static PROVED: AtomicU32 = AtomicU32::new(0);

/// Runs the trial of this number, unless it has succeeded before in this process.
pub(super) fn once(number: u32, try_it: impl FnOnce() -> io::Result<bool>) -> io::Result<bool> {
    if PROVED.load(Ordering::Relaxed) & (1 << number) != 0 {
        return Ok(true);
    }
    let works = try_it()?;
    PROVED.fetch_or(u32::from(works) << number, Ordering::Relaxed);
    Ok(works)
}

/// Whether a waiting receive leaves the only buffer to one that has bytes. Kernels before 5.18 bind a provided buffer when
/// the receive is armed: as many quiet connections as buffers make such a driver deaf, and each cancel loses a buffer.
pub(super) fn binds_late(ring: &mut Ring, has_buffer_ring: bool) -> io::Result<bool> {
    let pool = BufferPool::new(&PoolConfig {
        buffer_bytes: 4096,
        receive_count: 1,
        send_count: 0,
        bulk_bytes: 4096,
        bulk_count: 1,
    });
    let mut pool = pool.map_err(|_| io::ErrorKind::OutOfMemory)?;
    let Some((number, span)) = pool.give_kernel(Section::Receive) else { return Ok(false) };
    if has_buffer_ring {
        ring.add_buffer_ring(1)?;
        ring.provide_buffer(0, number as u16, span);
        ring.publish_buffers(0);
    } else {
        ring.push(&entries::provide(0, number as u16, span));
    }
    let ((silent, _open), (talking, mut peer)) = (UnixStream::pair()?, UnixStream::pair()?);
    peer.write_all(b"raon")?;
    for (socket, user_data) in [(&silent, SILENT), (&talking, TALKING)] {
        ring.push(&entries::receive_selected(socket.as_raw_fd(), 0, 4096).user_data(user_data));
    }
    let received = completion_of(ring, TALKING)?;
    ring.push(&entries::cancel(SILENT));
    let ended = completion_of(ring, SILENT)?;
    if received.is_none() || ended.is_none() {
        // The kernel may still write into it.
        pool.leak();
    }
    Ok(received.is_some_and(|received| received.result == 4 && received.buffer().is_some()))
}

/// Whether a send that waits for room (`MSG_WAITALL`) and is cancelled says how far it came. 5.10 says 0 though bytes went
/// out: they would be sent twice.
pub(super) fn counts_cancelled_sends(ring: &mut Ring) -> io::Result<bool> {
    let (sender, mut receiver) = UnixStream::pair()?;
    let bytes = zeroes(TOO_LONG_BYTES)?;
    ring.push(&entries::send(sender.as_raw_fd(), Span::of(&bytes), Patience::Wait).user_data(SENDING));
    ring.push(&entries::cancel(SENDING));
    let Some(sent) = completion_of(ring, SENDING)? else {
        // The kernel may still read it.
        std::mem::forget(bytes);
        return Ok(false);
    };
    receiver.set_nonblocking(true)?;
    let mut arrived = 0;
    let mut sink = zeroes(1 << 20)?;
    loop {
        match receiver.read(&mut sink) {
            Ok(0) => break,
            Ok(length) => arrived += length as i64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    Ok(arrived > 0 && i64::from(sent.result) == arrived)
}

/// The completion of a request, once it is there; what else comes meanwhile is of no interest.
fn completion_of(ring: &mut Ring, user_data: u64) -> io::Result<Option<Reaped>> {
    let deadline = Instant::now() + PATIENCE;
    let mut reaped = Vec::new();
    loop {
        if let Err(error) = ring.enter(Some(Duration::from_millis(10)))
            && error.raw_os_error() != Some(libc::EINTR)
        {
            return Err(error);
        }
        ring.reap(&mut reaped);
        let found = reaped.drain(..).find(|one| one.user_data == user_data);
        if found.is_some() || Instant::now() >= deadline {
            return Ok(found);
        }
    }
}

/// Errors: they cannot be had.
pub(super) fn zeroes(count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(count)?;
    bytes.resize(count, 0);
    Ok(bytes)
}
