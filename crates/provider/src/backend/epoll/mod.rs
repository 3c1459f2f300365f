//! epoll: edge-triggered, one registration per socket. All else is `readiness.rs`.

mod sys;

use crate::backend::readiness;
use crate::base::error::Error;
use crate::config::Config;
use crate::contract::Opened;
use crate::memory::buffer::BufferPool;

/// Opens an epoll instance. Errors: the system's.
pub(crate) fn open(config: &Config, _: &mut BufferPool) -> Result<Opened, Error> {
    readiness::open::<sys::EpollSelector>(config)
}
