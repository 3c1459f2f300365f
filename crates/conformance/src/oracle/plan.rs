//! Plans of what to do, as numbers: a plan can be made at random, cut down, printed on one line and read back.

use std::fmt;
use std::str::FromStr;

use proptest::prelude::*;
use proptest::sample::select;

use crate::setup::Setup;

/// What the steps of one kind of plans may be, and how they are played.
pub(super) trait Verbs: Copy + PartialEq + fmt::Debug + 'static {
    /// What replays begin with: a word and a space, or nothing.
    const PREFIX: &'static str;
    /// Each with its word and its weight.
    const ALL: &'static [(Self, &'static str, usize)];
    /// How many configurations there are, see `Shape`.
    const SHAPES: usize;

    /// How many bytes.
    fn sizes() -> BoxedStrategy<usize>;

    /// Plays a plan, or fails.
    fn play(setup: &Setup, plan: &Plan<Self>, is_verbose: bool);
}

/// An enum of the steps, and a list of them: `Name "word" weight`.
macro_rules! verbs {
    ($($(#[$doc:meta])* $name:ident $word:literal $weight:literal,)*) => {
        /// One kind of step.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(in crate::oracle) enum Verb { $($(#[$doc])* $name,)* }

        const VERBS: &[(Verb, &str, usize)] = &[$((Verb::$name, $word, $weight),)*];
    };
}
pub(super) use verbs;

/// A step: what, on which of those that are there, how much, in which form.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Step<V> {
    /// What.
    pub verb: V,
    /// Chooses a socket, operation or peer, modulo those that there are.
    pub which: usize,
    /// Bytes, mostly.
    pub size: usize,
    /// Form of a payload, mode of a close and the like.
    pub form: usize,
}

/// How a plan ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// Everything is let happen, then every socket is closed in grace.
    Drain,
    /// The driver is shut down in the middle of it.
    Shutdown,
    /// The driver is dropped in the middle of it.
    Drop,
}

const ENDINGS: [(Ending, &str); 3] = [(Ending::Drain, "drain"), (Ending::Shutdown, "shutdown"), (Ending::Drop, "drop")];

/// A sequence of steps under one configuration.
#[derive(Clone, PartialEq)]
pub(super) struct Plan<V> {
    /// Which configuration.
    pub shape: usize,
    /// How it ends.
    pub ending: Ending,
    /// The steps.
    pub steps: Vec<Step<V>>,
}

/// All plans of at most so many steps.
pub(super) fn plans<V: Verbs>(steps_max: usize) -> impl Strategy<Value = Plan<V>> {
    let endings = vec![Ending::Drain, Ending::Drain, Ending::Drain, Ending::Shutdown, Ending::Drop];
    let steps = prop::collection::vec(step(), 1..steps_max);
    (0..V::SHAPES, select(endings), steps).prop_map(|(shape, ending, steps)| Plan { shape, ending, steps })
}

fn step<V: Verbs>() -> impl Strategy<Value = Step<V>> {
    let weighted: Vec<V> = V::ALL.iter().flat_map(|(verb, _, weight)| vec![*verb; *weight]).collect();
    let parts = (select(weighted), 0..8usize, V::sizes(), 0..6usize);
    parts.prop_map(|(verb, which, size, form)| Step { verb, which, size, form })
}

impl<V: Verbs> fmt::Display for Plan<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ending = ENDINGS.iter().find(|(ending, _)| *ending == self.ending).map_or("", |(_, name)| name);
        write!(f, "{} {ending}", self.shape)?;
        self.steps.iter().try_for_each(|step| write!(f, " {step}"))
    }
}

impl<V: Verbs> fmt::Display for Step<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = V::ALL.iter().find(|(verb, ..)| *verb == self.verb).map_or("", |(_, name, _)| name);
        write!(f, "{name}.{}.{}.{}", self.which, self.size, self.form)
    }
}

impl<V: Verbs> fmt::Debug for Plan<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl<V: Verbs> FromStr for Plan<V> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let shape = words.next().and_then(|word| word.parse().ok()).filter(|shape| *shape < V::SHAPES);
        let name = words.next().unwrap_or("");
        let ending = ENDINGS.iter().find(|(_, each)| *each == name).map(|(ending, _)| *ending);
        let (Some(shape), Some(ending)) = (shape, ending) else {
            return Err(format!("a plan starts with a shape (0 to {}) and an ending: `{text}`", V::SHAPES - 1));
        };
        Ok(Plan { shape, ending, steps: words.map(Step::from_str).collect::<Result<_, _>>()? })
    }
}

impl<V: Verbs> FromStr for Step<V> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('.').collect();
        let verb = V::ALL.iter().find(|(_, name, _)| *name == parts[0]).map(|(verb, ..)| *verb);
        let numbers: Vec<usize> = parts[1..].iter().filter_map(|part| part.parse().ok()).collect();
        match (verb, numbers.as_slice()) {
            (Some(verb), &[which, size, form]) => Ok(Step { verb, which, size, form }),
            _ => Err(format!("a step is verb.which.size.form: `{text}`")),
        }
    }
}
