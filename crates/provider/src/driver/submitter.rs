//! The front door for other threads.

use std::fmt;
use std::sync::Arc;

use crate::base::error::Refused;
use crate::driver::mailbox::{Mailbox, Message};
use crate::driver::operation::Operation;

/// Submits to a driver from any thread. Bounded: a value that does not fit comes back. Cheap to clone.
///
/// What the driver refuses later comes back as [`Outcome::Refused`](crate::Outcome::Refused), with the operation whole.
/// Order is kept per submitting thread. While the owner is busy a submit costs a push; an owner that sleeps is woken once
/// for any number of submits.
///
/// ```
/// use std::time::Duration;
/// use raon_provider::{Completions, Config, Driver, Operation, Outcome};
/// let mut driver = Driver::open(&Config::default())?;
/// let submitter = driver.submitter();
/// std::thread::spawn(move || submitter.submit(Operation::Timer { after: Duration::ZERO }, 7).unwrap());
/// let mut completions = Completions::with_capacity(16);
/// driver.poll(None, &mut completions)?;
/// let completion = completions.pop().unwrap();
/// assert!(completion.token == 7 && matches!(completion.outcome, Outcome::Expired));
/// # Ok::<(), raon_provider::Error>(())
/// ```
//= THREAD-1
#[derive(Clone)]
pub struct Submitter {
    pub(crate) mailbox: Arc<Mailbox>,
}

impl Submitter {
    /// Hands an operation over; the token comes back in its completions.
    ///
    /// Errors: `Busy` when the mailbox is full, `Closed` when the driver is gone; the operation comes back either way.
    pub fn submit(&self, operation: Operation, token: u64) -> Result<(), Refused<Operation>> {
        self.mailbox.push(Message::Submit(operation, token)).map_err(|refused| {
            refused.map(|message| match message {
                Message::Submit(operation, _) => operation,
                Message::Cancel(_) => unreachable!("the value that comes back is the one that was pushed"),
            })
        })
    }

    /// Wakes the driver without an operation: its [`poll`](crate::Driver::poll) that waits, or else the next one, returns
    /// without waiting any further, perhaps with nothing. For whoever hands something over by another way.
    ///
    /// Wakes before that return count as one, and none is lost. It is never refused; after the end of the driver it does
    /// nothing.
    ///
    /// ```
    /// use raon_provider::{Completions, Config, Driver};
    /// let mut driver = Driver::open(&Config::default())?;
    /// let submitter = driver.submitter();
    /// std::thread::spawn(move || submitter.wake());
    /// assert_eq!(driver.poll(None, &mut Completions::with_capacity(16))?, 0);
    /// # Ok::<(), raon_provider::Error>(())
    /// ```
    pub fn wake(&self) {
        self.mailbox.wake();
    }

    /// Cancels every operation that carries this token. Costs time linear in the operations of the driver.
    ///
    /// Errors: as [`submit`](Self::submit).
    pub fn cancel(&self, token: u64) -> Result<(), Refused<u64>> {
        self.mailbox.push(Message::Cancel(token)).map_err(|refused| refused.map(|_| token))
    }
}

impl fmt::Debug for Submitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Submitter({} waiting)", self.mailbox.len())
    }
}
