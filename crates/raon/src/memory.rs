//! Memory that sessions take: the budget, and the chunks of outboxes.

pub(crate) mod budget;
pub(crate) mod chunk;
