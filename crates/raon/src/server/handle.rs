//! The server as game threads hold it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raon_provider::Address;
use raon_session::CloseReason;

use crate::application::{AppRouter, Application, Head};
use crate::base::id::SessionId;
use crate::base::metrics::ServerStats;
use crate::error::{MailboxError, MailboxRefusal};
use crate::routing::mailbox::Command;
use crate::routing::router::{ServerState, post_to};

/// A running server, for any thread: send, post, count, stop. Cheap to clone.
///
/// Values that are handed over are dealt with at the session's shard in the order of each calling thread. Nothing here waits:
/// at the bound of a shard's mailbox the value comes back.
///
/// ```
/// use raon::{Raw, Server, ServerError};
/// let server = Server::builder().listen("127.0.0.1:0").framing(Raw).on_message(|ctx, message| ctx.reply(message)).start()?;
/// let handle = server.handle().clone();
/// std::thread::spawn(move || {
///     assert_eq!(handle.sessions(), 0);
///     handle.stop(std::time::Duration::from_secs(1));
/// });
/// server.join()?;
/// # Ok::<(), ServerError>(())
/// ```
pub struct ServerHandle<A: Application> {
    router: Arc<AppRouter<A>>,
    address: Option<Address>,
}

impl<A: Application> ServerHandle<A> {
    pub(crate) fn new(router: Arc<AppRouter<A>>, address: Option<Address>) -> Self {
        ServerHandle { router, address }
    }

    /// Sends a message to a session, its body copied. If the session is gone by then it is counted as late.
    ///
    /// Errors: `Busy`, `Closed`.
    pub fn send(&self, id: SessionId, head: Head<A>, body: &[u8]) -> Result<(), MailboxRefusal> {
        self.router.mailbox(id.shard()).ok_or(MailboxRefusal::Closed)?.send(id, head, body)
    }

    /// The same with the body by reference: one body for many sessions.
    ///
    /// Errors, with the body: `Busy`, `Closed`.
    pub fn send_shared(&self, id: SessionId, head: Head<A>, body: Bytes) -> Result<(), MailboxError<Bytes>> {
        let Some(mailbox) = self.router.mailbox(id.shard()) else {
            return Err(MailboxError { refusal: MailboxRefusal::Closed, value: body });
        };
        let bytes = body.len();
        mailbox.put(Command::SendShared { id, head, body }, bytes).map_err(
            |MailboxError { refusal, value }| match value {
                Command::SendShared { body, .. } => MailboxError { refusal, value: body },
                _ => unreachable!("the value that comes back is the one that was put in"),
            },
        )
    }

    /// Closes a session, with a code of the application's own. What was sent to it before still leaves.
    ///
    /// Errors: `Busy`, `Closed`.
    pub fn close(&self, id: SessionId, code: u16) -> Result<(), MailboxRefusal> {
        let mailbox = self.router.mailbox(id.shard()).ok_or(MailboxRefusal::Closed)?;
        let command = Command::Close { id, reason: CloseReason::Application(code) };
        mailbox.put(command, 0).map_err(|refused| refused.refusal)
    }

    /// Posts to the key's home shard, where `on_post` gets it.
    ///
    /// Errors, with the post: `Busy`, `Closed`.
    pub fn post(&self, key: u64, post: A::Post) -> Result<(), MailboxError<A::Post>> {
        post_to(&self.router, self.router.home(key), key, post)
    }

    /// Sessions that are open, or on their way in or out.
    pub fn sessions(&self) -> usize {
        self.router.admission.admitted() as usize
    }

    /// State of the server as a whole.
    pub fn state(&self) -> ServerState {
        self.router.state()
    }

    /// The counters of all shards together.
    pub fn stats(&self) -> ServerStats {
        let mut sum = ServerStats::default();
        (0..self.router.shards()).for_each(|shard| sum += self.router.stats(shard));
        sum
    }

    /// The counters of each shard.
    pub fn shard_stats(&self) -> Vec<ServerStats> {
        (0..self.router.shards()).map(|shard| self.router.stats(shard)).collect()
    }

    /// Memory that begun frames and outboxes may still take, in bytes, beside what shards have leased.
    pub fn memory_bytes_left(&self) -> u64 {
        self.router.budget.left_bytes()
    }

    /// Where the server listens; of an inherited listener as the system says it.
    pub fn address(&self) -> Option<&Address> {
        self.address.as_ref()
    }

    /// Ends the server, in stages. `on_shutdown` is called, and no more connections are accepted. What had arrived by then,
    /// over connections and through handles, is served and its answers leave, for at most half of the grace, while sessions
    /// go on. All sessions are closed in order; at the end of the grace what is left is reset.
    ///
    /// Called again, less grace from then on shortens the end; more does not lengthen it. It does not wait:
    /// [`RunningServer::join`](crate::RunningServer::join) does.
    pub fn stop(&self, grace: Duration) {
        self.router.stop(grace.as_nanos().min(u128::from(u64::MAX)) as u64);
    }
}

impl<A: Application> Clone for ServerHandle<A> {
    fn clone(&self) -> Self {
        ServerHandle { router: self.router.clone(), address: self.address.clone() }
    }
}

impl<A: Application> fmt::Debug for ServerHandle<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerHandle({} sessions on {} shards)", self.sessions(), self.router.shards())
    }
}
