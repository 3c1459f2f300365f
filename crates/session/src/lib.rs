//! Sessions without any I/O: bytes and `now` go in, messages, bytes and actions come out. No socket, no clock, no
//! thread; the engine brings those, and a test can bring its own.
//!
//! # The life of a byte that comes in
//!
//! 1. The driver lends a receive buffer. The engine gives it to the session's [`Inbox`] together with the server's
//!    [`Framing`].
//! 2. A frame that lies inside the buffer is handed over there as a [`Message`], uncopied. Of a frame that the buffer cuts
//!    off, the inbox copies what is there, so that the buffer can go back; the next buffers complete it.
//! 3. What is too long or cannot be a frame is found before any memory is taken for it, and ends the session with a
//!    [`CloseReason`].
//! 4. [`Session::received`] notes the time and charges the peer's [`Rate`].
//!
//! # The life of a byte that goes out
//!
//! 1. The application sends. The [`Outbox`] asks the framing whether the message can be framed, and its own bounds whether
//!    there is room; what became of the message is a [`SendOutcome`].
//! 2. A small message is written, frame and all, to the end of the session's tail [`Chunk`], which comes from the engine's
//!    [`ChunkAllocator`]. A large shared body goes by reference.
//! 3. At the end of the turn the engine takes the [`Piece`]s in order and gives them to the driver as one send. If the
//!    driver still has the last one, everything waits; while it waits, droppable messages can be superseded or dropped,
//!    and the watermarks say when it becomes much.
//!
//! # The life of a session
//!
//! `Opening → Open → HalfClosed → Closing → Closed`: see [`State::on`] for the whole table and [`Session`] for the
//! calls. Deadlines ([`LivenessLimits`]) share one timer, which is set again only when it fires.
//!
//! ```
//! use raon_session::{ChunkAllocator, Delimiter, HeapAllocator, Inbox, Session, SessionConfig};
//! let (config, lines, mut allocator) = (SessionConfig::default(), Delimiter::line(), HeapAllocator::default());
//! let (mut session, mut inbox) = (Session::new(&config, 0), Inbox::default());
//! for mut input in [&b"hello\nwor"[..], b"ld\n"] {
//!     while let Some(message) = inbox.next(&lines, &mut input, allocator.free_lists())? {
//!         session.outbox.append(&lines, (), &message, &config.outbox, &mut allocator);
//!     }
//! }
//! assert_eq!(session.outbox.bytes(), b"hello\nworld\n".len());
//! # Ok::<(), raon_session::FramingError>(())
//! ```

#![forbid(unsafe_code)]

mod close;
mod framing;
mod free_lists;
mod inbox;
mod liveness;
mod outbox;
mod rate;
mod session;
mod with;

pub use close::{CloseReason, TransportFailure};
pub use framing::{
    BodyWriter, ByteOrder, Chunk, DELIMITER_BYTES_MAX, Decoded, Delimiter, EncodeError, FRAME_BYTES_CEILING,
    FRAME_BYTES_MAX_DEFAULT, Fixed, Framing, FramingError, LengthPrefix, LengthWidth, Message, PACKET_HEADER_BYTES,
    Packet, PacketHead, Raw, encode, encode_with, write_body,
};
pub use free_lists::FreeLists;
pub use inbox::Inbox;
pub use liveness::{HandshakeEnd, LivenessLimits, TimerAction};
pub use outbox::{
    COPY_BYTES_MAX, ChunkAllocator, ChunkRequest, ENTRY_BYTES, HeapAllocator, Outbox, OutboxLimits, Piece, Pressure,
    Refusal, SendOutcome, Settled, SlowConsumer,
};
pub use rate::{Rate, RateLimit, RateLimits};
pub use session::{Action, Event, HalfClosePolicy, Session, SessionConfig, State, Step};
