//! Facts about the operating system that the suite has to know; chosen here, and nowhere else in it.
//!
//! [`SKIPPED`] and [`SKIPPED_REAL`] are the tests that a system cannot run, each with the reason.

#[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
mod bsd;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(windows)]
mod rio;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
pub use self::{linux::*, unix::*};

#[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
pub use self::{bsd::*, elsewhere::*, unix::*};

#[cfg(windows)]
pub use self::{
    elsewhere::*,
    rio::{is_aside, rio_functions},
    windows::*,
};

/// Functions that take the place of the system's registered I/O: there is none to replace.
#[cfg(not(windows))]
pub fn rio_functions() -> Option<raon_provider::RioFunctions> {
    None
}

/// True while a double of the system works in this thread: what it does is not the back end's. There is none.
#[cfg(not(windows))]
pub fn is_aside() -> bool {
    false
}

use crate::setup::Setup;

/// A test that is left out, and why.
pub type Skipped = (&'static str, &'static str);

/// Why this test is left out on this system, if it is. `None` for the set-up: it is about the choice among all of them.
pub fn reason(setup: Option<&Setup>, test: &str) -> Option<&'static str> {
    let is_real = setup.is_none_or(|setup| !setup.is_simulated());
    let real: &[Skipped] = if is_real { SKIPPED_REAL } else { &[] };
    SKIPPED.iter().chain(real).find(|(name, _)| *name == test).map(|(_, reason)| *reason)
}
