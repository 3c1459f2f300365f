//! The rules, and what happens when one is broken.

use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::fmt;
use std::io::Write;

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident => $text:literal,)*) => {
        /// The rules of registered I/O that the double checks. Their numbers are those of `docs/backends/rio.md`.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum Rule { $($(#[$doc])* $name,)* }

        impl Rule {
            /// The rule in words, with its number and the page of the manual that it is from.
            pub fn text(self) -> &'static str {
                match self { $(Rule::$name => $text,)* }
            }
        }
    };
}

rules! {
    /// A queue for a socket that cannot have one.
    SocketUnflagged => "rule 2 (WSASocket, RIOCreateRequestQueue): only a socket that was made with both WSA_FLAG_OVERLAPPED and WSA_FLAG_REGISTERED_IO can have a request queue",
    /// A second queue for a socket.
    SecondQueue => "rule 3 (RIOCreateRequestQueue): a socket has one request queue, from its creation to closesocket",
    /// More than one slice per request.
    SliceCount => "rule 3 (RIOCreateRequestQueue, RIOSend, RIOReceive): a request has exactly one data buffer, and the queue is made for one",
    /// A completion queue that is too small, or out of bounds.
    QueueSize => "rule 3 (RIOCreateCompletionQueue, RIOResizeCompletionQueue): a completion queue has 1 to RIO_MAX_CQ_SIZE entries and never fewer than the quotas of its request queues together",
    /// Quotas that the completion queue has no room for.
    QuotasOverflow => "rule 3 (RIOCreateRequestQueue, RIOResizeRequestQueue): the quotas of all request queues together must fit their completion queue; reserve before the socket is taken, grow the queue first",
    /// More requests than the quota.
    QuotaExceeded => "rule 3 (RIOSend, RIOReceive): no more requests are outstanding than the queue's quota, counted until their completions are dequeued",
    /// Another thread than the owner.
    ForeignThread => "rule 4 (RIODequeueCompletion, RIOSend, RIOReceive): a completion queue and its request queues are not synchronised; one thread uses them all, only a commit may come from another",
    /// A commit with a request in it.
    CommitForm => "rule 5 (RIOSend, RIOReceive): RIO_MSG_COMMIT_ONLY stands alone, with no buffers, a count of 0 and no context",
    /// Deferred requests that nobody commits.
    Uncommitted => "rule 5 (RIOSend, RIOReceive): deferred requests need not start before a commit; commit each direction of each queue that has any before a wait",
    /// A notification asked for while one is awaited.
    NotifiedTwice => "rule 6 (RIONotify): one notification is awaited at a time (WSAEALREADY); ask again after it has come and the queue is empty",
    /// A notification from a queue that has none.
    NotificationMissing => "rule 6 (RIOCreateCompletionQueue, RIONotify): a queue made without RIO_NOTIFICATION_COMPLETION can only be polled",
    /// A region that is not page-aligned memory.
    RegionShape => "rule 7 (RIORegisterBuffer): regions are few, page-aligned and not empty",
    /// A slice outside its region.
    SliceOutside => "rule 7 (RIO_BUF): a slice lies inside one region that is registered, and has at least one byte unless it is an empty datagram: a stream has no receive that only waits",
    /// A slice that another request holds.
    SliceHeld => "rule 7 (RIODequeueCompletion): the system lets go of a buffer when its completion is dequeued, not before; until then nothing else is received there or sent from there",
    /// Bytes that changed while they were sent.
    SliceTouched => "rule 7 (RIOSend, RIODequeueCompletion): bytes to be sent stay as they are until the completion is dequeued",
    /// A region taken away under a request.
    RegionHeld => "rule 7 (RIODeregisterBuffer): a region is deregistered only when no request on it is outstanding",
    /// Overlapped cancel on a queue's requests.
    CancelledRequest => "rule 8 (RIOSend, RIOReceive): a request cannot be cancelled; it ends with data, or because closesocket was called after the hook",
    /// A socket closed behind the double's back.
    CloseUnannounced => "rule 8 (closesocket): a socket with a request queue is closed on one way only, which tells so before",
    /// A request on a closed socket.
    SocketClosed => "rule 8 (closesocket, RIOSend, RIOReceive): closesocket ends the request queue; only its completions are left",
    /// A completion queue closed too early.
    QueueHeld => "rule 8 (RIOCloseCompletionQueue): a completion queue is closed only when no request that ends there is outstanding",
    /// An address where none can be, or no room for one.
    AddressSlice => "rule 9 (RIOSendEx, RIOReceiveEx): the address of a datagram is a slice of a registered region, as long as a SOCKADDR_INET (28 bytes); streams have none",
    /// A handle that was never given out, or is gone.
    UnknownHandle => "rule 3 and 7 (RIO_CQ, RIO_RQ, RIO_BUFFERID): a handle is used between its creation and its end",
    /// Something the double has no answer to.
    Unsupported => "the double: flags and buffers beyond those that the back end uses are not played",
    /// A queue that was reported corrupt.
    UsedCorrupt => "rule 3 (RIODequeueCompletion): after RIO_CORRUPT_CQ the queue is lost; it is closed and nothing else",
}

/// A rule that was broken, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// With which numbers.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}. Here: {}", self.rule, self.rule.text(), self.detail)
    }
}

thread_local! {
    static CAUGHT: RefCell<Option<Vec<Violation>>> = const { RefCell::new(None) };
}

/// Runs a mistake: what this thread breaks meanwhile is returned and does not end the process.
pub fn catch<T>(mistake: impl FnOnce() -> T) -> (T, Vec<Violation>) {
    let outer = CAUGHT.replace(Some(Vec::new()));
    let value = mistake();
    (value, CAUGHT.replace(outer).unwrap_or_default())
}

/// A rule is broken: for whoever catches, else the end.
pub(crate) fn violated(rule: Rule, detail: impl Into<String>) {
    let violation = Violation { rule, detail: detail.into() };
    let uncaught = CAUGHT.with_borrow_mut(|caught| match caught {
        Some(caught) => {
            caught.push(violation);
            None
        }
        None => Some(violation),
    });
    if let Some(violation) = uncaught {
        let thread = std::thread::current();
        let (name, trace) = (thread.name().unwrap_or("?"), Backtrace::force_capture());
        // Not by a macro: what those print in a test is kept back, and lost with the process.
        let _ = writeln!(std::io::stderr(), "thread '{name}' misuses registered I/O: {violation}\n{trace}");
        std::process::abort();
    }
}

/// As [`violated`], with the code that a real system may answer with.
pub(crate) fn refuse<T>(rule: Rule, code: i32, detail: impl Into<String>) -> Result<T, i32> {
    violated(rule, detail);
    Err(code)
}
