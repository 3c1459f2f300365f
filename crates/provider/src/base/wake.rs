//! Wake-up of a driver that waits.

use std::sync::Arc;

/// Wakes the owner out of its wait, from any thread.
pub(crate) trait Wake: Send + Sync {
    /// Makes the present or the next wait return.
    fn wake(&self);
}

/// A shared [`Wake`].
pub(crate) type Waker = Arc<dyn Wake>;
