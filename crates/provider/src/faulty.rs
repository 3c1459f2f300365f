//! A back end that misbehaves within its contract: a tool for tests, wrapped around any real one.
//!
//! What may happen to a request on its way, all of it decided by one seeded generator:
//! 1. It is answered at once with a transient error, and the wrapped back end never sees it.
//! 2. It is cut: a send to a part of its bytes, a single receive to a part of its room.
//! 3. It is held back for some turns. A cancel meanwhile ends it there.
//! 4. A stream is ended though it could go on: the wrapper cancels it underneath, and the last item that came says so.
//! 5. Its events are held back for some turns and change places with those of others. Events of one request keep their
//!    order, and as at most one request per socket and direction is under way, so do those of a direction (ORDER-1).
//!
//! What never happens: a request without its one final event, a span used after that, a wait without an end while
//! something is held back here.
//!
//! On drop nothing is left to do: the driver drops a back end when it has no request any more, or leaks what it has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::base::error::{Error, ErrorKind};
use crate::base::random::{Random, SharedRandom};
use crate::base::wake::{Wake, Waker};
use crate::config::{FaultRates, Faults};
use crate::contract::{
    Action, CompletionMode, Event, EventResult, Opened, Origin, Profile, Provider, Request, RequestKey,
};
use crate::memory::buffer::BufferPool;
use crate::memory::{Span, SpanMut};
use crate::platform::RawHandle;
use crate::socket::AnySocket;

/// Longest wait while wakes may be lost: whoever wakes in vain is heard at its end.
const WAIT_MAX: Duration = Duration::from_millis(2);

/// A back end in which everything goes wrong that may, around one that works.
struct Faulty {
    inner: Box<dyn Provider>,
    rates: FaultRates,
    dice: Dice,
    waker: Arc<FaultyWake>,
    turn: u64,
    /// Receives that are still to fail in a row for want of a buffer.
    storm: u32,
    late: Vec<(u64, Request)>,
    /// What the wrapped back end gets next.
    requests: Vec<Request>,
    /// Streams that it has.
    streams: BTreeMap<u64, (u32, RawHandle)>,
    /// Streams that are being ended here, each with its last item.
    ending: BTreeMap<u64, Event>,
    taken: Vec<Event>,
    /// Events with the turn in which they are due, in the order in which they came.
    held: Vec<(u64, Event)>,
}

/// Puts the faults around an open back end.
pub(crate) fn around(opened: Opened, faults: Faults) -> Opened {
    let Faults { seed, rates } = faults;
    let Opened { profile, provider } = opened;
    let waker = FaultyWake { inner: profile.waker, random: SharedRandom::new(seed | 1), rates };
    let waker = Arc::new(waker);
    let faulty = Faulty {
        inner: provider,
        rates,
        dice: Dice(Random::new(seed)),
        waker: waker.clone(),
        turn: 0,
        storm: 0,
        late: Vec::new(),
        requests: Vec::new(),
        streams: BTreeMap::new(),
        ending: BTreeMap::new(),
        taken: Vec::new(),
        held: Vec::new(),
    };
    Opened { profile: Profile { waker, ..profile }, provider: Box::new(faulty) }
}

impl Provider for Faulty {
    fn attach(&mut self, index: u32, socket: &AnySocket, origin: Origin) -> Result<(), Error> {
        if self.dice.falls(self.rates.attach_refused) {
            return Err(Error::new(ErrorKind::DescriptorLimit));
        }
        self.inner.attach(index, socket, origin)
    }

    fn detach(&mut self, index: u32) {
        self.inner.detach(index);
    }

    fn turn(
        &mut self,
        requests: &mut Vec<Request>,
        wait: Option<Duration>,
        pool: &mut BufferPool,
        events: &mut Vec<Event>,
    ) -> Result<(), Error> {
        self.turn += 1;
        for request in requests.drain(..) {
            self.admit(request);
        }
        let (fails, is_interrupted) =
            (self.dice.falls(self.rates.turn_fails), self.dice.falls(self.rates.turn_interrupted));
        if fails || is_interrupted {
            self.requests = std::mem::take(&mut self.requests).into_iter().map(prompt).collect();
            return if fails { Err(Error::new(ErrorKind::OutOfMemory)) } else { Ok(()) };
        }
        self.hand_over_late();
        if self.dice.falls(self.rates.wake_doubled) {
            self.waker.inner.wake();
        }
        let wait = self.wait_for(wait);
        let mut taken = std::mem::take(&mut self.taken);
        let turned = self.inner.turn(&mut self.requests, wait, pool, &mut taken);
        for event in taken.drain(..) {
            self.take(event);
        }
        self.taken = taken;
        self.release(events);
        turned
    }
}

impl Faulty {
    /// A request comes in: it is answered, held back, or goes on.
    fn admit(&mut self, request: Request) {
        if matches!(request.action, Action::Cancel) && self.cancel_late(request.key) {
            return self.answer(request.key, EventResult::Failed(Error::new(ErrorKind::Cancelled)));
        }
        if let Some(result) = self.transient(&request) {
            return self.answer(request.key, result);
        }
        let request = self.cut(request);
        match self.delay(self.rates.request_late) {
            0 => self.hand_over(request),
            delay => self.late.push((self.turn + delay, prompt(request))),
        }
    }

    /// What the system may answer without having done anything.
    fn transient(&mut self, request: &Request) -> Option<EventResult> {
        let rates = self.rates;
        let kind = match request.action {
            Action::Send(..) | Action::SendList(..) => {
                return self.dice.falls(rates.send_refused).then_some(EventResult::Sent(0));
            }
            Action::SendDatagram(list, ..) => {
                let is_refused = list.bytes > 0 && self.dice.falls(rates.send_refused);
                return is_refused.then_some(EventResult::Sent(0));
            }
            Action::Receive(..) | Action::ReceiveDatagrams(..) if self.storm > 0 => {
                self.storm -= 1;
                ErrorKind::NoBuffers
            }
            Action::Receive(..) | Action::ReceiveDatagrams(..) if self.dice.falls(rates.no_buffers) => {
                self.storm = self.dice.below(u64::from(rates.no_buffers_run_max)) as u32;
                ErrorKind::NoBuffers
            }
            Action::Accept if self.dice.falls(rates.accept_fails) => {
                if self.dice.below(2) == 0 {
                    ErrorKind::ConnectionAborted
                } else {
                    ErrorKind::OutOfMemory
                }
            }
            Action::Accept if self.dice.falls(rates.accept_without_descriptor) => ErrorKind::DescriptorLimit,
            Action::Connect(_) if self.dice.falls(rates.connect_refused) => ErrorKind::Busy,
            _ => return None,
        };
        Some(EventResult::Failed(Error::new(kind)))
    }

    /// A part of what was asked for. Something waits for the rest, so the end of it must be told.
    fn cut(&mut self, mut request: Request) -> Request {
        request.action = match request.action {
            Action::Send(span, _) if self.dice.falls(self.rates.send_short) => {
                Action::Send(self.part(span), CompletionMode::Always)
            }
            Action::SendList(list, _) if self.dice.falls(self.rates.send_short) => {
                let first = list.with(|spans| spans.iter().copied().find(|span| span.length > 0));
                first.map_or(request.action, |span| Action::Send(self.part(span), CompletionMode::Always))
            }
            Action::ReceiveInto(span) if self.dice.falls(self.rates.receive_short) => {
                let length = 1 + self.dice.below(span.length as u64) as usize;
                Action::ReceiveInto(SpanMut { length, ..span })
            }
            whole => whole,
        };
        request
    }

    fn part(&mut self, span: Span) -> Span {
        Span { length: 1 + self.dice.below(span.length as u64) as usize, ..span }
    }

    fn hand_over(&mut self, request: Request) {
        if matches!(request.action, Action::Accept | Action::Receive(..) | Action::ReceiveDatagrams(..)) {
            self.streams.insert(request.key.bits(), (request.socket, request.handle));
        }
        self.requests.push(request);
    }

    fn hand_over_late(&mut self) {
        let (due, late) = std::mem::take(&mut self.late).into_iter().partition(|(turn, _)| *turn <= self.turn);
        self.late = late;
        let due: Vec<(u64, Request)> = due;
        due.into_iter().for_each(|(_, request)| self.hand_over(request));
    }

    /// True if the request of this key was held back here: then it ends here.
    fn cancel_late(&mut self, key: RequestKey) -> bool {
        let place = self.late.iter().position(|(_, late)| late.key == key && !matches!(late.action, Action::Cancel));
        place.map(|place| self.late.remove(place)).is_some()
    }

    fn wait_for(&mut self, wait: Option<Duration>) -> Option<Duration> {
        if !(self.late.is_empty() && self.held.is_empty() && self.ending.is_empty()) {
            return Some(Duration::ZERO);
        }
        let may_be_lost = self.rates.wake_lost > 0;
        if may_be_lost { Some(wait.map_or(WAIT_MAX, |wait| wait.min(WAIT_MAX))) } else { wait }
    }

    /// An event of the wrapped back end.
    fn take(&mut self, event: Event) {
        let key = event.key.bits();
        if !event.more {
            self.forget(event.key);
        }
        if let Some(last) = self.ending.remove(&key) {
            return self.take_ending(last, event);
        }
        let stream = self.streams.get(&key).copied();
        if let (true, Some((socket, handle))) = (event.more, stream)
            && self.dice.falls(self.rates.stream_ended)
        {
            self.requests.push(Request { key: event.key, socket, handle, action: Action::Cancel });
            self.ending.insert(key, event);
            return;
        }
        self.hold(event);
    }

    /// The stream's last item is not known before its end has come.
    fn take_ending(&mut self, last: Event, event: Event) {
        if event.more {
            self.hold(last);
            self.ending.insert(event.key.bits(), event);
        } else if matches!(&event.result, EventResult::Failed(error) if error.kind() == ErrorKind::Cancelled) {
            self.hold(Event { more: false, ..last });
        } else {
            self.hold(last);
            self.hold(event);
        }
    }

    /// The request has ended: no cancel may reach the next one of the same key.
    fn forget(&mut self, key: RequestKey) {
        self.streams.remove(&key.bits());
        self.late.retain(|(_, late)| late.key != key);
        self.requests.retain(|request| request.key != key);
    }

    fn answer(&mut self, key: RequestKey, result: EventResult) {
        self.hold(Event { key, more: false, result });
    }

    fn hold(&mut self, event: Event) {
        let due = self.turn + self.delay(self.rates.event_late);
        self.held.push((due, event));
    }

    /// Delivers what is due, behind nothing of the same request that is not, in a new order.
    fn release(&mut self, events: &mut Vec<Event>) {
        let start = events.len();
        let mut waiting = BTreeSet::new();
        for (due, event) in std::mem::take(&mut self.held) {
            if due > self.turn || waiting.contains(&event.key.bits()) {
                waiting.insert(event.key.bits());
                self.held.push((due, event));
            } else {
                events.push(event);
            }
        }
        for place in start + 1..events.len() {
            if events[place - 1].key != events[place].key && self.dice.falls(self.rates.events_exchanged) {
                events.swap(place - 1, place);
            }
        }
    }

    /// For how many turns something is held back.
    fn delay(&mut self, rate: u16) -> u64 {
        if self.dice.falls(rate) { 1 + self.dice.below(u64::from(self.rates.turns_late_max)) } else { 0 }
    }
}

/// What comes late must end the wait: the driver has stopped to think about it.
fn prompt(mut request: Request) -> Request {
    request.action = match request.action {
        Action::Send(span, _) => Action::Send(span, CompletionMode::Always),
        Action::SendList(list, _) => Action::SendList(list, CompletionMode::Always),
        Action::SendDatagram(list, target, _) => Action::SendDatagram(list, target, CompletionMode::Always),
        other => other,
    };
    request
}

/// Wakes get lost, and come twice.
struct FaultyWake {
    inner: Waker,
    random: SharedRandom,
    rates: FaultRates,
}

impl Wake for FaultyWake {
    fn wake(&self) {
        let mut dice = Dice(self.random.draw());
        if dice.falls(self.rates.wake_lost) {
            return;
        }
        self.inner.wake();
        if dice.falls(self.rates.wake_doubled) {
            self.inner.wake();
        }
    }
}

/// What decides, in the same way for the same seed.
struct Dice(Random);

impl Dice {
    /// A number below the bound, or 0 if that is 0.
    fn below(&mut self, bound: u64) -> u64 {
        self.0.bits() % bound.max(1)
    }

    /// True in so many of a thousand cases, at most in nine of ten: there is always a way out.
    fn falls(&mut self, rate: u16) -> bool {
        rate > 0 && self.below(1000) < u64::from(rate.min(900))
    }
}
