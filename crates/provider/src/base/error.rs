//! The one error type: what went wrong, and what to do about it.

use std::fmt;
use std::io;

use crate::base::setting::Setting;

/// Error with its cause, in two machine words. `Display` names the cause and the remedy.
///
/// ```
/// use raon_provider::{Error, ErrorKind};
/// let error: Error = "netmap".parse::<raon_provider::Kind>().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::UnknownBackend);
/// assert!(size_of::<Error>() <= 16);
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    feature: Option<Feature>,
    setting: Option<Setting>,
    os_code: i32,
    /// Bytes that could not be had, where that is known.
    bytes: u64,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident $code:literal => $text:literal,)*) => {
        /// Cause of an error, as far as a caller may want to tell it from others.
        ///
        /// ```
        /// use raon_provider::ErrorKind;
        /// assert_eq!(ErrorKind::Busy.code(), 2);
        /// assert_eq!(ErrorKind::from_code(2), Some(ErrorKind::Busy));
        /// assert_eq!(ErrorKind::from_code(0), None);
        /// ```
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum ErrorKind { $($(#[$doc])* $name,)* }

        impl ErrorKind {
            fn text(self) -> &'static str {
                match self { $(ErrorKind::$name => $text,)* }
            }

            /// Number of the kind, from 1 on, for logs and other languages. It never changes, and none is used again.
            pub const fn code(self) -> u16 {
                match self { $(ErrorKind::$name => $code,)* }
            }

            /// The kind of this number, if there is one.
            pub fn from_code(code: u16) -> Option<Self> {
                match code {
                    $($code => Some(ErrorKind::$name),)*
                    _ => None,
                }
            }
        }
    };
}

// A new kind takes the next number. Two of one number would be an arm that is never reached, which the compiler refuses.
kinds! {
    /// The id's socket or operation is gone.
    Stale 1 => "the id is stale: its socket or operation has ended; drop the id",
    /// A bound of the configuration is reached.
    Busy 2 => "a configured bound is reached; wait for the Writable completion, or raise the bound in Config",
    /// The operation was cancelled, or its socket closed.
    Cancelled 3 => "cancelled before it was done",
    /// The driver has been shut down.
    Closed 4 => "the driver has been shut down; submit to another one",
    /// An argument is not acceptable.
    InvalidInput 5 => "an argument is not acceptable here (empty send, wrong kind of socket, value out of range)",
    /// A receive of the other kind, or a second stream, is active on the socket.
    ReceiveActive 6 => "a receive stream is active on this socket; cancel it first or use the one that is there",
    /// `shutdown_write` was called before.
    WriteClosed 7 => "the write side has been shut down; open a new connection to send more",
    /// The peer is not there or the connect has not finished.
    NotConnected 8 => "the socket is not connected; wait for the Connected completion",
    /// Nobody listens there.
    ConnectionRefused 9 => "connection refused: nothing listens at that address; start the server or check the port",
    /// The datagram is longer than the network or the socket takes.
    MessageTooLong 10 => "the datagram is too long: at most 65,507 bytes over IPv4, less where the route or the socket's buffers say so",
    /// The peer has gone.
    ConnectionReset 11 => "the connection was reset by the peer",
    /// This side has gone.
    ConnectionAborted 12 => "the connection was aborted",
    /// The peer has closed its read side.
    BrokenPipe 13 => "the peer no longer receives on this connection",
    /// No answer in time.
    TimedOut 14 => "timed out: the peer does not answer; check the network or raise the timeout",
    /// The address is taken.
    AddressInUse 15 => "address in use: another process listens there; stop it or choose another port",
    /// The address is not ours.
    AddressNotAvailable 16 => "address not available: it belongs to no interface of this machine, or all local ports are taken",
    /// No such path.
    NotFound 17 => "no such path: create the directory, or start the server that listens there",
    /// No route.
    Unreachable 18 => "network or host unreachable; check the route",
    /// Not allowed.
    PermissionDenied 19 => "permission denied (ports below 1024 need privileges)",
    /// The process has too many descriptors open.
    DescriptorLimit 20 => "too many open descriptors: raise RLIMIT_NOFILE (`ulimit -n`) or accept fewer connections",
    /// The whole system has too many descriptors open.
    SystemDescriptorLimit 21 => "the system is out of descriptors: raise fs.file-max",
    /// The kernel has no memory for it.
    OutOfMemory 22 => "the kernel is out of memory or socket buffers for this; lower the load or raise the limits",
    /// The socket is of another make than the back end, or of another simulated network.
    ForeignSocket 23 => "the socket is of another make than this back end, or of another simulated network; adopt it where it belongs",
    /// A simulated wait that nothing can end.
    NothingToWaitFor 24 => "nothing is due in the simulated network, no timer is set and nobody woke this driver: the wait would never end; give it a timeout, or look for what was forgotten",
    /// This system has no such option or kind of address.
    NotSupported 25 => "this operating system has no such option or kind of address; do without it here",
    /// All receive buffers are lent.
    NoBuffers 26 => "no receive buffer is free; drop Buffers sooner or raise PoolConfig::receive_count",
    /// This machine has no such back end.
    BackendUnavailable 27 => "this back end is not available on this system; choose one that `Kind::available` lists",
    /// kernel.io_uring_disabled forbids it.
    DisabledBySysctl 28 => "io_uring is disabled: set sysctl kernel.io_uring_disabled=0 (or 1 and join kernel.io_uring_group), or use epoll",
    /// A seccomp filter or security module forbids it.
    BlockedBySeccomp 29 => "io_uring is blocked by a seccomp filter or security policy (the default in many containers): allow io_uring_setup, io_uring_enter and io_uring_register in the profile, or use epoll",
    /// The locked-memory limit is too low for the ring.
    LockedMemoryLimit 30 => "the locked-memory limit is too low for the ring: raise RLIMIT_MEMLOCK (`ulimit -l`), or use a smaller queue",
    /// The kernel has no io_uring at all, or a needed part of it is missing.
    KernelTooOld 31 => "the kernel lacks what this back end needs: use Linux 6.1 or newer, which has all of it, or epoll",
    /// The system has lost completions of this driver's.
    QueueCorrupt 32 => "the completion queue of this driver is corrupt and its completions are lost: drop the driver and open another",
    /// The name of a back end is not known.
    UnknownBackend 33 => "unknown back end: use auto, io_uring or epoll on Linux, rio or iocp on Windows, kqueue on macOS and FreeBSD (or sim, in tests)",
    /// 4,095 drivers are open in this process.
    TooManyDrivers 34 => "4,095 drivers are open in this process; drop one first",
    /// Any other code of the operating system.
    Os 35 => "the operating system refused",
}

/// A feature of a back end, as [`Info`](crate::Info) reports it and as an [`Error`] names what is missing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Feature {
    /// The ring itself: `io_uring_setup`.
    Ring,
    /// SINGLE_ISSUER + DEFER_TASKRUN: completions are worked off by the owner only (Linux 6.1).
    DeferTaskrun,
    /// COOP_TASKRUN: no interrupts for completions (5.19).
    CoopTaskrun,
    /// Wait with a timeout (5.11).
    ExtArg,
    /// A bad entry does not stop the batch (5.18).
    SubmitAll,
    /// The ring's descriptor is registered (5.18).
    RegisteredRing,
    /// No indirection array in the submission queue (6.6).
    NoSqArray,
    /// Waiting is not counted as iowait (6.15).
    NoIowait,
    /// One accept request serves many connections (5.19).
    MultishotAccept,
    /// One receive request serves many messages (6.0).
    MultishotReceive,
    /// One receive request serves many datagrams (6.0).
    MultishotMessage,
    /// A plain send takes an address (6.0).
    SendAddress,
    /// The kernel picks a receive buffer when bytes arrive (5.19).
    BufferRing,
    /// A send that goes out at once leaves no completion behind (5.17, exact counts 6.1).
    SkipSuccess,
    /// Provided receive buffers are bound when bytes are there, not when the receive is armed (5.18).
    LateBuffers,
    /// A cancelled send that waited for room says how far it came (6.1).
    WaitAll,
    /// Sends without a copy (6.0).
    ZeroCopy,
    /// Accept, connect, send, receive, cancel: the least that is needed.
    Opcodes,
    /// Wait with nanoseconds: `epoll_pwait2` (5.11).
    PreciseWait,
    /// Datagrams of one length leave as one message (4.18).
    UdpSegment,
    /// Datagrams of one length come as one message (5.0).
    UdpGro,
    /// Request queues in memory that is shared with the system: registered I/O (Windows 8).
    RegisteredIo,
    /// An operation that ends at once leaves no completion in the port (Windows).
    SkipOnSuccess,
    /// A high-resolution timer ends waits at the port (Windows 10 1803).
    WaitCompletionPacket,
    /// Time passes only when the driver waits: the simulated back end.
    VirtualTime,
    /// Linux itself: what its back ends need.
    Linux,
    /// Windows itself: what its back ends need.
    Windows,
    /// macOS or FreeBSD: what kqueue needs.
    Bsd,
    /// Sockets with a path for an address.
    UnixSockets,
    /// Unix sockets whose names are in no file system (Linux).
    AbstractNames,
    /// Several sockets share a port and the system spreads peers over them.
    ReusePort,
    /// Give up on a peer that acknowledges nothing for some time.
    UserTimeout,
}

impl Feature {
    /// The name under which manuals know it.
    pub fn name(self) -> &'static str {
        match self {
            Feature::Ring => "io_uring_setup",
            Feature::DeferTaskrun => "SINGLE_ISSUER|DEFER_TASKRUN",
            Feature::CoopTaskrun => "COOP_TASKRUN",
            Feature::ExtArg => "EXT_ARG",
            Feature::SubmitAll => "SUBMIT_ALL",
            Feature::RegisteredRing => "registered ring fd",
            Feature::NoSqArray => "NO_SQARRAY",
            Feature::NoIowait => "NO_IOWAIT",
            Feature::MultishotAccept => "multishot accept",
            Feature::MultishotReceive => "multishot receive",
            Feature::MultishotMessage => "multishot recvmsg",
            Feature::SendAddress => "SEND with an address",
            Feature::BufferRing => "buffer ring",
            Feature::SkipSuccess => "CQE_SKIP_SUCCESS",
            Feature::LateBuffers => "late binding of provided buffers",
            Feature::WaitAll => "exact counts of MSG_WAITALL sends",
            Feature::ZeroCopy => "SEND_ZC",
            Feature::Opcodes => "ACCEPT|CONNECT|SEND|SENDMSG|RECV|ASYNC_CANCEL|POLL_ADD|PROVIDE_BUFFERS",
            Feature::PreciseWait => "epoll_pwait2",
            Feature::UdpSegment => "UDP_SEGMENT",
            Feature::UdpGro => "UDP_GRO",
            Feature::RegisteredIo => "registered I/O",
            Feature::SkipOnSuccess => "FILE_SKIP_COMPLETION_PORT_ON_SUCCESS",
            Feature::WaitCompletionPacket => "NtAssociateWaitCompletionPacket",
            Feature::VirtualTime => "virtual time",
            Feature::Linux => "a back end of Linux",
            Feature::Windows => "a back end of Windows",
            Feature::Bsd => "a back end of macOS and FreeBSD",
            Feature::UnixSockets => "Unix sockets",
            Feature::AbstractNames => "abstract names of Unix sockets",
            Feature::ReusePort => "SO_REUSEPORT",
            Feature::UserTimeout => "TCP_USER_TIMEOUT",
        }
    }
}

impl Error {
    /// An error that has no code of the operating system.
    pub(crate) const fn new(kind: ErrorKind) -> Self {
        Error { kind, feature: None, setting: None, os_code: 0, bytes: 0 }
    }

    /// A setting has a value that it must not have.
    pub(crate) const fn out_of_range(setting: Setting) -> Self {
        Error { setting: Some(setting), ..Error::new(ErrorKind::InvalidInput) }
    }

    /// The memory that a setting asks for cannot be had.
    pub(crate) const fn out_of_memory(setting: Setting, bytes: u64) -> Self {
        Error { setting: Some(setting), bytes, ..Error::new(ErrorKind::OutOfMemory) }
    }

    /// The same error, naming the feature that is missing.
    pub(crate) const fn with_feature(mut self, feature: Feature) -> Self {
        self.feature = Some(feature);
        self
    }

    /// The same cause under another kind.
    pub(crate) const fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// The same error with the code of the operating system.
    pub(crate) const fn with_os_code(mut self, code: i32) -> Self {
        self.os_code = code;
        self
    }

    /// The cause, to be matched on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The operating system's code (errno on Unix; on Windows of Winsock or Win32), or 0 where there is none.
    pub fn os_code(&self) -> i32 {
        self.os_code
    }

    /// The missing feature, where that is the cause.
    pub fn feature(&self) -> Option<Feature> {
        self.feature
    }

    /// The setting that is out of range, or whose memory cannot be had, where that is the cause.
    pub fn setting(&self) -> Option<Setting> {
        self.setting
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.setting, self.kind) {
            (Some(setting), ErrorKind::OutOfMemory) => {
                let (name, bytes) = (setting.name(), self.bytes);
                write!(f, "out of memory: {name} asks for {bytes} bytes that the process cannot have; ")?;
                f.write_str("lower it, or raise the limit of the process (`ulimit -v`) or of its container")?;
            }
            (Some(setting), _) => setting.fmt(f)?,
            (None, kind) => f.write_str(kind.text())?,
        }
        if let Some(feature) = self.feature {
            write!(f, " [{}]", feature.name())?;
        }
        if self.os_code != 0 {
            write!(f, " ({})", io::Error::from_raw_os_error(self.os_code))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind)
    }
}

impl std::error::Error for Error {}

/// A value that was not taken: it comes back whole, with the reason.
//= OWN-2
#[derive(Debug)]
pub struct Refused<T> {
    /// Why it was not taken.
    pub error: Error,
    /// What was offered, untouched.
    pub value: T,
}

impl<T> Refused<T> {
    pub(crate) fn new(kind: ErrorKind, value: T) -> Self {
        Refused { error: Error::new(kind), value }
    }

    /// The same refusal around another form of the value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Refused<U> {
        Refused { error: self.error, value: change(self.value) }
    }
}

impl<T> fmt::Display for Refused<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused: {}", self.error)
    }
}

impl<T: fmt::Debug> std::error::Error for Refused<T> {}

impl<T> From<Refused<T>> for Error {
    fn from(refused: Refused<T>) -> Self {
        refused.error
    }
}
