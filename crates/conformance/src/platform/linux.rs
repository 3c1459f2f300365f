//! Facts about Linux alone.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use raon_provider::{AcceptedSocket, Address};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use socket2::{SockAddr, Socket};

use super::Skipped;

/// How the kernel's name begins.
pub fn kernel() -> &'static str {
    "Linux "
}

/// Nothing is left out.
pub const SKIPPED: &[Skipped] = &[];
/// Nothing is left out.
pub const SKIPPED_REAL: &[Skipped] = &[];

/// Drivers that disturb others by being set up and closed.
pub const RIVAL: Option<&str> = Some("io_uring_defer");

/// How long a peer may acknowledge nothing, if that can be set.
pub const USER_TIMEOUT: Option<Duration> = Some(Duration::from_millis(8800));

/// Another address of this host, which answers without further ado.
pub const SECOND_HOST: [u8; 4] = [127, 0, 0, 9];

/// A host of loopback of one's own, from two numbers.
pub fn own_host(process: u32, place: u8) -> [u8; 4] {
    let [low, high, ..] = process.to_le_bytes();
    [127, high | 1, low, place]
}

/// A link-local address of an interface that is up, with the interface's index as its scope, if there is one.
pub fn link_local() -> Option<SocketAddrV6> {
    /// IFA_F_DADFAILED and IFA_F_TENTATIVE: not usable, or not yet.
    const UNUSABLE: u8 = 0x48;
    let table = std::fs::read_to_string("/proc/net/if_inet6").ok()?;
    table.lines().find_map(|line| {
        // The address, then in hexadecimal: index, length of the prefix, kind of scope, flags.
        let mut fields = line.split_whitespace();
        let address = u128::from_str_radix(fields.next()?, 16).ok()?.into();
        let index = u32::from_str_radix(fields.next()?, 16).ok()?;
        let flags = u8::from_str_radix(fields.nth(2)?, 16).ok()?;
        let is_usable = Ipv6Addr::is_unicast_link_local(&address) && flags & UNUSABLE == 0;
        is_usable.then(|| SocketAddrV6::new(address, 0, 0, index))
    })
}

/// A local name that nobody else has.
pub fn local_name(number: u32) -> Address {
    Address::Abstract(format!("raon-conformance-{}-{number}", std::process::id()).into_bytes())
}

/// A name at which a listener can be, in a form that looks strange.
pub fn strange_name() -> Address {
    Address::Abstract(vec![0, 255, b'/', 7])
}

/// Gives a Unix socket a name of its own: by the system's choice (autobind, see unix(7)).
pub fn name(socket: &Socket) -> std::io::Result<()> {
    socket.bind(&SockAddr::unix("").unwrap())
}

/// A socket that no driver can use, and its address.
pub fn useless_socket(name: &str) -> Option<(AcceptedSocket, Address)> {
    let address = SocketAddr::from_abstract_name(name).unwrap();
    let datagrams = std::os::fd::OwnedFd::from(UnixDatagram::bind_addr(&address).unwrap());
    Some((datagrams.into(), Address::Abstract(name.as_bytes().to_vec())))
}

/// What the socket has been told about keepalive probes and about silent peers.
pub fn patience(socket: &Socket) -> Option<(Duration, Option<Duration>)> {
    Some((socket.tcp_keepalive_time().unwrap(), socket.tcp_user_timeout().unwrap()))
}

/// All descriptors of this process, with what they are.
pub fn descriptors() -> BTreeMap<u32, String> {
    let entries = std::fs::read_dir("/proc/self/fd").expect("procfs is mounted");
    let named = entries.flatten().filter_map(|entry| {
        let target = std::fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned();
        Some((entry.file_name().to_str()?.parse().ok()?, target))
    });
    // The directory that is being read is in the list as well.
    named.filter(|(_, target)| !target.starts_with("/proc/")).collect()
}

/// The system's number of a thread.
#[derive(Clone, Copy)]
pub struct Thread(i32);

impl Thread {
    /// The one that calls.
    pub fn current() -> Self {
        Thread(rustix::thread::gettid().as_raw_nonzero().get())
    }

    /// Waits until it sleeps in the kernel.
    pub fn await_sleep(self) {
        let path = format!("/proc/self/task/{}/stat", self.0);
        let mut asleep = 0;
        while asleep < 20 {
            let stat = std::fs::read_to_string(&path).unwrap();
            let state = stat.rsplit(')').next().unwrap().trim_start().chars().next();
            asleep = if state == Some('S') { asleep + 1 } else { 0 };
            std::thread::yield_now();
        }
    }
}

const EPERM: i32 = 1;
const ENOSYS: i32 = 38;
/// io_uring_setup, io_uring_enter, io_uring_register: the same numbers on every architecture.
const CALLS: [i64; 3] = [425, 426, 427];
/// The same number on every architecture, too.
const EPOLL_PWAIT2: i64 = 441;

/// Filters io_uring away, for this thread or all threads, with an error.
pub fn forbid(argument: &str) -> i32 {
    let (threads, error) = argument.split_once(' ').expect("threads and error");
    let code = if error == "EPERM" { EPERM } else { ENOSYS };
    filter(&CALLS, threads, code);
    code
}

/// Filters the precise waits of epoll away, for this thread.
pub fn forbid_precise_waits(error: &str) {
    filter(&[EPOLL_PWAIT2], "one", if error == "EPERM" { EPERM } else { ENOSYS });
}

fn filter(calls: &[i64], threads: &str, code: i32) {
    let rules: BTreeMap<i64, Vec<_>> = calls.iter().map(|call| (*call, Vec::new())).collect();
    let architecture = std::env::consts::ARCH.try_into().expect("an architecture that has filters");
    let action = SeccompAction::Errno(code as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, architecture).expect("a valid filter");
    let program: BpfProgram = filter.try_into().expect("a valid program");
    match threads {
        "all" => seccompiler::apply_filter_all_threads(&program),
        _ => seccompiler::apply_filter(&program),
    }
    .expect("a process may filter itself");
}

/// A limit on the memory that this process may have mapped, until the drop.
pub struct MemoryLimit(Rlimit);

impl MemoryLimit {
    /// From now on so many bytes, see RLIMIT_AS in getrlimit(2).
    pub fn set(bytes: u64) -> Self {
        let before = getrlimit(Resource::As);
        setrlimit(Resource::As, Rlimit { current: Some(bytes), maximum: before.maximum }).unwrap();
        MemoryLimit(before)
    }

    /// What it has mapped now.
    pub fn used_bytes() -> u64 {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
        pages * rustix::param::page_size() as u64
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        setrlimit(Resource::As, self.0).unwrap();
    }
}
