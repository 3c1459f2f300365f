//! The real program, run as users run it.

mod commands;
mod load;
mod open;
mod support;
