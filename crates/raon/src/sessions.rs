//! Sessions as a shard keeps them: their table, groups, and how many there may be.

pub(crate) mod admission;
pub(crate) mod group;
pub(crate) mod held_input;
pub(crate) mod ranks;
pub(crate) mod table;
