//! Description of what a driver runs on, for logs and for people.

use crate::base::error::{Error, Feature};
use crate::base::kind::Kind;
use crate::config::Config;
use crate::contract::{FeatureState, Profile};
use crate::platform;

/// What a driver runs on, and with which limits.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Info {
    /// The back end.
    pub kind: Kind,
    /// Name and release of the system, as `uname` (on Windows `RtlGetVersion`) gives them.
    pub kernel: String,
    /// Features in use, and those that are not, with the reason.
    pub features: Vec<FeatureState>,
    /// Better back ends that `auto` passed over, and why. Empty for a named one.
    //= FALL-1
    pub passed_over: Vec<(Kind, Error)>,
    /// Most sockets at once.
    pub sockets_max: u32,
    /// Most operations at once.
    pub operations_max: u32,
    /// Requests handed over per kernel entry, at most.
    pub depth: u32,
    /// Receive buffers and their size in bytes.
    pub receive_buffers: (u32, u32),
    /// Bulk receive buffers and their size in bytes.
    pub bulk_buffers: (u32, u32),
    /// Memory reserved for buffers, in bytes; touched when first used.
    pub pool_bytes: u64,
}

impl Info {
    pub(crate) fn new(profile: &Profile, config: &Config) -> Self {
        let pool = &config.pool;
        let small = u64::from(pool.receive_count + pool.send_count) * u64::from(pool.buffer_bytes);
        Info {
            kind: profile.kind,
            kernel: platform::kernel(),
            features: profile.features.clone(),
            passed_over: profile.passed_over.clone(),
            sockets_max: config.sockets_max,
            operations_max: config.operations_max,
            depth: profile.depth,
            receive_buffers: (pool.receive_count, pool.buffer_bytes),
            bulk_buffers: (pool.bulk_count, pool.bulk_bytes),
            pool_bytes: small + u64::from(pool.bulk_count) * u64::from(pool.bulk_bytes),
        }
    }

    /// True if the feature is in use.
    pub fn uses(&self, feature: Feature) -> bool {
        self.features.iter().any(|state| state.feature == feature && state.in_use)
    }
}
