//! Accepts: per listener some sockets are made ahead, and each waits in an AcceptEx of its own for its connection.
//!
//! Life of an accept stream:
//! 1. `start` notes the request; `refill_due` makes sockets and posts them, up to `accepts_ahead`.
//! 2. An accept ends: its socket takes over what the listener is set to (SO_UPDATE_ACCEPT_CONTEXT) and is an item of the
//!    stream. It belongs to no port yet, so any driver may adopt it. Its place is filled again.
//! 3. `cancel`, or an error that concerns the listener: the others are cancelled. One that has its connection already is
//!    still delivered.
//! 4. When the last has ended, the stream's final event is reported.
//!
//! On drop: sockets that the system still has are given up for good; a handle is never closed under an operation.
#![allow(unsafe_code)]

use socket2::{Domain, Protocol, Socket, Type};
use windows_sys::Win32::Networking::WinSock::{
    IPPROTO_TCP, SO_UPDATE_ACCEPT_CONTEXT, SOCKADDR_INET, SOCKET, SOL_SOCKET, TCP_NODELAY, WSA_IO_PENDING, getsockopt,
    setsockopt,
};

use super::associate::Facts;
use super::blocks::{BlockId, Blocks, Job, ROOM_BYTES, Started, Use, last_error};
use super::extension::Extensions;
use super::port::Port;
use crate::base::error::{Error, ErrorKind};
use crate::contract::input::ACCEPTS_PER_TURN;
use crate::contract::{Count, Event, EventResult, RequestKey};
use crate::platform::{self, RawHandle};
use crate::socket::{AcceptedSocket, AnySocket};

/// What AcceptEx wants for one address: 16 bytes more than the longest one has.
const ADDRESS_BYTES: u32 = size_of::<SOCKADDR_INET>() as u32 + 16;
const _: () = assert!(2 * ADDRESS_BYTES as usize <= ROOM_BYTES);

/// What an accept needs beside its own.
pub(in crate::backend) struct Surroundings<'a> {
    pub(in crate::backend) port: &'a Port,
    pub(in crate::backend) blocks: &'a mut Blocks,
    pub(in crate::backend) extensions: &'a Extensions,
    pub(in crate::backend) kernel_entries: &'a Count,
    pub(in crate::backend) events: &'a mut Vec<Event>,
}

/// The accept streams of all listeners.
pub(in crate::backend) struct Accepts {
    listeners: Vec<Listener>,
    /// Listeners, by socket, that miss accepts.
    due: Vec<u32>,
    accepts_ahead: usize,
}

struct Listener {
    key: RequestKey,
    socket: u32,
    handle: RawHandle,
    facts: Facts,
    nodelay: bool,
    /// Sockets that wait for their connection.
    places: Vec<Option<(BlockId, Socket)>>,
    under_way: usize,
    /// The stream ends with this when nothing is under way any more.
    end: Option<Error>,
}

impl Accepts {
    pub(in crate::backend) fn new(accepts_ahead: usize) -> Self {
        Accepts { listeners: Vec::new(), due: Vec::new(), accepts_ahead: accepts_ahead.max(1) }
    }

    /// A stream begins; `refill_due` comes next.
    pub(in crate::backend) fn start(&mut self, key: RequestKey, socket: u32, handle: RawHandle, facts: Facts) {
        let places = (0..self.accepts_ahead).map(|_| None).collect();
        let nodelay = has_nodelay(handle);
        self.listeners.push(Listener { key, socket, handle, facts, nodelay, places, under_way: 0, end: None });
        self.due.push(socket);
    }

    /// True if `refill_due` has something to do.
    pub(in crate::backend) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Posts as many accepts as the listeners miss, for each at most its share of a turn.
    //= STARVE-1
    pub(in crate::backend) fn refill_due(&mut self, around: &mut Surroundings<'_>) {
        for _ in 0..self.due.len() {
            let socket = self.due.swap_remove(0);
            let of_socket = |listener: &Listener| listener.socket == socket;
            let Some(at) = self.listeners.iter().position(of_socket) else { continue };
            self.refill(at, around);
        }
    }

    fn refill(&mut self, at: usize, around: &mut Surroundings<'_>) {
        for _ in 0..ACCEPTS_PER_TURN {
            let listener = &mut self.listeners[at];
            let Some(place) = listener.free_place() else { return };
            if let Err(error) = listener.post(place, around) {
                if listener.under_way == 0 {
                    listener.stop(error, around);
                    self.remove_ended(at, around);
                }
                // There is a next try when one of the others ends.
                return;
            }
        }
        self.due.push(self.listeners[at].socket);
    }

    /// An accept has ended, and its block is free: its listener is due, or its stream has ended.
    pub(in crate::backend) fn finish(&mut self, user: Use, result: Result<u32, Error>, around: &mut Surroundings<'_>) {
        let Job::Accept(place) = user.job else { return };
        let Some(at) = self.listeners.iter().position(|listener| listener.key == user.key) else { return };
        let listener = &mut self.listeners[at];
        let Some((_, accepted)) = listener.places[place as usize].take() else { return };
        listener.under_way -= 1;
        match result {
            Ok(_) => listener.deliver(accepted, around),
            Err(error) if is_about_the_connection(error) || listener.end.is_some() => {}
            Err(error) => listener.stop(error, around),
        }
        if !self.remove_ended(at, around) && !self.due.contains(&user.socket) {
            self.due.push(user.socket);
        }
    }

    /// Ends the stream of this key, at once if nothing is under way. False: there is no such stream.
    //= CANCEL-1
    pub(in crate::backend) fn cancel(&mut self, key: RequestKey, around: &mut Surroundings<'_>) -> bool {
        let Some(at) = self.listeners.iter().position(|listener| listener.key == key) else { return false };
        if self.listeners[at].end.is_none() {
            self.listeners[at].stop(Error::new(ErrorKind::Cancelled), around);
        }
        self.remove_ended(at, around);
        true
    }

    /// An accept has ended that nobody is to hear of any more: its socket may be closed.
    pub(in crate::backend) fn forget(&mut self, user: Use) {
        let Job::Accept(place) = user.job else { return };
        let of_key = |listener: &&mut Listener| listener.key == user.key;
        if let Some(listener) = self.listeners.iter_mut().find(of_key) {
            listener.places[place as usize] = None;
        }
    }

    /// True if the stream has ended and was told so.
    fn remove_ended(&mut self, at: usize, around: &mut Surroundings<'_>) -> bool {
        let Listener { key, under_way: 0, end: Some(error), .. } = self.listeners[at] else { return false };
        self.listeners.swap_remove(at);
        around.events.push(Event { key, more: false, result: EventResult::Failed(error) });
        true
    }
}

impl Listener {
    fn free_place(&self) -> Option<usize> {
        if self.end.is_some() { None } else { self.places.iter().position(Option::is_none) }
    }

    /// Makes a socket and lets it wait for a connection; one that is there already is delivered.
    fn post(&mut self, place: usize, around: &mut Surroundings<'_>) -> Result<(), Error> {
        let domain = if self.facts.is_v6 { Domain::IPV6 } else { Domain::IPV4 };
        let socket = platform::new_socket(domain, Type::STREAM, Some(Protocol::TCP))?;
        if self.nodelay {
            socket.set_tcp_nodelay(true)?;
        }
        let job = Job::Accept(place as u32);
        let id = around.blocks.take(Use { key: self.key, socket: self.socket, handle: self.handle, job });
        around.kernel_entries.add(2);
        match self.call(id, &socket, around) {
            Started::Pending => {
                self.places[place] = Some((id, socket));
                self.under_way += 1;
                Ok(())
            }
            Started::Done(_) => {
                around.blocks.release(id.index);
                self.deliver(socket, around);
                Ok(())
            }
            Started::Failed(error) => {
                around.blocks.settle(id.index, around.port);
                if is_about_the_connection(error) { Ok(()) } else { Err(error) }
            }
        }
    }

    fn call(&self, id: BlockId, socket: &Socket, around: &Surroundings<'_>) -> Started {
        let Some(accept) = around.extensions.accept else {
            return Started::Failed(Error::new(ErrorKind::BackendUnavailable));
        };
        let (listener, accepted) = (self.handle as SOCKET, platform::raw_handle(socket) as SOCKET);
        let (room, overlapped) = (around.blocks.room(id.index), around.blocks.overlapped(id.index));
        let mut received = 0;
        // SAFETY: Win32: AcceptEx — no bytes are received along; room for two addresses, each 16 bytes longer than the
        // longest; both stay in the block until the completion has come (OWN-1).
        let result = unsafe {
            accept(listener, accepted, room.cast(), 0, ADDRESS_BYTES, ADDRESS_BYTES, &raw mut received, overlapped)
        };
        match (result != 0, self.facts.skips) {
            (true, true) => Started::Done(0),
            (true, false) => Started::Pending,
            (false, _) => match last_error() {
                WSA_IO_PENDING => Started::Pending,
                code => Started::Failed(Error::from_os(code)),
            },
        }
    }

    fn deliver(&self, accepted: Socket, around: &mut Surroundings<'_>) {
        let listener = self.handle as SOCKET;
        around.kernel_entries.add(1);
        // SAFETY: Win32: AcceptEx, SO_UPDATE_ACCEPT_CONTEXT — reads the listener's handle, on this stack.
        let updated = unsafe {
            let (value, bytes) = ((&raw const listener).cast(), size_of::<SOCKET>() as i32);
            setsockopt(platform::raw_handle(&accepted) as SOCKET, SOL_SOCKET, SO_UPDATE_ACCEPT_CONTEXT, value, bytes)
        };
        // One that has gone again meanwhile cannot take it over: it was never there.
        if updated == 0 {
            let socket = AcceptedSocket::fresh(AnySocket::Os(accepted), false);
            around.events.push(Event { key: self.key, more: true, result: EventResult::Accepted(socket) });
        }
    }

    fn stop(&mut self, error: Error, around: &mut Surroundings<'_>) {
        self.end = Some(error);
        for (id, _) in self.places.iter().flatten() {
            around.kernel_entries.add(1);
            around.blocks.cancel(*id);
        }
    }
}

impl Drop for Listener {
    //= DROP-1
    fn drop(&mut self) {
        self.places.drain(..).flatten().for_each(std::mem::forget);
    }
}

/// Sockets do not inherit it from their listener before they are connected, and then it would come late.
fn has_nodelay(listener: RawHandle) -> bool {
    let (mut value, mut bytes) = (0i32, size_of::<i32>() as i32);
    // SAFETY: Win32: getsockopt — writes a BOOL on this stack. An error: it is not set.
    unsafe {
        let value = (&raw mut value).cast();
        getsockopt(listener as SOCKET, IPPROTO_TCP, TCP_NODELAY, value, &raw mut bytes);
    }
    value != 0
}

/// True if a connection has ended while it waited, and the listener goes on.
fn is_about_the_connection(error: Error) -> bool {
    use ErrorKind::{ConnectionAborted, ConnectionReset, NotConnected, TimedOut};
    matches!(error.kind(), ConnectionReset | ConnectionAborted | NotConnected | TimedOut)
}
