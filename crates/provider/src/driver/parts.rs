//! Parts of a driver, side by side. Each has its own state and is given the core; `xtask/src/tidy/order.rs` says which of
//! them knows which.

use crate::driver::accept::Accepts;
use crate::driver::backlog::Backlogs;
use crate::driver::datagram::Datagrams;
use crate::driver::receive::Receives;
use crate::driver::send::Sends;

/// All parts.
pub(super) struct Parts {
    pub(super) accepts: Accepts,
    pub(super) receives: Receives,
    pub(super) sends: Sends,
    pub(super) datagrams: Datagrams,
    pub(super) backlogs: Backlogs,
}
