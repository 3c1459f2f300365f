//! What is asked of a server.

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
}

pub(crate) const fn workload(name: &'static str, connections: usize, size_bytes: usize, in_flight: usize) -> Workload {
    let buffer_bytes = if size_bytes * in_flight > 4096 { 65_536 } else { 4096 };
    Workload { name, connections, size_bytes, in_flight, buffer_bytes }
}

/// Connections that are enough to show that a server runs.
pub(crate) const SMOKE_CONNECTIONS: usize = 100;

impl Workload {
    /// The same with few connections.
    pub(crate) fn smoke(self) -> Self {
        Workload { connections: self.connections.min(SMOKE_CONNECTIONS), ..self }
    }
}

/// From many small messages to few large ones.
pub(crate) const BYTES: [Workload; 6] = [
    workload("W1", 64, 64, 1),
    workload("W2", 64, 64, 16),
    workload("W3", 1000, 128, 1),
    workload("W4", 1000, 128, 8),
    workload("W5", 64, 4096, 4),
    workload("W6", 16, 16_384, 2),
];
