//! The calls about a socket that queue nothing.

use std::net::IpAddr;

use super::Driver;
use crate::base::address::Address;
use crate::base::error::Error;
use crate::base::id::SocketId;
use crate::driver::datagram::resolve_datagram;
use crate::driver::send::check_send;
use crate::driver::socket::Owed;

impl Driver {
    /// Stops delivery on the socket's receive stream, also of what has not been polled yet. What the kernel has already
    /// handed out is kept in order and delivered first after [`resume`](Self::resume). It keeps its buffers of the pool: whoever
    /// pauses many sockets calls [`pause_intake`](Self::pause_intake). Errors: `Stale`.
    //= PAUSE-1
    pub fn pause(&mut self, socket: SocketId) -> Result<(), Error> {
        let index = self.core.resolve(socket)?;
        self.parts.receives.pause(&mut self.core, index);
        Ok(())
    }

    /// Stops taking bytes from the kernel for the socket's receive stream. What the kernel has already handed out is still
    /// delivered, its end included, so that no buffer of the pool waits for [`resume`](Self::resume). Errors: `Stale`.
    //= PAUSE-2
    pub fn pause_intake(&mut self, socket: SocketId) -> Result<(), Error> {
        let index = self.core.resolve(socket)?;
        self.parts.receives.pause_intake(&mut self.core, index);
        Ok(())
    }

    /// Undoes [`pause`](Self::pause) and [`pause_intake`](Self::pause_intake). Errors: `Stale`.
    pub fn resume(&mut self, socket: SocketId) -> Result<(), Error> {
        let index = self.core.resolve(socket)?;
        self.parts.receives.resume(&mut self.core, index);
        Ok(())
    }

    /// True if nothing of this socket's sends is queued or in the kernel. If not, a `Writable` completion with this token
    /// comes once all of them have ended, unless the socket closes first. At most one `Writable` is owed to a socket: the
    /// last token counts, and what this asks for also holds for a refused send's.
    ///
    /// A quiet send that the kernel takes at once has ended with the turn that hands it over.
    ///
    /// Errors: `Stale`, `InvalidInput` (no stream), `NotConnected`, `WriteClosed`.
    //= LIMIT-1
    pub fn writable(&mut self, socket: SocketId, token: u64) -> Result<bool, Error> {
        let index = check_send(&self.core, socket)?;
        if self.core.sockets[index].sending().head.is_none() {
            return Ok(true);
        }
        self.parts.backlogs.owe_writable(&mut self.core, index, Owed::Emptiness, token);
        Ok(false)
    }

    /// Receives what is sent to a multicast group, on the interface of that index (0: the system's choice).
    ///
    /// Errors: `Stale`, `InvalidInput` (not a datagram socket, no multicast address, wrong family), or what the system says.
    pub fn join_multicast(&mut self, socket: SocketId, group: IpAddr, interface: u32) -> Result<(), Error> {
        let index = resolve_datagram(&self.core, socket)?;
        self.core.sockets[index].endpoint.set_membership(group, interface, true)
    }

    /// Undoes [`join_multicast`](Self::join_multicast). Errors: the same.
    pub fn leave_multicast(&mut self, socket: SocketId, group: IpAddr, interface: u32) -> Result<(), Error> {
        let index = resolve_datagram(&self.core, socket)?;
        self.core.sockets[index].endpoint.set_membership(group, interface, false)
    }

    /// The address of this end of a socket. Errors: `Stale`, or what the system says.
    pub fn local_address(&self, socket: SocketId) -> Result<Address, Error> {
        let index = self.core.resolve(socket)?;
        self.core.sockets[index].endpoint.local_address()
    }

    /// The address of the other end of a socket. Errors: `Stale`, `NotConnected`, or what the system says.
    pub fn peer_address(&self, socket: SocketId) -> Result<Address, Error> {
        let index = self.core.resolve(socket)?;
        self.core.sockets[index].endpoint.peer_address()
    }

    /// True if input of this socket has come that no completion has brought yet: bytes, the peer's end or an error, here or
    /// in the system. Whoever sets deadlines that a peer meets by speaking asks before he calls it silent: a driver that was
    /// held up finds what had come in time only after the deadline. One system call.
    ///
    /// Errors: `Stale`.
    //= TIME-2
    pub fn has_unread(&self, socket: SocketId) -> Result<bool, Error> {
        let index = self.core.resolve(socket)?;
        let entry = &self.core.sockets[index];
        let Some(receiving) = entry.find_receiving() else { return Ok(entry.endpoint.has_input()) };
        let has_undelivered = || receiving.input.last_stream().is_some_and(|stream| self.core.has_undelivered(stream));
        let is_held = receiving.held.is_some() || has_undelivered();
        Ok(is_held || (!receiving.has_ended && entry.endpoint.has_input()))
    }

    /// Times that accept streams have paused, and connections that were closed at once because descriptors ran out, so
    /// far: those of [`Stats`](crate::Stats), for whoever looks at them in each turn.
    pub fn accept_troubles(&self) -> (u64, u64) {
        (self.core.counters.totals.accept_pauses, self.core.counters.totals.shed)
    }
}
