//! The steps of plans about connections.

use proptest::prelude::*;

use super::plan::{Plan, Verbs, verbs};
use super::play;
use crate::setup::Setup;

verbs! {
    /// One poll; an odd form waits for two milliseconds.
    Poll "poll" 14,
    /// A turn without delivery.
    Flush "flush" 8,
    /// A new connection to a plain peer, adopted.
    Adopt "adopt" 3,
    /// A send that reports.
    Send "send" 12,
    /// A send that reports only if it fails.
    SendQuiet "quiet" 8,
    /// Several small sends at once.
    Burst "burst" 4,
    /// A receive stream.
    Receive "receive" 7,
    /// A single receive.
    ReceiveInto "into" 6,
    /// Stop the stream.
    Pause "pause" 8,
    /// Go on with it.
    Resume "resume" 5,
    /// Cancel any operation, live or ended.
    Cancel "cancel" 7,
    /// End the write side.
    ShutdownWrite "shutdown" 2,
    /// Close with a deadline.
    Close "close" 3,
    /// Close at once.
    Abort "abort" 1,
    /// A timer.
    Timer "timer" 2,
    /// A listener.
    Listen "listen" 1,
    /// An accept stream.
    Accept "accept" 2,
    /// A plain peer connects to a listener.
    PeerConnect "knock" 2,
    /// The driver connects to its own listener.
    Connect "connect" 2,
    /// An accepted socket joins the driver.
    AdoptAccepted "take" 3,
    /// The peer writes.
    PeerWrite "write" 14,
    /// The peer reads.
    PeerRead "read" 8,
    /// The peer ends its write side.
    PeerShut "fin" 2,
    /// The peer resets.
    PeerReset "reset" 1,
    /// The peer goes away.
    PeerDrop "gone" 1,
    /// From now on received buffers are kept (odd form) or dropped at once.
    Keep "keep" 2,
    /// The kept buffers are dropped.
    Release "release" 2,
    /// Every call with an id that is none.
    Stale "stale" 2,
    /// A send through a submitter; an odd form is quiet.
    MailSend "mail_send" 3,
    /// A receive, or its like, through a submitter.
    Mail "mail" 3,
    /// A close through a submitter.
    MailClose "mail_close" 1,
    /// A cancel through a submitter.
    MailCancel "mail_cancel" 2,
    /// From now on a poll delivers at most so many.
    Capacity "capacity" 2,
}

pub(super) type Step = super::plan::Step<Verb>;

impl Verbs for Verb {
    const PREFIX: &'static str = "";
    const ALL: &'static [(Self, &'static str, usize)] = VERBS;
    const SHAPES: usize = 4;

    /// Around the borders of buffers (4 KiB) more often than chance has it, and some that no socket takes at once.
    fn sizes() -> BoxedStrategy<usize> {
        prop_oneof![
            4 => 1..100usize,
            2 => 100..4000usize,
            3 => 4090..4102usize,
            2 => 8190..70_000usize,
            1 => 70_000..400_000usize,
        ]
        .boxed()
    }

    fn play(setup: &Setup, plan: &Plan<Self>, is_verbose: bool) {
        play::play(setup, plan, is_verbose);
    }
}
