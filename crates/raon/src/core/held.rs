//! Input that waits because the answers to what came before it have not left.
//!
//! 1. A callback's answers fill the session's outbox past its mark while the driver still has the session's last send.
//!    Reading stops: what is left of the receive buffer is copied into the session's held input, and the buffer goes back
//!    to the pool. The copy is charged to the server's memory.
//! 2. What still comes of the connection is appended, in order. Beyond `INTAKE_BYTES_MAX` the stream is paused in the
//!    driver, and the rest waits with the peer.
//!    A session that has had its share of messages in a step is held in the same way, until the next step.
//! 3. The driver says `Writable`: the session joins the list of those whose held input is worked off, once per step and by
//!    64 KiB at most, so that other sessions' completions come in between.
//! 4. All of it has been given to the application: the peer's end follows if it has come, else the stream is resumed.
//!
//! A session that ends drops its held input, and the bytes are counted as discarded. On drop nothing is given any more.
//!
//! Without `pause_receiving` nobody waits for a peer that does not read: held input is worked off after `TURNS_MAX` turns in
//! any case. A send that finds room with the system has ended by then.

use std::collections::VecDeque;

use raon_session::{CloseReason, Framing};

use super::ShardCore;
use crate::sessions::held_input::HeldInput;

/// Held input up to this size does not stop the stream: the next turn usually brings `Writable`, and to stop a stream and to
/// start it again costs two requests. Four receive buffers.
const INTAKE_BYTES_MAX: usize = 16 * 1024;
/// Turns that held input waits for at most without `pause_receiving`: one hands the send over, one brings its end, and one
/// more each for a system that is late with it.
const TURNS_MAX: u64 = 4;
/// Held inputs that are kept for the next session, and the most memory of each.
const SPARES_MAX: usize = 64;
const SPARE_BYTES_MAX: usize = INTAKE_BYTES_MAX;

/// Held inputs of a shard beside those of its sessions.
#[derive(Default)]
pub(super) struct HeldInputs {
    /// Sessions whose held input can be worked off. A session may have ended meanwhile.
    ready: VecDeque<u32>,
    #[expect(clippy::vec_box, reason = "a session holds its input in a box")]
    spares: Vec<Box<HeldInput>>,
}

impl HeldInputs {
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    fn take_spare(&mut self) -> Box<HeldInput> {
        self.spares.pop().unwrap_or_default()
    }

    fn keep(&mut self, mut held: Box<HeldInput>) {
        if held.capacity() <= SPARE_BYTES_MAX && self.spares.len() < SPARES_MAX {
            held.clear();
            self.spares.push(held);
        }
    }
}

impl<F: Framing> ShardCore<F> {
    /// Sessions whose held input can be worked off now.
    pub(crate) fn ready(&self) -> usize {
        self.held.ready.len()
    }

    /// The next of them, with its input, if it still has any.
    pub(crate) fn next_ready(&mut self) -> Option<(u32, Box<HeldInput>)> {
        let index = self.held.ready.pop_front()?;
        let entry = self.table.get_mut(index)?;
        let mut held = entry.held.take()?;
        held.is_listed = false;
        entry.session.input_released();
        let is_late = self.stats.turns >= held.stopped_in_turn + TURNS_MAX;
        self.answering.set_ignores_pressure(!self.settings.pause_receiving && is_late);
        Some((index, held))
    }

    /// A portion of a session's held input has been given to the application, but for so many bytes: reading has stopped.
    /// Returns whether nothing is held any more and the peer's end was waiting behind it.
    pub(crate) fn put_back(&mut self, index: u32, mut held: Box<HeldInput>, left: usize) -> bool {
        self.answering.set_ignores_pressure(false);
        let length = held.portion().len();
        held.note_given(length - left);
        if left < length {
            held.stopped_in_turn = self.stats.turns;
        }
        let is_stopped = left > 0 && !self.answering.has_used_share();
        self.put_held(index, held, is_stopped);
        self.settle_held(index) == Some(true)
    }

    /// Whether input of the session waits because of our own backpressure. Such a session is not silent.
    pub(crate) fn has_held_input(&self, index: u32) -> bool {
        self.table.get(index).is_some_and(|entry| entry.held.is_some())
    }

    /// Keeps input until the session's answers have left.
    #[cold]
    pub(crate) fn hold(&mut self, index: u32, bytes: &[u8]) {
        let Some(entry) = self.table.get_mut(index).filter(|entry| entry.session.is_live()) else {
            self.stats.bytes_discarded += bytes.len() as u64;
            return;
        };
        let is_new = entry.held.is_none();
        let held = entry.held.get_or_insert_with(|| self.held.take_spare());
        if is_new {
            held.stopped_in_turn = self.stats.turns;
        }
        held.append(bytes);
        // It holds the memory already, so it is charged for it even if that is the end of it.
        let grown = held.capacity().saturating_sub(held.charged_bytes);
        held.charged_bytes += grown;
        let is_within = grown == 0 || self.provide(index, grown);
        self.accounts.charge(grown);
        self.table.update_rank(index);
        if !is_within {
            self.memory_used_up(index);
            return self.close(index, CloseReason::MemoryBudget);
        }
        match (is_new, self.answering.has_used_share()) {
            (true, true) => self.list_held(index),
            (true, false) => self.stop_reading(index),
            (false, _) => {}
        }
        self.adjust_intake(index);
    }

    /// The peer has ended its side. True if input waits that comes before the end.
    pub(crate) fn hold_end(&mut self, index: u32) -> bool {
        match self.table.get_mut(index).and_then(|entry| entry.held.as_mut()) {
            Some(held) => {
                held.is_ended = true;
                true
            }
            None => false,
        }
    }

    /// The session's held input can be worked off, or may be looked at again.
    pub(super) fn list_held(&mut self, index: u32) {
        let held = self.table.get_mut(index).and_then(|entry| entry.held.as_mut());
        if let Some(held) = held.filter(|held| !held.is_listed) {
            held.is_listed = true;
            self.held.ready.push_back(index);
        }
    }

    /// Gives up what the session has of held input.
    pub(super) fn drop_held(&mut self, index: u32) {
        if let Some(held) = self.table.get_mut(index).and_then(|entry| entry.held.take()) {
            self.forget_held(held);
        }
    }

    /// Pauses the session's stream in the driver while it is under pressure or much of its input is held; resumes it when
    /// neither is so any more.
    pub(super) fn adjust_intake(&mut self, index: u32) {
        let Some(entry) = self.table.get_mut(index) else { return };
        let held_bytes = entry.held.as_ref().map(|held| held.waiting().len());
        let is_paused = if entry.is_intake_paused {
            entry.is_paused || held_bytes.is_some()
        } else {
            entry.is_paused || held_bytes.is_some_and(|bytes| bytes > INTAKE_BYTES_MAX)
        };
        if is_paused == entry.is_intake_paused {
            return;
        }
        entry.is_intake_paused = is_paused;
        self.stats.pauses += u64::from(is_paused);
        // Stale if the socket is closing: then nothing is delivered any more anyway.
        let _ = if is_paused { self.driver.pause_intake(entry.socket) } else { self.driver.resume(entry.socket) };
    }

    /// The slow consumer's grace runs from now on. A server that does not wait for peers looks again in the next step.
    fn stop_reading(&mut self, index: u32) {
        if !self.settings.pause_receiving {
            return self.list_held(index);
        }
        let now_ns = self.driver.now_ns();
        if let Some(entry) = self.table.get_mut(index) {
            entry.session.input_held(now_ns);
            self.arm(index);
        }
    }

    /// After a portion: what is left waits for the driver if reading stopped, else for the next step.
    fn put_held(&mut self, index: u32, held: Box<HeldInput>, is_stopped: bool) {
        match self.table.get_mut(index).filter(|entry| entry.session.is_live()) {
            Some(entry) => entry.held = Some(held),
            None => return self.forget_held(held),
        }
        if is_stopped {
            self.stop_reading(index);
        } else {
            self.list_held(index);
        }
    }

    /// Lets the stream go on if nothing is held any more. Says then whether the peer's end was waiting.
    fn settle_held(&mut self, index: u32) -> Option<bool> {
        let entry = self.table.get_mut(index)?;
        let held = entry.held.take_if(|held| held.waiting().is_empty())?;
        let is_ended = held.is_ended;
        self.forget_held(held);
        self.adjust_intake(index);
        Some(is_ended)
    }

    fn forget_held(&mut self, held: Box<HeldInput>) {
        self.stats.bytes_discarded += held.waiting().len() as u64;
        self.accounts.release(held.charged_bytes);
        self.held.keep(held);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use raon_provider::{FaultPlan, SimPeer};
    use raon_session::{Message, Raw};

    use super::*;
    use crate::application::Application;
    use crate::application::context::Context;
    use crate::server::Server;
    use crate::simulation::Simulation;

    /// Sends everybody more than an outbox takes before its session pauses, when it is called.
    struct Herald;

    impl Application for Herald {
        type Framing = Raw;
        type Session = ();
        type Post = ();

        fn on_open(&mut self, ctx: &mut Context<'_, Self>) {
            ctx.group(1u64).join();
        }

        fn on_message(&mut self, ctx: &mut Context<'_, Self>, _: &mut (), message: Message<'_, ()>) {
            if message.starts_with(b"call") {
                ctx.group(1u64).broadcast(None, (), &[7; 60_000]);
            }
        }
    }

    /// Input of more sessions than one turn delivers is there when all of them come under pressure: what was not delivered yet
    /// is taken in by the shard, and its buffers go back to the pool.
    #[test]
    fn a_session_under_pressure_keeps_no_buffer_of_the_pool() {
        const SESSIONS: usize = 1200;
        let plan = FaultPlan::default().with(|plan| (plan.send_buffer_bytes, plan.receive_buffer_bytes) = (4096, 4096));
        let mut simulation = Simulation::with_faults(1, plan);
        let server = Server::builder().workers(1).configure(|config| {
            (config.receive_buffers, config.send_buffers) = (2048, 64);
            (config.watermark_high_bytes, config.watermark_low_bytes) = (10_000, 1000);
        });
        let handle = simulation.serve(server.application(Raw, |_| Herald)).unwrap();
        let mut clients: Vec<SimPeer> = (0..SESSIONS).map(|_| simulation.connect()).collect();
        assert!(simulation.run_until(Duration::from_secs(60), || handle.sessions() == SESSIONS));
        // The first call is under way to peers that do not read when the second one comes, and with it a word of each of them.
        clients[0].write(b"call").unwrap();
        simulation.run_for(Duration::from_millis(100));
        clients[0].write(b"call").unwrap();
        clients[1..].iter_mut().for_each(|client| assert_eq!(client.write(b"word").unwrap(), 4));
        simulation.step();
        let stats = handle.stats();
        assert!(stats.pauses as usize == SESSIONS && stats.messages_received < SESSIONS as u64, "{stats}");
        simulation.run_for(Duration::from_millis(100));
        assert_eq!(simulation.buffers_lent(), 0, "{}", handle.stats());
    }

    #[test]
    fn few_and_small_ones_are_kept_for_the_next_session() {
        let mut inputs = HeldInputs::default();
        for bytes in [SPARE_BYTES_MAX + 1, 100] {
            let mut held = HeldInput::default();
            (held.charged_bytes, held.is_ended) = (bytes, true);
            held.append(&vec![0; bytes]);
            inputs.keep(Box::new(held));
        }
        let spare = inputs.take_spare();
        assert!(spare.capacity() == 100 && spare.waiting().is_empty() && !spare.is_ended);
        assert_eq!(spare.charged_bytes, 0);
        (0..2 * SPARES_MAX).for_each(|_| inputs.keep(Box::default()));
        assert_eq!(inputs.spares.len(), SPARES_MAX);
    }
}
