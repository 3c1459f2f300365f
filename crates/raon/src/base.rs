//! Base: what every other room may know.

pub(crate) mod boundary;
pub(crate) mod id;
pub(crate) mod log_limit;
pub(crate) mod metrics;
