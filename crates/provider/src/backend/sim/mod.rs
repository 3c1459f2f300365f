//! The simulated back end: a network in memory, with virtual time, that goes wrong as its seed says. Read it first.
//!
//! What a back end is, shown by the one that has no system below it:
//! 1. `attach` tells the network whose socket it is. From then on the network puts the socket's index into this driver's
//!    inbox whenever something may have changed for it.
//! 2. A turn takes its requests. Each becomes the input or the output that its socket waits for.
//! 3. What is in the inbox is looked at: what can be done is done and ends in an event; the rest goes on waiting.
//! 4. If there is nothing to say and the wait is not over, the clock moves to the next happening of the network, or to the
//!    end of the wait, and 3 again. If nothing will ever happen, the thread really sleeps until another one wakes it; a
//!    wait that nobody ends fails with `NothingToWaitFor`, so that a test does not hang.
//!
//! Every decision is taken under the network's lock, with its numbers, in the order of the calls: a run can be repeated.
//! On drop the inbox goes; sockets close one by one, each with its owner.
#![forbid(unsafe_code)]

mod transfer;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use crate::base::attempt::Attempt;
use crate::base::error::{Error, ErrorKind, Feature};
use crate::base::kind::Kind;
use crate::base::time;
use crate::config::Config;
use crate::contract::{
    Action, Clock, Event, EventResult, FeatureState, Opened, Origin, Profile, Provider, ProviderCounters, Request,
    RequestKey, Shots,
};
use crate::memory::buffer::{BufferPool, Section};
use crate::memory::{Span, SpanList, SpanMut};
use crate::socket::sim::bell::Bell;
use crate::socket::sim::fault::escapable;
use crate::socket::sim::network::SimNetwork;
use crate::socket::sim::world::World;
use crate::socket::{AnyNetwork, AnySocket};

use transfer::{is_late, map, receive, send, send_datagram, send_list, shorten};

/// Connections accepted from one listener per turn, before others get theirs.
const ACCEPTS_PER_TURN: usize = 64;

#[derive(Clone, Copy)]
enum Input {
    Accept,
    Stream(Section, Shots),
    Datagrams(Section),
    Into(SpanMut),
}

#[derive(Clone, Copy)]
enum Output {
    Connect,
    Send(Span),
    SendList(SpanList),
}

/// What one socket waits for.
#[derive(Clone, Copy, Default)]
struct State {
    /// Its number in the network.
    number: u32,
    input: Option<(RequestKey, Input)>,
    output: Option<(RequestKey, Output)>,
    /// Until when a completion is kept back, per direction.
    input_late_ns: Option<u64>,
    output_late_ns: Option<u64>,
}

/// The back end without an operating system.
pub(crate) struct Sim {
    network: SimNetwork,
    /// Its number in the network.
    driver: u32,
    bell: Arc<Bell>,
    sockets: Vec<State>,
    /// Requests that the present turn has not taken: its queue was full.
    backlog: VecDeque<Request>,
    touched: Vec<u32>,
    turn_bytes_max: usize,
    patience: Duration,
    counters: Rc<ProviderCounters>,
}

/// Joins a simulated network. Errors: none.
pub(crate) fn open(config: &Config, _: &mut BufferPool) -> Result<Opened, Error> {
    let network = config.sim.network.clone().unwrap_or_else(|| SimNetwork::new(config.sim.seed));
    let bell = Arc::new(Bell::default());
    let driver = network.world().add_driver(bell.clone());
    let virtual_time = FeatureState { feature: Feature::VirtualTime, in_use: true, reason: "" };
    let profile = Profile {
        network: AnyNetwork::Sim(network.clone()),
        clock: Clock::Simulated(network.clone()),
        depth: u32::MAX,
        ..Profile::system(Kind::Sim, bell.clone(), vec![virtual_time])
    };
    let sim = Sim {
        network,
        driver,
        bell,
        sockets: Vec::new(),
        backlog: VecDeque::new(),
        touched: Vec::new(),
        turn_bytes_max: config.turn_bytes_max as usize,
        patience: config.sim.patience,
        counters: profile.counters.clone(),
    };
    Ok(Opened { profile, provider: Box::new(sim) })
}

impl Provider for Sim {
    fn attach(&mut self, index: u32, socket: &AnySocket, _: Origin) -> Result<(), Error> {
        let number = socket.simulated()?.number();
        let place = index as usize;
        self.sockets.resize(self.sockets.len().max(place + 1), State::default());
        self.sockets[place] = State { number, ..State::default() };
        self.network.world().watch(number, Some((self.driver, index)));
        Ok(())
    }

    fn detach(&mut self, index: u32) {
        let state = std::mem::take(&mut self.sockets[index as usize]);
        debug_assert!(state.input.is_none() && state.output.is_none());
        self.network.world().watch(state.number, None);
    }

    fn turn(
        &mut self,
        requests: &mut Vec<Request>,
        wait: Option<Duration>,
        pool: &mut BufferPool,
        events: &mut Vec<Event>,
    ) -> Result<(), Error> {
        self.counters.kernel_entries.add(1);
        let network = self.network.clone();
        let mut world = network.world();
        self.backlog.extend(requests.drain(..));
        self.take_requests(&mut world, events);
        let until_ns = wait.map(|wait| time::after(world.now_ns, wait));
        loop {
            self.look(&mut world, pool, events);
            let is_over = until_ns.is_some_and(|until_ns| world.now_ns >= until_ns);
            // A wake ends the wait, and so does a request that is still to be taken.
            if self.bell.take_wake() || is_over || !events.is_empty() || !self.backlog.is_empty() {
                return Ok(());
            }
            match (world.next_ns(), until_ns) {
                (Some(next_ns), None) => world.advance_to(next_ns),
                (Some(next_ns), Some(until_ns)) => world.advance_to(next_ns.min(until_ns)),
                (None, Some(until_ns)) => world.advance_to(until_ns),
                (None, None) => world = self.sleep(&network, world)?,
            }
        }
    }
}

fn event(key: RequestKey, more: bool, result: EventResult) -> Event {
    Event { key, more, result }
}

impl Sim {
    // Requests.

    fn take_requests(&mut self, world: &mut World, events: &mut Vec<Event>) {
        let mut taken = self.backlog.len();
        if taken > 0 && world.random.chance(escapable(world.plan.full_queues)) {
            taken = world.random.below(taken);
        }
        for request in self.backlog.drain(..taken) {
            let state = &mut self.sockets[request.socket as usize];
            match request.action {
                Action::Accept => state.input = Some((request.key, Input::Accept)),
                Action::Receive(section, shots) => {
                    state.input = Some((request.key, Input::Stream(section, shots)));
                }
                Action::ReceiveDatagrams(section, _) => state.input = Some((request.key, Input::Datagrams(section))),
                // The network has no packets to save: datagrams are neither merged nor sent together.
                Action::SendDatagram(list, target, notice) => {
                    let result = send_datagram(world, state.number, list, target, notice);
                    events.push(event(request.key, false, result));
                }
                Action::ReceiveInto(span) => state.input = Some((request.key, Input::Into(span))),
                Action::Send(span, _) => state.output = Some((request.key, Output::Send(span))),
                Action::SendList(list, _) => state.output = Some((request.key, Output::SendList(list))),
                Action::Connect(_) => {
                    state.output = Some((request.key, Output::Connect));
                    world.connect(state.number);
                }
                Action::Cancel => events.extend(cancel(state, request.key)),
            }
            world.touch(state.number);
        }
    }

    // What can be done now.

    fn look(&mut self, world: &mut World, pool: &mut BufferPool, events: &mut Vec<Event>) {
        let mut touched = std::mem::take(&mut self.touched);
        world.take_touched(self.driver, &mut touched);
        if touched.len() > 1 && world.random.chance(world.plan.reordered_turns) {
            world.random.shuffle(&mut touched);
        }
        for index in &touched {
            let state = self.sockets[*index as usize];
            world.looked_at(state.number);
            if let Some((key, output)) = state.output {
                self.try_output(*index, key, output, world, events);
            }
            if let Some((key, input)) = state.input
                && world.is_readable(state.number)
                && !is_late(&mut self.sockets[*index as usize].input_late_ns, state.number, world)
            {
                match input {
                    Input::Accept => self.try_accept(*index, key, world, events),
                    Input::Stream(section, shots) => {
                        self.try_stream(*index, key, (section, shots), world, pool, events);
                    }
                    Input::Datagrams(section) => self.try_datagrams(*index, key, section, world, pool, events),
                    Input::Into(span) => self.try_receive_into(*index, key, span, world, events),
                }
            }
        }
        self.touched = touched;
    }

    //= SEND-1
    fn try_output(&mut self, index: u32, key: RequestKey, output: Output, world: &mut World, events: &mut Vec<Event>) {
        let state = &mut self.sockets[index as usize];
        if !world.is_writable(state.number) || is_late(&mut state.output_late_ns, state.number, world) {
            return;
        }
        let tried = match output {
            Output::Connect => map(world.connect_result(state.number), |()| EventResult::Connected),
            Output::Send(span) => map(send(world, state.number, span), EventResult::Sent),
            Output::SendList(list) => map(list.with(|spans| send_list(world, state.number, spans)), EventResult::Sent),
        };
        let result = match tried {
            Attempt::Done(result) => result,
            Attempt::Failed(error) => EventResult::Failed(error),
            Attempt::Later => return,
        };
        state.output = None;
        events.push(event(key, false, result));
    }

    fn try_accept(&mut self, index: u32, key: RequestKey, world: &mut World, events: &mut Vec<Event>) {
        let state = &mut self.sockets[index as usize];
        for _ in 0..ACCEPTS_PER_TURN {
            if !world.is_readable(state.number) {
                return;
            }
            let tried = if world.random.chance(world.plan.failed_accepts) {
                Attempt::Failed(Error::new(ErrorKind::DescriptorLimit))
            } else {
                world.accept(state.number, true)
            };
            let (more, result) = match tried {
                Attempt::Later => return,
                Attempt::Failed(error) => (false, EventResult::Failed(error)),
                Attempt::Done(number) => {
                    let more = !world.random.chance(world.plan.stream_ends);
                    (more, EventResult::Accepted(self.network.unattached(number)))
                }
            };
            events.push(event(key, more, result));
            if !more {
                state.input = None;
                return;
            }
        }
        world.touch(state.number);
    }

    /// Receives until nothing is left or the socket has had its share of this turn.
    //= STARVE-1
    fn try_stream(
        &mut self,
        index: u32,
        key: RequestKey,
        (section, shots): (Section, Shots),
        world: &mut World,
        pool: &mut BufferPool,
        events: &mut Vec<Event>,
    ) {
        let state = &mut self.sockets[index as usize];
        let mut share = self.turn_bytes_max;
        while world.is_readable(state.number) {
            if share == 0 {
                return world.touch(state.number);
            }
            let lent =
                if world.random.chance(escapable(world.plan.no_buffers)) { None } else { pool.lend_receive(section) };
            let (more, result) = match lent {
                None => {
                    self.counters.no_buffers.add(1);
                    (false, EventResult::Failed(Error::new(ErrorKind::NoBuffers)))
                }
                Some(buffer) => match receive(world, state.number, buffer) {
                    Attempt::Later => return,
                    Attempt::Failed(error) => (false, EventResult::Failed(error)),
                    Attempt::Done(buffer) => {
                        share = share.saturating_sub(buffer.len());
                        let goes_on = shots == Shots::Many && !buffer.is_empty();
                        let goes_on = goes_on && !world.random.chance(world.plan.stream_ends);
                        (goes_on, EventResult::Received(buffer))
                    }
                },
            };
            events.push(event(key, more, result));
            if !more {
                state.input = None;
                return;
            }
        }
    }

    /// Receives until nothing is left or the socket has had its share of this turn.
    //= DGRAM-1
    fn try_datagrams(
        &mut self,
        index: u32,
        key: RequestKey,
        section: Section,
        world: &mut World,
        pool: &mut BufferPool,
        events: &mut Vec<Event>,
    ) {
        let state = &mut self.sockets[index as usize];
        let mut share = self.turn_bytes_max;
        while world.is_readable(state.number) {
            if share == 0 {
                return world.touch(state.number);
            }
            let lent =
                if world.random.chance(escapable(world.plan.no_buffers)) { None } else { pool.lend_receive(section) };
            let Some(mut buffer) = lent else {
                self.counters.no_buffers.add(1);
                state.input = None;
                return events.push(event(key, false, EventResult::Failed(Error::new(ErrorKind::NoBuffers))));
            };
            let result = match world.receive_datagram(state.number) {
                Attempt::Later => return,
                Attempt::Failed(error) => EventResult::Failed(error),
                Attempt::Done((from, bytes)) => {
                    share = share.saturating_sub(bytes.len().max(1));
                    match buffer.fill_from(&bytes) == bytes.len() {
                        true => EventResult::Datagram(buffer, from),
                        false => EventResult::Truncated(from),
                    }
                }
            };
            let more = !world.random.chance(world.plan.stream_ends);
            events.push(event(key, more, result));
            if !more {
                state.input = None;
                return;
            }
        }
    }

    fn try_receive_into(
        &mut self,
        index: u32,
        key: RequestKey,
        span: SpanMut,
        world: &mut World,
        events: &mut Vec<Event>,
    ) {
        let state = &mut self.sockets[index as usize];
        let tried = span.with(|bytes| {
            let length = shorten(world.plan.short_reads, bytes.len(), 1, world);
            world.read(state.number, &mut bytes[..length])
        });
        let result = match tried {
            Attempt::Done(length) => EventResult::ReceivedInto(length),
            Attempt::Failed(error) => EventResult::Failed(error),
            Attempt::Later => return,
        };
        state.input = None;
        events.push(event(key, false, result));
    }

    // Waiting.

    /// Nothing will happen in the network by itself: sleeps until another thread does something.
    fn sleep<'a>(&self, network: &'a SimNetwork, world: MutexGuard<'a, World>) -> Result<MutexGuard<'a, World>, Error> {
        drop(world);
        if self.bell.sleep(self.patience) {
            return Ok(network.world());
        }
        Err(Error::new(ErrorKind::NothingToWaitFor))
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.network.world().remove_driver(self.driver);
    }
}

/// Takes the request of this key back, if it has not ended.
//= CANCEL-1
fn cancel(state: &mut State, key: RequestKey) -> Option<Event> {
    let was_input = state.input.take_if(|(pending, _)| *pending == key).is_some();
    let was_output = state.output.take_if(|(pending, _)| *pending == key).is_some();
    let cancelled = EventResult::Failed(Error::new(ErrorKind::Cancelled));
    (was_input || was_output).then(|| event(key, false, cancelled))
}
