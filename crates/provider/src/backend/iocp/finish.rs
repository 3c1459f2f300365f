//! Completions become events.

use windows_sys::Win32::System::IO::OVERLAPPED_ENTRY;

use super::blocks::{Job, Use};
use super::{Arming, Iocp, connect};
use crate::base::error::Error;
use crate::contract::{Event, EventResult};

impl Iocp {
    /// A completion that the port has brought.
    pub(super) fn finish(&mut self, entry: OVERLAPPED_ENTRY, events: &mut Vec<Event>) {
        let Some((index, user)) = self.io.blocks.find(entry.lpOverlapped) else { return };
        let bytes = entry.dwNumberOfBytesTransferred;
        let result = match (self.io.blocks.result(index, bytes), user.job) {
            //= SEND-1
            // Cut short: what did go counts, and the next one hears of the error if it lasts.
            (Err(_), Job::Send(_) | Job::ReceiveInto) if bytes > 0 => Ok(bytes),
            (result, _) => result,
        };
        if user.job == Job::Datagram {
            let has_input = self.io.datagram_arrived(index, user, result, events);
            return self.told(user, has_input, events);
        }
        self.io.blocks.release(index);
        match user.job {
            Job::Accept(_) => self.accepts_with(events, |accepts, around| accepts.finish(user, result, around)),
            Job::Ready => self.told(user, result.map(|_| true), events),
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

    /// The operation has ended that tells when the socket has input: bytes, a datagram, the peer's end.
    fn told(&mut self, user: Use, has_input: Result<bool, Error>, events: &mut Vec<Event>) {
        let arming = std::mem::take(&mut self.io.sockets[user.socket as usize].arming);
        match has_input {
            // Nothing was taken, so nothing is lost: what is there comes with the next stream.
            Ok(_) if arming == Arming::Cancelled => events.extend(self.inputs.cancel(user.socket, user.key)),
            Ok(_) => self.inputs.readable(user.socket),
            Err(error) => events.extend(self.inputs.end(user.socket, user.key, EventResult::Failed(error))),
        }
    }
}
