//! The states of a session and what leads from one to another, as one table.

/// Where a session is in its life.
///
/// ```
/// use raon_session::{Session, SessionConfig, State};
/// let config = SessionConfig::default();
/// let mut session = Session::<Vec<u8>>::new(&config, 0);
/// assert_eq!(session.state(), State::Opening);
/// session.received(&config, 1, 1, 64)?;
/// assert_eq!(session.state(), State::Open);
/// # Ok::<(), raon_session::RateLimit>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// The handshake is not done. Messages go both ways.
    Opening,
    /// Messages go both ways.
    Open,
    /// The peer has ended its side; messages still go to it.
    HalfClosed,
    /// The application has been told the end. What is queued still leaves; nothing is added, and what comes is dropped.
    Closing,
    /// The socket is being closed, or is.
    Closed,
}

impl State {
    /// All of them, in order of life.
    pub const ALL: [State; 5] = [State::Opening, State::Open, State::HalfClosed, State::Closing, State::Closed];

    /// True until the application has been told the end: messages may be sent.
    #[inline]
    pub const fn is_live(self) -> bool {
        matches!(self, State::Opening | State::Open | State::HalfClosed)
    }

    /// True while messages from the peer are delivered.
    #[inline]
    pub const fn receives(self) -> bool {
        matches!(self, State::Opening | State::Open)
    }

    /// The table: the next state, and what the engine does now, if anything.
    pub const fn on(self, event: Event) -> (State, Option<Action>) {
        use Action::{CloseAbruptly, CloseGracefully, Drain};
        match (self, event) {
            (State::Opening, Event::Established) => (State::Open, None),
            (State::Opening | State::Open, Event::PeerEnd) => (State::Closing, Some(Drain)),
            (State::Opening | State::Open, Event::PeerEndKept) => (State::HalfClosed, None),
            (State::Opening | State::Open | State::HalfClosed, Event::Close) => (State::Closing, Some(Drain)),
            (State::Opening | State::Open | State::HalfClosed | State::Closing, Event::Abort) => {
                (State::Closed, Some(CloseAbruptly))
            }
            (State::Closing, Event::Drained) => (State::Closed, Some(CloseGracefully)),
            (_, Event::SocketClosed) => (State::Closed, None),
            (state, _) => (state, None),
        }
    }
}

/// Event in a session's life.
///
/// ```
/// use raon_session::{Action, Event, State};
/// assert_eq!(State::Closing.on(Event::Drained), (State::Closed, Some(Action::CloseGracefully)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The handshake is done.
    Established,
    /// The peer has ended its side, and that ends the session.
    PeerEnd,
    /// The peer has ended its side, and the session goes on one way.
    PeerEndKept,
    /// It shall end once what is queued has left.
    Close,
    /// It shall end at once.
    Abort,
    /// Nothing is queued any more.
    Drained,
    /// The driver has closed the socket.
    SocketClosed,
}

impl Event {
    /// All of them.
    pub const ALL: [Event; 7] = [
        Event::Established,
        Event::PeerEnd,
        Event::PeerEndKept,
        Event::Close,
        Event::Abort,
        Event::Drained,
        Event::SocketClosed,
    ];
}

/// Action of the engine after an event.
///
/// ```
/// use raon_session::{Action, CloseReason, Session, SessionConfig};
/// let config = SessionConfig::default();
/// let mut session = Session::<Vec<u8>>::new(&config, 0);
/// assert_eq!(session.close(&config, 0, CloseReason::Shutdown).action, Some(Action::Drain));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Hands over what is queued, turn by turn, and says `drained` once the outbox is empty; asks `arm` for the deadline.
    Drain,
    /// Closes the socket gracefully: what the driver has still leaves.
    CloseGracefully,
    /// Closes the socket with a reset; drops what is queued.
    CloseAbruptly,
}
