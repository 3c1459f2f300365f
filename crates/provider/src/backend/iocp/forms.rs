//! Forms of completion ports.

use crate::base::error::Feature;
use crate::base::kind::Kind;
use crate::contract::form::Form;

/// With all that every Windows has; and with a completion for every operation, one socket ahead per listener, and waits that
/// end with the clock.
pub(crate) const FORMS: &[Form] = &[
    Form {
        uses: &[Feature::SkipOnSuccess],
        lacks: &[Feature::UdpSegment, Feature::UdpGro],
        ..Form::new("iocp", Kind::Iocp)
    },
    Form {
        configure: |config| {
            config.iocp.accepts_ahead = 1;
            (config.iocp.skip_on_success, config.iocp.precise_waits) = (false, false);
        },
        lacks: &[Feature::SkipOnSuccess, Feature::WaitCompletionPacket, Feature::UdpSegment, Feature::UdpGro],
        ..Form::new("iocp_bare", Kind::Iocp)
    },
];
