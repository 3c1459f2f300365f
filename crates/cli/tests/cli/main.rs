//! The real program, run as users run it.

mod bench;
mod chat;
mod commands;
mod datagrams;
#[cfg(windows)]
mod double;
mod load;
#[cfg(unix)]
mod local;
mod open;
mod pingpong;
mod stop;
mod support;
mod talk;
