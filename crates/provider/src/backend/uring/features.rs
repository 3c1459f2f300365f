//! Features that this kernel and this process's limits allow, found out on throw-away objects. A version tells nothing.

use std::io::{self, Read, Write};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use io_uring::{opcode, squeue};
use socket2::{SockAddr, SockRef};

use super::calls::{Reaped, Ring, Setup};
use super::entries::{self, Patience};
use super::trials::{self, zeroes};
use crate::backend::absence::{LACKING, Surroundings, Trial, locks_memory, reason, ring_refusal, trial, uninterrupted};
use crate::backend::datagram;
use crate::base::capacity;
use crate::base::error::{Error, ErrorKind, Feature};
use crate::base::setting::Setting;
use crate::config::{Config, SetupTier, UringConfig};
use crate::contract::FeatureState;
use crate::contract::merge::{self, Merging};
use crate::memory::buffer::{BufferPool, Section};
use crate::memory::config::PoolConfig;
use crate::memory::{Span, Target};

/// The features that differ between kernels, after the probe.
#[derive(Clone, Debug)]
pub(super) struct Features {
    pub(super) setup: Setup,
    pub(super) multishot_accept: bool,
    pub(super) multishot_receive: bool,
    pub(super) multishot_message: bool,
    pub(super) send_address: bool,
    pub(super) buffer_ring: bool,
    pub(super) skip_success: bool,
    /// Sends that wait for room until all has gone out: the kernel counts right when one is cancelled.
    pub(super) wait_all: bool,
    pub(super) zero_copy: bool,
    pub(super) registered_ring: bool,
    pub(super) no_iowait: bool,
    pub(super) merging: Merging,
    coalescing: FeatureState,
    /// Why what was tried is not used.
    reasons: Vec<(Feature, &'static str)>,
    /// Multishot accepts ended with errors too often.
    pub(super) accepts_one_by_one: bool,
    switches: UringConfig,
}

/// Without these there is no back end.
const OPCODES: [u8; 8] = [
    opcode::Accept::CODE,
    opcode::Connect::CODE,
    opcode::Send::CODE,
    opcode::SendMsg::CODE,
    opcode::Recv::CODE,
    opcode::AsyncCancel::CODE,
    opcode::PollAdd::CODE,
    opcode::ProvideBuffers::CODE,
];

/// What the trials take at most: bytes that no socket has room for, and some to read them into.
const TRIAL_BYTES: usize = 10 << 20;

/// Tries the tiers from the best one allowed, then each feature.
pub(super) fn probe(config: &Config) -> Result<Features, Error> {
    // A trial without memory would say that the kernel lacks what it has.
    capacity::check(TRIAL_BYTES, Setting::Backend)?;
    let switches = config.uring;
    let mut last = Error::new(ErrorKind::KernelTooOld);
    for tier in
        [SetupTier::Defer, SetupTier::Coop, SetupTier::Plain].into_iter().filter(|tier| *tier >= switches.tier_first)
    {
        match try_tier(tier) {
            Ok(setup) => return try_features(setup, config),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                last = Error::from(error).with_kind(ErrorKind::KernelTooOld).with_feature(Feature::Ring);
            }
            Err(error) => return Err(setup_error(error)),
        }
    }
    Err(last)
}

fn try_tier(tier: SetupTier) -> io::Result<Setup> {
    let attempts = [(true, true), (true, false), (false, false)];
    let mut last = io::Error::from_raw_os_error(libc::EINVAL);
    for (submit_all, no_sq_array) in attempts {
        let setup = Setup { tier, submit_all, no_sq_array, submission_entries: 8, completion_entries: 32 };
        match Ring::new(setup) {
            Ok(_) => return Ok(setup),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

fn try_features(setup: Setup, config: &Config) -> Result<Features, Error> {
    let Config { uring: switches, datagrams, .. } = *config;
    let ring = Ring::new(setup).map_err(setup_error)?;
    if !ring.parameters().is_feature_ext_arg() {
        return Err(Error::new(ErrorKind::KernelTooOld).with_feature(Feature::ExtArg));
    }
    match ring.supports(&OPCODES) {
        Ok(true) => {}
        Err(error) if error.raw_os_error() != Some(libc::EINVAL) => return Err(setup_error(error)),
        _ => return Err(Error::new(ErrorKind::KernelTooOld).with_feature(Feature::Opcodes)),
    }
    let no_iowait = ring.waits_without_iowait();
    drop(ring);
    let (segments, coalesces) = datagram::probe();
    let mut attempts = Trials { setup, reasons: Vec::new() };
    let buffer_ring = switches.buffer_ring && attempts.works(Feature::BufferRing, try_buffer_ring);
    // Each tier and way of handing buffers over is a trial of its own.
    let tier = setup.tier as u32;
    let late =
        trials::once(2 * tier + u32::from(buffer_ring), || attempts.ring(|ring| trials::binds_late(ring, buffer_ring)));
    match late {
        Ok(true) => {}
        Ok(false) => return Err(Error::new(ErrorKind::KernelTooOld).with_feature(Feature::LateBuffers)),
        Err(error) => return Err(setup_error(error)),
    }
    Ok(Features {
        setup,
        multishot_accept: switches.multishot_accept && attempts.works(Feature::MultishotAccept, try_multishot_accept),
        // Multishot receives need the kernel to pick buffers.
        multishot_receive: switches.multishot_receive
            && buffer_ring
            && attempts.works(Feature::MultishotReceive, try_multishot_receive),
        multishot_message: switches.multishot_receive
            && buffer_ring
            && attempts.works(Feature::MultishotMessage, try_multishot_message),
        send_address: switches.send_address && attempts.works(Feature::SendAddress, try_send_address),
        buffer_ring,
        skip_success: switches.skip_success && attempts.works(Feature::SkipSuccess, try_skip_success),
        wait_all: attempts
            .works(Feature::WaitAll, |ring| trials::once(8 + tier, || trials::counts_cancelled_sends(ring))),
        zero_copy: switches.zero_copy_bytes_min.is_some()
            && attempts.works(Feature::ZeroCopy, |ring| ring.supports(&[opcode::SendZc::CODE])),
        registered_ring: false,
        no_iowait,
        merging: Merging::new(datagrams.segment, segments.and_then(|()| attempts.run(try_send_merged))),
        coalescing: merge::coalescing_state(datagrams.coalesce, coalesces),
        reasons: attempts.reasons,
        accepts_one_by_one: false,
        switches,
    })
}

/// Trials on rings of their own, and why those that failed did.
struct Trials {
    setup: Setup,
    reasons: Vec<(Feature, &'static str)>,
}

impl Trials {
    fn ring(&self, try_it: impl FnOnce(&mut Ring) -> io::Result<bool>) -> io::Result<bool> {
        Ring::new(self.setup).and_then(|mut ring| try_it(&mut ring))
    }

    fn run(&self, try_it: impl FnOnce(&mut Ring) -> io::Result<bool>) -> Trial {
        trial(self.ring(try_it))
    }

    fn works(&mut self, feature: Feature, try_it: impl FnOnce(&mut Ring) -> io::Result<bool>) -> bool {
        let tried = self.run(try_it);
        self.reasons.extend(tried.err().map(|reason| (feature, reason)));
        tried.is_ok()
    }
}

fn run(ring: &mut Ring, entry: &squeue::Entry, wait: Duration) -> io::Result<Vec<Reaped>> {
    ring.push(entry);
    entered(ring, wait)
}

/// Hands over what is queued and waits for a completion. An enter that is interrupted has taken entries or not: what it has
/// left is handed over by the next one.
fn entered(ring: &mut Ring, wait: Duration) -> io::Result<Vec<Reaped>> {
    let mut reaped = Vec::new();
    uninterrupted(|| ring.enter(Some(wait)))?;
    ring.reap(&mut reaped);
    Ok(reaped)
}

const AT_ONCE: Duration = Duration::from_millis(100);

fn small_pool() -> io::Result<BufferPool> {
    let pool = BufferPool::new(&PoolConfig {
        buffer_bytes: 4096,
        receive_count: 2,
        send_count: 0,
        bulk_bytes: 4096,
        bulk_count: 1,
    });
    pool.map_err(|_| io::ErrorKind::OutOfMemory.into())
}

fn provide(ring: &mut Ring, pool: &mut BufferPool) -> io::Result<()> {
    ring.add_buffer_ring(2)?;
    while let Some((number, span)) = pool.give_kernel(Section::Receive) {
        ring.provide_buffer(0, number as u16, span);
    }
    ring.publish_buffers(0);
    Ok(())
}

fn try_buffer_ring(ring: &mut Ring) -> io::Result<bool> {
    let mut pool = small_pool()?;
    provide(ring, &mut pool)?;
    let (receiver, mut sender) = UnixStream::pair()?;
    sender.write_all(b"raon")?;
    let reaped = run(ring, &entries::receive_selected(receiver.as_raw_fd(), 0, 4096), AT_ONCE)?;
    Ok(matches!(reaped[..], [one] if one.result == 4 && one.buffer().is_some()))
}

fn try_multishot_receive(ring: &mut Ring) -> io::Result<bool> {
    let mut pool = small_pool()?;
    provide(ring, &mut pool)?;
    let (receiver, mut sender) = UnixStream::pair()?;
    sender.write_all(b"raon")?;
    let reaped = run(ring, &entries::receive_multishot(receiver.as_raw_fd(), 0), AT_ONCE)?;
    let works = matches!(reaped[..], [one] if one.result == 4 && one.buffer().is_some() && one.more());
    // The request must have ended before the pool's memory goes: the peer's end ends it.
    drop(sender);
    entered(ring, AT_ONCE)?;
    Ok(works)
}

/// Two datagram sockets on loopback; the first one receives.
fn datagram_sockets() -> io::Result<(UdpSocket, UdpSocket, SockAddr)> {
    let receiver = UdpSocket::bind("127.0.0.1:0")?;
    let address = receiver.local_addr()?.into();
    Ok((receiver, UdpSocket::bind("127.0.0.1:0")?, address))
}

fn try_multishot_message(ring: &mut Ring) -> io::Result<bool> {
    let mut pool = small_pool()?;
    provide(ring, &mut pool)?;
    let (receiver, sender, address) = datagram_sockets()?;
    SockRef::from(&sender).send_to(b"raon", &address)?;
    let fd = receiver.as_raw_fd();
    ring.push_receive_datagrams(fd, Section::Receive as u16, 1);
    let reaped = entered(ring, AT_ONCE)?;
    let works = matches!(reaped[..], [one] if one.result > 4 && one.buffer().is_some() && one.more());
    // The request must have ended before the pool's memory goes.
    run(ring, &entries::cancel(1), AT_ONCE)?;
    Ok(works)
}

/// A plain send with an address. Older kernels overlook the address.
fn try_send_address(ring: &mut Ring) -> io::Result<bool> {
    let (receiver, sender, address) = datagram_sockets()?;
    let (bytes, target) = (*b"raon", Target::of(Some(&address)));
    let reaped =
        run(ring, &entries::send_datagram(sender.as_raw_fd(), Span::of(&bytes), target, Patience::Answer), AT_ONCE)?;
    receiver.set_nonblocking(true)?;
    let arrived = uninterrupted(|| receiver.recv(&mut [0; 8])).is_ok_and(|length| length == bytes.len());
    Ok(arrived && matches!(reaped[..], [one] if one.result == 4))
}

/// A message with control data. Older kernels refuse it on a ring.
fn try_send_merged(ring: &mut Ring) -> io::Result<bool> {
    let (receiver, sender, address) = datagram_sockets()?;
    let fill = |spans: &mut Vec<Span>| spans.push(Span::of(b"raonraon"));
    ring.push_merged(sender.as_raw_fd(), Target::of(Some(&address)), 4, fill, |entry| entry);
    let reaped = entered(ring, AT_ONCE)?;
    receiver.set_read_timeout(Some(AT_ONCE))?;
    let arrives = || uninterrupted(|| receiver.recv(&mut [0; 16])).is_ok_and(|length| length == 4);
    Ok(matches!(reaped[..], [one] if one.result == 8) && arrives() && arrives())
}

fn try_multishot_accept(ring: &mut Ring) -> io::Result<bool> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("raon-probe-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let address = SocketAddr::from_abstract_name(name)?;
    let listener = UnixListener::bind_addr(&address)?;
    let _connection = UnixStream::connect_addr(&address)?;
    let reaped = run(ring, &entries::accept(listener.as_raw_fd(), true), AT_ONCE)?;
    let accepted = reaped.iter().filter(|one| one.result >= 0);
    accepted.for_each(|one| drop(super::calls::own_descriptor(one.result)));
    Ok(matches!(reaped[..], [one] if one.result >= 0 && one.more()))
}

/// A send that fits leaves no entry; one that does not fit tells how far it came, without waiting. Kernels before 6.1
/// forget the count.
fn try_skip_success(ring: &mut Ring) -> io::Result<bool> {
    if !ring.parameters().is_feature_skip_cqe_on_success() {
        return Ok(false);
    }
    let (sender, mut receiver) = UnixStream::pair()?;
    let bytes = zeroes(8 << 20)?;
    let send = |length: usize| {
        let entry = entries::send(sender.as_raw_fd(), Span::of(&bytes[..length]), Patience::Answer);
        entry.flags(squeue::Flags::SKIP_SUCCESS)
    };
    let silent = run(ring, &send(1), Duration::ZERO)?.is_empty();
    let partial = run(ring, &send(bytes.len()), Duration::ZERO)?;
    let [one] = partial[..] else { return Ok(false) };
    receiver.set_nonblocking(true)?;
    let mut arrived = 0;
    let mut sink = zeroes(1 << 20)?;
    while let Ok(length @ 1..) = uninterrupted(|| receiver.read(&mut sink)) {
        arrived += length as i64;
    }
    Ok(silent && one.result > 0 && i64::from(one.result) + 1 == arrived)
}

/// Why the kernel refuses a ring, or memory for it.
pub(super) fn setup_error(error: io::Error) -> Error {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).map_or("", str::trim);
    let capabilities = u64::from_str_radix(field("CapEff:"), 16).unwrap_or(0);
    let limit_bytes = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    let around = Surroundings {
        is_disabled: sysctl_forbids(),
        // Mode 2, see proc_pid_status(5): a filter may be on one thread alone.
        is_filtered: field("Seccomp:") == "2",
        locks_memory: locks_memory(&rustix::system::uname().release().to_string_lossy(), limit_bytes, capabilities),
    };
    let cause = error.raw_os_error().and_then(|code| ring_refusal(code, around));
    let error = Error::from(error).with_feature(Feature::Ring);
    cause.map_or(error, |kind| error.with_kind(kind))
}

/// Why a ring that was set up cannot be entered any more.
pub(super) fn enter_error(error: io::Error) -> Error {
    let code = error.raw_os_error();
    let base = Error::from(error).with_feature(Feature::Ring);
    match code {
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => base.with_kind(ErrorKind::BlockedBySeccomp),
        // The kernel had no memory to keep completions, and has dropped them.
        Some(libc::EBADR) => base.with_kind(ErrorKind::QueueCorrupt),
        _ => base,
    }
}

/// Why a ring cannot be had: the process may have no more memory, or may lock no more.
pub(super) fn memory_error(error: io::Error, bytes: usize, setting: Setting) -> Error {
    if error.kind() != io::ErrorKind::OutOfMemory {
        return error.into();
    }
    let locked = Error::from(error).with_kind(ErrorKind::LockedMemoryLimit).with_feature(Feature::Ring);
    capacity::check(bytes, setting).err().unwrap_or(locked)
}

/// kernel.io_uring_disabled: 1 forbids it to processes outside kernel.io_uring_group that lack CAP_SYS_ADMIN, 2 to all.
fn sysctl_forbids() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").is_ok_and(|value| value.trim() != "0")
}

impl Features {
    /// A task has 16 places for registered rings: one driver more goes without.
    pub(super) fn register(&mut self, ring: &mut Ring) {
        let registered = ring.register_descriptor();
        self.registered_ring = registered.is_ok();
        self.reasons.extend(registered.err().map(|error| {
            let code = error.raw_os_error().unwrap_or(0);
            let reason = if code == libc::EBUSY { "the thread has as many of them as it may" } else { reason(code) };
            (Feature::RegisteredRing, reason)
        }));
    }

    pub(super) fn states(&self) -> Vec<FeatureState> {
        const OFF: &str = "switched off in the configuration";
        let state = |feature, in_use, wanted: bool| {
            let tried = || self.reasons.iter().find(|(tried, _)| *tried == feature).map_or(LACKING, |(_, why)| *why);
            let reason = match (in_use, wanted) {
                (true, _) => "",
                (false, true) => tried(),
                (false, false) => OFF,
            };
            FeatureState { feature, in_use, reason }
        };
        let Features { setup, switches, .. } = self;
        let is_defer = setup.tier == SetupTier::Defer;
        let coop = match setup.tier {
            SetupTier::Defer => {
                FeatureState { feature: Feature::CoopTaskrun, in_use: false, reason: "DEFER_TASKRUN is better" }
            }
            tier => state(Feature::CoopTaskrun, tier == SetupTier::Coop, switches.tier_first <= SetupTier::Coop),
        };
        vec![
            state(Feature::DeferTaskrun, is_defer, switches.tier_first == SetupTier::Defer),
            coop,
            state(Feature::ExtArg, true, true),
            state(Feature::SubmitAll, setup.submit_all, true),
            state(Feature::NoSqArray, setup.no_sq_array, true),
            state(Feature::RegisteredRing, self.registered_ring, true),
            state(Feature::NoIowait, self.no_iowait, true),
            match self.accepts_one_by_one {
                true => {
                    FeatureState { feature: Feature::MultishotAccept, in_use: false, reason: "it failed repeatedly" }
                }
                false => state(Feature::MultishotAccept, self.multishot_accept, switches.multishot_accept),
            },
            state(Feature::BufferRing, self.buffer_ring, switches.buffer_ring),
            state(Feature::MultishotReceive, self.multishot_receive, switches.multishot_receive),
            state(Feature::MultishotMessage, self.multishot_message, switches.multishot_receive),
            state(Feature::SendAddress, self.send_address, switches.send_address),
            self.merging.state(),
            self.coalescing,
            state(Feature::SkipSuccess, self.skip_success, switches.skip_success),
            state(Feature::WaitAll, self.wait_all, true),
            state(Feature::ZeroCopy, self.zero_copy, switches.zero_copy_bytes_min.is_some()),
        ]
    }
}
