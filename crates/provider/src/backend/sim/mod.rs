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

pub(crate) mod forms;
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
use crate::contract::input::{BATCH_MAX, Input, InputQueue, Label, Received, Source};
use crate::contract::{
    Action, Clock, Event, EventResult, FeatureState, Opened, Origin, Profile, Provider, ProviderCounters, Request,
    RequestKey,
};
use crate::memory::buffer::BufferPool;
use crate::memory::{Span, SpanList, SpanMut};
use crate::socket::sim::bell::Bell;
use crate::socket::sim::fault::escapable;
use crate::socket::sim::network::SimNetwork;
use crate::socket::sim::world::World;
use crate::socket::{AcceptedSocket, AnyNetwork, AnySocket};

use transfer::{is_late, receive, send, send_datagram, send_list};

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
    inputs: InputQueue,
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
        inputs: InputQueue::new(config.turn_bytes_max, &profile.counters),
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
        self.inputs.forget(index);
        self.network.world().watch(number, Some((self.driver, index)));
        Ok(())
    }

    fn detach(&mut self, index: u32) {
        let state = std::mem::take(&mut self.sockets[index as usize]);
        debug_assert!(state.output.is_none());
        self.inputs.forget(index);
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
            // A wake ends the wait, and so does a request that is still to be taken, or input that is still to be read.
            let is_busy = !self.backlog.is_empty() || !self.inputs.is_idle();
            if self.bell.take_wake() || is_over || !events.is_empty() || is_busy {
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

impl Sim {
    // Requests.

    fn take_requests(&mut self, world: &mut World, events: &mut Vec<Event>) {
        let mut taken = self.backlog.len();
        if taken > 0 && world.random.chance(escapable(world.plan.full_queues)) {
            taken = world.random.below(taken);
        }
        for request in self.backlog.drain(..taken) {
            let Request { key, socket, action, .. } = request;
            let state = &mut self.sockets[socket as usize];
            if let Some(input) = Input::of(action) {
                self.inputs.start(socket, key, input);
            }
            match action {
                // The network has no packets to save: datagrams are neither merged nor sent together.
                Action::SendDatagram(list, target, mode) => {
                    events.push(Event::last(key, send_datagram(world, state.number, list, target, mode)));
                }
                Action::Send(span, _) => state.output = Some((key, Output::Send(span))),
                Action::SendList(list, _) => state.output = Some((key, Output::SendList(list))),
                Action::Connect(_) => {
                    state.output = Some((key, Output::Connect));
                    world.connect(state.number);
                }
                Action::Cancel => events.extend(self.inputs.cancel(socket, key).or_else(|| cancel(state, key))),
                Action::Accept | Action::Receive(..) | Action::ReceiveInto(_) | Action::ReceiveDatagrams(..) => {}
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
            if self.inputs.request(*index).is_some()
                && world.is_readable(state.number)
                && !is_late(&mut self.sockets[*index as usize].input_late_ns, state.number, world)
            {
                self.inputs.readable(*index);
            }
        }
        self.touched = touched;
        let mut source = LockedSockets { world, network: &self.network, sockets: &self.sockets };
        self.inputs.run(&mut source, pool, events);
    }

    //= SEND-1
    fn try_output(&mut self, index: u32, key: RequestKey, output: Output, world: &mut World, events: &mut Vec<Event>) {
        let state = &mut self.sockets[index as usize];
        if !world.is_writable(state.number) || is_late(&mut state.output_late_ns, state.number, world) {
            return;
        }
        let tried = match output {
            Output::Connect => world.connect_result(state.number).map(|()| EventResult::Connected),
            Output::Send(span) => send(world, state.number, span).map(EventResult::Sent),
            Output::SendList(list) => list.with(|spans| send_list(world, state.number, spans)).map(EventResult::Sent),
        };
        let result = match tried {
            Attempt::Done(result) => result,
            Attempt::Failed(error) => EventResult::Failed(error),
            Attempt::Later => return,
        };
        state.output = None;
        events.push(Event::last(key, result));
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

/// Sockets of the driver in the network, while a turn has it locked.
struct LockedSockets<'a> {
    world: &'a mut World,
    network: &'a SimNetwork,
    sockets: &'a [State],
}

impl Source for LockedSockets<'_> {
    const DATAGRAMS_PER_CALL: usize = 1;

    fn accept(&mut self, socket: u32, _: bool) -> Attempt<AcceptedSocket> {
        let number = self.sockets[socket as usize].number;
        if !self.world.is_readable(number) {
            return Attempt::Later;
        }
        if self.world.random.chance(self.world.plan.failed_accepts) {
            return Attempt::Failed(Error::new(ErrorKind::DescriptorLimit));
        }
        let accepted = self.world.accept(number, true);
        accepted.map(|number| self.network.unattached(number))
    }

    fn receive(&mut self, socket: u32, span: SpanMut) -> Attempt<Received> {
        let number = self.sockets[socket as usize].number;
        let read = span.with(|bytes| receive(self.world, number, bytes));
        read.map(|bytes| Received { bytes, is_drained: !self.world.is_readable(number) })
    }

    fn receive_datagrams(&mut self, socket: u32, spans: &[SpanMut], labels: &mut [Label; BATCH_MAX]) -> Attempt<usize> {
        let datagram = self.world.receive_datagram(self.sockets[socket as usize].number);
        datagram.map(|(from, bytes)| {
            let length = spans[0].with(|room| {
                let length = bytes.len().min(room.len());
                room[..length].copy_from_slice(&bytes[..length]);
                length
            });
            labels[0] = Label { length, from, is_truncated: length < bytes.len(), segment_bytes: 0 };
            1
        })
    }

    fn may_lend(&mut self) -> bool {
        !self.world.random.chance(escapable(self.world.plan.no_buffers))
    }

    fn goes_on(&mut self) -> bool {
        !self.world.random.chance(self.world.plan.stream_ends)
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.network.world().remove_driver(self.driver);
    }
}

/// Takes the output of this key back, if it has not ended.
//= CANCEL-1
fn cancel(state: &mut State, key: RequestKey) -> Option<Event> {
    let output = state.output.take_if(|(pending, _)| *pending == key);
    output.map(|_| Event::last(key, EventResult::Failed(Error::new(ErrorKind::Cancelled))))
}
