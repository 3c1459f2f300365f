//! The settings that have bounds, by name: what an error says when a value is out of range, or its memory cannot be had.

use std::fmt;

use crate::base::slots::CAPACITY_MAX;

/// A field of the configuration, or of a socket's options, as an [`Error`](crate::Error) names it.
///
/// ```
/// use raon_provider::{Config, Driver, ErrorKind, Kind, Setting};
/// let config = Config::named(Kind::Sim).with(|config| config.mailbox_capacity = u32::MAX);
/// let error = Driver::open(&config).err().expect("that is out of range");
/// assert_eq!((error.kind(), error.setting()), (ErrorKind::InvalidInput, Some(Setting::MailboxCapacity)));
/// assert_eq!(error.to_string(), "mailbox_capacity is out of range: choose from 1 to 1048576");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Setting {
    /// `Config::backend`: what finding out about it takes.
    Backend,
    /// `Config::sockets_max`.
    SocketsMax,
    /// `Config::operations_max`.
    OperationsMax,
    /// `Config::send_queue_bytes_max`.
    SendQueueBytesMax,
    /// `Config::send_queue_count_max`.
    SendQueueCountMax,
    /// `Config::mailbox_capacity`.
    MailboxCapacity,
    /// `Config::turn_bytes_max`.
    TurnBytesMax,
    /// `PoolConfig::buffer_bytes`.
    BufferBytes,
    /// `PoolConfig::receive_count`.
    ReceiveCount,
    /// `PoolConfig::send_count`.
    SendCount,
    /// `PoolConfig::bulk_bytes`.
    BulkBytes,
    /// `PoolConfig::bulk_count`.
    BulkCount,
    /// `UringConfig::submission_entries`.
    SubmissionEntries,
    /// `IocpConfig::accepts_ahead`.
    AcceptsAhead,
    /// `RioConfig::receive_bytes`.
    RioReceiveBytes,
    /// `RioConfig::send_bytes`.
    RioSendBytes,
    /// `RioConfig::sends_ahead`.
    RioSendsAhead,
    /// `RioConfig::datagrams_ahead`.
    RioDatagramsAhead,
    /// `RioConfig::completions_first`.
    RioCompletionsFirst,
    /// `RioConfig::completions_max`.
    RioCompletionsMax,
    /// `RioConfig::poll`, in milliseconds.
    RioPoll,
    /// `BindOptions::datagram_bytes_max`.
    DatagramBytesMax,
    /// `BindOptions::coalesce`.
    Coalesce,
    /// `keepalive` of a listener or a connection, in seconds.
    Keepalive,
    /// `user_timeout` of a listener or a connection, in milliseconds.
    UserTimeout,
}

impl Setting {
    /// Its name, as it is written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Setting::Backend => "backend",
            Setting::SocketsMax => "sockets_max",
            Setting::OperationsMax => "operations_max",
            Setting::SendQueueBytesMax => "send_queue_bytes_max",
            Setting::SendQueueCountMax => "send_queue_count_max",
            Setting::MailboxCapacity => "mailbox_capacity",
            Setting::TurnBytesMax => "turn_bytes_max",
            Setting::BufferBytes => "pool.buffer_bytes",
            Setting::ReceiveCount => "pool.receive_count",
            Setting::SendCount => "pool.send_count",
            Setting::BulkBytes => "pool.bulk_bytes",
            Setting::BulkCount => "pool.bulk_count",
            Setting::SubmissionEntries => "uring.submission_entries",
            Setting::AcceptsAhead => "iocp.accepts_ahead",
            Setting::RioReceiveBytes => "rio.receive_bytes",
            Setting::RioSendBytes => "rio.send_bytes",
            Setting::RioSendsAhead => "rio.sends_ahead",
            Setting::RioDatagramsAhead => "rio.datagrams_ahead",
            Setting::RioCompletionsFirst => "rio.completions_first",
            Setting::RioCompletionsMax => "rio.completions_max",
            Setting::RioPoll => "rio.poll in ms",
            Setting::DatagramBytesMax => "datagram_bytes_max",
            Setting::Coalesce => "coalesce",
            Setting::Keepalive => "keepalive in s",
            Setting::UserTimeout => "user_timeout in ms",
        }
    }

    /// Its least and its greatest value, in the unit of the field or the one named with the variant.
    pub fn range(self) -> (u64, u64) {
        const TABLE: u64 = CAPACITY_MAX as u64;
        match self {
            Setting::SocketsMax | Setting::OperationsMax => (1, TABLE - 1),
            Setting::SendQueueBytesMax | Setting::SendQueueCountMax | Setting::TurnBytesMax => (1, u32::MAX as u64),
            // Some 100 bytes each.
            Setting::MailboxCapacity => (1, TABLE),
            Setting::BufferBytes | Setting::BulkBytes => (4096, 1 << 24),
            // Buffer rings hold at most 32,768 entries.
            Setting::ReceiveCount | Setting::BulkCount => (1, 32_768),
            Setting::SendCount => (0, 32_768),
            Setting::SubmissionEntries => (8, 32_768),
            // Sockets and blocks that one listener may hold: as many as a turn takes completions.
            Setting::AcceptsAhead | Setting::RioDatagramsAhead => (1, 1024),
            Setting::RioReceiveBytes | Setting::RioSendBytes => (512, 1 << 20),
            Setting::RioSendsAhead => (1, 64),
            // RIO_MAX_CQ_SIZE.
            Setting::RioCompletionsFirst | Setting::RioCompletionsMax => (1, 1 << 27),
            Setting::RioPoll => (0, 1000),
            Setting::DatagramBytesMax => (0, (1 << 24) - 128),
            Setting::Backend | Setting::Coalesce => (0, 1),
            // TCP_KEEPIDLE, see tcp(7): the least of the systems' bounds.
            Setting::Keepalive => (1, 32_767),
            // TCP_USER_TIMEOUT, see tcp(7): an int, and 0 is none at all.
            Setting::UserTimeout => (1, i32::MAX as u64),
        }
    }

    /// What else is asked of it.
    fn condition(self) -> &'static str {
        match self {
            Setting::SocketsMax | Setting::OperationsMax => ", sockets_max and operations_max together at most 1048576",
            Setting::BufferBytes | Setting::BulkBytes => ", a multiple of 4096",
            Setting::SendCount => ", at most pool.receive_count",
            Setting::DatagramBytesMax => ", at most pool.bulk_bytes less 128",
            Setting::Coalesce => ", 1 only with pool.bulk_bytes of 65536 or more",
            _ => "",
        }
    }
}

impl fmt::Display for Setting {
    /// Its name, and what it may be.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, most) = self.range();
        write!(f, "{} is out of range: choose from {least} to {most}{}", self.name(), self.condition())
    }
}
