//! Simulated network: sockets in memory, with virtual time, that go wrong as a seed says. The back end `sim` drives them.

pub(crate) mod bell;
pub(crate) mod connect;
pub(crate) mod datagram;
pub(crate) mod fault;
pub(crate) mod names;
pub(crate) mod network;
mod node;
pub(crate) mod peer;
pub(crate) mod pipe;
pub(crate) mod socket;
pub(crate) mod stream;
pub(crate) mod world;
