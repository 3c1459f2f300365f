//! The steps of plans about datagrams.

use proptest::prelude::*;

use super::play;
use crate::oracle::plan::{self, Plan, Verbs, verbs};
use crate::setup::Setup;

verbs! {
    /// One poll; an odd form waits for two milliseconds.
    Poll "poll" 14,
    /// A turn without delivery.
    Flush "flush" 8,
    /// A new socket; the form chooses its options and its peer, if it has one.
    Bind "bind" 6,
    /// A new socket where a closed one was.
    Rebind "rebind" 2,
    /// A datagram to an address.
    SendTo "to" 16,
    /// One that reports only if it fails.
    SendToQuiet "to_quiet" 10,
    /// A datagram to the socket's peer; an odd form is quiet.
    Send "send" 10,
    /// Several of one length to one address, the last one shorter.
    Burst "burst" 8,
    /// A receive stream.
    Receive "receive" 12,
    /// Stop the stream.
    Pause "pause" 6,
    /// Go on with it.
    Resume "resume" 5,
    /// Cancel any operation, live or ended.
    Cancel "cancel" 6,
    /// Close with a deadline.
    Close "close" 2,
    /// Close at once.
    Abort "abort" 2,
    /// Every call with an id that is none.
    Stale "stale" 2,
    /// Calls that are not for datagrams.
    Misuse "misuse" 2,
    /// From now on received buffers are kept (odd form) or dropped at once.
    Keep "keep" 2,
    /// The kept buffers are dropped.
    Release "release" 2,
    /// From now on a poll delivers at most so many.
    Capacity "capacity" 2,
}

pub(super) type Step = plan::Step<Verb>;

impl Verbs for Verb {
    const PREFIX: &'static str = "datagrams ";
    const ALL: &'static [(Self, &'static str, usize)] = VERBS;
    const SHAPES: usize = 5;

    /// Around what fits an ordinary buffer (3,968), a bulk buffer (65,408) and the network (65,507).
    fn sizes() -> BoxedStrategy<usize> {
        prop_oneof![
            2 => 0..4usize,
            5 => 4..300usize,
            3 => 1000..1500usize,
            3 => 3960..3976usize,
            1 => 4090..4102usize,
            1 => 5000..60_000usize,
            1 => prop_oneof![65_400..65_416usize, 65_500..65_515usize],
        ]
        .boxed()
    }

    fn play(setup: &Setup, plan: &Plan<Self>, is_verbose: bool) {
        play::play(setup, plan, is_verbose);
    }
}
