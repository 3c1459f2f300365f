//! Forms of io_uring: each tier of set-up, and each feature switched off that an older kernel lacks.

use crate::base::error::Feature;
use crate::base::kind::Kind;
use crate::config::{Config, SetupTier};
use crate::contract::form::Form;

const fn uring(
    name: &'static str,
    configure: fn(&mut Config),
    uses: &'static [Feature],
    lacks: &'static [Feature],
) -> Form {
    Form { configure, uses, lacks, ..Form::new(name, Kind::IoUring) }
}

/// With everything.
const DEFER: Form = uring(
    "io_uring_defer",
    |_| {},
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

/// The second tier.
const COOP: Form = uring(
    "io_uring_coop",
    |config| config.uring.tier_first = SetupTier::Coop,
    &[Feature::CoopTaskrun, Feature::MultishotReceive, Feature::BufferRing],
    &[Feature::DeferTaskrun],
);

/// The third tier.
const PLAIN: Form = uring(
    "io_uring_plain",
    |config| config.uring.tier_first = SetupTier::Plain,
    &[Feature::MultishotReceive, Feature::BufferRing],
    &[Feature::DeferTaskrun, Feature::CoopTaskrun],
);

/// Single shots that are armed again.
const SINGLE_SHOT: Form = uring(
    "io_uring_single_shot",
    |config| (config.uring.multishot_accept, config.uring.multishot_receive) = (false, false),
    &[Feature::BufferRing],
    &[Feature::MultishotAccept, Feature::MultishotReceive, Feature::MultishotMessage],
);

/// Buffers lent at submission.
const NO_BUFFER_RING: Form = uring(
    "io_uring_no_buffer_ring",
    |config| config.uring.buffer_ring = false,
    &[Feature::DeferTaskrun],
    &[Feature::BufferRing, Feature::MultishotReceive],
);

/// A completion entry for every send.
const NO_SKIP: Form = uring(
    "io_uring_no_skip",
    |config| config.uring.skip_success = false,
    &[Feature::DeferTaskrun],
    &[Feature::SkipSuccess],
);

/// Every send without a copy.
const ZERO_COPY: Form =
    uring("io_uring_zero_copy", |config| config.uring.zero_copy_bytes_min = Some(1), &[Feature::ZeroCopy], &[]);

/// The oldest ring that is enough: the last tier with everything switched off.
const BARE: Form = uring(
    "io_uring_bare",
    |config| {
        let uring = &mut config.uring;
        uring.tier_first = SetupTier::Plain;
        (uring.multishot_accept, uring.multishot_receive, uring.send_address) = (false, false, false);
        (uring.buffer_ring, uring.skip_success) = (false, false);
        (config.datagrams.segment, config.datagrams.coalesce) = (false, false);
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
);

/// All of them; over Unix sockets, no send of which can go without a copy though it is asked for, those that differ there.
pub(crate) const FORMS: &[Form] = &[
    DEFER,
    COOP,
    PLAIN,
    SINGLE_SHOT,
    NO_BUFFER_RING,
    NO_SKIP,
    ZERO_COPY,
    BARE,
    DEFER.over_unix("io_uring_defer_unix"),
    COOP.over_unix("io_uring_coop_unix"),
    PLAIN.over_unix("io_uring_plain_unix"),
    ZERO_COPY.over_unix("io_uring_zero_copy_unix"),
    BARE.over_unix("io_uring_bare_unix"),
];
