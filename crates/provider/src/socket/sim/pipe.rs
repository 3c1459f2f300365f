//! One direction of a connection, kept at its receiving end.
//!
//! The bytes are one queue in three parts: `[ arrived | flying | queued ]`. A write appends to the queued ones; those that
//! fit into the receiver's window take off, each segment with the time of its arrival; a read takes of the arrived ones.
//! What flies arrives in the order in which it took off.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

use super::fault::FaultPlan;
use crate::base::random::Random;
use crate::base::time::nanoseconds;

/// The most bytes that arrive at the same moment.
const SEGMENT_BYTES_MAX: usize = 64 * 1024;

/// What flies towards a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cargo {
    /// So many bytes, the next ones of the pipe.
    Bytes(usize),
    /// The peer has ended its direction.
    End,
    /// The peer has taken the connection.
    Welcome,
    /// Nobody listens there.
    Refusal,
    /// The connection is broken.
    Reset,
}

/// One direction.
pub(crate) struct Pipe {
    bytes: VecDeque<u8>,
    arrived: usize,
    flying_bytes: usize,
    flying: VecDeque<Cargo>,
    /// Taken by the reader so far, of those that a deaf one will never make room for again.
    spent: usize,
    is_deaf: bool,
    /// The writer has ended; what is queued still goes out.
    pub(crate) is_ending: bool,
    has_ended: bool,
    pub(crate) send_bytes_max: usize,
    pub(crate) receive_bytes_max: usize,
    latency_ns: u64,
    /// When the wire is free again.
    free_ns: u64,
    /// When the last of what flies arrives.
    last_ns: u64,
}

impl Pipe {
    pub(crate) fn new(plan: &FaultPlan, random: &mut Random, latency_ns: u64) -> Self {
        Pipe {
            bytes: VecDeque::new(),
            arrived: 0,
            flying_bytes: 0,
            flying: VecDeque::new(),
            spent: 0,
            is_deaf: random.chance(plan.deaf_peers),
            is_ending: false,
            has_ended: false,
            send_bytes_max: plan.send_buffer_bytes.max(1) as usize,
            receive_bytes_max: plan.receive_buffer_bytes.max(1) as usize,
            latency_ns,
            free_ns: 0,
            last_ns: 0,
        }
    }

    // The writer's end.

    /// Takes of `bytes` what there is room for.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> usize {
        let length = bytes.len().min(self.room());
        self.bytes.extend(&bytes[..length]);
        length
    }

    /// Bytes that the writer's end still holds room for.
    pub(crate) fn room(&self) -> usize {
        self.send_bytes_max.saturating_sub(self.bytes.len() - self.arrived)
    }

    /// What can take off next, if the window lets it.
    pub(crate) fn next_cargo(&mut self) -> Option<Cargo> {
        let queued = self.bytes.len() - self.arrived - self.flying_bytes;
        let window = self.receive_bytes_max.saturating_sub(self.arrived + self.flying_bytes + self.spent);
        let length = queued.min(window).min(SEGMENT_BYTES_MAX);
        if length > 0 {
            return Some(Cargo::Bytes(length));
        }
        (queued == 0 && std::mem::take(&mut self.is_ending)).then_some(Cargo::End)
    }

    /// Lets something take off; returns when it will arrive.
    pub(crate) fn launch(&mut self, cargo: Cargo, now_ns: u64, plan: &FaultPlan, random: &mut Random) -> u64 {
        self.free_ns = self.free_ns.max(now_ns);
        let jitter_ns = random.between_ns(std::time::Duration::ZERO, plan.jitter_max);
        let mut delay_ns = self.latency_ns.saturating_add(jitter_ns);
        if let Cargo::Bytes(length) = cargo {
            self.flying_bytes += length;
            let wire_ns = (length as u64 * 1_000_000_000).checked_div(plan.bandwidth_bytes).unwrap_or(0);
            self.free_ns = self.free_ns.saturating_add(wire_ns);
        }
        if random.chance(plan.lost_segments) {
            delay_ns = delay_ns.saturating_add(nanoseconds(plan.retransmit_after));
        }
        self.flying.push_back(cargo);
        self.last_ns = self.last_ns.max(self.free_ns.saturating_add(delay_ns));
        self.last_ns
    }

    /// What was not on its way yet will never be.
    pub(crate) fn purge(&mut self) {
        self.bytes.truncate(self.arrived + self.flying_bytes);
        self.is_ending = false;
    }

    // The reader's end.

    /// What has flown longest is here.
    pub(crate) fn land(&mut self) -> Option<Cargo> {
        let cargo = self.flying.pop_front()?;
        match cargo {
            Cargo::Bytes(length) => {
                self.flying_bytes -= length;
                self.arrived += length;
            }
            Cargo::End => self.has_ended = true,
            _ => {}
        }
        Some(cargo)
    }

    /// Takes what has arrived, as much as fits.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> usize {
        let length = into.len().min(self.arrived);
        let (first, second) = self.bytes.as_slices();
        let part = length.min(first.len());
        into[..part].copy_from_slice(&first[..part]);
        into[part..length].copy_from_slice(&second[..length - part]);
        self.bytes.drain(..length);
        self.arrived -= length;
        self.spent += if self.is_deaf { length } else { 0 };
        length
    }

    pub(crate) fn arrived(&self) -> usize {
        self.arrived
    }

    /// Everything has arrived, and the end as well.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Bytes that are on their way or wait for it.
    pub(crate) fn has_more_to_come(&self) -> bool {
        self.bytes.len() > self.arrived
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch_all(pipe: &mut Pipe, now_ns: u64, plan: &FaultPlan) -> Vec<(Cargo, u64)> {
        let mut random = Random::new(1);
        let mut launched = Vec::new();
        while let Some(cargo) = pipe.next_cargo() {
            launched.push((cargo, pipe.launch(cargo, now_ns, plan, &mut random)));
        }
        launched
    }

    #[test]
    fn buffers_fill_and_windows_open() {
        let plan = FaultPlan { send_buffer_bytes: 10, receive_buffer_bytes: 4, ..FaultPlan::default() };
        let mut pipe = Pipe::new(&plan, &mut Random::new(1), 5);
        assert_eq!(pipe.write(b"0123456789abcdef"), 10);
        assert_eq!(launch_all(&mut pipe, 100, &plan), [(Cargo::Bytes(4), 105)]);
        assert_eq!((pipe.room(), pipe.arrived()), (0, 0), "what flies is still the writer's");
        assert_eq!(pipe.land(), Some(Cargo::Bytes(4)));
        assert_eq!((pipe.room(), pipe.arrived(), pipe.write(b"abcdef")), (4, 4, 4));
        assert!(launch_all(&mut pipe, 200, &plan).is_empty(), "the window is closed");
        let mut bytes = [0; 3];
        assert_eq!((pipe.read(&mut bytes), &bytes), (3, b"012"));
        pipe.is_ending = true;
        assert_eq!(launch_all(&mut pipe, 300, &plan), [(Cargo::Bytes(3), 305)], "the end comes last");
    }

    #[test]
    fn bandwidth_and_loss_delay_but_never_reorder() {
        let plan = FaultPlan { bandwidth_bytes: 1_000_000, lost_segments: 0.5, ..FaultPlan::default() };
        let mut pipe = Pipe::new(&plan, &mut Random::new(1), 0);
        let mut last_ns = 0;
        for round in 1..=50 {
            pipe.write(&[7; 1000]);
            let [(_, at_ns)] = launch_all(&mut pipe, 0, &plan)[..] else { panic!("one segment was due") };
            assert!(at_ns >= last_ns && at_ns >= round * 1_000_000, "{at_ns}");
            last_ns = at_ns;
        }
    }

    #[test]
    fn a_deaf_reader_makes_no_room() {
        let plan = FaultPlan { receive_buffer_bytes: 4, deaf_peers: 1.0, ..FaultPlan::default() };
        let mut pipe = Pipe::new(&plan, &mut Random::new(1), 0);
        pipe.write(b"0123456789");
        launch_all(&mut pipe, 0, &plan);
        pipe.land();
        assert_eq!(pipe.read(&mut [0; 10]), 4);
        assert!(launch_all(&mut pipe, 1, &plan).is_empty());
    }
}
