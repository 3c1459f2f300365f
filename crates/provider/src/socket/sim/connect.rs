//! Beginning of connections.
//!
//! 1. `connect` knocks at the other end one latency later. A listener with room in its backlog makes the accepted end and
//!    sends its welcome. A full backlog says nothing, and the knock is repeated; a full Unix one says `Busy`. Where nobody
//!    listens comes a refusal.
//! 2. The accepted end can be accepted, and written to, from then on; the connecting one is connected with its welcome,
//!    before which nothing arrives.
//! 3. Whoever has no answer when its patience ends gives up.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::names::is_nobodys;
use super::node::{Body, Phase, Stream};
use super::pipe::{Cargo, Pipe};
use super::world::{Happening, World};
use crate::base::address::Address;
use crate::base::attempt::Attempt;
use crate::base::error::{Error, ErrorKind};
use crate::base::time::{self, nanoseconds};

impl World {
    /// Two connected ends, the first with this address.
    pub(crate) fn pair(&mut self, near: Address, far: Address) -> (u32, u32) {
        let latency_ns = self.random.between_ns(self.plan.latency_min, self.plan.latency_max);
        let first = Pipe::new(&self.plan, &mut self.random, latency_ns);
        let second = Pipe::new(&self.plan, &mut self.random, latency_ns);
        let near_stream = Stream::connected(far.clone(), 0, first, 0);
        let near = self.insert(near.clone(), Body::Stream(Box::new(near_stream)), false).unwrap_or_default();
        let near_address = self.node(near).map_or(Address::Unnamed, |node| node.local.clone());
        let far_stream = Stream::connected(near_address, near, second, 0);
        let far = self.insert(far, Body::Stream(Box::new(far_stream)), false).unwrap_or_default();
        if let Some(stream) = self.stream_mut(near) {
            stream.other = far;
        }
        (near, far)
    }

    /// Starts to connect to the address that the socket was made for.
    pub(crate) fn connect(&mut self, number: u32) {
        let plan = self.plan;
        let Some(stream) = self.stream_mut(number) else { return };
        stream.phase = Phase::Connecting;
        let target = stream.peer.clone();
        let patience_ns =
            if stream.user_timeout_ns > 0 { stream.user_timeout_ns } else { nanoseconds(plan.connect_timeout) };
        self.note(number, format_args!("connect {target}"));
        if target.ip().is_some_and(|ip| is_nobodys(ip.ip())) {
            return self.refuse(number, ErrorKind::Unreachable);
        }
        if target.ip().is_some() {
            self.schedule(self.now_ns.saturating_add(patience_ns), Happening::GiveUp(number));
        }
        if self.random.chance(plan.unanswered_connects) {
            return self.note(number, format_args!("gets no answer"));
        }
        if self.random.chance(plan.refused_connects) {
            return self.launch(number, Cargo::Refusal);
        }
        let mut delay_ns = self.random.between_ns(plan.latency_min, plan.latency_max);
        if self.random.chance(plan.slow_connects) {
            delay_ns = delay_ns.saturating_add(self.random.between_ns(Duration::ZERO, plan.slow_connect_max));
        }
        self.schedule(self.now_ns.saturating_add(delay_ns), Happening::Knock(number));
        self.settle();
    }

    /// The request of a connecting socket has come to the other end.
    pub(crate) fn knock(&mut self, client: u32) {
        let Some((local, target)) =
            self.node(client).zip(self.stream(client)).map(|(node, stream)| (node.local.clone(), stream.peer.clone()))
        else {
            return;
        };
        if let Some(until_ns) = self.cut_until_ns(&local, &target) {
            return self.schedule(until_ns, Happening::Knock(client));
        }
        let Some(found) = self.names.find(&target, &mut self.random) else {
            return self.launch(client, Cargo::Refusal);
        };
        let has_room = match self.node(found).map(|node| &node.body) {
            Some(Body::Listener(listener)) => listener.waiting.len() < listener.backlog,
            _ => false,
        };
        if !has_room && target.ip().is_none() {
            return self.tell_busy(client);
        }
        if !has_room {
            let again_ns = time::after(self.now_ns, self.plan.retransmit_after.max(Duration::from_millis(1)));
            self.note(client, format_args!("finds the backlog of #{found} full"));
            return self.schedule(again_ns, Happening::Knock(client));
        }
        let latency_ns = self.random.between_ns(self.plan.latency_min, self.plan.latency_max);
        let inbound = Pipe::new(&self.plan, &mut self.random, latency_ns);
        let server = Stream::connected(local, client, inbound, 0);
        let Ok(server) = self.insert(target, Body::Stream(Box::new(server)), false) else { return };
        if let Some(stream) = self.stream_mut(client) {
            stream.other = server;
        }
        if let Some(Body::Listener(listener)) = self.node_mut(found).map(|node| &mut node.body) {
            listener.waiting.push_back(server);
        }
        self.note(client, format_args!("is taken by #{found} as #{server}"));
        self.touch(found);
        self.launch(client, Cargo::Welcome);
    }

    /// A Unix listener has no room, and whoever wants to connect is told so, see connect(2) on EAGAIN.
    fn tell_busy(&mut self, client: u32) {
        if let Some(stream) = self.stream_mut(client) {
            (stream.phase, stream.error) = (Phase::Unconnected, Some(ErrorKind::Busy));
        }
        self.touch(client);
    }

    /// Takes one connection out of a listener's backlog.
    pub(crate) fn accept(&mut self, number: u32, is_counted: bool) -> Attempt<u32> {
        let Some(Body::Listener(listener)) = self.node_mut(number).map(|node| &mut node.body) else {
            return Attempt::Failed(Error::new(ErrorKind::InvalidInput));
        };
        let Some(accepted) = listener.waiting.front().copied() else { return Attempt::Later };
        if is_counted && let Err(error) = self.take_descriptor() {
            return Attempt::Failed(error);
        }
        if let Some(Body::Listener(listener)) = self.node_mut(number).map(|node| &mut node.body) {
            listener.waiting.pop_front();
        }
        if let Some(node) = self.node_mut(accepted) {
            node.is_counted = is_counted;
        }
        self.note(number, format_args!("accepts #{accepted}"));
        Attempt::Done(accepted)
    }

    /// How a connect has ended.
    pub(crate) fn connect_result(&mut self, number: u32) -> Attempt<()> {
        let Some(stream) = self.stream_mut(number) else { return Attempt::Failed(Error::new(ErrorKind::InvalidInput)) };
        match stream.error.take() {
            Some(error) => Attempt::Failed(Error::new(error)),
            None if stream.is_connecting() => Attempt::Later,
            None => Attempt::Done(()),
        }
    }

    /// Nobody has answered in time.
    pub(crate) fn give_up(&mut self, number: u32) {
        let Some(stream) = self.stream_mut(number).filter(|stream| stream.is_waiting_for_an_answer()) else { return };
        let other = stream.other;
        self.refuse(number, ErrorKind::TimedOut);
        // The other end hears of it when it can be reached again.
        self.send_reset(other);
    }

    fn refuse(&mut self, number: u32, error: ErrorKind) {
        if let Some(stream) = self.stream_mut(number) {
            stream.break_with(error);
        }
        self.note(number, format_args!("fails: {error:?}"));
        self.touch(number);
    }
}
