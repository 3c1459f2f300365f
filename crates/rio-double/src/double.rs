//! The parts of the double, and what of them is for users.

mod bell;
mod completions;
mod fault;
mod memory;
mod overlapped;
mod requests;
mod rule;
mod state;
mod table;

pub use self::fault::{Faults, set_faults};
pub use self::rule::{Rule, Violation, catch};
pub use self::state::{Remains, is_inside, is_registered, remains, socket_closing, socket_made};
pub use self::table::functions;
