//! Failure of a command: one line with the cause and the remedy.

use std::fmt;

/// What is printed behind `error: `, and the exit code that goes with it.
#[derive(Debug)]
pub(crate) struct Failure {
    text: String,
    /// 2 for arguments that cannot be, as clap has it; else 1.
    pub(crate) exit_code: u8,
}

impl Failure {
    /// A cause that says what to do about it.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Failure { text: text.into(), exit_code: 1 }
    }

    /// Arguments that cannot be, or not together.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Failure { text: text.into(), exit_code: 2 }
    }

    /// What was being done, and the error that came of it.
    pub(crate) fn of(doing: impl fmt::Display, error: impl fmt::Display) -> Self {
        Failure::new(format!("{doing}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Gives an error the context of what was being done.
pub(crate) trait Context<T> {
    /// The value, or a [`Failure`] that starts with `doing`.
    fn context(self, doing: impl fmt::Display) -> Result<T, Failure>;
}

impl<T, E: fmt::Display> Context<T> for Result<T, E> {
    fn context(self, doing: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::of(doing, error))
    }
}
