//! Request queues: one per socket, a quota per direction, requests that wait for their commit and requests under way.

use std::collections::VecDeque;
use std::sync::Arc;

use windows_sys::Win32::Networking::WinSock::{
    RIO_BUF, RIO_CQ, RIO_MSG_COMMIT_ONLY, RIO_MSG_DEFER, RIO_MSG_DONT_NOTIFY, RIO_RQ, SOCKET, WSA_OPERATION_ABORTED,
    WSAECONNREFUSED, WSAECONNRESET, WSAEINVAL, WSAENOBUFS, WSAENOTSOCK,
};

use super::bell::Event;
use super::fault;
use super::memory::{Regions, Slice};
use super::overlapped::{ADDRESS_BYTES, Ended, Operation};
use super::rule::{Rule, refuse, violated};
use super::state::Double;

/// A direction of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Receive = 0,
    Send = 1,
}

pub(crate) const SIDES: [Side; 2] = [Side::Receive, Side::Send];

/// The arguments of a send or a receive.
pub(crate) struct Asked {
    pub(crate) data: Option<RIO_BUF>,
    pub(crate) count: u32,
    pub(crate) remote: Option<RIO_BUF>,
    /// A local address, control data or flags in a buffer.
    pub(crate) has_others: bool,
    pub(crate) flags: u32,
    pub(crate) context: u64,
}

/// A request with the slices that it holds.
pub(crate) struct Request {
    pub(crate) data: Slice,
    pub(crate) remote: Option<Slice>,
    pub(crate) context: u64,
    pub(crate) is_silent: bool,
    /// What a send found in its slices when it was asked for.
    bytes: Vec<u8>,
    to: Option<Vec<u8>>,
}

/// A request that the system works on.
pub(crate) struct Started {
    pub(crate) request: Request,
    pub(crate) operation: Operation,
}

/// One direction of a request queue.
pub(crate) struct Direction {
    pub(crate) quota: u32,
    pub(crate) completions: RIO_CQ,
    /// Posted, and their completions not dequeued.
    pub(crate) outstanding: u32,
    pub(crate) deferred: VecDeque<Request>,
    pub(crate) started: VecDeque<Started>,
}

impl Direction {
    pub(crate) fn new(quota: u32, completions: RIO_CQ) -> Self {
        Direction { quota, completions, outstanding: 0, deferred: VecDeque::new(), started: VecDeque::new() }
    }
}

/// The request queue of a socket.
pub(crate) struct RequestQueue {
    pub(crate) socket: SOCKET,
    pub(crate) is_datagram: bool,
    pub(crate) context: u64,
    pub(crate) is_closed: bool,
    /// Dequeues that find nothing of it yet.
    pub(crate) late_dequeues: u32,
    pub(crate) sides: [Direction; 2],
}

impl RequestQueue {
    /// Starts what was deferred.
    fn commit(&mut self, side: Side, event: &Arc<Event>) {
        let (socket, is_datagram) = (self.socket, self.is_datagram);
        let direction = &mut self.sides[side as usize];
        while let Some(mut request) = direction.deferred.pop_front() {
            let bytes = std::mem::take(&mut request.bytes);
            let operation = match side {
                Side::Receive => Operation::receive(socket, request.data.length, is_datagram, event),
                Side::Send => Operation::send(socket, bytes, request.to.as_deref(), event),
            };
            direction.started.push_back(Started { request, operation });
        }
    }

    /// The requests that have ended, in their order, with what they came to.
    pub(crate) fn harvest(&mut self, side: Side) -> Vec<(Request, Ended)> {
        let started = &mut self.sides[side as usize].started;
        let mut ended = Vec::new();
        while started.front().is_some_and(|first| first.operation.is_done()) {
            let Some(Started { request, mut operation }) = started.pop_front() else { break };
            let end = operation.end();
            if self.is_datagram && side == Side::Receive && !self.is_closed && is_about_another(end.code) {
                // Windows was told not to report this; a Wine that does lets each receive that waits hear of it.
                let length = request.data.length;
                operation = Operation::receive(self.socket, length, true, operation.event());
                started.push_back(Started { request, operation });
                continue;
            }
            if operation.is_cancelled_by_others(&end) {
                let detail = format!(
                    "a request of socket {} ended as cancelled (by CancelIoEx, or its thread ended)",
                    self.socket
                );
                violated(Rule::CancelledRequest, detail);
            }
            ended.push((request, end));
        }
        ended
    }

    /// The socket is about to be closed: ends what is under way and what never started. False if the system holds on.
    pub(crate) fn close(&mut self) -> (bool, Vec<(Side, Request, Ended)>) {
        self.is_closed = true;
        self.late_dequeues = fault::late_dequeues();
        let mut is_let_go = true;
        let mut ended = Vec::new();
        for side in SIDES {
            let direction = &mut self.sides[side as usize];
            direction.started.iter_mut().for_each(|started| started.operation.cancel());
            is_let_go &= direction.started.iter().all(|started| started.operation.wait());
            ended.extend(self.harvest(side).into_iter().map(|(request, end)| (side, request, end)));
            ended.extend(self.sides[side as usize].deferred.drain(..).map(|mut request| {
                let bytes = std::mem::take(&mut request.bytes);
                (side, request, Ended { code: WSA_OPERATION_ABORTED, count: 0, bytes, from: [0; ADDRESS_BYTES] })
            }));
        }
        (is_let_go, ended)
    }
}

impl Double {
    /// RIOSend, RIOReceive and their longer forms.
    pub(crate) fn post(&mut self, id: RIO_RQ, side: Side, asked: &Asked) -> Result<(), i32> {
        if asked.flags & RIO_MSG_COMMIT_ONLY != 0 {
            return self.commit(id, side, asked);
        }
        let Some(queue) = self.request_queues.get(&id) else {
            return refuse(Rule::UnknownHandle, WSAEINVAL, format!("there is no request queue {id}"));
        };
        let completions = queue.sides[side as usize].completions;
        self.check_owner(completions)?;
        let queue = &self.request_queues[&id];
        if queue.is_closed {
            return refuse(Rule::SocketClosed, WSAENOTSOCK, format!("{side:?} on queue {id}, whose socket is closed"));
        }
        let direction = &queue.sides[side as usize];
        if direction.outstanding >= direction.quota {
            let detail = format!("{side:?} number {} on queue {id}", direction.outstanding + 1);
            return refuse(Rule::QuotaExceeded, WSAENOBUFS, detail);
        }
        if fault::refuses_request() {
            return Err(WSAENOBUFS);
        }
        let request = take_request(&mut self.regions, asked, side, queue.is_datagram)?;
        self.completion(completions).outstanding += 1;
        if let Some(queue) = self.request_queues.get_mut(&id) {
            let direction = &mut queue.sides[side as usize];
            direction.outstanding += 1;
            direction.deferred.push_back(request);
        }
        if asked.flags & RIO_MSG_DEFER == 0 {
            self.start(id, side);
        }
        Ok(())
    }

    /// A commit comes from any thread.
    fn commit(&mut self, id: RIO_RQ, side: Side, asked: &Asked) -> Result<(), i32> {
        let is_alone = asked.flags == RIO_MSG_COMMIT_ONLY;
        if !is_alone || asked.data.is_some() || asked.count != 0 || asked.context != 0 {
            let detail = format!("flags {}, {} buffers, context {}", asked.flags, asked.count, asked.context);
            return refuse(Rule::CommitForm, WSAEINVAL, detail);
        }
        match self.request_queues.get(&id) {
            None => refuse(Rule::UnknownHandle, WSAEINVAL, format!("there is no request queue {id}")),
            Some(queue) if queue.is_closed => {
                refuse(Rule::SocketClosed, WSAENOTSOCK, format!("commit on queue {id}, whose socket is closed"))
            }
            Some(_) => {
                self.start(id, side);
                Ok(())
            }
        }
    }

    fn start(&mut self, id: RIO_RQ, side: Side) {
        let Some(queue) = self.request_queues.get_mut(&id) else { return };
        let completions = queue.sides[side as usize].completions;
        if let Some(event) = self.completion_queues.get(&completions).map(|queue| queue.event.clone()) {
            queue.commit(side, &event);
            // An operation resets the event when it starts, perhaps after another has set it: look again.
            self.look(completions);
        }
    }
}

/// What ICMP said about a datagram that went elsewhere, see SIO_UDP_CONNRESET.
fn is_about_another(code: i32) -> bool {
    matches!(code, WSAECONNREFUSED | WSAECONNRESET)
}

/// Checks the arguments and takes the slices.
fn take_request(regions: &mut Regions, asked: &Asked, side: Side, is_datagram: bool) -> Result<Request, i32> {
    let (Some(data), 1) = (asked.data, asked.count) else {
        return refuse(Rule::SliceCount, WSAEINVAL, format!("{} data buffers", asked.count));
    };
    if asked.has_others || asked.flags & !(RIO_MSG_DEFER | RIO_MSG_DONT_NOTIFY) != 0 {
        return refuse(Rule::Unsupported, WSAEINVAL, format!("flags {} or a buffer of another kind", asked.flags));
    }
    if let Some(remote) = asked.remote
        && (!is_datagram || (remote.Length as usize) < ADDRESS_BYTES)
    {
        let detail =
            format!("{} bytes on a socket of {}", remote.Length, if is_datagram { "datagrams" } else { "streams" });
        return refuse(Rule::AddressSlice, WSAEINVAL, detail);
    }
    let is_written = side == Side::Receive;
    let data = regions.hold(data, is_written, is_datagram)?;
    let remote = match asked.remote.map(|remote| regions.hold(remote, is_written, false)).transpose() {
        Ok(remote) => remote,
        Err(code) => {
            regions.release(data);
            return Err(code);
        }
    };
    let read = |slice: Slice| if is_written { Vec::new() } else { regions.read(slice) };
    let (bytes, to) = (read(data), remote.map(read).filter(|to| !to.is_empty()));
    let is_silent = asked.flags & RIO_MSG_DONT_NOTIFY != 0;
    Ok(Request { data, remote, context: asked.context, is_silent, bytes, to })
}
