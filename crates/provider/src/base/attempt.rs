//! Answer of a call that does not wait.

use crate::base::error::Error;

/// Answer of the operating system, or of the simulated network, to a call that does not wait.
pub(crate) enum Attempt<T> {
    /// Done.
    Done(T),
    /// Not possible yet. Whoever asked for it hears when it may be.
    Later,
    /// Failed.
    Failed(Error),
}

impl<T> Attempt<T> {
    /// The same attempt, with what it has brought changed.
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Attempt<U> {
        match self {
            Attempt::Done(value) => Attempt::Done(change(value)),
            Attempt::Later => Attempt::Later,
            Attempt::Failed(error) => Attempt::Failed(error),
        }
    }
}
