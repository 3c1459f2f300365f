//! Parts of a driver, side by side: each has its own state and knows the core, not the others.

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
