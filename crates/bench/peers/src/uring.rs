//! The ring of the bare io_uring servers, set up for the least work per operation that the kernel offers.

use std::io;

use io_uring::{CompletionQueue, EnterFlags, IoUring, SubmissionQueue, Submitter, squeue};

/// Builds a disabled ring: one thread submits and completions are run only when that thread waits. The completion
/// queue is four times the submission queue. [`Queues::new`] enables it.
pub fn ring(entries: u32) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_single_issuer().setup_defer_taskrun().setup_r_disabled().setup_submit_all();
    builder.setup_cqsize(entries * 4);
    let plain = builder.clone();
    // Kernels before 6.6 refuse the flag; without it submissions take one more indirection.
    builder.setup_no_sqarray().build(entries).or_else(|_| plain.build(entries))
}

/// Both queues of a ring, and the way into the kernel.
pub struct Queues<'a> {
    submitter: Submitter<'a>,
    pub sq: SubmissionQueue<'a>,
    pub cq: CompletionQueue<'a>,
    wait: u32,
}

impl<'a> Queues<'a> {
    /// Enables the ring for the calling thread and registers its descriptor, which saves a lookup per enter.
    pub fn new(ring: &'a mut IoUring) -> io::Result<Self> {
        let mut wait = EnterFlags::GETEVENTS;
        if ring.params().is_feature_no_iowait() {
            wait |= EnterFlags::NO_IOWAIT;
        }
        let (mut submitter, sq, cq) = ring.split();
        submitter.register_enable_rings()?;
        submitter.register_ring_fd()?;
        Ok(Self { submitter, sq, cq, wait: wait.bits() })
    }

    pub fn submitter(&self) -> &Submitter<'a> {
        &self.submitter
    }

    /// Submits what is queued, waits for `want` completions, and makes those there are visible in `cq`.
    #[inline]
    pub fn enter(&mut self, want: u32) -> io::Result<()> {
        self.cq.sync();
        self.call(want, self.wait)?;
        self.cq.sync();
        Ok(())
    }

    /// Queues an entry; a full queue is submitted first.
    ///
    /// # Safety
    /// What the entry points to must stay valid until its completion.
    #[inline]
    pub unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: as promised by the caller.
        while unsafe { self.sq.push(entry) }.is_err() {
            self.call(0, 0)?;
        }
        Ok(())
    }

    fn call(&mut self, want: u32, flags: u32) -> io::Result<()> {
        loop {
            self.sq.sync();
            // SAFETY: the queue holds exactly this many entries, each valid as promised to `push`; no argument is
            // passed.
            let result = unsafe { self.submitter.enter::<libc::sigset_t>(self.sq.len() as u32, want, flags, None) };
            self.sq.sync();
            match result {
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // The kernel wants completions reaped before it takes more, which the caller does after a wait.
                Err(e) if flags != 0 && matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY)) => return Ok(()),
                Err(e) => return Err(e),
            }
        }
    }
}

/// Maps zeroed memory for good.
pub fn map(bytes: usize) -> io::Result<*mut u8> {
    let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new anonymous mapping touches no existing memory.
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, flags, -1, 0) };
    if memory == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(memory.cast()) }
}
