//! Features that this system offers, and those that are used.

use socket2::{Domain, Protocol, Type};

use super::associate;
use super::precise::PreciseTimer;
use crate::base::error::{Error, Feature};
use crate::config::Config;
use crate::contract::FeatureState;
use crate::platform::{new_socket, raw_handle};

const SWITCHED_OFF: &str = "switched off in the configuration";

/// What is used, and why the rest is not.
pub(super) struct Features {
    /// Operations that end at once leave no completion, on sockets that allow it.
    pub(super) skips: bool,
    skips_reason: &'static str,
    /// Why waits are rounded up; empty if they are not.
    precise_reason: &'static str,
}

/// Asks the system.
pub(super) fn probe(config: &Config) -> Result<(Option<PreciseTimer>, Features), Error> {
    let stream = new_socket(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    let skips_reason = match (config.iocp.skip_on_success, associate::allows_skipping(raw_handle(&stream))) {
        (false, _) => SWITCHED_OFF,
        (true, false) => "a layered service provider stands between sockets and the system",
        (true, true) => "",
    };
    let timer = if config.iocp.precise_waits { PreciseTimer::new() } else { Err(SWITCHED_OFF) };
    let precise_reason = timer.as_ref().err().copied().unwrap_or_default();
    Ok((timer.ok(), Features { skips: skips_reason.is_empty(), skips_reason, precise_reason }))
}

impl Features {
    pub(super) fn states(&self) -> Vec<FeatureState> {
        let state = |feature, reason: &'static str| FeatureState { feature, in_use: reason.is_empty(), reason };
        let alone = "this back end sends and receives datagrams one by one";
        vec![
            state(Feature::SkipOnSuccess, self.skips_reason),
            state(Feature::WaitCompletionPacket, self.precise_reason),
            state(Feature::UdpSegment, alone),
            state(Feature::UdpGro, alone),
        ]
    }
}
