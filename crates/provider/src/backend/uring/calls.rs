//! The ring itself: set-up, the queues shared with the kernel, and buffer rings.
//!
//! 1. `Ring::new` sets the ring up disabled and enables it on the calling thread, which is its one issuer from then on.
//! 2. `push` queues an entry, `enter` submits exactly what is queued and waits, `reap` takes completions out.
//! 3. On drop the registered descriptor is given back first (a task has only 16), then the ring is closed. The driver has
//!    drained it before: closing alone does not stop the kernel at once.
#![allow(unsafe_code)]

use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::types::{BufRingEntry, SubmitArgs, Timespec};
use io_uring::{IoUring, Parameters, Probe, Submitter, opcode, squeue, types};

use super::entries::Patience;
use crate::backend::datagram::{self, SegmentControl};
use crate::base::capacity;
use crate::base::setting::Setting;
use crate::contract::input::UNSPECIFIED;
use crate::contract::merge::RUN_SPANS_MAX;
use crate::memory::{Region, Span, SpanList, SpanMut, Target};

// Flags of io_uring_enter(2).
const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_NO_IOWAIT: u32 = 1 << 7;

/// What to ask for at set-up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub(super) tier: crate::config::SetupTier,
    pub(super) submit_all: bool,
    pub(super) no_sq_array: bool,
    pub(super) submission_entries: u32,
    pub(super) completion_entries: u32,
}

/// A completion entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reaped {
    pub(super) user_data: u64,
    pub(super) result: i32,
    pub(super) flags: u32,
}

impl Reaped {
    pub(super) fn more(&self) -> bool {
        io_uring::cqueue::more(self.flags)
    }

    pub(super) fn buffer(&self) -> Option<u16> {
        io_uring::cqueue::buffer_select(self.flags)
    }

    pub(super) fn is_notification(&self) -> bool {
        io_uring::cqueue::notif(self.flags)
    }
}

/// Where in a buffer a datagram lies, and what came with it.
pub(super) struct ReceivedDatagram {
    pub(super) start: usize,
    pub(super) length: usize,
    pub(super) from: SocketAddr,
    pub(super) is_truncated: bool,
    /// Common length of several datagrams; 0: it is one.
    pub(super) segment_bytes: u16,
}

const NO_PARCEL: ReceivedDatagram =
    ReceivedDatagram { start: 0, length: 0, from: UNSPECIFIED, is_truncated: false, segment_bytes: 0 };

/// Spans of all merged messages between two enters: those of a few full ones.
const SPANS_MAX: usize = 4 * RUN_SPANS_MAX;

/// Header, span and room for the sender's address of a receive of one datagram; in a place of its own, because the kernel
/// writes into it until the request has ended. The ring keeps it for the next request.
struct RecvMsgSlot {
    header: libc::msghdr,
    span: libc::iovec,
    name: [u8; datagram::NAME_BYTES],
    control: datagram::Control,
    /// 0: free.
    user_data: u64,
}

impl RecvMsgSlot {
    fn new() -> Box<Self> {
        // SAFETY: recvmsg(2) — structures of zeroes are valid ones.
        let (header, span) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        Box::new(RecvMsgSlot {
            header,
            span,
            name: [0; datagram::NAME_BYTES],
            control: datagram::Control::EMPTY,
            user_data: 0,
        })
    }

    fn address(&mut self, bytes: u32) -> *mut libc::msghdr {
        self.span.iov_len = bytes as usize;
        self.header.msg_iov = &raw mut self.span;
        self.header.msg_iovlen = 1;
        self.header.msg_name = self.name.as_mut_ptr().cast();
        self.header.msg_namelen = datagram::NAME_BYTES as u32;
        self.header.msg_control = self.control.0.as_mut_ptr().cast();
        self.header.msg_controllen = datagram::CONTROL_BYTES as _;
        &raw mut self.header
    }

    fn open(&mut self) -> ReceivedDatagram {
        self.user_data = 0;
        let name = &self.name[..(self.header.msg_namelen as usize).min(datagram::NAME_BYTES)];
        let control = &self.control.0[..datagram::CONTROL_BYTES.min(self.header.msg_controllen as _)];
        ReceivedDatagram {
            start: 0,
            length: 0,
            from: datagram::address(name).unwrap_or(UNSPECIFIED),
            is_truncated: self.header.msg_flags & libc::MSG_TRUNC != 0,
            segment_bytes: datagram::segment_bytes(control),
        }
    }
}

fn datagram_layout() -> Box<libc::msghdr> {
    // SAFETY: recvmsg(2) — a header of zeroes is a valid one.
    let mut layout: libc::msghdr = unsafe { std::mem::zeroed() };
    layout.msg_namelen = datagram::NAME_BYTES as u32;
    layout.msg_controllen = datagram::CONTROL_BYTES as _;
    Box::new(layout)
}

/// An io_uring instance that belongs to the thread that made it.
pub(super) struct Ring {
    ring: NonNull<IoUring>,
    submitter: ManuallyDrop<Submitter<'static>>,
    is_registered: bool,
    enter_flags: u32,
    /// Message headers of the batch that is being queued, and of merged messages the control data and the spans. The kernel
    /// reads them at submission. None of them ever grows, so what is in them stays in its place.
    headers: Vec<libc::msghdr>,
    controls: Vec<SegmentControl>,
    spans: Vec<Span>,
    buffer_rings: Vec<BufferRing>,
    /// The form in which multishot receives of datagrams lay out a buffer; in a place of its own, as long as the ring.
    layout: Box<libc::msghdr>,
    #[allow(clippy::vec_box, reason = "a letter stays in its place while the kernel writes into it")]
    letters: Vec<Box<RecvMsgSlot>>,
    _pinned: PhantomData<*const ()>,
}

impl Ring {
    pub(super) fn new(setup: Setup) -> io::Result<Self> {
        use crate::config::SetupTier;
        let entries = setup.submission_entries as usize;
        let (headers, controls) = (room(entries)?, room(entries)?);
        let mut builder = IoUring::builder();
        builder.dontfork().setup_clamp().setup_cqsize(setup.completion_entries);
        match setup.tier {
            SetupTier::Defer => builder.setup_single_issuer().setup_defer_taskrun().setup_r_disabled(),
            SetupTier::Coop => builder.setup_coop_taskrun().setup_taskrun_flag(),
            SetupTier::Plain => &mut builder,
        };
        if setup.submit_all {
            builder.setup_submit_all();
        }
        if setup.no_sq_array {
            builder.setup_no_sqarray();
        }
        let ring = NonNull::from(Box::leak(Box::new(builder.build(setup.submission_entries)?)));
        // SAFETY: io_uring_setup(2) — the ring stays in its box until `drop`, which ends the submitter first.
        let submitter = unsafe { ring.as_ref() }.submitter();
        let mut ring = Ring {
            ring,
            submitter: ManuallyDrop::new(submitter),
            is_registered: false,
            enter_flags: ENTER_GETEVENTS | ENTER_EXT_ARG,
            headers,
            controls,
            spans: Vec::with_capacity(SPANS_MAX),
            buffer_rings: Vec::new(),
            layout: datagram_layout(),
            letters: Vec::new(),
            _pinned: PhantomData,
        };
        if setup.tier == SetupTier::Defer {
            ring.submitter.register_enable_rings()?;
        }
        if ring.parameters().is_feature_no_iowait() {
            ring.enter_flags |= ENTER_NO_IOWAIT;
        }
        Ok(ring)
    }

    pub(super) fn parameters(&self) -> &Parameters {
        self.inner().params()
    }

    pub(super) fn waits_without_iowait(&self) -> bool {
        self.enter_flags & ENTER_NO_IOWAIT != 0
    }

    /// Registers the ring's descriptor, which saves a look-up per enter. Errors: the kernel cannot, or the task has no
    /// place left for it.
    pub(super) fn register_descriptor(&mut self) -> io::Result<()> {
        let registered = self.submitter.register_ring_fd();
        self.is_registered = registered.is_ok();
        registered.map(drop)
    }

    pub(super) fn supports(&self, opcodes: &[u8]) -> io::Result<bool> {
        let mut probe = Probe::new();
        self.submitter.register_probe(&mut probe)?;
        Ok(opcodes.iter().all(|code| probe.is_supported(*code)))
    }

    /// Queues an entry; false if the queue is full.
    pub(super) fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: THREAD-1 — `&mut self`: no other view of this queue exists. OWN-1 — what the entry points to is kept by
        // the driver, or by `headers`, until the request's final event.
        unsafe { self.inner().submission_shared().push(entry).is_ok() }
    }

    /// Queues a send of several spans, to a target if it has one; false if the queue is full.
    pub(super) fn push_list(
        &mut self,
        fd: RawFd,
        list: SpanList,
        target: Target,
        patience: Patience,
        finish: impl FnOnce(squeue::Entry) -> squeue::Entry,
    ) -> bool {
        if self.headers.len() == self.headers.capacity() {
            return false;
        }
        // SAFETY: sendmsg(2) — a header of zeroes is a valid one: no control data.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = list.pointer.cast_mut().cast();
        header.msg_iovlen = list.count as _;
        header.msg_name = target.pointer.cast_mut().cast();
        header.msg_namelen = target.length;
        // The vector never grows beyond its capacity, so headers stay where they are until they are submitted.
        self.headers.push(header);
        let header: *const libc::msghdr = &self.headers[self.headers.len() - 1];
        let entry = opcode::SendMsg::new(types::Fd(fd), header).flags(patience.flags() as u32).build();
        self.push(&finish(entry))
    }

    /// Queues a message that the kernel takes apart into datagrams of `segment_bytes`, made of the spans that `fill` appends,
    /// at most [`RUN_SPANS_MAX`]. It does not wait, so all that is beside it is read during the enter. False if there is no room.
    pub(super) fn push_merged(
        &mut self,
        fd: RawFd,
        target: Target,
        segment_bytes: usize,
        fill: impl FnOnce(&mut Vec<Span>),
        finish: impl FnOnce(squeue::Entry) -> squeue::Entry,
    ) -> bool {
        let has_room = self.headers.len() < self.headers.capacity()
            && self.controls.len() < self.controls.capacity()
            && self.spans.len() + RUN_SPANS_MAX <= SPANS_MAX;
        if !has_room {
            return false;
        }
        let first = self.spans.len();
        fill(&mut self.spans);
        debug_assert!(self.spans.len() <= SPANS_MAX);
        self.controls.push(SegmentControl::new(segment_bytes));
        // SAFETY: sendmsg(2) — a header of zeroes is a valid one.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = self.spans[first..].as_ptr().cast_mut().cast();
        header.msg_iovlen = (self.spans.len() - first) as _;
        header.msg_name = target.pointer.cast_mut().cast();
        header.msg_namelen = target.length;
        header.msg_control = (&raw const self.controls[self.controls.len() - 1]).cast_mut().cast();
        header.msg_controllen = SegmentControl::BYTES as _;
        self.headers.push(header);
        let header: *const libc::msghdr = &self.headers[self.headers.len() - 1];
        let flags = Patience::Answer.flags() as u32;
        let entry = opcode::SendMsg::new(types::Fd(fd), header).flags(flags).build();
        let is_queued = self.push(&finish(entry));
        if !is_queued {
            self.headers.pop();
            self.controls.pop();
            self.spans.truncate(first);
        }
        is_queued
    }

    /// Queues a multishot receive of datagrams; false if the queue is full.
    pub(super) fn push_receive_datagrams(&mut self, fd: RawFd, group: u16, user_data: u64) -> bool {
        let entry = opcode::RecvMsgMulti::new(types::Fd(fd), &raw const *self.layout, group).build();
        self.push(&entry.user_data(user_data))
    }

    /// Queues a receive of one datagram into a buffer of the group; false if the queue is full.
    pub(super) fn push_receive_datagram(&mut self, fd: RawFd, group: u16, bytes: u32, user_data: u64) -> bool {
        let place = self.letters.iter().position(|letter| letter.user_data == 0).unwrap_or_else(|| {
            self.letters.push(RecvMsgSlot::new());
            self.letters.len() - 1
        });
        let header = self.letters[place].address(bytes);
        let entry = opcode::RecvMsg::new(types::Fd(fd), header).buf_group(group).build();
        let is_queued = self.push(&entry.flags(squeue::Flags::BUFFER_SELECT).user_data(user_data));
        if is_queued {
            self.letters[place].user_data = user_data;
        }
        is_queued
    }

    /// What the kernel wrote about the datagram of that request, which has ended.
    pub(super) fn open_letter(&mut self, user_data: u64) -> ReceivedDatagram {
        let letter = self.letters.iter_mut().find(|letter| letter.user_data == user_data);
        letter.map_or(NO_PARCEL, |letter| letter.open())
    }

    /// Takes a buffer that the kernel has filled by such a receive apart.
    pub(super) fn parse_datagram(&self, bytes: &[u8]) -> Option<ReceivedDatagram> {
        let parcel = types::RecvMsgOut::parse(bytes, &self.layout).ok()?;
        let start = parcel.payload_data().as_ptr() as usize - bytes.as_ptr() as usize;
        Some(ReceivedDatagram {
            start,
            length: parcel.payload_data().len(),
            from: datagram::address(parcel.name_data()).unwrap_or(UNSPECIFIED),
            is_truncated: parcel.flags() & libc::MSG_TRUNC as u32 != 0,
            segment_bytes: datagram::segment_bytes(parcel.control_data()),
        })
    }

    pub(super) fn queued(&self) -> usize {
        // SAFETY: THREAD-1 — only this thread has a view of the queue, and this one ends here.
        unsafe { self.inner().submission_shared().len() }
    }

    /// One io_uring_enter: submits exactly what is queued, runs deferred work, and waits for a completion at most `wait`
    /// (`None`: no limit). Returns how many entries the kernel took.
    pub(super) fn enter(&mut self, wait: Option<Duration>) -> io::Result<usize> {
        let queued = self.queued();
        let must_wait = wait != Some(Duration::ZERO) && !self.has_completions();
        let timeout = wait.unwrap_or_default();
        let timeout = Timespec::new().sec(timeout.as_secs()).nsec(timeout.subsec_nanos());
        let mut arguments = SubmitArgs::new();
        if must_wait && wait.is_some() {
            arguments = arguments.timespec(&timeout);
        }
        let least = u32::from(must_wait);
        // SAFETY: io_uring_enter(2) — EXT_ARG goes with an argument structure, which lives through the call.
        let entered = unsafe { self.submitter.enter(queued as u32, least, self.enter_flags, Some(&arguments)) };
        if self.queued() == 0 {
            self.headers.clear();
            self.controls.clear();
            self.spans.clear();
        }
        match entered {
            // The time is over, or only that: completions may be there all the same.
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => Ok(queued - self.queued()),
            other => other,
        }
    }

    fn has_completions(&self) -> bool {
        // SAFETY: THREAD-1 — only this thread has a view of the queue, and this one ends here.
        unsafe { !self.inner().completion_shared().is_empty() }
    }

    /// True while the kernel holds completions back because the queue was full.
    pub(super) fn has_overflow(&self) -> bool {
        // SAFETY: THREAD-1 — only this thread has a view of the queue, and this one ends here.
        unsafe { self.inner().submission_shared().cq_overflow() }
    }

    /// Takes out all completions that are there.
    pub(super) fn reap(&mut self, reaped: &mut Vec<Reaped>) {
        // SAFETY: THREAD-1 — `&mut self`: no other view of this queue exists.
        for entry in unsafe { self.inner().completion_shared() } {
            reaped.push(Reaped { user_data: entry.user_data(), result: entry.result(), flags: entry.flags() });
        }
    }

    /// Makes a buffer ring of at least `count` entries under the next group number.
    pub(super) fn add_buffer_ring(&mut self, count: u32) -> io::Result<()> {
        let group = self.buffer_rings.len() as u16;
        let entries = count.next_power_of_two() as u16;
        let bytes = usize::from(entries) * size_of::<BufRingEntry>();
        let region = Region::new(bytes, Setting::ReceiveCount).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let address = region.base().as_ptr() as u64;
        // SAFETY: io_uring_register(2) — the region is page-aligned, large enough, and lives as long as the ring.
        unsafe { self.submitter.register_buf_ring_with_flags(address, entries, group, 0)? };
        self.buffer_rings.push(BufferRing { region, mask: entries - 1, tail: 0 });
        Ok(())
    }

    /// Lets the kernel fill a slot; it learns of it at `publish_buffers`.
    pub(super) fn provide_buffer(&mut self, group: u16, number: u16, span: SpanMut) {
        self.buffer_rings[usize::from(group)].push(number, span);
    }

    pub(super) fn publish_buffers(&mut self, group: u16) {
        self.buffer_rings[usize::from(group)].publish();
    }

    fn inner(&self) -> &IoUring {
        // SAFETY: io_uring_setup(2) — the ring lives in its box until `drop`.
        unsafe { self.ring.as_ref() }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.is_registered {
            // A failure leaves one of the task's 16 places taken, nothing worse.
            let _ = self.submitter.unregister_ring_fd();
        }
        if self.letters.iter().any(|letter| letter.user_data != 0) {
            // The driver's drain deadline has passed: the kernel may still write into them.
            std::mem::forget(std::mem::take(&mut self.letters));
        }
        // SAFETY: io_uring_setup(2) — the submitter is not used again, and nothing else borrows the ring.
        unsafe {
            ManuallyDrop::drop(&mut self.submitter);
            drop(Box::from_raw(self.ring.as_ptr()));
        }
    }
}

/// Memory of a provided-buffer ring, see io_uring_register_buf_ring(3): entries, and the tail inside the first of them.
struct BufferRing {
    region: Region,
    mask: u16,
    tail: u16,
}

impl BufferRing {
    fn push(&mut self, number: u16, span: SpanMut) {
        let base = self.region.base().cast::<BufRingEntry>();
        // SAFETY: io_uring_register_buf_ring(3) — masked, so inside the ring; the kernel reads an entry only once the tail
        // was published. Field by field: the first entry's last field is the tail.
        let entry = unsafe { &mut *base.as_ptr().add(usize::from(self.tail & self.mask)) };
        entry.set_addr(span.pointer as u64);
        entry.set_len(span.length as u32);
        entry.set_bid(number);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&mut self) {
        let base = self.region.base().cast::<BufRingEntry>();
        // SAFETY: io_uring_register_buf_ring(3) — the tail is a 16-bit field that the kernel reads with acquire.
        let tail = unsafe { &*BufRingEntry::tail(base.as_ptr()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}

/// An empty vector with room for `count`. Errors: `OutOfMemory`.
fn room<T>(count: usize) -> io::Result<Vec<T>> {
    capacity::vector(count, Setting::SubmissionEntries).map_err(|_| io::ErrorKind::OutOfMemory.into())
}

/// A descriptor that a completion gave us.
pub(super) fn own_descriptor(fd: RawFd) -> OwnedFd {
    // SAFETY: accept(2) — a new descriptor that nobody else knows.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
