//! Entries of the completion queue become events.

use super::Uring;
use super::calls::{self, Reaped};
use super::entries::{self, Tag};
use crate::base::error::{Error, ErrorKind};
use crate::contract::{Event, EventResult, RequestKey};
use crate::memory::buffer::{Buffer, BufferPool, Section};
use crate::socket::{AcceptedSocket, AnySocket};

/// Times in a row that the kernel calls an accept invalid, after which accepts are asked for one by one: a filter or a kernel
/// that knows single accepts only. Other errors, such as a want of descriptors, pass and say nothing about the flag.
const ACCEPT_ERRORS_MAX: u32 = 8;

impl Uring {
    pub(super) fn finish(&mut self, entry: Reaped, pool: &mut BufferPool, events: &mut Vec<Event>) {
        let (tag, key) = entries::split(entry.user_data);
        if tag >= Tag::Accept && !entry.more() {
            self.under_way.remove(key);
        }
        let (result, more) = match tag {
            Tag::Ignore => return,
            Tag::Cancel => return self.cancelled(key, entry.result),
            Tag::Wake => {
                self.waker.clear();
                self.is_wake_armed = false;
                return;
            }
            Tag::Provide => {
                if entry.result < 0 {
                    // Not taken for want of memory: it is free again, and offered again.
                    let section =
                        if key.generation() == Section::Bulk as u32 { Section::Bulk } else { Section::Receive };
                    pool.take_unused(section, key.index());
                    self.levels[section as usize].with_kernel -= 1;
                }
                return;
            }
            Tag::Accept if entry.result == -libc::EAGAIN && self.await_connection(key) => return,
            Tag::Accept => (self.accepted(entry), self.goes_on_accepting(key, entry.more())),
            Tag::AcceptWait if entry.result >= 0 && self.accept_again(key) => return,
            Tag::AcceptWait => (failed(Error::new(ErrorKind::Cancelled)), self.goes_on_accepting(key, false)),
            Tag::Connect => (connected(entry.result), false),
            Tag::Receive => (self.received(entry, Section::Receive, pool), entry.more()),
            Tag::ReceiveBulk => (self.received(entry, Section::Bulk, pool), entry.more()),
            Tag::ReceiveInto => (check(entry.result).map_or_else(failed, EventResult::ReceivedInto), false),
            Tag::Send => {
                self.features.merging.alone(key, entry.result >= 0);
                (sent(check(entry.result)), false)
            }
            Tag::SendSkip | Tag::SendRunSkip => return self.answered.push((entry.user_data, entry.result)),
            Tag::SendRun => return self.conclude_run(key.index(), check(entry.result), events),
            Tag::ReceiveDatagrams => (self.received_datagram(entry, Section::Receive, pool), entry.more()),
            Tag::ReceiveDatagramsBulk => (self.received_datagram(entry, Section::Bulk, pool), entry.more()),
            Tag::ReceiveDatagram => (self.received_one_datagram(entry, Section::Receive, pool), false),
            Tag::ReceiveDatagramBulk => (self.received_one_datagram(entry, Section::Bulk, pool), false),
            Tag::SendZeroCopy => match self.zero_copied(entry, key) {
                Some(result) => (result, false),
                None => return,
            },
        };
        events.push(Event { key, more, result });
    }

    /// The listener is in non-blocking mode, which belongs to all who share it, and this kernel lets no accept wait then: wait
    /// for a connection first. False: there is no room for that now.
    fn await_connection(&mut self, key: RequestKey) -> bool {
        let Some((_, handle)) = self.accepting.iter().find(|(accepting, _)| *accepting == key).copied() else {
            return false;
        };
        self.push(Tag::AcceptWait, key, entries::poll_in(handle))
    }

    /// There is a connection, unless another one who listens has been faster.
    fn accept_again(&mut self, key: RequestKey) -> bool {
        let Some((_, handle)) = self.accepting.iter().find(|(accepting, _)| *accepting == key).copied() else {
            return false;
        };
        self.push(Tag::Accept, key, entries::accept(handle, self.features.multishot_accept))
    }

    fn goes_on_accepting(&mut self, key: RequestKey, more: bool) -> bool {
        if !more {
            self.accepting.retain(|(accepting, _)| *accepting != key);
        }
        more
    }

    fn accepted(&mut self, entry: Reaped) -> EventResult {
        match check(entry.result) {
            Ok(descriptor) => {
                self.accept_errors = 0;
                if !entry.more() && self.features.multishot_accept {
                    self.counters.rearms.add(1);
                }
                let socket = calls::own_descriptor(descriptor as i32).into();
                EventResult::Accepted(AcceptedSocket::fresh(AnySocket::Os(socket), false))
            }
            Err(error) => {
                let is_invalid = error.os_code() == libc::EINVAL;
                self.accept_errors = if is_invalid { self.accept_errors + 1 } else { 0 };
                if self.features.multishot_accept && self.accept_errors >= ACCEPT_ERRORS_MAX {
                    self.features.multishot_accept = false;
                    self.features.accepts_one_by_one = true;
                }
                failed(error)
            }
        }
    }

    fn received(&mut self, entry: Reaped, section: Section, pool: &mut BufferPool) -> EventResult {
        let taken = self.take_received(entry, section, pool);
        taken.map_or_else(failed, |buffer| EventResult::Received(buffer.unwrap_or_default()))
    }

    /// The buffer that a receive has filled. A failed or empty one may hold a buffer all the same: it goes back.
    pub(super) fn take_received(
        &mut self,
        entry: Reaped,
        section: Section,
        pool: &mut BufferPool,
    ) -> Result<Option<Buffer>, Error> {
        let number = entry.buffer().map(u32::from);
        let level = &mut self.levels[section as usize];
        level.with_kernel -= u32::from(number.is_some());
        level.used += u32::from(number.is_some());
        match (check(entry.result), number) {
            (Ok(length @ 1..), Some(number)) => {
                if !entry.more() && self.features.multishot_receive {
                    self.counters.rearms.add(1);
                }
                Ok(Some(pool.take_kernel(section, number, length)))
            }
            (result, number) => {
                if let Some(number) = number {
                    pool.take_unused(section, number);
                }
                match result {
                    Ok(_) => Ok(None),
                    Err(error) if error.os_code() == libc::ENOBUFS => {
                        self.counters.no_buffers.add(1);
                        self.levels[section as usize].has_run_out = true;
                        Err(error.with_kind(ErrorKind::NoBuffers))
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// The first entry has the result, the second says that the memory is free; without F_MORE there is no second.
    fn zero_copied(&mut self, entry: Reaped, key: RequestKey) -> Option<EventResult> {
        if entry.is_notification() {
            let place = self.zero_copy.iter().position(|(waiting, _)| *waiting == key)?;
            return Some(sent(check(self.zero_copy.swap_remove(place).1)));
        }
        if entry.more() {
            self.zero_copy.push((key, entry.result));
            self.under_way.remove(key);
            return None;
        }
        Some(sent(check(entry.result)))
    }

    /// Ends the sends of this turn that may leave no entry: those that left one with its result, the others as sent.
    pub(super) fn conclude_skipping(&mut self, events: &mut Vec<Event>) {
        let taken = self.pushed - self.ring.queued() as u64;
        self.answered.sort_unstable();
        while let Some((place, data, length)) = self.skipping.front().copied() {
            if place > taken {
                break;
            }
            self.skipping.pop_front();
            let answer = self.answered.binary_search_by_key(&data, |(answered, _)| *answered);
            let result = answer.map_or(Ok(length), |found| check(self.answered[found].1));
            let (tag, key) = entries::split(data);
            if tag == Tag::SendRunSkip {
                self.conclude_run(key.index(), result, events);
            } else {
                self.under_way.remove(key);
                events.push(Event { key, more: false, result: sent(result) });
            }
        }
        self.answered.clear();
    }
}

fn check(result: i32) -> Result<usize, Error> {
    match -result {
        ..=0 => Ok(result as usize),
        // A request that went to a worker thread was interrupted there: that is how the kernel cancels it.
        libc::EINTR => Err(Error::from_os(libc::EINTR).with_kind(ErrorKind::Cancelled)),
        code => Err(Error::from_os(code)),
    }
}

pub(super) fn failed(error: Error) -> EventResult {
    EventResult::Failed(error)
}

fn connected(result: i32) -> EventResult {
    match check(result) {
        Ok(_) => EventResult::Connected,
        Err(error) if error.os_code() == libc::EAGAIN => failed(error.with_kind(ErrorKind::Busy)),
        Err(error) => failed(error),
    }
}

fn sent(result: Result<usize, Error>) -> EventResult {
    match result {
        Ok(bytes) => EventResult::Sent(bytes),
        Err(error) if error.os_code() == libc::EAGAIN => EventResult::Sent(0),
        Err(error) => failed(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::kind::Kind;
    use crate::config::Config;

    /// Whether a driver that asks for streams of accepts still does so after these results.
    fn asks_for_streams_after(code: i32, times: u32) -> bool {
        let config = Config::named(Kind::IoUring);
        let (_, mut uring) = Uring::open(&config, &mut BufferPool::new(&config.pool).unwrap()).unwrap();
        uring.features.multishot_accept = true;
        for _ in 0..times {
            let failed = uring.accepted(Reaped { user_data: 0, result: -code, flags: 0 });
            assert!(matches!(failed, EventResult::Failed(_)));
        }
        uring.features.multishot_accept
    }

    #[test]
    fn only_what_the_kernel_calls_invalid_ends_streams_of_accepts() {
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ECONNABORTED, libc::ECANCELED, libc::EPERM] {
            assert!(asks_for_streams_after(code, 10 * ACCEPT_ERRORS_MAX), "{code}");
        }
        assert!(asks_for_streams_after(libc::EINVAL, ACCEPT_ERRORS_MAX - 1));
        assert!(!asks_for_streams_after(libc::EINVAL, ACCEPT_ERRORS_MAX));
    }
}
