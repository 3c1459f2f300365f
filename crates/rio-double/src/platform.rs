//! Registered I/O is of Windows: elsewhere this crate is empty.

#[cfg(windows)]
#[path = "double.rs"]
mod double;

#[cfg(windows)]
pub use double::*;
