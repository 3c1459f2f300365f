//! Random sequences with datagrams: one driver, whose sockets send to each other, and to where nobody is.
//!
//! The model counts alike datagrams (`flight`): what arrives was sent to this socket by that sender, whole, and at most as
//! often as it was sent. Everything that was sent must arrive, on every set-up of the suite, because the load is bounded and
//! the way leads over loopback or through a simulated network that loses nothing. What may be lost all the same, and why:
//!
//! - what lies in the queue of a socket that closes, and what comes to it after;
//! - what a socket with a peer is sent by somebody else: the system does not give it that;
//! - what is beyond the socket's queue (SO_RCVBUF, in which the kernel charges more than the bytes): a plan keeps what is
//!   unread below [`QUEUE_CHARGE_MAX`], but for one configuration with tiny queues, in which nothing has to arrive.
//!
//! Refusals by the network (ICMP) may come as often as a socket has sent to its peer while nobody was there, never more
//! often, and never to a socket without a peer. They need not come: one takes the place of another.

mod end;
mod flight;
mod judge;
mod misuse;
mod model;
mod play;
mod verb;

pub(super) use verb::Verb;

/// Bytes that a socket's queue is asked to hold. Linux doubles it, and bounds it by net.core.rmem_max, of which the default
/// is 212,992.
const QUEUE_BYTES: u32 = 200_000;
/// What may be unread at one socket, see `flight::charge`: what is left of 212,992 if the kernel gives back up to a quarter
/// of it late (`udp_rmem_release`).
const QUEUE_CHARGE_MAX: usize = 150_000;
/// The longest datagram of IPv4.
const NETWORK_BYTES_MAX: usize = 65_507;
