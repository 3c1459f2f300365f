//! What stands on an I/O completion port.

pub(in crate::backend) mod accept;
pub(in crate::backend) mod associate;
pub(in crate::backend) mod blocks;
pub(in crate::backend) mod connect;
pub(in crate::backend) mod extension;
pub(in crate::backend) mod port;
pub(in crate::backend) mod precise;
