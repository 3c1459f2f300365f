//! Opening a driver.

use std::marker::PhantomData;

use super::Driver;
use crate::base::capacity;
use crate::base::error::{Error, ErrorKind};
use crate::base::id::DriverNumber;
use crate::base::index::Table;
use crate::base::setting::Setting;
use crate::base::timer::Timers;
use crate::config::Config;
use crate::contract::Opened;
use crate::contract::stats::Counters;
use crate::driver::accept::Accepts;
use crate::driver::backlog::Backlogs;
use crate::driver::core::Core;
use crate::driver::datagram::Datagrams;
use crate::driver::mailbox::Mailbox;
use crate::driver::parts::Parts;
use crate::driver::receive::Receives;
use crate::driver::send::Sends;
use crate::memory::buffer::BufferPool;

/// What a turn has places for at first: requests, events, completions, sockets to send on.
const TURN_FIRST: usize = 1024;

impl Driver {
    /// Opens a driver on the back end that `open_backend` opens on the calling thread.
    pub(crate) fn open_on(
        config: &Config,
        open_backend: impl FnOnce(&Config, &mut BufferPool) -> Result<Opened, Error>,
    ) -> Result<Self, Error> {
        config.check()?;
        let number = DriverNumber::take().ok_or(Error::new(ErrorKind::TooManyDrivers))?;
        let mut pool = BufferPool::new(&config.pool)?;
        let Opened { profile, provider } = open_backend(config, &mut pool)?;
        pool.set_waker(&profile.waker);
        let mailbox = Mailbox::new(config.mailbox_capacity as usize, profile.waker.clone())?;
        let (sockets_max, operations_max) = (config.sockets_max as usize, config.operations_max as usize);
        //= LIMIT-1
        // Operations: the callers', and one of the driver's own per socket, to discard input while it closes.
        let operations =
            capacity::table(operations_max + sockets_max, number.first_generation, Setting::OperationsMax)?;
        let sockets = capacity::table(sockets_max, number.first_generation, Setting::SocketsMax)?;
        let now_ns = profile.clock.now_ns();
        let reserve = profile.network.reserve();
        let core = Core {
            provider,
            profile,
            pool,
            config: config.clone(),
            number,
            sockets: Table::of(sockets),
            operations: Table::of(operations),
            requests: capacity::vector(TURN_FIRST, Setting::OperationsMax)?,
            ready: capacity::queue(TURN_FIRST, Setting::OperationsMax)?,
            timers: Timers::default(),
            counters: Counters::new(),
            now_ns,
            user_operations: 0,
            in_kernel: 0,
            is_shut: false,
        };
        let parts = Parts {
            accepts: Accepts::new(reserve),
            receives: Receives::new(config),
            sends: Sends::new(TURN_FIRST)?,
            datagrams: Datagrams::default(),
            backlogs: Backlogs::default(),
        };
        Ok(Driver {
            core,
            parts,
            events: capacity::vector(TURN_FIRST, Setting::OperationsMax)?,
            mailbox,
            trouble: None,
            _pinned: PhantomData,
        })
    }
}
