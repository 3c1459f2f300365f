//! The forms of a back end, and the kinds of sockets, under which every test runs.

use std::sync::atomic::{AtomicU32, Ordering};

use raon_provider::{
    Address, Config, DatagramConfig, Driver, FaultPlan, Faults, Feature, IocpConfig, Kind, PoolConfig, RioConfig, Rung,
    SimConfig, UringConfig,
};

use crate::{platform, simulated};

pub use crate::platform::ALL;

/// What carries the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// TCP over loopback.
    Tcp,
    /// Unix stream sockets.
    Unix,
}

/// A back end, with what of it is switched off, over one kind of sockets.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Its name.
    pub name: &'static str,
    /// Which back end.
    pub kind: Kind,
    /// Over what.
    pub transport: Transport,
    /// What is particular to io_uring.
    pub uring: UringConfig,
    /// What is particular to I/O completion ports.
    pub iocp: IocpConfig,
    /// How datagrams are handed over.
    pub datagrams: DatagramConfig,
    /// What goes wrong in the network, if that is simulated.
    pub network: Option<fn() -> FaultPlan>,
    /// What goes wrong besides.
    pub faults: Option<Faults>,
    /// Features that must be in use, else the set-up is not what it says.
    pub uses: &'static [Feature],
    /// Features that must not be in use.
    pub lacks: &'static [Feature],
}

const ALL_ON: UringConfig = UringConfig {
    rung_first: Rung::Defer,
    submission_entries: 1024,
    multishot_accept: true,
    multishot_receive: true,
    send_address: true,
    buffer_ring: true,
    skip_success: true,
    zero_copy_bytes_min: None,
};

const AHEAD: IocpConfig = IocpConfig { accepts_ahead: 16, skip_on_success: true, precise_waits: true };

const MERGED: DatagramConfig = DatagramConfig { segment: true, coalesce: true };
const ONE_BY_ONE: DatagramConfig = DatagramConfig { segment: false, coalesce: false };

const fn uring(name: &'static str, uring: UringConfig, uses: &'static [Feature], lacks: &'static [Feature]) -> Setup {
    Setup {
        name,
        kind: Kind::IoUring,
        transport: Transport::Tcp,
        uring,
        iocp: AHEAD,
        datagrams: MERGED,
        network: None,
        faults: None,
        uses,
        lacks,
    }
}

/// epoll as it is.
pub const EPOLL: Setup = Setup {
    name: "epoll",
    kind: Kind::Epoll,
    transport: Transport::Tcp,
    uring: ALL_ON,
    iocp: AHEAD,
    datagrams: MERGED,
    network: None,
    faults: None,
    uses: &[Feature::UdpSegment, Feature::UdpGro],
    lacks: &[],
};

/// epoll with a system call's entry for each datagram.
pub const EPOLL_ONE_BY_ONE: Setup = Setup {
    name: "epoll_one_by_one",
    datagrams: ONE_BY_ONE,
    uses: &[],
    lacks: &[Feature::UdpSegment, Feature::UdpGro],
    ..EPOLL
};

/// kqueue: on macOS and FreeBSD, and on Linux where a build for tests plays it.
pub const KQUEUE: Setup = Setup { name: "kqueue", kind: Kind::Kqueue, ..EPOLL_ONE_BY_ONE };
/// kqueue over Unix sockets.
pub const KQUEUE_UNIX: Setup = KQUEUE.over_unix("kqueue_unix");

/// io_uring with everything.
pub const URING_DEFER: Setup = uring(
    "io_uring_defer",
    ALL_ON,
    &[
        Feature::DeferTaskrun,
        Feature::MultishotAccept,
        Feature::MultishotReceive,
        Feature::MultishotMessage,
        Feature::SendAddress,
        Feature::BufferRing,
        Feature::SkipSuccess,
        Feature::UdpSegment,
        Feature::UdpGro,
    ],
    &[Feature::CoopTaskrun, Feature::ZeroCopy],
);

/// The second rung.
pub const URING_COOP: Setup = uring(
    "io_uring_coop",
    UringConfig { rung_first: Rung::Coop, ..ALL_ON },
    &[Feature::CoopTaskrun, Feature::MultishotReceive, Feature::BufferRing],
    &[Feature::DeferTaskrun],
);

/// The third rung.
pub const URING_PLAIN: Setup = uring(
    "io_uring_plain",
    UringConfig { rung_first: Rung::Plain, ..ALL_ON },
    &[Feature::MultishotReceive, Feature::BufferRing],
    &[Feature::DeferTaskrun, Feature::CoopTaskrun],
);

/// Single shots that are armed again.
pub const URING_SINGLE_SHOT: Setup = uring(
    "io_uring_single_shot",
    UringConfig { multishot_accept: false, multishot_receive: false, ..ALL_ON },
    &[Feature::BufferRing],
    &[Feature::MultishotAccept, Feature::MultishotReceive, Feature::MultishotMessage],
);

/// Buffers lent at submission.
pub const URING_NO_BUFFER_RING: Setup = uring(
    "io_uring_no_buffer_ring",
    UringConfig { buffer_ring: false, ..ALL_ON },
    &[Feature::DeferTaskrun],
    &[Feature::BufferRing, Feature::MultishotReceive],
);

/// A completion entry for every send.
pub const URING_NO_SKIP: Setup = uring(
    "io_uring_no_skip",
    UringConfig { skip_success: false, ..ALL_ON },
    &[Feature::DeferTaskrun],
    &[Feature::SkipSuccess],
);

/// Every send without a copy.
pub const URING_ZERO_COPY: Setup =
    uring("io_uring_zero_copy", UringConfig { zero_copy_bytes_min: Some(1), ..ALL_ON }, &[Feature::ZeroCopy], &[]);

/// The oldest ring that is enough: the last rung with everything switched off.
pub const URING_BARE: Setup = Setup {
    datagrams: ONE_BY_ONE,
    ..uring(
        "io_uring_bare",
        UringConfig {
            rung_first: Rung::Plain,
            submission_entries: 1024,
            multishot_accept: false,
            multishot_receive: false,
            send_address: false,
            buffer_ring: false,
            skip_success: false,
            zero_copy_bytes_min: None,
        },
        &[],
        &[
            Feature::BufferRing,
            Feature::SkipSuccess,
            Feature::MultishotAccept,
            Feature::SendAddress,
            Feature::UdpSegment,
            Feature::UdpGro,
        ],
    )
};

/// I/O completion ports with everything that every Windows has.
pub const IOCP: Setup = Setup {
    name: "iocp",
    kind: Kind::Iocp,
    uses: &[Feature::SkipOnSuccess],
    lacks: &[Feature::UdpSegment, Feature::UdpGro],
    ..EPOLL
};

/// Every operation leaves a completion, a listener has one socket ahead, waits end with the clock.
pub const IOCP_BARE: Setup = Setup {
    name: "iocp_bare",
    iocp: IocpConfig { accepts_ahead: 1, skip_on_success: false, precise_waits: false },
    uses: &[],
    lacks: &[Feature::SkipOnSuccess, Feature::WaitCompletionPacket, Feature::UdpSegment, Feature::UdpGro],
    ..IOCP
};

/// Registered I/O, played by its double.
pub const RIO: Setup = Setup { name: "rio", kind: Kind::Rio, uses: &[Feature::RegisteredIo], ..IOCP };

/// epoll over Unix sockets.
pub const EPOLL_UNIX: Setup = EPOLL.over_unix("epoll_unix");
/// The first rung over Unix sockets.
pub const URING_DEFER_UNIX: Setup = URING_DEFER.over_unix("io_uring_defer_unix");
/// The second rung over Unix sockets.
pub const URING_COOP_UNIX: Setup = URING_COOP.over_unix("io_uring_coop_unix");
/// The third rung over Unix sockets.
pub const URING_PLAIN_UNIX: Setup = URING_PLAIN.over_unix("io_uring_plain_unix");
/// Unix sockets, where no send can go without a copy though it is asked for.
pub const URING_ZERO_COPY_UNIX: Setup = URING_ZERO_COPY.over_unix("io_uring_zero_copy_unix");
/// The oldest ring over Unix sockets.
pub const URING_BARE_UNIX: Setup = URING_BARE.over_unix("io_uring_bare_unix");

/// The simulated back end on a perfect network.
pub const SIM: Setup =
    Setup { name: "sim", kind: Kind::Sim, network: Some(FaultPlan::default), uses: &[Feature::VirtualTime], ..EPOLL };
/// The same at its worst: late, in pieces, in another order. Connections hold, as the tests expect.
pub const SIM_ROUGH: Setup = Setup { name: "sim_rough", network: Some(FaultPlan::rough), ..SIM };

/// The perfect network, with names in the place of addresses.
pub const SIM_UNIX: Setup = SIM.over_unix("sim_unix");
/// The rough one in the same way.
pub const SIM_ROUGH_UNIX: Setup = SIM_ROUGH.over_unix("sim_rough_unix");

impl Setup {
    const fn over_unix(self, name: &'static str) -> Self {
        Setup { name, transport: Transport::Unix, ..self }
    }

    /// The same with faults.
    pub fn with_faults(self, faults: Faults) -> Self {
        Setup { faults: Some(faults), ..self }
    }

    /// True if the bytes go over Unix sockets: no resets, no time-outs, no options.
    pub fn is_unix(&self) -> bool {
        self.transport == Transport::Unix
    }

    /// True if the network is simulated.
    pub fn is_simulated(&self) -> bool {
        self.network.is_some()
    }

    /// Where a listener can be that nobody else has: any port of loopback, or a new name.
    pub fn address(&self) -> Address {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        match self.transport {
            Transport::Tcp => ([127, 0, 0, 1], 0).into(),
            Transport::Unix => platform::local_name(NUMBER.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// The same on a host of loopback that is this set-up's in this process, where there is more than one: what is sent to a
    /// port that has closed reaches nobody else's, and ports of earlier runs, still in TIME_WAIT, are not in the way.
    pub fn own_address(&self) -> Address {
        if self.is_unix() {
            return self.address();
        }
        let place = ALL.iter().position(|each| each.name == self.name).unwrap_or(0) as u8 + 1;
        (platform::own_host(std::process::id(), place), 0).into()
    }

    /// The set-up of this name.
    pub fn by_name(name: &str) -> Self {
        *ALL.iter().find(|setup| setup.name == name).expect("a set-up's name")
    }

    /// The configuration that tests start from: the defaults, with tables of a size that suits a test.
    pub fn config(&self) -> Config {
        Config {
            sockets_max: 4096,
            operations_max: 16_384,
            pool: PoolConfig { receive_count: 256, send_count: 128, bulk_count: 16, ..PoolConfig::default() },
            uring: self.uring,
            iocp: self.iocp,
            rio: RioConfig { functions: platform::rio_functions(), ..RioConfig::default() },
            datagrams: self.datagrams,
            sim: SimConfig { network: simulated::network(), ..SimConfig::default() },
            faults: self.faults,
            ..Config::named(self.kind)
        }
    }

    /// A driver of this configuration.
    pub fn open(&self) -> Driver {
        Driver::open(&self.config()).unwrap_or_else(|error| panic!("{self:?} cannot be opened: {error}"))
    }

    /// The network reads the caller's memory itself: what the peer has not taken stays with the kernel, also after a cancel.
    pub fn sends_without_copy(&self) -> bool {
        self.uring.zero_copy_bytes_min.is_some() && !self.is_unix()
    }

    /// Fails unless the driver is what the set-up says: one that cannot be had is a failure, not a skip.
    pub fn check(&self, driver: &Driver) {
        let info = driver.info();
        assert_eq!(info.kind, self.kind);
        for feature in self.uses {
            assert!(info.uses(*feature), "{} must be in use: {:?}", feature.name(), info.features);
        }
        for feature in self.lacks {
            assert!(!info.uses(*feature), "{} must not be in use: {:?}", feature.name(), info.features);
        }
    }
}
