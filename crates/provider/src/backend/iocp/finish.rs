//! Completions become events.

use windows_sys::Win32::System::IO::OVERLAPPED_ENTRY;

use super::blocks::{Job, Use};
use super::{Iocp, connect};
use crate::base::error::{Error, ErrorKind};
use crate::contract::{Event, EventResult};

impl Iocp {
    /// A completion that the port has brought.
    pub(super) fn finish(&mut self, entry: OVERLAPPED_ENTRY, events: &mut Vec<Event>) {
        let Some((index, user)) = self.blocks.find(entry.lpOverlapped) else { return };
        let bytes = entry.dwNumberOfBytesTransferred;
        let result = match (self.blocks.result(index, bytes), user.job) {
            //= SEND-1
            // Cut short: what did go counts, and the next one hears of the error if it lasts.
            (Err(_), Job::Send(_) | Job::ReceiveInto) if bytes > 0 => Ok(bytes),
            (result, _) => result,
        };
        if user.job == Job::Datagram {
            return self.datagram_arrived(index, user, result, events);
        }
        self.blocks.release(index);
        match user.job {
            Job::Accept(_) => self.accepted(user, result, events),
            Job::Ready => self.became_ready(user.socket, result, events),
            _ => self.report(user, result, events),
        }
    }

    /// An operation has ended that is the whole of its request.
    pub(super) fn report(&mut self, user: Use, result: Result<u32, Error>, events: &mut Vec<Event>) {
        let result = match (user.job, result) {
            (Job::Connect, Ok(_)) => {
                self.counters.kernel_entries.add(1);
                connect::finish(user.handle).map_or_else(EventResult::Failed, |()| EventResult::Connected)
            }
            (Job::ReceiveInto, Ok(bytes)) => EventResult::ReceivedInto(bytes as usize),
            (_, Ok(bytes)) => EventResult::Sent(bytes as usize),
            (_, Err(error)) => EventResult::Failed(error),
        };
        events.push(Event { key: user.key, more: false, result });
    }

    fn accepted(&mut self, user: Use, result: Result<u32, Error>, events: &mut Vec<Event>) {
        let goes_on = self.accepts_with(events, |accepts, around| accepts.finish(user, result, around));
        if goes_on {
            self.enqueue(user.socket);
        } else {
            self.sockets[user.socket as usize].awaited = None;
        }
    }

    /// The stream of a socket ends here.
    pub(super) fn end_input(&mut self, socket: u32, result: EventResult, events: &mut Vec<Event>) {
        if let Some(awaited) = self.sockets[socket as usize].awaited.take() {
            self.is_urgent = true;
            events.push(Event { key: awaited.key, more: false, result });
        }
    }

    pub(super) fn end_cancelled(&mut self, socket: u32, events: &mut Vec<Event>) {
        self.end_input(socket, EventResult::Failed(Error::new(ErrorKind::Cancelled)), events);
    }
}
