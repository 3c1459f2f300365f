//! One live line on standard error; nothing at all when that is not a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often a waiting command looks up and redraws.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// The live line; it goes when this is dropped.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Starts it, empty.
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        bar.set_style(ProgressStyle::with_template("{spinner} {wide_msg}").expect("a constant template is valid"));
        Progress(bar)
    }

    /// Shows what is going on now.
    pub(crate) fn say(&self, text: impl Into<String>) {
        self.0.set_message(text.into());
        self.0.tick();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
