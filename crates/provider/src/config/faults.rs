//! Faults that a driver adds for a test.

use crate::base::with::with;

with!(Faults, FaultRates);

/// Faults that a test asks for. The same seed decides the same at every step; what the system does in between is its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Faults {
    /// Of the generator that decides.
    pub seed: u64,
    /// Rates of each kind.
    pub rates: FaultRates,
}

/// In how many of a thousand cases something goes wrong, at most 900, and for how long. The default is never.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct FaultRates {
    /// A send takes a part of its bytes.
    pub send_short: u16,
    /// A send takes none, as a full socket.
    pub send_refused: u16,
    /// A single receive gets a part of its room.
    pub receive_short: u16,
    /// A receive stream finds no buffer.
    pub no_buffers: u16,
    /// Most receive streams that then find none either.
    pub no_buffers_run_max: u16,
    /// A stream of receives or accepts ends in the kernel though it could go on.
    pub stream_ended: u16,
    /// An accept fails for a moment.
    pub accept_fails: u16,
    /// An accept finds no descriptor: the driver then sheds a connection.
    pub accept_without_descriptor: u16,
    /// A connect finds no room at the listener.
    pub connect_refused: u16,
    /// A socket cannot be attached for want of descriptors.
    pub attach_refused: u16,
    /// A request reaches the back end late.
    pub request_late: u16,
    /// An event reaches the driver late.
    pub event_late: u16,
    /// By so many turns at most.
    pub turns_late_max: u16,
    /// Two events that follow each other change places, unless they are of one request.
    pub events_exchanged: u16,
    /// A turn ends at once, with nothing.
    pub turn_interrupted: u16,
    /// A turn ends at once, with an error.
    pub turn_fails: u16,
    /// A wake is not heard.
    pub wake_lost: u16,
    /// A wake comes twice, or without a cause.
    pub wake_doubled: u16,
}

impl Faults {
    /// Faults at these rates, as this seed decides.
    pub fn new(seed: u64, rates: FaultRates) -> Self {
        Faults { seed, rates }
    }
}
