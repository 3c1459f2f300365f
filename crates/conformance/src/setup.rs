//! The forms of a back end, and the kinds of sockets, under which every test runs.

use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};

use raon_provider::{Address, Config, DatagramConfig, Driver, Faults, Form, Kind, PoolConfig, SimConfig, forms};

use crate::{platform, simulated};

/// Calls a macro with the set-ups of the suite, a line per back end. Each line has the condition under which the back end is
/// there, and the names of its forms with the programs that run them: `storms` (seconds each, so on each mechanism and tier
/// only), the oracle's `streams` and `datagrams`.
#[macro_export]
macro_rules! for_each_setup {
    ($macro:ident) => {
        $macro! {
            [target_os = "linux"] io_uring_defer(storms streams datagrams) io_uring_coop(storms streams datagrams)
                io_uring_plain(storms streams datagrams) io_uring_single_shot(streams datagrams)
                io_uring_no_buffer_ring(streams datagrams) io_uring_no_skip(streams datagrams)
                io_uring_zero_copy(streams datagrams) io_uring_bare(streams datagrams)
                io_uring_defer_unix(storms streams) io_uring_coop_unix(streams) io_uring_plain_unix(streams)
                io_uring_zero_copy_unix(streams) io_uring_bare_unix(streams);
            [target_os = "linux"] epoll(storms streams datagrams) epoll_one_by_one(datagrams) epoll_unix(storms streams);
            [any(target_vendor = "apple", target_os = "freebsd", raon_kqueue_shim)]
                kqueue(storms streams datagrams) kqueue_unix(streams);
            [windows] rio(storms streams datagrams);
            [windows] iocp(storms streams datagrams) iocp_bare(streams datagrams);
            [all()] sim(storms streams datagrams) sim_rough(storms streams datagrams) sim_unix(streams)
                sim_rough_unix(streams);
        }
    };
}

/// A form of a back end, with the faults that a test adds.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// The form.
    pub form: Form,
    /// Faults that the driver adds.
    pub faults: Option<Faults>,
    /// Handling of datagrams, if it is not the form's.
    pub datagrams: Option<DatagramConfig>,
}

impl Deref for Setup {
    type Target = Form;

    fn deref(&self) -> &Form {
        &self.form
    }
}

/// Unix sockets of the system, for the other end: addresses at which a listener can be, whatever back end is tested.
pub const UNIX: Setup = Setup {
    form: Form { name: "unix", kind: Kind::Epoll, is_unix: true, plan: None, configure: |_| {}, uses: &[], lacks: &[] },
    faults: None,
    datagrams: None,
};

/// All set-ups of this system.
pub fn all() -> impl Iterator<Item = Setup> {
    forms().map(|form| Setup { form: *form, faults: None, datagrams: None })
}

/// Back ends of this system, best first, without the simulated one.
pub fn kinds() -> Vec<Kind> {
    let mut kinds: Vec<Kind> = forms().map(|form| form.kind).filter(|kind| *kind != Kind::Sim).collect();
    kinds.dedup();
    kinds
}

impl Setup {
    /// The same with faults.
    pub fn with_faults(self, faults: Faults) -> Self {
        Setup { faults: Some(faults), ..self }
    }

    /// True if the network is simulated.
    pub fn is_simulated(&self) -> bool {
        self.plan.is_some()
    }

    /// Where a listener can be that nobody else has: any port of loopback, or a new name.
    pub fn address(&self) -> Address {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        match self.is_unix {
            false => ([127, 0, 0, 1], 0).into(),
            true => platform::local_name(NUMBER.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// The same on a host of loopback that is this set-up's in this process, where there is more than one: what is sent to a
    /// port that has closed reaches nobody else's, and ports of earlier runs, still in TIME_WAIT, are not in the way.
    pub fn own_address(&self) -> Address {
        if self.is_unix {
            return self.address();
        }
        let place = all().position(|each| each.name == self.name).unwrap_or(0) as u8 + 1;
        (platform::own_host(std::process::id(), place), 0).into()
    }

    /// The set-up of this name.
    pub fn by_name(name: &str) -> Self {
        all().find(|setup| setup.name == name).expect("a set-up's name")
    }

    /// The configuration that tests start from: the defaults, with tables of a size that suits a test.
    pub fn config(&self) -> Config {
        let mut config = Config::named(self.kind).with(|config| {
            config.sockets_max = 4096;
            config.operations_max = 16_384;
            config.pool = PoolConfig::default().with(|pool| {
                pool.receive_count = 256;
                pool.send_count = 128;
                pool.bulk_count = 16;
            });
            config.sim = SimConfig::default().with(|sim| sim.network = simulated::network());
            config.faults = self.faults;
        });
        config.rio.functions = platform::rio_functions();
        (self.configure)(&mut config);
        config.datagrams = self.datagrams.unwrap_or(config.datagrams);
        config
    }

    /// A driver of this configuration.
    pub fn open(&self) -> Driver {
        Driver::open(&self.config()).unwrap_or_else(|error| panic!("{self:?} cannot be opened: {error}"))
    }

    /// The network reads the caller's memory itself: what the peer has not taken stays with the kernel, also after a cancel.
    pub fn sends_without_copy(&self) -> bool {
        self.config().uring.zero_copy_bytes_min.is_some() && !self.is_unix
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
