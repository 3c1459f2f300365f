//! Sends on streams: copied into slices, several of which are under way, and ended when all have gone out.

use super::Rio;
use super::calls::Side;
use super::line::{Context, Piece};
use super::receive::is_passing;
use crate::base::error::Error;
use crate::contract::{Event, EventResult};

impl Rio {
    /// Posts as much of the send as may be under way, and reports it if it has ended.
    //= SEND-1
    pub(super) fn send_on(&mut self, index: u32, events: &mut Vec<Event>) {
        loop {
            let send_side = &mut self.lines[index].send_side;
            let Some(sending) = send_side.asked else { return };
            let is_full = send_side.under_way.len() >= self.config.sends_ahead as usize;
            if is_full || send_side.failed.is_some() || sending.posted == sending.bytes {
                break;
            }
            match self.post_send(index) {
                Ok(()) => {}
                // What is under way will make room, or else time.
                Err(error) if is_passing(error) => {
                    if self.lines[index].send_side.under_way.is_empty() {
                        self.again.push(self.lines.key(index));
                    }
                    break;
                }
                Err(error) => self.lines[index].send_side.failed = Some(error),
            }
        }
        self.conclude_send(index, events);
    }

    fn post_send(&mut self, index: u32) -> Result<(), Error> {
        let slice = self.sends.take()?;
        let line = &mut self.lines[index];
        let Some(sending) = &mut line.send_side.asked else {
            self.sends.put(slice);
            return Ok(());
        };
        let count = sending.source.copy(sending.posted, self.sends.bytes_mut(slice));
        self.sends.lend(slice);
        let data = self.sends.part(slice, 0, count);
        let context = Context::new(Side::Send, 0, slice).bits();
        if let Err(error) = self.queues.post(line.queue, Side::Send, data, None, context) {
            self.sends.taken_back(slice);
            self.sends.put(slice);
            return Err(error);
        }
        sending.posted += count;
        let number = sending.number;
        line.send_side.under_way.push_back(Piece { slice, number });
        self.mark_dirty(index, Side::Send);
        Ok(())
    }

    /// A slice has gone out, or not.
    pub(super) fn sent(&mut self, index: u32, slice: u32, result: Result<u32, Error>) {
        self.sends.taken_back(slice);
        self.sends.put(slice);
        let send_side = &mut self.lines[index].send_side;
        let Some(at) = send_side.under_way.iter().position(|piece| piece.slice == slice) else { return };
        let Some(piece) = send_side.under_way.remove(at) else { return };
        match (result, &mut send_side.asked) {
            (Ok(count), Some(sending)) if sending.number == piece.number => sending.sent += count as usize,
            (Ok(_), _) => {}
            (Err(error), _) => send_side.failed = Some(error),
        }
    }

    /// Reports a send of which nothing is under way and nothing can follow.
    fn conclude_send(&mut self, index: u32, events: &mut Vec<Event>) {
        let send_side = &mut self.lines[index].send_side;
        let Some(sending) = send_side.asked else { return };
        let is_under_way = send_side.under_way.iter().any(|piece| piece.number == sending.number);
        let result = match send_side.failed {
            _ if is_under_way => return,
            Some(error) if sending.sent == 0 => EventResult::Failed(error),
            None if sending.posted < sending.bytes => return,
            // Cut short: what did go counts, and the next one hears of the error.
            _ => EventResult::Sent(sending.sent),
        };
        send_side.asked = None;
        events.push(Event::last(sending.key, result));
    }
}
