//! The one state of a simulated network: its clock, what is due, its sockets, and who is to hear of them.
//!
//! 1. Whatever takes time is a happening in the agenda: `schedule` puts it in, `advance_to` moves the clock and lets
//!    happen what is due on the way, in the order of time and, at the same time, in the order it was put in.
//! 2. What is due at once happens before the call that caused it returns (`settle`).
//! 3. A change that a driver may wait for is put into its inbox (`touch`), once until the driver looks.
//!
//! A socket's number is never given out again, so a happening that comes too late finds nobody and does nothing.
//! On drop of the last handle all of it goes; nothing outside is held.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::fmt::{Arguments, Write as _};
use std::net::IpAddr;
use std::sync::Arc;

use super::bell::Bell;
use super::fault::FaultPlan;
use super::names::Names;
use super::node::{Body, Flight, Node, Stream};
use crate::base::address::Address;
use crate::base::error::{Error, ErrorKind};
use crate::base::random::Random;
use crate::base::time::LAST_NS;

/// All of a network.
pub(crate) struct World {
    pub(crate) now_ns: u64,
    pub(crate) random: Random,
    pub(crate) plan: FaultPlan,
    pub(crate) names: Names,
    nodes: BTreeMap<u32, Node>,
    last_number: u32,
    agenda: BinaryHeap<Reverse<Due>>,
    /// Happenings so far: the order of those that are due at the same time.
    scheduled: u64,
    inboxes: BTreeMap<u32, Inbox>,
    last_driver: u32,
    /// Hosts that cannot reach each other, until when.
    cuts: Vec<(IpAddr, IpAddr, u64)>,
    descriptors: u32,
    flights: BTreeMap<u32, Flight>,
    last_flight: u32,
    trace: Option<String>,
}

/// What happens later, to the socket of this number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Happening {
    /// Its request to connect reaches the other end.
    Knock(u32),
    /// What has flown longest towards it arrives.
    Arrive(u32),
    /// Its patience with a peer that does not answer is over.
    GiveUp(u32),
    /// Its driver is to look at it again.
    Look(u32),
    /// Not a socket: the datagram of this number arrives.
    Land(u32),
}

/// By time, then by the order of scheduling.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at_ns: u64,
    place: u64,
    happening: Happening,
}

/// What a driver has not looked at yet: indices of its sockets, each once.
struct Inbox {
    indices: VecDeque<u32>,
    bell: Arc<Bell>,
}

impl World {
    pub(crate) fn new(seed: u64, plan: FaultPlan) -> Self {
        World {
            now_ns: 0,
            random: Random::new(seed),
            plan,
            names: Names::default(),
            nodes: BTreeMap::new(),
            last_number: 0,
            agenda: BinaryHeap::new(),
            scheduled: 0,
            inboxes: BTreeMap::new(),
            last_driver: 0,
            cuts: Vec::new(),
            descriptors: 0,
            flights: BTreeMap::new(),
            last_flight: 0,
            trace: None,
        }
    }

    // Time.

    pub(crate) fn schedule(&mut self, at_ns: u64, happening: Happening) {
        self.scheduled += 1;
        // What would happen after the end of the clock never does; at the end itself it could happen again and again.
        if at_ns >= LAST_NS {
            return;
        }
        self.agenda.push(Reverse(Due { at_ns, place: self.scheduled, happening }));
    }

    /// When the next thing happens, if anything will.
    pub(crate) fn next_ns(&mut self) -> Option<u64> {
        loop {
            let Reverse(Due { at_ns, happening, .. }) = self.agenda.peek()?;
            if self.still_matters(*happening) {
                return Some(*at_ns);
            }
            self.agenda.pop();
        }
    }

    /// Moves the clock, and lets happen what is due on the way.
    //= TIME-1
    pub(crate) fn advance_to(&mut self, at_ns: u64) {
        let at_ns = at_ns.min(LAST_NS);
        while self.next_ns().is_some_and(|next_ns| next_ns <= at_ns) {
            let Some(Reverse(due)) = self.agenda.pop() else { break };
            self.now_ns = self.now_ns.max(due.at_ns);
            self.happen(due.happening);
        }
        self.now_ns = self.now_ns.max(at_ns);
    }

    /// Lets happen what is due now.
    pub(crate) fn settle(&mut self) {
        self.advance_to(self.now_ns);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Knock(number) => self.knock(number),
            Happening::Arrive(number) => self.arrive(number),
            Happening::GiveUp(number) => self.give_up(number),
            Happening::Look(number) => self.touch(number),
            Happening::Land(flight) => {
                if let Some(flight) = self.flights.remove(&flight) {
                    self.land(flight);
                }
            }
        }
    }

    fn still_matters(&self, happening: Happening) -> bool {
        match happening {
            Happening::Land(_) => true,
            Happening::Arrive(number) | Happening::Look(number) => self.nodes.contains_key(&number),
            Happening::Knock(number) => self.stream(number).is_some_and(Stream::is_connecting),
            Happening::GiveUp(number) => self.stream(number).is_some_and(Stream::is_waiting_for_an_answer),
        }
    }

    // Sockets.

    /// A new socket. Errors: `DescriptorLimit`, for those that are counted.
    pub(crate) fn insert(&mut self, local: Address, body: Body, is_counted: bool) -> Result<u32, Error> {
        if is_counted {
            self.take_descriptor()?;
        }
        self.last_number += 1;
        // Ports of datagrams are looked up among the sockets themselves.
        let owns_name = match &body {
            Body::Stream(stream) => !stream.is_connected(),
            Body::Datagram(_) => false,
            _ => true,
        };
        let node = Node { local, body, is_counted, owns_name, watcher: None, is_noted: false };
        self.nodes.insert(self.last_number, node);
        Ok(self.last_number)
    }

    pub(crate) fn remove(&mut self, number: u32) -> Option<Node> {
        let node = self.nodes.remove(&number)?;
        self.descriptors -= u32::from(node.is_counted);
        if node.owns_name {
            self.names.release(number, &node.local);
        }
        Some(node)
    }

    /// From now on the socket is counted.
    pub(crate) fn take_descriptor(&mut self) -> Result<(), Error> {
        if self.descriptors >= self.plan.descriptors_max {
            return Err(Error::new(ErrorKind::DescriptorLimit));
        }
        self.descriptors += 1;
        Ok(())
    }

    pub(crate) fn node(&self, number: u32) -> Option<&Node> {
        self.nodes.get(&number)
    }

    pub(crate) fn node_mut(&mut self, number: u32) -> Option<&mut Node> {
        self.nodes.get_mut(&number)
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = (u32, &Node)> {
        self.nodes.iter().map(|(number, node)| (*number, node))
    }

    pub(crate) fn add_flight(&mut self, flight: Flight) -> u32 {
        self.last_flight += 1;
        self.flights.insert(self.last_flight, flight);
        self.last_flight
    }

    pub(crate) fn stream(&self, number: u32) -> Option<&Stream> {
        match &self.nodes.get(&number)?.body {
            Body::Stream(stream) => Some(stream),
            _ => None,
        }
    }

    pub(crate) fn stream_mut(&mut self, number: u32) -> Option<&mut Stream> {
        match &mut self.nodes.get_mut(&number)?.body {
            Body::Stream(stream) => Some(stream),
            _ => None,
        }
    }

    // Drivers.

    pub(crate) fn add_driver(&mut self, bell: Arc<Bell>) -> u32 {
        self.last_driver += 1;
        self.inboxes.insert(self.last_driver, Inbox { indices: VecDeque::new(), bell });
        self.last_driver
    }

    pub(crate) fn remove_driver(&mut self, driver: u32) {
        self.inboxes.remove(&driver);
    }

    /// From now on what changes for the socket is told to that driver, or to nobody.
    pub(crate) fn watch(&mut self, number: u32, watcher: Option<(u32, u32)>) {
        if let Some(node) = self.nodes.get_mut(&number) {
            (node.watcher, node.is_noted) = (watcher, false);
        }
    }

    /// Something may have changed for the socket.
    pub(crate) fn touch(&mut self, number: u32) {
        let Some(Node { watcher: Some((driver, index)), is_noted, .. }) = self.nodes.get_mut(&number) else { return };
        let Some(inbox) = self.inboxes.get_mut(driver) else { return };
        if !std::mem::replace(is_noted, true) {
            inbox.indices.push_back(*index);
            inbox.bell.ring();
        }
    }

    /// Empties the inbox of a driver into `indices`.
    pub(crate) fn take_touched(&mut self, driver: u32, indices: &mut Vec<u32>) {
        indices.clear();
        indices.extend(self.inboxes.get_mut(&driver).into_iter().flat_map(|inbox| inbox.indices.drain(..)));
    }

    /// The driver looks at the socket now: the next change is to be told again.
    pub(crate) fn looked_at(&mut self, number: u32) {
        if let Some(node) = self.nodes.get_mut(&number) {
            node.is_noted = false;
        }
    }

    // Partitions.

    /// Cuts two hosts off from each other for some time.
    pub(crate) fn cut(&mut self, first: IpAddr, second: IpAddr, until_ns: u64) {
        let now_ns = self.now_ns;
        self.cuts.retain(|(_, _, until_ns)| *until_ns > now_ns);
        self.cuts.push((first, second, until_ns));
        self.note(0, format_args!("{first} and {second} are cut off until {until_ns}"));
    }

    /// Until when the two cannot reach each other, if so.
    pub(crate) fn cut_until_ns(&self, first: &Address, second: &Address) -> Option<u64> {
        let (first, second) = (first.ip()?.ip(), second.ip()?.ip());
        let cut = |(one, other, until_ns): &(IpAddr, IpAddr, u64)| {
            let is_cut = (*one, *other) == (first, second) || (*one, *other) == (second, first);
            (is_cut && *until_ns > self.now_ns).then_some(*until_ns)
        };
        self.cuts.iter().filter_map(cut).max()
    }

    // The trace.

    pub(crate) fn record(&mut self) {
        self.trace.get_or_insert_default();
    }

    pub(crate) fn trace(&self) -> &str {
        self.trace.as_deref().unwrap_or_default()
    }

    pub(crate) fn is_recording(&self) -> bool {
        self.trace.is_some()
    }

    /// One line of the trace, if there is one.
    pub(crate) fn note(&mut self, number: u32, what: Arguments<'_>) {
        let now_ns = self.now_ns;
        if let Some(trace) = &mut self.trace {
            // A string takes everything.
            let _ = writeln!(trace, "{now_ns:>15} #{number} {what}");
        }
    }
}
