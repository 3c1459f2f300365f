//! Routing: the ways from one shard to another, and from other threads.

pub(crate) mod mailbox;
pub(crate) mod router;
