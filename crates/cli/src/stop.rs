//! Stopping: Ctrl-C and SIGTERM, and of child processes the end of their input, set a flag and tell everyone who wants to know; a second one ends the process at once.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{process, thread};

use raon_provider::{Operation, Submitter};

use crate::failure::{Context, Failure};

/// The token of the timer that wakes a driver when it is time to stop.
pub(crate) const WAKE: u64 = u64::MAX;

/// What a shell reports of a process that Ctrl-C ended.
pub(crate) const INTERRUPTED: u8 = 130;

/// Told when it is time to stop.
type Listener = Box<dyn Fn() + Send>;

/// The flag, with those who want to be told when it is set.
#[derive(Default)]
pub(crate) struct Stop {
    is_asked: AtomicBool,
    listeners: Mutex<Vec<Listener>>,
}

impl Stop {
    /// Sets it up to be asked by signals. Once per process.
    pub(crate) fn install() -> Result<Arc<Stop>, Failure> {
        let stop = Arc::new(Stop::default());
        let asked = stop.clone();
        ctrlc::set_handler(move || {
            if asked.ask() {
                process::exit(i32::from(INTERRUPTED));
            }
        })
        .context("cannot handle signals")?;
        Ok(stop)
    }

    /// Lets it be asked by the end of an input, too: that of a pipe comes when its writer closes it or is no more.
    pub(crate) fn follow(self: &Arc<Self>, mut input: impl Read + Send + 'static) {
        let stop = self.clone();
        // It ends with the process at the latest.
        thread::spawn(move || {
            // An input that cannot be read has ended.
            let _ = io::copy(&mut input, &mut io::sink());
            stop.ask();
        });
    }

    /// Asks everyone to stop. True if that had been asked before.
    pub(crate) fn ask(&self) -> bool {
        let was_asked = self.is_asked.swap(true, Ordering::SeqCst);
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|listener| listener());
        was_asked
    }

    /// True once it is time to stop.
    pub(crate) fn is_asked(&self) -> bool {
        self.is_asked.load(Ordering::SeqCst)
    }

    /// True as soon as it is time to stop; false if it is not for so long.
    pub(crate) fn is_asked_within(&self, patience: Duration) -> bool {
        let begin = Instant::now();
        while !self.is_asked() && begin.elapsed() < patience {
            thread::sleep(Duration::from_millis(1));
        }
        self.is_asked()
    }

    /// Registers a driver to be woken; at once if the flag is set already.
    pub(crate) fn wakes(&self, sleeper: Submitter) {
        self.tells(move || wake(&sleeper));
    }

    /// Registers what is to be done when it is time to stop; at once if the flag is set already. It may be done twice.
    pub(crate) fn tells(&self, listener: impl Fn() + Send + 'static) {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        // Asked for just before it was on the list: nobody else tells it.
        if self.is_asked() {
            listener();
        }
        listeners.push(Box::new(listener));
    }
}

/// A mailbox that refuses is full, so that its driver wakes anyway, or closed.
fn wake(sleeper: &Submitter) {
    let _ = sleeper.submit(Operation::Timer { after: Duration::ZERO }, WAKE);
}
