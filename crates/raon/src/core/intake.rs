//! Intake of a session: whose input is being answered, and what its messages and begun frames cost.

use raon_session::{CloseReason, Framing, FramingError, Inbox, Message, Pressure, RateLimit};

use super::ShardCore;
use crate::base::id::Token;

/// No session.
const NOBODY: u32 = u32::MAX;

/// The session whose input the application is answering.
pub(super) struct Answering {
    /// Its slot, or `NOBODY`.
    index: u32,
    token: u64,
    /// It gets its messages whatever waits for it: its peer does not read, and `pause_receiving` is off.
    ignores_pressure: bool,
    /// It has had its share of this step: what is left comes with the next one.
    has_used_share: bool,
}

impl Default for Answering {
    fn default() -> Self {
        Answering { index: NOBODY, token: 0, ignores_pressure: false, has_used_share: false }
    }
}

impl Answering {
    /// The token of this session's operations if it is the one that is answering.
    #[inline]
    pub(super) fn token_of(&self, index: u32) -> Option<u64> {
        (index == self.index).then_some(self.token)
    }

    pub(super) fn ignores_pressure(&self) -> bool {
        self.ignores_pressure
    }

    pub(super) fn set_ignores_pressure(&mut self, ignores_pressure: bool) {
        self.ignores_pressure = ignores_pressure;
    }

    pub(super) fn has_used_share(&self) -> bool {
        self.has_used_share
    }
}

impl<F: Framing> ShardCore<F> {
    /// From now on the application is given this session's messages.
    #[inline]
    pub(crate) fn begin_answering(&mut self, index: u32) {
        self.answering.index = index;
        self.answering.token = Token::Session(self.table.id(index)).bits();
        self.answering.has_used_share = false;
    }

    /// The session has had its share of this step.
    pub(crate) fn use_up_share(&mut self) {
        self.answering.has_used_share = true;
    }

    /// The application has been given what it gets now.
    #[inline]
    pub(crate) fn end_answering(&mut self) {
        self.answering.index = NOBODY;
    }

    /// A message has come. Errors: the session has sent more than it may.
    #[inline]
    pub(crate) fn heard(&mut self, index: u32, now_ns: u64, bytes: u32) -> Result<(), RateLimit> {
        let session = self.table.get_mut(index).map(|entry| &mut entry.session);
        session.map_or(Ok(()), |session| session.received(&self.settings.session, now_ns, 1, bytes))
    }

    /// The next message in the input of a session.
    ///
    /// Errors: why the session is to end.
    #[inline]
    pub(crate) fn next_message<'a, 'i: 'a>(
        &mut self,
        framing: &F,
        inbox: &'a mut Inbox,
        input: &mut &'i [u8],
    ) -> Result<Option<Message<'a, F::Head>>, FramingError> {
        inbox.next(framing, input, &mut self.free_lists)
    }

    /// A begun frame takes so many bytes now: its session is charged for them.
    #[inline]
    pub(crate) fn charge_inbox(&mut self, index: u32, bytes: usize) {
        let Some(entry) = self.table.get_mut(index) else { return };
        let charged = std::mem::replace(&mut entry.inbox_charged_bytes, bytes);
        if charged == bytes {
            return;
        }
        let growth = bytes.saturating_sub(charged);
        // It holds the memory already, so it is charged for it even if that is the end of it.
        let is_within = growth == 0 || self.provide(index, growth);
        self.accounts.settle(charged, bytes);
        self.table.update_rank(index);
        if !is_within {
            self.memory_used_up(index);
            self.close(index, CloseReason::MemoryBudget);
        }
    }

    /// Nothing more comes into this inbox: what was begun is discarded, and its memory is free.
    pub(crate) fn clear_inbox(&mut self, index: u32, inbox: &mut Inbox) {
        self.stats.bytes_discarded += inbox.partial_bytes() as u64;
        inbox.clear(&mut self.free_lists);
        self.charge_inbox(index, 0);
    }

    /// A watermark was passed: its peer is not read from until it reads.
    pub(crate) fn press(&mut self, index: u32, pressure: Pressure) {
        self.arm(index);
        let pauses = self.settings.pause_receiving;
        let Some(entry) = self.table.get_mut(index) else { return };
        entry.is_paused = pauses && pressure == Pressure::High;
        self.adjust_intake(index);
        if pressure == Pressure::Low {
            self.list_held(index);
        }
    }
}
