//! What to do, as numbers: a plan can be made at random, cut down, printed on one line and read back.

use std::fmt;
use std::str::FromStr;

use proptest::prelude::*;
use proptest::sample::select;

macro_rules! verbs {
    ($($(#[$doc:meta])* $name:ident $word:literal $weight:literal,)*) => {
        /// One kind of step.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Verb { $($(#[$doc])* $name,)* }

        /// Name and weight of each.
        const VERBS: &[(Verb, &str, usize)] = &[$((Verb::$name, $word, $weight),)*];
    };
}

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

/// A step: what, on which of those that are there, how much, in which form.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// What.
    pub verb: Verb,
    /// Chooses a socket, operation or peer, modulo those that there are.
    pub which: usize,
    /// Bytes, mostly.
    pub size: usize,
    /// Form of a payload, mode of a close and the like.
    pub form: usize,
}

/// How a plan ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Everything is let happen, then every socket is closed in grace.
    Drain,
    /// The driver is shut down in the middle of it.
    Shutdown,
    /// The driver is dropped in the middle of it.
    Drop,
}

const ENDINGS: [(Ending, &str); 3] = [(Ending::Drain, "drain"), (Ending::Shutdown, "shutdown"), (Ending::Drop, "drop")];
/// How many configurations there are, see `Shape`.
pub(super) const SHAPES: usize = 4;

/// A sequence of steps under one configuration.
#[derive(Clone, PartialEq, Eq)]
pub struct Plan {
    /// Which configuration.
    pub shape: usize,
    /// How it ends.
    pub ending: Ending,
    /// The steps.
    pub steps: Vec<Step>,
}

/// All plans of at most so many steps.
pub(super) fn plans(steps_max: usize) -> impl Strategy<Value = Plan> {
    let endings = vec![Ending::Drain, Ending::Drain, Ending::Drain, Ending::Shutdown, Ending::Drop];
    let steps = prop::collection::vec(step(), 1..steps_max);
    (0..SHAPES, select(endings), steps).prop_map(|(shape, ending, steps)| Plan { shape, ending, steps })
}

fn step() -> impl Strategy<Value = Step> {
    let weighted: Vec<Verb> = VERBS.iter().flat_map(|(verb, _, weight)| vec![*verb; *weight]).collect();
    // Around the borders of buffers (4 KiB) more often than chance has it, and some that no socket takes at once.
    let size = prop_oneof![
        4 => 1..100usize,
        2 => 100..4000usize,
        3 => 4090..4102usize,
        2 => 8190..70_000usize,
        1 => 70_000..400_000usize,
    ];
    (select(weighted), 0..8usize, size, 0..6usize).prop_map(|(verb, which, size, form)| Step {
        verb,
        which,
        size,
        form,
    })
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ending = ENDINGS.iter().find(|(ending, _)| *ending == self.ending).map_or("", |(_, name)| name);
        write!(f, "{} {ending}", self.shape)?;
        self.steps.iter().try_for_each(|step| write!(f, " {step}"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = VERBS.iter().find(|(verb, ..)| *verb == self.verb).map_or("", |(_, name, _)| name);
        write!(f, "{name}.{}.{}.{}", self.which, self.size, self.form)
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Plan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let shape = words.next().and_then(|word| word.parse().ok()).filter(|shape| *shape < SHAPES);
        let name = words.next().unwrap_or("");
        let ending = ENDINGS.iter().find(|(_, each)| *each == name).map(|(ending, _)| *ending);
        let (Some(shape), Some(ending)) = (shape, ending) else {
            return Err(format!("a plan starts with a shape (0 to {}) and an ending: `{text}`", SHAPES - 1));
        };
        Ok(Plan { shape, ending, steps: words.map(Step::from_str).collect::<Result<_, _>>()? })
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('.').collect();
        let verb = VERBS.iter().find(|(_, name, _)| *name == parts[0]).map(|(verb, ..)| *verb);
        let numbers: Vec<usize> = parts[1..].iter().filter_map(|part| part.parse().ok()).collect();
        match (verb, numbers.as_slice()) {
            (Some(verb), &[which, size, form]) => Ok(Step { verb, which, size, form }),
            _ => Err(format!("a step is verb.which.size.form: `{text}`")),
        }
    }
}
