//! The end of a turn: what was queued is handed to the driver, once per session that has anything.
//!
//! 1. If the driver has nothing of the session, it gets what waits: up to `HAND_OVER_BYTES_MAX`, as quiet sends that leave
//!    as one.
//! 2. Otherwise, or if something is left, all that waits stays in the outbox, where it can still be superseded, until the
//!    driver says `Writable`. So the outbox is the only queue that grows.
//! 3. What is left is settled: watermarks, charges, and the end of a session that was only waiting for this.
//!
//! A session that is answering in the middle of a turn is handed over early, when its outbox passes the mark (`may_give`). If
//! the driver is busy then, reading stops (`held.rs`). A callback that finds its outbox full may hand over once more although
//! the driver is busy (`Relief`): so all that was queued before the callback leaves, and the whole bound is there for its
//! answers. The driver has at most two hand-overs of a session.

use raon_provider::{Driver, Payload, SocketId};
use raon_session::{CloseReason, Framing, Outbox, Pressure, State, TransportFailure};

use super::ShardCore;
use crate::base::id::Token;
use crate::memory::chunk::{OutChunk, own_bytes, payload};
use crate::sessions::table::{Entry, Handed};

/// Most bytes that the driver gets of a session at once, and the most pieces of them: what fills a socket's buffer, and
/// what one `writev` takes.
pub(super) const HAND_OVER_BYTES_MAX: usize = 256 * 1024;
pub(super) const GATHER_PIECES_MAX: usize = 1000;
/// Sends that one hand-over of a session makes at most.
pub(super) const SENDS_PER_FLUSH: u32 = 3;
/// A larger hand-over is charged until the driver has finished it. Smaller ones are the driver's share: 16 KiB per session.
const UNCHARGED_BYTES_MAX: usize = 16 * 1024;

/// Bytes of one hand-over, and those of them that nobody shares.
#[derive(Default)]
struct HandedBytes {
    all: usize,
    own: usize,
}

impl<F: Framing> ShardCore<F> {
    /// True if any session is to be flushed.
    pub(crate) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Flushes the next session that is due, and says which watermark it has passed. `None`: no other one is due.
    pub(crate) fn flush_next(&mut self) -> Option<(u32, Option<Pressure>)> {
        let index = self.dirty.pop()?;
        Some((index, self.flush(index)))
    }

    /// Flushes a session if it is due. Returns the watermark that it has passed.
    fn flush(&mut self, index: u32) -> Option<Pressure> {
        let entry = self.table.get_mut(index).filter(|entry| entry.is_dirty)?;
        entry.is_dirty = false;
        if entry.session.state() == State::Closed {
            return None;
        }
        if entry.handed.is_refused {
            self.abort(index, CloseReason::Transport(TransportFailure::NoResources));
            return None;
        }
        if !entry.handed.is_awaited && !entry.session.outbox.is_empty() && self.is_writable(index) {
            self.hand_over(index);
        }
        self.settle(index)
    }

    /// The driver has nothing of this session any more.
    pub(crate) fn writable(&mut self, index: u32) {
        if let Some(entry) = self.table.get_mut(index) {
            entry.handed = Handed { is_refused: entry.handed.is_refused, ..Handed::default() };
            if entry.is_paused || entry.held.is_some() {
                // It reads, and what it says to that we do not hear.
                entry.session.alive(self.driver.now_ns());
                self.list_held(index);
            }
            self.mark_dirty(index);
        }
    }

    /// Whether the application gets the session's next message now: the session has not ended, and there is room for
    /// answers.
    //= FLOW-1
    #[inline]
    pub(crate) fn may_give(&mut self, index: u32) -> bool {
        let Some(entry) = self.table.get(index).filter(|entry| entry.session.is_live()) else { return false };
        let mark = &self.settings.mark;
        let is_within = entry.session.outbox.is_within(mark.bytes_max, mark.messages_max, mark.pieces_max);
        (is_within && !entry.is_paused && !entry.handed.is_overflowed) || self.may_give_after_flush(index)
    }

    /// Hands over what waits if the driver has nothing of the session.
    #[cold]
    #[inline(never)]
    fn may_give_after_flush(&mut self, index: u32) -> bool {
        if self.answering.ignores_pressure() {
            return true;
        }
        let Some(entry) = self.table.get(index) else { return false };
        if entry.is_paused || entry.handed.is_awaited || entry.session.outbox.is_empty() || !self.is_writable(index) {
            return false;
        }
        self.hand_over(index);
        let mark = &self.settings.mark;
        let is_within =
            |entry: &Entry| entry.session.outbox.is_within(mark.bytes_max, mark.messages_max, mark.pieces_max);
        self.table.get(index).is_some_and(|entry| entry.session.is_live() && is_within(entry))
    }

    /// Whether the driver has nothing of this session; if not, `Writable` will come.
    fn is_writable(&mut self, index: u32) -> bool {
        let token = Token::Session(self.table.id(index)).bits();
        let Some(entry) = self.table.get_mut(index) else { return false };
        // An error means that the socket is closing already: its last completion is on its way.
        let is_writable = self.driver.writable(entry.socket, token).unwrap_or(false);
        entry.handed.is_awaited = !is_writable;
        is_writable
    }

    fn hand_over(&mut self, index: u32) {
        let mut bytes = HandedBytes::default();
        let (mut is_refused, mut sends_left) = (false, SENDS_PER_FLUSH);
        while let Some(piece) = self.take_piece(index, &mut bytes) {
            sends_left -= 1;
            let payload = if sends_left > 0 { piece } else { self.gather(index, piece, &mut bytes) };
            is_refused |= !self.send(index, payload);
            if sends_left == 0 {
                break;
            }
        }
        self.stats.bytes_handed_over += bytes.all as u64;
        if is_refused {
            // There is a place for every send of a flush: a driver that refuses one is at its end.
            return self.abort(index, CloseReason::Transport(TransportFailure::NoResources));
        }
        let is_left = self.table.get(index).is_some_and(|entry| !entry.session.outbox.is_empty());
        if (is_left || bytes.all > UNCHARGED_BYTES_MAX)
            && !self.is_writable(index)
            && let Some(entry) = self.table.get_mut(index)
        {
            entry.handed.bytes += bytes.own as u32;
        }
    }

    /// The last send of a hand-over takes all that is left.
    #[cold]
    fn gather(&mut self, index: u32, first: Payload, bytes: &mut HandedBytes) -> Payload {
        let mut pieces = vec![first];
        while pieces.len() < GATHER_PIECES_MAX {
            let Some(piece) = self.take_piece(index, bytes) else { break };
            pieces.push(piece);
        }
        Payload::Gather(pieces)
    }

    fn take_piece(&mut self, index: u32, bytes: &mut HandedBytes) -> Option<Payload> {
        if bytes.all >= HAND_OVER_BYTES_MAX {
            return None;
        }
        let piece = self.table.get_mut(index)?.session.outbox.take()?;
        bytes.all += piece.len();
        bytes.own += own_bytes(&piece);
        Some(payload(piece))
    }

    fn send(&mut self, index: u32, payload: Payload) -> bool {
        let token = Token::Session(self.table.id(index)).bits();
        let Some(entry) = self.table.get(index) else { return false };
        self.driver.send_quiet(entry.socket, payload, token).is_ok()
    }

    fn settle(&mut self, index: u32) -> Option<Pressure> {
        let now_ns = self.driver.now_ns();
        let entry = self.table.get_mut(index)?;
        let settled = entry.session.settle(&self.settings.session, now_ns, &mut self.free_lists);
        let is_closing = entry.session.state() == State::Closing;
        self.stats.messages_dropped += u64::from(settled.dropped);
        self.recharge(index);
        if is_closing {
            self.drained(index);
            return None;
        }
        settled.pressure
    }
}

/// The way out for a callback that finds the outbox of its own session full.
pub(super) struct Relief<'a> {
    pub(super) socket: SocketId,
    pub(super) token: u64,
    pub(super) handed: &'a mut Handed,
    pub(super) bytes_handed_over: &'a mut u64,
}

impl Relief<'_> {
    /// Hands over what waits: if the driver has nothing of the session, or once although it has.
    //= FLOW-1
    #[cold]
    pub(super) fn hand_over(&mut self, driver: &mut Driver, outbox: &mut Outbox<OutChunk>) {
        let is_busy = self.handed.is_awaited || !driver.writable(self.socket, self.token).unwrap_or(false);
        if outbox.is_empty() || (is_busy && self.handed.is_overflowed) {
            return;
        }
        let (mut pieces, mut bytes) = (Vec::new(), HandedBytes::default());
        while bytes.all < HAND_OVER_BYTES_MAX && pieces.len() < GATHER_PIECES_MAX {
            let Some(piece) = outbox.take() else { break };
            bytes.all += piece.len();
            bytes.own += own_bytes(&piece);
            pieces.push(payload(piece));
        }
        *self.bytes_handed_over += bytes.all as u64;
        let sent = driver.send_quiet(self.socket, Payload::Gather(pieces), self.token);
        *self.handed = Handed {
            bytes: self.handed.bytes + bytes.own as u32,
            is_awaited: !driver.writable(self.socket, self.token).unwrap_or(false),
            is_overflowed: is_busy,
            is_refused: sent.is_err(),
        };
    }
}
