//! Datagrams that leave together: several requests, one entry.
//!
//! 1. `start_all` asks of each batch which of its datagrams form a run, and queues one message for it, `MSG_DONTWAIT`: like a
//!    lazy send it is issued inside the enter and never waits, so the kernel is done with its control data when the enter
//!    is back. Nor is it ever found by a cancel: it has ended before one could come. That cancel is repeated, and finds
//!    those that go again.
//! 2. With its entry (or, lazy, without one) all its requests end. If it failed or found no room it was not sent, and its
//!    requests start again with the next turn, each alone, waiting for room.
//! 3. Its place is used again. There are never more than half as many as operations: a run has two at least.
//!
//! On drop: nothing. The places hold copies of requests and own no memory that the kernel looks at.

use io_uring::squeue;

use super::Uring;
use super::entries::{self, Tag};
use super::finish::failed;
use crate::base::error::Error;
use crate::base::slots::Key;
use crate::contract::merge::{self, RUN_MAX, Segment};
use crate::contract::{Action, CompletionMode, Event, EventResult, Request};
use crate::memory::{SpanList, Target};

/// The runs that are under way.
#[derive(Default)]
pub(super) struct Runs {
    places: Vec<Vec<Request>>,
    free: Vec<u32>,
    /// Requests of runs that were not sent.
    again: Vec<Request>,
}

impl Runs {
    /// Nothing is left to be started again.
    pub(super) fn is_settled(&self) -> bool {
        self.again.is_empty()
    }

    fn add(&mut self, run: &[Request]) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            self.places.push(Vec::with_capacity(RUN_MAX));
            self.places.len() as u32 - 1
        });
        self.places[number as usize].extend_from_slice(run);
        number
    }
}

impl Uring {
    /// Starts what the last turn has left and what this one brings, as far as the queue has room; what is left keeps its
    /// order.
    pub(super) fn start_all(&mut self, requests: &mut Vec<Request>) {
        let has_room = self.start_again();
        let mut late = std::mem::take(&mut self.postponed);
        if !late.is_empty() {
            late.append(requests);
            std::mem::swap(&mut late, requests);
        }
        self.postponed = late;
        let mut rest = &requests[..];
        while let ([first, ..], true) = (rest, has_room) {
            let count = self.features.merging.run(rest.iter().map(Segment::of));
            let is_started = match rest.split_at(count) {
                ([_], _) => self.start(*first),
                (run, _) => self.start_run(run),
            };
            if !is_started {
                break;
            }
            rest = &rest[count..];
        }
        self.postponed.extend_from_slice(rest);
        requests.clear();
    }

    /// The datagrams of runs that were not sent, each alone: together they would be refused again. False: there is no room
    /// for all of them.
    fn start_again(&mut self) -> bool {
        let mut again = std::mem::take(&mut self.runs.again);
        let started = again.iter().position(|request| !self.start(*request)).unwrap_or(again.len());
        again.drain(..started);
        self.runs.again = again;
        self.runs.again.is_empty()
    }

    /// What has not reached the queue, and never will.
    pub(super) fn take_postponed(&mut self) -> Vec<Request> {
        let mut all = std::mem::take(&mut self.runs.again);
        all.append(&mut self.postponed);
        all
    }

    fn start_run(&mut self, run: &[Request]) -> bool {
        let Request { handle, action: Action::SendDatagram(first, target, mode), .. } = run[0] else {
            unreachable!("only datagrams form a run")
        };
        let number = self.runs.add(run);
        let skips = self.features.skip_success && mode == CompletionMode::OnError;
        let tag = if skips { Tag::SendRunSkip } else { Tag::SendRun };
        let flags = if skips { squeue::Flags::SKIP_SUCCESS } else { squeue::Flags::empty() };
        let data = entries::user_data(tag, Key::new(number, 0));
        run.iter().for_each(|request| self.under_way.add(Tag::Ignore, request.key));
        let finish = |entry: squeue::Entry| entry.flags(flags).user_data(data);
        let fill =
            |spans: &mut Vec<_>| datagrams(run).for_each(|(list, ..)| list.with(|own| spans.extend_from_slice(own)));
        let is_pushed = self.queue(|uring| uring.ring.push_merged(handle, target, first.bytes, fill, finish));
        if !is_pushed {
            self.runs.places[number as usize].clear();
            self.runs.free.push(number);
        } else if skips {
            self.skipping.push_back((self.pushed, data, datagrams(run).map(|(list, ..)| list.bytes).sum()));
        }
        is_pushed
    }

    /// A run has ended: what it carried has gone, the others go again.
    pub(super) fn conclude_run(&mut self, number: u32, result: Result<usize, Error>, events: &mut Vec<Event>) {
        let mut run = std::mem::take(&mut self.runs.places[number as usize]);
        let lengths = || datagrams(&run).map(|(list, ..)| list.bytes);
        let mut done = result.map_or(0, |bytes| merge::carried(lengths(), bytes));
        self.counters.merged_sent.add(done as u64);
        events.extend(run.iter().zip(lengths()).take(done).map(|(one, bytes)| ended(one, EventResult::Sent(bytes))));
        if let Err(error) = result {
            let is_told = Segment::of(&run[0])
                .is_none_or(|first| !self.features.merging.refused(merge::refusal(error), run[0].key, &first));
            if is_told && error.os_code() != libc::EAGAIN {
                events.push(ended(&run[0], failed(error)));
                done = 1;
            }
        }
        self.runs.again.extend(run.drain(done..).map(alone));
        run.iter().for_each(|request| self.under_way.remove(request.key));
        run.clear();
        self.runs.places[number as usize] = run;
        self.runs.free.push(number);
    }
}

/// The same, to be waited for.
fn alone(mut request: Request) -> Request {
    if let Action::SendDatagram(_, _, mode) = &mut request.action {
        *mode = CompletionMode::Always;
    }
    request
}

fn datagrams(run: &[Request]) -> impl Iterator<Item = (SpanList, Target, CompletionMode)> {
    run.iter().filter_map(|request| match request.action {
        Action::SendDatagram(list, target, mode) => Some((list, target, mode)),
        _ => None,
    })
}

fn ended(request: &Request, result: EventResult) -> Event {
    Event { key: request.key, more: false, result }
}

#[cfg(test)]
mod tests {
    use super::super::calls::Reaped;
    use super::*;
    use crate::base::kind::Kind;
    use crate::config::Config;
    use crate::memory::Span;
    use crate::memory::buffer::BufferPool;

    fn requests(lists: &[SpanList]) -> Vec<Request> {
        let request = |(index, list): (u32, &SpanList)| Request {
            key: Key::new(index, 1),
            socket: 0,
            handle: -1,
            action: Action::SendDatagram(*list, Target::of(None), CompletionMode::OnError),
        };
        (0..).zip(lists).map(request).collect()
    }

    /// What each of three datagrams is told, and how many go again, when their message ends so.
    fn conclude(result: Result<usize, i32>) -> (Vec<(u32, Option<usize>)>, usize) {
        let config = Config::named(Kind::IoUring);
        let (_, mut uring) = Uring::open(&config, &mut BufferPool::new(&config.pool).unwrap()).unwrap();
        let spans = [Span::of(b"four"), Span::of(b"more"), Span::of(b"end")];
        let lists: Vec<_> = spans.iter().map(|span| SpanList::of(std::slice::from_ref(span), span.length)).collect();
        let requests = requests(&lists);
        requests.iter().for_each(|request| uring.under_way.add(Tag::Ignore, request.key));
        let number = uring.runs.add(&requests);
        let mut events = Vec::new();
        uring.conclude_run(number, result.map_err(Error::from_os), &mut events);
        assert_eq!(uring.runs.add(&[]), number, "its place is free again");
        let told = events.into_iter().map(|event| match event.result {
            EventResult::Sent(bytes) => (event.key.index(), Some(bytes)),
            _ => (event.key.index(), None),
        });
        let is_prompt = |request: &Request| matches!(request.action, Action::SendDatagram(.., mode) if mode == CompletionMode::Always);
        assert!(uring.runs.again.iter().all(is_prompt));
        (told.collect(), uring.runs.again.len())
    }

    #[test]
    fn each_datagram_of_a_run_is_told_the_truth() {
        assert_eq!(conclude(Ok(11)), (vec![(0, Some(4)), (1, Some(4)), (2, Some(3))], 0));
        assert_eq!(conclude(Ok(8)), (vec![(0, Some(4)), (1, Some(4))], 1));
        assert_eq!(conclude(Err(libc::EAGAIN)), (vec![], 3));
        assert_eq!(conclude(Err(libc::EMSGSIZE)), (vec![], 3));
        assert_eq!(conclude(Err(libc::EIO)), (vec![], 3));
        assert_eq!(conclude(Err(libc::ECONNREFUSED)), (vec![(0, None)], 2));
    }

    /// Three datagrams are refused together; then the first one goes alone, or fails. How many go together next time?
    fn together_after(refusal: i32, alone: i32) -> usize {
        let config = Config::named(Kind::IoUring);
        let mut pool = BufferPool::new(&config.pool).unwrap();
        let (_, mut uring) = Uring::open(&config, &mut pool).unwrap();
        uring.features.merging = merge::Merging::new(true, Ok(()));
        let lists = [b"four", b"more", b"ends"].map(|bytes| Span::of(bytes));
        let lists = lists.each_ref().map(|span| SpanList::of(std::slice::from_ref(span), span.length));
        let requests = requests(&lists);
        requests.iter().for_each(|request| uring.under_way.add(Tag::Ignore, request.key));
        let number = uring.runs.add(&requests);
        let mut events = Vec::new();
        uring.conclude_run(number, Err(Error::from_os(refusal)), &mut events);
        assert!(events.is_empty(), "all go again");
        let key = requests[0].key;
        uring.under_way.add(Tag::Send, key);
        let entry = Reaped { user_data: entries::user_data(Tag::Send, key), result: alone, flags: 0 };
        uring.finish(entry, &mut pool, &mut events);
        assert_eq!(events.len(), 1);
        uring.features.merging.run(requests.iter().map(Segment::of))
    }

    #[test]
    fn a_refused_run_is_judged_by_its_first_datagram() {
        assert_eq!(together_after(libc::EIO, 4), 1);
        assert_eq!(together_after(libc::EINVAL, 4), 1);
        assert_eq!(together_after(libc::EINVAL, -libc::EINVAL), 3);
        assert_eq!(together_after(libc::EINVAL, -libc::EAGAIN), 3, "it was never tried alone");
        assert_eq!(together_after(libc::EPERM, 4), 3);
    }
}
