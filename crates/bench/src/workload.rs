//! Workloads: what is asked of a server.

/// An echo workload: so many connections keep so many messages of one size in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    /// Its name in tables.
    pub(crate) name: &'static str,
    pub(crate) connections: usize,
    pub(crate) size_bytes: usize,
    pub(crate) in_flight: usize,
    /// Size of a server's receive buffer: enough for what is in flight.
    pub(crate) buffer_bytes: u32,
    pub(crate) form: Form,
}

/// What the bytes of an echo are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// Anything; what comes back is what was sent.
    Raw,
    /// Frames, and answers to each of them.
    Framed,
}

pub(crate) const fn workload(name: &'static str, connections: usize, size_bytes: usize, in_flight: usize) -> Workload {
    let buffer_bytes = if size_bytes * in_flight > 4096 { 65_536 } else { 4096 };
    Workload { name, connections, size_bytes, in_flight, buffer_bytes, form: Form::Raw }
}

/// Connections that are enough to show that a server runs.
pub(crate) const SMOKE_CONNECTIONS: usize = 100;

/// From many small messages to few large ones.
pub(crate) const BYTES: [Workload; 6] = [
    workload("W1", 64, 64, 1),
    workload("W2", 64, 64, 16),
    workload("W3", 1000, 128, 1),
    workload("W4", 1000, 128, 8),
    workload("W5", 64, 4096, 4),
    workload("W6", 16, 16_384, 2),
];

/// Few busy and many calm connections.
pub(crate) const FRAMED_ECHO: [Workload; 2] = [
    Workload { form: Form::Framed, ..workload("F1", 64, 64, 16) },
    Workload { form: Form::Framed, ..workload("F2", 1000, 64, 4) },
];

/// An echo of datagrams: so many sockets keep so many datagrams of one size in flight. All together are at most half of
/// what the kernel queues on its way over loopback (net.core.netdev_max_backlog, 1,000), and of one socket at most as many
/// as a receive queue of the default size takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DatagramWorkload {
    /// Its name in tables.
    pub(crate) name: &'static str,
    pub(crate) sockets: usize,
    pub(crate) size_bytes: usize,
    pub(crate) in_flight: usize,
}

/// Many peers with small and with full datagrams, and a single busy one.
pub(crate) const DATAGRAMS: [DatagramWorkload; 3] = [
    DatagramWorkload { name: "D1", sockets: 64, size_bytes: 64, in_flight: 8 },
    DatagramWorkload { name: "D2", sockets: 64, size_bytes: 1200, in_flight: 8 },
    DatagramWorkload { name: "D3", sockets: 1, size_bytes: 1200, in_flight: 64 },
];
