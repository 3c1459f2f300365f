//! Errors of a server, and of values that a mailbox does not take.

use std::fmt;

use raon_provider::Setting;

use crate::config::ConfigErrors;

/// Why a server did not start, or did not go on.
///
/// ```
/// use raon::{Raw, Server, ServerError};
/// let server = Server::builder().listen("no address").framing(Raw).on_message(|ctx, message| ctx.reply(message));
/// assert!(matches!(server.start(), Err(ServerError::Config(_))));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum ServerError {
    /// The configuration is wrong, in all these places.
    Config(ConfigErrors),
    /// The back end, the listener or the driver refused.
    Provider(raon_provider::Error),
    /// The operating system gave no thread, or no listener was inherited although one was asked for.
    System(std::io::Error),
    /// A shard has ended, or has lost its listener, before the server was stopped; see `ServerConfig::on_shard_failure`. The
    /// first one, if there are several.
    ShardFailed {
        /// Its number.
        shard: usize,
        /// Failure that has ended it.
        failure: ShardFailure,
    },
}

/// Failure of a shard, which has ended it.
///
/// ```
/// use raon::ShardFailure;
/// assert!(ShardFailure::Panic("out of cheese".into()).to_string().contains("out of cheese"));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum ShardFailure {
    /// A callback of the application has panicked, and `on_panic` is `stop_shard`.
    Callback,
    /// Something outside the callbacks has panicked, with this message: the factory, the memory of a
    /// message when it is dropped, or the engine.
    Panic(String),
    /// The driver has failed in every turn of a second.
    Driver(raon_provider::Error),
    /// Its listener has ended and cannot be opened again.
    Listener(raon_provider::Error),
}

impl fmt::Display for ShardFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ShardFailure::Callback => f.write_str("a callback of the application has panicked; correct it"),
            ShardFailure::Panic(message) => {
                write!(f, "its thread has panicked (`{message}`); correct it, or report it if it is Raon's")
            }
            ShardFailure::Driver(error) => write!(f, "its driver fails in every turn: {error}"),
            ShardFailure::Listener(error) => write!(f, "its listener has ended and cannot be opened again: {error}"),
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerError::Config(errors) => errors.fmt(f),
            ServerError::Provider(error) => {
                error.fmt(f)?;
                let field = error.setting().and_then(field_of);
                field.map_or(Ok(()), |field| write!(f, " [set by {field}]"))
            }
            ServerError::System(error) => error.fmt(f),
            ServerError::ShardFailed { shard, failure } => write!(f, "shard {shard} has failed: {failure}"),
        }
    }
}

/// The field of the server's configuration that a setting of its drivers follows from.
fn field_of(setting: Setting) -> Option<&'static str> {
    match setting {
        Setting::SocketsMax => Some("sessions_max"),
        Setting::OperationsMax => Some("sessions_max and timers_max"),
        Setting::ReceiveCount => Some("receive_buffers"),
        Setting::SendCount => Some("send_buffers"),
        _ => None,
    }
}

impl std::error::Error for ServerError {}

impl From<ConfigErrors> for ServerError {
    fn from(errors: ConfigErrors) -> Self {
        ServerError::Config(errors)
    }
}

impl From<raon_provider::Error> for ServerError {
    fn from(error: raon_provider::Error) -> Self {
        ServerError::Provider(error)
    }
}

impl From<std::io::Error> for ServerError {
    fn from(error: std::io::Error) -> Self {
        ServerError::System(error)
    }
}

/// Why something was not taken by a shard.
///
/// ```
/// use raon::MailboxRefusal;
/// let text = "the shard's mailbox is full; try again later, or raise mailbox_bytes_max";
/// assert_eq!(MailboxRefusal::Busy.to_string(), text);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum MailboxRefusal {
    /// The shard's mailbox, or its table of timers, is full.
    Busy,
    /// The shard has stopped.
    Closed,
}

impl fmt::Display for MailboxRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MailboxRefusal::Busy => "the shard's mailbox is full; try again later, or raise mailbox_bytes_max",
            MailboxRefusal::Closed => "the shard has stopped",
        })
    }
}

impl std::error::Error for MailboxRefusal {}

/// A value that was not taken: it comes back whole, with the reason.
///
/// ```
/// use raon::{MailboxRefusal, MailboxError};
/// let refused = MailboxError { refusal: MailboxRefusal::Closed, value: 7 };
/// assert_eq!(refused.to_string(), "refused: the shard has stopped");
/// ```
#[derive(Debug)]
pub struct MailboxError<T> {
    /// Why it was not taken.
    pub refusal: MailboxRefusal,
    /// Value that was offered, untouched.
    pub value: T,
}

impl<T> fmt::Display for MailboxError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused: {}", self.refusal)
    }
}

impl<T: fmt::Debug> std::error::Error for MailboxError<T> {}
