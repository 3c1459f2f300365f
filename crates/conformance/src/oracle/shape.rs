//! The configurations under which plans are played: from plenty of everything to next to nothing.

use raon_provider::Config;

use super::model::Limits;

/// One configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    sockets: u32,
    operations: u32,
    send_bytes: u32,
    send_count: u32,
    mailbox: u32,
    receive_count: u32,
    send_buffers: u32,
    bulk_count: u32,
    /// Sizes of the system's buffers between a socket and its peer, in bytes; 0: as the system has it.
    pub socket_bytes: usize,
}

const PLENTY: Shape = Shape {
    sockets: 64,
    operations: 512,
    send_bytes: 256 * 1024,
    send_count: 64,
    mailbox: 64,
    receive_count: 64,
    send_buffers: 16,
    bulk_count: 4,
    socket_bytes: 0,
};
const FEW_BUFFERS: Shape = Shape { receive_count: 4, send_buffers: 2, bulk_count: 1, socket_bytes: 8192, ..PLENTY };
const SHORT_QUEUES: Shape = Shape { send_bytes: 20_000, send_count: 4, mailbox: 3, socket_bytes: 8192, ..PLENTY };
const SMALL_TABLES: Shape = Shape { sockets: 6, operations: 16, receive_count: 2, send_buffers: 1, ..SHORT_QUEUES };

impl Shape {
    /// By its number in a plan.
    pub(super) fn of(number: usize) -> Self {
        [PLENTY, FEW_BUFFERS, SHORT_QUEUES, SMALL_TABLES][number]
    }

    /// Writes it into a configuration.
    pub(super) fn apply(&self, config: &mut Config) {
        config.sockets_max = self.sockets;
        config.operations_max = self.operations;
        config.send_queue_bytes_max = self.send_bytes;
        config.send_queue_count_max = self.send_count;
        config.mailbox_capacity = self.mailbox;
        let (receive_count, send_count, bulk_count) = (self.receive_count, self.send_buffers, self.bulk_count);
        // Shorter than the longest datagram, so that some do not fit.
        let bulk_bytes = 65_536;
        config.pool = config.pool.with(|pool| {
            pool.receive_count = receive_count;
            pool.send_count = send_count;
            pool.bulk_count = bulk_count;
            pool.bulk_bytes = bulk_bytes;
        });
    }

    /// As the model needs it.
    pub(super) fn limits(&self) -> Limits {
        Limits {
            sockets: self.sockets as usize,
            operations: self.operations as usize,
            send_bytes: self.send_bytes as usize,
            send_count: self.send_count as usize,
            mailbox: self.mailbox as usize,
        }
    }
}
