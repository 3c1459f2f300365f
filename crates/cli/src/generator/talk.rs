//! Talk on the connections: bytes that come back (echo), packets that are answered (`pingpong.rs`), or lines that
//! go to a room (`chat.rs`).
//!
//! 1. A connection of the latter two begins with a greeting, and is open once that is answered.
//! 2. Whatever a message is, it has one length, so that what is due is a number of bytes (`connection.rs`).
//! 3. What comes is taken apart here. Who is answered by it may be another connection: a line is answered when everybody
//!    in the room has it.

mod chat;
mod pieces;
mod pingpong;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use chat::Chat;
use pingpong::Pingpong;

use super::connection::State;
use super::tally::TalkTally;

pub(crate) use chat::{LINE_BYTES_MAX, LINE_BYTES_MIN};
pub(crate) use pingpong::PING_BYTES;

/// What is to be said.
#[derive(Clone, Debug)]
pub(crate) enum Language {
    Echo,
    /// Connect with this version, then pings. All workers' session ids that are open.
    Pingpong {
        client_version: u32,
        session_ids: Arc<Mutex<HashSet<u64>>>,
    },
    /// In so many rooms of this worker.
    Chat {
        rooms: u32,
    },
}

/// What all connections of a worker have said and heard. Nothing for echo, which has its pattern for that.
pub(super) enum Talk {
    Echo,
    Pingpong(Pingpong),
    Chat(Chat),
}

/// What received bytes amount to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Heard {
    /// The greeting is answered.
    Ready,
    /// So many messages of a connection have their answer.
    Answered { token: u64, messages: u32 },
    /// A message of a connection will never have its whole answer.
    Damaged { token: u64 },
    /// Something came that should not have; the connection goes on.
    Wrong(&'static str),
    /// The connection cannot go on.
    Broken(String),
}

impl Talk {
    /// For a worker of this number; `seed` is the run's, and `size_bytes` a message's.
    pub(super) fn new(language: &Language, worker: u32, seed: u64, size_bytes: u64) -> Self {
        match language {
            Language::Echo => Talk::Echo,
            Language::Pingpong { client_version, session_ids } => {
                Talk::Pingpong(Pingpong::new(*client_version, session_ids.clone()))
            }
            Language::Chat { rooms } => Talk::Chat(Chat::new(*rooms, worker, seed, size_bytes as usize)),
        }
    }

    /// What a new connection says first; `None` if it is open as it is.
    pub(super) fn greet(&mut self, token: u64, role: State) -> Option<Vec<u8>> {
        match self {
            Talk::Echo => None,
            Talk::Pingpong(pingpong) => Some(pingpong.greet(token)),
            Talk::Chat(chat) => Some(chat.greet(token, role)),
        }
    }

    /// Writes the next messages of a connection, of which there are whole ones only.
    pub(super) fn fill(&mut self, token: u64, bytes: &mut [u8]) {
        match self {
            Talk::Echo => {}
            Talk::Pingpong(pingpong) => pingpong.fill(token, bytes),
            Talk::Chat(chat) => chat.fill(token, bytes),
        }
    }

    /// What was filled last is on its way.
    pub(super) fn sent(&mut self, token: u64, bytes: usize) {
        match self {
            Talk::Echo => {}
            Talk::Pingpong(pingpong) => pingpong.sent(token, bytes),
            Talk::Chat(chat) => chat.sent(token, bytes),
        }
    }

    /// Bytes have come.
    pub(super) fn hear(&mut self, token: u64, bytes: &[u8], heard: &mut Vec<Heard>) {
        match self {
            Talk::Echo => {}
            Talk::Pingpong(pingpong) => pingpong.hear(token, bytes, heard),
            Talk::Chat(chat) => chat.hear(token, bytes, heard),
        }
    }

    /// A connection is over before its time.
    pub(super) fn end(&mut self, token: u64, heard: &mut Vec<Heard>) {
        match self {
            Talk::Echo => {}
            Talk::Pingpong(pingpong) => pingpong.end(token),
            Talk::Chat(chat) => chat.end(token, heard),
        }
    }

    /// What was counted since the last time.
    pub(super) fn take_tally(&mut self) -> TalkTally {
        match self {
            Talk::Echo => TalkTally::default(),
            Talk::Pingpong(pingpong) => std::mem::take(&mut pingpong.tally),
            Talk::Chat(chat) => std::mem::take(&mut chat.tally),
        }
    }
}

/// The entry of a token, made if there is none: tokens are small numbers.
fn entry<T: Default>(all: &mut Vec<T>, token: u64) -> &mut T {
    let index = token as usize;
    if all.len() <= index {
        all.resize_with(index + 1, T::default);
    }
    &mut all[index]
}
