//! Settings of the simulated back end.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::base::with::with;
use crate::socket::sim::network::SimNetwork;

with!(SimConfig);

/// Settings of the simulated back end.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SimConfig {
    /// The network that the driver is in; `None`: a perfect one of its own.
    pub network: Option<SimNetwork>,
    /// The seed of that network of its own.
    pub seed: u64,
    /// Real time for which a wait without a limit sleeps for another thread when nothing is due in the network; then
    /// it fails with `NothingToWaitFor`. The one use of a real clock; it decides nothing in the network.
    pub patience: Duration,
}

impl Default for SimConfig {
    fn default() -> Self {
        SimConfig { network: None, seed: 0, patience: Duration::from_secs(10) }
    }
}
